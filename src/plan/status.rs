//! The part of status that is told alike for both kinds, and backoff.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::{Requeue, annotation_value, reconcile_requested};
use crate::{
    chatcaptain::{Failure, FailureClass},
    crd::{
        CommonStatus, ConditionType, Operation, OperationRecord, OperationResult, Reason, Retry, annotation,
        build_conditions,
    },
};

/// Backoff after a failure that may pass by itself: first and longest pause.
const TRANSIENT_BACKOFF: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(5));
/// Backoff after a refusal, which a human must see to.
const REJECTED_BACKOFF: (Duration, Duration) = (Duration::from_secs(30), Duration::from_hours(1));

/// Objects keep whole seconds; rounding up keeps the pause.
const ROUNDING: Duration = Duration::from_secs(1);

/// What a condition says.
#[derive(Clone, Debug)]
pub struct ReadyCondition {
    /// The reason.
    pub reason: Reason,
    /// What is so, and the next step. Empty: the reason's own words.
    pub message: String,
}

impl ReadyCondition {
    /// A reason with its message.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// The common status that says `words` of the object as it is now.
#[must_use]
pub fn with_conditions(
    old: &CommonStatus,
    meta: &ObjectMeta,
    words: &ReadyCondition,
    drifted: Option<(&str, Reason, &str)>,
    now: Timestamp,
) -> CommonStatus {
    CommonStatus {
        observed_generation: meta.generation,
        conditions: build_conditions(
            &old.conditions,
            words.reason,
            &words.message,
            drifted,
            meta.generation,
            &Time(now),
        ),
        last_handled_reconcile_at: annotation_value(meta, annotation::RECONCILE_REQUESTED_AT)
            .map(|token| token.chars().take(256).collect()),
        last_operations: old.last_operations.clone(),
        retry: old.retry.clone(),
    }
}

/// What is said of an object that cannot be read: its conditions and no more, whatever else its status holds.
#[must_use]
pub fn unreadable_status(meta: &ObjectMeta, error: &str, now: Timestamp) -> CommonStatus {
    let reason = if meta.deletion_timestamp.is_some() { Reason::Deleting } else { Reason::InvalidSpec };
    let message = format!(
        "The object cannot be read: {error}. Correct it, or upgrade the CRDs and the operator together."
    );
    CommonStatus {
        observed_generation: meta.generation,
        conditions: build_conditions(&[], reason, &message, None, meta.generation, &Time(now)),
        ..CommonStatus::default()
    }
}

/// The verdict as it was, for this generation: while an object is suspended, backing off, or at rest with
/// the service out of reach, nothing new is known of it.
#[must_use]
pub fn carry_over(old: &CommonStatus, meta: &ObjectMeta, echo: bool) -> CommonStatus {
    let mut common = old.clone();
    common.observed_generation = meta.generation;
    for condition in &mut common.conditions {
        condition.observed_generation = meta.generation;
    }
    if echo {
        common.last_handled_reconcile_at = annotation_value(meta, annotation::RECONCILE_REQUESTED_AT)
            .map(|token| token.chars().take(256).collect());
    }
    common
}

/// Whether the last verdict on the object as it stands was Ready.
#[must_use]
pub fn is_ready(old: &CommonStatus, meta: &ObjectMeta) -> bool {
    old.observed_generation == meta.generation && old.is_true(ConditionType::Ready)
}

/// Leaves `new` as `old` was if that was Stalled on the object as it stands: a slow retry does not change it.
pub(super) fn carry_over_stalled(new: &mut CommonStatus, old: &CommonStatus, meta: &ObjectMeta) {
    if old.is_true(ConditionType::Stalled)
        && old.retry.is_some()
        && old.observed_generation == meta.generation
    {
        *new = carry_over(old, meta, true);
    }
}

/// A suspended object keeps its last verdict, unless there is none yet or it was about something else than
/// the spec names now.
pub(super) fn suspended_status(
    old: &CommonStatus,
    meta: &ObjectMeta,
    moved: bool,
    now: Timestamp,
) -> CommonStatus {
    let message = match (old.conditions.is_empty(), moved) {
        (true, _) => "Suspended before anything was done; set spec.suspend to false.",
        (false, true) => {
            "Suspended before the version that the spec names was seen to; set spec.suspend to false."
        }
        (false, false) => return carry_over(old, meta, false),
    };
    let mut common = with_conditions(old, meta, &ReadyCondition::new(Reason::Suspended, message), None, now);
    common.last_handled_reconcile_at.clone_from(&old.last_handled_reconcile_at);
    common
}

/// Whether a change must wait for the backoff; a new generation or a reconcile request ends it. One that lasts longer
/// than any pause after so many failures is from before the clock was put back, and holds nobody.
#[must_use]
pub fn is_backing_off(old: &CommonStatus, meta: &ObjectMeta, now: Timestamp) -> bool {
    let waits = |retry: &Retry| {
        let rest = retry.next_attempt_time.0.duration_since(now);
        rest.is_positive()
            && rest.unsigned_abs() <= backoff_delay(REJECTED_BACKOFF, retry.failures) + ROUNDING
    };
    old.retry.as_ref().is_some_and(waits)
        && old.observed_generation == meta.generation
        && !reconcile_requested(meta, old.last_handled_reconcile_at.as_deref())
}

/// The backoff after one more failure: exponential, with `jitter` (0 to 1) taking off up to half.
#[must_use]
pub fn next_backoff(old: Option<&Retry>, failure: &Failure, now: Timestamp, jitter: f64) -> Retry {
    let failures = old.map_or(0, |retry| retry.failures).saturating_add(1);
    let range = match failure.class {
        FailureClass::Refused(_) | FailureClass::Forbidden { .. } => REJECTED_BACKOFF,
        FailureClass::Throttled { .. } | FailureClass::Unsent | FailureClass::Unknown => TRANSIENT_BACKOFF,
    };
    let pause = backoff_delay(range, failures).mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0) + ROUNDING;
    let until = now.as_second() + i64::try_from(pause.as_secs()).unwrap_or(i64::MAX / 2);
    Retry { failures, next_attempt_time: Time(Timestamp::from_second(until).unwrap_or(now)) }
}

fn backoff_delay((first, last): (Duration, Duration), failures: i32) -> Duration {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(0).min(16);
    first.saturating_mul(1 << doublings).min(last)
}

/// How long until the backoff is over.
#[must_use]
pub fn requeue_after_backoff(common: &CommonStatus, now: Timestamp) -> Requeue {
    let rest = common.retry.as_ref().map(|retry| retry.next_attempt_time.0.duration_since(now));
    Requeue::After(rest.and_then(|rest| Duration::try_from(rest).ok()).unwrap_or_default())
}

/// One line for `lastOperations`.
#[must_use]
pub fn operation_record<T>(
    operation: Operation,
    version_id: Option<&str>,
    result: &Result<T, Failure>,
    now: Timestamp,
) -> OperationRecord {
    OperationRecord {
        operation,
        version_id: version_id.map(str::to_owned),
        completion_time: Time(now),
        result: operation_result(result),
        message: result.as_ref().err().map(|failure| failure.message.clone()),
    }
}

/// How a call ended.
#[must_use]
pub fn operation_result<T>(result: &Result<T, Failure>) -> OperationResult {
    match result {
        Ok(_) => OperationResult::Accepted,
        Err(failure) if failure.may_have_happened => OperationResult::Unknown,
        Err(_) => OperationResult::Refused,
    }
}
