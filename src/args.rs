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
    plan::PlanConfig,
    telemetry::LogFormat,
};

/// Kubernetes operator for chatbot versions and deployments.
#[derive(Parser, Debug)]
#[command(version, about, arg_required_else_help = false)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the controller.
    Run(Box<Run>),
    /// Print both CRDs as YAML.
    Crds,
}

/// The flags of `run`.
#[derive(Args, Debug)]
pub struct Run {
    /// Address of the chatbot service; http only for loopback.
    #[arg(long, env = "CHATCAPTAIN_API_URL", default_value = "https://api.chatcaptain.com", value_parser = api_url)]
    pub api_url: Url,
    /// Names this installation in the versions it creates; keep it when the cluster is rebuilt.
    #[arg(long, env = "CHATCAPTAIN_OWNER_ID", default_value = "default", value_parser = owner_id)]
    pub owner_id: String,
    /// Namespace to watch; repeatable. Unset: all.
    #[arg(long, env = "CHATCAPTAIN_NAMESPACE", value_delimiter = ',', value_parser = dns_label)]
    pub namespace: Vec<String>,
    /// Labels an object must have, for sharding.
    #[arg(long, env = "CHATCAPTAIN_SELECTOR")]
    pub selector: Option<String>,
    /// How often the service is looked at.
    #[arg(long, env = "CHATCAPTAIN_INTERVAL", default_value = "5m", value_parser = positive)]
    pub interval: Duration,
    /// Shortest interval an object may ask for.
    #[arg(long, env = "CHATCAPTAIN_MIN_INTERVAL", default_value = "10s", value_parser = positive)]
    pub min_interval: Duration,
    /// How long the service may take to list what it has created.
    #[arg(long, env = "CHATCAPTAIN_VISIBILITY_GRACE", default_value = "30s", value_parser = positive)]
    pub visibility_grace: Duration,
    /// What deletion means where neither object nor namespace says so: Delete or Retain.
    #[arg(long, env = "CHATCAPTAIN_DELETION_POLICY", default_value = "Delete")]
    pub deletion_policy: DeletionPolicy,
    /// How long a deletion waits for credentials.
    #[arg(long, env = "CHATCAPTAIN_DELETION_TIMEOUT", default_value = "15m", value_parser = positive)]
    pub deletion_timeout: Duration,
    /// Objects worked on at a time.
    #[arg(long, env = "CHATCAPTAIN_CONCURRENCY", default_value = "16", value_parser = up_to_256, allow_negative_numbers = true)]
    pub concurrency: u16,
    /// Calls per second, per key.
    #[arg(long, env = "CHATCAPTAIN_API_RATE", default_value = "10", value_parser = at_least_one, allow_negative_numbers = true)]
    pub api_rate: NonZeroU32,
    /// Calls at once after a pause, per key.
    #[arg(long, env = "CHATCAPTAIN_API_BURST", default_value = "20", value_parser = at_least_one, allow_negative_numbers = true)]
    pub api_burst: NonZeroU32,
    /// Longest time for one call.
    #[arg(long, env = "CHATCAPTAIN_API_TIMEOUT", default_value = "30s", value_parser = positive)]
    pub api_timeout: Duration,
    /// Elect one leader among replicas; off only for a single replica.
    #[arg(long, env = "CHATCAPTAIN_LEADER_ELECT", default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub leader_elect: bool,
    /// Namespace of the Lease. Unset: that of the pod, or of the kubeconfig's context, or default.
    #[arg(long, env = "CHATCAPTAIN_LEASE_NAMESPACE", value_parser = dns_label)]
    pub lease_namespace: Option<String>,
    /// Name of the Lease.
    #[arg(long, env = "CHATCAPTAIN_LEASE_NAME", default_value = "chatcaptain-operator", value_parser = dns_label)]
    pub lease_name: String,
    /// How long after the last renewal another replica may take over.
    #[arg(long, env = "CHATCAPTAIN_LEASE_DURATION", default_value = "15s", value_parser = whole_seconds)]
    pub lease_duration: Duration,
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "CHATCAPTAIN_LISTEN", default_value = "0.0.0.0:8080", value_parser = address)]
    pub listen: SocketAddr,
    /// Log lines: text or json.
    #[arg(long, env = "CHATCAPTAIN_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

impl Run {
    /// What decisions depend on.
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

    /// How fast each key may call.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits { rate: self.api_rate, burst: self.api_burst }
    }
}

/// What is wrong with the command line, as one line with flag, variable, value and what is accepted.
#[must_use]
pub fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let telling =
        lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let line = telling.collect::<Vec<_>>().join(" ");
    match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::ValueValidation | ErrorKind::InvalidValue, Some(ContextValue::String(argument))) => {
            let flag = argument.split(' ').next().unwrap_or_default();
            let variable = flag.trim_start_matches('-').replace('-', "_").to_uppercase();
            // where the value came from is not told, so both are named
            line.replace(&format!("'{argument}'"), &format!("{flag} or CHATCAPTAIN_{variable}"))
        }
        _ => line,
    }
}

fn api_url(text: &str) -> Result<Url, String> {
    let accepted = "expected https://<host>, such as https://api.chatcaptain.com, or http:// with a loopback address, such as \
                    http://127.0.0.1:8080";
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(url::ParseError::RelativeUrlWithoutBase) => return Err(accepted.to_owned()),
        Err(error) => return Err(format!("{error}; {accepted}")),
    };
    let loopback = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => return Err(accepted.to_owned()),
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if loopback => Ok(url),
        _ => Err(accepted.to_owned()),
    }
}

fn owner_id(text: &str) -> Result<String, String> {
    let fits = (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if fits {
        Ok(text.to_owned())
    } else {
        Err("expected 1 to 63 letters, digits, '-', '_' or '.', such as team-a".to_owned())
    }
}

/// A name as RFC 1123 has it, which namespaces follow.
fn dns_label(text: &str) -> Result<String, String> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let fits = (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-');
    if fits {
        Ok(text.to_owned())
    } else {
        Err("expected 1 to 63 lowercase letters, digits or '-', such as chatbots".to_owned())
    }
}

fn positive(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("expected more than no time, such as 30s".to_owned()),
        duration => Ok(duration),
    }
}

/// A Lease keeps whole seconds.
fn whole_seconds(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    let fits = duration.subsec_nanos() == 0 && (1..=3600).contains(&duration.as_secs());
    if fits { Ok(duration) } else { Err("expected whole seconds from 1s to 1h, such as 15s".to_owned()) }
}

fn at_least_one(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| format!("expected a whole number from 1 to {}, such as 10", u32::MAX))
}

fn up_to_256(text: &str) -> Result<u16, String> {
    let number = text.parse().ok().filter(|number| (1..=256).contains(number));
    number.ok_or_else(|| "expected a whole number from 1 to 256, such as 16".to_owned())
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "expected an IP address with a port, such as 0.0.0.0:8080 or [::1]:8080".to_owned())
}
