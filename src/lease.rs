//! Leader election: of several replicas, one writes. Names follow client-go's `leaderelection`.
//!
//! **One winner.** Every update of the Lease carries the resourceVersion that was read. Of two candidates one gets a
//! conflict, which is a lost race and not an error.
//!
//! **Expiry is observed locally**, as in client-go. A candidate takes the Lease over once it has observed no change of it
//! for the holder's `leaseDurationSeconds`, counted on its own monotonic clock from when it first read that
//! resourceVersion. `renewTime` is written for people and never compared: clocks of two machines differ, and jump.
//!
//! **The leader stops first.** Its [`Fence`] closes `renew_deadline` after the *start* of its last successful renewal;
//! a candidate counts a whole lease duration from when it *observed* that renewal, which is later. `renew_deadline` is two
//! thirds of the duration, the ratio of client-go's defaults (10 s of 15 s). The last third is for requests in flight,
//! late timers and the end of the process, so that they are normally over before another replica begins.
//!
//! **Where the fence is asked.** Before each update of a finalizer or a status, and before each create, deploy, rollback
//! and delete in the service. Reads never ask. Three small writes do not ask either: an Event, the report on an object
//! that cannot be parsed, and the patch that drops another manager's conditions right after a status update. None of
//! them decides what is sent to the service.
//!
//! **What the fence cannot stop.** A request in flight may reach its server after another replica has begun. So may what
//! a frozen process sends between waking up and noticing that it lost the Lease: a request that the fence had allowed a
//! moment before. So nothing relies on the fence alone. Updates of a
//! finalizer or a status carry a resourceVersion and lose to a newer one. A create, deploy or rollback is recorded as
//! an intent before it is sent, and a leader that finds an intent which it did not record itself treats the outcome as
//! unknown. A delete may be repeated. A machine that is suspended as a whole stops its monotonic clock, too: its fence
//! may stay open until the next attempt reads the new holder, and for the rest of `renew_deadline` at most.
//!
//! **Losing the Lease ends the process**, and its queues and caches with it; a new process stands by. **Releasing it
//! comes last**: at shutdown no reconcile starts, those that run finish and record what their calls returned, and the
//! elector renews until then. Were the Lease released earlier, the next leader would find intents whose results
//! are about to be recorded, and would search the service for results that this process knows.

use std::{
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
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
use tokio::{
    sync::watch,
    task::JoinHandle,
    // std's clock, which tests can pause
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{network::describe, sync::lock};

/// How long giving the Lease back may delay the end of the process.
// short, because a Lease that is not given back expires by itself
const RELEASE_TIMEOUT: Duration = Duration::from_secs(3);

/// Whether this replica may write. Clones share one state.
#[derive(Clone, Debug)]
pub struct Fence(Arc<Mutex<Validity>>);

#[derive(Clone, Copy, Debug)]
enum Validity {
    Never,
    Until(Instant),
    Always,
}

impl Fence {
    fn new(validity: Validity) -> Self {
        Self(Arc::new(Mutex::new(validity)))
    }

    /// Whether a write may start now. Ask right before it: the answer expires.
    #[must_use]
    pub fn allows_writes(&self) -> bool {
        match *lock(&self.0) {
            Validity::Never => false,
            Validity::Until(deadline) => Instant::now() < deadline,
            Validity::Always => true,
        }
    }

    fn set(&self, validity: Validity) {
        *lock(&self.0) = validity;
    }
}

/// Whether the Lease can be read and written. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct LeaseAccess(Arc<Mutex<Access>>);

#[derive(Debug, Default)]
struct Access {
    /// When an attempt last got an answer that says who leads.
    last_success: Option<Instant>,
    /// Why the attempts since then failed.
    last_error: Option<String>,
    /// The Lease, and its duration.
    lease: String,
    duration: Duration,
}

impl LeaseAccess {
    fn new(config: &LeaderElectionConfig) -> Self {
        let lease = format!("{}/{}", config.namespace, config.name);
        Self(Arc::new(Mutex::new(Access { lease, duration: config.lease_duration, ..Access::default() })))
    }

    fn record(&self, error: Option<&String>) {
        let mut access = lock(&self.0);
        access.last_error = error.cloned();
        if error.is_none() {
            access.last_success = Some(Instant::now());
        }
    }

    /// Why the Lease could be neither read nor written for its duration, or has never been; `None` if it was.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let access = lock(&self.0);
        if access.last_success.is_some_and(|at| at.elapsed() < access.duration) {
            return None;
        }
        let error = access.last_error.as_deref()?;
        Some(format!(
            "the Lease {} can be neither read nor written ({error}); check --lease-namespace, --lease-name and the Role",
            access.lease
        ))
    }
}

/// This replica's part in the election.
pub struct LeaderElection {
    fence: Fence,
    access: LeaseAccess,
    /// `None` without election: a single replica always leads.
    elector: Option<RunningElector>,
}

struct RunningElector {
    is_leader: watch::Receiver<bool>,
    release: CancellationToken,
    task: JoinHandle<()>,
}

impl LeaderElection {
    /// No election: this replica leads from the start and for ever.
    #[must_use]
    pub fn disabled() -> Self {
        Self { fence: Fence::new(Validity::Always), access: LeaseAccess::default(), elector: None }
    }

    /// Takes part from now on, in a task of its own.
    #[must_use]
    pub fn start(client: Client, config: LeaderElectionConfig) -> Self {
        let (elector, is_leader) = LeaderElector::new(client, config);
        let (fence, access) = (elector.fence.clone(), elector.access.clone());
        let release = CancellationToken::new();
        let task = tokio::spawn(elector.run(release.clone()));
        Self { fence, access, elector: Some(RunningElector { is_leader, release, task }) }
    }

    /// Ask it before each write.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.fence.clone()
    }

    /// Whether the Lease can be read and written.
    #[must_use]
    pub fn access(&self) -> LeaseAccess {
        self.access.clone()
    }

    /// Returns when this replica leads. Should the elector have panicked it returns as well, and `lost` after it.
    pub async fn acquired(&self) {
        if let Some(elector) = &self.elector {
            let _ = elector.is_leader.clone().wait_for(|is_leader| *is_leader).await;
        }
    }

    /// Returns when this replica, which has led, does so no more.
    pub async fn lost(&self) {
        match &self.elector {
            Some(elector) => {
                let _ = elector.is_leader.clone().wait_for(|is_leader| !is_leader).await;
            }
            None => std::future::pending().await,
        }
    }

    /// Ends the election and gives the Lease back, if this replica holds it. To be called last; see the protocol above.
    pub async fn release(self) {
        if let Some(elector) = self.elector {
            elector.release.cancel();
            // the elector logs its own failures
            let _ = elector.task.await;
        }
    }
}

/// Names this process among the replicas.
///
/// In a pod that is the pod and the process: a restarted container has the name of its predecessor and takes over its
/// Lease at once, which is safe, as that one is dead. Without `POD_NAME` it is the host and a random part, as client-go
/// has it: process ids alone are the same in every container.
#[must_use]
pub fn identity() -> String {
    static IDENTITY: LazyLock<String> = LazyLock::new(|| match std::env::var("POD_NAME") {
        Ok(pod) => format!("{pod}-{:x}", std::process::id()),
        Err(_) => format!("{}_{:016x}", hostname(), rand::random::<u64>()),
    });
    IDENTITY.clone()
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "chatcaptain-operator".to_owned() } else { name.to_owned() }
}

/// Which Lease, and for how long.
#[derive(Clone, Debug)]
pub struct LeaderElectionConfig {
    /// Namespace of the Lease, the same for all replicas.
    pub namespace: String,
    /// Name of the Lease, the same for all replicas.
    pub name: String,
    /// Identifies this process as the holder; unique among running processes, see [`identity`].
    pub identity: String,
    /// Another replica may take over this long after it observed the last renewal. Whole seconds: the Lease has no others.
    pub lease_duration: Duration,
}

impl LeaderElectionConfig {
    /// The leader stops writing this long after its last renewal began.
    fn renew_deadline(&self) -> Duration {
        self.lease_duration * 2 / 3
    }

    /// How long one attempt may take: one that hangs leaves time for another before the deadline, as in client-go.
    fn attempt_timeout(&self) -> Duration {
        (self.renew_deadline() / 2).max(Duration::from_secs(1))
    }

    /// Time between two attempts, client-go's 2 s of 15 s: a leader has several attempts before its deadline, and a released
    /// Lease is taken soon.
    fn retry_period(&self) -> Duration {
        (self.lease_duration * 2 / 15).min(Duration::from_secs(2))
    }
}

/// The Lease as it was last read; by our clock, not by what it says.
struct ObservedRecord {
    resource_version: Option<String>,
    /// When this resourceVersion was first read.
    observed_time: Instant,
}

/// Acquires a Lease and renews it.
struct LeaderElector {
    api: Api<Lease>,
    config: LeaderElectionConfig,
    fence: Fence,
    access: LeaseAccess,
    is_leader: watch::Sender<bool>,
    observed_record: Option<ObservedRecord>,
    /// When the last successful renewal began; `None` while another replica leads.
    last_renewal: Option<Instant>,
    /// The Lease as this replica wrote it last, if nothing is known of a later write.
    written: Option<Lease>,
    /// The holder that the log named last.
    reported_leader: String,
}

impl LeaderElector {
    fn new(client: Client, config: LeaderElectionConfig) -> (Self, watch::Receiver<bool>) {
        let (is_leader, receiver) = watch::channel(false);
        let elector = Self {
            api: Api::namespaced(client, &config.namespace),
            access: LeaseAccess::new(&config),
            config,
            fence: Fence::new(Validity::Never),
            is_leader,
            observed_record: None,
            last_renewal: None,
            written: None,
            reported_leader: String::new(),
        };
        (elector, receiver)
    }

    /// Runs until `stop`, then releases the Lease.
    async fn run(mut self, stop: CancellationToken) {
        let LeaderElectionConfig { namespace, name, identity, .. } = &self.config;
        tracing::info!(%namespace, lease = %name, %identity, "attempting to acquire lease");
        let mut reported_error = None;
        while !stop.is_cancelled() {
            let error = tokio::select! {
                () = stop.cancelled() => break,
                error = self.attempt() => error,
            };
            if error.is_some() && error != reported_error {
                let error = error.as_deref();
                tracing::warn!(lease = %self.config.name, error, "failed to acquire or renew lease, retrying");
            }
            reported_error = error;
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep(self.config.retry_period()) => {}
            }
        }
        self.release().await;
    }

    /// One attempt and what follows from it. Returns why it failed.
    async fn attempt(&mut self) -> Option<String> {
        let deadline = self.config.renew_deadline();
        let started = Instant::now();
        // a request that hangs must not keep us from stopping in time
        let remaining = self.last_renewal.map_or(deadline, |at| deadline.saturating_sub(at.elapsed()));
        let error =
            match timeout(remaining.min(self.config.attempt_timeout()), self.try_acquire_or_renew()).await {
                Ok(Ok(true)) => {
                    // from before the request: no other replica can have observed the renewal earlier
                    self.record_renewal(started);
                    None
                }
                Ok(Ok(false)) => {
                    self.stop_leading();
                    None
                }
                Ok(Err(error)) => Some(reason(&error)),
                Err(_) => Some("request timed out".to_owned()),
            };
        self.access.record(error.as_ref());
        if self.last_renewal.is_some_and(|at| at.elapsed() >= deadline) {
            self.stop_leading();
        }
        error
    }

    fn record_renewal(&mut self, started: Instant) {
        self.last_renewal = Some(started);
        // before the channel: its receivers write at once
        self.fence.set(Validity::Until(started + self.config.renew_deadline()));
        if self.is_leader.send_if_modified(|is_leader| !std::mem::replace(is_leader, true)) {
            tracing::info!(lease = %self.config.name, "acquired lease");
        }
    }

    fn stop_leading(&mut self) {
        self.last_renewal = None;
        self.fence.set(Validity::Never);
        self.is_leader.send_if_modified(|is_leader| std::mem::replace(is_leader, false));
    }

    /// `false` while another replica holds the Lease, or when it was faster.
    async fn try_acquire_or_renew(&mut self) -> kube::Result<bool> {
        // one request: only a conflict says that the Lease has to be read, which need not mean that another replica has it
        if let Some(lease) = self.written.take()
            && self.write(Some(lease)).await?
        {
            return Ok(true);
        }
        let Some(lease) = self.api.get_opt(&self.config.name).await? else {
            return self.write(None).await;
        };
        self.observe(lease.metadata.resource_version.as_ref());
        let current = lease.spec.clone().unwrap_or_default();
        let holder = current.holder_identity.as_deref().unwrap_or_default();
        if holder != self.config.identity && !holder.is_empty() && self.is_lease_valid(&current) {
            self.report_leader(holder);
            return Ok(false);
        }
        self.write(Some(lease)).await
    }

    /// Writes the Lease as ours, over the one that was read. `false` when another replica was faster.
    async fn write(&mut self, current: Option<Lease>) -> kube::Result<bool> {
        let spec = Some(self.desired_spec(current.as_ref().and_then(|lease| lease.spec.as_ref())));
        let params = PostParams::default();
        let written = if let Some(Lease { metadata, .. }) = current {
            self.api.replace(&self.config.name, &params, &Lease { metadata, spec }).await
        } else {
            let metadata = ObjectMeta { name: Some(self.config.name.clone()), ..ObjectMeta::default() };
            self.api.create(&params, &Lease { metadata, spec }).await
        };
        self.written = won_race(written)?;
        Ok(self.written.is_some())
    }

    /// Logs, once for each holder, that we wait for it.
    fn report_leader(&mut self, holder: &str) {
        if self.reported_leader != holder {
            tracing::info!(lease = %self.config.name, holder, "another replica holds the lease, standing by");
            holder.clone_into(&mut self.reported_leader);
        }
    }

    fn observe(&mut self, resource_version: Option<&String>) {
        let is_known = self
            .observed_record
            .as_ref()
            .is_some_and(|record| record.resource_version.as_ref() == resource_version);
        if !is_known {
            let resource_version = resource_version.cloned();
            self.observed_record = Some(ObservedRecord { resource_version, observed_time: Instant::now() });
        }
    }

    /// Whether the holder has renewed within the duration that it promised, as far as we could observe.
    fn is_lease_valid(&self, spec: &LeaseSpec) -> bool {
        // a Lease without a duration is held for a second: neither for ever nor not at all
        let seconds = spec.lease_duration_seconds.unwrap_or(1).max(1).unsigned_abs();
        let duration = Duration::from_secs(seconds.into());
        self.observed_record.as_ref().is_some_and(|record| record.observed_time.elapsed() < duration)
    }

    /// What we write: a renewal where `current` is ours, else a transition.
    fn desired_spec(&self, current: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let ours = current.filter(|spec| spec.holder_identity.as_deref() == Some(&self.config.identity));
        let acquire_time = ours.and_then(|spec| spec.acquire_time.clone());
        let transitions =
            current.map_or(0, |spec| spec.lease_transitions.unwrap_or(0) + i32::from(ours.is_none()));
        LeaseSpec {
            holder_identity: Some(self.config.identity.clone()),
            lease_duration_seconds: Some(
                i32::try_from(self.config.lease_duration.as_secs().max(1)).unwrap_or(i32::MAX),
            ),
            acquire_time: Some(acquire_time.unwrap_or_else(|| now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Clears the holder, so that the next leader need not wait for the Lease to expire.
    async fn release(mut self) {
        let was_leader = self.last_renewal.is_some();
        // the fence first: from here on another replica may lead
        self.stop_leading();
        if !was_leader {
            return;
        }
        let lease = &self.config.name;
        match timeout(RELEASE_TIMEOUT, self.clear_holder()).await {
            Ok(Ok(())) => tracing::info!(%lease, "released lease"),
            Ok(Err(error)) => {
                tracing::warn!(%lease, %error, "failed to release lease; the next leader waits for it to expire");
            }
            Err(_) => {
                tracing::warn!(%lease, "timed out releasing lease; the next leader waits for it to expire");
            }
        }
    }

    async fn clear_holder(&self) -> kube::Result<()> {
        // read again: another replica may hold it by now
        let mut lease = self.api.get(&self.config.name).await?;
        if let Some(spec) = &mut lease.spec
            && spec.holder_identity.as_deref() == Some(&self.config.identity)
        {
            // empty instead of absent, as client-go releases
            spec.holder_identity = Some(String::new());
            self.api.replace(&self.config.name, &PostParams::default(), &lease).await?;
        }
        Ok(())
    }
}

/// Why a request failed; an answer of the API server in its own words.
fn reason(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        error => describe(error),
    }
}

/// The Lease as it was written. A conflict means that another replica was faster.
fn won_race(result: kube::Result<Lease>) -> kube::Result<Option<Lease>> {
    match result {
        Ok(lease) => Ok(Some(lease)),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
