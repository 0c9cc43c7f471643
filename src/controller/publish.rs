//! Writes a report to the object, finalizer or status; only if it says something new.
//!
//! A write carries the resourceVersion that the decision was based on: a replica that decided on an older copy, or has lost
//! the lease meanwhile, loses the race and decides again.

use std::{fmt::Debug, sync::Arc, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    core::NamespaceResourceScope,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{
    Context, Reconciler,
    after_write::{after_write, emit_events},
    cache::strip_unused_fields,
    reconcile::without_future_times,
};
use crate::{
    backoff::Backoff,
    crd::FINALIZER,
    plan::{EventReason, Report, Requeue, call_permits::HasPendingCall},
};

/// The field manager of everything that the operator writes.
pub const FIELD_MANAGER: &str = "chatcaptain-operator";

/// A request that hangs must not keep its reconcile permit for ever.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Attempts to record the outcome of a call, over about a minute. After that a version is found by its marker.
const MAX_RECORD_ATTEMPTS: u32 = 12;
// short at first, for a hiccup; the longest fits a restart of the API server into the attempts
const RECORD_BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_millis(6400));

/// What a write to an object of ours returns.
pub trait Namespaced:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug
{
}

impl<K> Namespaced for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug
{
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another writer was faster: the decision was based on an older copy.
    #[error("the object has changed since it was read")]
    Stale,
    /// The object no longer exists.
    #[error("the object no longer exists")]
    Gone,
    /// The API server cannot be reached or refuses the write, or this replica is not the leader.
    #[error("cannot write to the API server: {0}")]
    Cluster(String),
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.is_conflict() => Self::Stale,
            kube::Error::Api(status) if status.is_not_found() => Self::Gone,
            error => Self::Cluster(error.to_string()),
        }
    }
}

/// Reports and publishes. The outcome of a call must be recorded whatever happens, so its report is repeated on newer
/// copies of the object until it is written: the object may have changed while the call was under way. Any other report is
/// dropped when the object has changed: it was decided on an older copy. One loop, however long: each attempt depends on how
/// the one before it failed.
pub async fn report_and_publish<K: Reconciler>(
    mut object: Arc<K>,
    mut observation: K::Observation,
    mut state: K::State,
    (step, outcome): (K::Step, K::Outcome),
    context: &Context,
) -> Result<(Arc<K>, Requeue), Error> {
    let is_call = K::writes_to_service(step);
    if is_call {
        // the call may have taken long, and graces count from its end
        state = refresh(&mut observation, &object);
    }
    for attempt in 1.. {
        let report = K::report(&observation, &state, step, &outcome);
        log_orphans_of(&report);
        let error = match write(&object, &report, context).await {
            Ok(written) => {
                after_write(object.as_ref(), &written, step, &report, context);
                return Ok((written, report.requeue));
            }
            Err(error) => error,
        };
        if !is_call || attempt >= MAX_RECORD_ATTEMPTS || matches!(error, Error::Gone) {
            if !matches!(error, Error::Stale) {
                tracing::warn!(%error, %step, "cannot update object");
            }
            if matches!(error, Error::Gone) {
                report_left_behind(object.as_ref(), &observation, &outcome, context);
            }
            return Err(error);
        }
        tracing::warn!(%error, %step, attempt, "cannot record the outcome of a call; retrying");
        // after a conflict the newer copy is all that is needed
        let pause =
            if matches!(error, Error::Stale) { Duration::ZERO } else { RECORD_BACKOFF.delay(attempt) };
        sleep(pause).await;
        if let Some(newer) = newer_copy(&object, context).await? {
            object = newer;
            state = refresh(&mut observation, &object);
        }
    }
    Err(Error::Stale)
}

/// The object has gone during its call, so only events and the log can name what the call has left in the service.
fn report_left_behind<K: Reconciler>(
    object: &K,
    observation: &K::Observation,
    outcome: &K::Outcome,
    context: &Context,
) {
    if let Some(report) = K::left_behind(observation, outcome) {
        log_orphans_of(&report);
        emit_events(object, &report, context);
    }
}

fn refresh<K: Reconciler>(observation: &mut K::Observation, object: &Arc<K>) -> K::State {
    K::refresh_object(observation, without_future_times(object));
    K::state(observation)
}

fn log_orphans_of<S>(report: &Report<S>) {
    if let Some(event) = report.events.last() {
        log_orphans(&report.orphans, event.reason);
    }
}

/// Before the finalizer is removed: if the process dies right after that, this line is all that names the version.
pub fn log_orphans(ids: &[String], reason: EventReason) {
    for version_id in ids {
        tracing::warn!(version_id, reason = reason.as_str(), "version may be left in the service");
    }
}

/// The object as it is now, if it can be read. The outcome does not belong to an object with another pending call.
async fn newer_copy<K: Reconciler>(object: &Arc<K>, context: &Context) -> Result<Option<Arc<K>>, Error> {
    let Ok(newer) = read(object.as_ref(), context).await else {
        // while it cannot be read the write is tried again on the copy at hand: its resourceVersion protects a newer
        // one
        return Ok(None);
    };
    let pending_call = |object: &K| object.status().and_then(HasPendingCall::pending_call);
    if newer.uid() != object.uid() || pending_call(&newer) != pending_call(object) {
        return Err(Error::Stale);
    }
    Ok(Some(Arc::new(newer)))
}

fn api<K: Namespaced>(meta: &ObjectMeta, context: &Context) -> Api<K> {
    Api::namespaced(context.client.clone(), meta.namespace.as_deref().unwrap_or_default())
}

async fn with_timeout<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    match timeout(WRITE_TIMEOUT, request).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Error::Cluster("no answer within the timeout".to_owned())),
    }
}

async fn read<K: Reconciler>(object: &K, context: &Context) -> Result<K, Error> {
    with_timeout(api(object.meta(), context).get(&object.name_any())).await
}

/// Sends a write, if this process may write.
async fn send<T>(request: impl Future<Output = kube::Result<T>>, context: &Context) -> Result<T, Error> {
    if !context.fence.allows_writes() {
        return Err(Error::Cluster("this replica is no longer the leader".to_owned()));
    }
    with_timeout(request).await
}

/// Writes the finalizer or the status, if this process may write.
async fn write<K: Reconciler>(
    object: &Arc<K>,
    report: &Report<K::Status>,
    context: &Context,
) -> Result<Arc<K>, Error> {
    let changes_metadata = report.finalizer.is_some() || report.annotation_to_remove.is_some();
    if !changes_metadata && object.status() == Some(&report.status) {
        return Ok(object.clone());
    }
    let _permit = K::permits(context).write_permit().await;
    let written = match (report.finalizer, report.annotation_to_remove) {
        (Some(set), _) => write_finalizer::<K>(object.meta(), set, context).await,
        (None, Some(annotation)) => remove_annotation::<K>(object.meta(), annotation, context).await,
        (None, None) => write_status::<K>(object.meta(), &report.status, context).await,
    };
    match written {
        Ok(mut written) => {
            // the copy goes on to the next step
            strip_unused_fields::<K>(written.meta_mut());
            let uid = object.uid().unwrap_or_default();
            context.stale_reads.mark_stale(
                &uid,
                object.resource_version(),
                written.resource_version().as_deref(),
            );
            Ok(Arc::new(written))
        }
        // the answer to an earlier attempt at this very write may have been lost
        Err(Error::Stale) => match read(object.as_ref(), context).await {
            Ok(now) if !changes_metadata && now.status() == Some(&report.status) => Ok(Arc::new(now)),
            _ => Err(Error::Stale),
        },
        // without its last finalizer it disappears, by this write or by one whose answer was lost
        Err(Error::Gone) if report.finalizer == Some(false) => Ok(object.clone()),
        Err(error) => Err(error),
    }
}

/// Adds or removes the finalizer.
pub async fn write_finalizer<K: Namespaced>(
    meta: &ObjectMeta,
    set: bool,
    context: &Context,
) -> Result<K, Error> {
    // the whole list is replaced: only the resourceVersion keeps another controller's finalizer from being undone
    patch_metadata(meta, json!({"finalizers": finalizers(meta, set)}), context).await
}

async fn remove_annotation<K: Namespaced>(
    meta: &ObjectMeta,
    name: &str,
    context: &Context,
) -> Result<K, Error> {
    patch_metadata(meta, json!({"annotations": {name: null}}), context).await
}

async fn patch_metadata<K: Namespaced>(
    meta: &ObjectMeta,
    mut change: serde_json::Value,
    context: &Context,
) -> Result<K, Error> {
    change["resourceVersion"] = json!(meta.resource_version);
    let patch = json!({"metadata": change});
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let (api, name) = (api(meta, context), meta.name.as_deref().unwrap_or_default());
    send(api.patch(name, &params, &Patch::Merge(&patch)), context).await
}

/// Replaces the whole status, also fields that another manager owns: a patch cannot remove those, and what a restore left
/// there would come back for ever. Metadata and spec stay as they are in the cluster.
pub async fn write_status<K: Namespaced>(
    meta: &ObjectMeta,
    status: &(impl Serialize + Sync),
    context: &Context,
) -> Result<K, Error> {
    let body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        // no managedFields: an empty list would reset those of all managers
        "metadata": {"name": meta.name, "uid": meta.uid, "resourceVersion": meta.resource_version},
        "status": status,
    });
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let (api, name) = (api(meta, context), meta.name.as_deref().unwrap_or_default());
    send(api.replace_subresource("status", name, &params, &body), context).await
}

fn finalizers(meta: &ObjectMeta, set: bool) -> Vec<String> {
    let mut list: Vec<String> =
        meta.finalizers.iter().flatten().filter(|finalizer| *finalizer != FINALIZER).cloned().collect();
    if set {
        list.push(FINALIZER.to_owned());
    }
    list
}
