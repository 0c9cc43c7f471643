//! Connects the cluster and the service. Every reconcile, of either kind, is the same five lines (`reconcile`): observe,
//! plan, act, report, publish.
//!
//! Reads, calls, writes and queues. Decides nothing about objects: that is `plan`'s part.

mod after_write;
mod cache;
mod cache_sync;
mod context;
mod crd_deletion;
mod credentials;
mod deployment;
mod enqueue;
mod fair_queue;
mod lookup;
mod metrics;
mod namespace_annotations;
mod notify;
mod publish;
mod reconcile;
mod service_access;
mod stale_reads;
mod unknown_annotations;
mod unreadable;
mod version;
mod watch;

pub use context::{Context, ContextConfig};
pub use metrics::ObjectMetrics;
pub use watch::{Scope, run};

use std::{
    fmt::{Debug, Display},
    sync::Arc,
    time::Duration,
};

use kube::{Resource, core::NamespaceResourceScope};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    crd::{CommonStatus, HistoryEntry},
    plan::{RecordedTimes, Report, call_permits::HasPendingCall},
};
use cache::{Cache, IndexKey, Ref};
use fair_queue::FairSemaphore;

/// For what a reconcile reads from the API server: one that hangs must not keep its permit for ever.
const READ_TIMEOUT: Duration = Duration::from_secs(15);

/// A kind whose objects are found and queued by what they refer to.
pub trait Indexed:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// The `kind` in manifests and metrics.
    const KIND: &'static str;
    /// The required fields of the spec: what an object can hold depends on them.
    const CLAIM: &'static [&'static str];
    /// Whether it matters who has written the spec, and why.
    const NEEDS_MANAGERS: bool;

    /// The cached objects of this kind.
    fn cache(context: &Context) -> &Cache<Self>;
    /// Why the status is about another chatbot or environment than the spec, if it is.
    fn contradiction(&self) -> Option<String>;
    /// What the object can be found by in the cache.
    fn keys(&self) -> Vec<IndexKey>;
    /// Queues one object of this kind.
    fn enqueue(reference: Ref<Self>, context: &Context);
    /// The permits for reconciles of this kind.
    fn permits(context: &Context) -> &FairSemaphore;
    /// Queues the objects that depend on this one.
    fn enqueue_dependents(&self, context: &Context);
}

/// What a reconcile does that is particular to one kind. Everything else is `reconcile::reconcile_once`.
pub trait Reconciler: Indexed {
    /// Everything that a decision can depend on.
    type Observation: Send + Sync;
    /// The observation, reduced to what decides.
    type State: Send + Sync;
    /// What one reconcile does; its `Display` is a line of the log.
    type Step: Copy + Display + Send + Sync;
    /// The result of a step.
    type Outcome: Send + Sync;
    /// The object's status.
    type Status: Serialize + PartialEq + HasPendingCall + RecordedTimes + Send + Sync;

    /// Reads the object, what it refers to, and the service. A read that fails is an observation, too.
    fn observe(object: &Arc<Self>, context: &Context) -> impl Future<Output = Self::Observation> + Send;
    /// Reduces an observation. Pure.
    fn state(observation: &Self::Observation) -> Self::State;
    /// Decides the next step. Pure.
    fn plan(state: &Self::State) -> Self::Step;
    /// Sends the request that the step asks for, if any: at most one change to the service.
    fn act(
        step: Self::Step,
        observation: &Self::Observation,
        context: &Arc<Context>,
    ) -> impl Future<Output = Self::Outcome> + Send;
    /// Converts the outcome to status, events and the time of the next reconcile. Pure.
    fn report(
        observation: &Self::Observation,
        state: &Self::State,
        step: Self::Step,
        outcome: &Self::Outcome,
    ) -> Report<Self::Status>;

    /// What a call leaves in the service, for an object that no longer exists; `None` if nothing. Pure.
    fn left_behind(observation: &Self::Observation, outcome: &Self::Outcome) -> Option<Report<Self::Status>>;

    /// Replaces the object in the observation with a newer copy, and the time with the current one.
    fn refresh_object(observation: &mut Self::Observation, object: Arc<Self>);
    /// Whether the step changes the service, so that its outcome must be recorded whatever happens.
    fn writes_to_service(step: Self::Step) -> bool;
    /// The status; `None` on an object that has none yet.
    fn status(&self) -> Option<&Self::Status>;
    /// The same, to change it.
    fn status_mut(&mut self) -> Option<&mut Self::Status>;
    /// The part of a status that both kinds have.
    fn common(status: &Self::Status) -> &CommonStatus;
    /// Id of the chatbot in the service.
    fn chatbot(&self) -> &str;
    /// `test` or `prod`, of an object that manages one.
    fn live_environment(&self) -> Option<&'static str>;
    /// What ran there, newest first.
    fn history(&self) -> &[HistoryEntry];
}
