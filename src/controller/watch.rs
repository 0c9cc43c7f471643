//! Watches both kinds and the Secrets, and runs the passes that they cause.

use std::{fmt::Debug, sync::Arc};

use futures::{
    Stream, StreamExt, TryStreamExt,
    channel::mpsc::{UnboundedReceiver, unbounded},
    future::{join, join_all, ready},
    stream,
};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::{NamespaceResourceScope, PartialObjectMeta},
    runtime::{
        Config, Controller, WatchStreamExt,
        controller::Action,
        reflector::{self, Store},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    Context, Kind,
    cache::{Cache, Guarded, Key, Ref, slim},
    detached,
    publish::MANAGER,
};
use crate::{
    crd::{ChatbotDeployment, ChatbotVersion},
    plan::{status::unreadable, whole},
};

/// Which objects are looked at.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Only these namespaces; none: all.
    pub namespaces: Vec<String>,
    /// Only objects with these labels.
    pub selector: Option<String>,
    /// Passes at a time.
    pub concurrency: usize,
}

impl Scope {
    fn parts(&self) -> Vec<Option<&str>> {
        match self.namespaces.as_slice() {
            [] => vec![None],
            some => some.iter().map(|namespace| Some(namespace.as_str())).collect(),
        }
    }
}

/// Runs until `stop`; returns when every pass has ended.
pub async fn run(context: Arc<Context>, scope: Scope, stop: CancellationToken) {
    context.expect_caches(2 * scope.parts().len());
    let (versions, deployments): (Vec<_>, Vec<_>) = scope
        .parts()
        .into_iter()
        .map(|namespace| {
            let (wake_versions, woken_versions) = unbounded();
            let (wake_deployments, woken_deployments) = unbounded();
            context.add_wakers(wake_versions, wake_deployments);
            (
                controller::<ChatbotVersion>(&context, &scope, namespace, woken_versions, &stop, |c| {
                    &c.versions
                }),
                controller::<ChatbotDeployment>(&context, &scope, namespace, woken_deployments, &stop, |c| {
                    &c.deployments
                }),
            )
        })
        .unzip();
    let secrets =
        scope.parts().into_iter().map(|namespace| follow_secrets(&context, namespace, stop.clone()));
    let secrets: Vec<_> = secrets.collect();
    join(join(join_all(versions), join_all(deployments)), join_all(secrets)).await;
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

fn watched(scope: &Scope) -> watcher::Config {
    let config = watcher::Config::default().any_semantic();
    match &scope.selector {
        Some(selector) => config.labels(selector),
        None => config,
    }
}

/// The controller of one kind in one namespace, as a future that ends after `stop`.
fn controller<K: Kind>(
    context: &Arc<Context>,
    scope: &Scope,
    namespace: Option<&str>,
    woken: UnboundedReceiver<Ref<K>>,
    stop: &CancellationToken,
    cache: fn(&Context) -> &Cache<K>,
) -> impl Future<Output = ()> + Send + use<K> {
    let (store, writer) = reflector::store::<Guarded<K>>();
    cache(context).add(store.clone());
    let (follower, filled) = (context.clone(), store.clone());
    let mut filling = true;
    let objects = events(scoped::<Guarded<K>>(&context.client, namespace), watched(scope))
        .default_backoff()
        .modify(slim)
        .reflect(writer)
        .map_ok(move |event| {
            cache(&follower).follow(&event, &filled);
            wake_others(&event, &follower);
            let mut all = Vec::new();
            if matches!(event, watcher::Event::InitDone) {
                if std::mem::take(&mut filling) {
                    follower.cache_is_full();
                    all = filled.state();
                } else {
                    follower.begin_anew();
                }
            }
            stream::iter(touched(event).into_iter().chain(all.into_iter().map(Arc::unwrap_or_clone))).map(Ok)
        })
        .try_flatten();
    Controller::for_stream(without_errors(K::KIND, objects), store as Store<Guarded<K>>)
        .reconcile_on(woken)
        .with_config(Config::default().concurrency(u16::try_from(scope.concurrency).unwrap_or(u16::MAX)))
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(one, |_, never: &std::convert::Infallible, _| match *never {}, context.clone())
        .for_each(|result| {
            if let Err(error) = result {
                tracing::debug!(%error, "controller");
            }
            ready(())
        })
}

/// One look at one object, or at the reason why it cannot be read.
async fn one<K: Kind>(
    object: Arc<Guarded<K>>,
    context: Arc<Context>,
) -> Result<Action, std::convert::Infallible> {
    Ok(match &object.0 {
        Ok(object) => detached(Arc::new(object.clone()), context).await,
        Err(invalid) => {
            let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
            tracing::error!(kind = K::KIND, namespace, name, error = %invalid.error, "the object cannot be read");
            report_unreadable::<K>(&object, &invalid.error, &context).await;
            Action::await_change()
        }
    })
}

/// Says on the object itself that it cannot be read; the others go on.
async fn report_unreadable<K: Kind>(object: &Guarded<K>, error: &str, context: &Context) {
    let meta = object.meta();
    let status = unreadable(meta, error, whole(Context::now()).0);
    let patch = json!({"metadata": {"resourceVersion": meta.resource_version}, "status": status});
    let api: Api<PartialObjectMeta<K>> =
        Api::namespaced(context.client.clone(), meta.namespace.as_deref().unwrap_or_default());
    let name = meta.name.as_deref().unwrap_or_default();
    // no apply: that would leave other conditions beside these, and take away the ids that are recorded
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    if let Err(error) = api.patch_status(name, &params, &Patch::Merge(&patch)).await {
        tracing::debug!(%error, "not written");
    }
}

/// Wakes whoever depends on what changed, and forgets what is gone.
fn wake_others<K: Kind>(event: &watcher::Event<Guarded<K>>, context: &Context) {
    let (watcher::Event::Apply(object) | watcher::Event::InitApply(object) | watcher::Event::Delete(object)) =
        event
    else {
        return;
    };
    if let watcher::Event::Delete(object) = event {
        context.forget(&object.uid().unwrap_or_default());
    }
    // before that everything is looked at anyway
    if let Ok(object) = &object.0
        && context.are_caches_full()
    {
        object.wake_others(context);
    }
}

/// Secrets by name alone: no payload is transferred or kept.
async fn follow_secrets(context: &Arc<Context>, namespace: Option<&str>, stop: CancellationToken) {
    let secrets = events(
        scoped::<PartialObjectMeta<Secret>>(&context.client, namespace),
        watcher::Config::default().any_semantic(),
    )
    .default_backoff();
    let changed = without_errors("Secret", secrets).take_until(stop.cancelled_owned());
    let wake = |namespace: &str, name: &str| {
        context.wake_versions(Key::secret(namespace, name));
        context.wake_deployments(Key::secret(namespace, name));
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
                    context.credentials.forget(&namespace, &name);
                    wake(&namespace, &name);
                }
                // of one that is gone no event will tell
                Ok(watcher::Event::Init) => {
                    for (namespace, name) in context.credentials.forget_all(namespace) {
                        wake(&namespace, &name);
                    }
                }
                _ => {}
            }
            ready(())
        })
        .await;
}

/// The object to look at after an event; those of a list are looked at when the store has all of them.
fn touched<K>(event: watcher::Event<K>) -> Option<K> {
    match event {
        watcher::Event::Apply(object) | watcher::Event::Delete(object) => Some(object),
        watcher::Event::Init | watcher::Event::InitApply(_) | watcher::Event::InitDone => None,
    }
}

/// What happens, from a list on, and from another one whenever the watch broke. `watcher` would resume where it broke;
/// after a restore of etcd that revision is still to come, and it would wait for it without end.
fn events<K>(
    api: Api<K>,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let begin = move || watcher(api.clone(), config.clone()).boxed();
    stream::unfold((begin(), None, begin), |(mut events, mut held, begin)| async {
        if let Some(event) = held.take() {
            return Some((event, (events, held, begin)));
        }
        let mut event = events.next().await?;
        if matches!(event, Ok(watcher::Event::Init)) {
            // said before anything was asked: taken for a success, it would end every backoff
            let answer = events.next().await?;
            if answer.is_ok() {
                held = Some(answer);
            } else {
                event = answer;
            }
        }
        if event.is_err() {
            events = begin();
        }
        Some((event, (events, held, begin)))
    })
}

/// Each watch backs off by itself; the controller, which would pause all of them, need not know.
fn without_errors<K: Send + 'static>(
    what: &'static str,
    stream: impl Stream<Item = watcher::Result<K>> + Send + 'static,
) -> impl Stream<Item = watcher::Result<K>> + Send + 'static {
    let mut complaint = None;
    stream.filter_map(move |result| {
        ready(match result {
            Ok(object) => {
                complaint = None;
                Some(Ok(object))
            }
            Err(error) => {
                let error = error.to_string();
                if complaint.as_ref() != Some(&error) {
                    tracing::warn!(what, %error, "the watch broke; it is begun anew");
                }
                complaint = Some(error);
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
    use tokio::time::timeout;

    use super::*;

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
        let secrets = events(Api::<Secret>::all(client), watcher::Config::default()).default_backoff();
        timeout(Duration::from_mins(10), secrets.for_each(|_| ready(()))).await.unwrap_err();
        // twenty at the longest pause of half a minute, and those before it
        let requests = requests.load(Ordering::SeqCst);
        assert!((15..40).contains(&requests), "{requests}");
    }
}
