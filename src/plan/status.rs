//! The part of status that both kinds have in common: conditions, backoff and the record of calls.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Requeue, ServiceView, messages, reconcile_requested, reconcile_token};
use crate::{
    backoff::Backoff,
    chatcaptain::{Failure, FailureClass},
    crd::{
        CommonStatus, ConditionType, FINALIZER, Operation, OperationRecord, OperationResult, Reason, Retry,
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

/// The common status of the object as it is now, with these conditions.
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
        ..old.clone()
    }
}

/// Echoes the reconcile request of an object whose reconcile handles it. While the service gives no usable answer it stays
/// open: it is handled once the service could be read for it.
pub(super) fn acknowledge_request(common: &mut CommonStatus, meta: &ObjectMeta, service: &ServiceView) {
    if !matches!(service, ServiceView::Unavailable(_)) {
        common.last_handled_reconcile_at = reconcile_token(meta).map(str::to_owned);
    }
}

/// The status of an object that does not fit its schema: conditions that say so, and everything else as it is.
#[must_use]
pub fn unreadable_status(status: &Value, meta: &ObjectMeta, error: &str, now: Timestamp) -> Value {
    let has_finalizer = meta.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER);
    let (reason, message) = match (&meta.deletion_timestamp, has_finalizer) {
        (None, _) => (Reason::InvalidSpec, messages::unreadable_object(error)),
        (Some(_), true) => (Reason::Deleting, messages::unreadable_deletion(error)),
        (Some(_), false) => (Reason::Deleting, messages::WAITING_FOR_OTHER_FINALIZERS.to_owned()),
    };
    let old = readable_conditions(status);
    let conditions = build_conditions(&old, reason, &message, None, meta.generation, &Time(now));
    let mut fields = status.as_object().cloned().unwrap_or_default();
    fields.insert("observedGeneration".to_owned(), json!(meta.generation));
    fields.insert("conditions".to_owned(), json!(conditions));
    Value::Object(fields)
}

/// The conditions of a status that may not fit its schema.
#[must_use]
pub fn readable_conditions(status: &Value) -> Vec<Condition> {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.filter_map(|condition| Condition::deserialize(condition).ok()).collect()
}

/// The last conditions, carried over to this generation: while an object is suspended or backing off, or Ready while the
/// service is unavailable, nothing new is known of it.
#[must_use]
pub fn carry_over(old: &CommonStatus, meta: &ObjectMeta) -> CommonStatus {
    let mut common = old.clone();
    common.observed_generation = meta.generation;
    for condition in common.conditions.iter_mut().filter(|condition| ConditionType::is_ours(condition)) {
        condition.observed_generation = meta.generation;
    }
    common
}

/// The `Stalled` condition, if the object has become Stalled by it, or is so for another reason than `before`.
#[must_use]
pub fn newly_stalled<'a>(before: &[Condition], after: &'a [Condition]) -> Option<&'a Condition> {
    fn stalled(conditions: &[Condition]) -> Option<&Condition> {
        conditions.iter().find(|c| c.type_ == ConditionType::Stalled.as_str() && c.status == "True")
    }
    let is_known = |new: &&Condition| stalled(before).is_some_and(|old| old.reason == new.reason);
    stalled(after).filter(|new| !is_known(new))
}

/// Whether the object was Ready at the last reconcile of this generation.
#[must_use]
pub fn is_ready(old: &CommonStatus, meta: &ObjectMeta) -> bool {
    old.observed_generation == meta.generation && old.is_true(ConditionType::Ready)
}

/// Keeps an object Stalled during a retry: only the retry's success changes what the user has to do.
pub(super) fn carry_over_stalled(new: &mut CommonStatus, old: &CommonStatus, meta: &ObjectMeta) {
    if old.is_true(ConditionType::Stalled)
        // of the new status: the backoff of another rollout is not retried, and has ended
        && new.retry.is_some()
        && old.observed_generation == meta.generation
    {
        *new = carry_over(old, meta);
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
        (false, false) => return carry_over(old, meta),
    };
    with_conditions(old, meta, &ReadyCondition::new(Reason::Suspended, message), None, now)
}

/// Whether the object's change has to wait for its backoff.
#[must_use]
pub fn is_backing_off(old: &CommonStatus, meta: &ObjectMeta, now: Timestamp) -> bool {
    is_waiting_for_retry(old.retry.as_ref(), old, meta, now)
}

/// Whether a request has to wait for its backoff. A new generation or a reconcile request ends it. A remaining
/// time that is longer than any delay after so many failures is from before the clock was put back, and is ignored.
#[must_use]
pub fn is_waiting_for_retry(
    retry: Option<&Retry>,
    old: &CommonStatus,
    meta: &ObjectMeta,
    now: Timestamp,
) -> bool {
    let is_pending = |retry: &Retry| {
        let remaining = retry.next_attempt_time.0.duration_since(now);
        let longest = REFUSED_BACKOFF.delay(retry.failures.unsigned_abs()) + ROUNDING;
        remaining.is_positive() && remaining.unsigned_abs() <= longest
    };
    retry.is_some_and(is_pending)
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

/// When the object's backoff is over.
#[must_use]
pub fn requeue_after_backoff(common: &CommonStatus, now: Timestamp) -> Requeue {
    Requeue::After(common.retry.as_ref().map_or(Duration::ZERO, |retry| time_until_retry(retry, now)))
}

/// The time until a request may be repeated.
#[must_use]
pub fn time_until_retry(retry: &Retry, now: Timestamp) -> Duration {
    Duration::try_from(retry.next_attempt_time.0.duration_since(now)).unwrap_or_default()
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
    use crate::{
        chatcaptain::ApiCall,
        crd::annotation,
        plan::{Unavailable, UnavailableReason},
    };

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
            let mut status = CommonStatus::default();
            acknowledge_request(&mut status, &requested(token), &ServiceView::NotQueried);
            status.last_handled_reconcile_at.unwrap_or_default()
        };
        assert_eq!(acknowledged("now"), "now");
        let long = |end: &str| "ü".repeat(256) + end;
        assert_eq!(acknowledged(&long("x")), long(""));
        assert!(!reconcile_requested(&requested(&long("x")), Some(&acknowledged(&long("x")))));
        assert!(reconcile_requested(&requested(&long("x")), Some("now")));
    }

    #[test]
    fn request_stays_open_while_the_service_is_unavailable() {
        let mut status =
            CommonStatus { last_handled_reconcile_at: Some("earlier".to_owned()), ..CommonStatus::default() };
        let (reason, message) = (UnavailableReason::Throttled, String::new());
        let service = ServiceView::Unavailable(Unavailable { reason, message, retry_after: None });
        acknowledge_request(&mut status, &requested("now"), &service);
        assert_eq!(status.last_handled_reconcile_at.as_deref(), Some("earlier"));
    }

    #[test]
    fn unreadable_object_says_why_and_keeps_the_other_fields() {
        let error = "missing field `chatbotId`";
        let mut meta = requested("now");
        let ready = |status: &Value| {
            let ready = &status["conditions"][0];
            (ready["reason"].as_str().unwrap_or_default().to_owned(), ready["message"].to_string())
        };
        let before = json!({"versionId": "v1", "newField": 1, "conditions": ["text"]});
        let status = unreadable_status(&before, &meta, error, at(0));
        assert_eq!((&status["versionId"], &status["newField"]), (&json!("v1"), &json!(1)));
        assert_eq!(status["observedGeneration"], json!(2));
        assert_eq!(ready(&status).0, "InvalidSpec");
        assert!(ready(&status).1.contains(error));
        assert_eq!(unreadable_status(&status, &meta, error, at(9)), status, "nothing new is said");

        meta.deletion_timestamp = Some(Time(at(0)));
        let status = unreadable_status(&status, &meta, error, at(9));
        assert_eq!(ready(&status).0, "Deleting");
        assert!(!ready(&status).1.contains(annotation::FORCE_ORPHAN), "it is not ours to remove");
        meta.finalizers = Some(vec![FINALIZER.to_owned()]);
        let status = unreadable_status(&status, &meta, error, at(9));
        assert!(ready(&status).1.contains(annotation::FORCE_ORPHAN));
        assert_eq!(status["conditions"].as_array().map(Vec::len), Some(2), "Stalled is gone");
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
    fn object_is_newly_stalled_once_for_each_reason() {
        let meta = ObjectMeta::default();
        let conditions = |reason, message: &str| {
            with_conditions(
                &CommonStatus::default(),
                &meta,
                &ReadyCondition::new(reason, message),
                None,
                at(0),
            )
            .conditions
        };
        let ready = conditions(Reason::Available, "");
        let conflict = conditions(Reason::Conflict, "with a");
        let reason = |before: &[Condition], after: &[Condition]| {
            newly_stalled(before, after).map(|condition| condition.reason.clone())
        };
        assert_eq!(reason(&ready, &conflict).as_deref(), Some("Conflict"));
        assert_eq!(reason(&[], &conflict).as_deref(), Some("Conflict"));
        assert_eq!(reason(&conflict, &conditions(Reason::Conflict, "with b")), None);
        assert_eq!(reason(&conflict, &conditions(Reason::VersionLost, "")).as_deref(), Some("VersionLost"));
        assert_eq!(reason(&conflict, &ready), None);
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
