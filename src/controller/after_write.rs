//! What follows from a report that is written: permits, log lines, events and counters.

use std::{
    fmt::Write,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    ResourceExt,
    runtime::events::{Event, EventType},
};
use tokio::time::timeout;

use super::{Context, Reconciler, notify::notify};
use crate::{
    crd::{ConditionType, LiveEnvironment, Operation},
    plan::{CounterIncrement, NewEvent, Report, status::newly_stalled},
    sync::lock,
    telemetry::Rollout,
};

// an event that hangs must not keep its task for ever
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(30);

/// Call it after a write that succeeded.
pub fn after_write<K: Reconciler>(
    before: &K,
    after: &Arc<K>,
    step: K::Step,
    report: &Report<K::Status>,
    context: &Context,
) {
    let uid = before.uid().unwrap_or_default();
    lock(&context.call_permits).after_write(
        &uid,
        before.status(),
        &report.status,
        K::writes_to_service(step),
        Instant::now(),
    );
    log(before, step, report);
    report.counters.iter().for_each(|counter| increment(*counter, context));
    emit_events(after.as_ref(), report, context);
    let conditions = before.status().map(|status| K::common(status).conditions.as_slice());
    let stalled = newly_stalled(conditions.unwrap_or_default(), &K::common(&report.status).conditions);
    // a step that has an event of this name has said more
    let is_reported = |reason: &str| report.events.iter().any(|event| event.reason.as_str() == reason);
    if let Some(stalled) = stalled.filter(|stalled| !is_reported(&stalled.reason)) {
        emit(after.object_ref(&()), true, &stalled.reason, &stalled.message, context);
    }
    record_time_to_ready(before, report, context);
}

/// Emits the events of a report and counts its orphans.
pub fn emit_events<K: Reconciler>(object: &K, report: &Report<K::Status>, context: &Context) {
    for event in &report.events {
        emit(object.object_ref(&()), event.warning, event.reason.as_str(), &event.note, context);
        notify(object, event, context);
    }
    for _ in &report.orphans {
        context.metrics.count_orphan();
    }
}

/// Observes the age of an object that becomes Ready for the first time.
fn record_time_to_ready<K: Reconciler>(before: &K, report: &Report<K::Status>, context: &Context) {
    let ready = |status: &K::Status| K::common(status).is_true(ConditionType::Ready);
    let is_first_generation =
        before.status().is_none_or(|status| K::common(status).observed_generation.is_none_or(|g| g <= 1));
    if is_first_generation
        && ready(&report.status)
        && !before.status().is_some_and(ready)
        && let Some(created) = before.creation_timestamp()
    {
        let age = Timestamp::now().duration_since(created.0);
        context.metrics.record_time_to_ready(K::KIND, Duration::try_from(age).unwrap_or_default());
    }
}

/// Logs what changed, so that the log alone shows the history of an object.
fn log<K: Reconciler>(before: &K, step: K::Step, report: &Report<K::Status>) {
    let verdict = |status: &K::Status| {
        let ready = K::common(status).conditions.iter().find(|c| c.type_ == "Ready");
        ready.map(|c| (c.status.clone(), c.reason.clone(), c.message.clone()))
    };
    let now = verdict(&report.status);
    if report.finalizer.is_some() {
        tracing::info!("{step}");
    }
    let last = |status: &K::Status| K::common(status).last_operations.first().cloned();
    if K::writes_to_service(step)
        && let Some(call) = last(&report.status)
        && before.status().and_then(last).as_ref() != Some(&call)
    {
        let (version_id, result, detail) = (call.version_id, call.result, call.message);
        tracing::info!(version_id, ?result, detail, "{step}");
    }
    for NewEvent { warning, reason, note, .. } in &report.events {
        let reason = reason.as_str();
        if *warning {
            tracing::warn!(reason, "{note}");
        } else {
            tracing::info!(reason, "{note}");
        }
    }
    if now != before.status().and_then(verdict)
        && let Some((ready, reason, message)) = now
    {
        tracing::info!(ready, reason, "{message}");
    }
}

fn increment(counter: CounterIncrement, context: &Context) {
    match counter {
        CounterIncrement::CreateRecovered => context.metrics.count_ambiguous_create("recovered"),
        CounterIncrement::CreateAbsent => context.metrics.count_ambiguous_create("absent"),
        CounterIncrement::DuplicateFound => context.metrics.count_ambiguous_create("duplicate"),
        CounterIncrement::DriftEnforced => context.metrics.count_drift("enforced"),
        CounterIncrement::DriftWarned => context.metrics.count_drift("warned"),
        CounterIncrement::RolloutSucceeded { environment, operation, lead_time } => {
            context.metrics.count_rollout(&rollout(environment, operation, "succeeded"));
            if let Some(time) = lead_time {
                context.metrics.record_lead_time(environment.as_str(), time);
            }
        }
        CounterIncrement::RolloutFailed { environment, operation } => {
            context.metrics.count_rollout(&rollout(environment, operation, "failed"));
        }
    }
}

fn rollout(environment: LiveEnvironment, operation: Operation, result: &'static str) -> Rollout {
    let operation = if operation == Operation::Rollback { "rollback" } else { "deploy" };
    Rollout { environment: environment.as_str(), operation, result }
}

/// Publishes an event, best effort and beside the reconcile: the status says the same.
pub fn emit(object: ObjectReference, warning: bool, reason: &str, text: &str, context: &Context) {
    let mut note = String::new();
    // the API server refuses a note of more than 1024 bytes
    let _ = write!(note, "{text:.900}");
    // the recorder takes events that differ only in their note for one event, so the note becomes part of the action
    let start: String = text.chars().filter(char::is_ascii).take(100).collect();
    // an action has at most 128 characters: 100, a blank and 16 digits fit
    let action = format!("{start} {:x}", BuildHasherDefault::<DefaultHasher>::default().hash_one(&note));
    let event = Event {
        type_: if warning { EventType::Warning } else { EventType::Normal },
        reason: reason.to_owned(),
        note: Some(note),
        action,
        secondary: None,
    };
    let recorder = context.events.clone();
    // among the tasks that the shutdown waits for: the last event may be all that the cluster shows of an orphan
    context.tasks.spawn(async move {
        match timeout(PUBLISH_TIMEOUT, recorder.publish(&event, &object)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "cannot publish event"),
            Err(_) => tracing::debug!("cannot publish event within the timeout"),
        }
    });
}
