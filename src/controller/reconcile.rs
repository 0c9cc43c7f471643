//! The reconcile of one object, the same for every kind, and when it comes back.

use std::{sync::Arc, time::Duration, time::Instant};

use kube::{Resource, ResourceExt, core::NamespaceResourceScope, runtime::controller::Action};
use rand::RngExt;
use tracing::{Instrument, field};

use super::{Context, Reconciler, cache::Ref, publish, unreadable::Guarded};
use crate::plan::{RecordedTimes, Requeue};

/// Steps of one object in a row before the next object is reconciled.
// a new version takes about five: sixteen only end what never settles
const MAX_STEPS: usize = 16;
/// The longest delay: a lost event must not leave an object unreconciled for ever.
const MAX_REQUEUE: Duration = Duration::from_hours(1);
/// The shortest delay: a delay of zero would be a busy loop.
const MIN_REQUEUE: Duration = Duration::from_millis(50);

/// One step: the same five lines for every kind.
async fn reconcile_once<K: Reconciler>(
    object: Arc<K>,
    context: &Arc<Context>,
) -> Result<(Arc<K>, Requeue), publish::Error> {
    // the object, what it refers to, the service; reads only
    let observation = K::observe(&without_future_times(&object), context).await;
    // pure
    let state = K::state(&observation);
    let step = K::plan(&state);
    // for traces
    tracing::Span::current().record("step", field::display(step));
    // at most one change to the service
    let outcome = K::act(step, &observation, context).await;
    // pure, and server-side only if it says something new
    publish::report_and_publish(object, observation, state, (step, outcome), context).await
}

/// The object as it is observed: no time in its status lies in the future. What it is written over stays as it is, so that
/// the write corrects it.
pub fn without_future_times<K: Reconciler>(object: &Arc<K>) -> Arc<K> {
    let Some(corrected) = object.status().and_then(|status| status.without_future(Context::now())) else {
        return object.clone();
    };
    let mut object = K::clone(object);
    if let Some(status) = object.status_mut() {
        *status = corrected;
    }
    Arc::new(object)
}

/// Reconciles one object, step by step, until it has to wait.
async fn reconcile<K: Reconciler>(object: Arc<K>, context: Arc<Context>) -> Action {
    // before that an older object may be missing from its cache, and its claim with it
    context.cache_sync.wait_for_sync().await;
    let uid = object.uid().unwrap_or_default();
    if context.stale_reads.is_stale(&uid, object.resource_version().as_deref()) {
        // our own last write is on its way here; a decision on the copy before it could only be wrong
        return requeue_shortly();
    }
    let (queue, reference) = (context.clone(), reference_to(object.as_ref()));
    let chatbot = object.chatbot().to_owned();
    let enqueue = move || K::enqueue(reference, &queue);
    let Some(_permit) = K::permits(&context).acquire(&chatbot, &uid, enqueue) else {
        return requeue_after_others();
    };
    let mut object = object;
    for _ in 0..MAX_STEPS {
        // between two steps: one that has begun runs to its record
        if context.is_stopping() {
            return requeue_shortly();
        }
        let started = Instant::now();
        let span = tracing::debug_span!("reconcile", uid, step = field::Empty);
        let result = reconcile_once(object.clone(), &context).instrument(span).await;
        context.metrics.record_reconcile(K::KIND, result.is_ok(), started.elapsed());
        match result {
            Ok((written, Requeue::Immediately)) => object = written,
            Ok((_, requeue)) => return action(requeue),
            Err(error) => return requeue_after_error(&error),
        }
    }
    requeue_shortly()
}

/// Reconciles in a task of its own: the controller drops the futures of objects that are gone, and a call must not be
/// torn from its record.
pub async fn reconcile_in_task<K: Reconciler>(object: Arc<K>, context: Arc<Context>) -> Action {
    let span = tracing::info_span!(
        "object",
        kind = K::KIND,
        namespace = object.namespace().unwrap_or_default(),
        name = object.name_any(),
        chatbot = object.chatbot(),
    );
    let (uid, reference) = (object.uid().unwrap_or_default(), reference_to(object.as_ref()));
    let tasks = context.tasks.clone();
    let reconcile = async move {
        let action = reconcile(object, context.clone()).await;
        // deleted meanwhile, it may have been remembered after the event that forgets it
        if !K::cache(&context).contains(&reference, &uid) {
            context.forget(&uid);
        }
        action
    };
    let task = tasks.spawn(reconcile.instrument(span.clone()));
    task.await.unwrap_or_else(|error| {
        // the panic hook has printed where
        span.in_scope(|| tracing::error!(%error, "reconcile panicked; retrying"));
        requeue_shortly()
    })
}

fn reference_to<K>(object: &K) -> Ref<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone,
    Guarded<K>: Resource<DynamicType = ()>,
{
    Ref::<K>::new(&object.name_any()).within(&object.namespace().unwrap_or_default())
}

fn action(requeue: Requeue) -> Action {
    match requeue {
        Requeue::Immediately => requeue_shortly(),
        Requeue::After(delay) => Action::requeue(delay.clamp(MIN_REQUEUE, MAX_REQUEUE)),
        Requeue::OnChange => Action::requeue(MAX_REQUEUE),
    }
}

/// In a moment, after the objects that are queued already.
fn requeue_shortly() -> Action {
    Action::requeue(Duration::from_secs(1))
}

/// After the other objects of the chatbot. One of them queues this object when its permit is free; the delay is for the
/// case that the object which was queued before this one no longer exists and so frees no permit.
fn requeue_after_others() -> Action {
    Action::requeue(Duration::from_secs(15))
}

/// After a report that could not be written.
pub fn requeue_after_error(error: &publish::Error) -> Action {
    let delay = match error {
        // the watch brings the newer copy in about this time
        publish::Error::Stale => Duration::from_millis(200),
        publish::Error::Gone => MAX_REQUEUE,
        publish::Error::Cluster(_) => Duration::from_secs(3),
    };
    // up to half longer, so that an API server that is back is not asked by all at once
    Action::requeue(delay + delay.mul_f64(rand::rng().random::<f64>() / 2.0))
}
