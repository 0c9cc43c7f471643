//! The report of a reconcile that changes nothing in the service.

use std::time::Duration;

use super::{requeue_at_interval, requeue_while_progressing, status_with, unchanged};
use crate::{
    crd::{ChatbotDeploymentStatus, Reason},
    plan::{
        CounterIncrement, EventReason, Report, Requeue, ServiceView, UnavailableReason,
        deployment::{
            Gate, Observation, PendingDeletionState, State, Wait,
            history::{record_live, sync_history},
            messages,
            rollout::ran_before,
        },
        service_view::requeue_unavailable,
        status::{ReadyCondition, carry_over, is_ready, requeue_after_backoff, suspended_status},
        truncate_to_seconds,
    },
};

/// A soak time ends without any event.
// little beside any soak time, and the reconcile is answered from the caches
const PROMOTION_POLL: Requeue = Requeue::After(Duration::from_secs(5));
/// The end of a freeze triggers nothing, because namespaces are not watched.
const FREEZE_POLL: Requeue = Requeue::After(Duration::from_secs(15));
/// A deleted version disappears from the list without any event.
// all objects of a chatbot share the list, so two seconds cost little
const DELETION_POLL: Requeue = Requeue::After(Duration::from_secs(2));

pub(super) fn wait(observation: &Observation, state: &State, wait: Wait) -> Report<ChatbotDeploymentStatus> {
    let mut report = report_of(observation, state, wait);
    if observation.live_is_observable() && !matches!(wait, Wait::Progressing(_)) {
        // not during a rollout: the service may show nothing for the environment meanwhile, and `active` must not
        // flicker
        sync_history(observation, &mut report.status);
    }
    report
}

fn report_of(observation: &Observation, state: &State, wait: Wait) -> Report<ChatbotDeploymentStatus> {
    let at_interval = requeue_at_interval(observation);
    let (condition, requeue) = match wait {
        Wait::Available => return reached(observation, state, Reason::Available),
        Wait::RolledBack => return reached(observation, state, Reason::RolledBack),
        Wait::Suspended => return suspended(observation),
        Wait::BackingOff => return backing_off(observation),
        Wait::Unavailable(reason) => return unavailable(observation, state, reason),
        Wait::DriftTolerated => return uncorrected_drift(observation, state, Reason::DriftTolerated),
        Wait::DriftCorrectionPaused => {
            return uncorrected_drift(observation, state, Reason::DriftCorrectionPaused);
        }
        Wait::Progressing(method) => {
            (messages::rollout(observation, method), requeue_while_progressing(observation))
        }
        Wait::ProgressDeadlineExceeded => (messages::deadline_exceeded(observation), at_interval),
        Wait::Unresolved(why) => {
            let deadline = observation.time_for_version().filter(|remaining| !remaining.is_zero());
            let requeue = deadline.map_or(at_interval, |remaining| at_interval.at_latest(remaining));
            (messages::unresolved(observation, why), requeue)
        }
        Wait::Gate(gate) => (messages::gate(observation, gate), requeue_at_gate(observation, gate)),
        Wait::PromotionBlocked => (messages::promotion(observation, Reason::PromotionBlocked), at_interval),
        Wait::Conflict => (messages::conflict(observation), at_interval),
        Wait::ForeignVersion => (messages::foreign_version(observation), at_interval),
        Wait::InvalidSpec => (messages::invalid_spec(observation), Requeue::OnChange),
        Wait::Deleting if state.pending_deletion == PendingDeletionState::BackingOff => {
            (messages::deleting(observation), requeue_at_interval_or_retry(observation))
        }
        Wait::Deleting => (messages::deleting(observation), DELETION_POLL),
        Wait::WaitingForOtherFinalizers => (messages::waiting_for_other_finalizers(), Requeue::OnChange),
    };
    Report::new(status_with(observation, state, &condition), requeue)
}

/// An annotation that opens a gate triggers a reconcile by itself.
fn requeue_at_gate(observation: &Observation, gate: Gate) -> Requeue {
    let at_interval = requeue_at_interval(observation);
    match gate {
        Gate::Freeze => FREEZE_POLL,
        Gate::Promotion => PROMOTION_POLL,
        Gate::Verification | Gate::Approval => at_interval,
        Gate::Window => {
            let opens = observation.next_window().map(|opens| opens.duration_since(observation.now));
            // a second more: objects keep whole seconds
            opens.map_or(at_interval, |wait| {
                at_interval.at_latest(wait.unsigned_abs() + Duration::from_secs(1))
            })
        }
    }
}

fn suspended(observation: &Observation) -> Report<ChatbotDeploymentStatus> {
    let status = observation.status();
    let target_changed = observation.spec_target_changed();
    let meta = &observation.object.metadata;
    let common = suspended_status(&status.common, meta, target_changed, observation.now);
    Report::new(ChatbotDeploymentStatus { common, ..status.clone() }, Requeue::OnChange)
}

/// The status stays as the failed call has left it: its message says why.
fn backing_off(observation: &Observation) -> Report<ChatbotDeploymentStatus> {
    let status = observation.status();
    Report::new(status.clone(), requeue_after_backoff(&status.common, observation.now))
}

/// At the interval, or sooner where a deletion that failed can be tried again by then.
fn requeue_at_interval_or_retry(observation: &Observation) -> Requeue {
    let requeue = requeue_at_interval(observation);
    observation.time_until_deletion_retry().map_or(requeue, |delay| requeue.at_latest(delay))
}

/// The environment runs what it should; if it did not before, history moves on.
fn reached(observation: &Observation, state: &State, reason: Reason) -> Report<ChatbotDeploymentStatus> {
    let Ok(desired) = observation.desired() else {
        return unchanged(observation);
    };
    let id = &desired.version_id;
    let old = observation.status();
    let mut status = status_with(observation, state, &messages::reached(observation, reason, &desired));
    // the proof ends the operation: another version that runs later is drift
    status.current_operation = None;
    status.common.retry = None;
    let requeue = requeue_at_interval_or_retry(observation);
    if let Some(target) = &mut status.target {
        // the first time stays: that it is set is what makes another version drift
        target.reached_time.get_or_insert(truncate_to_seconds(observation.now));
    }
    if let Some(failed) = &mut status.failed_versions {
        // a version that is live late has not failed
        failed.version_ids.retain(|failed| failed != id);
    }
    status.failed_versions.take_if(|failed| failed.version_ids.is_empty());
    if old.active.as_ref().is_some_and(|active| active.version_id == *id) {
        return Report::new(status, requeue);
    }
    record_live(observation, &mut status, id);
    let report = Report::new(status, requeue);
    let Some(operation) = old.current_operation.as_ref().filter(|operation| operation.version_id == *id)
    else {
        // it was deployed outside the operator, so there is no event
        return report;
    };
    let went_back =
        ran_before(&old.history, id, old.active.as_ref().map(|active| active.version_id.as_str()));
    let event = if went_back { EventReason::RolledBack } else { EventReason::Deployed };
    let counter = CounterIncrement::RolloutSucceeded {
        environment: observation.object.spec.environment,
        operation: operation.operation,
        lead_time: lead_time(observation, id).filter(|_| !went_back),
    };
    report.event(false, event, messages::rollout_note(observation, event, id)).about(&[id]).count(counter)
}

/// From the snapshot of a version until it was live. Both by the clock of the service, which may be hours off.
fn lead_time(observation: &Observation, id: &str) -> Option<Duration> {
    let version = observation.listed(id)?;
    Duration::try_from(version.deployed?.duration_since(version.created?)).ok()
}

/// Another version was deployed outside the operator, and the operator does not correct it.
fn uncorrected_drift(
    observation: &Observation,
    state: &State,
    reason: Reason,
) -> Report<ChatbotDeploymentStatus> {
    let Ok(desired) = observation.desired() else {
        return unchanged(observation);
    };
    let condition = ReadyCondition::new(reason, messages::drift(observation, &desired, state.drift));
    let report = Report::new(status_with(observation, state, &condition), requeue_at_interval(observation));
    // once for each version that was deployed outside the operator
    let known = observation.status().active.as_ref().map(|active| &active.version_id);
    if known == observation.live().as_ref() {
        return report;
    }
    let note = messages::drift_note(observation, &desired, state.drift);
    let report = report.event(true, EventReason::DriftDetected, note).about(&[&desired.version_id]);
    report.count(CounterIncrement::DriftWarned)
}

fn unavailable(
    observation: &Observation,
    state: &State,
    reason: UnavailableReason,
) -> Report<ChatbotDeploymentStatus> {
    let ServiceView::Unavailable(unavailable) = &observation.service else {
        return unchanged(observation);
    };
    let requeue = requeue_unavailable(unavailable, observation.interval(), observation.jitter);
    let (status, meta) = (observation.status(), &observation.object.metadata);
    // while the service cannot be read nothing is known to have changed: what was Ready stays Ready
    if reason.is_transient() && is_ready(&status.common, meta) {
        let common = carry_over(&status.common, meta);
        return Report::new(ChatbotDeploymentStatus { common, ..status.clone() }, requeue);
    }
    let condition = ReadyCondition::new(reason.condition_reason(), unavailable.message.as_str());
    Report::new(status_with(observation, state, &condition), requeue)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::plan::{
        CounterIncrement, Requeue, UnavailableReason,
        deployment::{Observation, Step, Wait, fixtures::*},
    };

    #[test]
    fn first_deploy_that_shows_emits_an_event() {
        let called = operation("Deploy", "v1", Some(5), Some("Accepted"));
        let active = json!({"active": {"versionId": "v2", "startTime": ago(100)}});
        let live = Observation::test().with_status(&called).with_status(&active).running(Some("v1"));
        let report = live.report();
        let [("Deployed", note)] = events(&report)[..] else { panic!("{:?}", report.events) };
        assert!(note.contains("version 1.1 (v1)") && note.contains("version 1.2 (v2)"), "{note}");
        assert_eq!(condition(&report, "Ready"), Some(("True", "Available")));
        assert_eq!((&report.status.current_operation, &report.status.common.retry), (&None, &None));
        assert_eq!(report.status.target.as_ref().unwrap().reached_time.as_ref().unwrap().0, at(0));
        assert_eq!(report.status.active.as_ref().unwrap().version_id, "v1");
        assert!(events(&live.after(report).report()).is_empty(), "once");
    }

    #[test]
    fn return_to_a_version_of_history_emits_rolled_back() {
        let called = operation("Deploy", "v1", Some(5), Some("Accepted"));
        let ran = json!({"history": [{"versionId": "v1", "startTime": ago(500)}]});
        let report = Observation::test().with_status(&called).with_status(&ran).running(Some("v1")).report();
        assert_eq!(events(&report)[0].0, "RolledBack");
    }

    #[test]
    fn version_deployed_outside_the_operator_is_recorded_without_event() {
        let report = Observation::test().running(Some("v1")).report();
        assert!(events(&report).is_empty());
        assert_eq!(report.status.rollback_command, None);
        assert_eq!(report.status.active.unwrap().version_id, "v1");
    }

    #[test]
    fn late_version_is_no_failure_any_more() {
        let failed = json!({"failedVersions": {"generation": 1, "versionIds": ["v1"]}});
        let late = Observation::test().with_status(&failed).running(Some("v1"));
        assert_eq!(late.report().status.failed_versions, None);
    }

    #[test]
    fn commanded_rollback_is_stalled_until_it_ends() {
        let commanded =
            Observation::test().annotated(crate::crd::annotation::ROLLBACK_TO, "v2").running(Some("v2"));
        let report = commanded.report();
        assert_eq!(condition(&report, "Stalled"), Some(("True", "RolledBack")));
        assert_eq!(report.status.rollback_command.unwrap().version_id, "v2");
    }

    #[test]
    fn ready_survives_a_transient_outage_only() {
        let running = Observation::test().running(Some("v1"));
        let ready = running.clone().after(running.report());
        let throttled = ready.clone().unavailable(UnavailableReason::Throttled).report();
        assert_eq!(condition(&throttled, "Ready"), Some(("True", "Available")));
        let rejected = ready.unavailable(UnavailableReason::AuthenticationFailed).report();
        assert_eq!(condition(&rejected, "Stalled"), Some(("True", "AuthenticationFailed")));
        let new = Observation::test().unavailable(UnavailableReason::Throttled).report();
        assert_eq!(condition(&new, "Reconciling"), Some(("True", "Throttled")));
    }

    #[test]
    fn tolerated_drift_emits_one_event_per_version() {
        let warn = json!({"drift": "Warn"});
        let drifted =
            Observation::test().with_spec(&warn).with_status(&reached_target("v1")).running(Some("v2"));
        let report = drifted.report();
        assert_eq!(events(&report)[0].0, "DriftDetected");
        assert_eq!(report.counters, [CounterIncrement::DriftWarned]);
        assert_eq!(condition(&report, "Ready"), Some(("True", "DriftTolerated")));
        let known = drifted.after(report);
        assert!(events(&known.report()).is_empty());
        assert_eq!(events(&known.running(Some("v3")).report()).len(), 1);
    }

    #[test]
    fn suspended_object_keeps_its_conditions() {
        let running = Observation::test().running(Some("v1"));
        let ready = running.clone().after(running.report());
        let suspended = ready.with_spec(&json!({"suspend": true})).with_metadata(&json!({"generation": 2}));
        let report = suspended.report();
        assert_eq!(condition(&report, "Ready"), Some(("True", "Available")));
        assert_eq!((report.status.common.observed_generation, report.requeue), (Some(2), Requeue::OnChange));
        let moved = suspended.with_spec(&json!({"versionRef": null, "versionId": "v2"}));
        assert_eq!(condition(&moved.report(), "Ready"), Some(("False", "Suspended")));
    }

    #[test]
    fn failed_delete_is_retried_after_its_own_backoff_while_ready() {
        let retry = json!({"failures": 1, "nextAttemptTime": ago(-2)});
        let entry = json!({"versionId": "v2", "name": "b", "requestTime": ago(100), "retry": retry});
        let status = json!({"pendingDeletions": [entry]});
        let waiting = Observation::test().with_status(&status).running(Some("v1"));
        assert_eq!(waiting.next_step(), Step::Wait(Wait::Available));
        let report = waiting.report();
        assert_eq!(report.requeue, Requeue::After(std::time::Duration::from_secs(2)));
        assert!(report.status.pending_deletions[0].retry.is_some());
    }

    #[test]
    fn success_ends_the_backoff() {
        let retry = json!({"retry": {"failures": 3, "nextAttemptTime": ago(-60)}});
        let running = Observation::test().with_status(&retry).running(Some("v1")).report();
        assert_eq!(running.status.common.retry, None);
    }

    #[test]
    fn history_is_kept_as_it_is_while_a_call_is_in_flight() {
        let called = operation("Deploy", "v1", Some(5), Some("Accepted"));
        let active = json!({"active": {"versionId": "v2", "startTime": ago(100)}});
        let rolling_out = Observation::test().with_status(&called).with_status(&active).running(Some("v3"));
        assert_eq!(rolling_out.report().status.active.unwrap().version_id, "v2");
    }
}
