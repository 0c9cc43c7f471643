//! Joins the cluster and the service: one pass for every kind, and what it needs around it.

mod cache;
mod collector;
mod context;
mod credentials;
mod deployment;
mod pace;
mod publish;
mod turns;
mod version;
mod watch;

pub use collector::Objects;
pub use context::{Context, Parts};
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
    plan::{Pace, Told},
};
use cache::{Key, Ref};

/// Passes over one object in a row before others get their turn.
const PASSES: usize = 16;

/// What is particular to one kind. Everything else is `pass`.
pub trait Kind:
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
    type Facts: Send + Sync;
    /// One step, in words for the log.
    type Step: Copy + Display + Send + Sync;
    /// What came of it.
    type Outcome: Send + Sync;
    /// The status.
    type Status: Serialize + Clone + PartialEq + Send + Sync;

    /// Looks at the object, what it refers to, and the service. A look that fails is a fact, too.
    fn observe(object: &Arc<Self>, context: &Context) -> impl Future<Output = Self::Facts> + Send;
    /// The next step. Pure.
    fn next(facts: &Self::Facts) -> Self::Step;
    /// Makes at most one change to the service.
    fn act(
        step: Self::Step,
        facts: &Self::Facts,
        context: &Context,
    ) -> impl Future<Output = Self::Outcome> + Send;
    /// What to say of it. Pure.
    fn tell(facts: &Self::Facts, step: Self::Step, outcome: &Self::Outcome) -> Told<Self::Status>;

    /// The same facts, but as of now and about a newer copy of the object.
    fn rebase(facts: &mut Self::Facts, object: Arc<Self>);
    /// The step changed the service, so that what came of it must be put on record.
    fn is_call(step: Self::Step) -> bool;
    /// Names the call that status has announced and nobody has made yet, if there is one.
    fn announced(status: &Self::Status) -> Option<String>;
    /// The status as it stands.
    fn status(&self) -> Option<&Self::Status>;
    /// The common part of a status.
    fn common(status: &Self::Status) -> &CommonStatus;
    /// The chatbot's id.
    fn chatbot(&self) -> &str;
    /// What others find it by.
    fn keys(&self) -> Vec<Key>;
    /// Wakes the objects that depend on this one.
    fn wake_others(&self, context: &Context);
    /// Wakes one object.
    fn wake(reference: Ref<Self>, context: &Context);
}

/// One pass: the same five lines for every kind.
async fn pass<K: Kind>(object: Arc<K>, context: &Context) -> Result<(Arc<K>, Pace), publish::Error> {
    // the object, what it refers to, the service; reads only
    let facts = K::observe(&object, context).await;
    // pure
    let step = K::next(&facts);
    // at most one change to the service
    let outcome = K::act(step, &facts, context).await;
    // pure, and server-side only if it says something new
    publish::tell_and_publish(object, facts, step, outcome, context).await
}

fn reference_to<K: Kind>(object: &K) -> Ref<K> {
    Ref::<K>::new(&object.name_any()).within(&object.namespace().unwrap_or_default())
}

/// Passes over one object until it rests.
async fn reconcile<K: Kind>(object: Arc<K>, context: Arc<Context>) -> Action {
    context.ready().await;
    let uid = object.uid().unwrap_or_default();
    if context.is_superseded(&uid, object.resource_version().as_deref()) {
        // our own last write is on its way here; a decision on the copy before it could only be wrong
        return pace::soon();
    }
    let (waker, reference) = (context.clone(), reference_to(object.as_ref()));
    let chatbot = object.chatbot().to_owned();
    let wake = move || K::wake(reference, &waker);
    let Some(_turn) = context.turns.take(&chatbot, &uid, wake).await else {
        return pace::after_others();
    };
    let mut object = object;
    for _ in 0..PASSES {
        if context.is_stopping() {
            return pace::soon();
        }
        let started = Instant::now();
        let result = pass(object.clone(), &context).await;
        context.metrics.pass(K::KIND, result.is_ok(), started.elapsed());
        match result {
            Ok((next, Pace::Again)) => object = next,
            Ok((_, pace)) => return pace::action(pace),
            Err(error) => return pace::after_error(&error),
        }
    }
    pace::soon()
}

/// Runs the passes in a task of their own: a call and its record are not torn apart when the caller goes.
async fn detached<K: Kind>(object: Arc<K>, context: Arc<Context>) -> Action {
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
        pace::soon()
    })
}
