//! Logs, and every metric with its name and labels in one table.

use std::{fmt, io::IsTerminal, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use std::sync::atomic::AtomicU64;
use tracing_subscriber::EnvFilter;

use crate::chatcaptain::CallEvent;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("expected text or json".to_owned()),
        }
    }
}

/// Starts logging to standard error; `RUST_LOG` filters, by default at `info`.
pub fn start_logging(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,kube_client=off,kube_runtime=error"));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match format {
        LogFormat::Json => {
            builder.json().flatten_event(true).with_current_span(true).with_span_list(false).init();
        }
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
    }
}

/// One row of the table of metrics.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Name as it is scraped.
    pub name: &'static str,
    /// counter, gauge or histogram.
    pub kind: &'static str,
    /// Label names.
    pub labels: &'static [&'static str],
    /// What it counts, and its unit.
    pub help: &'static str,
}

macro_rules! metric {
    ($name:literal, $kind:literal, [$($label:literal),*], $help:literal) => {
        Metric { name: $name, kind: $kind, labels: &[$($label),*], help: $help }
    };
}

/// Every metric. The README's table is held to this one by a test.
pub const METRICS: &[Metric] = &[
    metric!("chatcaptain_api_requests_total", "counter", ["operation", "outcome"], "Calls to the service."),
    metric!(
        "chatcaptain_api_request_duration_seconds",
        "histogram",
        ["operation"],
        "Time from a call to its answer."
    ),
    metric!(
        "chatcaptain_api_throttled_seconds_total",
        "counter",
        [],
        "Time for which calls were paused because the service asked to slow down."
    ),
    metric!("chatcaptain_breaker_open", "gauge", [], "API keys whose calls pause now."),
    metric!("chatcaptain_reconcile_total", "counter", ["kind", "outcome"], "Passes over an object."),
    metric!(
        "chatcaptain_reconcile_duration_seconds",
        "histogram",
        ["kind"],
        "Time of one pass, waiting for the service included."
    ),
    metric!(
        "chatcaptain_time_to_ready_seconds",
        "histogram",
        ["kind"],
        "Time from an object's creation until it was first Ready."
    ),
    metric!(
        "chatcaptain_ambiguous_creates_total",
        "counter",
        ["resolution"],
        "Creates without a usable answer: recovered, or absent and free to be tried again."
    ),
    metric!(
        "chatcaptain_orphans_total",
        "counter",
        [],
        "Versions that may have been left behind in the service."
    ),
    metric!(
        "chatcaptain_drift_total",
        "counter",
        ["action"],
        "Changes by hand that were found: enforced or warned."
    ),
    metric!(
        "chatcaptain_condition",
        "gauge",
        ["kind", "namespace", "name", "type"],
        "1 while the condition is True, 0 otherwise."
    ),
    metric!(
        "chatcaptain_deployment_info",
        "gauge",
        ["namespace", "name", "chatbot_id", "environment", "version_number"],
        "1 for the version that an environment runs."
    ),
    metric!("chatcaptain_leader", "gauge", [], "1 while this replica leads."),
];

/// Labels of one call.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct CallLabels {
    operation: &'static str,
    outcome: &'static str,
}

/// The label of one operation.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OperationLabel {
    operation: &'static str,
}

/// The label of one kind.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct KindLabel {
    kind: &'static str,
}

/// Labels of one pass.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct PassLabels {
    kind: &'static str,
    outcome: &'static str,
}

/// The label of an unconfirmed create.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ResolutionLabel {
    resolution: &'static str,
}

/// The label of a drift.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ActionLabel {
    action: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The metrics that are counted as things happen; what objects show is read from the caches at each scrape.
#[derive(Clone, Debug)]
pub struct Metrics {
    api_requests: Family<CallLabels, Counter>,
    api_duration: Histograms<OperationLabel>,
    throttled: Counter<f64, AtomicU64>,
    passes: Family<PassLabels, Counter>,
    pass_duration: Histograms<KindLabel>,
    time_to_ready: Histograms<KindLabel>,
    ambiguous: Family<ResolutionLabel, Counter>,
    orphans: Counter,
    drift: Family<ActionLabel, Counter>,
    leader: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let fast: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 2.0, 16));
        let slow: fn() -> Histogram = || Histogram::new(exponential_buckets(0.125, 2.0, 16));
        Self {
            api_requests: Family::default(),
            api_duration: Family::new_with_constructor(fast),
            throttled: Counter::default(),
            passes: Family::default(),
            pass_duration: Family::new_with_constructor(fast),
            time_to_ready: Family::new_with_constructor(slow),
            ambiguous: Family::default(),
            orphans: Counter::default(),
            drift: Family::default(),
            leader: Gauge::default(),
        }
    }
}

impl Metrics {
    /// One call to the service, or a pause of calls.
    pub fn record_call(&self, report: CallEvent) {
        match report {
            CallEvent::Completed { call, outcome, duration: took } => {
                let operation = call.as_str();
                self.api_requests.get_or_create(&CallLabels { operation, outcome }).inc();
                self.api_duration.get_or_create(&OperationLabel { operation }).observe(took.as_secs_f64());
            }
            CallEvent::Paused(pause) => {
                self.throttled.inc_by(pause.as_secs_f64());
            }
        }
    }

    /// One pass over an object.
    pub fn record_reconcile(&self, kind: &'static str, ok: bool, took: Duration) {
        let outcome = if ok { "ok" } else { "error" };
        self.passes.get_or_create(&PassLabels { kind, outcome }).inc();
        self.pass_duration.get_or_create(&KindLabel { kind }).observe(took.as_secs_f64());
    }

    /// An object became Ready for the first time.
    pub fn record_time_to_ready(&self, kind: &'static str, after: Duration) {
        self.time_to_ready.get_or_create(&KindLabel { kind }).observe(after.as_secs_f64());
    }

    /// The end of a create without a usable answer is known.
    pub fn count_ambiguous_create(&self, resolution: &'static str) {
        self.ambiguous.get_or_create(&ResolutionLabel { resolution }).inc();
    }

    /// A version may have been left behind.
    pub fn count_orphan(&self) {
        self.orphans.inc();
    }

    /// Somebody deployed by hand.
    pub fn count_drift(&self, action: &'static str) {
        self.drift.get_or_create(&ActionLabel { action }).inc();
    }

    /// Whether this replica leads.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// The registry to scrape; `objects` adds what is read from the caches.
    #[must_use]
    pub fn registry(&self, objects: impl Collector) -> Registry {
        let mut registry = Registry::default();
        let help = |name: &str| {
            METRICS
                .iter()
                .find(|metric| metric.name == name)
                .map_or("", |metric| metric.help.trim_end_matches('.'))
        };
        macro_rules! register {
            ($($name:literal, $suffix:literal => $metric:expr;)+) => {
                $(registry.register($name, help(concat!($name, $suffix)), $metric.clone());)+
            };
        }
        register! {
            "chatcaptain_api_requests", "_total" => self.api_requests;
            "chatcaptain_api_request_duration_seconds", "" => self.api_duration;
            "chatcaptain_api_throttled_seconds", "_total" => self.throttled;
            "chatcaptain_reconcile", "_total" => self.passes;
            "chatcaptain_reconcile_duration_seconds", "" => self.pass_duration;
            "chatcaptain_time_to_ready_seconds", "" => self.time_to_ready;
            "chatcaptain_ambiguous_creates", "_total" => self.ambiguous;
            "chatcaptain_orphans", "_total" => self.orphans;
            "chatcaptain_drift", "_total" => self.drift;
            "chatcaptain_leader", "" => self.leader;
        }
        registry.register_collector(Box::new(objects));
        registry
    }
}

/// What a scrape answers.
///
/// # Errors
/// When the text cannot be formatted.
pub fn scrape(registry: &Registry) -> Result<String, fmt::Error> {
    let mut text = String::new();
    encode(&mut text, registry)?;
    Ok(text)
}
