//! The report of a step: the status, the events, and when to reconcile again. `calls` has the steps
//! of creates and deletes, `deletion` what a deletion waits for and leaves behind.

use std::{sync::Arc, time::Duration};

use super::{Match, Observation, Outcome, State, Step, Wait, calls, deletion, messages, next_step};
use crate::{
    crd::{ChatbotVersionStatus, Reason, annotation},
    plan::{
        CounterIncrement, EventReason, Report, Requeue, ServiceView, UnavailableReason, annotation_value,
        service_view::requeue_unavailable,
        status::{
            ReadyCondition, acknowledge_request, carry_over, is_ready, requeue_after_backoff,
            suspended_status, with_conditions,
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
    let mut report = report_of(observation, state, step, outcome);
    // an intent only prepares what the request asks for: once echoed, a backoff would hold the call after it
    if !matches!(step, Step::RecordIntent | Step::Wait(Wait::Suspended)) {
        let meta = &observation.object.metadata;
        acknowledge_request(&mut report.status.common, meta, &observation.service);
    }
    let object = &observation.object;
    report.status.common.record_subject(&object.spec.chatbot_id, object.environment().as_str());
    report
}

fn report_of(
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
        (Step::RemoveFinalizer(why), _) => deletion::finalizer_removed(observation, why),
        (Step::RecordIntent, _) => calls::intent_recorded(observation, state),
        (Step::StartSearch, _) => calls::search_started(observation),
        (Step::Adopt, _) => calls::adopted(observation),
        (Step::Reclaim, _) => reclaimed(observation),
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

    /// The list is empty: every version of the chatbot is gone at once, or the key is another account's.
    fn lists_nothing(&self) -> bool {
        matches!(&self.service, ServiceView::Available { inventory, .. } if inventory.versions().is_empty())
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
            None if self.is_create_accepted() => self.not_listed_yet(),
            None => messages::create_unconfirmed(self.name()),
        }
    }

    /// The condition of a create that was accepted, and whose version is not listed yet.
    pub(super) fn not_listed_yet(&self) -> ReadyCondition {
        messages::created_not_listed_yet(self.name())
    }
}

/// In one write the id, and what is known of the version.
fn reclaimed(observation: &Observation) -> Report<ChatbotVersionStatus> {
    let Some(id) = observation.reclaimable().map(|run| run.version_id.to_owned()) else {
        return observation.unchanged();
    };
    let mut known = observation.clone();
    Arc::make_mut(&mut known.object).status.get_or_insert_default().version_id = Some(id);
    let state = known.state();
    let report = match next_step(&state) {
        Step::Wait(wait) => waiting(&known, &state, wait),
        // the object is being deleted, and the next step deletes the version or removes the finalizer
        _ => known.report_with(&messages::waiting_for_disappearance(known.id()), Requeue::Immediately),
    };
    // at once, because whether another object holds the version is known only of a recorded one
    let report = Report { requeue: Requeue::Immediately, ..report };
    if known.listed().is_some() { calls::with_adoption(&known, report) } else { report }
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
        Wait::Deleting => return deletion::deleting(observation, state),
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
    // there is nothing to create again: kept, the token would make a snapshot at some later loss
    if let Some(token) = annotation_value(&observation.object.metadata, annotation::RECREATE) {
        status.last_handled_recreate = Some(token.to_owned());
    }
    let note = messages::duplicates_found(&duplicates);
    status.duplicates = duplicates;
    let report = Report::new(status, observation.requeue_at_interval());
    if new.is_empty() {
        return report;
    }
    report.orphaned(EventReason::DuplicateFound, note, new).count(CounterIncrement::DuplicateFound)
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
        status.common = carry_over(&status.common, meta);
        return Report::new(status, requeue);
    }
    let condition = ReadyCondition::new(reason.condition_reason(), unavailable.message.as_str());
    observation.report_with(&condition, requeue)
}

fn version_lost(observation: &Observation) -> Report<ChatbotVersionStatus> {
    let id = observation.id();
    let condition = if observation.is_unknown_account() || observation.lists_nothing() {
        messages::unknown_account(id, &observation.secret())
    } else {
        let run = observation.earlier_run().filter(|run| run.version_id == id);
        messages::version_lost(id, observation.name(), run.map(|run| run.environment))
    };
    let report = observation.report_with(&condition, observation.requeue_at_interval());
    // a key of another account has lost nothing
    if observation.is_unknown_account() { report } else { with_loss(observation, report) }
}

/// With the event of a loss, once for each.
pub(super) fn with_loss(
    observation: &Observation,
    report: Report<ChatbotVersionStatus>,
) -> Report<ChatbotVersionStatus> {
    let reason = Reason::VersionLost.as_str();
    if observation.status().common.conditions.iter().any(|c| c.reason == reason) {
        return report;
    }
    report.event(true, EventReason::VersionLost, messages::lost(observation.id()))
}

fn conflict(observation: &Observation) -> ReadyCondition {
    if let Some(older) = &observation.older_claim {
        return messages::conflict(observation.id(), older);
    }
    if let Some(owner) = observation.listed().and_then(|version| observation.foreign_owner(version)) {
        return messages::foreign_marker(observation.id(), &owner);
    }
    let id = observation.adopt_id().unwrap_or_default();
    let named = match &observation.service {
        ServiceView::Available { inventory, .. } => inventory.version(id),
        _ => None,
    };
    messages::adopt_id_conflict(id, named.and_then(|version| observation.foreign_owner(version)).as_deref())
}

fn ambiguous(observation: &Observation, state: &State) -> ReadyCondition {
    let candidates = match &observation.service {
        ServiceView::Available { inventory, .. } => observation.free_candidates(inventory),
        _ => Vec::new(),
    };
    let mut ids: Vec<&str> = candidates.iter().map(|version| version.id.as_str()).collect();
    // the service promises no order, and another order would be another message
    ids.sort_unstable();
    ids.truncate(MAX_IDS_IN_MESSAGE);
    match state.matched {
        _ if ids.is_empty() => messages::created_but_not_listed(),
        _ if state.deleting.is_some() => messages::ambiguous_before_deletion(&ids),
        Match::Unmarked => messages::unmarked(observation.name(), &ids),
        _ => messages::ambiguous(&ids),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{OURS, THEIRS, version};
    use super::*;
    use crate::{
        chatcaptain::{Contents, Version},
        crd::Operation,
    };

    /// An object whose version is listed.
    fn listed() -> Observation {
        Observation::test().recorded("v1").listing(vec![version("v1", OURS)])
    }

    /// An object whose version is not listed, but others of ours are.
    fn lost() -> Observation {
        Observation::test().recorded("v1").listing(vec![version("v2", THEIRS)])
    }

    #[test]
    fn recreate_on_a_version_that_exists_is_handled_and_not_kept() {
        let report = listed().annotated(annotation::RECREATE, "1").report();
        assert_eq!(report.status.last_handled_recreate.as_deref(), Some("1"));
        let lost = lost().annotated(annotation::RECREATE, "1").with_status(|status| *status = report.status);
        assert_eq!(lost.report().ready().0, "VersionLost");
        let without = listed().with_status(|status| status.last_handled_recreate = Some("1".to_owned()));
        assert_eq!(
            without.report().status.last_handled_recreate.as_deref(),
            Some("1"),
            "it is not forgotten"
        );
    }

    #[test]
    fn model_and_figures_are_copied_once() {
        let made_of = |id: &str, model: &str, stats: &str| Version {
            contents: Contents::of(model, stats).map(Arc::new),
            ..version(id, OURS)
        };
        let reported =
            |status: &ChatbotVersionStatus| (status.model_id.clone(), status.stats.get("intents").copied());
        let listing = |entry: Version| Observation::test().recorded("v1").listing(vec![entry]);
        let first = listing(made_of("v1", "3", r#"{"intents": 120}"#)).report();
        let expected = (Some("3".to_owned()), Some(120.0));
        assert_eq!(reported(&first.status), expected);
        for later in [made_of("v1", "4", r#"{"intents": 121}"#), version("v1", OURS)] {
            let later = listing(later).with_status(|status| *status = first.status.clone()).report();
            assert_eq!(later.status, first.status, "a snapshot does not change");
        }
        let late = listing(made_of("v1", "3", "{}")).report();
        assert_eq!(reported(&late.status), (Some("3".to_owned()), None));
        let complete = listing(made_of("v1", "3", r#"{"intents": 120}"#)).with_status(|s| *s = late.status);
        assert_eq!(reported(&complete.report().status), expected, "they may be counted after the create");
    }

    #[test]
    fn a_loss_is_an_event_also_where_it_is_created_again_at_once() {
        let report = lost().annotated(annotation::RECREATE, "1").report();
        assert!(report.status.pending_create.is_some());
        assert_eq!(report.event_reasons(), ["VersionLost"]);
        let reported = lost().report().status;
        let later = lost().with_status(|status| *status = reported).annotated(annotation::RECREATE, "1");
        assert_eq!(later.report().event_reasons(), Vec::<&str>::new(), "it was one already");
    }

    #[test]
    fn a_lost_version_is_an_event_once() {
        let lost = lost();
        let report = lost.report();
        assert_eq!(report.ready().0, "VersionLost");
        assert!(report.ready().1.contains(annotation::RECREATE), "{}", report.ready().1);
        assert_eq!(report.event_reasons(), ["VersionLost"]);
        let again = lost.with_status(|status| *status = report.status);
        assert_eq!(again.report().event_reasons(), Vec::<&str>::new());
    }

    #[test]
    fn what_ran_under_the_name_and_is_gone_is_lost() {
        let history = [serde_json::json!({
            "versionId": "v1", "versionName": "support", "startTime": "2026-01-01T00:00:00Z",
        })];
        let back = lost().with_status(|status| status.version_id = None);
        let report = back.managed_by(&serde_json::json!({"history": history})).report();
        assert_eq!(report.ready().0, "VersionLost");
        for part in ["\"support\" (v1)", "ran in test", annotation::RECREATE] {
            assert!(report.ready().1.contains(part), "{part} is not in: {}", report.ready().1);
        }
        assert_eq!(report.event_reasons(), ["VersionLost"]);
        assert_eq!(report.status.version_id.as_deref(), Some("v1"));
        assert_eq!(report.status.common.last_operations, []);
    }

    #[test]
    fn what_ran_under_the_name_is_deleted_with_its_object() {
        let history = [serde_json::json!({
            "versionId": "v1", "versionName": "support", "startTime": "2026-01-01T00:00:00Z",
        })];
        let back = Observation::test().managed_by(&serde_json::json!({"history": history})).deleted(0);
        let report = back.clone().listing(vec![version("v1", "")]).report();
        assert_eq!((report.ready().0, report.status.version_id.as_deref()), ("Deleting", Some("v1")));
        let known = back.with_status(|status| *status = report.status);
        assert_eq!(known.listing(vec![version("v1", "")]).step(), Step::Delete);
    }

    #[test]
    fn what_ran_under_the_name_is_adopted_where_no_marker_can_be_read() {
        let history = [serde_json::json!({
            "versionId": "v1", "versionName": "support", "startTime": "2026-01-01T00:00:00Z",
        })];
        let back = Observation::test().managed_by(&serde_json::json!({"history": history}));
        let report = back.listing(vec![version("v2", ""), version("v1", "")]).report();
        assert_eq!(report.ready().0, "Available");
        assert_eq!(
            (report.status.version_id.as_deref(), report.event_reasons()),
            (Some("v1"), vec!["Adopted"])
        );
        assert_eq!(report.status.common.last_operations[0].operation, Operation::Adopt);
    }

    #[test]
    fn a_key_that_lists_nothing_of_ours_is_suspected_before_the_version() {
        let report = Observation::test().recorded("v1").with_unknown_account().report();
        let (reason, message) = report.ready();
        assert_eq!(reason, "VersionLost");
        assert!(message.contains("Secret chatcaptain") && message.contains("account"), "{message}");
        assert!(message.contains(annotation::RECREATE), "only then: {message}");
        assert_eq!(report.event_reasons(), Vec::<&str>::new());
        // the same key listed our versions before: it is a loss, but the key is worth a check
        let all_at_once = Observation::test().recorded("v1").report();
        assert_eq!((all_at_once.ready().1, all_at_once.event_reasons()), (message, vec!["VersionLost"]));
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
    fn candidates_are_named_in_one_order() {
        let message = |order: [&str; 6]| {
            let twins = order.map(|id| version(id, OURS)).to_vec();
            Observation::test().listing(twins).report().ready().1.to_owned()
        };
        let sorted = message(["v1", "v2", "v3", "v4", "v5", "v6"]);
        assert!(sorted.contains("v1, v2, v3, v4, v5"), "{sorted}");
        assert_eq!(message(["v6", "v3", "v5", "v1", "v4", "v2"]), sorted);
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
}
