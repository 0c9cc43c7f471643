//! One leader, fenced: who holds the Lease may write, and stops before it can expire.
//!
//! Every write of the Lease carries the resourceVersion that was read, so of two candidates one loses.
//! Expiry is judged by how long *we* saw no change, on our own monotonic clock: clocks may differ.
//! Knows nothing of chatbots.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

/// Whether this process may write now.
#[derive(Clone, Debug)]
pub struct Fence(Arc<Mutex<Limit>>);

#[derive(Clone, Copy, Debug)]
enum Limit {
    Never,
    Until(Instant),
    Always,
}

impl Fence {
    /// For one replica without a Lease.
    #[must_use]
    pub fn open() -> Self {
        Self(Arc::new(Mutex::new(Limit::Always)))
    }

    fn closed() -> Self {
        Self(Arc::new(Mutex::new(Limit::Never)))
    }

    /// Whether a write may start.
    #[must_use]
    pub fn holds(&self) -> bool {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Limit::Never => false,
            Limit::Until(end) => Instant::now() < end,
            Limit::Always => true,
        }
    }

    fn set(&self, limit: Limit) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = limit;
    }
}

/// Which Lease, and for how long.
#[derive(Clone, Debug)]
pub struct Config {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Who we are; unique to this process.
    pub identity: String,
    /// Others may take over this long after the last renewal.
    pub duration: Duration,
}

impl Config {
    /// We stop this long after our last renewal, well before others may start.
    fn deadline(&self) -> Duration {
        self.duration * 2 / 3
    }

    /// Time between two tries, short enough for a quick hand-over.
    fn period(&self) -> Duration {
        (self.duration / 10).min(Duration::from_secs(1))
    }
}

struct Watched {
    resource_version: Option<String>,
    since: Instant,
}

/// Tries to hold a Lease, and renews it.
pub struct Elector {
    api: Api<Lease>,
    config: Config,
    fence: Fence,
    leading: watch::Sender<bool>,
    watched: Option<Watched>,
    renewed: Option<Instant>,
    /// Whom we last told that we wait for.
    awaited: String,
}

impl Elector {
    /// An elector; its fence opens while it leads, and the channel tells when that changes.
    #[must_use]
    pub fn new(client: Client, config: Config) -> (Self, Fence, watch::Receiver<bool>) {
        let (leading, led) = watch::channel(false);
        let fence = Fence::closed();
        let api = Api::namespaced(client, &config.namespace);
        let awaited = String::new();
        let elector =
            Self { api, config, fence: fence.clone(), leading, watched: None, renewed: None, awaited };
        (elector, fence, led)
    }

    /// Runs until `stop`, then gives the Lease back.
    pub async fn run(mut self, stop: CancellationToken) {
        let Config { namespace, name, identity, .. } = &self.config;
        tracing::info!(%namespace, lease = %name, %identity, "the leader is who holds this Lease");
        let mut complaint = None;
        while !stop.is_cancelled() {
            let started = Instant::now();
            // a request that hangs must not outlive our time as leader
            let left = self
                .renewed
                .map_or(self.config.deadline(), |at| self.config.deadline().saturating_sub(at.elapsed()));
            let result = tokio::select! {
                () = stop.cancelled() => break,
                result = timeout(left, self.attempt()) => result,
            };
            let trouble = match result {
                Ok(Ok(true)) => {
                    // counted from before the request: the server's time cannot be earlier
                    self.lead(started);
                    None
                }
                Ok(Ok(false)) => {
                    self.follow();
                    None
                }
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("no answer in time".to_owned()),
            };
            if trouble.is_some() && trouble != complaint {
                tracing::warn!(lease = %self.config.name, error = trouble.as_deref(), "the Lease cannot be renewed");
            }
            complaint = trouble;
            if self.renewed.is_some_and(|at| at.elapsed() >= self.config.deadline()) {
                self.follow();
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(self.config.period()) => {}
            }
        }
        self.resign().await;
    }

    fn lead(&mut self, since: Instant) {
        self.renewed = Some(since);
        self.fence.set(Limit::Until(since + self.config.deadline()));
        self.leading.send_if_modified(|leading| !std::mem::replace(leading, true));
    }

    fn follow(&mut self) {
        self.renewed = None;
        self.fence.set(Limit::Never);
        self.leading.send_if_modified(|leading| std::mem::replace(leading, false));
    }

    /// Takes or renews the Lease; `false` while somebody else holds it.
    async fn attempt(&mut self) -> kube::Result<bool> {
        let Some(mut lease) = self.api.get_opt(&self.config.name).await? else {
            let metadata = ObjectMeta { name: Some(self.config.name.clone()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.spec(None)) };
            return won(self.api.create(&PostParams::default(), &lease).await);
        };
        self.watch(lease.metadata.resource_version.as_ref());
        let current = lease.spec.clone().unwrap_or_default();
        let holder = current.holder_identity.as_deref().unwrap_or_default();
        let mine = holder == self.config.identity;
        if !mine && !holder.is_empty() && self.is_alive(&current) {
            self.wait_for(holder);
            return Ok(false);
        }
        lease.spec = Some(self.spec(Some((&current, mine))));
        won(self.api.replace(&self.config.name, &PostParams::default(), &lease).await)
    }

    /// Tells, once of each holder, that we wait.
    fn wait_for(&mut self, holder: &str) {
        if self.awaited != holder {
            tracing::info!(lease = %self.config.name, holder, "standing by: somebody else holds the Lease");
            holder.clone_into(&mut self.awaited);
        }
    }

    /// Notes when the Lease was last seen to change.
    fn watch(&mut self, resource_version: Option<&String>) {
        let seen = self.watched.as_ref().is_some_and(|w| w.resource_version.as_ref() == resource_version);
        if !seen {
            let resource_version = resource_version.cloned();
            self.watched = Some(Watched { resource_version, since: Instant::now() });
        }
    }

    /// Whether the holder has renewed lately, as far as we could see.
    fn is_alive(&self, spec: &LeaseSpec) -> bool {
        let seconds = spec.lease_duration_seconds.unwrap_or(1).max(1).unsigned_abs();
        let duration = Duration::from_secs(seconds.into());
        self.watched.as_ref().is_some_and(|watched| watched.since.elapsed() < duration)
    }

    fn spec(&self, before: Option<(&LeaseSpec, bool)>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let acquired = before.filter(|(_, mine)| *mine).and_then(|(spec, _)| spec.acquire_time.clone());
        let transitions =
            before.map_or(0, |(spec, mine)| spec.lease_transitions.unwrap_or(0) + i32::from(!mine));
        LeaseSpec {
            holder_identity: Some(self.config.identity.clone()),
            lease_duration_seconds: Some(
                i32::try_from(self.config.duration.as_secs().max(1)).unwrap_or(i32::MAX),
            ),
            acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Gives the Lease back, so that the next leader need not wait for it to expire.
    async fn resign(mut self) {
        let led = self.renewed.is_some();
        self.follow();
        if !led {
            return;
        }
        let give_back = async {
            let mut lease = self.api.get(&self.config.name).await?;
            if let Some(spec) = &mut lease.spec
                && spec.holder_identity.as_deref() == Some(&self.config.identity)
            {
                spec.holder_identity = Some(String::new());
                self.api.replace(&self.config.name, &PostParams::default(), &lease).await?;
            }
            Ok::<(), kube::Error>(())
        };
        match timeout(Duration::from_secs(3), give_back).await {
            Ok(Ok(())) => tracing::info!(lease = %self.config.name, "gave the Lease back"),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the Lease could not be given back; it expires by itself");
            }
            Err(_) => {
                tracing::warn!("the Lease could not be given back in time; it expires by itself");
            }
        }
    }
}

/// Whether a write of the Lease won; a conflict means that somebody else was faster.
fn won(result: kube::Result<Lease>) -> kube::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
        Err(error) => Err(error),
    }
}
