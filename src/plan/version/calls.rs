//! The report of a create or a delete: of its intent, of the search, and of the answer to the request.

use std::{sync::Arc, time::Duration};

use super::{CreateState, Match, Observation, State, messages, status::with_loss};
use crate::{
    chatcaptain::{Failure, FailureClass, Inventory, Refusal, Version, VersionId},
    crd::{
        ChatbotVersionStatus, CommonStatus, LiveEnvironment, Operation, OperationRecord, OperationResult,
        PendingCreate, annotation,
    },
    plan::{
        CounterIncrement, EventReason, Report, Requeue, ServiceView, annotation_value,
        service_view::write_failure_condition,
        status::{carry_over_stalled, next_backoff, operation_record, requeue_after_backoff},
        truncate_to_seconds,
    },
};

/// How many ids with the same name an intent remembers.
// the bound of the field in the CRD: one more, and the API server refuses the status and with it the intent
const MAX_EXISTING_IDS: usize = 50;

/// The result of a step.
pub enum Outcome {
    /// The step sent no request that changes the service.
    NoCall,
    /// The answer to a create request, and the list right after it, if it could be read.
    Created(Result<Option<VersionId>, Failure>, Option<Arc<Inventory>>),
    /// The answer to a delete request.
    Deleted(Result<(), Failure>),
}

/// Copies number, name and times of the version, as the service lists it.
pub(super) fn copy_version(
    status: &mut ChatbotVersionStatus,
    version: &Version,
    live_in: Option<Vec<LiveEnvironment>>,
) {
    if status.version_id.as_deref() != Some(version.id.as_str()) {
        // those of the version that this one replaces
        status.model_id = None;
        status.stats.clear();
    }
    status.version_id = Some(version.id.as_str().to_owned());
    status.version_number = version.number.as_deref().map(str::to_owned);
    // bounded here: the service promises no bound, and the size of an object has one
    status.name = version.name.as_deref().map(|name| name.chars().take(256).collect());
    status.creation_time = version.created.map(truncate_to_seconds);
    status.last_deploy_time = version.deployed.map(truncate_to_seconds);
    copy_contents(status, version);
    // kept where it cannot be read: that does not mean that nothing runs
    if let Some(live_in) = live_in {
        status.live_in = live_in;
    }
}

/// Copies the model and the figures, once: a snapshot never changes, and a figure that counts on would be a write with each
/// reconcile.
fn copy_contents(status: &mut ChatbotVersionStatus, version: &Version) {
    let Some(contents) = &version.contents else { return };
    if status.model_id.is_none() {
        status.model_id = contents.model_id().map(str::to_owned);
    }
    if status.stats.is_empty() {
        status.stats = contents.stats().map(|(name, value)| (name.to_owned(), value)).collect();
    }
}

pub(super) fn intent_recorded(observation: &Observation, state: &State) -> Report<ChatbotVersionStatus> {
    let mut status = observation.status_with(&messages::creating(observation.name()));
    let meta = &observation.object.metadata;
    carry_over_stalled(&mut status.common, &observation.status().common, meta);
    let listed = match &observation.service {
        ServiceView::Available { inventory, .. } => inventory.versions(),
        _ => &[],
    };
    status.pending_create = Some(PendingCreate {
        attempt_id: observation.attempt_id.clone(),
        start_time: truncate_to_seconds(observation.now),
        existing_ids: listed
            .iter()
            .rev()
            .filter(|version| version.name.as_deref() == Some(observation.name()))
            .map(|version| version.id.as_str().to_owned())
            .take(MAX_EXISTING_IDS)
            .collect(),
        version_id: None,
        search_start_time: None,
    });
    if let Some(retry) = &mut status.common.retry {
        // whatever ended the backoff also holds for the request that this intent is for; the failures still count
        retry.next_attempt_time = truncate_to_seconds(observation.now);
    }
    // after `recreate` the lost id must not remain this object's claim
    status.version_id = None;
    // in the same write as the intent: one token leads to one intent, wherever the process dies
    status.last_handled_recreate = annotation_value(meta, annotation::RECREATE).map(str::to_owned);
    let report = Report::new(status, Requeue::Immediately);
    let report = if state.matched == Match::Missing { with_loss(observation, report) } else { report };
    match state.create_state {
        // here, because the next intent is written once, while many reconciles may see that the search is over
        CreateState::SearchExpired => report.count(CounterIncrement::CreateAbsent),
        _ => report,
    }
}

/// The outcome of a create is unknown: from now on the list is searched.
pub(super) fn search_started(observation: &Observation) -> Report<ChatbotVersionStatus> {
    let mut status = observation.status_with(&observation.unconfirmed());
    if let Some(create) = &mut status.pending_create {
        // only marks that the request may be out; the search is timed by the clock of the process that searches
        create.search_start_time = Some(truncate_to_seconds(observation.now));
    }
    Report::new(status, observation.requeue_at_poll_interval())
}

pub(super) fn created(
    observation: &Observation,
    result: &Result<Option<VersionId>, Failure>,
    list: Option<&Inventory>,
) -> Report<ChatbotVersionStatus> {
    match result {
        Ok(id) => create_accepted(observation, id.as_ref(), list),
        Err(failure) if failure.may_have_happened => create_outcome_unknown(observation, failure, list),
        Err(failure) => create_failed(observation, failure),
    }
}

/// `hint` is the id in the answer. Only the list says which version was created: the answer may name another object.
fn create_accepted(
    observation: &Observation,
    hint: Option<&VersionId>,
    list: Option<&Inventory>,
) -> Report<ChatbotVersionStatus> {
    let hint = hint.map(VersionId::as_str);
    let listed = list.and_then(|list| observation.created_version(list, hint));
    // never before its intent, even if the clock was put back meanwhile
    let start = observation.pending_create().map(|create| create.start_time.0);
    let time = start.map_or(observation.now, |start| observation.now.max(start));
    let id = listed.map(|version| version.id.as_str());
    let record = operation_record(Operation::Create, id, &Ok(()), time);
    let mut report = if let Some(version) = listed {
        let condition = messages::available(version, &[]);
        let mut report = observation.report_with(&condition, observation.requeue_at_interval());
        copy_version(&mut report.status, version, None);
        report.status.pending_create = None;
        report.event(false, EventReason::Created, messages::created(version.id.as_str()))
    } else {
        // the intent stays: a version exists that only the search can find, and no request may follow
        let mut report = search_started(observation);
        let accepted = observation.status_with(&observation.not_listed_yet());
        report.status.common.conditions = accepted.common.conditions;
        if let Some(create) = &mut report.status.pending_create {
            create.version_id = hint.map(str::to_owned);
        }
        report
    };
    report.status.common.retry = None;
    report.status.common.push_operation(record);
    report
}

fn create_outcome_unknown(
    observation: &Observation,
    failure: &Failure,
    list: Option<&Inventory>,
) -> Report<ChatbotVersionStatus> {
    let result = Err::<(), _>(failure.clone());
    let record = operation_record(Operation::Create, None, &result, observation.now);
    let mut report = match list.and_then(|list| observation.sole_match(list)) {
        // without a marker it may be what another object created in the same moment: then the search decides
        Some(version) if version.marker().is_some() => recovered(observation, version),
        _ => {
            let mut report = search_started(observation);
            // should the search find nothing, each further attempt comes later
            back_off(&mut report.status.common, failure, None, observation);
            report
        }
    };
    report.status.common.push_operation(record);
    report
}

/// The create was refused, or not sent.
fn create_failed(observation: &Observation, failure: &Failure) -> Report<ChatbotVersionStatus> {
    let (condition, retry_after) = write_failure_condition(failure, &observation.secret());
    let mut status = observation.status_with(&condition);
    let requeue = back_off(&mut status.common, failure, retry_after, observation);
    // a call that was not sent keeps its intent and its permit
    if !failure.was_not_sent() {
        status.pending_create = None;
        let result = Err::<(), _>(failure.clone());
        status.common.push_operation(operation_record(Operation::Create, None, &result, observation.now));
    }
    Report::new(status, requeue)
}

/// Backs off, unless the service says how long to wait.
fn back_off(
    common: &mut CommonStatus,
    failure: &Failure,
    retry_after: Option<Duration>,
    observation: &Observation,
) -> Requeue {
    // a throttle says nothing about this request, so it does not count as one more failure of it
    if let Some(delay) = retry_after {
        return Requeue::After(delay);
    }
    common.retry = Some(next_backoff(common.retry.as_ref(), failure, observation.now, observation.jitter));
    requeue_after_backoff(common, observation.now)
}

/// The search has found what our request created.
fn recovered(observation: &Observation, version: &Version) -> Report<ChatbotVersionStatus> {
    let mut status = observation.status_with(&messages::available(version, &[]));
    copy_version(&mut status, version, None);
    record_created(observation, &mut status.common, version);
    status.pending_create = None;
    status.common.retry = None;
    let report = Report::new(status, Requeue::Immediately);
    if observation.is_create_accepted() {
        // no answer was missing, only the version in the list
        return report.event(false, EventReason::Created, messages::created(version.id.as_str()));
    }
    report
        .event(false, EventReason::CreateRecovered, messages::create_recovered(version.id.as_str()))
        .count(CounterIncrement::CreateRecovered)
}

/// Completes the record of the create; after a crash there is none yet.
fn record_created(observation: &Observation, common: &mut CommonStatus, version: &Version) {
    let start = observation.pending_create().map(|create| create.start_time.0);
    let id = Some(version.id.as_str().to_owned());
    let of_this_attempt = |record: &&mut OperationRecord| {
        record.operation == Operation::Create && start.is_some_and(|start| record.completion_time.0 >= start)
    };
    match common.last_operations.iter_mut().find(of_this_attempt) {
        Some(record) => record.version_id = id,
        None => common.push_operation(OperationRecord {
            operation: Operation::Create,
            version_id: id,
            completion_time: truncate_to_seconds(observation.now),
            result: OperationResult::Unknown,
            message: None,
        }),
    }
}

pub(super) fn adopted(observation: &Observation) -> Report<ChatbotVersionStatus> {
    let ServiceView::Available { inventory, .. } = &observation.service else {
        return observation.unchanged();
    };
    let Some(version) = observation.sole_match(inventory) else {
        return observation.unchanged();
    };
    // a version that our own request made has its own event and counter
    if observation.pending_create().is_some() {
        return recovered(observation, version);
    }
    let condition = if observation.is_deletion_pending(version.id.as_str()) {
        messages::waiting_for_deletion(observation.name())
    } else {
        messages::available(version, &[])
    };
    let mut status = observation.status_with(&condition);
    copy_version(&mut status, version, None);
    status.common.retry = None;
    // at once, so that the next reconcile reads where the adopted version is live
    with_adoption(observation, Report::new(status, Requeue::Immediately))
}

/// With the record and the event of an adoption.
pub(super) fn with_adoption(
    observation: &Observation,
    mut report: Report<ChatbotVersionStatus>,
) -> Report<ChatbotVersionStatus> {
    let id = report.status.version_id.clone().unwrap_or_default();
    let note = messages::adopted(&id);
    report.status.common.push_operation(OperationRecord {
        operation: Operation::Adopt,
        version_id: Some(id),
        completion_time: truncate_to_seconds(observation.now),
        result: OperationResult::Accepted,
        message: None,
    });
    report.event(false, EventReason::Adopted, note)
}

pub(super) fn deleted(
    observation: &Observation,
    result: &Result<(), Failure>,
) -> Report<ChatbotVersionStatus> {
    let id = observation.id();
    // what is neither listed nor found is gone; where it is listed, only a key without access would say so
    let is_gone = |failure: &Failure| {
        failure.class == FailureClass::Refused(Refusal::NotFound) && observation.listed().is_none()
    };
    let result = if result.as_ref().is_err_and(is_gone) { &Ok(()) } else { result };
    let record = operation_record(Operation::Delete, Some(id), result, observation.now);
    let mut report = match result {
        Ok(()) => observation.report_with(&messages::deletion_accepted(id), Requeue::Immediately),
        Err(failure) => delete_failed(observation, failure),
    };
    // once recorded, a request that was never sent would delay the next one for the whole grace
    if !result.as_ref().is_err_and(Failure::was_not_sent) {
        report.status.common.push_operation(record);
    }
    report
}

fn delete_failed(observation: &Observation, failure: &Failure) -> Report<ChatbotVersionStatus> {
    let (condition, retry_after) = write_failure_condition(failure, &observation.secret());
    let condition = match failure.class {
        FailureClass::Refused(_) | FailureClass::Forbidden { .. } => {
            messages::deletion_refused(&condition.message, observation.id())
        }
        FailureClass::Throttled { .. } | FailureClass::Unsent | FailureClass::Unknown => condition,
    };
    let mut status = observation.status_with(&condition);
    let requeue = back_off(&mut status.common, failure, retry_after, observation);
    Report::new(status, requeue)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::super::{
        Step,
        fixtures::{OURS, THEIRS, failure, inventory, version},
    };
    use super::*;
    use crate::{
        chatcaptain::ApiCall,
        crd::OperationResult::{Accepted, Refused, Unknown},
    };

    const REFUSED: FailureClass = FailureClass::Refused(Refusal::Invalid);

    fn create(
        result: Result<Option<&str>, FailureClass>,
        list: Option<Vec<Version>>,
    ) -> Report<ChatbotVersionStatus> {
        let result = result
            .map(|id| id.map(|id| VersionId::parse(id).unwrap()))
            .map_err(|class| failure(ApiCall::Create, class));
        let observation = Observation::test().may_create();
        assert_eq!(observation.step(), Step::Create);
        observation.report_call(&Outcome::Created(result, list.map(inventory)))
    }

    fn delete(result: Result<(), FailureClass>) -> Report<ChatbotVersionStatus> {
        let observation = Observation::test().recorded("v1").listing(vec![version("v1", OURS)]).deleted(0);
        assert_eq!(observation.step(), Step::Delete);
        let result = result.map_err(|class| failure(ApiCall::Delete, class));
        observation.report_call(&Outcome::Deleted(result))
    }

    fn results(report: &Report<ChatbotVersionStatus>) -> Vec<(Operation, OperationResult)> {
        report.status.common.last_operations.iter().map(|record| (record.operation, record.result)).collect()
    }

    #[test]
    fn an_intent_remembers_the_ids_that_have_its_name() {
        let other = Version { name: Some("other".into()), ..version("v3", "") };
        let listed = vec![version("v1", "created manually"), version("v2", "created manually"), other];
        let report = Observation::test().listing(listed).report();
        let create = report.status.pending_create.as_ref().unwrap();
        assert_eq!((create.attempt_id.as_str(), &create.search_start_time), ("attempt", &None));
        assert_eq!(create.existing_ids, ["v2", "v1"]);
        assert_eq!(report.requeue, Requeue::Immediately);
    }

    #[test]
    fn what_ends_a_backoff_ends_it_for_the_request_and_not_only_for_its_intent() {
        let refused = create(Err(REFUSED), None).status;
        let held = Observation::test().with_status(|status| *status = refused);
        assert_eq!(held.step(), Step::Wait(crate::plan::version::Wait::BackingOff));
        let requested = held.clone().annotated(annotation::RECONCILE_REQUESTED_AT, "now");
        let corrected = held.with(|object| object.metadata.generation = Some(2));
        for ended in [requested, corrected] {
            assert_eq!(ended.step(), Step::RecordIntent);
            let status = ended.report().status;
            assert_eq!(status.common.last_handled_reconcile_at, None, "nothing is requested yet");
            let ready = Observation { may_call: true, ..ended.with_status(|old| *old = status) };
            assert_eq!(ready.step(), Step::Create);
            let refused = Err(failure(ApiCall::Create, REFUSED));
            let report = ready.report_call(&Outcome::Created(refused, None));
            assert_eq!(report.status.common.retry.map(|retry| retry.failures), Some(2));
            let token = annotation_value(&ready.object.metadata, annotation::RECONCILE_REQUESTED_AT);
            assert_eq!(report.status.common.last_handled_reconcile_at.as_deref(), token);
        }
    }

    #[test]
    fn an_accepted_create_that_is_listed_is_available() {
        for id in [Some("v1"), None] {
            let report = create(Ok(id), Some(vec![version("v1", OURS)]));
            assert_eq!(report.ready(), ("Available", "Version 1.1 (v1) exists in the service."));
            assert_eq!(report.status.version_id.as_deref(), Some("v1"));
            assert_eq!(report.status.pending_create, None);
            assert_eq!(results(&report), [(Operation::Create, Accepted)]);
            assert_eq!(report.event_reasons(), ["Created"]);
        }
    }

    #[test]
    fn an_accepted_create_that_is_not_listed_yet_is_searched_for() {
        for (id, list) in [(Some("v1"), None), (Some("v1"), Some(vec![])), (None, Some(vec![]))] {
            let report = create(Ok(id), list);
            assert_eq!(report.ready().0, "WaitingForVisibility");
            assert_eq!(report.status.version_id, None, "it is a hint");
            let pending = report.status.pending_create.as_ref().unwrap();
            assert_eq!(pending.version_id.as_deref(), id);
            assert!(pending.search_start_time.is_some());
            assert_eq!(results(&report), [(Operation::Create, Accepted)]);
        }
    }

    #[test]
    fn the_marker_decides_against_the_id_in_the_answer() {
        for hint in ["model", "v2"] {
            let listed = vec![version("v1", OURS), version("v2", THEIRS)];
            let report = create(Ok(Some(hint)), Some(listed));
            assert_eq!(report.status.version_id.as_deref(), Some("v1"), "{hint}");
        }
        let theirs = create(Ok(Some("v2")), Some(vec![version("v2", THEIRS)]));
        assert_eq!(theirs.status.version_id, None);
    }

    #[test]
    fn without_markers_the_id_in_the_answer_chooses_among_the_new_versions() {
        let listed = || vec![version("v1", ""), version("v2", "")];
        assert_eq!(create(Ok(Some("v2")), Some(listed())).status.version_id.as_deref(), Some("v2"));
        assert_eq!(create(Ok(Some("model")), Some(listed())).status.version_id, None);
        let sole = |hint| create(Ok(hint), Some(vec![version("v1", "")])).status.version_id;
        assert_eq!(sole(None).as_deref(), Some("v1"));
        assert_eq!(sole(Some("model")), None, "the version that the answer names may be listed late");
    }

    #[test]
    fn an_accepted_create_that_the_search_finds_is_not_recovered() {
        let searching = Observation::test().searching(1).after(Operation::Create, None, 1);
        let report = searching.listing(vec![version("v1", OURS)]).report();
        assert_eq!(report.status.version_id.as_deref(), Some("v1"));
        assert_eq!((report.event_reasons(), report.counters.as_slice()), (vec!["Created"], [].as_slice()));
        let record = &report.status.common.last_operations[0];
        assert_eq!((record.result, record.version_id.as_deref()), (Accepted, Some("v1")));
    }

    #[test]
    fn a_create_that_is_found_after_a_crash_is_recorded() {
        let report = Observation::test().searching(1).listing(vec![version("v1", OURS)]).report();
        assert_eq!(results(&report), [(Operation::Create, Unknown)]);
    }

    #[test]
    fn a_create_of_unknown_outcome_keeps_its_intent_and_is_searched_for() {
        let report = create(Err(FailureClass::Unknown), Some(vec![]));
        assert_eq!(report.ready().0, "CreateUnconfirmed");
        assert!(report.status.pending_create.as_ref().unwrap().search_start_time.is_some());
        assert!(report.status.common.retry.is_some(), "the next attempt waits if the search finds nothing");
        assert_eq!(results(&report), [(Operation::Create, Unknown)]);
    }

    #[test]
    fn a_create_of_unknown_outcome_is_recovered_by_its_marker() {
        let report = create(Err(FailureClass::Unknown), Some(vec![version("v1", OURS)]));
        assert_eq!(report.status.version_id.as_deref(), Some("v1"));
        assert_eq!(report.status.pending_create, None);
        assert_eq!(report.event_reasons(), ["CreateRecovered"]);
        assert_eq!(report.counters, [CounterIncrement::CreateRecovered]);
        // without a marker it may be another object's that appeared in the same moment: the search decides
        let report = create(Err(FailureClass::Unknown), Some(vec![version("v1", "")]));
        assert_eq!(report.status.version_id, None);
    }

    #[test]
    fn a_refused_create_removes_its_intent() {
        let report = create(Err(REFUSED), None);
        assert_eq!(report.ready().0, "RequestRejected");
        assert!(report.ready().1.contains("Quota reached"), "{}", report.ready().1);
        assert_eq!(report.status.pending_create, None);
        assert_eq!(results(&report), [(Operation::Create, Refused)]);
        assert_eq!(report.status.common.retry.as_ref().map(|retry| retry.failures), Some(1));
    }

    #[test]
    fn a_create_that_was_not_sent_keeps_its_intent() {
        let delay = Duration::from_secs(7);
        let report = create(Err(FailureClass::Throttled { retry_after: Some(delay) }), None);
        assert_eq!(report.ready().0, "Throttled");
        assert!(report.status.pending_create.as_ref().unwrap().search_start_time.is_none());
        assert_eq!(report.requeue, Requeue::After(delay));
        assert_eq!(report.status.common.retry, None, "the service says how long to wait");
        assert_eq!(results(&report), []);
    }

    #[test]
    fn a_search_that_finds_nothing_is_counted_and_permits_another_attempt() {
        let report = Observation::test().searching(31).report();
        assert_eq!(report.counters, [CounterIncrement::CreateAbsent]);
        assert!(report.status.pending_create.as_ref().unwrap().search_start_time.is_none());
    }

    #[test]
    fn a_version_with_the_marker_is_adopted_with_an_event() {
        let report = Observation::test().listing(vec![version("v1", OURS)]).report();
        assert_eq!(report.status.version_id.as_deref(), Some("v1"));
        assert_eq!(report.event_reasons(), ["Adopted"]);
        assert_eq!(results(&report), [(Operation::Adopt, Accepted)]);
        // the version of an open intent is recovered, which is no adoption
        let report = Observation::test().searching(1).listing(vec![version("v1", OURS)]).report();
        assert_eq!(report.event_reasons(), ["CreateRecovered"]);
    }

    #[test]
    fn a_refused_delete_names_the_next_step() {
        let report = delete(Err(REFUSED));
        let (reason, message) = report.ready();
        assert_eq!(reason, "Deleting");
        for part in ["Quota reached", "v1", annotation::FORCE_ORPHAN] {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
        assert_eq!(results(&report), [(Operation::Delete, Refused)]);
        assert!(report.status.common.retry.is_some());
        // an outage ends without user action
        assert!(!delete(Err(FailureClass::Unknown)).ready().1.contains(annotation::FORCE_ORPHAN));
    }

    #[test]
    fn a_delete_that_is_not_found_is_proof_only_where_the_version_is_not_listed() {
        let not_found = FailureClass::Refused(Refusal::NotFound);
        assert_eq!(results(&delete(Err(not_found))), [(Operation::Delete, Refused)], "it is listed");
        let unlisted = Observation::test().recorded("v1").deleted(0);
        assert_eq!(unlisted.step(), Step::Delete);
        let answer = |class| unlisted.report_call(&Outcome::Deleted(Err(failure(ApiCall::Delete, class))));
        assert_eq!(results(&answer(not_found)), [(Operation::Delete, Accepted)]);
        for class in [REFUSED, FailureClass::Refused(Refusal::ErrorInBody)] {
            assert_eq!(results(&answer(class)), [(Operation::Delete, Refused)], "{class:?}");
        }
    }

    #[test]
    fn an_accepted_delete_is_recorded_until_the_list_confirms_it() {
        let report = delete(Ok(()));
        assert_eq!(report.ready().0, "Deleting");
        assert_eq!((report.finalizer, report.requeue), (None, Requeue::Immediately));
        assert_eq!(results(&report), [(Operation::Delete, Accepted)]);
        assert_eq!(results(&delete(Err(FailureClass::Unsent))), [], "nothing was sent");
    }
}
