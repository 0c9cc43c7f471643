//! Watches both kinds and the Secrets, and runs the controllers.

use std::{collections::BTreeSet, fmt::Debug, sync::Arc, time::Duration};

use futures::{
    Stream, StreamExt, TryStreamExt,
    channel::mpsc::UnboundedReceiver,
    future::{join_all, join3, ready},
    stream,
};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{NamespaceResourceScope, PartialObjectMeta},
    runtime::{
        Config, Controller, WatchStreamExt,
        controller::Action,
        reflector::{self, Store},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    Context, Indexed, Reconciler,
    cache::{IndexKey, Ref, strip_unused_fields},
    fair_queue::under_way,
    reconcile::reconcile_in_task,
    unknown_annotations::report_unknown_annotations,
    unreadable::{Guarded, reconcile_unreadable},
};
use crate::{
    crd::{ChatbotDeployment, ChatbotVersion},
    network::describe,
};

/// Between two heartbeats of a controller.
const HEARTBEAT_PERIOD: Duration = Duration::from_secs(30);

/// Which objects are reconciled.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Only objects in these namespaces; empty: in all.
    pub namespaces: Vec<String>,
    /// Only objects that this label selector matches.
    pub selector: Option<String>,
    /// How many objects are reconciled at the same time.
    pub concurrency: usize,
}

impl Scope {
    /// Each namespace once: two watches of one namespace would be two controllers of one object.
    fn namespaces(&self) -> Vec<Option<&str>> {
        let distinct: BTreeSet<&str> = self.namespaces.iter().map(String::as_str).collect();
        if distinct.is_empty() { vec![None] } else { distinct.into_iter().map(Some).collect() }
    }
}

/// Runs until `stop`; returns when every reconcile has ended.
pub async fn run(context: Arc<Context>, scope: Scope, stop: CancellationToken) {
    let namespaces = scope.namespaces();
    // before a watch begins, or its first list is not counted; the Secrets are not waited for, because a key is read
    // when it is needed
    context.cache_sync.expect(2 * namespaces.len());
    let versions = namespaces.iter().map(|namespace| {
        let queue = context.version_queues.add();
        controller::<ChatbotVersion>(&context, &scope, *namespace, queue, &stop)
    });
    let deployments = namespaces.iter().map(|namespace| {
        let queue = context.deployment_queues.add();
        controller::<ChatbotDeployment>(&context, &scope, *namespace, queue, &stop)
    });
    let watched = if context.credentials.are_watched() { &namespaces[..] } else { &[] };
    let secrets = watched.iter().map(|namespace| watch_secrets(&context, *namespace, stop.clone()));
    join3(join_all(versions), join_all(deployments), join_all(secrets)).await;
}

fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

fn watcher_config(scope: &Scope) -> watcher::Config {
    // in pages, which the API server sends only of its newest state: ten thousand objects in one answer, at the start and
    // after each outage, would take as much memory again
    let config = watcher::Config::default();
    match &scope.selector {
        Some(selector) => config.labels(selector),
        None => config,
    }
}

/// The controller of one kind in one namespace (or in all), as a future that ends after `stop`.
fn controller<K: Reconciler>(
    context: &Arc<Context>,
    scope: &Scope,
    namespace: Option<&str>,
    queue: UnboundedReceiver<Ref<K>>,
    stop: &CancellationToken,
) -> impl Future<Output = ()> + Send + use<K> {
    let (store, writer) = reflector::store::<Guarded<K>>();
    K::cache(context).add(store.clone());
    let events = restarting_watch(scoped::<Guarded<K>>(&context.client, namespace), watcher_config(scope))
        .default_backoff()
        // before the store, which keeps what it is given
        .modify(|object| object.each_meta_mut(strip_unused_fields::<K>))
        .reflect(writer);
    let objects = objects_to_reconcile(events, context.clone(), store.clone());
    let name = namespace.map_or(K::KIND.to_owned(), |namespace| format!("{} in {namespace}", K::KIND));
    let observed = context.clone();
    Controller::for_stream(log_errors(K::KIND, objects), store as Store<Guarded<K>>)
        .reconcile_on(stream::select(queue, heartbeats()))
        .with_config(
            Config::default().concurrency(u16::try_from(under_way(scope.concurrency)).unwrap_or(u16::MAX)),
        )
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(reconcile_guarded, |_, never: &std::convert::Infallible, _| match *never {}, context.clone())
        .for_each(move |result| {
            // before that every reconcile waits for the caches, which no restart fills
            if observed.cache_sync.has_synced() {
                observed.liveness.controller_finished(&name, observed.wedged_after);
            }
            // about the queue, such as an object that is gone by the time it is due; a reconcile logs its own errors
            if let Err(error) = result {
                tracing::trace!(%error, "controller error");
            }
            ready(())
        })
}

/// Refers, again and again, to an object that no namespace has: a controller that works finishes it at once, also while
/// nothing changes.
fn heartbeats<K: Indexed>() -> impl Stream<Item = Ref<K>> + Send {
    stream::unfold((), |()| async {
        sleep(HEARTBEAT_PERIOD).await;
        Some((Ref::<K>::new("heartbeat"), ()))
    })
}

/// Updates the index and queues dependents with each event of a watch, and yields what is to be reconciled: the object of
/// an event, everything after the first list. (After a later list `handle_relist` queues everything.)
fn objects_to_reconcile<K: Reconciler>(
    events: impl Stream<Item = watcher::Result<watcher::Event<Guarded<K>>>> + Send + 'static,
    context: Arc<Context>,
    store: Store<Guarded<K>>,
) -> impl Stream<Item = watcher::Result<Guarded<K>>> + Send + 'static {
    let mut is_first_list = true;
    events
        .map_ok(move |event| {
            // the index first: dependents find this object by it
            K::cache(&context).apply(&event, &store);
            enqueue_dependents(&event, &context);
            report_unknown_annotations(&event, is_first_list, &context);
            let mut all = Vec::new();
            if matches!(event, watcher::Event::InitDone) {
                if std::mem::take(&mut is_first_list) {
                    context.cache_sync.mark_synced();
                    all = store.state();
                } else {
                    context.handle_relist();
                }
            }
            let all = all.into_iter().map(Arc::unwrap_or_clone);
            stream::iter(object_to_reconcile(event).into_iter().chain(all)).map(Ok)
        })
        .try_flatten()
}

/// Reconciles an object, or reports in its status why it does not fit its schema.
async fn reconcile_guarded<K: Reconciler>(
    object: Arc<Guarded<K>>,
    context: Arc<Context>,
) -> Result<Action, std::convert::Infallible> {
    Ok(match &object.0 {
        Ok(readable) => reconcile_in_task(Arc::new(readable.clone()), context).await,
        Err(unreadable) => reconcile_unreadable(&object, unreadable, &context).await,
    })
}

/// Queues the objects that depend on the one that changed, and forgets one that was deleted.
fn enqueue_dependents<K: Indexed>(event: &watcher::Event<Guarded<K>>, context: &Context) {
    let (watcher::Event::Apply(object) | watcher::Event::InitApply(object) | watcher::Event::Delete(object)) =
        event
    else {
        return;
    };
    if let watcher::Event::Delete(object) = event {
        context.forget(&object.uid().unwrap_or_default());
    }
    // before the caches have their first list, everything is reconciled anyway
    if let Some(object) = object.claimant()
        && context.cache_sync.has_synced()
    {
        object.enqueue_dependents(context);
    }
}

/// Watches the metadata of Secrets: no payload is transferred or kept.
async fn watch_secrets(context: &Arc<Context>, namespace: Option<&str>, stop: CancellationToken) {
    let secrets = restarting_watch(
        scoped::<PartialObjectMeta<Secret>>(&context.client, namespace),
        watcher::Config::default(),
    )
    .default_backoff();
    let changed = log_errors("Secret", secrets).take_until(stop.cancelled_owned());
    let enqueue = |namespace: &str, name: &str| {
        context.enqueue_versions(IndexKey::secret(namespace, name));
        context.enqueue_deployments(IndexKey::secret(namespace, name));
    };
    changed
        .for_each(|event| {
            match event {
                Ok(
                    watcher::Event::Apply(secret)
                    | watcher::Event::InitApply(secret)
                    | watcher::Event::Delete(secret),
                ) => {
                    let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
                    // first: an object that is queued before it finds the old key
                    for key in context.credentials.invalidate(&namespace, &name) {
                        context.accounts.retry_now(&key);
                    }
                    enqueue(&namespace, &name);
                }
                // a Secret that was deleted while the watch was broken brings no event
                Ok(watcher::Event::Init) => {
                    for (namespace, name) in context.credentials.invalidate_all(namespace) {
                        enqueue(&namespace, &name);
                    }
                }
                _ => {}
            }
            ready(())
        })
        .await;
}

/// The object of an event; those of a list are reconciled once the store has all of them.
fn object_to_reconcile<K>(event: watcher::Event<K>) -> Option<K> {
    match event {
        watcher::Event::Apply(object) | watcher::Event::Delete(object) => Some(object),
        watcher::Event::Init | watcher::Event::InitApply(_) | watcher::Event::InitDone => None,
    }
}

/// A watch that begins with a list, and with another one whenever it broke. `watcher` alone would resume at the revision
/// where it broke; after a restore of etcd that revision is in the future, and it would wait for it without end.
fn restarting_watch<K>(
    api: Api<K>,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let begin = move || watcher(api.clone(), config.clone()).boxed();
    stream::unfold((begin(), None, begin), |(mut events, mut second, begin)| async {
        if let Some(event) = second.take() {
            return Some((event, (events, second, begin)));
        }
        let mut event = events.next().await?;
        if matches!(event, Ok(watcher::Event::Init)) {
            // `Init` comes before any request: taken for a success, it would reset every backoff
            let answer = events.next().await?;
            if answer.is_ok() {
                second = Some(answer);
            } else {
                event = answer;
            }
        }
        if event.is_err() {
            events = begin();
        }
        Some((event, (events, second, begin)))
    })
}

/// Logs errors, each once in a row, and drops them: every watch backs off by itself, while an error that reaches the
/// controller would pause all.
fn log_errors<K: Send + 'static>(
    kind: &'static str,
    stream: impl Stream<Item = watcher::Result<K>> + Send + 'static,
) -> impl Stream<Item = watcher::Result<K>> + Send + 'static {
    let mut reported = None;
    stream.filter_map(move |result| {
        ready(match result {
            Ok(object) => {
                reported = None;
                Some(Ok(object))
            }
            Err(error) => {
                let error = describe(&error);
                if reported.as_ref() != Some(&error) {
                    tracing::warn!(kind, %error, "watch failed; listing again");
                }
                reported = Some(error);
                None
            }
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };

    use axum::{
        Router,
        http::{StatusCode, Uri},
        response::IntoResponse,
    };
    use serde_json::json;
    use tokio::time::timeout;

    use super::*;

    #[test]
    fn namespace_that_is_named_twice_is_watched_once() {
        let scope = Scope { namespaces: ["b", "a", "b"].map(str::to_owned).to_vec(), ..Scope::default() };
        assert_eq!(scope.namespaces(), [Some("a"), Some("b")]);
        assert_eq!(Scope::default().namespaces(), [None]);
    }

    /// An API server that lists once, and fails ever after.
    #[tokio::test(start_paused = true)]
    async fn failing_api_server_is_polled_with_backoff() {
        let requests = Arc::new(AtomicU32::new(0));
        let count = requests.clone();
        let answer = async move |uri: Uri| {
            let list = json!({"kind": "SecretList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []});
            let is_watch = uri.query().is_some_and(|query| query.contains("watch="));
            if count.fetch_add(1, Ordering::SeqCst) == 0 {
                assert!(!is_watch);
                return list.to_string().into_response();
            }
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        };
        let client = Client::new(Router::new().fallback(answer), "default");
        let secrets =
            restarting_watch(Api::<Secret>::all(client), watcher::Config::default()).default_backoff();
        timeout(Duration::from_mins(10), secrets.for_each(|_| ready(()))).await.unwrap_err();
        // twenty at the longest pause of half a minute, and those before it
        let requests = requests.load(Ordering::SeqCst);
        assert!((15..40).contains(&requests), "{requests}");
    }
}
