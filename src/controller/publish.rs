//! Writes what a pass has to say: finalizer or status, and events; only if it says something new.

use std::{
    fmt::Write,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::events::{Event, EventType},
};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{Context, Kind};
use crate::{
    crd::{ConditionType, FINALIZER},
    plan::{Happened, Pace, Tally, Told},
};

/// The field manager of everything the operator writes.
pub const MANAGER: &str = "chatcaptain-operator";

const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Tries to put a call on record; together about a minute. What is lost all the same is found by its marker.
const RECORD_TRIES: u32 = 12;

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else wrote meanwhile: what was decided is void.
    #[error("the object has changed meanwhile")]
    Stale,
    /// The object is no more.
    #[error("the object is gone")]
    Gone,
    /// The API server did not take it.
    #[error("the API server did not take it: {0}")]
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

/// Tells and publishes. The record of a call is told anew of a newer copy of the object until it is written;
/// any other word is dropped when it comes too late.
pub async fn tell_and_publish<K: Kind>(
    mut object: Arc<K>,
    mut facts: K::Facts,
    step: K::Step,
    outcome: K::Outcome,
    context: &Context,
) -> Result<(Arc<K>, Pace), Error> {
    let announced = object.status().and_then(K::announced);
    if K::is_call(step) {
        // it may have taken long, and graces count from its end
        K::rebase(&mut facts, object.clone());
    }
    for attempt in 1.. {
        let told = K::tell(&facts, step, &outcome);
        for version_id in &told.orphans {
            let reason = told.events.last().map(|happened| happened.reason.as_str());
            // before the object goes: whoever dies right after has left no other trace of it
            tracing::warn!(version_id, reason, "this version may be left in the service");
        }
        let error = match write(&object, &told, context).await {
            Ok(written) => {
                done(object.as_ref(), &written, step, &told, context);
                return Ok((written, told.pace));
            }
            Err(error) => error,
        };
        if !K::is_call(step) || attempt >= RECORD_TRIES || matches!(error, Error::Gone) {
            if !matches!(error, Error::Stale) {
                tracing::warn!(%error, %step, "not written");
            }
            return Err(error);
        }
        tracing::warn!(%error, %step, attempt, "the record of a call is tried again");
        if !matches!(error, Error::Stale) {
            sleep(Duration::from_millis(100) * 2u32.pow(attempt.min(6))).await;
        }
        let Ok(newer) = read(object.as_ref(), context).await else {
            continue;
        };
        if newer.uid() != object.uid() || newer.status().and_then(K::announced) != announced {
            return Err(Error::Stale);
        }
        object = Arc::new(newer);
        K::rebase(&mut facts, object.clone());
    }
    Err(Error::Stale)
}

fn api<K: Kind>(object: &K, context: &Context) -> Api<K> {
    Api::namespaced(context.client.clone(), &object.namespace().unwrap_or_default())
}

async fn in_time<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    match timeout(WRITE_TIMEOUT, request).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Error::Cluster("no answer in time".to_owned())),
    }
}

async fn read<K: Kind>(object: &K, context: &Context) -> Result<K, Error> {
    in_time(api(object, context).get(&object.name_any())).await
}

/// Writes the finalizer or the status, with the resourceVersion that was looked at: whoever holds an older
/// copy, or has lost the lease, loses the race.
async fn write<K: Kind>(object: &Arc<K>, told: &Told<K::Status>, context: &Context) -> Result<Arc<K>, Error> {
    if told.finalizer.is_none() && object.status() == Some(&told.status) {
        return Ok(object.clone());
    }
    if !context.fence.allows_writes() {
        return Err(Error::Cluster("the lease is not held".to_owned()));
    }
    let written = match told.finalizer {
        Some(set) => write_finalizer(object.as_ref(), set, context).await,
        None => write_status(object.as_ref(), &told.status, context).await,
    };
    match written {
        Ok(mut written) => {
            written.managed_fields_mut().clear();
            let uid = object.uid().unwrap_or_default();
            context.supersede(&uid, object.resource_version(), written.resource_version().as_deref());
            Ok(Arc::new(written))
        }
        // the answer to an earlier try of this very write may have been lost
        Err(Error::Stale) => match read(object.as_ref(), context).await {
            Ok(now) if told.finalizer.is_none() && now.status() == Some(&told.status) => Ok(Arc::new(now)),
            _ => Err(Error::Stale),
        },
        Err(Error::Gone) if told.finalizer == Some(false) => Ok(object.clone()),
        Err(error) => Err(error),
    }
}

async fn write_finalizer<K: Kind>(object: &K, set: bool, context: &Context) -> Result<K, Error> {
    let patch = json!({"metadata": {
        "resourceVersion": object.resource_version(),
        "finalizers": finalizers(object, set),
    }});
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let api = api(object, context);
    in_time(api.patch(&object.name_any(), &params, &Patch::Merge(&patch))).await
}

async fn write_status<K: Kind>(object: &K, status: &K::Status, context: &Context) -> Result<K, Error> {
    let name = object.name_any();
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        // a uid would not guard the status subresource, a resourceVersion does
        "metadata": {"name": name, "resourceVersion": object.resource_version()},
        "status": status,
    });
    let params = PatchParams::apply(MANAGER).force();
    let api = api(object, context);
    let written = in_time(api.patch_status(&name, &params, &Patch::Apply(&patch))).await?;
    let types = |status: &K::Status| -> Vec<String> {
        K::common(status).conditions.iter().map(|c| c.type_.clone()).collect()
    };
    if written.status().map(types) == Some(types(status)) {
        return Ok(written);
    }
    // another manager's condition, such as that of a time when the object could not be read, goes only this way
    let patch = json!({"status": {"conditions": K::common(status).conditions}});
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    in_time(api.patch_status(&name, &params, &Patch::Merge(&patch))).await
}

fn finalizers<K: Resource>(object: &K, set: bool) -> Vec<String> {
    let mut list: Vec<String> = object.finalizers().iter().filter(|f| *f != FINALIZER).cloned().collect();
    if set {
        list.push(FINALIZER.to_owned());
    }
    list
}

/// Everything that follows from a write that went through.
fn done<K: Kind>(before: &K, after: &Arc<K>, step: K::Step, told: &Told<K::Status>, context: &Context) {
    let uid = before.uid().unwrap_or_default();
    if !K::is_call(step)
        && let Some(call) = K::announced(&told.status)
        && before.status().and_then(K::announced).as_deref() != Some(call.as_str())
    {
        context.permit(&uid, call);
    }
    log(before, step, told);
    told.tallies.iter().for_each(|tally| count(*tally, context));
    for happened in &told.events {
        emit(after, happened, context);
    }
    for _ in &told.orphans {
        context.metrics.orphan();
    }
    let ready = |status: &K::Status| K::common(status).is_true(ConditionType::Ready);
    let first =
        before.status().is_none_or(|status| K::common(status).observed_generation.is_none_or(|g| g <= 1));
    if first
        && ready(&told.status)
        && !before.status().is_some_and(ready)
        && let Some(created) = before.creation_timestamp()
    {
        let age = Timestamp::now().duration_since(created.0);
        context.metrics.ready(K::KIND, Duration::try_from(age).unwrap_or_default());
    }
}

/// Whoever reads the log alone knows what changed where, and from what to what.
fn log<K: Kind>(before: &K, step: K::Step, told: &Told<K::Status>) {
    let says = |status: &K::Status| {
        let ready = K::common(status).conditions.iter().find(|c| c.type_ == "Ready");
        ready.map(|c| (c.status.clone(), c.reason.clone(), c.message.clone()))
    };
    let now = says(&told.status);
    if told.finalizer.is_some() {
        tracing::info!("{step}");
    }
    let last = |status: &K::Status| K::common(status).last_operations.first().cloned();
    if K::is_call(step)
        && let Some(call) = last(&told.status)
        && before.status().and_then(last).as_ref() != Some(&call)
    {
        let (version_id, result, said) = (call.version_id, call.result, call.message);
        tracing::info!(version_id, ?result, said, "{step}");
    }
    for Happened { warning, reason, note } in &told.events {
        let reason = reason.as_str();
        if *warning {
            tracing::warn!(reason, "{note}");
        } else {
            tracing::info!(reason, "{note}");
        }
    }
    if now != before.status().and_then(says)
        && let Some((ready, reason, message)) = now
    {
        tracing::info!(ready, reason, "{message}");
    }
}

fn count(tally: Tally, context: &Context) {
    match tally {
        Tally::CreateRecovered => context.metrics.ambiguous_create("recovered"),
        Tally::CreateAbsent => context.metrics.ambiguous_create("absent"),
        Tally::DriftEnforced => context.metrics.drift("enforced"),
        Tally::DriftWarned => context.metrics.drift("warned"),
    }
}

/// Best effort and off the path: an event that is lost loses nothing but a line.
fn emit<K: Kind>(object: &Arc<K>, happened: &Happened, context: &Context) {
    let mut note = String::new();
    let _ = write!(note, "{:.900}", happened.note);
    // events count as one where everything but the note is alike, and another note is another event
    let start: String = happened.note.chars().filter(char::is_ascii).take(100).collect();
    let action = format!("{start} {:x}", BuildHasherDefault::<DefaultHasher>::default().hash_one(&note));
    let event = Event {
        type_: if happened.warning { EventType::Warning } else { EventType::Normal },
        reason: happened.reason.as_str().to_owned(),
        note: Some(note),
        action,
        secondary: None,
    };
    let (recorder, reference) = (context.events.clone(), object.object_ref(&()));
    context.tasks.spawn(async move {
        match timeout(WRITE_TIMEOUT, recorder.publish(&event, &reference)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "an event was not published"),
            Err(_) => tracing::debug!("an event was not published in time"),
        }
    });
}
