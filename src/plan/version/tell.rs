//! What came of a step, as status, events and the time of the next look.

use std::{sync::Arc, time::Duration};

use super::{Facts, Record, Release, Rest, Step};
use crate::{
    chatcaptain::{Class, Failure, Inventory, Version, VersionId},
    crd::{
        ChatbotVersionStatus, CommonStatus, Intent, LiveEnvironment, Operation, OperationRecord,
        OperationResult, Reason, annotation,
    },
    plan::{
        Blocked, EventReason, Look, Pace, Tally, Told, annotated,
        obstacle::{change_refused, pause},
        status::{Words, back_off, is_ready, keep, keep_stalled, record, rest_of_backoff, say, suspended},
        whole,
    },
};

/// Ids of the same name that an intent remembers.
const KNOWN_IDS: usize = 50;
/// Time between two looks while something is about to show.
const WATCH: Duration = Duration::from_secs(2);

/// What came of a step.
pub enum Outcome {
    /// The step was no call.
    Nothing,
    /// A create ended; the list as it was right after, if it could be had.
    Created(Result<Option<VersionId>, Failure>, Option<Arc<Inventory>>),
    /// A delete ended.
    Deleted(Result<(), Failure>),
}

/// The status that `step` and its `outcome` lead to.
#[must_use]
pub fn tell(facts: &Facts, step: Step, outcome: &Outcome) -> Told<ChatbotVersionStatus> {
    match (step, outcome) {
        (Step::Create, Outcome::Created(result, list)) => created(facts, result, list.as_deref()),
        (Step::Delete, Outcome::Deleted(result)) => deleted(facts, result),
        (Step::Guard, _) => Told { finalizer: Some(true), ..facts.silent() },
        (Step::Release(why), _) => released(facts, why),
        (Step::Intend, _) => intended(facts),
        (Step::Search, _) => searching(facts),
        (Step::Adopt, _) => adopted(facts),
        (Step::Rest(rest), _) => resting(facts, rest),
        // a call without its outcome cannot be; looking again is safe
        (Step::Create | Step::Delete, _) => facts.silent(),
    }
}

impl Facts {
    /// Nothing to say; the next look will tell.
    fn silent(&self) -> Told<ChatbotVersionStatus> {
        Told::new(self.status().clone(), Pace::Again)
    }

    /// The status as it stands, saying `words` of the object.
    fn saying(&self, words: &Words) -> ChatbotVersionStatus {
        let status = self.status();
        // on its way out nothing is Ready any more, and what is going on is the deletion
        let deleting = self.object.metadata.deletion_timestamp.is_some() && words.reason != Reason::Deleting;
        let words = if deleting { &Words::new(Reason::Deleting, words.message.as_str()) } else { words };
        let common = say(&status.common, &self.object.metadata, words, None, self.now);
        ChatbotVersionStatus { common, ..status.clone() }
    }

    fn name(&self) -> &str {
        self.object.version_name()
    }

    fn id(&self) -> &str {
        self.object.version_id().unwrap_or("unknown")
    }

    /// Nothing that the key lists is known to be ours: it may be of another account, and proves nothing.
    fn is_foreign(&self) -> bool {
        matches!(self.look, Look::Shown { trusted: false, .. })
    }

    fn secret(&self) -> String {
        self.object.spec.credentials_ref.clone().unwrap_or_default().name().to_owned()
    }

    fn at_rest(&self) -> Pace {
        self.look.lasts(self.interval(), self.jitter)
    }
}

/// Copies what the list tells of the version.
fn describe(status: &mut ChatbotVersionStatus, version: &Version, live: Option<Vec<LiveEnvironment>>) {
    status.version_id = Some(version.id.as_str().to_owned());
    status.version_number = version.number.as_deref().map(str::to_owned);
    status.name = version.name.as_deref().map(|name| name.chars().take(256).collect());
    status.created = version.created.map(whole);
    status.deployed = version.deployed.map(whole);
    if let Some(live) = live {
        status.deployed_in = live;
    }
}

fn available(version: &Version) -> Words {
    let number = version.number.as_deref().map(|number| format!("{number} ")).unwrap_or_default();
    Words::new(Reason::Available, format!("Version {number}({}) exists in the service.", version.id.as_str()))
}

fn intended(facts: &Facts) -> Told<ChatbotVersionStatus> {
    let words = Words::new(Reason::Creating, format!("Version {:?} is about to be created.", facts.name()));
    let mut status = facts.saying(&words);
    keep_stalled(&mut status.common, &facts.status().common, &facts.object.metadata);
    let known = match &facts.look {
        Look::Shown { inventory, .. } => inventory.versions(),
        _ => &[],
    };
    status.intent = Some(Intent {
        attempt: facts.attempt.clone(),
        started_at: whole(facts.now),
        known_ids: known
            .iter()
            .rev()
            .filter(|version| version.name.as_deref() == Some(facts.name()))
            .map(|version| version.id.as_str().to_owned())
            .take(KNOWN_IDS)
            .collect(),
        unconfirmed_since: None,
    });
    status.version_id = None;
    status.last_handled_recreate = annotated(&facts.object.metadata, annotation::RECREATE).map(str::to_owned);
    let told = Told::new(status, Pace::Again);
    if facts.record() == Record::Searched { told.tally(Tally::CreateAbsent) } else { told }
}

/// The end of a create is unknown: from now on the list is watched.
fn searching(facts: &Facts) -> Told<ChatbotVersionStatus> {
    let mut status = facts.saying(&troubled(facts, Rest::Searching));
    if let Some(intent) = &mut status.intent {
        intent.unconfirmed_since = Some(whole(facts.now));
    }
    Told::new(status, Pace::After(watch(facts)))
}

/// A fraction of the grace, so that a short grace is looked at often enough.
fn watch(facts: &Facts) -> Duration {
    WATCH.min(facts.rules.visibility_grace / 4).max(Duration::from_millis(250))
}

fn created(
    facts: &Facts,
    result: &Result<Option<VersionId>, Failure>,
    list: Option<&Inventory>,
) -> Told<ChatbotVersionStatus> {
    match result {
        Ok(id) => accepted(facts, id.as_ref(), list),
        Err(failure) if failure.may_have_happened => lost_answer(facts, failure, list),
        Err(failure) => not_created(facts, failure),
    }
}

fn accepted(facts: &Facts, id: Option<&VersionId>, list: Option<&Inventory>) -> Told<ChatbotVersionStatus> {
    let shown = list.and_then(|list| match id {
        Some(id) => list.version(id.as_str()),
        None => facts.found(list),
    });
    let id = shown.map(|version| &version.id).or(id);
    // even if the clock was put back meanwhile, it comes after its intent
    let at = facts.intent().map_or(facts.now, |intent| facts.now.max(intent.started_at.0));
    let entry = record(Operation::Create, id.map(VersionId::as_str), &Ok(()), at);
    let mut told = match (shown, id) {
        (Some(version), _) => {
            let mut status = facts.saying(&available(version));
            describe(&mut status, version, None);
            Told::new(status, facts.at_rest())
        }
        (None, Some(id)) => {
            let message = format!("Version {} was created; the service does not list it yet.", id.as_str());
            let mut status = facts.saying(&Words::new(Reason::WaitingForVisibility, message));
            status.version_id = Some(id.as_str().to_owned());
            Told::new(status, Pace::After(watch(facts)))
        }
        (None, None) => searching(facts),
    };
    if id.is_some() {
        told.status.intent = None;
        told.status.common.retry = None;
    }
    told.status.common.record(entry);
    told
}

fn lost_answer(facts: &Facts, failure: &Failure, list: Option<&Inventory>) -> Told<ChatbotVersionStatus> {
    let entry = record(Operation::Create, None, &Err::<(), _>(failure.clone()), facts.now);
    let mut told = match list.and_then(|list| facts.found(list)) {
        Some(version) if version.marker().is_some() => recovered(facts, version),
        _ => {
            let mut told = searching(facts);
            // should it be absent in the end, the next attempt comes later each time
            retry(&mut told.status.common, failure, None, facts);
            told
        }
    };
    told.status.common.record(entry);
    told
}

/// The create was refused, or never left this machine.
fn not_created(facts: &Facts, failure: &Failure) -> Told<ChatbotVersionStatus> {
    let (words, asked) = change_refused(failure, &facts.secret());
    let mut status = facts.saying(&words);
    let pace = retry(&mut status.common, failure, asked, facts);
    // what was not even sent leaves the intent standing, and the permit with it
    if !failure.is_unmade() {
        status.intent = None;
        let result = Err::<(), _>(failure.clone());
        status.common.record(record(Operation::Create, None, &result, facts.now));
    }
    Told::new(status, pace)
}

/// Backs off, unless the service said how long to wait.
fn retry(common: &mut CommonStatus, failure: &Failure, asked: Option<Duration>, facts: &Facts) -> Pace {
    if let Some(pause) = asked {
        return Pace::After(pause);
    }
    common.retry = Some(back_off(common.retry.as_ref(), failure, facts.now, facts.jitter));
    rest_of_backoff(common, facts.now)
}

fn recovered(facts: &Facts, version: &Version) -> Told<ChatbotVersionStatus> {
    let mut status = facts.saying(&available(version));
    describe(&mut status, version, None);
    status.intent = None;
    status.common.retry = None;
    let note = format!(
        "The create without a usable answer had made version {}; it is recorded.",
        version.id.as_str()
    );
    Told::new(status, Pace::Again)
        .event(false, EventReason::CreateRecovered, note)
        .tally(Tally::CreateRecovered)
}

fn adopted(facts: &Facts) -> Told<ChatbotVersionStatus> {
    let Look::Shown { inventory, .. } = &facts.look else {
        return facts.silent();
    };
    let Some(version) = facts.found(inventory) else {
        return facts.silent();
    };
    if facts.intent().is_some() {
        return recovered(facts, version);
    }
    let mut status = facts.saying(&available(version));
    describe(&mut status, version, None);
    status.common.retry = None;
    status.common.record(OperationRecord {
        operation: Operation::Adopt,
        version_id: Some(version.id.as_str().to_owned()),
        at: whole(facts.now),
        result: OperationResult::Accepted,
        message: None,
    });
    Told::new(status, Pace::Again).event(
        false,
        EventReason::Adopted,
        format!("Version {} exists already and was taken over; nothing was created.", version.id.as_str()),
    )
}

fn deleted(facts: &Facts, result: &Result<(), Failure>) -> Told<ChatbotVersionStatus> {
    let entry = record(Operation::Delete, Some(facts.id()), result, facts.now);
    let mut told = match result {
        Ok(()) => {
            let message = format!("Version {} was deleted; the service still lists it.", facts.id());
            Told::new(facts.saying(&Words::new(Reason::Deleting, message)), Pace::Again)
        }
        Err(failure) => {
            let (words, pause) = change_refused(failure, &facts.secret());
            let message = match failure.class {
                Class::Refused(_) | Class::Forbidden { .. } => format!(
                    "{} To let the object go and leave version {} in the service, annotate it with {}=<anything>.",
                    words.message,
                    facts.id(),
                    annotation::FORCE_ORPHAN
                ),
                Class::Throttled { .. } | Class::Unsent | Class::Unknown => words.message,
            };
            let mut status = facts.saying(&Words::new(Reason::Deleting, message));
            let pace = retry(&mut status.common, failure, pause, facts);
            Told::new(status, pace)
        }
    };
    if !result.as_ref().is_err_and(Failure::is_unmade) {
        told.status.common.record(entry);
    }
    told
}

fn released(facts: &Facts, why: Release) -> Told<ChatbotVersionStatus> {
    let told = Told { finalizer: Some(false), ..Told::new(facts.status().clone(), Pace::Idle) };
    let id = facts.id().to_owned();
    let mut told = match why {
        Release::HandedOver => told.event(
            false,
            EventReason::HandedOver,
            format!("Version {id} is live; the ChatbotDeployment that runs it deletes it after it has moved on."),
        ),
        Release::Forced => told.event(
            true,
            EventReason::Orphaned,
            format!("Let go by force-orphan; version {id} may be left in the service."),
        ),
        Release::LeftLive => told.event(
            true,
            EventReason::Orphaned,
            format!("Version {id} is or may be live and no ChatbotDeployment is in charge of it; it is left in the service."),
        ),
        Release::LeftBehind => told.event(
            true,
            EventReason::Orphaned,
            format!("Nobody could authenticate in time to delete version {id}; it is left in the service."),
        ),
        Release::Retained => match facts.misread_policy() {
            Some(said) => told.event(true, EventReason::Orphaned, misread(said, &id)),
            None => told,
        },
        Release::Proven | Release::NeverCreated | Release::NotOurs => told,
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

fn resting(facts: &Facts, rest: Rest) -> Told<ChatbotVersionStatus> {
    match rest {
        Rest::Ready => ready(facts),
        Rest::Gone => {
            let message = "Nothing is left to be done here; another finalizer holds the object.";
            Told::new(facts.saying(&Words::new(Reason::Deleting, message)), Pace::Idle)
        }
        Rest::Suspended => {
            let common = suspended(&facts.status().common, &facts.object.metadata, false, facts.now);
            Told::new(ChatbotVersionStatus { common, ..facts.status().clone() }, Pace::Idle)
        }
        Rest::Held => {
            let pace = rest_of_backoff(&facts.status().common, facts.now);
            Told::new(facts.status().clone(), pace)
        }
        Rest::Blocked(blocked) => obstructed(facts, blocked),
        Rest::Deleting => deleting(facts),
        Rest::Lost => {
            let told = Told::new(facts.saying(&troubled(facts, rest)), facts.at_rest());
            let reason = Reason::VersionLost.as_str();
            if facts.is_foreign() || facts.status().common.conditions.iter().any(|c| c.reason == reason) {
                return told;
            }
            let note = format!("Version {} is no longer in the service.", facts.id());
            told.event(true, EventReason::VersionLost, note)
        }
        Rest::Searching | Rest::Young | Rest::Queued | Rest::Going => {
            Told::new(facts.saying(&troubled(facts, rest)), Pace::After(watch(facts)))
        }
        Rest::Ambiguous | Rest::AdoptMissing | Rest::Conflict => {
            Told::new(facts.saying(&troubled(facts, rest)), facts.at_rest())
        }
    }
}

/// The words for a rest that is not as wanted.
fn troubled(facts: &Facts, rest: Rest) -> Words {
    let (name, id) = (facts.name(), facts.id());
    let adopt = annotated(&facts.object.metadata, annotation::ADOPT_ID).unwrap_or_default();
    match rest {
        Rest::Lost => lost(facts),
        Rest::Young => Words::new(
            Reason::WaitingForVisibility,
            format!("Version {id} was created; the service does not list it yet."),
        ),
        Rest::Queued => Words::new(
            Reason::Creating,
            format!("An older ChatbotVersion that is also named {name:?} is being created first."),
        ),
        Rest::Going => Words::new(
            Reason::WaitingForDeletion,
            format!("A version {name:?} of this object is being deleted; what becomes of it is waited for."),
        ),
        Rest::Searching => Words::new(
            Reason::CreateUnconfirmed,
            format!(
                "A create of version {name:?} was sent or may have been, without a usable answer; the list is watched for it \
                 before another is sent. Nothing needs to be done."
            ),
        ),
        Rest::AdoptMissing => Words::new(
            Reason::VersionNotFound,
            format!(
                "Version {adopt}, which is to be adopted, is not in the service; correct {}.",
                annotation::ADOPT_ID
            ),
        ),
        Rest::Conflict => Words::new(Reason::Conflict, conflict(facts, adopt)),
        _ => Words::new(Reason::AmbiguousVersion, ambiguous(facts)),
    }
}

fn lost(facts: &Facts) -> Words {
    let id = facts.id();
    let message = if facts.is_foreign() {
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
    Words::new(Reason::VersionLost, message)
}

fn conflict(facts: &Facts, adopt: &str) -> String {
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

fn ambiguous(facts: &Facts) -> String {
    let ids: Vec<&str> = match &facts.look {
        Look::Shown { inventory, .. } => {
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

fn ready(facts: &Facts) -> Told<ChatbotVersionStatus> {
    let Some(version) = facts.listed() else {
        return facts.silent();
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
    let status = ChatbotVersionStatus { duplicates, ..well(facts, version, &words) };
    let mut told = Told::new(status, facts.at_rest());
    if !new.is_empty() {
        told = told.event(true, EventReason::DuplicateFound, words.message);
        told.orphans = new;
    }
    told
}

/// The version is there.
fn well(facts: &Facts, version: &Version, words: &Words) -> ChatbotVersionStatus {
    let mut status = facts.saying(words);
    status.common.retry = None;
    describe(&mut status, version, facts.live_in());
    status
}

fn obstructed(facts: &Facts, blocked: Blocked) -> Told<ChatbotVersionStatus> {
    let Look::Blocked(obstacle) = &facts.look else {
        return facts.silent();
    };
    let pace = pause(obstacle, facts.interval(), facts.jitter);
    let mut status = facts.status().clone();
    // what was well stays well while the service cannot be asked: nothing is known to have changed
    if blocked.is_transient() && is_ready(&status.common, &facts.object.metadata) {
        status.common = keep(&status.common, &facts.object.metadata, true);
        return Told::new(status, pace);
    }
    Told::new(facts.saying(&Words::new(blocked.reason(), obstacle.message.as_str())), pace)
}

fn deleting(facts: &Facts) -> Told<ChatbotVersionStatus> {
    let (message, pace) = match &facts.look {
        Look::Blocked(obstacle) => {
            let until_timeout = "After --deletion-timeout the version is left behind, on record.";
            let tail = if obstacle.blocked.is_credentials() { until_timeout } else { "" };
            (
                format!("{} {tail}", obstacle.message).trim().to_owned(),
                pause(obstacle, facts.interval(), facts.jitter),
            )
        }
        _ => (
            format!("Version {} is about to be gone from the service.", facts.id()),
            Pace::After(watch(facts)),
        ),
    };
    Told::new(facts.saying(&Words::new(Reason::Deleting, message)), pace)
}
