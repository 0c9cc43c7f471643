//! The part of status that both kinds have in common: conditions, backoff and the record of calls.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::{Requeue, annotation_value, messages, reconcile_requested};
use crate::{
    backoff::Backoff,
    chatcaptain::{Failure, FailureClass},
    crd::{
        CommonStatus, ConditionType, Operation, OperationRecord, OperationResult, Reason, Retry, annotation,
        build_conditions,
    },
};

/// After a failure that ends without user action.
// up to the default interval: after that an object is read anyway
const TRANSIENT_BACKOFF: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_mins(5));
/// After a refusal: the user has to correct its cause, and the change is still retried so that no command is needed.
// half a minute, because no user corrects the cause faster; an hour, so that it heals the same day
const REFUSED_BACKOFF: Backoff = Backoff::new(Duration::from_secs(30), Duration::from_hours(1));

/// After a refusal of the key or a permission.
// shorter, because it costs few calls: the limiter sends one of all that need the permission
const FORBIDDEN_BACKOFF: Backoff = Backoff::new(Duration::from_secs(5), Duration::from_mins(1));

/// Objects keep whole seconds; rounding up keeps the delay.
const ROUNDING: Duration = Duration::from_secs(1);
/// Characters of a `reconcile-requested-at` token that are echoed: the size of an object is bounded.
const MAX_TOKEN: usize = 256;

/// The `Ready` condition; the other conditions follow from its reason.
#[derive(Clone, Debug)]
pub struct ReadyCondition {
    /// The reason, which decides the status of all conditions.
    pub reason: Reason,
    /// What happened, why, and what to do next. Empty: the reason's meaning.
    pub message: String,
}

impl ReadyCondition {
    /// An empty `message` becomes the meaning of the reason.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// The common status of the object as it is now, with these conditions, and the reconcile request acknowledged.
#[must_use]
pub fn with_conditions(
    old: &CommonStatus,
    meta: &ObjectMeta,
    ready: &ReadyCondition,
    drifted: Option<(&str, Reason, &str)>,
    now: Timestamp,
) -> CommonStatus {
    CommonStatus {
        observed_generation: meta.generation,
        conditions: build_conditions(
            &old.conditions,
            ready.reason,
            &ready.message,
            drifted,
            meta.generation,
            &Time(now),
        ),
        last_handled_reconcile_at: acknowledge_request(meta),
        last_operations: old.last_operations.clone(),
        retry: old.retry.clone(),
    }
}

fn acknowledge_request(meta: &ObjectMeta) -> Option<String> {
    let token = annotation_value(meta, annotation::RECONCILE_REQUESTED_AT)?;
    Some(token.chars().take(MAX_TOKEN).collect())
}

/// The common status of an object that does not fit its schema: conditions and no more, whatever else its status holds.
#[must_use]
pub fn unreadable_status(meta: &ObjectMeta, error: &str, now: Timestamp) -> CommonStatus {
    let reason = if meta.deletion_timestamp.is_some() { Reason::Deleting } else { Reason::InvalidSpec };
    let message = messages::unreadable_object(error);
    CommonStatus {
        observed_generation: meta.generation,
        // none of the old ones: a Reconciling beside Stalled is failed for some tools and in progress for others
        conditions: build_conditions(&[], reason, &message, None, meta.generation, &Time(now)),
        ..CommonStatus::default()
    }
}

/// The last conditions, carried over to this generation: while an object is suspended or backing off, or Ready while the
/// service is unavailable, nothing new is known of it.
#[must_use]
pub fn carry_over(old: &CommonStatus, meta: &ObjectMeta, acknowledge: bool) -> CommonStatus {
    let mut common = old.clone();
    common.observed_generation = meta.generation;
    for condition in &mut common.conditions {
        condition.observed_generation = meta.generation;
    }
    if acknowledge {
        common.last_handled_reconcile_at = acknowledge_request(meta);
    }
    common
}

/// Whether the object was Ready at the last reconcile of this generation.
#[must_use]
pub fn is_ready(old: &CommonStatus, meta: &ObjectMeta) -> bool {
    old.observed_generation == meta.generation && old.is_true(ConditionType::Ready)
}

/// Keeps an object Stalled during a retry: only the retry's success changes what the user has to do.
pub(super) fn carry_over_stalled(new: &mut CommonStatus, old: &CommonStatus, meta: &ObjectMeta) {
    if old.is_true(ConditionType::Stalled)
        && old.retry.is_some()
        && old.observed_generation == meta.generation
    {
        *new = carry_over(old, meta, true);
    }
}

/// A suspended object keeps its last conditions, unless it has none yet or the spec has changed its target since.
pub(super) fn suspended_status(
    old: &CommonStatus,
    meta: &ObjectMeta,
    spec_target_changed: bool,
    now: Timestamp,
) -> CommonStatus {
    let message = match (old.conditions.is_empty(), spec_target_changed) {
        (true, _) => messages::SUSPENDED_NEW,
        (false, true) => messages::SUSPENDED_CHANGED,
        (false, false) => return carry_over(old, meta, false),
    };
    let mut common = with_conditions(old, meta, &ReadyCondition::new(Reason::Suspended, message), None, now);
    // the service was not read, so no reconcile request was handled
    common.last_handled_reconcile_at.clone_from(&old.last_handled_reconcile_at);
    common
}

/// Whether a change has to wait for the backoff. A new generation or a reconcile request ends it. A remaining
/// time that is longer than any delay after so many failures is from before the clock was put back, and is ignored.
#[must_use]
pub fn is_backing_off(old: &CommonStatus, meta: &ObjectMeta, now: Timestamp) -> bool {
    let is_pending = |retry: &Retry| {
        let remaining = retry.next_attempt_time.0.duration_since(now);
        let longest = REFUSED_BACKOFF.delay(retry.failures.unsigned_abs()) + ROUNDING;
        remaining.is_positive() && remaining.unsigned_abs() <= longest
    };
    old.retry.as_ref().is_some_and(is_pending)
        && old.observed_generation == meta.generation
        && !reconcile_requested(meta, old.last_handled_reconcile_at.as_deref())
}

/// The backoff after one more failure; `jitter` (0 to 1) takes off up to half.
#[must_use]
pub fn next_backoff(old: Option<&Retry>, failure: &Failure, now: Timestamp, jitter: f64) -> Retry {
    let failures = old.map_or(0, |retry| retry.failures).saturating_add(1);
    let backoff = match failure.class {
        FailureClass::Refused(_) => REFUSED_BACKOFF,
        FailureClass::Forbidden { .. } => FORBIDDEN_BACKOFF,
        FailureClass::Throttled { .. } | FailureClass::Unsent | FailureClass::Unknown => TRANSIENT_BACKOFF,
    };
    let shortened = 1.0 - jitter.clamp(0.0, 1.0) / 2.0;
    let delay = backoff.delay(failures.unsigned_abs()).mul_f64(shortened) + ROUNDING;
    let until = now.as_second() + delay.as_secs().cast_signed();
    Retry { failures, next_attempt_time: Time(Timestamp::from_second(until).unwrap_or(now)) }
}

/// When the backoff is over.
#[must_use]
pub fn requeue_after_backoff(common: &CommonStatus, now: Timestamp) -> Requeue {
    let remaining = common.retry.as_ref().map(|retry| retry.next_attempt_time.0.duration_since(now));
    Requeue::After(remaining.and_then(|remaining| Duration::try_from(remaining).ok()).unwrap_or_default())
}

/// The entry of `lastOperations` for a call.
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

/// How a call ended, as far as its answer shows.
#[must_use]
pub fn operation_result<T>(result: &Result<T, Failure>) -> OperationResult {
    match result {
        Ok(_) => OperationResult::Accepted,
        Err(failure) if failure.may_have_happened => OperationResult::Unknown,
        Err(_) => OperationResult::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chatcaptain::ApiCall;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_default()
    }

    fn requested(token: &str) -> ObjectMeta {
        let annotations = [(annotation::RECONCILE_REQUESTED_AT.to_owned(), token.to_owned())];
        ObjectMeta { generation: Some(2), annotations: Some(annotations.into()), ..ObjectMeta::default() }
    }

    fn stalled(generation: i64) -> CommonStatus {
        let meta = ObjectMeta { generation: Some(generation), ..ObjectMeta::default() };
        let ready = ReadyCondition::new(Reason::RequestRejected, "It is refused.");
        CommonStatus {
            retry: Some(Retry { failures: 1, next_attempt_time: Time(at(9)) }),
            ..with_conditions(&CommonStatus::default(), &meta, &ready, None, at(0))
        }
    }

    #[test]
    fn request_is_acknowledged_by_its_token_of_bounded_length() {
        let acknowledged = |token: &str| {
            let ready = ReadyCondition::new(Reason::Available, "");
            with_conditions(&CommonStatus::default(), &requested(token), &ready, None, at(0))
                .last_handled_reconcile_at
        };
        assert_eq!(acknowledged("now").as_deref(), Some("now"));
        assert_eq!(acknowledged(&"x".repeat(MAX_TOKEN + 1)), Some("x".repeat(MAX_TOKEN)));
    }

    #[test]
    fn unreadable_object_says_why_and_keeps_nothing_else() {
        let mut meta = requested("now");
        let ready = |meta: &ObjectMeta| {
            let status = unreadable_status(meta, "missing field `chatbotId`", at(0));
            assert_eq!((status.observed_generation, &status.retry), (Some(2), &None));
            let ready = status.conditions.iter().find(|c| c.type_ == "Ready").cloned();
            ready.map(|ready| (ready.reason, ready.message)).unwrap_or_default()
        };
        assert_eq!(ready(&meta).0, "InvalidSpec");
        assert!(ready(&meta).1.contains("missing field `chatbotId`"));
        meta.deletion_timestamp = Some(Time(at(0)));
        assert_eq!(ready(&meta).0, "Deleting");
    }

    #[test]
    fn retry_keeps_an_object_stalled_within_its_generation() {
        let meta = ObjectMeta { generation: Some(2), ..ObjectMeta::default() };
        let retried = |old: &CommonStatus| {
            let ready = ReadyCondition::new(Reason::Deploying, "It is on its way.");
            let mut new = with_conditions(old, &meta, &ready, None, at(10));
            carry_over_stalled(&mut new, old, &meta);
            new.is_true(ConditionType::Stalled)
        };
        assert!(retried(&stalled(2)));
        assert!(!retried(&stalled(1)), "a new generation begins anew");
        assert!(!retried(&CommonStatus { retry: None, ..stalled(2) }), "nothing is being retried");
        let progressing = CommonStatus { conditions: vec![], ..stalled(2) };
        assert!(!retried(&progressing));
    }

    #[test]
    fn backoff_doubles_and_jitter_takes_off_up_to_half() {
        let failure = Failure::new(ApiCall::Create, FailureClass::Unknown, "timeout");
        let delay = |failures, jitter| {
            let old = Retry { failures, next_attempt_time: Time(at(0)) };
            let next = next_backoff(Some(&old), &failure, at(100), jitter);
            assert_eq!(next.failures, failures + 1);
            next.next_attempt_time.0.as_second() - 100
        };
        // a second more than the delay, because objects keep whole seconds
        assert_eq!([0, 1, 2].map(|failures| delay(failures, 0.0)), [3, 5, 9]);
        assert_eq!([0, 1, 2].map(|failures| delay(failures, 1.0)), [2, 3, 5]);
        assert_eq!(delay(2, 0.5), 7);
    }
}
