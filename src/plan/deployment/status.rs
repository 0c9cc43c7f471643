//! The report of a step: status, events, and when to reconcile again.

mod calls;
mod waits;

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{
    Desired, Drift, Observation, State, Step, Wait,
    freshness::SHORTEST_POLL,
    history::{clear_active, sync_history},
    messages, next_step,
    pending_deletion::DeletionEnd,
    rollback_command::CommandEnd,
};
use crate::{
    chatcaptain::Failure,
    crd::{
        ChatbotDeployment, ChatbotDeploymentStatus, ConditionType, CurrentOperation, FailedVersions, Reason,
        Target, annotation,
    },
    plan::{
        CounterIncrement, EventReason, Report, Requeue, ServiceView, elapsed,
        status::{ReadyCondition, acknowledge_request, with_conditions},
        truncate_to_seconds,
    },
};

/// Ids in `status.failedVersions`, as the CRD bounds it.
const MAX_FAILED_VERSIONS: usize = 10;

/// The result of a step.
pub enum Outcome {
    /// The step calls nothing.
    NoCall,
    /// How the deploy or rollback ended.
    RolloutStarted(Result<(), Failure>),
    /// How the delete of the version with this id ended.
    VersionDeleted(String, Result<(), Failure>),
}

/// The status that `step` and its `outcome` lead to. `state` is that of `observation`; where the object was read
/// again after a call, it is computed anew.
#[must_use]
pub fn report(
    observation: &Observation,
    state: &State,
    step: Step,
    outcome: &Outcome,
) -> Report<ChatbotDeploymentStatus> {
    let mut report = match (step, outcome) {
        (Step::AddFinalizer, _) => return Report { finalizer: Some(true), ..unchanged(observation) },
        (Step::RemoveFinalizer, _) => return remove_finalizer(observation, state),
        (Step::RemoveRollbackCommand, _) => return remove_rollback_command(observation),
        (Step::StartRollout(method), Outcome::RolloutStarted(result)) => {
            calls::rollout_started(observation, state, method, result)
        }
        (Step::DeleteVersion, Outcome::VersionDeleted(id, result)) => {
            calls::version_deleted(observation, state, id, result)
        }
        (Step::RecordIntent(method), _) => calls::record_intent(observation, state, method),
        (Step::FailRollout, _) => fail_rollout(observation),
        (Step::Wait(wait), _) => waits::wait(observation, state, wait),
        // no call ends without its outcome; if one did, the next reconcile decides
        (Step::StartRollout(_) | Step::DeleteVersion, _) => unchanged(observation),
    };
    // an intent only prepares what the request asks for: once echoed, a backoff would hold the call after it
    if !matches!(step, Step::RecordIntent(_) | Step::Wait(Wait::Suspended)) {
        let meta = &observation.object.metadata;
        acknowledge_request(&mut report.status.common, meta, &observation.service);
    }
    report.status.common.record_subject(&observation.object.spec.chatbot_id, observation.environment());
    with_pending_deletions(observation, with_ended_command(observation, report))
}

fn remove_rollback_command(observation: &Observation) -> Report<ChatbotDeploymentStatus> {
    let Some(why) = observation.command_to_remove() else {
        return unchanged(observation);
    };
    let report = Report { annotation_to_remove: Some(annotation::ROLLBACK_TO), ..unchanged(observation) };
    let note = messages::rollback_command_removed(observation, why);
    report.event(why == CommandEnd::VersionNotFound, EventReason::RollbackCommandEnded, note)
}

/// An annotation that the manifest holds is not removed; an event says so, once.
fn with_ended_command(
    observation: &Observation,
    report: Report<ChatbotDeploymentStatus>,
) -> Report<ChatbotDeploymentStatus> {
    let has_ended = |status: &ChatbotDeploymentStatus| {
        status.rollback_command.as_ref().is_some_and(|command| command.ended)
    };
    if has_ended(&report.status) && !has_ended(observation.status()) {
        return report.event(true, EventReason::RollbackCommandEnded, messages::ended_command_in_manifest());
    }
    report
}

/// Takes over the new deletions, and drops those that are finished.
fn with_pending_deletions(
    observation: &Observation,
    mut report: Report<ChatbotDeploymentStatus>,
) -> Report<ChatbotDeploymentStatus> {
    let remaining = observation.pending_deletions();
    for entry in &observation.status().pending_deletions {
        // one that an object holds again is off the list, but not deleted
        if remaining.contains(entry) || observation.reclaimed.contains(&entry.version_id) {
            continue;
        }
        let (id, name) = (&entry.version_id, &entry.name);
        report = match observation.deletion_end(entry) {
            Some(DeletionEnd::Deleted) | None => {
                let note = messages::version_deleted_note(id, name);
                report.event(false, EventReason::VersionDeleted, note)
            }
            Some(end) => {
                let note = messages::not_deleted_note(end, id, name);
                report.orphaned(EventReason::Orphaned, note, vec![id.clone()])
            }
        };
    }
    // the step may have changed the backoff of one
    let reported =
        std::mem::replace(&mut report.status.pending_deletions, observation.next_pending_deletions());
    for entry in &mut report.status.pending_deletions {
        if let Some(reported) = reported.iter().find(|reported| reported.version_id == entry.version_id) {
            entry.retry.clone_from(&reported.retry);
        }
    }
    report
}

/// Nothing to report; the next reconcile, at once, decides.
fn unchanged(observation: &Observation) -> Report<ChatbotDeploymentStatus> {
    Report::new(observation.status().clone(), Requeue::Immediately)
}

fn remove_finalizer(observation: &Observation, state: &State) -> Report<ChatbotDeploymentStatus> {
    // an object that lives on has other steps, which waited for this one
    let requeue = if state.deleting.is_some() { Requeue::OnChange } else { Requeue::Immediately };
    let mut report = Report { finalizer: Some(false), ..Report::new(observation.status().clone(), requeue) };
    for entry in observation.pending_deletions() {
        let note = messages::orphaned_note(state, &entry.version_id, &entry.name);
        report = report.orphaned(EventReason::Orphaned, note, vec![entry.version_id]);
    }
    report
}

fn fail_rollout(observation: &Observation) -> Report<ChatbotDeploymentStatus> {
    let Ok(desired) = observation.desired() else {
        return unchanged(observation);
    };
    let failed = with_failed_version(observation, &desired.version_id);
    let state = failed.state();
    // where a rollback follows, no user action is required, and no tool must take the state in between for the end
    let condition = match next_step(&state) {
        Step::RecordIntent(method) => messages::rollout(&failed, method),
        _ => messages::deadline_exceeded(observation),
    };
    let mut status = status_with(&failed, &state, &condition);
    status.current_operation = None;
    if observation.live_is_observable() {
        sync_history(observation, &mut status);
    } else {
        // the call may still take effect: what was confirmed before it is not certain any more
        clear_active(&mut status);
    }
    let note = messages::rollout_failed_note(observation);
    let report = Report::new(status, Requeue::Immediately)
        .event(true, EventReason::RolloutFailed, note)
        .about(&[&desired.version_id]);
    let environment = observation.object.spec.environment;
    match &observation.status().current_operation {
        Some(CurrentOperation { operation, .. }) => {
            report.count(CounterIncrement::RolloutFailed { environment, operation: *operation })
        }
        None => report,
    }
}

/// The observation as it is once this version is among the failed ones, and its operation has ended.
fn with_failed_version(observation: &Observation, id: &str) -> Observation {
    let earlier = observation.failed_versions().iter().map(String::as_str).filter(|earlier| *earlier != id);
    let version_ids = [id].into_iter().chain(earlier).take(MAX_FAILED_VERSIONS).map(str::to_owned).collect();
    // a change of the spec is a reason to try again
    let generation = observation.object.metadata.generation.unwrap_or_default();
    let mut object = ChatbotDeployment::clone(&observation.object);
    let status = object.status.get_or_insert_default();
    status.failed_versions = Some(FailedVersions { generation, version_ids });
    status.current_operation = None;
    // a request that this report answers does not ask for another rollout
    acknowledge_request(&mut status.common, &observation.object.metadata, &observation.service);
    Observation { object: object.into(), ..observation.clone() }
}

/// The status with this `Ready` condition. While the object is being deleted the reason is Deleting.
fn status_with(
    observation: &Observation,
    state: &State,
    condition: &ReadyCondition,
) -> ChatbotDeploymentStatus {
    let (status, meta) = (observation.status(), &observation.object.metadata);
    let deleting = meta.deletion_timestamp.is_some();
    let reason = if deleting { Reason::Deleting } else { condition.reason };
    let ready = ReadyCondition::new(reason, condition.message.as_str());
    let drifted = drifted_condition(observation, state);
    let drifted = drifted.as_ref().map(|(status, reason, message)| (*status, *reason, message.as_str()));
    let common = with_conditions(&status.common, meta, &ready, drifted, observation.now);
    let mut status = ChatbotDeploymentStatus { common, ..status.clone() };
    sync_spec(observation, &mut status);
    status
}

/// Updates the fields that depend on the spec and the annotations alone.
fn sync_spec(observation: &Observation, status: &mut ChatbotDeploymentStatus) {
    if observation.failed_versions().is_empty() {
        status.failed_versions = None;
    }
    status.waiting_for_version = observation.missing_version();
    status.followed = observation.followed();
    observation.sync_rollback_command(status);
    let Ok(desired) = observation.desired() else { return };
    // an operation on another version is forgotten once it can make no difference any more
    let may_take_effect =
        !observation.live_is_observable() || observation.other_call_in_flight(&desired.version_id);
    status
        .current_operation
        .take_if(|operation| operation.version_id != desired.version_id && !may_take_effect);
    // the backoff of another rollout
    if !status.target.as_ref().is_some_and(|target| desired.is(target)) {
        status.common.retry = None;
    }
    status.target = Some(next_target(observation, status.target.take(), desired));
}

fn next_target(observation: &Observation, old: Option<Target>, desired: Desired) -> Target {
    // the same version keeps its times: promotion and drift are judged by them
    let old = old.filter(|old| old.version_id == desired.version_id);
    let start_time = old.as_ref().and_then(|old| old.start_time.clone());
    let (reached_time, old_name) = old.map(|old| (old.reached_time, old.version_name)).unwrap_or_default();
    Target {
        // the name outlives its object, which may be deleted while its version runs
        version_name: observation.version_name(&desired.version_id).or(old_name),
        start_time: start_time.or_else(|| Some(truncate_to_seconds(observation.now))),
        reached_time,
        version_id: desired.version_id,
        version_number: desired.version_number,
        cause: desired.cause,
    }
}

/// Status, reason and message of `Drifted`. While the service is unavailable it stays as it was.
fn drifted_condition(observation: &Observation, state: &State) -> Option<(&'static str, Reason, String)> {
    let ServiceView::Available { deployment_status, .. } = &observation.service else {
        let conditions = &observation.status().common.conditions;
        let old = conditions.iter().find(|c| c.type_ == ConditionType::Drifted.as_str());
        return old.and_then(carry_over_drifted);
    };
    if !observation.live_is_observable() {
        let message = messages::not_observable(deployment_status.is_some());
        return Some(("Unknown", Reason::NotObservable, message.to_owned()));
    }
    Some(match (state.drift, observation.desired()) {
        (Drift::None | Drift::LateEffect, _) | (_, Err(_)) => {
            ("False", Reason::InSync, Reason::InSync.meaning().to_owned())
        }
        (drift, Ok(desired)) => ("True", Reason::OutOfSync, messages::drift(observation, &desired, drift)),
    })
}

fn carry_over_drifted(condition: &Condition) -> Option<(&'static str, Reason, String)> {
    let status = ["True", "False", "Unknown"].into_iter().find(|status| condition.status == *status)?;
    let reason = Reason::ALL.iter().copied().find(|reason| condition.reason == reason.as_str())?;
    Some((status, reason, condition.message.clone()))
}

/// Name of the Secret with the API key, for messages.
fn secret(observation: &Observation) -> String {
    observation.object.spec.credentials_ref.clone().unwrap_or_default().name().to_owned()
}

fn requeue_at_interval(observation: &Observation) -> Requeue {
    observation.service.requeue_when_stale(observation.interval(), observation.jitter)
}

/// The longer a rollout takes, the longer the time between two reads.
fn requeue_while_progressing(observation: &Observation) -> Requeue {
    let operation = observation.status().current_operation.as_ref();
    let since = operation.map_or(Duration::ZERO, |operation| elapsed(&operation.start_time, observation.now));
    // several reads within the grace, so that a rollback without effect is noticed soon after it
    let longest = (observation.config.visibility_grace / 4).clamp(SHORTEST_POLL, Duration::from_secs(10));
    // a fifth of the time that has passed: a delay of the report that is not felt, and few reads of a slow rollout
    let poll = Requeue::After((since / 5).clamp(SHORTEST_POLL, longest));
    let called_at = operation.and_then(|operation| operation.call_time.as_ref());
    // objects keep whole seconds: the deadline is over in the second after it
    let deadline = observation.progress_deadline() + Duration::from_secs(1);
    let remaining = called_at.map(|at| deadline.saturating_sub(elapsed(at, observation.now)));
    remaining.filter(|remaining| !remaining.is_zero()).map_or(poll, |remaining| poll.at_latest(remaining))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::{Gate, RolloutMethod, VersionBeingDeleted, fixtures::*},
        *,
    };
    use crate::plan::UnavailableReason;

    #[test]
    fn failed_rollout_is_recorded_and_emits_an_event() {
        let called = operation("Deploy", "v1", Some(301), Some("Accepted"));
        let late = Observation::test().with_status(&called).running(Some("v2"));
        assert_eq!(late.next_step(), Step::FailRollout);
        let report = late.report();
        assert_eq!(report.status.failed_versions.as_ref().unwrap().version_ids, ["v1"]);
        assert_eq!(report.status.current_operation, None);
        assert_eq!(report.requeue, Requeue::Immediately);
        let [("RolloutFailed", note)] = events(&report)[..] else { panic!("{:?}", report.events) };
        assert!(note.contains("version 1.1 (v1)") && note.contains("prod runs version 1.2 (v2)"), "{note}");
        assert_eq!(late.after(report).next_step(), Step::Wait(Wait::ProgressDeadlineExceeded));
    }

    #[test]
    fn failure_that_a_rollback_follows_requires_no_user_action() {
        let called = operation("Deploy", "v1", Some(301), Some("Accepted"));
        let ran = json!({"history": [{"versionId": "v2", "startTime": ago(900)}]});
        let late = Observation::test()
            .with_spec(&json!({"rollback": {"onFailure": "Previous"}}))
            .with_status(&called)
            .with_status(&ran)
            .running(None);
        assert_eq!(late.next_step(), Step::FailRollout);
        for late in [late.clone(), late.annotated(annotation::RECONCILE_REQUESTED_AT, "now")] {
            let report = late.report();
            assert_eq!(condition(&report, "Stalled"), None);
            assert_eq!(condition(&report, "Reconciling"), Some(("True", "RollingBack")));
            assert_eq!(report.status.target.as_ref().unwrap().version_id, "v2");
            assert_eq!(late.after(report).next_step(), Step::RecordIntent(RolloutMethod::Rollback));
        }
    }

    #[test]
    fn unobservable_failure_leaves_nothing_confirmed() {
        let called = operation("Deploy", "v1", Some(301), Some("Accepted"));
        let active = json!({"active": {"versionId": "v2", "startTime": ago(500)}});
        let unmoved = Observation::test()
            .with_status(&called)
            .with_status(&active)
            .listing([deployed("v2", 500), version("v1")]);
        let report = unmoved.report();
        assert_eq!(events(&report).len(), 1);
        assert_eq!(report.status.active, None);
        assert_eq!(report.status.previous.unwrap().version_id, "v2");
    }

    #[test]
    fn deletion_is_taken_over_after_the_finalizer() {
        let version = VersionBeingDeleted { version_id: "v1".to_owned(), name: "a".to_owned() };
        let new =
            Observation { versions_being_deleted: vec![version], ..Observation::test().running(Some("v1")) };
        let report = new.report();
        assert_eq!(report.finalizer, Some(true));
        assert!(report.status.pending_deletions.is_empty());
        let with_finalizer = new.with_metadata(&json!({"finalizers": ["chatcaptain.dev/finalizer"]}));
        assert_eq!(with_finalizer.report().status.pending_deletions[0].version_id, "v1");
    }

    #[test]
    fn finished_deletion_emits_an_event_and_a_reclaimed_one_does_not() {
        let entry = json!({"versionId": "v2", "name": "b", "requestTime": ago(100)});
        let record =
            json!({"operation": "Delete", "versionId": "v2", "completionTime": ago(5), "result": "Accepted"});
        let status = json!({"pendingDeletions": [entry], "lastOperations": [record]});
        let gone = Observation::test().with_status(&status).listing([version("v1")]).running(Some("v1"));
        let report = gone.report();
        let [("VersionDeleted", note)] = events(&report)[..] else { panic!("{:?}", report.events) };
        assert!(note.contains("v2") && note.contains("ChatbotVersion b"), "{note}");
        assert!(report.status.pending_deletions.is_empty());
        let reclaimed = Observation { reclaimed: ["v2".to_owned()].into(), ..gone };
        assert!(events(&reclaimed.report()).is_empty());
    }

    #[test]
    fn version_left_behind_emits_an_event_with_its_cause() {
        let entry = json!({"versionId": "v2", "name": "b", "requestTime": ago(100)});
        let status = json!({"pendingDeletions": [entry]});
        let pending = || Observation::test().with_status(&status).deleted(1000);
        let force = json!({"annotations": {annotation::FORCE_ORPHAN: "true"}});
        for (observation, cause) in [
            (pending().running(Some("v2")), "it is live"),
            (pending().with_metadata(&force), "force-orphan"),
            (pending().with_spec(&json!({"suspend": true})), "suspended"),
            (Observation { crd_is_being_deleted: true, ..pending() }, "CRD"),
            (pending().unavailable(UnavailableReason::AuthenticationFailed), "credentials"),
        ] {
            let report = observation.report();
            assert_eq!((report.finalizer, report.orphans.as_slice()), (Some(false), &["v2".to_owned()][..]));
            let [("Orphaned", note)] = events(&report)[..] else { panic!("{cause}: {:?}", report.events) };
            assert!(note.contains("v2") && note.contains(cause), "{cause}: {note}");
        }
    }

    #[test]
    fn operation_on_another_version_is_forgotten_once_it_makes_no_difference() {
        let called = |seconds| operation("Deploy", "v2", Some(seconds), Some("Accepted"));
        let kept = |observation: Observation| observation.report().status.current_operation.is_some();
        assert!(kept(Observation::test().with_status(&called(10)).running(Some("v1"))), "it may replace v1");
        assert!(!kept(Observation::test().with_status(&called(301)).running(Some("v1"))));
    }

    #[test]
    fn drifted_says_whether_the_environment_is_in_sync() {
        let drifted = |observation: &Observation| {
            let report = observation.report();
            let (status, reason) = condition(&report, "Drifted").unwrap();
            format!("{status} {reason}")
        };
        let in_sync = Observation::test().with_status(&reached_target("v1")).running(Some("v1"));
        assert_eq!(drifted(&in_sync), "False InSync");
        let warned = in_sync.clone().with_spec(&json!({"drift": "Warn"})).running(Some("v2"));
        assert_eq!(drifted(&warned), "True OutOfSync");
        assert_eq!(drifted(&in_sync.clone().listing([version("v1")])), "Unknown NotObservable");
        let before = in_sync.clone().after(in_sync.report());
        let blind = before.with_metadata(&json!({"generation": 2})).unavailable(UnavailableReason::Throttled);
        assert_eq!(drifted(&blind), "False InSync", "nothing new is known");
    }

    #[test]
    fn object_being_deleted_reports_deleting() {
        let status = json!({"pendingDeletions": [{"versionId": "v2", "name": "b", "requestTime": ago(100)}]});
        let deleted =
            Observation::test().with_status(&status).deleted(1).unavailable(UnavailableReason::Throttled);
        assert_eq!(condition(&deleted.report(), "Ready"), Some(("False", "Deleting")));
        let failed = Err(refused(crate::chatcaptain::ApiCall::Deploy));
        let state = deleted.state();
        let step = Step::StartRollout(RolloutMethod::Deploy);
        let report = report(&deleted, &state, step, &Outcome::RolloutStarted(failed));
        assert_eq!(condition(&report, "Ready"), Some(("False", "Deleting")));
    }

    #[test]
    fn each_version_that_failed_in_this_generation_stays_recorded() {
        let called = operation("Deploy", "v1", Some(301), Some("Accepted"));
        let failed = json!({"failedVersions": {"generation": 1, "versionIds": ["v2", "v1"]}});
        let late = Observation::test().with_status(&called).with_status(&failed).running(Some("v3"));
        let retried = late.annotated(annotation::RECONCILE_REQUESTED_AT, "again");
        assert_eq!(retried.report().status.failed_versions.unwrap().version_ids, ["v1"]);
        let failed = json!({"failedVersions": {"generation": 1, "versionIds": ["v2"]}});
        let late = Observation::test().with_status(&called).with_status(&failed).running(Some("v3"));
        assert_eq!(late.report().status.failed_versions.unwrap().version_ids, ["v1", "v2"]);
    }

    #[test]
    fn operation_on_another_version_is_kept_while_what_runs_cannot_be_observed() {
        let after = json!({"promoteAfter": {"deploymentRef": {"name": "test"}}});
        let called = operation("Deploy", "v2", Some(301), Some("Accepted"));
        let waiting = Observation::test().with_spec(&after).with_status(&called);
        let kept = |observation: Observation| {
            assert_eq!(observation.next_step(), Step::Wait(Wait::Gate(Gate::Promotion)));
            observation.report().status.current_operation.is_some()
        };
        assert!(!kept(waiting.clone().running(Some("v3"))));
        assert!(kept(waiting.listing([version("v1"), version("v2")])));
    }

    #[test]
    fn rollout_is_watched_less_and_less_often() {
        let requeue = |seconds| {
            let called = operation("Deploy", "v1", Some(seconds), Some("Accepted"));
            Observation::test().with_status(&called).running(Some("v2")).report().requeue
        };
        assert_eq!(requeue(0), Requeue::After(Duration::from_millis(250)));
        assert_eq!(requeue(10), Requeue::After(Duration::from_secs(2)));
        assert_eq!(requeue(200), Requeue::After(Duration::from_millis(7500)), "a fourth of the grace");
    }

    #[test]
    fn deletion_times_out_after_the_timeout() {
        let timed_out = |seconds| {
            Observation::test().deleted(seconds).state().deleting.is_some_and(|deletion| deletion.timed_out)
        };
        assert!(!timed_out(900));
        assert!(timed_out(901));
    }
}
