//! What a create or a delete leads to: the intent, the search, and the answers to the requests.

use std::{sync::Arc, time::Duration};

use super::{CreateState, Observation, State, messages};
use crate::{
    chatcaptain::{Failure, FailureClass, Inventory, Version, VersionId},
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
const MAX_EXISTING_IDS: usize = 50;

/// What came of a step.
pub enum Outcome {
    /// The step sent no request that changes the service.
    NoCall,
    /// The answer to a create request, and the list right after it, if it could be read.
    Created(Result<Option<VersionId>, Failure>, Option<Arc<Inventory>>),
    /// The answer to a delete request.
    Deleted(Result<(), Failure>),
}

/// Copies what the list shows of the version.
pub(super) fn copy_version(
    status: &mut ChatbotVersionStatus,
    version: &Version,
    live_in: Option<Vec<LiveEnvironment>>,
) {
    status.version_id = Some(version.id.as_str().to_owned());
    status.version_number = version.number.as_deref().map(str::to_owned);
    status.name = version.name.as_deref().map(|name| name.chars().take(256).collect());
    status.creation_time = version.created.map(truncate_to_seconds);
    status.last_deploy_time = version.deployed.map(truncate_to_seconds);
    if let Some(live_in) = live_in {
        status.live_in = live_in;
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
        search_start_time: None,
    });
    status.version_id = None;
    status.last_handled_recreate = annotation_value(meta, annotation::RECREATE).map(str::to_owned);
    let report = Report::new(status, Requeue::Immediately);
    match state.create_state {
        CreateState::SearchExpired => report.count(CounterIncrement::CreateAbsent),
        _ => report,
    }
}

/// The outcome of a create is unknown: from now on the list is searched.
pub(super) fn search_started(observation: &Observation) -> Report<ChatbotVersionStatus> {
    let mut status = observation.status_with(&observation.unconfirmed());
    if let Some(create) = &mut status.pending_create {
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

/// The id in the answer is a hint, which the list confirms.
fn create_accepted(
    observation: &Observation,
    id: Option<&VersionId>,
    list: Option<&Inventory>,
) -> Report<ChatbotVersionStatus> {
    let listed = list.and_then(|list| match id {
        Some(id) => list.version(id.as_str()),
        None => observation.sole_match(list),
    });
    let id = listed.map(|version| &version.id).or(id);
    // later than its intent, even if the clock was put back meanwhile
    let start = observation.pending_create().map(|create| create.start_time.0);
    let time = start.map_or(observation.now, |start| observation.now.max(start));
    let record = operation_record(Operation::Create, id.map(VersionId::as_str), &Ok(()), time);
    let mut report = match (listed, id) {
        (Some(version), _) => {
            let condition = messages::available(version, &[]);
            let mut report = observation.report_with(&condition, observation.requeue_at_interval());
            copy_version(&mut report.status, version, None);
            report
        }
        (None, Some(id)) => {
            let condition = messages::waiting_for_visibility(id.as_str());
            let mut report = observation.report_with(&condition, observation.requeue_at_poll_interval());
            report.status.version_id = Some(id.as_str().to_owned());
            report
        }
        (None, None) => search_started(observation),
    };
    if id.is_some() {
        report.status.pending_create = None;
        report.status.common.retry = None;
    }
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
    // what was not even sent leaves the intent standing, and the permit with it
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
    if let Some(delay) = retry_after {
        return Requeue::After(delay);
    }
    common.retry = Some(next_backoff(common.retry.as_ref(), failure, observation.now, observation.jitter));
    requeue_after_backoff(common, observation.now)
}

fn recovered(observation: &Observation, version: &Version) -> Report<ChatbotVersionStatus> {
    let mut status = observation.status_with(&messages::available(version, &[]));
    copy_version(&mut status, version, None);
    status.pending_create = None;
    status.common.retry = None;
    Report::new(status, Requeue::Immediately)
        .event(false, EventReason::CreateRecovered, messages::create_recovered(version.id.as_str()))
        .count(CounterIncrement::CreateRecovered)
}

pub(super) fn adopted(observation: &Observation) -> Report<ChatbotVersionStatus> {
    let ServiceView::Available { inventory, .. } = &observation.service else {
        return observation.unchanged();
    };
    let Some(version) = observation.sole_match(inventory) else {
        return observation.unchanged();
    };
    if observation.pending_create().is_some() {
        return recovered(observation, version);
    }
    let mut status = observation.status_with(&messages::available(version, &[]));
    copy_version(&mut status, version, None);
    status.common.retry = None;
    status.common.push_operation(OperationRecord {
        operation: Operation::Adopt,
        version_id: Some(version.id.as_str().to_owned()),
        completion_time: truncate_to_seconds(observation.now),
        result: OperationResult::Accepted,
        message: None,
    });
    Report::new(status, Requeue::Immediately).event(
        false,
        EventReason::Adopted,
        messages::adopted(version.id.as_str()),
    )
}

pub(super) fn deleted(
    observation: &Observation,
    result: &Result<(), Failure>,
) -> Report<ChatbotVersionStatus> {
    let id = observation.id();
    let record = operation_record(Operation::Delete, Some(id), result, observation.now);
    let mut report = match result {
        Ok(()) => observation.report_with(&messages::deletion_accepted(id), Requeue::Immediately),
        Err(failure) => delete_failed(observation, failure),
    };
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
