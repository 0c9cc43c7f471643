//! Every metric with its name and labels in one table, and those that are counted as things happen.
//!
//! Metrics of objects are not counted here: `controller::metrics` reads them from the caches at each scrape.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::Registry,
};

use super::process::ProcessMetrics;
use crate::chatcaptain::{ApiCall, CallEvent};

/// One row of the table of metrics.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// As it is scraped: a counter's name includes `_total`.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Names of the labels. Their values are closed sets or names of objects, never text from an error.
    pub labels: &'static [&'static str],
    /// Shown by `/metrics` and in the documentation.
    pub help: &'static str,
}

macro_rules! metric {
    ($name:literal, $kind:literal, [$($label:literal),*], $help:literal) => {
        Metric { name: $name, kind: $kind, labels: &[$($label),*], help: $help }
    };
}

/// Every metric. A test compares the reference table with it.
pub const METRICS: &[Metric] = &[
    metric!(
        "chatcaptain_api_requests_total",
        "counter",
        ["operation", "outcome"],
        "Requests to the chatbot service."
    ),
    metric!(
        "chatcaptain_api_request_duration_seconds",
        "histogram",
        ["operation"],
        "Time from a request to the end of its answer."
    ),
    metric!(
        "chatcaptain_api_throttled_seconds_total",
        "counter",
        [],
        "Time for which requests are paused because the service throttles an API key."
    ),
    metric!(
        "chatcaptain_breaker_open",
        "gauge",
        [],
        "API keys whose requests are paused because the service throttles them."
    ),
    metric!("chatcaptain_reconcile_total", "counter", ["kind", "outcome"], "Reconciles of an object."),
    metric!(
        "chatcaptain_reconcile_duration_seconds",
        "histogram",
        ["kind"],
        "Duration of a reconcile, including the wait for the service."
    ),
    metric!(
        "chatcaptain_time_to_ready_seconds",
        "histogram",
        ["kind"],
        "Time from the creation of an object until it is Ready for the first time."
    ),
    metric!(
        "chatcaptain_ambiguous_creates_total",
        "counter",
        ["resolution"],
        "Create requests without a usable answer, once their outcome is known: recovered (the version exists), absent (it \
         does not; the operator may create it again) or duplicate (it showed after another had been created)."
    ),
    metric!("chatcaptain_orphans_total", "counter", [], "Versions that may be left behind in the service."),
    metric!(
        "chatcaptain_drift_total",
        "counter",
        ["action"],
        "Deployments outside the operator that it corrects (enforced) or only reports (warned)."
    ),
    metric!(
        "chatcaptain_rollouts_total",
        "counter",
        ["environment", "operation", "result"],
        "Rollouts that ended: the version is live (succeeded), or was not by spec.progressDeadline (failed)."
    ),
    metric!(
        "chatcaptain_lead_time_seconds",
        "histogram",
        ["environment"],
        "Time from the snapshot of a version until a deploy made it live, both by the clock of the service."
    ),
    metric!(
        "chatcaptain_cloud_events_total",
        "counter",
        ["outcome"],
        "Events for --events-address: delivered, rejected by the receiver, or dropped, because too many waited or the operator \
         ended."
    ),
    metric!(
        "chatcaptain_condition",
        "gauge",
        ["kind", "namespace", "name", "type"],
        "1 while the condition is True, or, with the type Deleting, while the object is being deleted. Only Ready is also 0; \
         the others are absent then."
    ),
    metric!(
        "chatcaptain_deployment_info",
        "gauge",
        ["namespace", "name", "chatbot_id", "environment", "version_number"],
        "Always 1; the labels name the version that is live in an environment."
    ),
    metric!("chatcaptain_leader", "gauge", [], "1 while this replica is the leader, otherwise 0."),
    metric!(
        "chatcaptain_watch_last_event_timestamp_seconds",
        "gauge",
        ["kind"],
        "When the API server last sent an event or a bookmark; of several watches the one that is silent the longest."
    ),
    metric!(
        "chatcaptain_build_info",
        "gauge",
        ["version", "revision"],
        "Always 1; the labels name the build of the operator."
    ),
    metric!("process_cpu_seconds_total", "counter", [], "CPU time of the process, user and system."),
    metric!("process_open_fds", "gauge", [], "Open file descriptors."),
    metric!("process_max_fds", "gauge", [], "The most file descriptors that may be open."),
    metric!("process_resident_memory_bytes", "gauge", [], "Resident memory."),
    metric!("process_virtual_memory_bytes", "gauge", [], "Virtual memory."),
    metric!("process_start_time_seconds", "gauge", [], "When the process started, since the epoch."),
];

/// The commit that the build was made of, where the build says so.
const REVISION: &str = match option_env!("GIT_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// The help text of a metric without its full stop, which the registry adds.
#[must_use]
pub fn help(name: &str) -> &'static str {
    let metric = METRICS.iter().find(|metric| metric.name == name);
    metric.map_or("", |metric| metric.help.trim_end_matches('.'))
}

/// Labels of a request to the service.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RequestLabels {
    operation: &'static str,
    outcome: &'static str,
}

/// The label of what is measured for each operation of the service.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OperationLabel {
    operation: &'static str,
}

/// The label of what is measured for each kind.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct KindLabel {
    kind: &'static str,
}

/// Labels of a reconcile.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ReconcileLabels {
    kind: &'static str,
    outcome: &'static str,
}

/// The label of a create whose answer was unusable: whether its version exists.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ResolutionLabel {
    resolution: &'static str,
}

/// The label of a drift: what the operator does about it.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ActionLabel {
    action: &'static str,
}

/// Labels of a rollout that ended.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Rollout {
    /// `test` or `prod`.
    pub environment: &'static str,
    /// `deploy` or `rollback`.
    pub operation: &'static str,
    /// `succeeded` or `failed`.
    pub result: &'static str,
}

/// The label of an event for `--events-address`: how it ended.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OutcomeLabel {
    outcome: &'static str,
}

/// The label of what is measured for each environment.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct EnvironmentLabel {
    environment: &'static str,
}

/// Labels of the build.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    revision: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The metrics that are counted as things happen.
#[derive(Clone, Debug)]
pub struct Metrics {
    api_requests: Family<RequestLabels, Counter>,
    api_duration: Histograms<OperationLabel>,
    throttled: Counter<f64, AtomicU64>,
    reconciles: Family<ReconcileLabels, Counter>,
    reconcile_duration: Histograms<KindLabel>,
    time_to_ready: Histograms<KindLabel>,
    ambiguous: Family<ResolutionLabel, Counter>,
    orphans: Counter,
    drift: Family<ActionLabel, Counter>,
    rollouts: Family<Rollout, Counter>,
    lead_time: Histograms<EnvironmentLabel>,
    cloud_events: Family<OutcomeLabel, Counter>,
    leader: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        // 1 ms to 33 s, about the longest request
        let fast: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 2.0, 16));
        // 125 ms to 68 min: a rollout, or a manifest that waits for a Secret
        let slow: fn() -> Histogram = || Histogram::new(exponential_buckets(0.125, 2.0, 16));
        // a minute to half a year: a hotfix, or a version that was tested for long
        let releases: fn() -> Histogram = || Histogram::new(exponential_buckets(60.0, 2.0, 19));
        let metrics = Self {
            api_requests: Family::default(),
            api_duration: Family::new_with_constructor(fast),
            throttled: Counter::default(),
            reconciles: Family::default(),
            reconcile_duration: Family::new_with_constructor(fast),
            time_to_ready: Family::new_with_constructor(slow),
            ambiguous: Family::default(),
            orphans: Counter::default(),
            drift: Family::default(),
            rollouts: Family::default(),
            lead_time: Family::new_with_constructor(releases),
            cloud_events: Family::default(),
            leader: Gauge::default(),
        };
        metrics.start_at_zero();
        metrics
    }
}

impl Metrics {
    /// Every series of the counters that alerts watch: the first increment of a series that is not there yet is no increase.
    fn start_at_zero(&self) {
        for operation in ApiCall::ALL.map(ApiCall::as_str) {
            drop(self.api_requests.get_or_create(&RequestLabels { operation, outcome: "forbidden" }));
        }
        for resolution in ["recovered", "absent", "duplicate"] {
            drop(self.ambiguous.get_or_create(&ResolutionLabel { resolution }));
        }
        for action in ["enforced", "warned"] {
            drop(self.drift.get_or_create(&ActionLabel { action }));
        }
        for outcome in ["delivered", "rejected", "dropped"] {
            drop(self.cloud_events.get_or_create(&OutcomeLabel { outcome }));
        }
        for environment in ["test", "prod"] {
            for operation in ["deploy", "rollback"] {
                for result in ["succeeded", "failed"] {
                    drop(self.rollouts.get_or_create(&Rollout { environment, operation, result }));
                }
            }
        }
    }

    /// Counts a request to the service, or a pause of requests.
    pub fn record_call(&self, event: CallEvent) {
        match event {
            CallEvent::Completed { call, outcome, duration } => {
                let operation = call.as_str();
                self.api_requests.get_or_create(&RequestLabels { operation, outcome }).inc();
                self.api_duration
                    .get_or_create(&OperationLabel { operation })
                    .observe(duration.as_secs_f64());
            }
            CallEvent::Paused(pause) => {
                self.throttled.inc_by(pause.as_secs_f64());
            }
        }
    }

    /// Counts a reconcile that ended after `duration`.
    pub fn record_reconcile(&self, kind: &'static str, ok: bool, duration: Duration) {
        let outcome = if ok { "ok" } else { "error" };
        self.reconciles.get_or_create(&ReconcileLabels { kind, outcome }).inc();
        self.reconcile_duration.get_or_create(&KindLabel { kind }).observe(duration.as_secs_f64());
    }

    /// Observes the time from the creation of an object until it was Ready for the first time.
    pub fn record_time_to_ready(&self, kind: &'static str, after: Duration) {
        self.time_to_ready.get_or_create(&KindLabel { kind }).observe(after.as_secs_f64());
    }

    /// Counts a create without a usable answer whose outcome is known: `recovered` or `absent`.
    pub fn count_ambiguous_create(&self, resolution: &'static str) {
        self.ambiguous.get_or_create(&ResolutionLabel { resolution }).inc();
    }

    /// Counts a version that may be left behind in the service.
    pub fn count_orphan(&self) {
        self.orphans.inc();
    }

    /// A version was deployed outside the operator, which has `enforced` the spec or `warned`.
    pub fn count_drift(&self, action: &'static str) {
        self.drift.get_or_create(&ActionLabel { action }).inc();
    }

    /// Counts a rollout that ended.
    pub fn count_rollout(&self, rollout: &Rollout) {
        self.rollouts.get_or_create(rollout).inc();
    }

    /// Observes the time from the snapshot of a version until it was live.
    pub fn record_lead_time(&self, environment: &'static str, time: Duration) {
        self.lead_time.get_or_create(&EnvironmentLabel { environment }).observe(time.as_secs_f64());
    }

    /// Counts an event for `--events-address`: `delivered`, `rejected` or `dropped`.
    pub fn count_cloud_event(&self, outcome: &'static str) {
        self.cloud_events.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// How many were counted so.
    #[cfg(test)]
    pub(crate) fn cloud_events(&self, outcome: &'static str) -> u64 {
        self.cloud_events.get_or_create(&OutcomeLabel { outcome }).get()
    }

    /// Whether this replica is the leader.
    pub fn set_leader(&self, is_leader: bool) {
        self.leader.set(i64::from(is_leader));
    }

    /// The registry to scrape; `objects` adds what is read from the caches.
    #[must_use]
    pub fn registry(&self, objects: impl Collector) -> Registry {
        let mut registry = Registry::default();
        // the registry adds the suffix itself
        macro_rules! register {
            ($($name:literal, $suffix:literal => $metric:expr;)+) => {
                $(registry.register($name, help(concat!($name, $suffix)), $metric.clone());)+
            };
        }
        register! {
            "chatcaptain_api_requests", "_total" => self.api_requests;
            "chatcaptain_api_request_duration_seconds", "" => self.api_duration;
            "chatcaptain_api_throttled_seconds", "_total" => self.throttled;
            "chatcaptain_reconcile", "_total" => self.reconciles;
            "chatcaptain_reconcile_duration_seconds", "" => self.reconcile_duration;
            "chatcaptain_time_to_ready_seconds", "" => self.time_to_ready;
            "chatcaptain_ambiguous_creates", "_total" => self.ambiguous;
            "chatcaptain_orphans", "_total" => self.orphans;
            "chatcaptain_drift", "_total" => self.drift;
            "chatcaptain_rollouts", "_total" => self.rollouts;
            "chatcaptain_lead_time_seconds", "" => self.lead_time;
            "chatcaptain_cloud_events", "_total" => self.cloud_events;
            "chatcaptain_leader", "" => self.leader;
        }
        let build = BuildLabels { version: env!("CARGO_PKG_VERSION"), revision: REVISION };
        registry.register("chatcaptain_build", help("chatcaptain_build_info"), Info::new(build));
        registry.register_collector(Box::new(ProcessMetrics));
        registry.register_collector(Box::new(objects));
        registry
    }
}
