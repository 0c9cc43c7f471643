//! What came of a step, as status, events and the time of the next look.

use std::{sync::Arc, time::Duration};

use super::{CreateState, FinalizerRemoval, Observation, Step, Wait};
use crate::{
    chatcaptain::{Failure, FailureClass, Inventory, Version, VersionId},
    crd::{
        ChatbotVersionStatus, CommonStatus, LiveEnvironment, Operation, OperationRecord, OperationResult,
        PendingCreate, Reason, annotation,
    },
    plan::{
        CounterIncrement, EventReason, Report, Requeue, ServiceView, UnavailableReason, annotation_value,
        service_view::{requeue_unavailable, write_failure_condition},
        status::{
            ReadyCondition, carry_over, carry_over_stalled, is_ready, next_backoff, operation_record,
            requeue_after_backoff, suspended_status, with_conditions,
        },
        truncate_to_seconds,
    },
};

/// Ids of the same name that an intent remembers.
const MAX_EXISTING_IDS: usize = 50;
/// Time between two looks while something is about to show.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// What came of a step.
pub enum Outcome {
    /// The step was no call.
    NoCall,
    /// A create ended; the list as it was right after, if it could be had.
    Created(Result<Option<VersionId>, Failure>, Option<Arc<Inventory>>),
    /// A delete ended.
    Deleted(Result<(), Failure>),
}

/// The status that `step` and its `outcome` lead to.
#[must_use]
pub fn report(facts: &Observation, step: Step, outcome: &Outcome) -> Report<ChatbotVersionStatus> {
    match (step, outcome) {
        (Step::Create, Outcome::Created(result, list)) => created(facts, result, list.as_deref()),
        (Step::Delete, Outcome::Deleted(result)) => deleted(facts, result),
        (Step::AddFinalizer, _) => Report { finalizer: Some(true), ..facts.unchanged() },
        (Step::RemoveFinalizer(why), _) => remove_finalizer(facts, why),
        (Step::RecordIntent, _) => record_intent(facts),
        (Step::StartSearch, _) => start_search(facts),
        (Step::Adopt, _) => adopted(facts),
        (Step::Wait(rest), _) => wait(facts, rest),
        // a call without its outcome cannot be; looking again is safe
        (Step::Create | Step::Delete, _) => facts.unchanged(),
    }
}

impl Observation {
    /// Nothing to say; the next look will tell.
    fn unchanged(&self) -> Report<ChatbotVersionStatus> {
        Report::new(self.status().clone(), Requeue::Immediately)
    }

    /// The status as it stands, saying `words` of the object.
    fn status_with(&self, words: &ReadyCondition) -> ChatbotVersionStatus {
        let status = self.status();
        // on its way out nothing is Ready any more, and what is going on is the deletion
        let deleting = self.object.metadata.deletion_timestamp.is_some() && words.reason != Reason::Deleting;
        let words =
            if deleting { &ReadyCondition::new(Reason::Deleting, words.message.as_str()) } else { words };
        let common = with_conditions(&status.common, &self.object.metadata, words, None, self.now);
        ChatbotVersionStatus { common, ..status.clone() }
    }

    fn name(&self) -> &str {
        self.object.version_name()
    }

    fn id(&self) -> &str {
        self.object.version_id().unwrap_or("unknown")
    }

    /// Nothing that the key lists is known to be ours: it may be of another account, and proves nothing.
    fn is_other_account(&self) -> bool {
        matches!(self.service, ServiceView::Available { authoritative: false, .. })
    }

    fn secret(&self) -> String {
        self.object.spec.credentials_ref.clone().unwrap_or_default().name().to_owned()
    }

    fn requeue_at_interval(&self) -> Requeue {
        self.service.requeue_when_stale(self.interval(), self.jitter)
    }
}

/// Copies what the list tells of the version.
fn copy_version(status: &mut ChatbotVersionStatus, version: &Version, live: Option<Vec<LiveEnvironment>>) {
    status.version_id = Some(version.id.as_str().to_owned());
    status.version_number = version.number.as_deref().map(str::to_owned);
    status.name = version.name.as_deref().map(|name| name.chars().take(256).collect());
    status.creation_time = version.created.map(truncate_to_seconds);
    status.last_deploy_time = version.deployed.map(truncate_to_seconds);
    if let Some(live) = live {
        status.live_in = live;
    }
}

fn available(version: &Version) -> ReadyCondition {
    let number = version.number.as_deref().map(|number| format!("{number} ")).unwrap_or_default();
    ReadyCondition::new(
        Reason::Available,
        format!("Version {number}({}) exists in the service.", version.id.as_str()),
    )
}

fn record_intent(facts: &Observation) -> Report<ChatbotVersionStatus> {
    let words =
        ReadyCondition::new(Reason::Creating, format!("Version {:?} is about to be created.", facts.name()));
    let mut status = facts.status_with(&words);
    carry_over_stalled(&mut status.common, &facts.status().common, &facts.object.metadata);
    let known = match &facts.service {
        ServiceView::Available { inventory, .. } => inventory.versions(),
        _ => &[],
    };
    status.pending_create = Some(PendingCreate {
        attempt_id: facts.attempt_id.clone(),
        start_time: truncate_to_seconds(facts.now),
        existing_ids: known
            .iter()
            .rev()
            .filter(|version| version.name.as_deref() == Some(facts.name()))
            .map(|version| version.id.as_str().to_owned())
            .take(MAX_EXISTING_IDS)
            .collect(),
        search_start_time: None,
    });
    status.version_id = None;
    status.last_handled_recreate =
        annotation_value(&facts.object.metadata, annotation::RECREATE).map(str::to_owned);
    let told = Report::new(status, Requeue::Immediately);
    if facts.create_state() == CreateState::SearchExpired {
        told.count(CounterIncrement::CreateAbsent)
    } else {
        told
    }
}

/// The end of a create is unknown: from now on the list is watched.
fn start_search(facts: &Observation) -> Report<ChatbotVersionStatus> {
    let mut status = facts.status_with(&wait_condition(facts, Wait::CreateUnconfirmed));
    if let Some(intent) = &mut status.pending_create {
        intent.search_start_time = Some(truncate_to_seconds(facts.now));
    }
    Report::new(status, Requeue::After(poll_interval(facts)))
}

/// A fraction of the grace, so that a short grace is looked at often enough.
fn poll_interval(facts: &Observation) -> Duration {
    POLL_INTERVAL.min(facts.config.visibility_grace / 4).max(Duration::from_millis(250))
}

fn created(
    facts: &Observation,
    result: &Result<Option<VersionId>, Failure>,
    list: Option<&Inventory>,
) -> Report<ChatbotVersionStatus> {
    match result {
        Ok(id) => create_accepted(facts, id.as_ref(), list),
        Err(failure) if failure.may_have_happened => create_outcome_unknown(facts, failure, list),
        Err(failure) => create_failed(facts, failure),
    }
}

fn create_accepted(
    facts: &Observation,
    id: Option<&VersionId>,
    list: Option<&Inventory>,
) -> Report<ChatbotVersionStatus> {
    let shown = list.and_then(|list| match id {
        Some(id) => list.version(id.as_str()),
        None => facts.sole_match(list),
    });
    let id = shown.map(|version| &version.id).or(id);
    // even if the clock was put back meanwhile, it comes after its intent
    let at = facts.pending_create().map_or(facts.now, |intent| facts.now.max(intent.start_time.0));
    let entry = operation_record(Operation::Create, id.map(VersionId::as_str), &Ok(()), at);
    let mut told = match (shown, id) {
        (Some(version), _) => {
            let mut status = facts.status_with(&available(version));
            copy_version(&mut status, version, None);
            Report::new(status, facts.requeue_at_interval())
        }
        (None, Some(id)) => {
            let message = format!("Version {} was created; the service does not list it yet.", id.as_str());
            let mut status = facts.status_with(&ReadyCondition::new(Reason::WaitingForVisibility, message));
            status.version_id = Some(id.as_str().to_owned());
            Report::new(status, Requeue::After(poll_interval(facts)))
        }
        (None, None) => start_search(facts),
    };
    if id.is_some() {
        told.status.pending_create = None;
        told.status.common.retry = None;
    }
    told.status.common.push_operation(entry);
    told
}

fn create_outcome_unknown(
    facts: &Observation,
    failure: &Failure,
    list: Option<&Inventory>,
) -> Report<ChatbotVersionStatus> {
    let entry = operation_record(Operation::Create, None, &Err::<(), _>(failure.clone()), facts.now);
    let mut told = match list.and_then(|list| facts.sole_match(list)) {
        Some(version) if version.marker().is_some() => recovered(facts, version),
        _ => {
            let mut told = start_search(facts);
            // should it be absent in the end, the next attempt comes later each time
            back_off(&mut told.status.common, failure, None, facts);
            told
        }
    };
    told.status.common.push_operation(entry);
    told
}

/// The create was refused, or never left this machine.
fn create_failed(facts: &Observation, failure: &Failure) -> Report<ChatbotVersionStatus> {
    let (words, asked) = write_failure_condition(failure, &facts.secret());
    let mut status = facts.status_with(&words);
    let pace = back_off(&mut status.common, failure, asked, facts);
    // what was not even sent leaves the intent standing, and the permit with it
    if !failure.was_not_sent() {
        status.pending_create = None;
        let result = Err::<(), _>(failure.clone());
        status.common.push_operation(operation_record(Operation::Create, None, &result, facts.now));
    }
    Report::new(status, pace)
}

/// Backs off, unless the service said how long to wait.
fn back_off(
    common: &mut CommonStatus,
    failure: &Failure,
    asked: Option<Duration>,
    facts: &Observation,
) -> Requeue {
    if let Some(pause) = asked {
        return Requeue::After(pause);
    }
    common.retry = Some(next_backoff(common.retry.as_ref(), failure, facts.now, facts.jitter));
    requeue_after_backoff(common, facts.now)
}

fn recovered(facts: &Observation, version: &Version) -> Report<ChatbotVersionStatus> {
    let mut status = facts.status_with(&available(version));
    copy_version(&mut status, version, None);
    status.pending_create = None;
    status.common.retry = None;
    let note = format!(
        "The create without a usable answer had made version {}; it is recorded.",
        version.id.as_str()
    );
    Report::new(status, Requeue::Immediately)
        .event(false, EventReason::CreateRecovered, note)
        .count(CounterIncrement::CreateRecovered)
}

fn adopted(facts: &Observation) -> Report<ChatbotVersionStatus> {
    let ServiceView::Available { inventory, .. } = &facts.service else {
        return facts.unchanged();
    };
    let Some(version) = facts.sole_match(inventory) else {
        return facts.unchanged();
    };
    if facts.pending_create().is_some() {
        return recovered(facts, version);
    }
    let mut status = facts.status_with(&available(version));
    copy_version(&mut status, version, None);
    status.common.retry = None;
    status.common.push_operation(OperationRecord {
        operation: Operation::Adopt,
        version_id: Some(version.id.as_str().to_owned()),
        completion_time: truncate_to_seconds(facts.now),
        result: OperationResult::Accepted,
        message: None,
    });
    Report::new(status, Requeue::Immediately).event(
        false,
        EventReason::Adopted,
        format!("Version {} exists already and was taken over; nothing was created.", version.id.as_str()),
    )
}

fn deleted(facts: &Observation, result: &Result<(), Failure>) -> Report<ChatbotVersionStatus> {
    let entry = operation_record(Operation::Delete, Some(facts.id()), result, facts.now);
    let mut told = match result {
        Ok(()) => {
            let message = format!("Version {} was deleted; the service still lists it.", facts.id());
            Report::new(
                facts.status_with(&ReadyCondition::new(Reason::Deleting, message)),
                Requeue::Immediately,
            )
        }
        Err(failure) => {
            let (words, pause) = write_failure_condition(failure, &facts.secret());
            let message = match failure.class {
                FailureClass::Refused(_) | FailureClass::Forbidden { .. } => format!(
                    "{} To let the object go and leave version {} in the service, annotate it with {}=<anything>.",
                    words.message,
                    facts.id(),
                    annotation::FORCE_ORPHAN
                ),
                FailureClass::Throttled { .. } | FailureClass::Unsent | FailureClass::Unknown => {
                    words.message
                }
            };
            let mut status = facts.status_with(&ReadyCondition::new(Reason::Deleting, message));
            let pace = back_off(&mut status.common, failure, pause, facts);
            Report::new(status, pace)
        }
    };
    if !result.as_ref().is_err_and(Failure::was_not_sent) {
        told.status.common.push_operation(entry);
    }
    told
}

fn remove_finalizer(facts: &Observation, why: FinalizerRemoval) -> Report<ChatbotVersionStatus> {
    let told = Report { finalizer: Some(false), ..Report::new(facts.status().clone(), Requeue::OnChange) };
    let id = facts.id().to_owned();
    let mut told = match why {
        FinalizerRemoval::HandedOver => told.event(
            false,
            EventReason::DeletionDelegated,
            format!("Version {id} is live; the ChatbotDeployment that runs it deletes it after it has moved on."),
        ),
        FinalizerRemoval::ForceOrphaned => told.event(
            true,
            EventReason::Orphaned,
            format!("Let go by force-orphan; version {id} may be left in the service."),
        ),
        FinalizerRemoval::LiveUnmanaged => told.event(
            true,
            EventReason::Orphaned,
            format!("Version {id} is or may be live and no ChatbotDeployment is in charge of it; it is left in the service."),
        ),
        FinalizerRemoval::CredentialsTimeout => told.event(
            true,
            EventReason::Orphaned,
            format!("Nobody could authenticate in time to delete version {id}; it is left in the service."),
        ),
        FinalizerRemoval::Retained => match facts.invalid_namespace_policy() {
            Some(said) => told.event(true, EventReason::Orphaned, misread(said, &id)),
            None => told,
        },
        FinalizerRemoval::Deleted | FinalizerRemoval::NeverCreated | FinalizerRemoval::OwnedByOther => told,
    };
    if told.events.iter().any(|event| event.reason == EventReason::Orphaned) {
        told.orphans.push(id);
    }
    told
}

/// The namespace says something that is no policy.
fn misread(said: &str, id: &str) -> String {
    let said: String = said.chars().take(64).collect();
    format!(
        "The namespace's annotation {} is {said:?}, neither Delete nor Retain: version {id} is left in the service.",
        annotation::DELETION_POLICY
    )
}

fn wait(facts: &Observation, rest: Wait) -> Report<ChatbotVersionStatus> {
    match rest {
        Wait::Available => ready(facts),
        Wait::WaitingForOtherFinalizers => {
            let message = "Nothing is left to be done here; another finalizer holds the object.";
            Report::new(facts.status_with(&ReadyCondition::new(Reason::Deleting, message)), Requeue::OnChange)
        }
        Wait::Suspended => {
            let common = suspended_status(&facts.status().common, &facts.object.metadata, false, facts.now);
            Report::new(ChatbotVersionStatus { common, ..facts.status().clone() }, Requeue::OnChange)
        }
        Wait::BackingOff => {
            let pace = requeue_after_backoff(&facts.status().common, facts.now);
            Report::new(facts.status().clone(), pace)
        }
        Wait::Unavailable(blocked) => unavailable_report(facts, blocked),
        Wait::Deleting => deleting(facts),
        Wait::VersionLost => {
            let told =
                Report::new(facts.status_with(&wait_condition(facts, rest)), facts.requeue_at_interval());
            let reason = Reason::VersionLost.as_str();
            if facts.is_other_account() || facts.status().common.conditions.iter().any(|c| c.reason == reason)
            {
                return told;
            }
            let note = format!("Version {} is no longer in the service.", facts.id());
            told.event(true, EventReason::VersionLost, note)
        }
        Wait::CreateUnconfirmed
        | Wait::WaitingForVisibility
        | Wait::OlderCreatePending
        | Wait::WaitingForDeletion => {
            Report::new(facts.status_with(&wait_condition(facts, rest)), Requeue::After(poll_interval(facts)))
        }
        Wait::AmbiguousVersion | Wait::AdoptMissing | Wait::Conflict => {
            Report::new(facts.status_with(&wait_condition(facts, rest)), facts.requeue_at_interval())
        }
    }
}

/// The words for a rest that is not as wanted.
fn wait_condition(facts: &Observation, rest: Wait) -> ReadyCondition {
    let (name, id) = (facts.name(), facts.id());
    let adopt = annotation_value(&facts.object.metadata, annotation::ADOPT_ID).unwrap_or_default();
    match rest {
        Wait::VersionLost => lost(facts),
        Wait::WaitingForVisibility => ReadyCondition::new(
            Reason::WaitingForVisibility,
            format!("Version {id} was created; the service does not list it yet."),
        ),
        Wait::OlderCreatePending => ReadyCondition::new(
            Reason::Creating,
            format!("An older ChatbotVersion that is also named {name:?} is being created first."),
        ),
        Wait::WaitingForDeletion => ReadyCondition::new(
            Reason::WaitingForDeletion,
            format!("A version {name:?} of this object is being deleted; what becomes of it is waited for."),
        ),
        Wait::CreateUnconfirmed => ReadyCondition::new(
            Reason::CreateUnconfirmed,
            format!(
                "A create of version {name:?} was sent or may have been, without a usable answer; the list is watched for it \
                 before another is sent. Nothing needs to be done."
            ),
        ),
        Wait::AdoptMissing => ReadyCondition::new(
            Reason::VersionNotFound,
            format!(
                "Version {adopt}, which is to be adopted, is not in the service; correct {}.",
                annotation::ADOPT_ID
            ),
        ),
        Wait::Conflict => ReadyCondition::new(Reason::Conflict, conflict(facts, adopt)),
        _ => ReadyCondition::new(Reason::AmbiguousVersion, ambiguous(facts)),
    }
}

fn lost(facts: &Observation) -> ReadyCondition {
    let id = facts.id();
    let message = if facts.is_other_account() {
        format!(
            "The key in Secret {} lists neither version {id} nor any other that is known to be ours; check that it \
             belongs to the account of the chatbot.",
            facts.secret()
        )
    } else {
        format!(
            "Version {id} is no longer in the service. A snapshot is not taken again by itself: annotate the object \
             with {}=<any token> to create a new one, or delete the object.",
            annotation::RECREATE
        )
    };
    ReadyCondition::new(Reason::VersionLost, message)
}

fn conflict(facts: &Observation, adopt: &str) -> String {
    match &facts.older_claim {
        Some(other) => format!(
            "Version {} belongs to ChatbotVersion {other}, which is older; delete one of the two.",
            facts.id()
        ),
        None => format!(
            "Version {adopt}, which is to be adopted, belongs to another object; correct {}.",
            annotation::ADOPT_ID
        ),
    }
}

fn ambiguous(facts: &Observation) -> String {
    let ids: Vec<&str> = match &facts.service {
        ServiceView::Available { inventory, .. } => {
            facts.candidates(inventory).iter().take(5).map(|v| v.id.as_str()).collect()
        }
        _ => Vec::new(),
    };
    let (adopt, recreate) = (annotation::ADOPT_ID, annotation::RECREATE);
    match ids.as_slice() {
        [] => format!(
            "The service accepted the create, but lists no version that could be its; annotate the object with \
             {adopt}=<id>, or delete it with {}=<anything> and apply it anew.",
            annotation::FORCE_ORPHAN
        ),
        ids => format!(
            "Any of these versions could be this object's: {}. Annotate it with {adopt}=<id>, or with \
             {recreate}=<any token> to create a new one; to delete it and leave them, with {}=<anything>.",
            ids.join(", "),
            annotation::FORCE_ORPHAN
        ),
    }
}

fn ready(facts: &Observation) -> Report<ChatbotVersionStatus> {
    let Some(version) = facts.listed() else {
        return facts.unchanged();
    };
    let mut words = available(version);
    let duplicates = facts.duplicates();
    if !duplicates.is_empty() {
        words.message = format!(
            "{} Others with this object's marker exist, too: {}. Nothing refers to them: delete them in the service.",
            words.message,
            duplicates.join(", ")
        );
    }
    let told_of = &facts.status().duplicates;
    let new: Vec<String> = duplicates.iter().filter(|id| !told_of.contains(id)).cloned().collect();
    let status = ChatbotVersionStatus { duplicates, ..available_status(facts, version, &words) };
    let mut told = Report::new(status, facts.requeue_at_interval());
    if !new.is_empty() {
        told = told.event(true, EventReason::DuplicateFound, words.message);
        told.orphans = new;
    }
    told
}

/// The version is there.
fn available_status(facts: &Observation, version: &Version, words: &ReadyCondition) -> ChatbotVersionStatus {
    let mut status = facts.status_with(words);
    status.common.retry = None;
    copy_version(&mut status, version, facts.live_in());
    status
}

fn unavailable_report(facts: &Observation, blocked: UnavailableReason) -> Report<ChatbotVersionStatus> {
    let ServiceView::Unavailable(obstacle) = &facts.service else {
        return facts.unchanged();
    };
    let pace = requeue_unavailable(obstacle, facts.interval(), facts.jitter);
    let mut status = facts.status().clone();
    // what was well stays well while the service cannot be asked: nothing is known to have changed
    if blocked.is_transient() && is_ready(&status.common, &facts.object.metadata) {
        status.common = carry_over(&status.common, &facts.object.metadata, true);
        return Report::new(status, pace);
    }
    Report::new(
        facts.status_with(&ReadyCondition::new(blocked.condition_reason(), obstacle.message.as_str())),
        pace,
    )
}

fn deleting(facts: &Observation) -> Report<ChatbotVersionStatus> {
    let (message, pace) = match &facts.service {
        ServiceView::Unavailable(obstacle) => {
            let until_timeout = "After --deletion-timeout the version is left behind, on record.";
            let tail = if obstacle.reason.is_credentials_problem() { until_timeout } else { "" };
            (
                format!("{} {tail}", obstacle.message).trim().to_owned(),
                requeue_unavailable(obstacle, facts.interval(), facts.jitter),
            )
        }
        _ => (
            format!("Version {} is about to be gone from the service.", facts.id()),
            Requeue::After(poll_interval(facts)),
        ),
    };
    Report::new(facts.status_with(&ReadyCondition::new(Reason::Deleting, message)), pace)
}
