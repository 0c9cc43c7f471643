//! The report of a step: the status, the events, and when to reconcile again. `calls` has the steps of creates and deletes.

use std::time::Duration;

use super::{
    CreateState, FinalizerRemoval, LiveState, Match, Observation, Outcome, State, Step, Wait, calls, messages,
};
use crate::{
    crd::{ChatbotVersionStatus, Reason},
    plan::{
        EventReason, Report, Requeue, ServiceView, UnavailableReason,
        service_view::requeue_unavailable,
        status::{
            ReadyCondition, carry_over, is_ready, requeue_after_backoff, suspended_status, with_conditions,
        },
    },
};

/// How many ids a message names.
// five of the longest ids leave room for the sentence around them
const MAX_IDS_IN_MESSAGE: usize = 5;
/// How often the list is read while something is about to show in it.
// short is cheap: all objects of a chatbot share the list
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// What `step` and its `outcome` lead to. `state` is the one that the step was decided by.
#[must_use]
pub fn report(
    observation: &Observation,
    state: &State,
    step: Step,
    outcome: &Outcome,
) -> Report<ChatbotVersionStatus> {
    match (step, outcome) {
        (Step::Create, Outcome::Created(result, list)) => {
            calls::created(observation, result, list.as_deref())
        }
        (Step::Delete, Outcome::Deleted(result)) => calls::deleted(observation, result),
        (Step::AddFinalizer, _) => Report { finalizer: Some(true), ..observation.unchanged() },
        (Step::RemoveFinalizer(why), _) => finalizer_removed(observation, why),
        (Step::RecordIntent, _) => calls::intent_recorded(observation, state),
        (Step::StartSearch, _) => calls::search_started(observation),
        (Step::Adopt, _) => calls::adopted(observation),
        (Step::Wait(wait), _) => waiting(observation, state, wait),
        // no call ends without its outcome; if one did, the next reconcile decides
        (Step::Create | Step::Delete, _) => observation.unchanged(),
    }
}

impl Observation {
    /// Nothing to report; the next reconcile decides.
    pub(super) fn unchanged(&self) -> Report<ChatbotVersionStatus> {
        Report::new(self.status().clone(), Requeue::Immediately)
    }

    /// The status with these conditions.
    pub(super) fn status_with(&self, condition: &ReadyCondition) -> ChatbotVersionStatus {
        let status = self.status();
        // an object that is being deleted is never Ready
        let reason = match self.object.metadata.deletion_timestamp {
            Some(_) => Reason::Deleting,
            None => condition.reason,
        };
        let condition = ReadyCondition { reason, message: condition.message.clone() };
        let common = with_conditions(&status.common, &self.object.metadata, &condition, None, self.now);
        ChatbotVersionStatus { common, ..status.clone() }
    }

    pub(super) fn report_with(
        &self,
        condition: &ReadyCondition,
        requeue: Requeue,
    ) -> Report<ChatbotVersionStatus> {
        Report::new(self.status_with(condition), requeue)
    }

    pub(super) fn name(&self) -> &str {
        self.object.version_name()
    }

    pub(super) fn id(&self) -> &str {
        self.object.version_id().unwrap_or("unknown")
    }

    /// The list shows neither the recorded version nor any other of ours: the key may belong to another account.
    fn is_unknown_account(&self) -> bool {
        matches!(self.service, ServiceView::Available { authoritative: false, .. })
    }

    pub(super) fn secret(&self) -> String {
        self.object.spec.credentials_ref.clone().unwrap_or_default().name().to_owned()
    }

    pub(super) fn requeue_at_interval(&self) -> Requeue {
        self.service.requeue_when_stale(self.interval(), self.jitter)
    }

    /// A fraction of the visibility grace, so that a short one is polled often enough, too.
    pub(super) fn requeue_at_poll_interval(&self) -> Requeue {
        let interval = POLL_INTERVAL.min(self.config.visibility_grace / 4);
        // a grace of next to nothing would make this a busy loop
        Requeue::After(interval.max(Duration::from_millis(250)))
    }

    /// The condition of a create whose outcome is unknown.
    pub(super) fn unconfirmed(&self) -> ReadyCondition {
        match self.object.metadata.deletion_timestamp {
            Some(_) => messages::searching_before_deletion(self.name()),
            None => messages::create_unconfirmed(self.name()),
        }
    }
}

fn finalizer_removed(observation: &Observation, why: FinalizerRemoval) -> Report<ChatbotVersionStatus> {
    let status = observation.status().clone();
    // nothing to come back for: the object disappears, or waits for the finalizers of others
    let report = Report { finalizer: Some(false), ..Report::new(status, Requeue::OnChange) };
    let version = messages::version_label(observation.object.version_id(), observation.name());
    let orphaned = match why {
        FinalizerRemoval::HandedOver => {
            let note = messages::deletion_delegated(observation.id());
            return report.event(false, EventReason::DeletionDelegated, note);
        }
        FinalizerRemoval::ForceOrphaned => messages::force_orphaned(&version),
        FinalizerRemoval::LiveUnmanaged => messages::live_unmanaged(&version),
        FinalizerRemoval::CredentialsTimeout => messages::credentials_timeout(&version),
        FinalizerRemoval::Retained => match observation.invalid_namespace_policy() {
            Some(value) => messages::invalid_namespace_policy(value, &version),
            None => return report,
        },
        FinalizerRemoval::Deleted | FinalizerRemoval::NeverCreated | FinalizerRemoval::OwnedByOther => {
            return report;
        }
    };
    let orphans = vec![observation.id().to_owned()];
    Report { orphans, ..report.event(true, EventReason::Orphaned, orphaned) }
}

fn waiting(observation: &Observation, state: &State, wait: Wait) -> Report<ChatbotVersionStatus> {
    let status = observation.status();
    let (id, name) = (observation.id(), observation.name());
    let poll = observation.requeue_at_poll_interval();
    let interval = observation.requeue_at_interval();
    let (condition, requeue) = match wait {
        Wait::Available => return available(observation),
        Wait::Suspended => return suspended(observation),
        // the status stays as the failed call has left it: its message says why
        Wait::BackingOff => {
            return Report::new(status.clone(), requeue_after_backoff(&status.common, observation.now));
        }
        Wait::Unavailable(reason) => return unavailable(observation, reason),
        Wait::VersionLost => return version_lost(observation),
        Wait::Deleting => return deleting(observation, state),
        Wait::OlderCreatePending => (messages::older_create_pending(name), poll),
        Wait::WaitingForDeletion => (messages::waiting_for_deletion(name), poll),
        Wait::CreateUnconfirmed => (observation.unconfirmed(), poll),
        Wait::WaitingForVisibility => (messages::waiting_for_visibility(id), poll),
        Wait::AmbiguousVersion => (ambiguous(observation, state), interval),
        Wait::VersionNotFound => {
            (messages::adopt_id_not_found(observation.adopt_id().unwrap_or_default()), interval)
        }
        Wait::Conflict => (conflict(observation), interval),
        Wait::WaitingForOtherFinalizers => (messages::waiting_for_other_finalizers(), Requeue::OnChange),
    };
    observation.report_with(&condition, requeue)
}

fn available(observation: &Observation) -> Report<ChatbotVersionStatus> {
    let Some(version) = observation.listed() else {
        return observation.unchanged();
    };
    let duplicates = observation.duplicates();
    let reported = &observation.status().duplicates;
    // by the status, not by the last message: other conditions in between must not repeat event and counter
    let new: Vec<String> = duplicates.iter().filter(|id| !reported.contains(id)).cloned().collect();
    let mut status = observation.status_with(&messages::available(version, &duplicates));
    status.common.retry = None;
    calls::copy_version(&mut status, version, observation.live_in());
    let note = messages::duplicates_found(&duplicates);
    status.duplicates = duplicates;
    let report = Report::new(status, observation.requeue_at_interval());
    if new.is_empty() {
        return report;
    }
    Report { orphans: new, ..report.event(true, EventReason::DuplicateFound, note) }
}

fn suspended(observation: &Observation) -> Report<ChatbotVersionStatus> {
    let status = observation.status();
    // no timer: only a change of the object ends a suspension
    let common = suspended_status(&status.common, &observation.object.metadata, false, observation.now);
    Report::new(ChatbotVersionStatus { common, ..status.clone() }, Requeue::OnChange)
}

fn unavailable(observation: &Observation, reason: UnavailableReason) -> Report<ChatbotVersionStatus> {
    let ServiceView::Unavailable(unavailable) = &observation.service else {
        return observation.unchanged();
    };
    let requeue = requeue_unavailable(unavailable, observation.interval(), observation.jitter);
    let meta = &observation.object.metadata;
    let mut status = observation.status().clone();
    // what was Ready stays Ready during an outage: nothing is known to have changed
    if reason.is_transient() && is_ready(&status.common, meta) {
        status.common = carry_over(&status.common, meta, true);
        return Report::new(status, requeue);
    }
    let condition = ReadyCondition::new(reason.condition_reason(), unavailable.message.as_str());
    observation.report_with(&condition, requeue)
}

fn version_lost(observation: &Observation) -> Report<ChatbotVersionStatus> {
    let id = observation.id();
    let condition = if observation.is_unknown_account() {
        messages::unknown_account(id, &observation.secret())
    } else {
        messages::version_lost(id)
    };
    let report = observation.report_with(&condition, observation.requeue_at_interval());
    let reason = Reason::VersionLost.as_str();
    let is_reported = observation.status().common.conditions.iter().any(|c| c.reason == reason);
    // once for each loss; a key of another account has lost nothing
    if is_reported || observation.is_unknown_account() {
        return report;
    }
    report.event(true, EventReason::VersionLost, messages::lost(id))
}

fn conflict(observation: &Observation) -> ReadyCondition {
    match &observation.older_claim {
        Some(older) => messages::conflict(observation.id(), older),
        None => messages::adopt_id_conflict(observation.adopt_id().unwrap_or_default()),
    }
}

fn ambiguous(observation: &Observation, state: &State) -> ReadyCondition {
    let candidates = match &observation.service {
        ServiceView::Available { inventory, .. } => observation.free_candidates(inventory),
        _ => Vec::new(),
    };
    let ids: Vec<&str> = candidates.iter().take(MAX_IDS_IN_MESSAGE).map(|v| v.id.as_str()).collect();
    match state.matched {
        _ if ids.is_empty() => messages::created_but_not_listed(),
        _ if state.deleting.is_some() => messages::ambiguous_before_deletion(&ids),
        Match::Unmarked => messages::unmarked(observation.name(), &ids),
        _ => messages::ambiguous(&ids),
    }
}

fn deleting(observation: &Observation, state: &State) -> Report<ChatbotVersionStatus> {
    let ServiceView::Unavailable(unavailable) = &observation.service else {
        let condition = deletion_progress(observation, state);
        return observation.report_with(&condition, observation.requeue_at_poll_interval());
    };
    let condition = if unavailable.reason.times_out() {
        messages::deletion_blocked_until_timeout(&unavailable.message)
    } else {
        ReadyCondition::new(Reason::Deleting, unavailable.message.as_str())
    };
    let requeue = requeue_unavailable(unavailable, observation.interval(), observation.jitter);
    observation.report_with(&condition, requeue)
}

fn deletion_progress(observation: &Observation, state: &State) -> ReadyCondition {
    let (id, name) = (observation.id(), observation.name());
    let deletion = state.deleting;
    let is_handover = deletion.is_some_and(|deletion| deletion.live_state == LiveState::HandoverPending);
    let is_requested = deletion.is_some_and(|deletion| deletion.delete_pending);
    match (state.create_state, state.matched) {
        (_, Match::DeletionPending) => messages::waiting_for_deletion(name),
        (CreateState::Created, Match::Present) if is_handover => messages::waiting_for_handover(id),
        (CreateState::Created, Match::NotYetListed) if !is_requested => {
            messages::waiting_for_visibility_before_deletion(id)
        }
        // a list that shows nothing of ours proves nothing
        (CreateState::Created, Match::Missing | Match::NotYetListed) => {
            let problem = messages::unknown_account(id, &observation.secret());
            messages::deletion_blocked_until_timeout(&problem.message)
        }
        (CreateState::Created, _) => messages::waiting_for_disappearance(id),
        _ => observation.unconfirmed(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{OURS, version};
    use super::*;
    use crate::crd::{DeletionPolicy, Operation, annotation};

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
    fn a_lost_version_is_an_event_once() {
        let lost = Observation::test().recorded("v1");
        let report = lost.report();
        assert_eq!(report.ready().0, "VersionLost");
        assert!(report.ready().1.contains(annotation::RECREATE), "{}", report.ready().1);
        assert_eq!(report.event_reasons(), ["VersionLost"]);
        let again = lost.with_status(|status| *status = report.status);
        assert_eq!(again.report().event_reasons(), Vec::<&str>::new());
    }

    #[test]
    fn a_key_that_lists_nothing_of_ours_is_suspected_before_the_version() {
        let report = Observation::test().recorded("v1").with_unknown_account().report();
        let (reason, message) = report.ready();
        assert_eq!(reason, "VersionLost");
        assert!(message.contains("Secret chatcaptain") && message.contains("account"), "{message}");
        assert_eq!(report.event_reasons(), Vec::<&str>::new());
    }

    #[test]
    fn duplicates_are_named_in_the_condition_and_are_an_event_once() {
        let twins = listed().listing(vec![version("v3", OURS), version("v1", OURS), version("v2", OURS)]);
        let report = twins.report();
        assert_eq!(report.ready().0, "Available");
        assert!(report.ready().1.contains("v2, v3"), "{}", report.ready().1);
        assert_eq!(report.event_reasons(), ["DuplicateFound"]);
        assert_eq!(report.orphans, ["v2", "v3"]);
        let again = twins.with_status(|status| *status = report.status).report();
        assert_eq!((again.event_reasons(), again.orphans.as_slice()), (vec![], [].as_slice()));
    }

    #[test]
    fn what_was_ready_stays_ready_during_an_outage() {
        let ready = listed();
        let report = ready.report();
        let ready = ready.with_status(|status| *status = report.status);
        let away = ready.clone().unavailable(UnavailableReason::ServiceUnavailable).report();
        assert_eq!(away.ready().0, "Available");
        let refused = ready.unavailable(UnavailableReason::AuthenticationFailed).report();
        assert_eq!(refused.ready().0, "AuthenticationFailed");
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
    fn a_live_version_without_a_deployment_stays_and_emits_an_event() {
        let (note, orphans) = orphaned(&listed().running("1.1").deleted(0));
        assert!(note.contains("live") && note.contains("v1"), "{note}");
        assert_eq!(orphans, ["v1"]);
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
    fn an_ambiguous_version_offers_only_what_works() {
        let message = |observation: Observation| {
            let report = observation.report();
            report.ready().1.to_owned()
        };
        let twins = || Observation::test().listing(vec![version("v1", OURS), version("v2", OURS)]);
        assert!(message(twins()).contains("adopt-id=<id> to adopt one of: v1, v2."));
        assert!(!message(twins()).contains(annotation::RECREATE), "it has no effect here");
        assert!(message(twins().deleted(0)).contains(annotation::FORCE_ORPHAN));
        let namesake = Observation::test().listing(vec![version("v1", "")]);
        assert!(message(namesake).contains(annotation::RECREATE));
        let mut expired = Observation::test().searching(31).after(Operation::Create, None, 30);
        expired = expired.listing(vec![version("v1", "")]);
        expired.held_by_others.insert("v1".to_owned());
        assert!(
            message(expired).contains("lists no matching version"),
            "the version of another object is not offered"
        );
    }

    #[test]
    fn a_short_grace_is_polled_more_often() {
        let with_grace = |seconds| {
            let mut observation = Observation::test();
            std::sync::Arc::make_mut(&mut observation.config).visibility_grace = Duration::from_secs(seconds);
            observation.requeue_at_poll_interval()
        };
        assert_eq!(with_grace(4), Requeue::After(Duration::from_secs(1)));
        assert_eq!(with_grace(0), Requeue::After(Duration::from_millis(250)));
        assert_eq!(with_grace(600), Requeue::After(POLL_INTERVAL));
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
