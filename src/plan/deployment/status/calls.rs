//! The report of a rollout or a delete: of its intent, and of how its call ended.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};

use super::{requeue_while_progressing, secret, status_with, sync_spec, unchanged};
use crate::{
    chatcaptain::{Failure, FailureClass, Refusal},
    crd::{ChatbotDeploymentStatus, CurrentOperation, Operation, OperationResult},
    plan::{
        CounterIncrement, EventReason, Report, Requeue,
        deployment::{Drift, Observation, Rollout, RolloutMethod, State, messages},
        service_view::{pause, write_failure_condition},
        status::{
            carry_over, carry_over_stalled, next_backoff, operation_record, operation_result,
            requeue_after_backoff,
        },
        truncate_to_seconds,
    },
};

/// When a delete that was not sent is tried again.
const UNSENT_RETRY: Duration = Duration::from_secs(5);

pub(super) fn record_intent(
    observation: &Observation,
    state: &State,
    method: RolloutMethod,
) -> Report<ChatbotDeploymentStatus> {
    let Ok(desired) = observation.desired() else {
        return unchanged(observation);
    };
    let mut status = status_with(observation, state, &messages::rollout(observation, method));
    let old = &observation.status().common;
    carry_over_stalled(&mut status.common, old, &observation.object.metadata);
    status.current_operation = Some(intent(observation, &desired.version_id, method));
    let mut report = Report::new(status, Requeue::Immediately);
    if state.rollout == Rollout::RollbackIneffective {
        let note = messages::rollback_fallback_note(observation);
        report = report.event(true, EventReason::RollbackFallback, note);
    }
    // a deploy that is repeated, or replaces a rollback, belongs to a correction that was counted
    if state.rollout == Rollout::None && state.drift == Drift::Enforce {
        // with the intent: counted after the call, a crash in between would lose the count
        report.status.drift_corrections = Some(observation.next_drift_corrections());
        let note = messages::drift_note(observation, &desired, state.drift);
        report = report
            .event(true, EventReason::DriftDetected, note)
            .about(&[&desired.version_id])
            .count(CounterIncrement::DriftEnforced);
    }
    report
}

fn intent(observation: &Observation, desired: &str, method: RolloutMethod) -> CurrentOperation {
    // as listed before the call: without a deployment status only its change proves the effect
    let deployed = observation.listed(desired).and_then(|version| version.deployed);
    CurrentOperation {
        operation: method.operation(),
        version_id: desired.to_owned(),
        start_time: truncate_to_seconds(observation.now),
        first_call_time: first_call_time(observation, desired, method),
        call_time: None,
        result: None,
        previous_deploy_time: deployed.map(MicroTime),
    }
}

/// Since when a deploy without a usable answer is repeated, if this one repeats it.
fn first_call_time(observation: &Observation, desired: &str, method: RolloutMethod) -> Option<Time> {
    let last = observation.status().current_operation.as_ref()?;
    let repeats =
        method == RolloutMethod::Deploy && last.operation == Operation::Deploy && last.version_id == desired;
    let unknown = last.call_time.as_ref().filter(|_| last.result == Some(OperationResult::Unknown));
    // the oldest known, so that the deadline of repeated deploys does not move
    last.first_call_time.as_ref().or(unknown).filter(|_| repeats).cloned()
}

pub(super) fn rollout_started(
    observation: &Observation,
    state: &State,
    method: RolloutMethod,
    result: &Result<(), Failure>,
) -> Report<ChatbotDeploymentStatus> {
    let operation = observation.status().current_operation.as_ref();
    let is_of_desired = observation
        .desired()
        .is_ok_and(|desired| operation.is_some_and(|operation| operation.version_id == desired.version_id));
    let mut report = match result {
        // the target has changed during the call: its failure is not that of the new one
        Err(_) if !is_of_desired => {
            let status = status_with(observation, state, &messages::rollout(observation, method));
            Report::new(status, Requeue::Immediately)
        }
        Err(failure) if !failure.may_have_happened => {
            rollout_not_started(observation, state, method, failure)
        }
        _ => {
            let mut status = status_with(observation, state, &messages::rollout(observation, method));
            // a call without a usable answer may be repeated, but less and less often
            let old = status.common.retry.take();
            status.common.retry = result
                .as_ref()
                .err()
                .map(|failure| next_backoff(old.as_ref(), failure, observation.now, observation.jitter));
            Report::new(status, requeue_while_progressing(observation))
        }
    };
    // a call that was not sent keeps its intent, and can still be sent
    if !result.as_ref().is_err_and(Failure::was_not_sent) {
        record_call(observation, &mut report.status, result);
    }
    report
}

/// Records the call of the intent, though the spec may name another version by now.
fn record_call(
    observation: &Observation,
    status: &mut ChatbotDeploymentStatus,
    result: &Result<(), Failure>,
) {
    let Some(operation) = observation.status().current_operation.clone() else { return };
    let id = Some(operation.version_id.as_str());
    status.common.push_operation(operation_record(operation.operation, id, result, observation.now));
    status.current_operation = Some(CurrentOperation {
        call_time: Some(truncate_to_seconds(observation.now)),
        result: Some(operation_result(result)),
        ..operation
    });
}

/// The call was refused, or not sent.
fn rollout_not_started(
    observation: &Observation,
    state: &State,
    method: RolloutMethod,
    failure: &Failure,
) -> Report<ChatbotDeploymentStatus> {
    if method == RolloutMethod::Rollback && !failure.was_not_sent() {
        // the next reconcile deploys instead
        let status = status_with(observation, state, &messages::rollout(observation, method));
        return Report::new(status, Requeue::Immediately);
    }
    let (condition, retry_after) = write_failure_condition(failure, &secret(observation));
    let status = status_with(observation, state, &condition);
    // a throttle says nothing about this version, so it adds no failure to the backoff
    if let Some(retry_after) = retry_after {
        return Report::new(status, Requeue::After(retry_after));
    }
    with_backoff(observation, status, failure)
}

pub(super) fn version_deleted(
    observation: &Observation,
    state: &State,
    id: &str,
    result: &Result<(), Failure>,
) -> Report<ChatbotDeploymentStatus> {
    let (old, meta) = (&observation.status().common, &observation.object.metadata);
    // what is neither listed nor found is gone
    let is_gone = |failure: &Failure| {
        failure.class == FailureClass::Refused(Refusal::NotFound) && observation.listed(id).is_none()
    };
    let result = if result.as_ref().is_err_and(is_gone) { &Ok(()) } else { result };
    let mut status = if meta.deletion_timestamp.is_some() {
        status_with(observation, state, &messages::deleting(observation))
    } else if old.conditions.is_empty() {
        // an observed generation without a condition would be taken for done
        status_with(observation, state, &messages::rollout(observation, RolloutMethod::Deploy))
    } else {
        // the deletion of an old version does not change what is reported of the environment
        let common = carry_over(old, meta);
        let mut status = ChatbotDeploymentStatus { common, ..observation.status().clone() };
        sync_spec(observation, &mut status);
        status
    };
    if !result.as_ref().is_err_and(Failure::was_not_sent) {
        let record = operation_record(Operation::Delete, Some(id), result, observation.now);
        status.common.push_operation(record);
    }
    match result {
        Ok(()) => Report::new(status, Requeue::Immediately),
        Err(failure) => delete_failed(observation, status, id, failure),
    }
}

/// The deletion waits for a backoff of its own; everything else of the object goes on.
fn delete_failed(
    observation: &Observation,
    mut status: ChatbotDeploymentStatus,
    id: &str,
    failure: &Failure,
) -> Report<ChatbotDeploymentStatus> {
    // what was not sent is no failure of the deletion; the wait keeps it from becoming a busy loop
    let mut requeue = Requeue::After(pause(failure).unwrap_or(UNSENT_RETRY));
    if !failure.was_not_sent()
        && let Some(entry) = status.pending_deletions.iter_mut().find(|entry| entry.version_id == id)
    {
        entry.retry = Some(next_backoff(entry.retry.as_ref(), failure, observation.now, observation.jitter));
        requeue = Requeue::Immediately;
    }
    Report::new(status, requeue)
}

fn with_backoff(
    observation: &Observation,
    mut status: ChatbotDeploymentStatus,
    failure: &Failure,
) -> Report<ChatbotDeploymentStatus> {
    let old = status.common.retry.as_ref();
    status.common.retry = Some(next_backoff(old, failure, observation.now, observation.jitter));
    let requeue = requeue_after_backoff(&status.common, observation.now);
    Report::new(status, requeue)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{
        chatcaptain::{ApiCall, Failure, FailureClass},
        crd::{Cause, ChatbotDeploymentStatus, Operation, OperationResult},
        plan::{
            CounterIncrement, Report, Requeue,
            deployment::{Observation, Outcome, RolloutMethod, Step, fixtures::*},
        },
    };

    /// An intent that this process wrote.
    fn with_intent(method: &str) -> Observation {
        let status = operation(method, "v1", None, None);
        Observation { may_call: true, ..Observation::test().with_status(&status).running(Some("v2")) }
    }

    fn called(method: &str, result: Result<(), Failure>) -> Report<ChatbotDeploymentStatus> {
        with_intent(method).report_of(&Outcome::RolloutStarted(result))
    }

    #[test]
    fn intent_names_call_version_and_last_deploy() {
        let observation =
            Observation::test().listing([deployed("v1", 500), version("v2")]).running(Some("v2"));
        assert_eq!(observation.next_step(), Step::RecordIntent(RolloutMethod::Deploy));
        let report = observation.report();
        let operation = report.status.current_operation.as_ref().unwrap();
        assert_eq!((operation.operation, operation.version_id.as_str()), (Operation::Deploy, "v1"));
        assert_eq!((operation.start_time.0, &operation.call_time), (at(0), &None));
        assert_eq!(operation.previous_deploy_time.as_ref().unwrap().0, at(-500));
        assert_eq!(condition(&report, "Reconciling"), Some(("True", "Deploying")));
        assert!(report.events.is_empty() && report.status.drift_corrections.is_none(), "it is no drift");
        assert_eq!(
            (report.requeue, report.status.target.unwrap().cause),
            (Requeue::Immediately, Cause::Spec)
        );
    }

    #[test]
    fn accepted_call_is_recorded_and_polled() {
        let report = called("Deploy", Ok(()));
        let operation = report.status.current_operation.as_ref().unwrap();
        assert_eq!(operation.result, Some(OperationResult::Accepted));
        assert_eq!(operation.call_time.as_ref().unwrap().0, at(0));
        assert_eq!(report.status.common.last_operations[0].operation, Operation::Deploy);
        assert_eq!(report.status.common.retry, None);
        assert!(matches!(report.requeue, Requeue::After(_)));
    }

    #[test]
    fn call_is_recorded_though_the_spec_has_changed() {
        let moved = with_intent("Deploy").with_spec(&json!({"versionRef": null, "versionId": "v3"}));
        let step = Step::StartRollout(RolloutMethod::Deploy);
        let outcome = Outcome::RolloutStarted(Ok(()));
        let report = crate::plan::deployment::report(&moved, &moved.state(), step, &outcome);
        let operation = report.status.current_operation.unwrap();
        assert_eq!((operation.version_id.as_str(), operation.call_time.is_some()), ("v1", true));
        assert_eq!(report.status.target.unwrap().version_id, "v3");
    }

    #[test]
    fn call_that_was_not_sent_keeps_its_intent() {
        let report = called("Deploy", Err(throttled(ApiCall::Deploy)));
        assert_eq!(report.status.current_operation.as_ref().unwrap().call_time, None);
        assert!(report.status.common.last_operations.is_empty());
        assert_eq!(condition(&report, "Reconciling"), Some(("True", "Throttled")));
        assert_eq!(report.requeue, Requeue::After(std::time::Duration::from_secs(3)));
    }

    #[test]
    fn refused_deploy_backs_off() {
        let report = called("Deploy", Err(refused(ApiCall::Deploy)));
        assert_eq!(condition(&report, "Stalled"), Some(("True", "RequestRejected")));
        assert_eq!(report.status.common.retry.as_ref().unwrap().failures, 1);
        let next = with_intent("Deploy").after(report);
        assert!(next.state().backing_off);
    }

    #[test]
    fn failure_of_a_call_is_not_that_of_a_target_that_came_during_it() {
        let moved = json!({"versionRef": null, "versionId": "v2"});
        let observation = with_intent("Deploy").with_spec(&moved).running(Some("v3"));
        for failure in [refused(ApiCall::Deploy), unknown(ApiCall::Deploy)] {
            let state = observation.state();
            let step = Step::StartRollout(RolloutMethod::Deploy);
            let outcome = Outcome::RolloutStarted(Err(failure));
            let report = crate::plan::deployment::report(&observation, &state, step, &outcome);
            assert_eq!((&report.status.common.retry, report.requeue), (&None, Requeue::Immediately));
            assert_eq!(condition(&report, "Stalled"), None);
            assert_eq!(report.status.common.last_operations[0].version_id.as_deref(), Some("v1"));
        }
    }

    #[test]
    fn backoff_of_one_target_delays_no_other() {
        let report = called("Deploy", Err(refused(ApiCall::Deploy)));
        let failed = with_intent("Deploy").after(report);
        assert!(failed.state().backing_off);
        let moved = failed.clone().with_spec(&json!({"versionRef": null, "versionId": "v2"}));
        assert!(!moved.state().backing_off, "git names another version");
        assert_eq!(moved.report().status.common.retry, None);
        let commanded = failed.annotated(crate::crd::annotation::ROLLBACK_TO, "v3");
        assert!(!commanded.state().backing_off, "a command is another cause");
        assert_eq!(commanded.next_step(), Step::RecordIntent(RolloutMethod::Deploy));
        let report = commanded.report();
        assert_eq!(condition(&report, "Reconciling"), Some(("True", "Deploying")));
        let recorded = Observation { may_call: true, ..commanded.after(report) };
        assert_eq!(recorded.next_step(), Step::StartRollout(RolloutMethod::Deploy));
    }

    #[test]
    fn refused_rollback_is_followed_by_deploy_at_once() {
        let report = called("Rollback", Err(refused(ApiCall::Rollback)));
        assert_eq!((report.requeue, &report.status.common.retry), (Requeue::Immediately, &None));
        let next = with_intent("Rollback").after(report);
        assert_eq!(next.next_step(), Step::RecordIntent(RolloutMethod::Deploy));
        let report = next.report();
        let [("RollbackFallback", note)] = events(&report)[..] else { panic!("{:?}", report.events) };
        assert!(note.contains("version 1.1 (v1)") && note.contains("no such call"), "{note}");
    }

    #[test]
    fn deploy_without_an_answer_is_repeated_and_keeps_the_time_of_the_first() {
        let report = called("Deploy", Err(unknown(ApiCall::Deploy)));
        assert_eq!(condition(&report, "Reconciling"), Some(("True", "Deploying")), "it may have happened");
        assert_eq!(report.status.current_operation.as_ref().unwrap().result, Some(OperationResult::Unknown));
        assert_eq!(report.status.common.retry.as_ref().unwrap().failures, 1);
        let later = Observation { now: at(31), may_call: false, ..with_intent("Deploy").after(report) };
        assert_eq!(later.next_step(), Step::RecordIntent(RolloutMethod::Deploy));
        let operation = later.report().status.current_operation.unwrap();
        assert_eq!((operation.start_time.0, operation.first_call_time.unwrap().0), (at(31), at(0)));
    }

    #[test]
    fn correction_of_drift_is_counted_and_emits_an_event() {
        let drifted = Observation::test().with_status(&reached_target("v1")).running(Some("v2"));
        let report = drifted.report();
        assert_eq!(report.status.drift_corrections.as_ref().unwrap().count, 1);
        assert_eq!(report.counters, [CounterIncrement::DriftEnforced]);
        let [("DriftDetected", note)] = events(&report)[..] else { panic!("{:?}", report.events) };
        assert!(note.contains("version 1.2 (v2)") && note.contains("redeploying version 1.1 (v1)"), "{note}");
    }

    #[test]
    fn delete_keeps_the_conditions_of_the_environment() {
        let entry = json!({"versionId": "v2", "name": "b", "requestTime": ago(100)});
        let running = Observation::test().with_status(&reached_target("v1")).running(Some("v1"));
        let ready = running.clone().after(running.report());
        let pending = ready.with_status(&json!({"pendingDeletions": [entry]}));
        assert_eq!(pending.next_step(), Step::DeleteVersion);
        for (result, backs_off) in [(Ok(()), false), (Err(unknown(ApiCall::Delete)), true)] {
            let report = pending.report_of(&Outcome::VersionDeleted("v2".to_owned(), result));
            assert_eq!(condition(&report, "Ready"), Some(("True", "Available")));
            assert_eq!(report.status.common.last_operations[0].operation, Operation::Delete);
            assert_eq!(report.status.pending_deletions[0].retry.is_some(), backs_off);
            assert_eq!(report.status.common.retry, None, "a rollout waits for no deletion");
        }
    }

    #[test]
    fn delete_that_was_not_sent_is_no_failure() {
        let entry = json!({"versionId": "v2", "name": "b", "requestTime": ago(100)});
        let pending =
            Observation::test().with_status(&json!({"pendingDeletions": [entry]})).running(Some("v1"));
        let unsent = Outcome::VersionDeleted("v2".to_owned(), Err(throttled(ApiCall::Delete)));
        let report = pending.report_of(&unsent);
        assert_eq!(report.status.pending_deletions[0].retry, None);
        assert!(matches!(report.requeue, Requeue::After(_)), "{:?}", report.requeue);
    }

    #[test]
    fn deploy_in_place_of_a_rollback_is_a_first_call() {
        let ran = json!({"history": [{"versionId": "v1", "startTime": ago(500)}]});
        let called = operation("Rollback", "v1", Some(31), Some("Unknown"));
        let ineffective = Observation::test().with_status(&ran).with_status(&called).running(Some("v2"));
        assert_eq!(ineffective.next_step(), Step::RecordIntent(RolloutMethod::Deploy));
        assert_eq!(ineffective.report().status.current_operation.unwrap().first_call_time, None);
    }

    #[test]
    fn rejected_key_is_named_by_its_secret() {
        let refused =
            Failure::new(ApiCall::Deploy, FailureClass::Forbidden { whole_key: true }, "unknown key");
        let observation = with_intent("Deploy").with_spec(&json!({"credentialsRef": {"name": "team-key"}}));
        let report = observation.report_of(&Outcome::RolloutStarted(Err(refused)));
        assert_eq!(condition(&report, "Stalled"), Some(("True", "AuthenticationFailed")));
        let message = &report.status.common.conditions[0].message;
        assert!(message.contains("Secret team-key"), "{message}");
    }
}
