//! The report of a deletion: what it waits for, and what is left behind when the finalizer goes.

use std::time::Duration;

use super::{CreateState, FinalizerRemoval, LiveState, Match, Observation, State, messages};
use crate::{
    crd::{ChatbotVersionStatus, Reason},
    plan::{
        EventReason, Report, Requeue, ServiceView, elapsed, service_view::requeue_unavailable,
        status::ReadyCondition,
    },
};

/// How often the list is read, at least, while a deletion waits for what may take minutes.
const LONGEST_POLL_INTERVAL: Duration = Duration::from_secs(30);

pub(super) fn finalizer_removed(
    observation: &Observation,
    why: FinalizerRemoval,
) -> Report<ChatbotVersionStatus> {
    let status = observation.status().clone();
    // nothing to come back for: the object disappears, or waits for the finalizers of others
    let report = Report { finalizer: Some(false), ..Report::new(status, Requeue::OnChange) };
    let version = messages::version_label(observation.object.version_id(), observation.name());
    let orphaned = match why {
        FinalizerRemoval::HandedOver => return with_handover(report, observation, false),
        // the wait for the deployment has ended, and it still deletes the version
        FinalizerRemoval::Retained | FinalizerRemoval::ForceOrphaned
            if observation.handed_over_to().is_some() =>
        {
            return with_handover(report, observation, true);
        }
        FinalizerRemoval::ForceOrphaned => messages::force_orphaned(&version),
        FinalizerRemoval::LiveUnmanaged => messages::live_unmanaged(&version),
        FinalizerRemoval::CredentialsTimeout => messages::credentials_timeout(&version),
        FinalizerRemoval::Unconfirmed => messages::deletion_unconfirmed(&version),
        FinalizerRemoval::ForeignMarker => {
            let owner = observation.listed().and_then(|version| observation.foreign_owner(version));
            messages::foreign_not_deleted(&version, &owner.unwrap_or_default())
        }
        FinalizerRemoval::Retained => match observation.invalid_namespace_policy() {
            Some(value) => messages::invalid_namespace_policy(value, &version),
            None => return report,
        },
        FinalizerRemoval::Deleted => {
            let note = messages::version_deleted(observation.id());
            return report.event(false, EventReason::VersionDeleted, note);
        }
        FinalizerRemoval::NeverCreated | FinalizerRemoval::OwnedByOther => return report,
    };
    report.orphaned(EventReason::Orphaned, orphaned, vec![observation.id().to_owned()])
}

fn with_handover(
    report: Report<ChatbotVersionStatus>,
    observation: &Observation,
    warning: bool,
) -> Report<ChatbotVersionStatus> {
    let deployment = observation.handed_over_to().unwrap_or_default();
    let note = messages::deletion_delegated(observation.id(), &deployment);
    report.event(warning, EventReason::DeletionDelegated, note)
}

pub(super) fn deleting(observation: &Observation, state: &State) -> Report<ChatbotVersionStatus> {
    let ServiceView::Unavailable(unavailable) = &observation.service else {
        let condition = deletion_progress(observation, state);
        return observation.report_with(&condition, requeue_while_deleting(observation, state));
    };
    let condition = if unavailable.reason.times_out() {
        messages::deletion_blocked_until_timeout(&unavailable.message)
    } else {
        ReadyCondition::new(Reason::Deleting, unavailable.message.as_str())
    };
    let requeue = requeue_unavailable(unavailable, observation.interval(), observation.jitter);
    observation.report_with(&condition, requeue)
}

/// What changes in the cluster queues the object; the service is read less and less often.
fn requeue_while_deleting(observation: &Observation, state: &State) -> Requeue {
    let poll = observation.requeue_at_poll_interval();
    let live_state = state.deleting.map(|deletion| deletion.live_state);
    let since = observation.object.metadata.deletion_timestamp.as_ref();
    match (live_state, since, poll) {
        (
            Some(LiveState::HandoverPending | LiveState::RolloutPending),
            Some(since),
            Requeue::After(shortest),
        ) => {
            let growing = elapsed(since, observation.now) / 5;
            Requeue::After(growing.clamp(shortest, LONGEST_POLL_INTERVAL))
        }
        _ => poll,
    }
}

fn deletion_progress(observation: &Observation, state: &State) -> ReadyCondition {
    let (id, name) = (observation.id(), observation.name());
    let deletion = state.deleting;
    let live_state = deletion.map(|deletion| deletion.live_state);
    let is_requested = deletion.is_some_and(|deletion| deletion.delete_pending);
    if let Some(deployment) = observation.handed_over_to() {
        return messages::waiting_for_call_off(id, &deployment);
    }
    match (state.create_state, state.matched) {
        (_, Match::DeletionPending) => messages::waiting_for_deletion(name),
        (CreateState::Created, Match::NotYetListed) if !is_requested => {
            messages::waiting_for_visibility_before_deletion(id)
        }
        (CreateState::Created, _) if live_state == Some(LiveState::HandoverPending) => {
            messages::waiting_for_handover(id, &observation.handover_candidates())
        }
        (CreateState::Created, _) if live_state == Some(LiveState::RolloutPending) => {
            messages::waiting_for_rollout(id)
        }
        // a list that shows nothing of ours proves nothing
        (CreateState::Created, Match::Missing | Match::NotYetListed) => {
            let problem = messages::unknown_account_problem(id, &observation.secret());
            messages::deletion_blocked_until_timeout(&problem)
        }
        (CreateState::Created, _) => messages::waiting_for_disappearance(id),
        _ => observation.unconfirmed(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{OURS, version};
    use super::*;
    use crate::{
        crd::{DeletionPolicy, Operation, annotation},
        plan::UnavailableReason,
    };

    /// An object whose version is listed.
    fn listed() -> Observation {
        Observation::test().recorded("v1").listing(vec![version("v1", OURS)])
    }

    /// The one event and the versions that may be left behind.
    fn orphaned(observation: &Observation) -> (String, Vec<String>) {
        let report = observation.report();
        assert_eq!(report.finalizer, Some(false));
        assert_eq!(report.event_reasons(), ["Orphaned"]);
        assert!(report.events[0].warning);
        (report.events[0].note.clone(), report.orphans)
    }

    #[test]
    fn a_deleted_version_is_an_event() {
        let deleted = Observation::test().recorded("v1").after(Operation::Delete, Some("v1"), 60).deleted(60);
        let report = deleted.report();
        assert_eq!((report.finalizer, report.event_reasons()), (Some(false), vec!["VersionDeleted"]));
        let never = Observation::test().deleted(0).report();
        assert_eq!((never.finalizer, never.event_reasons()), (Some(false), vec![]));
    }

    #[test]
    fn a_finalizer_removed_by_force_orphan_emits_an_event() {
        let (note, orphans) = orphaned(&listed().deleted(0).annotated(annotation::FORCE_ORPHAN, "yes"));
        assert!(note.contains("force-orphan") && note.contains("version v1"), "{note}");
        assert_eq!(orphans, ["v1"]);
        let unknown = Observation::test().searching(1).deleted(0).annotated(annotation::FORCE_ORPHAN, "yes");
        assert!(orphaned(&unknown).0.contains("a version named \"support\""));
    }

    #[test]
    fn a_finalizer_removed_after_the_timeout_emits_an_event() {
        let refused =
            |seconds| listed().deleted(seconds).unavailable(UnavailableReason::AuthenticationFailed);
        let waiting = refused(900).report();
        assert_eq!((waiting.ready().0, waiting.finalizer), ("Deleting", None));
        assert!(waiting.ready().1.contains("--deletion-timeout"), "{}", waiting.ready().1);
        let (note, orphans) = orphaned(&refused(901));
        assert!(note.contains("--deletion-timeout") && note.contains("v1"), "{note}");
        assert_eq!(orphans, ["v1"]);
    }

    #[test]
    fn a_finalizer_removed_though_the_delete_is_rejected_emits_an_event() {
        let refused =
            Observation::test().recorded("v1").deleted(901).after(Operation::Delete, Some("v1"), 60);
        let refused = refused.with_status(|status| {
            status.common.last_operations[0].result = crate::crd::OperationResult::Refused;
        });
        let (note, orphans) = orphaned(&refused);
        assert!(note.contains("--deletion-timeout") && note.contains("v1"), "{note}");
        assert_eq!(orphans, ["v1"]);
    }

    #[test]
    fn a_live_version_without_a_deployment_stays_and_emits_an_event() {
        let (note, orphans) = orphaned(&listed().running("1.1").deleted(0));
        assert!(note.contains("live") && note.contains("v1"), "{note}");
        assert_eq!(orphans, ["v1"]);
    }

    #[test]
    fn a_version_of_another_installation_stays_and_emits_an_event() {
        let foreign = listed().listing(vec![version("v1", super::super::fixtures::FOREIGN)]).deleted(0);
        let (note, orphans) = orphaned(&foreign);
        assert!(note.contains("owner id \"other\"") && note.contains("v1"), "{note}");
        assert_eq!(orphans, ["v1"]);
    }

    #[test]
    fn uninstalling_keeps_every_version_whatever_the_policies_say() {
        let uninstalling = Observation { crd_is_being_deleted: true, ..listed().deleted(0) };
        for policy in [None, Some(DeletionPolicy::Delete), Some(DeletionPolicy::Retain)] {
            let observation = uninstalling.clone().with(|o| o.spec.deletion_policy = policy);
            let report = observation.report();
            assert_eq!((report.finalizer, report.orphans), (Some(false), vec![]), "{policy:?}");
        }
        let misspelt = Observation { namespace_policy: Some("delete".to_owned()), ..uninstalling };
        assert!(misspelt.report().orphans.is_empty(), "the value decides nothing");
    }

    #[test]
    fn retain_is_no_orphan_unless_the_policy_is_a_mistake() {
        let retained = listed().deleted(0).with(|o| o.spec.deletion_policy = Some(DeletionPolicy::Retain));
        let report = retained.report();
        assert_eq!((report.finalizer, report.event_reasons()), (Some(false), vec![]));
        assert_eq!(report.orphans, Vec::<String>::new());

        let misspelt = Observation { namespace_policy: Some("delete".to_owned()), ..listed().deleted(0) };
        let (note, orphans) = orphaned(&misspelt);
        for part in [annotation::DELETION_POLICY, "\"delete\"", "v1"] {
            assert!(note.contains(part), "{part} is not in: {note}");
        }
        assert_eq!(orphans, ["v1"]);
    }

    #[test]
    fn a_hand_over_that_is_not_called_off_in_time_emits_an_event() {
        let entry = serde_json::json!({
            "versionId": "v1", "name": "support", "requestTime": "2026-01-01T00:00:00Z",
        });
        let retained = |seconds| {
            let pending = serde_json::json!({"pendingDeletions": [entry.clone()]});
            let retained = listed().managed_by(&pending).deleted(seconds);
            let retained = retained.with(|o| o.spec.deletion_policy = Some(DeletionPolicy::Retain));
            Observation { service: ServiceView::NotQueried, ..retained }
        };
        let waiting = retained(900).report();
        assert_eq!(waiting.finalizer, None);
        let message = waiting.ready().1;
        assert!(message.contains("ChatbotDeployment chatbots/support-test"), "{message}");
        let report = retained(901).report();
        assert_eq!((report.finalizer, report.event_reasons()), (Some(false), vec!["DeletionDelegated"]));
        assert!(report.events[0].warning);
    }

    #[test]
    fn a_deletion_says_what_it_waits_for() {
        let message = |observation: Observation| {
            let report = observation.deleted(0).report();
            assert_eq!((report.ready().0, report.finalizer), ("Deleting", None));
            report.ready().1.to_owned()
        };
        let live = listed().running("1.1").managed_by(&serde_json::json!({}));
        assert!(message(live).contains("ChatbotDeployment"));
        let deleted = listed().after(Operation::Delete, Some("v1"), 1);
        assert!(message(deleted).contains("version v1 to disappear"));
        let created = Observation::test().recorded("v1").after(Operation::Create, Some("v1"), 1);
        assert!(message(created).contains("to list version v1"));
        assert!(message(Observation::test().searching(1)).contains("create request"));
        let other_key = Observation::test().recorded("v1").with_unknown_account();
        assert!(message(other_key).contains("--deletion-timeout"));
    }

    #[test]
    fn a_hand_over_is_polled_less_and_less_often() {
        let requeue = |seconds| {
            let live = listed().running("1.1").managed_by(&serde_json::json!({}));
            live.deleted(seconds).report().requeue
        };
        assert_eq!(requeue(0), Requeue::After(Duration::from_secs(2)));
        assert_eq!(requeue(50), Requeue::After(Duration::from_secs(10)));
        assert_eq!(requeue(800), Requeue::After(LONGEST_POLL_INTERVAL));
    }

    #[test]
    fn a_deletion_names_the_version_it_waits_for_or_the_key() {
        let mut pending = Observation::test().listing(vec![version("v1", OURS)]).deleted(0);
        pending.deletion_pending.insert("v1".to_owned());
        let waiting = messages::waiting_for_deletion("support").message;
        assert_eq!(pending.report().ready().1, waiting);
        let created = Observation::test().recorded("v1").after(Operation::Create, Some("v1"), 1);
        let requested = created.after(Operation::Delete, Some("v1"), 1).with_status(|status| {
            status.common.last_operations[0].result = crate::crd::OperationResult::Unknown;
        });
        let report = requested.with_unknown_account().deleted(0).report();
        assert!(report.ready().1.contains("--deletion-timeout"), "{}", report.ready().1);
    }
}
