//! What holds for every status of either kind, and the part of a status that decides what happens next.

use std::hash::{DefaultHasher, Hash};

use chatcaptain_operator::{
    crd::{CommonStatus, FINALIZER, annotation},
    plan::annotation_value,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::explore::{Violation, invariant};

/// Ages beyond this, in seconds, make no difference to anything.
const OLD: i64 = 99;

/// A point in time.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// Seconds since `time`, as far as they make a difference.
pub fn age(time: &Time, now: i64) -> i64 {
    (now - time.0.as_second()).clamp(-OLD, OLD)
}

/// The finalizer of another controller.
pub const OTHER: &str = "example.com/other";

/// Whether our finalizer is there.
pub fn has_finalizer(meta: &ObjectMeta) -> bool {
    meta.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

/// Our finalizer is set or removed.
pub fn set_finalizer(meta: &mut ObjectMeta, set: bool) {
    let list = meta.finalizers.get_or_insert_default();
    list.retain(|finalizer| finalizer != FINALIZER);
    list.extend(set.then(|| FINALIZER.to_owned()));
}

/// Whether the API server removes the object: it is being deleted and has no finalizer.
pub fn is_free_to_go(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some() && meta.finalizers.iter().flatten().next().is_none()
}

/// Whether a condition is True.
pub fn is_true(common: &CommonStatus, condition: &str) -> bool {
    common.conditions.iter().any(|c| c.type_ == condition && c.status == "True")
}

/// The reason of `Ready`.
pub fn reason(common: &CommonStatus) -> &str {
    let ready = common.conditions.iter().find(|c| c.type_ == "Ready");
    ready.map_or("-", |c| c.reason.as_str())
}

/// One verdict for every tool: the invariants of conditions.
pub fn consistent(common: &CommonStatus, meta: &ObjectMeta) -> Result<(), Violation> {
    let conditions = &common.conditions;
    let (ready, reconciling, stalled) =
        (is_true(common, "Ready"), is_true(common, "Reconciling"), is_true(common, "Stalled"));
    invariant!(!(reconciling && stalled), "Reconciling beside Stalled");
    invariant!(!(ready && (reconciling || stalled)), "Ready beside Reconciling or Stalled");
    invariant!(!(ready && meta.deletion_timestamp.is_some()), "Ready while being deleted");
    invariant!(conditions.iter().filter(|c| c.type_ == "Ready").count() == 1, "not exactly one Ready");
    for condition in conditions {
        let name = &condition.type_;
        invariant!(!condition.message.is_empty(), "{name} has no message");
        invariant!(!condition.reason.is_empty(), "{name} has no reason");
        invariant!(
            condition.observed_generation == common.observed_generation,
            "{name} describes another generation than the status"
        );
        invariant!(
            condition.status == "True" || matches!(name.as_str(), "Ready" | "Drifted"),
            "{name} is there though it is {}",
            condition.status
        );
    }
    invariant!(
        common.last_operations.len() <= CommonStatus::MAX_OPERATIONS,
        "lastOperations grows without end"
    );
    Ok(())
}

/// Hashes what of metadata and the common status can make a difference.
pub fn hash_common(
    common: &CommonStatus,
    meta: &ObjectMeta,
    now: i64,
    grace: i64,
    hasher: &mut DefaultHasher,
) {
    let generation = meta.generation.unwrap_or_default();
    common.observed_generation.map(|g| generation - g).hash(hasher);
    for condition in &common.conditions {
        (&condition.type_, &condition.status, &condition.reason).hash(hasher);
    }
    let requested = annotation_value(meta, annotation::RECONCILE_REQUESTED_AT);
    (requested == common.last_handled_reconcile_at.as_deref()).hash(hasher);
    common.last_operations.first().map(|o| o.operation).hash(hasher);
    for operation in &common.last_operations {
        let age = age(&operation.completion_time, now);
        if age <= grace {
            (operation.operation, &operation.version_id, operation.result as u8, age).hash(hasher);
        }
    }
    let retry = common.retry.as_ref();
    retry.map(|retry| (retry.failures, age(&retry.next_attempt_time, now))).hash(hasher);
    meta.deletion_timestamp.as_ref().map(|since| age(since, now)).hash(hasher);
    meta.finalizers.hash(hasher);
    for command in
        [annotation::ADOPT_ID, annotation::RECREATE, annotation::FORCE_ORPHAN, annotation::ROLLBACK_TO]
    {
        annotation_value(meta, command).hash(hasher);
    }
}
