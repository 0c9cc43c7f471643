//! The command line. Each flag is also an environment variable, `CHATCAPTAIN_<FLAG>`.

use std::{net::SocketAddr, num::NonZeroU32, time::Duration};

use clap::{
    Args, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};
use url::Url;

use crate::{
    chatcaptain::Limits,
    crd::{DeletionPolicy, parse_duration},
    network::is_loopback,
    plan::PlanConfig,
    telemetry::LogFormat,
};

/// Kubernetes operator for chatbot versions and deployments.
#[derive(Parser, Debug)]
#[command(version, about, arg_required_else_help = false)]
pub struct Cli {
    /// What the process does.
    #[command(subcommand)]
    pub command: Command,
}

/// What the process does, by subcommand.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the operator.
    Run(Box<RunArgs>),
    /// Print both CRDs as YAML.
    Crds,
}

/// The flags of `run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// URL of the chatbot service; http:// is accepted for loopback addresses only.
    #[arg(long, env = "CHATCAPTAIN_API_URL", default_value = "https://api.chatcaptain.com", value_parser = parse_api_url)]
    pub api_url: Url,
    /// Name of this installation, marked on each version that it creates; keep it when you rebuild the cluster.
    #[arg(long, env = "CHATCAPTAIN_OWNER_ID", default_value = "default", value_parser = parse_owner_id)]
    pub owner_id: String,
    /// Namespace to watch; repeat the flag or separate names with commas. Unset: all namespaces.
    #[arg(long, env = "CHATCAPTAIN_NAMESPACE", value_delimiter = ',', value_parser = parse_dns_label)]
    pub namespace: Vec<String>,
    /// Label selector, for sharding: only objects that match are reconciled, for example shard=a. Unset: all objects.
    #[arg(long, env = "CHATCAPTAIN_SELECTOR")]
    pub selector: Option<String>,
    /// Time between two checks of an object against the service, for example 5m; spec.interval overrides it.
    #[arg(long, env = "CHATCAPTAIN_INTERVAL", default_value = "5m", value_parser = parse_positive_duration)]
    pub interval: Duration,
    /// Shortest interval, for example 10s; a shorter spec.interval is raised to it.
    #[arg(long, env = "CHATCAPTAIN_MIN_INTERVAL", default_value = "10s", value_parser = parse_positive_duration)]
    pub min_interval: Duration,
    /// How long a change may take to show in the service, for example 30s; a create request whose result is unknown is retried only after that.
    #[arg(long, env = "CHATCAPTAIN_VISIBILITY_GRACE", default_value = "30s", value_parser = parse_positive_duration)]
    pub visibility_grace: Duration,
    /// Whether deleting a ChatbotVersion also deletes its version in the service, where neither the object nor its namespace says so: Delete or Retain.
    #[arg(long, env = "CHATCAPTAIN_DELETION_POLICY", default_value = "Delete")]
    pub deletion_policy: DeletionPolicy,
    /// How long a deletion waits for valid credentials, for example 15m; then the finalizer is removed and the version stays in the service.
    #[arg(long, env = "CHATCAPTAIN_DELETION_TIMEOUT", default_value = "15m", value_parser = parse_positive_duration)]
    pub deletion_timeout: Duration,
    /// How many objects of each kind are written at the same time, from 1 to 256; four times as many may wait for the service.
    #[arg(long, env = "CHATCAPTAIN_CONCURRENCY", default_value = "16", value_parser = parse_concurrency, allow_negative_numbers = true)]
    pub concurrency: u16,
    /// Requests per second to the service, for each API key; fewer after the service has throttled it.
    #[arg(long, env = "CHATCAPTAIN_API_RATE", default_value = "10", value_parser = parse_positive_number, allow_negative_numbers = true)]
    pub api_rate: NonZeroU32,
    /// Requests that may be sent at once after a pause, for each API key.
    #[arg(long, env = "CHATCAPTAIN_API_BURST", default_value = "20", value_parser = parse_positive_number, allow_negative_numbers = true)]
    pub api_burst: NonZeroU32,
    /// How long one request to the service may take, for example 30s; after that its result counts as unknown.
    #[arg(long, env = "CHATCAPTAIN_API_TIMEOUT", default_value = "30s", value_parser = parse_positive_duration)]
    pub api_timeout: Duration,
    /// Elect one leader among the replicas; set it to false only for a single replica.
    #[arg(long, env = "CHATCAPTAIN_LEADER_ELECT", default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub leader_elect: bool,
    /// Namespace of the Lease. Unset: the namespace of the pod or of the kubeconfig context, else default.
    #[arg(long, env = "CHATCAPTAIN_LEASE_NAMESPACE", value_parser = parse_dns_label)]
    pub lease_namespace: Option<String>,
    /// Name of the Lease.
    #[arg(long, env = "CHATCAPTAIN_LEASE_NAME", default_value = "chatcaptain-operator", value_parser = parse_dns_label)]
    pub lease_name: String,
    /// How long after the last renewal another replica may take over, in whole seconds; the leader stops after two thirds of it.
    #[arg(long, env = "CHATCAPTAIN_LEASE_DURATION", default_value = "15s", value_parser = parse_lease_duration)]
    pub lease_duration: Duration,
    /// Watch the metadata of Secrets, so that a new API key is used at once. With false the operator needs no list or watch permission on Secrets: it reads a key again after --interval, and when the service refuses it.
    #[arg(long, env = "CHATCAPTAIN_WATCH_SECRETS", default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub watch_secrets: bool,
    /// IP address and port of /livez, /readyz and /metrics.
    #[arg(long, env = "CHATCAPTAIN_LISTEN", default_value = "[::]:8080", value_parser = parse_socket_address)]
    pub listen: SocketAddr,
    /// URL that gets an HTTP POST with a `CloudEvent` for each rollout, failure, rollback, drift and orphan. Unset: none are sent.
    #[arg(long, env = "CHATCAPTAIN_EVENTS_ADDRESS", value_parser = parse_events_address, hide_env_values = true)]
    pub events_address: Option<Url>,
    /// Format of the log on standard error: text or json.
    #[arg(long, env = "CHATCAPTAIN_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

impl RunArgs {
    /// The flags that plans depend on.
    #[must_use]
    pub fn plan_config(&self) -> PlanConfig {
        PlanConfig {
            owner_id: self.owner_id.clone(),
            interval: self.interval,
            min_interval: self.min_interval,
            visibility_grace: self.visibility_grace,
            deletion_policy: self.deletion_policy,
            deletion_timeout: self.deletion_timeout,
        }
    }

    /// The rate limit of each API key.
    #[must_use]
    pub fn api_limits(&self) -> Limits {
        Limits { rate: self.api_rate, burst: self.api_burst }
    }
}

/// A usage error as one line: the flag, its environment variable, the value, and what is accepted.
#[must_use]
pub fn format_usage_error(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let message =
        lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let line = message.collect::<Vec<_>>().join(" ");
    match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::ValueValidation | ErrorKind::InvalidValue, Some(ContextValue::String(argument))) => {
            let flag = argument.split(' ').next().unwrap_or_default();
            let variable = flag.trim_start_matches('-').replace('-', "_").to_uppercase();
            // clap does not say which of the two was set
            line.replace(&format!("'{argument}'"), &format!("{flag} or CHATCAPTAIN_{variable}"))
        }
        _ => format!("{line}; run with --help to see what is accepted"),
    }
}

fn parse_api_url(text: &str) -> Result<Url, String> {
    let accepted = "must be https://<host>, for example https://api.chatcaptain.com, or http:// with a loopback address, \
                    for example http://127.0.0.1:8080";
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(url::ParseError::RelativeUrlWithoutBase) => return Err(accepted.to_owned()),
        Err(error) => return Err(format!("{error}; {accepted}")),
    };
    match url.scheme() {
        "https" if url.has_host() => Ok(url),
        // an API key must not cross a network unencrypted
        "http" if is_loopback(&url) => Ok(url),
        _ => Err(accepted.to_owned()),
    }
}

/// Also http, which receivers in a cluster have: no event contains a key.
fn parse_events_address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| {
        "must be http:// or https:// with a host, for example http://receiver.monitoring:8080/events"
            .to_owned()
    })
}

/// It becomes part of a marker, in which blanks and slashes are separators.
fn parse_owner_id(text: &str) -> Result<String, String> {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if (1..=63).contains(&text.len()) && text.bytes().all(is_allowed) {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 63 letters, digits, '-', '_' or '.', for example team-a".to_owned())
    }
}

/// An RFC 1123 label, which names of namespaces are.
fn parse_dns_label(text: &str) -> Result<String, String> {
    let is_allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let is_label = (1..=63).contains(&text.len())
        && text.bytes().all(is_allowed)
        && !text.starts_with('-')
        && !text.ends_with('-');
    if is_label {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 63 lowercase letters, digits or '-', and start and end with a letter or digit, for example \
             chatbots"
            .to_owned())
    }
}

fn parse_positive_duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("must be greater than zero, for example 30s".to_owned()),
        duration => Ok(duration),
    }
}

/// Whole seconds, because the Lease has no others.
fn parse_lease_duration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    if duration.subsec_nanos() == 0 && (1..=3600).contains(&duration.as_secs()) {
        Ok(duration)
    } else {
        Err("must be whole seconds from 1s to 1h, for example 15s".to_owned())
    }
}

fn parse_positive_number(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| format!("must be a whole number from 1 to {}, for example 10", u32::MAX))
}

fn parse_concurrency(text: &str) -> Result<u16, String> {
    let number = text.parse().ok().filter(|number| (1..=256).contains(number));
    number.ok_or_else(|| "must be a whole number from 1 to 256, for example 16".to_owned())
}

fn parse_socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "must be an IP address with a port, for example 0.0.0.0:8080 or [::1]:8080".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
    use clap::CommandFactory;

    use super::*;

    fn parse(args: &[&str]) -> Result<RunArgs, String> {
        let cli = Cli::try_parse_from([&["chatcaptain-operator", "run"], args].concat());
        match cli.map_err(|error| format_usage_error(&error))?.command {
            Command::Run(args) => Ok(*args),
            Command::Crds => panic!("not run"),
        }
    }

    /// Every accepted example is parsed, every refused one is answered with `accepted`.
    fn check<T>(parser: fn(&str) -> Result<T, String>, valid: &[&str], invalid: &[&str], accepted: &str) {
        for text in valid {
            assert!(parser(text).is_ok(), "{text:?} is refused");
        }
        for text in invalid {
            let error = parser(text).err();
            assert!(error.as_ref().is_some_and(|error| error.contains(accepted)), "{text:?}: {error:?}");
        }
    }

    #[test]
    fn api_url_is_https_or_loopback() {
        check(
            parse_api_url,
            &[
                "https://a.example",
                "https://a.example/base",
                "http://localhost:1",
                "http://127.1.2.3",
                "http://[::1]:1",
            ],
            &[
                "http://a.example",
                "http://localhost.example",
                "http://10.0.0.1",
                "ftp://a",
                "a.example",
                "data:x",
                "https://a:b",
                "",
            ],
            "must be https://<host>, for example https://api.chatcaptain.com, or http://",
        );
        assert!(parse_api_url("https://a:b").unwrap_err().starts_with("invalid port number; must be"));
    }

    #[test]
    fn events_address_is_a_url_with_a_host() {
        check(
            parse_events_address,
            &[
                "http://receiver.monitoring:8080/events",
                "https://user:word@a.example/?token=x",
                "http://10.0.0.1",
            ],
            &["receiver:8080", "ftp://a", "a.example", "data:x", "https://", ""],
            "must be http:// or https:// with a host, for example http://receiver.monitoring:8080/events",
        );
    }

    #[test]
    fn owner_id_has_no_separators() {
        let (longest, longer) = ("a".repeat(63), "a".repeat(64));
        check(
            parse_owner_id,
            &["team-a", "A_1.b", &longest],
            &["", "a/b", "a b", "ä", &longer],
            "must be 1 to 63 letters, digits, '-', '_' or '.', for example team-a",
        );
    }

    #[test]
    fn names_are_dns_labels() {
        let (longest, longer) = ("a".repeat(63), "a".repeat(64));
        check(
            parse_dns_label,
            &["chatbots", "a-1", "1", &longest],
            &["", "A", "a_b", "a.b", "-a", "a-", &longer],
            "must be 1 to 63 lowercase letters, digits or '-', and start and end with a letter or digit, for example chatbots",
        );
    }

    #[test]
    fn durations_are_greater_than_zero_and_have_a_unit() {
        check(
            parse_positive_duration,
            &["1ms", "30s", "1h30m"],
            &["0s"],
            "must be greater than zero, for example 30s",
        );
        check(parse_positive_duration, &[], &["5", "-1s", "soon", ""], "30s, 5m or 1h30m");
        assert_eq!(parse_positive_duration("1h30m"), Ok(Duration::from_mins(90)));
    }

    #[test]
    fn lease_duration_is_whole_seconds_up_to_an_hour() {
        check(
            parse_lease_duration,
            &["1s", "15s", "1h"],
            &["0s", "1500ms", "1h1s", "999ms"],
            "must be whole seconds from 1s to 1h, for example 15s",
        );
    }

    #[test]
    fn numbers_have_bounds() {
        check(
            parse_positive_number,
            &["1", "4294967295"],
            &["0", "-1", "1.5", "x", "", "4294967296"],
            "must be a whole number from 1 to 4294967295, for example 10",
        );
        check(
            parse_concurrency,
            &["1", "256"],
            &["0", "-1", "257", "65536", "x"],
            "must be a whole number from 1 to 256, for example 16",
        );
    }

    #[test]
    fn listen_address_has_a_port() {
        check(
            parse_socket_address,
            &["0.0.0.0:8080", "[::1]:0"],
            &["8080", ":8080", "0.0.0.0", "localhost:8080", "::1"],
            "must be an IP address with a port, for example 0.0.0.0:8080 or [::1]:8080",
        );
    }

    #[test]
    fn usage_error_is_one_line_with_flag_variable_value_and_what_is_accepted() {
        let refused = |arg| parse(&[arg]).unwrap_err();
        assert_eq!(
            refused("--min-interval=0s"),
            "error: invalid value '0s' for --min-interval or CHATCAPTAIN_MIN_INTERVAL: must be greater than zero, for example 30s"
        );
        assert_eq!(
            refused("--leader-elect=maybe"),
            "error: invalid value 'maybe' for --leader-elect or CHATCAPTAIN_LEADER_ELECT [possible values: true, false]"
        );
        assert_eq!(
            refused("--intervall=5m"),
            "error: unexpected argument '--intervall' found; run with --help to see what is accepted"
        );
    }

    /// `format_usage_error` derives the variable from the flag.
    #[test]
    fn each_flag_has_the_variable_that_usage_errors_name() {
        let command = Cli::command();
        let flags =
            command.find_subcommand("run").unwrap().get_arguments().filter(|flag| flag.get_id() != "help");
        let mut count = 0;
        for flag in flags {
            let variable = flag.get_long().unwrap().replace('-', "_").to_uppercase();
            assert_eq!(flag.get_env().unwrap().to_str(), Some(format!("CHATCAPTAIN_{variable}").as_str()));
            count += 1;
        }
        assert!(count > 15, "{count}");
    }

    #[test]
    fn flags_reach_the_setting_of_their_name() {
        let args = parse(&[
            "--owner-id=team-a",
            "--interval=1s",
            "--min-interval=2s",
            "--visibility-grace=3s",
            "--deletion-timeout=4s",
            "--deletion-policy=Retain",
            "--api-rate=5",
            "--api-burst=6",
        ])
        .unwrap();
        let (plan, limits) = (args.plan_config(), args.api_limits());
        let durations = [plan.interval, plan.min_interval, plan.visibility_grace, plan.deletion_timeout];
        assert_eq!(durations.map(|duration| duration.as_secs()), [1, 2, 3, 4]);
        assert_eq!((plan.owner_id.as_str(), plan.deletion_policy), ("team-a", DeletionPolicy::Retain));
        assert_eq!((limits.rate.get(), limits.burst.get()), (5, 6));
    }

    #[test]
    fn namespaces_are_repeated_or_separated_by_commas() {
        assert_eq!(parse(&["--namespace=a,b", "--namespace=c"]).unwrap().namespace, ["a", "b", "c"]);
        assert!(parse(&["--namespace=a,"]).is_err());
    }

    #[test]
    fn leader_election_is_on_unless_it_is_switched_off() {
        for (args, elects) in
            [(&[][..], true), (&["--leader-elect"], true), (&["--leader-elect=false"], false)]
        {
            assert_eq!(parse(args).unwrap().leader_elect, elects, "{args:?}");
        }
    }
}
