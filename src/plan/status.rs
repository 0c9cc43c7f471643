//! The part of status that is told alike for both kinds, and backoff.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::{Pace, annotated, requested};
use crate::{
    chatcaptain::{Class, Failure},
    crd::{
        CommonStatus, ConditionType, Operation, OperationRecord, OperationResult, Reason, Retry, annotation,
        conditions,
    },
};

/// Backoff after a failure that may pass by itself: first and longest pause.
const TRANSIENT: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(5));
/// Backoff after a refusal, which a human must see to.
const REFUSED: (Duration, Duration) = (Duration::from_secs(30), Duration::from_hours(1));

/// Objects keep whole seconds; rounding up keeps the pause.
const ROUNDING: Duration = Duration::from_secs(1);

/// What a condition says.
#[derive(Clone, Debug)]
pub struct Words {
    /// The reason.
    pub reason: Reason,
    /// What is so, and the next step. Empty: the reason's own words.
    pub message: String,
}

impl Words {
    /// A reason with its message.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// The common status that says `words` of the object as it is now.
#[must_use]
pub fn say(
    old: &CommonStatus,
    meta: &ObjectMeta,
    words: &Words,
    drifted: Option<(&str, Reason, &str)>,
    now: Timestamp,
) -> CommonStatus {
    CommonStatus {
        observed_generation: meta.generation,
        conditions: conditions(
            &old.conditions,
            words.reason,
            &words.message,
            drifted,
            meta.generation,
            &Time(now),
        ),
        last_handled_reconcile_at: annotated(meta, annotation::RECONCILE_REQUESTED_AT)
            .map(|token| token.chars().take(256).collect()),
        last_operations: old.last_operations.clone(),
        retry: old.retry.clone(),
    }
}

/// What is said of an object that cannot be read: its conditions and no more, whatever else its status holds.
#[must_use]
pub fn unreadable(meta: &ObjectMeta, error: &str, now: Timestamp) -> CommonStatus {
    let reason = if meta.deletion_timestamp.is_some() { Reason::Deleting } else { Reason::InvalidSpec };
    let message = format!(
        "The object cannot be read: {error}. Correct it, or upgrade the CRDs and the operator together."
    );
    CommonStatus {
        observed_generation: meta.generation,
        conditions: conditions(&[], reason, &message, None, meta.generation, &Time(now)),
        ..CommonStatus::default()
    }
}

/// The verdict as it was, for this generation: while an object is suspended, backing off, or at rest with
/// the service out of reach, nothing new is known of it.
#[must_use]
pub fn keep(old: &CommonStatus, meta: &ObjectMeta, echo: bool) -> CommonStatus {
    let mut common = old.clone();
    common.observed_generation = meta.generation;
    for condition in &mut common.conditions {
        condition.observed_generation = meta.generation;
    }
    if echo {
        common.last_handled_reconcile_at = annotated(meta, annotation::RECONCILE_REQUESTED_AT)
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
pub(super) fn keep_stalled(new: &mut CommonStatus, old: &CommonStatus, meta: &ObjectMeta) {
    if old.is_true(ConditionType::Stalled)
        && old.retry.is_some()
        && old.observed_generation == meta.generation
    {
        *new = keep(old, meta, true);
    }
}

/// A suspended object keeps its last verdict, unless there is none yet or it was about something else than
/// the spec names now.
pub(super) fn suspended(old: &CommonStatus, meta: &ObjectMeta, moved: bool, now: Timestamp) -> CommonStatus {
    let message = match (old.conditions.is_empty(), moved) {
        (true, _) => "Suspended before anything was done; set spec.suspend to false.",
        (false, true) => {
            "Suspended before the version that the spec names was seen to; set spec.suspend to false."
        }
        (false, false) => return keep(old, meta, false),
    };
    let mut common = say(old, meta, &Words::new(Reason::Suspended, message), None, now);
    common.last_handled_reconcile_at.clone_from(&old.last_handled_reconcile_at);
    common
}

/// Whether a change must wait for the backoff; a new generation or a reconcile request ends it. One that lasts longer
/// than any pause after so many failures is from before the clock was put back, and holds nobody.
#[must_use]
pub fn is_held(old: &CommonStatus, meta: &ObjectMeta, now: Timestamp) -> bool {
    let waits = |retry: &Retry| {
        let rest = retry.not_before.0.duration_since(now);
        rest.is_positive() && rest.unsigned_abs() <= pause(REFUSED, retry.failures) + ROUNDING
    };
    old.retry.as_ref().is_some_and(waits)
        && old.observed_generation == meta.generation
        && !requested(meta, old.last_handled_reconcile_at.as_deref())
}

/// The backoff after one more failure: exponential, with `jitter` (0 to 1) taking off up to half.
#[must_use]
pub fn back_off(old: Option<&Retry>, failure: &Failure, now: Timestamp, jitter: f64) -> Retry {
    let failures = old.map_or(0, |retry| retry.failures).saturating_add(1);
    let range = match failure.class {
        Class::Refused(_) | Class::Forbidden { .. } => REFUSED,
        Class::Throttled { .. } | Class::Unsent | Class::Unknown => TRANSIENT,
    };
    let pause = pause(range, failures).mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0) + ROUNDING;
    let until = now.as_second() + i64::try_from(pause.as_secs()).unwrap_or(i64::MAX / 2);
    Retry { failures, not_before: Time(Timestamp::from_second(until).unwrap_or(now)) }
}

fn pause((first, last): (Duration, Duration), failures: i32) -> Duration {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(0).min(16);
    first.saturating_mul(1 << doublings).min(last)
}

/// How long until the backoff is over.
#[must_use]
pub fn rest_of_backoff(common: &CommonStatus, now: Timestamp) -> Pace {
    let rest = common.retry.as_ref().map(|retry| retry.not_before.0.duration_since(now));
    Pace::After(rest.and_then(|rest| Duration::try_from(rest).ok()).unwrap_or_default())
}

/// One line for `lastOperations`.
#[must_use]
pub fn record<T>(
    operation: Operation,
    version_id: Option<&str>,
    result: &Result<T, Failure>,
    now: Timestamp,
) -> OperationRecord {
    OperationRecord {
        operation,
        version_id: version_id.map(str::to_owned),
        at: Time(now),
        result: ended(result),
        message: result.as_ref().err().map(|failure| failure.message.clone()),
    }
}

/// How a call ended.
#[must_use]
pub fn ended<T>(result: &Result<T, Failure>) -> OperationResult {
    match result {
        Ok(_) => OperationResult::Accepted,
        Err(failure) if failure.may_have_happened => OperationResult::Unknown,
        Err(_) => OperationResult::Refused,
    }
}
