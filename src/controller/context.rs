//! What all reconciles share. Fields only: the files named after them hold what is done with them.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kube::{Client, runtime::events::Recorder};
use rand::RngExt;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    cache::Cache,
    cache_sync::CacheSync,
    credentials::{Credentials, SecretChanges},
    enqueue::Queues,
    fair_queue::FairSemaphore,
    stale_reads::StaleReads,
    unknown_annotations::UnknownAnnotations,
};
use crate::{
    chatcaptain::Accounts,
    cloud_events::CloudEvents,
    crd::{ChatbotDeployment, ChatbotVersion},
    health::Liveness,
    lease::Fence,
    plan::{
        PlanConfig,
        call_permits::{CallPermits, SearchTimers},
    },
    telemetry::Metrics,
};

/// Everything that [`Context::new`] needs.
pub struct ContextConfig {
    /// Client of the cluster.
    pub client: Client,
    /// The service, by API key.
    pub accounts: Arc<Accounts>,
    /// The flags that plans depend on.
    pub config: PlanConfig,
    /// Counts reconciles, drift and orphans.
    pub metrics: Metrics,
    /// Publishes events.
    pub events: Recorder,
    /// Sends some of them elsewhere, if an address is set.
    pub cloud_events: Option<CloudEvents>,
    /// Whether this process may write.
    pub fence: Fence,
    /// How many objects of each kind are reconciled at a time.
    pub concurrency: usize,
    /// Whether a watch reports each change of a Secret.
    pub watch_secrets: bool,
    /// No reconcile starts after this.
    pub stop: CancellationToken,
    /// Learns what the controllers finish.
    pub liveness: Liveness,
    /// A controller that finishes nothing for this long is wedged.
    pub wedged_after: Duration,
}

/// What all reconciles share.
pub struct Context {
    pub(super) client: Client,
    pub(super) accounts: Arc<Accounts>,
    pub(super) config: Arc<PlanConfig>,
    pub(super) metrics: Metrics,
    pub(super) events: Recorder,
    pub(super) cloud_events: Option<CloudEvents>,
    pub(super) fence: Fence,
    pub(super) credentials: Credentials,
    pub(super) versions: Cache<ChatbotVersion>,
    pub(super) deployments: Cache<ChatbotDeployment>,
    /// Reconciles and events under way.
    pub tasks: TaskTracker,
    pub(super) cache_sync: CacheSync,
    pub(super) version_permits: FairSemaphore,
    // of their own: a rollback must not wait for a thousand creates
    pub(super) deployment_permits: FairSemaphore,
    pub(super) stop: CancellationToken,
    pub(super) call_permits: Mutex<CallPermits<Instant>>,
    pub(super) search_timers: Mutex<SearchTimers<Instant>>,
    pub(super) stale_reads: StaleReads,
    pub(super) unknown_annotations: UnknownAnnotations,
    pub(super) version_queues: Queues<ChatbotVersion>,
    pub(super) deployment_queues: Queues<ChatbotDeployment>,
    pub(super) liveness: Liveness,
    pub(super) wedged_after: Duration,
}

impl Context {
    /// A context with empty caches.
    #[must_use]
    pub fn new(config: ContextConfig) -> Self {
        let ContextConfig {
            client,
            accounts,
            config,
            metrics,
            events,
            cloud_events,
            fence,
            concurrency,
            watch_secrets,
            stop,
            liveness,
            wedged_after,
        } = config;
        let changes = SecretChanges::noticed(watch_secrets, config.interval);
        Self {
            credentials: Credentials::new(client.clone(), changes),
            client,
            accounts,
            config: Arc::new(config),
            metrics,
            events,
            cloud_events,
            fence,
            versions: Cache::default(),
            deployments: Cache::default(),
            tasks: TaskTracker::new(),
            cache_sync: CacheSync::new(stop.clone()),
            version_permits: FairSemaphore::new(concurrency),
            deployment_permits: FairSemaphore::new(concurrency),
            stop,
            call_permits: Mutex::default(),
            search_timers: Mutex::default(),
            stale_reads: StaleReads::default(),
            unknown_annotations: UnknownAnnotations::default(),
            version_queues: Queues::default(),
            deployment_queues: Queues::default(),
            liveness,
            wedged_after,
        }
    }

    /// Waits until every cache has its first list, or until the process stops.
    pub async fn wait_for_cache_sync(&self) {
        self.cache_sync.wait_for_sync().await;
    }

    /// Whether every cache has its first list.
    #[must_use]
    pub fn has_synced(&self) -> bool {
        self.cache_sync.has_synced()
    }

    /// Whether no reconcile may start any more.
    pub(super) fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// The time the way objects keep it: in whole seconds.
    pub(super) fn now() -> Timestamp {
        let now = Timestamp::now();
        Timestamp::from_second(now.as_second()).unwrap_or(now)
    }

    /// Randomness for backoff and requeues, 0 to 1.
    pub(super) fn jitter() -> f64 {
        rand::rng().random()
    }
}
