//! Joins the cluster and the service: one pass for every kind, and what it needs around it.

mod cache;
mod context;
mod credentials;
mod deployment;
mod fair_queue;
mod metrics;
mod pace;
mod publish;
mod version;
mod watch;

pub use context::{Context, ContextConfig};
pub use metrics::ObjectMetrics;
pub use watch::{Scope, run};

use std::{
    fmt::{Debug, Display},
    sync::Arc,
    time::Instant,
};

use kube::{Resource, ResourceExt, core::NamespaceResourceScope, runtime::controller::Action};
use serde::{Serialize, de::DeserializeOwned};
use tracing::Instrument;

use crate::{
    crd::CommonStatus,
    plan::{Report, Requeue},
};
use cache::{Key, Ref};

/// Passes over one object in a row before others get their turn.
const MAX_PASSES: usize = 16;

/// What is particular to one kind. Everything else is `pass`.
pub trait Reconciler:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// Name of the kind.
    const KIND: &'static str;
    /// Everything that was looked at.
    type Observation: Send + Sync;
    /// One step, in words for the log.
    type Step: Copy + Display + Send + Sync;
    /// What came of it.
    type Outcome: Send + Sync;
    /// The status.
    type Status: Serialize + Clone + PartialEq + Send + Sync;

    /// Looks at the object, what it refers to, and the service. A look that fails is a fact, too.
    fn observe(object: &Arc<Self>, context: &Context) -> impl Future<Output = Self::Observation> + Send;
    /// The next step. Pure.
    fn plan(facts: &Self::Observation) -> Self::Step;
    /// Makes at most one change to the service.
    fn act(
        step: Self::Step,
        facts: &Self::Observation,
        context: &Context,
    ) -> impl Future<Output = Self::Outcome> + Send;
    /// What to say of it. Pure.
    fn report(facts: &Self::Observation, step: Self::Step, outcome: &Self::Outcome) -> Report<Self::Status>;

    /// The same facts, but as of now and about a newer copy of the object.
    fn refresh_object(facts: &mut Self::Observation, object: Arc<Self>);
    /// The step changed the service, so that what came of it must be put on record.
    fn writes_to_service(step: Self::Step) -> bool;
    /// Names the call that status has announced and nobody has made yet, if there is one.
    fn pending_call(status: &Self::Status) -> Option<String>;
    /// The status as it stands.
    fn status(&self) -> Option<&Self::Status>;
    /// The common part of a status.
    fn common(status: &Self::Status) -> &CommonStatus;
    /// The chatbot's id.
    fn chatbot(&self) -> &str;
    /// What others find it by.
    fn keys(&self) -> Vec<Key>;
    /// Wakes the objects that depend on this one.
    fn enqueue_dependents(&self, context: &Context);
    /// Wakes one object.
    fn enqueue(reference: Ref<Self>, context: &Context);
}

/// One pass: the same five lines for every kind.
async fn reconcile_once<K: Reconciler>(
    object: Arc<K>,
    context: &Context,
) -> Result<(Arc<K>, Requeue), publish::Error> {
    // the object, what it refers to, the service; reads only
    let facts = K::observe(&object, context).await;
    // pure
    let step = K::plan(&facts);
    // at most one change to the service
    let outcome = K::act(step, &facts, context).await;
    // pure, and server-side only if it says something new
    publish::report_and_publish(object, facts, step, outcome, context).await
}

fn reference_to<K: Reconciler>(object: &K) -> Ref<K> {
    Ref::<K>::new(&object.name_any()).within(&object.namespace().unwrap_or_default())
}

/// Passes over one object until it rests.
async fn reconcile<K: Reconciler>(object: Arc<K>, context: Arc<Context>) -> Action {
    context.ready().await;
    let uid = object.uid().unwrap_or_default();
    if context.is_stale(&uid, object.resource_version().as_deref()) {
        // our own last write is on its way here; a decision on the copy before it could only be wrong
        return pace::requeue_shortly();
    }
    let (waker, reference) = (context.clone(), reference_to(object.as_ref()));
    let chatbot = object.chatbot().to_owned();
    let wake = move || K::enqueue(reference, &waker);
    let Some(_turn) = context.fair_queue.acquire(&chatbot, &uid, wake).await else {
        return pace::requeue_after_others();
    };
    let mut object = object;
    for _ in 0..MAX_PASSES {
        if context.is_stopping() {
            return pace::requeue_shortly();
        }
        let started = Instant::now();
        let result = reconcile_once(object.clone(), &context).await;
        context.metrics.record_reconcile(K::KIND, result.is_ok(), started.elapsed());
        match result {
            Ok((next, Requeue::Immediately)) => object = next,
            Ok((_, pace)) => return pace::action(pace),
            Err(error) => return pace::requeue_after_error(&error),
        }
    }
    pace::requeue_shortly()
}

/// Runs the passes in a task of their own: a call and its record are not torn apart when the caller goes.
async fn reconcile_in_task<K: Reconciler>(object: Arc<K>, context: Arc<Context>) -> Action {
    let span = tracing::info_span!(
        "object",
        kind = K::KIND,
        namespace = object.namespace().unwrap_or_default(),
        name = object.name_any(),
        chatbot = object.chatbot(),
    );
    let task = context.tasks.spawn(reconcile(object, context.clone()).instrument(span.clone()));
    task.await.unwrap_or_else(|error| {
        // the panic hook has told where
        span.in_scope(|| tracing::error!(%error, "a pass broke off; it is begun anew"));
        pace::requeue_shortly()
    })
}
