//! What came of a step, as status, events and the time of the next look.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};

use super::{
    Desired, Observation, RolloutMethod, Step, Wait,
    history::{clear_active, record_live, sync_history},
    messages::{
        backoff_condition, conflict_condition, deadline_condition, deleting_condition, drift_paused_hint,
        drift_paused_message, drift_tolerated_message, failure_message, promotion_condition, reached_message,
        rollout_condition, unresolved_condition,
    },
};
use crate::{
    chatcaptain::Failure,
    crd::{
        Cause, ChatbotDeploymentStatus, ConditionType, CurrentOperation, FailedVersions, Operation,
        OperationResult, PendingDeletion, Reason, RollbackCommand, Target, annotation,
    },
    plan::{
        CounterIncrement, EventReason, Report, Requeue, ServiceView, annotation_value, elapsed,
        service_view::{requeue_unavailable, write_failure_condition},
        status::{
            ReadyCondition, carry_over, carry_over_stalled, is_ready, next_backoff, operation_record,
            operation_result, requeue_after_backoff, suspended_status, with_conditions,
        },
        truncate_to_seconds,
    },
};

/// Versions that `failed` remembers.
const MAX_FAILED_VERSIONS: usize = 10;

/// Time between two looks at a gate: its soak may be over without anything happening.
const PROMOTION_POLL: Requeue = Requeue::After(Duration::from_secs(5));

/// What came of a step.
pub enum Outcome {
    /// The step was no call.
    NoCall,
    /// A deploy or rollback ended.
    RolloutStarted(Result<(), Failure>),
    /// A delete of this version ended.
    VersionDeleted(String, Result<(), Failure>),
}

/// The status that `step` and its `outcome` lead to.
#[must_use]
pub fn report(facts: &Observation, step: Step, outcome: &Outcome) -> Report<ChatbotDeploymentStatus> {
    let told = match (step, outcome) {
        (Step::AddFinalizer, _) => {
            return Report { finalizer: Some(true), ..facts.unchanged() };
        }
        (Step::RemoveFinalizer, _) => return remove_finalizer(facts),
        (Step::StartRollout(call), Outcome::RolloutStarted(result)) => rollout_called(facts, call, result),
        (Step::DeleteVersion, Outcome::VersionDeleted(id, result)) => version_deleted(facts, id, result),
        (Step::RecordIntent(call), _) => record_intent(facts, call),
        (Step::FailRollout, _) => fail_rollout(facts),
        (Step::Wait(rest), _) => wait(facts, rest),
        // a call without its outcome cannot be; looking again is safe
        (Step::StartRollout(_) | Step::DeleteVersion, _) => facts.unchanged(),
    };
    update_pending_deletions(facts, told)
}

/// Takes over the deletions that arrived, and drops those that are done with.
fn update_pending_deletions(
    facts: &Observation,
    mut told: Report<ChatbotDeploymentStatus>,
) -> Report<ChatbotDeploymentStatus> {
    let mut entries = facts.pending_deletions();
    for dropped in &facts.status().pending_deletions {
        if !entries.contains(dropped) && !facts.reclaimed.contains(&dropped.version_id) {
            let note = format!(
                "Version {} of the deleted ChatbotVersion {} is gone.",
                dropped.version_id, dropped.name
            );
            told = told.event(false, EventReason::VersionDeleted, note);
        }
    }
    for leaving in &facts.versions_being_deleted {
        if !entries.iter().any(|entry| entry.version_id == leaving.version_id)
            && entries.len() < ChatbotDeploymentStatus::MAX_PENDING_DELETIONS
        {
            entries.push(PendingDeletion {
                version_id: leaving.version_id.clone(),
                name: leaving.name.clone(),
                request_time: truncate_to_seconds(facts.now),
            });
        }
    }
    told.status.pending_deletions = entries;
    told
}

impl Observation {
    /// Nothing to say; the next look will tell.
    fn unchanged(&self) -> Report<ChatbotDeploymentStatus> {
        Report::new(self.status().clone(), Requeue::Immediately)
    }

    /// The status as it stands, saying `words` of the object.
    fn status_with(&self, words: &ReadyCondition) -> ChatbotDeploymentStatus {
        let status = self.status();
        let deleting = self.object.metadata.deletion_timestamp.is_some() && words.reason != Reason::Deleting;
        let words =
            if deleting { &ReadyCondition::new(Reason::Deleting, words.message.as_str()) } else { words };
        let drifted = self.drifted_condition(status);
        let drifted = drifted.as_ref().map(|(status, reason, message)| (*status, *reason, message.as_str()));
        let common = with_conditions(&status.common, &self.object.metadata, words, drifted, self.now);
        let mut status = ChatbotDeploymentStatus { common, ..status.clone() };
        self.sync_spec(&mut status);
        status
    }

    /// What follows from the spec and the annotations alone.
    fn sync_spec(&self, status: &mut ChatbotDeploymentStatus) {
        if self.failed_versions().is_empty() {
            status.failed_versions = None;
        }
        let value = annotation_value(&self.object.metadata, annotation::ROLLBACK_TO);
        status.rollback_command =
            status.rollback_command.take().filter(|command| Some(command.value.as_str()) == value);
        let Ok(wanted) = self.desired() else { return };
        if wanted.cause == Cause::RollbackCommand && status.rollback_command.is_none() {
            status.rollback_command = Some(RollbackCommand {
                value: value.unwrap_or_default().to_owned(),
                generation: self.object.metadata.generation.unwrap_or_default(),
                version_id: wanted.id.clone(),
            });
        }
        let old = status.target.take().filter(|old| old.version_id == wanted.id);
        let since = old
            .as_ref()
            .and_then(|old| old.start_time.clone())
            .or_else(|| Some(truncate_to_seconds(self.now)));
        let (reached_at, old_name) = old.map(|old| (old.reached_time, old.version_name)).unwrap_or_default();
        // a call for another version is forgotten when it can make no difference any more
        let under_way = !self.live_is_observable() || self.other_call_in_flight(&wanted.id);
        status.current_operation = status
            .current_operation
            .take()
            .filter(|operation| operation.version_id == wanted.id || under_way);
        let Desired { id, number, cause } = wanted;
        status.target = Some(Target {
            version_name: self.version_name(&id).or(old_name),
            version_id: id,
            version_number: number,
            cause,
            start_time: since,
            reached_time: reached_at,
        });
    }

    fn drifted_condition(&self, status: &ChatbotDeploymentStatus) -> Option<(&'static str, Reason, String)> {
        match &self.service {
            ServiceView::Available { deployments: Some(_), .. } if self.live_is_observable() => {
                let wanted = self.desired().ok();
                let seen = self.state();
                Some(match (seen.drift, wanted) {
                    (super::Drift::None | super::Drift::LateEffect, _) | (_, None) => {
                        ("False", Reason::InSync, Reason::InSync.meaning().to_owned())
                    }
                    (_, Some(wanted)) => ("True", Reason::OutOfSync, self.drift_message(&wanted)),
                })
            }
            ServiceView::Available { deployments, .. } => Some((
                "Unknown",
                Reason::NotObservable,
                if deployments.is_none() {
                    "The API key may not read the deployment status; grant it chatbots.deployments.status to see changes by hand."
                } else {
                    "The deployment status and the list have no version number in common, so that changes by hand cannot be seen."
                }
                .to_owned(),
            )),
            _ => status.common.conditions.iter().find(|c| c.type_ == ConditionType::Drifted.as_str()).and_then(carry_over_drifted),
        }
    }

    fn secret(&self) -> String {
        self.object.spec.credentials_ref.clone().unwrap_or_default().name().to_owned()
    }

    fn requeue_at_interval(&self) -> Requeue {
        self.service.requeue_when_stale(self.interval(), self.jitter)
    }

    /// Often at first, less often the longer a rollout takes.
    fn poll_interval(&self) -> Requeue {
        let since = self
            .status()
            .current_operation
            .as_ref()
            .map_or(Duration::ZERO, |operation| elapsed(&operation.start_time, self.now));
        let most =
            (self.config.visibility_grace / 4).clamp(Duration::from_millis(250), Duration::from_secs(10));
        Requeue::After((since / 5).clamp(Duration::from_millis(250), most))
    }
}

/// `Drifted` as it was: nothing new is known.
fn carry_over_drifted(condition: &Condition) -> Option<(&'static str, Reason, String)> {
    let status = ["True", "False", "Unknown"].into_iter().find(|status| condition.status == *status)?;
    let reason = Reason::ALL.iter().copied().find(|reason| condition.reason == reason.as_str())?;
    Some((status, reason, condition.message.clone()))
}

fn record_intent(facts: &Observation, call: RolloutMethod) -> Report<ChatbotDeploymentStatus> {
    let Ok(wanted) = facts.desired() else {
        return facts.unchanged();
    };
    let seen = facts.state();
    let mut status = facts.status_with(&rollout_condition(facts, call));
    carry_over_stalled(&mut status.common, &facts.status().common, &facts.object.metadata);
    status.current_operation = Some(CurrentOperation {
        operation: if call == RolloutMethod::Rollback { Operation::Rollback } else { Operation::Deploy },
        version_id: wanted.id.clone(),
        start_time: truncate_to_seconds(facts.now),
        first_call_time: first_call_time(facts, &wanted.id, call),
        call_time: None,
        result: None,
        previous_deploy_time: facts.listed(&wanted.id).and_then(|version| version.deployed).map(MicroTime),
    });
    let mut told = Report::new(status, Requeue::Immediately);
    if seen.rollout == super::Rollout::RollbackIneffective {
        let (environment, target) = (facts.environment(), facts.desired_label());
        let note = format!(
            "Rolling {environment} back to {target} {}; it is deployed instead.",
            rollback_failure(facts)
        );
        told = told.event(true, EventReason::RollbackFallback, note);
    }
    if seen.rollout == super::Rollout::None && seen.drift == super::Drift::Enforce {
        told.status.drift_corrections = Some(facts.drift_corrections());
        told = told.event(
            true,
            EventReason::DriftDetected,
            format!("{} It is put right.", facts.drift_message(&wanted)),
        );
        told = told.count(CounterIncrement::DriftEnforced);
    }
    told
}

/// Why a rollback came to nothing.
fn rollback_failure(facts: &Observation) -> String {
    let status = facts.status();
    let refused =
        status.current_operation.as_ref().is_some_and(|o| o.result == Some(OperationResult::Refused));
    let last = status.common.last_operations.first().filter(|_| refused);
    let said = last.and_then(|last| last.message.as_deref());
    said.map_or_else(|| "showed no effect".to_owned(), |said| format!("was refused ({said})"))
}

fn rollout_called(
    facts: &Observation,
    call: RolloutMethod,
    result: &Result<(), Failure>,
) -> Report<ChatbotDeploymentStatus> {
    let announced = facts.status().current_operation.clone();
    let mut told = match result {
        Err(failure) if !failure.may_have_happened => rollout_rejected(facts, call, failure),
        _ => {
            let mut status = facts.status_with(&rollout_condition(facts, call));
            // a call without a usable answer may be repeated, but not without end in one pace
            let old = status.common.retry.take();
            let failed = result.as_ref().err();
            status.common.retry =
                failed.map(|failure| next_backoff(old.as_ref(), failure, facts.now, facts.jitter));
            Report::new(status, facts.poll_interval())
        }
    };
    // a throttled call was none: it is still to be made
    if let Some(operation) = announced.filter(|_| !result.as_ref().is_err_and(Failure::was_not_sent)) {
        let entry = operation_record(operation.operation, Some(&operation.version_id), result, facts.now);
        told.status.common.push_operation(entry);
        // though git may name another version by now
        told.status.current_operation = Some(CurrentOperation {
            call_time: Some(truncate_to_seconds(facts.now)),
            result: Some(operation_result(result)),
            ..operation
        });
    }
    told
}

fn rollout_rejected(
    facts: &Observation,
    call: RolloutMethod,
    failure: &Failure,
) -> Report<ChatbotDeploymentStatus> {
    if call == RolloutMethod::Rollback && !failure.was_not_sent() {
        // the next pass deploys instead
        return Report::new(
            facts.status_with(&rollout_condition(facts, RolloutMethod::Rollback)),
            Requeue::Immediately,
        );
    }
    let (words, asked) = write_failure_condition(failure, &facts.secret());
    let mut status = facts.status_with(&words);
    if let Some(pause) = asked {
        return Report::new(status, Requeue::After(pause));
    }
    let old = status.common.retry.as_ref();
    status.common.retry = Some(next_backoff(old, failure, facts.now, facts.jitter));
    let pace = requeue_after_backoff(&status.common, facts.now);
    Report::new(status, pace)
}

/// Since when a deploy without a usable answer is repeated, if this one repeats it.
fn first_call_time(facts: &Observation, wanted: &str, call: RolloutMethod) -> Option<Time> {
    let last = facts.status().current_operation.as_ref()?;
    let same =
        call == RolloutMethod::Deploy && last.operation == Operation::Deploy && last.version_id == wanted;
    let unknown = last.call_time.as_ref().filter(|_| last.result == Some(OperationResult::Unknown));
    last.first_call_time.as_ref().or(unknown).filter(|_| same).cloned()
}

fn fail_rollout(facts: &Observation) -> Report<ChatbotDeploymentStatus> {
    let Ok(wanted) = facts.desired() else {
        return facts.unchanged();
    };
    let mut status = facts.status_with(&deadline_condition(facts));
    status.current_operation = None;
    if facts.live_is_observable() {
        sync_history(facts, &mut status);
    } else {
        // the call may still take effect: what was confirmed before it is not certain any more
        clear_active(&mut status);
    }
    let earlier = facts.failed_versions().iter().filter(|id| **id != wanted.id).cloned();
    status.failed_versions = Some(FailedVersions {
        generation: facts.object.metadata.generation.unwrap_or_default(),
        version_ids: [wanted.id.clone()].into_iter().chain(earlier).take(MAX_FAILED_VERSIONS).collect(),
    });
    Report::new(status, Requeue::Immediately).event(
        true,
        EventReason::RolloutFailed,
        failure_message(facts) + ".",
    )
}

fn version_deleted(
    facts: &Observation,
    id: &str,
    result: &Result<(), Failure>,
) -> Report<ChatbotDeploymentStatus> {
    let meta = &facts.object.metadata;
    let mut status = if meta.deletion_timestamp.is_some() {
        facts.status_with(&deleting_condition())
    } else if facts.status().common.conditions.is_empty() {
        // nothing was said yet, and an observed generation without a condition would be taken for done
        facts.status_with(&rollout_condition(facts, RolloutMethod::Deploy))
    } else {
        // what is said of the environment stays; the deletion of an old version does not change it
        let common = carry_over(&facts.status().common, meta, true);
        let mut status = ChatbotDeploymentStatus { common, ..facts.status().clone() };
        facts.sync_spec(&mut status);
        status
    };
    if !result.as_ref().is_err_and(Failure::was_not_sent) {
        status.common.push_operation(operation_record(Operation::Delete, Some(id), result, facts.now));
    }
    let Err(failure) = result else {
        return Report::new(status, Requeue::Immediately);
    };
    status.common.retry = Some(next_backoff(status.common.retry.as_ref(), failure, facts.now, facts.jitter));
    let pace = requeue_after_backoff(&status.common, facts.now);
    Report::new(status, pace)
}

fn remove_finalizer(facts: &Observation) -> Report<ChatbotDeploymentStatus> {
    let leaving = facts.object.metadata.deletion_timestamp.is_some();
    let pace = if leaving { Requeue::OnChange } else { Requeue::Immediately };
    let mut told = Report { finalizer: Some(false), ..Report::new(facts.status().clone(), pace) };
    for entry in facts.pending_deletions() {
        let note = format!(
            "Version {} of the deleted ChatbotVersion {} is left in the service: it is live or may be in a moment, or nobody could authenticate.",
            entry.version_id, entry.name
        );
        told = told.event(true, EventReason::Orphaned, note);
        told.orphans.push(entry.version_id);
    }
    told
}

fn wait(facts: &Observation, rest: Wait) -> Report<ChatbotDeploymentStatus> {
    let mut told = wait_report(facts, rest);
    if facts.live_is_observable() && !matches!(rest, Wait::Progressing(_)) {
        sync_history(facts, &mut told.status);
    }
    told
}

fn wait_report(facts: &Observation, rest: Wait) -> Report<ChatbotDeploymentStatus> {
    match rest {
        Wait::Available => reached_target(facts, Reason::Available),
        Wait::RolledBack => reached_target(facts, Reason::RolledBack),
        Wait::Suspended => {
            let common = suspended_status(
                &facts.status().common,
                &facts.object.metadata,
                facts.spec_target_changed(),
                facts.now,
            );
            Report::new(ChatbotDeploymentStatus { common, ..facts.status().clone() }, Requeue::OnChange)
        }
        Wait::BackingOff => backing_off(facts),
        Wait::WaitingForOtherFinalizers => {
            let message = "Nothing is left to be done here; another finalizer holds the object.";
            Report::new(facts.status_with(&ReadyCondition::new(Reason::Deleting, message)), Requeue::OnChange)
        }
        Wait::Unavailable(blocked) => unavailable_report(facts, blocked),
        Wait::Progressing(call) => {
            Report::new(facts.status_with(&rollout_condition(facts, call)), facts.poll_interval())
        }
        Wait::DriftTolerated => {
            uncorrected_drift(facts, Reason::DriftTolerated, drift_tolerated_message(facts), "")
        }
        Wait::DriftCorrectionPaused => uncorrected_drift(
            facts,
            Reason::DriftCorrectionPaused,
            drift_paused_message(facts),
            &drift_paused_hint(),
        ),
        Wait::ProgressDeadlineExceeded => {
            Report::new(facts.status_with(&deadline_condition(facts)), facts.requeue_at_interval())
        }
        Wait::Unresolved(why) => {
            Report::new(facts.status_with(&unresolved_condition(facts, why)), facts.requeue_at_interval())
        }
        Wait::WaitingForPromotion => Report::new(
            facts.status_with(&promotion_condition(facts, Reason::WaitingForPromotion)),
            PROMOTION_POLL,
        ),
        Wait::PromotionBlocked => Report::new(
            facts.status_with(&promotion_condition(facts, Reason::PromotionBlocked)),
            facts.requeue_at_interval(),
        ),
        Wait::Deleting => {
            Report::new(facts.status_with(&deleting_condition()), Requeue::After(Duration::from_secs(2)))
        }
        Wait::InvalidSpec => {
            let message = "Set exactly one of spec.versionRef, spec.versionId, spec.versionNumber.";
            Report::new(
                facts.status_with(&ReadyCondition::new(Reason::InvalidSpec, message)),
                Requeue::OnChange,
            )
        }
        Wait::Conflict => {
            Report::new(facts.status_with(&conflict_condition(facts)), facts.requeue_at_interval())
        }
    }
}

fn backing_off(facts: &Observation) -> Report<ChatbotDeploymentStatus> {
    let pace = requeue_after_backoff(&facts.status().common, facts.now);
    // what failed may have been the deletion of an old version, while the environment was as wanted
    if is_ready(&facts.status().common, &facts.object.metadata) {
        return Report::new(facts.status_with(&backoff_condition(facts)), pace);
    }
    Report::new(facts.status().clone(), pace)
}

/// The environment runs what it should: history moves on if it did not before.
fn reached_target(facts: &Observation, reason: Reason) -> Report<ChatbotDeploymentStatus> {
    let Ok(wanted) = facts.desired() else {
        return facts.unchanged();
    };
    let old = facts.status();
    let message = reached_message(facts, reason, &wanted);
    let by = old.current_operation.as_ref().filter(|o| o.version_id == wanted.id).map(|o| o.operation);
    let mut status = facts.status_with(&ReadyCondition::new(reason, message));
    status.current_operation = None;
    // a version that could not be deleted yet is tried again in its own time
    let pace = if let (super::PendingDeletionState::Ready, Some(_)) =
        (facts.state().pending_deletion, &status.common.retry)
    {
        requeue_after_backoff(&status.common, facts.now)
    } else {
        status.common.retry = None;
        facts.requeue_at_interval()
    };
    if let Some(target) = &mut status.target {
        target.reached_time.get_or_insert(truncate_to_seconds(facts.now));
    }
    if let Some(failed) = &mut status.failed_versions {
        // late, but there
        failed.version_ids.retain(|id| *id != wanted.id);
    }
    status.failed_versions.take_if(|failed| failed.version_ids.is_empty());
    if old.active.as_ref().is_some_and(|active| active.version_id == wanted.id) {
        return Report::new(status, pace);
    }
    record_live(facts, &mut status, &wanted.id);
    let told = Report::new(status, pace);
    if by.is_none() {
        return told;
    }
    let (reason, note) = rollout_event(facts, &wanted.id);
    told.event(false, reason, note)
}

/// What our call has changed.
fn rollout_event(facts: &Observation, id: &str) -> (EventReason, String) {
    let (status, environment, name) = (facts.status(), facts.environment(), facts.version_label(id));
    let former = |word: &str| match &status.active {
        Some(active) => format!(" {word} {}", facts.version_label(&active.version_id)),
        None => String::new(),
    };
    if status.history.iter().any(|entry| entry.version_id == id) {
        (EventReason::RolledBack, format!("{environment} went back{} to {name}.", former("from")))
    } else {
        (EventReason::Deployed, format!("{environment} runs {name}{}.", former("instead of")))
    }
}

/// Somebody deployed by hand, and nothing is done about it.
fn uncorrected_drift(
    facts: &Observation,
    reason: Reason,
    what: String,
    next: &str,
) -> Report<ChatbotDeploymentStatus> {
    let words = ReadyCondition::new(reason, format!("{what}{next}"));
    let told = Report::new(facts.status_with(&words), facts.requeue_at_interval());
    let known = facts.status().active.as_ref().map(|active| &active.version_id);
    if known == facts.live().as_ref() {
        return told;
    }
    told.event(true, EventReason::DriftDetected, what).count(CounterIncrement::DriftWarned)
}

fn unavailable_report(
    facts: &Observation,
    blocked: crate::plan::UnavailableReason,
) -> Report<ChatbotDeploymentStatus> {
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
