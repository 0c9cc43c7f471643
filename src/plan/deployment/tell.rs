//! What came of a step, as status, events and the time of the next look.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};

use super::{
    Call, Facts, Rest, Step, Wanted,
    history::{follow, leave, moved},
    words::{
        after_fight, arrival, conflict, doing, failure, fought, gated, overdue, retiring, tolerated,
        unresolved, waiting,
    },
};
use crate::{
    chatcaptain::Failure,
    crd::{
        Cause, ChatbotDeploymentStatus, Command, ConditionType, FailedRollout, Operation, OperationResult,
        Reason, Retiring, RunningOperation, Target, annotation,
    },
    plan::{
        EventReason, Look, Pace, Tally, Told, annotated, elapsed,
        obstacle::{change_refused, pause},
        status::{
            Words, back_off, ended, is_ready, keep, keep_stalled, record, rest_of_backoff, say, suspended,
        },
        whole,
    },
};

/// Versions that `failed` remembers.
const FAILED: usize = 10;

/// Time between two looks at a gate: its soak may be over without anything happening.
const GATE: Pace = Pace::After(Duration::from_secs(5));

/// What came of a step.
pub enum Outcome {
    /// The step was no call.
    Nothing,
    /// A deploy or rollback ended.
    Called(Result<(), Failure>),
    /// A delete of this version ended.
    Retired(String, Result<(), Failure>),
}

/// The status that `step` and its `outcome` lead to.
#[must_use]
pub fn tell(facts: &Facts, step: Step, outcome: &Outcome) -> Told<ChatbotDeploymentStatus> {
    let told = match (step, outcome) {
        (Step::Guard, _) => {
            return Told { finalizer: Some(true), ..facts.silent() };
        }
        (Step::Unguard, _) => return unguarded(facts),
        (Step::Call(call), Outcome::Called(result)) => called(facts, call, result),
        (Step::Retire, Outcome::Retired(id, result)) => retired(facts, id, result),
        (Step::Intend(call), _) => intended(facts, call),
        (Step::Fail, _) => failed(facts),
        (Step::Rest(rest), _) => resting(facts, rest),
        // a call without its outcome cannot be; looking again is safe
        (Step::Call(_) | Step::Retire, _) => facts.silent(),
    };
    retire(facts, told)
}

/// Takes over the deletions that arrived, and drops those that are done with.
fn retire(facts: &Facts, mut told: Told<ChatbotDeploymentStatus>) -> Told<ChatbotDeploymentStatus> {
    let mut entries = facts.still_retiring();
    for dropped in &facts.status().retiring {
        if !entries.contains(dropped) && !facts.reclaimed.contains(&dropped.version_id) {
            let note = format!(
                "Version {} of the deleted ChatbotVersion {} is gone.",
                dropped.version_id, dropped.name
            );
            told = told.event(false, EventReason::Retired, note);
        }
    }
    for leaving in &facts.leaving {
        if !entries.iter().any(|entry| entry.version_id == leaving.version_id)
            && entries.len() < ChatbotDeploymentStatus::RETIRING
        {
            entries.push(Retiring {
                version_id: leaving.version_id.clone(),
                name: leaving.name.clone(),
                since: whole(facts.now),
            });
        }
    }
    told.status.retiring = entries;
    told
}

impl Facts {
    /// Nothing to say; the next look will tell.
    fn silent(&self) -> Told<ChatbotDeploymentStatus> {
        Told::new(self.status().clone(), Pace::Again)
    }

    /// The status as it stands, saying `words` of the object.
    fn saying(&self, words: &Words) -> ChatbotDeploymentStatus {
        let status = self.status();
        let deleting = self.object.metadata.deletion_timestamp.is_some() && words.reason != Reason::Deleting;
        let words = if deleting { &Words::new(Reason::Deleting, words.message.as_str()) } else { words };
        let drifted = self.drifted(status);
        let drifted = drifted.as_ref().map(|(status, reason, message)| (*status, *reason, message.as_str()));
        let common = say(&status.common, &self.object.metadata, words, drifted, self.now);
        let mut status = ChatbotDeploymentStatus { common, ..status.clone() };
        self.sync(&mut status);
        status
    }

    /// What follows from the spec and the annotations alone.
    fn sync(&self, status: &mut ChatbotDeploymentStatus) {
        if self.failed().is_empty() {
            status.failed = None;
        }
        let value = annotated(&self.object.metadata, annotation::ROLLBACK_TO);
        status.command = status.command.take().filter(|command| Some(command.value.as_str()) == value);
        let Ok(wanted) = self.wanted() else { return };
        if wanted.cause == Cause::Command && status.command.is_none() {
            status.command = Some(Command {
                value: value.unwrap_or_default().to_owned(),
                generation: self.object.metadata.generation.unwrap_or_default(),
                version_id: wanted.id.clone(),
            });
        }
        let old = status.target.take().filter(|old| old.version_id == wanted.id);
        let since = old.as_ref().and_then(|old| old.since.clone()).or_else(|| Some(whole(self.now)));
        let reached_at = old.and_then(|old| old.reached_at);
        // a call for another version is forgotten when it can make no difference any more
        let under_way = !self.is_observable() || self.is_outrun(&wanted.id);
        status.operation =
            status.operation.take().filter(|operation| operation.version_id == wanted.id || under_way);
        let Wanted { id, number, cause } = wanted;
        status.target = Some(Target { version_id: id, version_number: number, cause, since, reached_at });
    }

    fn drifted(&self, status: &ChatbotDeploymentStatus) -> Option<(&'static str, Reason, String)> {
        match &self.look {
            Look::Shown { deployments: Some(_), .. } if self.is_observable() => {
                let wanted = self.wanted().ok();
                let seen = self.see();
                Some(match (seen.drift, wanted) {
                    (super::Drift::None | super::Drift::Late, _) | (_, None) => {
                        ("False", Reason::InSync, Reason::InSync.meaning().to_owned())
                    }
                    (_, Some(wanted)) => ("True", Reason::OutOfSync, self.by_hand(&wanted)),
                })
            }
            Look::Shown { deployments, .. } => Some((
                "Unknown",
                Reason::NotObservable,
                if deployments.is_none() {
                    "The API key may not read the deployment status; grant it chatbots.deployments.status to see changes by hand."
                } else {
                    "The deployment status and the list have no version number in common, so that changes by hand cannot be seen."
                }
                .to_owned(),
            )),
            _ => status.common.conditions.iter().find(|c| c.type_ == ConditionType::Drifted.as_str()).and_then(carried),
        }
    }

    fn secret(&self) -> String {
        self.object.spec.credentials_ref.clone().unwrap_or_default().name().to_owned()
    }

    fn at_rest(&self) -> Pace {
        self.look.lasts(self.interval(), self.jitter)
    }

    /// Often at first, less often the longer a rollout takes.
    fn watch(&self) -> Pace {
        let since = self
            .status()
            .operation
            .as_ref()
            .map_or(Duration::ZERO, |operation| elapsed(&operation.started_at, self.now));
        let most =
            (self.rules.visibility_grace / 4).clamp(Duration::from_millis(250), Duration::from_secs(10));
        Pace::After((since / 5).clamp(Duration::from_millis(250), most))
    }
}

/// `Drifted` as it was: nothing new is known.
fn carried(condition: &Condition) -> Option<(&'static str, Reason, String)> {
    let status = ["True", "False", "Unknown"].into_iter().find(|status| condition.status == *status)?;
    let reason = Reason::ALL.iter().copied().find(|reason| condition.reason == reason.as_str())?;
    Some((status, reason, condition.message.clone()))
}

fn intended(facts: &Facts, call: Call) -> Told<ChatbotDeploymentStatus> {
    let Ok(wanted) = facts.wanted() else {
        return facts.silent();
    };
    let seen = facts.see();
    let mut status = facts.saying(&doing(facts, call));
    keep_stalled(&mut status.common, &facts.status().common, &facts.object.metadata);
    status.operation = Some(RunningOperation {
        operation: if call == Call::Rollback { Operation::Rollback } else { Operation::Deploy },
        version_id: wanted.id.clone(),
        started_at: whole(facts.now),
        first_called_at: repeats(facts, &wanted.id, call),
        called_at: None,
        result: None,
        deployed_before: facts.listed(&wanted.id).and_then(|version| version.deployed).map(MicroTime),
    });
    let mut told = Told::new(status, Pace::Again);
    if seen.operation == super::Operation::Vain {
        let (environment, target) = (facts.environment(), facts.target_name());
        let note = format!("Rolling {environment} back to {target} {}; it is deployed instead.", vain(facts));
        told = told.event(true, EventReason::RollbackFellBack, note);
    }
    if seen.operation == super::Operation::None && seen.drift == super::Drift::Enforce {
        told.status.reversals = Some(facts.reversals());
        told = told.event(
            true,
            EventReason::DriftDetected,
            format!("{} It is put right.", facts.by_hand(&wanted)),
        );
        told = told.tally(Tally::DriftEnforced);
    }
    told
}

/// Why a rollback came to nothing.
fn vain(facts: &Facts) -> String {
    let status = facts.status();
    let refused = status.operation.as_ref().is_some_and(|o| o.result == Some(OperationResult::Refused));
    let last = status.common.last_operations.first().filter(|_| refused);
    let said = last.and_then(|last| last.message.as_deref());
    said.map_or_else(|| "showed no effect".to_owned(), |said| format!("was refused ({said})"))
}

fn called(facts: &Facts, call: Call, result: &Result<(), Failure>) -> Told<ChatbotDeploymentStatus> {
    let announced = facts.status().operation.clone();
    let mut told = match result {
        Err(failure) if !failure.may_have_happened => not_called(facts, call, failure),
        _ => {
            let mut status = facts.saying(&doing(facts, call));
            // a call without a usable answer may be repeated, but not without end in one pace
            let old = status.common.retry.take();
            let failed = result.as_ref().err();
            status.common.retry =
                failed.map(|failure| back_off(old.as_ref(), failure, facts.now, facts.jitter));
            Told::new(status, facts.watch())
        }
    };
    // a throttled call was none: it is still to be made
    if let Some(operation) = announced.filter(|_| !result.as_ref().is_err_and(Failure::is_unmade)) {
        let entry = record(operation.operation, Some(&operation.version_id), result, facts.now);
        told.status.common.record(entry);
        // though git may name another version by now
        told.status.operation = Some(RunningOperation {
            called_at: Some(whole(facts.now)),
            result: Some(ended(result)),
            ..operation
        });
    }
    told
}

fn not_called(facts: &Facts, call: Call, failure: &Failure) -> Told<ChatbotDeploymentStatus> {
    if call == Call::Rollback && !failure.is_unmade() {
        // the next pass deploys instead
        return Told::new(facts.saying(&doing(facts, Call::Rollback)), Pace::Again);
    }
    let (words, asked) = change_refused(failure, &facts.secret());
    let mut status = facts.saying(&words);
    if let Some(pause) = asked {
        return Told::new(status, Pace::After(pause));
    }
    let old = status.common.retry.as_ref();
    status.common.retry = Some(back_off(old, failure, facts.now, facts.jitter));
    let pace = rest_of_backoff(&status.common, facts.now);
    Told::new(status, pace)
}

/// Since when a deploy without a usable answer is repeated, if this one repeats it.
fn repeats(facts: &Facts, wanted: &str, call: Call) -> Option<Time> {
    let last = facts.status().operation.as_ref()?;
    let same = call == Call::Deploy && last.operation == Operation::Deploy && last.version_id == wanted;
    let unknown = last.called_at.as_ref().filter(|_| last.result == Some(OperationResult::Unknown));
    last.first_called_at.as_ref().or(unknown).filter(|_| same).cloned()
}

fn failed(facts: &Facts) -> Told<ChatbotDeploymentStatus> {
    let Ok(wanted) = facts.wanted() else {
        return facts.silent();
    };
    let mut status = facts.saying(&overdue(facts));
    status.operation = None;
    if facts.is_observable() {
        follow(facts, &mut status);
    } else {
        // the call may still take effect: what was confirmed before it is not certain any more
        leave(&mut status);
    }
    let earlier = facts.failed().iter().filter(|id| **id != wanted.id).cloned();
    status.failed = Some(FailedRollout {
        generation: facts.object.metadata.generation.unwrap_or_default(),
        version_ids: [wanted.id.clone()].into_iter().chain(earlier).take(FAILED).collect(),
    });
    Told::new(status, Pace::Again).event(true, EventReason::RolloutFailed, failure(facts) + ".")
}

fn retired(facts: &Facts, id: &str, result: &Result<(), Failure>) -> Told<ChatbotDeploymentStatus> {
    let meta = &facts.object.metadata;
    let mut status = if meta.deletion_timestamp.is_some() {
        facts.saying(&retiring())
    } else if facts.status().common.conditions.is_empty() {
        // nothing was said yet, and an observed generation without a condition would be taken for done
        facts.saying(&doing(facts, Call::Deploy))
    } else {
        // what is said of the environment stays; the deletion of an old version does not change it
        let common = keep(&facts.status().common, meta, true);
        let mut status = ChatbotDeploymentStatus { common, ..facts.status().clone() };
        facts.sync(&mut status);
        status
    };
    if !result.as_ref().is_err_and(Failure::is_unmade) {
        status.common.record(record(Operation::Delete, Some(id), result, facts.now));
    }
    let Err(failure) = result else {
        return Told::new(status, Pace::Again);
    };
    status.common.retry = Some(back_off(status.common.retry.as_ref(), failure, facts.now, facts.jitter));
    let pace = rest_of_backoff(&status.common, facts.now);
    Told::new(status, pace)
}

fn unguarded(facts: &Facts) -> Told<ChatbotDeploymentStatus> {
    let leaving = facts.object.metadata.deletion_timestamp.is_some();
    let pace = if leaving { Pace::Idle } else { Pace::Again };
    let mut told = Told { finalizer: Some(false), ..Told::new(facts.status().clone(), pace) };
    for entry in facts.still_retiring() {
        let note = format!(
            "Version {} of the deleted ChatbotVersion {} is left in the service: it is live or may be in a moment, or nobody could authenticate.",
            entry.version_id, entry.name
        );
        told = told.event(true, EventReason::Orphaned, note);
        told.orphans.push(entry.version_id);
    }
    told
}

fn resting(facts: &Facts, rest: Rest) -> Told<ChatbotDeploymentStatus> {
    let mut told = told_of(facts, rest);
    if facts.is_observable() && !matches!(rest, Rest::Progressing(_)) {
        follow(facts, &mut told.status);
    }
    told
}

fn told_of(facts: &Facts, rest: Rest) -> Told<ChatbotDeploymentStatus> {
    match rest {
        Rest::Ready => arrived(facts, Reason::Available),
        Rest::RolledBack => arrived(facts, Reason::RolledBack),
        Rest::Suspended => {
            let common =
                suspended(&facts.status().common, &facts.object.metadata, facts.is_moved(), facts.now);
            Told::new(ChatbotDeploymentStatus { common, ..facts.status().clone() }, Pace::Idle)
        }
        Rest::Held => held(facts),
        Rest::Gone => {
            let message = "Nothing is left to be done here; another finalizer holds the object.";
            Told::new(facts.saying(&Words::new(Reason::Deleting, message)), Pace::Idle)
        }
        Rest::Blocked(blocked) => obstructed(facts, blocked),
        Rest::Progressing(call) => Told::new(facts.saying(&doing(facts, call)), facts.watch()),
        Rest::Tolerated => left_alone(facts, Reason::DriftTolerated, tolerated(facts), ""),
        Rest::Fought => left_alone(facts, Reason::DriftRepeated, fought(facts), &after_fight()),
        Rest::Failed => Told::new(facts.saying(&overdue(facts)), facts.at_rest()),
        Rest::Unresolved(why) => Told::new(facts.saying(&unresolved(facts, why)), facts.at_rest()),
        Rest::Gated => Told::new(facts.saying(&gated(facts, Reason::WaitingForPromotion)), GATE),
        Rest::Shut => Told::new(facts.saying(&gated(facts, Reason::PromotionBlocked)), facts.at_rest()),
        Rest::Deleting => Told::new(facts.saying(&retiring()), Pace::After(Duration::from_secs(2))),
        Rest::Invalid => {
            let message = "Set exactly one of spec.versionRef, spec.versionId, spec.versionNumber.";
            Told::new(facts.saying(&Words::new(Reason::InvalidSpec, message)), Pace::Idle)
        }
        Rest::Conflict => Told::new(facts.saying(&conflict(facts)), facts.at_rest()),
    }
}

fn held(facts: &Facts) -> Told<ChatbotDeploymentStatus> {
    let pace = rest_of_backoff(&facts.status().common, facts.now);
    // what failed may have been the deletion of an old version, while the environment was as wanted
    if is_ready(&facts.status().common, &facts.object.metadata) {
        return Told::new(facts.saying(&waiting(facts)), pace);
    }
    Told::new(facts.status().clone(), pace)
}

/// The environment runs what it should: history moves on if it did not before.
fn arrived(facts: &Facts, reason: Reason) -> Told<ChatbotDeploymentStatus> {
    let Ok(wanted) = facts.wanted() else {
        return facts.silent();
    };
    let old = facts.status();
    let message = arrival(facts, reason, &wanted);
    let by = old.operation.as_ref().filter(|o| o.version_id == wanted.id).map(|o| o.operation);
    let mut status = facts.saying(&Words::new(reason, message));
    status.operation = None;
    // a version that could not be deleted yet is tried again in its own time
    let pace = if let (super::Retiring::Due, Some(_)) = (facts.see().retiring, &status.common.retry) {
        rest_of_backoff(&status.common, facts.now)
    } else {
        status.common.retry = None;
        facts.at_rest()
    };
    if let Some(target) = &mut status.target {
        target.reached_at.get_or_insert(whole(facts.now));
    }
    if let Some(failed) = &mut status.failed {
        // late, but there
        failed.version_ids.retain(|id| *id != wanted.id);
    }
    status.failed.take_if(|failed| failed.version_ids.is_empty());
    if old.active.as_ref().is_some_and(|active| active.version_id == wanted.id) {
        return Told::new(status, pace);
    }
    moved(facts, &mut status, &wanted.id);
    let told = Told::new(status, pace);
    if by.is_none() {
        return told;
    }
    let (reason, note) = change(facts, &wanted.id);
    told.event(false, reason, note)
}

/// What our call has changed.
fn change(facts: &Facts, id: &str) -> (EventReason, String) {
    let (status, environment, name) = (facts.status(), facts.environment(), facts.named(id));
    let former = |word: &str| match &status.active {
        Some(active) => format!(" {word} {}", facts.named(&active.version_id)),
        None => String::new(),
    };
    if status.history.iter().any(|entry| entry.version_id == id) {
        (EventReason::RolledBack, format!("{environment} went back{} to {name}.", former("from")))
    } else {
        (EventReason::Deployed, format!("{environment} runs {name}{}.", former("instead of")))
    }
}

/// Somebody deployed by hand, and nothing is done about it.
fn left_alone(facts: &Facts, reason: Reason, what: String, next: &str) -> Told<ChatbotDeploymentStatus> {
    let words = Words::new(reason, format!("{what}{next}"));
    let told = Told::new(facts.saying(&words), facts.at_rest());
    let known = facts.status().active.as_ref().map(|active| &active.version_id);
    if known == facts.live().as_ref() {
        return told;
    }
    told.event(true, EventReason::DriftDetected, what).tally(Tally::DriftWarned)
}

fn obstructed(facts: &Facts, blocked: crate::plan::Blocked) -> Told<ChatbotDeploymentStatus> {
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
