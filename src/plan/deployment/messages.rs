//! Every sentence about a `ChatbotDeployment` that a user reads: in conditions, in events, and in log lines.
//!
//! What happened, why, and what to do next; plain, active, present English. No timestamps, durations or request ids: a
//! message that changes with each reconcile would be a write with each reconcile.

use std::fmt;

use super::{
    Desired, Drift, Freeze, Gate, Observation, PendingDeletionState, RolloutMethod, State, Step, Unresolved,
    pending_deletion::DeletionEnd,
    promotion::{InvalidSpec, is_heading_to},
    rollback_command::CommandEnd,
};
use crate::{
    crd::{Cause, ChatbotVersion, OperationResult, Reason, VersionSource, annotation},
    plan::{EventReason, ServiceView, messages::WAITING_FOR_OTHER_FINALIZERS, status::ReadyCondition},
};

// ---- conditions: rollout ----

pub(super) fn rollout(observation: &Observation, method: RolloutMethod) -> ReadyCondition {
    let (desired, environment) = (desired_label(observation), observation.environment());
    let (reason, message) = match method {
        RolloutMethod::Deploy => (
            Reason::Deploying,
            format!("Deploying {desired} to {environment} and waiting for it to become live."),
        ),
        RolloutMethod::Rollback => (
            Reason::RollingBack,
            format!("Rolling {environment} back to {desired} and waiting for it to become live."),
        ),
    };
    ReadyCondition::new(reason, superseded_call(observation).unwrap_or(message))
}

/// The environment runs what it should, and a call for what it should run before is not over.
fn superseded_call(observation: &Observation) -> Option<String> {
    let desired = observation.desired().ok()?;
    let operation = observation.status().current_operation.as_ref()?;
    observation.other_call_in_flight(&desired.version_id).then(|| {
        format!(
            "{} runs {}, but the earlier request for {} may still take effect. Waiting until it does, or until \
             spec.progressDeadline is over; no action needed.",
            observation.environment(),
            version_label(observation, &desired.version_id),
            version_label(observation, &operation.version_id)
        )
    })
}

/// The environment runs what it should.
pub(super) fn reached(observation: &Observation, reason: Reason, desired: &Desired) -> ReadyCondition {
    let environment = observation.environment();
    let live = version_label(observation, &desired.version_id);
    let message = match (reason, desired.cause) {
        (Reason::RolledBack, Cause::AutomaticRollback) => {
            let by_spec = observation.desired_by_spec();
            let failed =
                by_spec.map_or_else(|_| unknown_label(), |v| version_label(observation, &v.version_id));
            let next = after_failure();
            format!(
                "{environment} runs {live} again, because {failed} did not become live within spec.progressDeadline. \
                 {next}"
            )
        }
        (Reason::RolledBack, _) => format!(
            "{environment} runs {live} because of the annotation {}. Remove the annotation, or name another version in \
             the spec, to end the rollback.",
            annotation::ROLLBACK_TO
        ),
        _ if observation.has_ended_command_in_manifest() => {
            format!("{environment} runs {live}. {}", ended_command_in_manifest())
        }
        _ => format!("{environment} runs {live}."),
    };
    ReadyCondition::new(reason, message + &changes(observation, &desired.version_id))
}

pub(super) fn deadline_exceeded(observation: &Observation) -> ReadyCondition {
    let message = format!("{}. {}", rollout_failure(observation), after_failure());
    ReadyCondition::new(Reason::ProgressDeadlineExceeded, message)
}

// ---- conditions: drift ----

/// For `Ready`, and for `Drifted`.
pub(super) fn drift(observation: &Observation, desired: &Desired, drift: Drift) -> String {
    let summary = drift_summary(observation, desired, drift);
    match drift {
        Drift::Warn => {
            let desired = version_label(observation, &desired.version_id);
            format!("{summary}. Set spec.drift to Enforce to redeploy {desired}.")
        }
        Drift::LimitReached => format!(
            "{summary}. Find out who deploys; then name another version in the spec, set spec.drift to Warn, or correct \
             it once more: {}.",
            request_reconcile()
        ),
        Drift::None | Drift::LateEffect | Drift::Enforce => format!("{summary}."),
    }
}

/// Drift cannot be detected; `permitted` says whether the key may read the deployment status.
pub(super) fn not_observable(permitted: bool) -> &'static str {
    if permitted {
        "The deployment status and the version list have no version number in common, so drift cannot be detected. \
         Check in the service which version is live."
    } else {
        "The API key lacks the permission to read the deployment status, so drift cannot be detected. Grant it \
         chatbots.deployments.status."
    }
}

// ---- conditions: what the rollout waits for ----

/// The desired version does not exist, or several versions match.
pub(super) fn unresolved(observation: &Observation, why: Unresolved) -> ReadyCondition {
    let spec = &observation.object.spec;
    let reference = spec.version_ref.as_ref().map_or("", |reference| reference.name.as_str());
    let chatbot = &spec.chatbot_id;
    let waiting = || match spec.version_source() {
        Some(VersionSource::Follow(name)) => waiting_for_followed(observation, name),
        _ => waiting_for_version(observation, reference),
    };
    let (reason, message) = match why {
        Unresolved::WaitingForVersion => (Reason::WaitingForVersion, waiting()),
        Unresolved::VersionTimedOut => (Reason::ProgressDeadlineExceeded, waiting()),
        Unresolved::ReferenceMismatch if spec.follow.is_some() => (
            Reason::ReferenceMismatch,
            format!(
                "The ChatbotDeployment that spec.follow names belongs to another chatbot than {chatbot}. Correct \
                 spec.follow."
            ),
        ),
        Unresolved::ReferenceMismatch => (
            Reason::ReferenceMismatch,
            format!(
                "ChatbotVersion {reference} belongs to another chatbot than {chatbot}. Correct spec.versionRef."
            ),
        ),
        Unresolved::VersionNotFound => (Reason::VersionNotFound, version_not_found(observation)),
        Unresolved::AmbiguousVersion => {
            let number = spec.version_number.as_deref().unwrap_or_default();
            let message = format!(
                "More than one version of chatbot {chatbot} has the number {number}. Use spec.versionId or spec.versionRef \
                 instead."
            );
            (Reason::AmbiguousVersion, message)
        }
    };
    ReadyCondition::new(reason, message)
}

/// Why `spec.follow` leads to no version.
fn waiting_for_followed(observation: &Observation, name: &str) -> String {
    match (&observation.followed, &observation.status().followed) {
        (None, _) => format!(
            "ChatbotDeployment {name}, which spec.follow names, does not exist in this namespace. Create it or correct the name."
        ),
        (Some(_), Some(followed)) if followed.name == name => format!(
            "The service does not list {}, which ChatbotDeployment {name} was last Ready on. Let that one deploy another \
             version.",
            version_label(observation, &followed.version_id)
        ),
        (Some(_), _) => format!(
            "Waiting for ChatbotDeployment {name}, which spec.follow names, to be Ready on a version. See its conditions for \
             the cause."
        ),
    }
}

/// Why the version of `spec.versionRef` cannot be deployed yet, or any more.
fn waiting_for_version(observation: &Observation, reference: &str) -> String {
    let pending = observation.pending_deletions().into_iter().find(|entry| entry.name == reference);
    match (&observation.referenced_version, pending) {
        (Some(version), _) if version.metadata.deletion_timestamp.is_some() => format!(
            "ChatbotVersion {reference} is being deleted. Name another one in spec.versionRef, or apply it again once \
             it is gone."
        ),
        (Some(version), _) => match stalled_because(version) {
            Some(cause) => format!("ChatbotVersion {reference} is Stalled. {cause}"),
            None => format!(
                "Waiting for ChatbotVersion {reference} to become Ready. See its conditions for the cause."
            ),
        },
        (None, Some(entry)) => format!(
            "ChatbotVersion {reference} was deleted, and {} is kept only while it is needed. Name another one in \
             spec.versionRef, or apply the ChatbotVersion again to keep it.",
            version_label(observation, &entry.version_id)
        ),
        (None, None) => format!(
            "ChatbotVersion {reference} does not exist in this namespace. Apply it or correct spec.versionRef."
        ),
    }
}

/// Reason and message of an object that is Stalled.
fn stalled_because(version: &ChatbotVersion) -> Option<String> {
    let conditions = version.status.iter().flat_map(|status| &status.common.conditions);
    let stalled = conditions.into_iter().find(|c| c.type_ == "Stalled" && c.status == "True")?;
    Some(format!("{}: {}", stalled.reason, stalled.message))
}

fn version_not_found(observation: &Observation) -> String {
    let spec = &observation.object.spec;
    let chatbot = &spec.chatbot_id;
    if let Some(VersionSource::Number(number)) = spec.version_source() {
        return format!(
            "The service lists no version of chatbot {chatbot} with the number {number}. Correct spec.versionNumber."
        );
    }
    let id = spec.version_id.as_deref().unwrap_or_default();
    format!("The service lists no version of chatbot {chatbot} with the id {id}. Correct spec.versionId.")
}

/// This gate holds the version.
pub(super) fn gate(observation: &Observation, gate: Gate) -> ReadyCondition {
    let desired = desired_label(observation);
    let source = observation.object.spec.promotion_source().unwrap_or_default();
    let message = match gate {
        Gate::Promotion => return promotion(observation, gate.reason()),
        Gate::Verification => format!(
            "Waiting for {desired} to be verified{}. Once its tests have passed, set the annotation {}={} on \
             ChatbotDeployment {source}.",
            other_name(annotation::VERIFIED, observation.verified()),
            annotation::VERIFIED,
            desired_id(observation),
        ),
        Gate::Approval => format!(
            "Waiting for {desired} to be approved{}. To approve it, set the annotation {}={} on this object.",
            other_name(annotation::APPROVED, observation.approved()),
            annotation::APPROVED,
            desired_id(observation),
        ),
        Gate::Window => match observation.next_window() {
            Some(opens) => format!(
                "Waiting for a window of spec.windows to deploy {desired}. The next one opens at {opens}; no action \
                 needed."
            ),
            None => format!("No window of spec.windows opens to deploy {desired}. Correct its schedule."),
        },
        Gate::Freeze => frozen(observation, &desired),
    };
    ReadyCondition::new(gate.reason(), message)
}

fn frozen(observation: &Observation, desired: &str) -> String {
    let namespace = observation.object.metadata.namespace.as_deref().unwrap_or_default();
    match &observation.freeze {
        Freeze::Unknown(detail) => format!(
            "The operator cannot read whether namespace {namespace} is frozen ({detail}), so it does not deploy {desired} \
             yet; retrying automatically."
        ),
        Freeze::On(why) => format!(
            "Namespace {namespace} is frozen ({why}), so {desired} is not deployed. Remove the annotation {} from the \
             namespace to go on; a rollback does not wait for that.",
            annotation::FREEZE
        ),
        Freeze::Off => format!("Namespace {namespace} is frozen, so {desired} is not deployed."),
    }
}

/// That an annotation speaks of another version: the one that it was set for is not this one any more.
fn other_name(annotation: &str, value: Option<&str>) -> String {
    let value = value.map(|value| value.chars().take(64).collect::<String>());
    value.map_or_else(String::new, |value| format!("; the annotation {annotation} names {value}"))
}

fn desired_id(observation: &Observation) -> String {
    observation.desired().map(|desired| desired.version_id).unwrap_or_default()
}

/// The version is deployed only after the deployment that `spec.promoteAfter` names; for `WaitingForPromotion` and
/// `PromotionBlocked`.
pub(super) fn promotion(observation: &Observation, reason: Reason) -> ReadyCondition {
    let spec = &observation.object.spec;
    let after = spec.promote_after.as_ref();
    let name = spec.promotion_source().unwrap_or_default();
    let desired = desired_label(observation);
    let message = match &observation.promotion_source {
        _ if observation.promotion_ring => format!(
            "spec.promoteAfter names ChatbotDeployment {name}, and leads from there back to a deployment before it, so \
             each waits for another. Remove promoteAfter from one of them."
        ),
        Some(_) if reason == Reason::PromotionBlocked && observation.is_source_suspended() => format!(
            "ChatbotDeployment {name}, which spec.promoteAfter names, is suspended and does not run {desired}. Set its \
             spec.suspend to false, or remove spec.promoteAfter."
        ),
        None => format!(
            "ChatbotDeployment {name}, which spec.promoteAfter names, does not exist. Create it or correct the name."
        ),
        Some(source) => {
            let is_heading_there = observation.desired().is_ok_and(|desired| {
                source.status.as_ref().is_some_and(|status| is_heading_to(status, &desired.version_id))
            });
            let soak = after.and_then(|after| after.soak);
            let soak = soak.map(|soak| format!(" for {soak}")).unwrap_or_default();
            if is_heading_there {
                format!(
                    "Waiting for ChatbotDeployment {name} to be Ready on {desired}{soak}, as spec.promoteAfter asks; no \
                     action needed."
                )
            } else {
                format!(
                    "ChatbotDeployment {name}, which spec.promoteAfter names, does not deploy {desired}, or is Stalled. \
                     Check its conditions, and let it deploy this version first, in the same or an earlier sync wave."
                )
            }
        }
    };
    ReadyCondition::new(reason, message)
}

// ---- conditions: the object itself ----

pub(super) fn invalid_spec(observation: &Observation) -> ReadyCondition {
    let message = match observation.invalid_spec() {
        Some(InvalidSpec::Window(why)) => {
            format!("The operator cannot read a window of spec.windows: {why}. Correct spec.windows.")
        }
        Some(InvalidSpec::FollowsItself) => "spec.follow leads from this ChatbotDeployment over others back to one of them, \
                                             so none of them has a version of its own. Name a version in one of them."
            .to_owned(),
        Some(InvalidSpec::NotOneVersion) | None => "The spec names no version, or more than one. Set exactly one of \
                                                    spec.versionRef, spec.versionId, spec.versionNumber and spec.follow."
            .to_owned(),
    };
    ReadyCondition::new(Reason::InvalidSpec, message)
}

pub(super) fn conflict(observation: &Observation) -> ReadyCondition {
    let message = format!(
        "ChatbotDeployment {} manages {} of chatbot {} already. Delete one of the two. If that one is Stalled and has never \
         run a version, it is enough to delete this one and apply it again.",
        observation.older_claim.as_deref().unwrap_or_default(),
        observation.environment(),
        observation.object.spec.chatbot_id
    );
    ReadyCondition::new(Reason::Conflict, message)
}

/// Another installation manages the environment: two that replaced each other would never end.
pub(super) fn foreign_version(observation: &Observation) -> ReadyCondition {
    let (environment, owner) = (observation.environment(), observation.live_owner().unwrap_or_default());
    let live = observation.live().map_or_else(other_label, |id| version_label(observation, &id));
    let message = format!(
        "{environment} runs {live}, which belongs to the installation with --owner-id {owner} and is not replaced. Delete \
         this object, or end the other installation's ChatbotDeployment and deploy a version of this one in the service."
    );
    ReadyCondition::new(Reason::Conflict, message)
}

pub(super) fn deleting(observation: &Observation) -> ReadyCondition {
    let problem = if let ServiceView::Unavailable(unavailable) = &observation.service {
        format!("{} ", unavailable.message)
    } else {
        String::new()
    };
    let message = format!(
        "{problem}The versions in status.pendingDeletions are deleted first; what is live stays live. To leave these \
         versions in the service, annotate the object with {}=true.",
        annotation::FORCE_ORPHAN
    );
    ReadyCondition::new(Reason::Deleting, message)
}

pub(super) fn waiting_for_other_finalizers() -> ReadyCondition {
    ReadyCondition::new(Reason::Deleting, WAITING_FOR_OTHER_FINALIZERS)
}

// ---- events ----

/// The environment runs the version that the operator deployed or rolled back to.
pub(super) fn rollout_note(observation: &Observation, event: EventReason, id: &str) -> String {
    let (environment, live) = (observation.environment(), version_label(observation, id));
    let active = observation.status().active.as_ref();
    let former = active.map(|active| version_label(observation, &active.version_id));
    let note = match (event, former) {
        (EventReason::RolledBack, Some(former)) => {
            format!("Rolled {environment} back from {former} to {live}.")
        }
        (EventReason::RolledBack, None) => format!("Rolled {environment} back to {live}."),
        (_, Some(former)) => format!("{environment} runs {live} instead of {former}."),
        (_, None) => format!("{environment} runs {live}."),
    };
    note + &changes(observation, id)
}

/// The annotation `rollback-to` is removed.
pub(super) fn rollback_command_removed(observation: &Observation, why: CommandEnd) -> String {
    let command = annotation::ROLLBACK_TO;
    let value: String = observation.rollback_annotation().unwrap_or_default().chars().take(128).collect();
    match why {
        CommandEnd::SpecChanged => format!(
            "The rollback to {value} has ended, because the spec names another version; the annotation {command} is \
             removed."
        ),
        CommandEnd::NamedBySpec => format!(
            "The spec names version {value} already, so there is nothing to roll back; the annotation {command} is \
             removed."
        ),
        CommandEnd::VersionNotFound if value == "previous" => format!(
            "The annotation {command} says previous, but no earlier version is known, or the service no longer lists \
             it; the annotation is removed. Name a ChatbotVersion, a version id or a version number instead."
        ),
        CommandEnd::VersionNotFound => format!(
            "The annotation {command} says {value}, which is no version of this chatbot, or the number of several; the \
             annotation is removed. Use previous, the name of a ChatbotVersion, a version id or a version number."
        ),
    }
}

/// The annotation `rollback-to` is part of the manifest, and its rollback has ended. Also a part of the condition.
pub(super) fn ended_command_in_manifest() -> String {
    format!(
        "The annotation {} in the manifest has ended and is ignored. Remove it from the manifest.",
        annotation::ROLLBACK_TO
    )
}

pub(super) fn rollout_failed_note(observation: &Observation) -> String {
    rollout_failure(observation) + "."
}

pub(super) fn rollback_fallback_note(observation: &Observation) -> String {
    let (desired, environment) = (desired_label(observation), observation.environment());
    let status = observation.status();
    let operation = status.current_operation.as_ref();
    let refused = operation.is_some_and(|operation| operation.result == Some(OperationResult::Refused));
    let last = status.common.last_operations.first().filter(|_| refused);
    let cause = match last.and_then(|last| last.message.as_deref()) {
        Some(detail) => format!("is rejected ({detail})"),
        None => "shows no effect".to_owned(),
    };
    format!("The rollback of {environment} to {desired} {cause}; deploying that version instead.")
}

pub(super) fn drift_note(observation: &Observation, desired: &Desired, drift: Drift) -> String {
    drift_summary(observation, desired, drift) + "."
}

/// A deletion that was taken over is done.
pub(super) fn version_deleted_note(id: &str, name: &str) -> String {
    format!("Version {id} of the deleted ChatbotVersion {name} is no longer in the service.")
}

/// A deletion that was taken over leaves its version, or may.
pub(super) fn not_deleted_note(end: DeletionEnd, id: &str, name: &str) -> String {
    let cause = match end {
        DeletionEnd::Foreign => "it is not deleted because its marker names another installation",
        DeletionEnd::Deleted | DeletionEnd::Unconfirmed => {
            "the service does not list it and rejects its deletion"
        }
    };
    format!("Version {id} of the deleted ChatbotVersion {name} may still exist in the service: {cause}.")
}

/// A deletion that was taken over is given up.
pub(super) fn orphaned_note(state: &State, id: &str, name: &str) -> String {
    let cause = if state.deleting.is_some_and(|deletion| deletion.force_orphan) {
        "of the force-orphan annotation"
    } else if state.deleting.is_some_and(|deletion| deletion.uninstalling) {
        "the CRD of the ChatbotDeployment is being deleted"
    } else if state.suspended {
        "the ChatbotDeployment is suspended"
    } else if state.unavailable.is_some() {
        "there are no valid credentials within --deletion-timeout"
    } else if state.pending_deletion == PendingDeletionState::InUse {
        "it is live, or may become live"
    } else {
        "the ChatbotDeployment that was to delete it is deleted, too"
    };
    format!(
        "Version {id} of the deleted ChatbotVersion {name} may still exist in the service: it is not deleted because \
         {cause}."
    )
}

// ---- log lines ----

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AddFinalizer => "add finalizer",
            Self::RemoveFinalizer => "remove finalizer",
            Self::RemoveRollbackCommand => "remove rollback-to annotation",
            Self::RecordIntent(RolloutMethod::Deploy) => "record deploy intent",
            Self::RecordIntent(RolloutMethod::Rollback) => "record rollback intent",
            Self::StartRollout(RolloutMethod::Deploy) => "deploy",
            Self::StartRollout(RolloutMethod::Rollback) => "roll back",
            Self::FailRollout => "record rollout failure",
            Self::DeleteVersion => "delete version",
            Self::Wait(_) => "update status",
        })
    }
}

// ---- parts of sentences ----

/// The desired version did not become live, and what runs, without a full stop.
fn rollout_failure(observation: &Observation) -> String {
    let (desired, environment) = (desired_label(observation), observation.environment());
    let failure = format!(
        "The rollout of {desired} to {environment} failed: it did not become live within spec.progressDeadline"
    );
    match live_label(observation) {
        Some(live) => format!("{failure}, and {environment} runs {live}"),
        None => failure,
    }
}

/// What was deployed outside the operator and what the operator does about it, without a full stop.
fn drift_summary(observation: &Observation, desired: &Desired, drift: Drift) -> String {
    let environment = observation.environment();
    let desired = version_label(observation, &desired.version_id);
    let cause = if observation.nothing_is_live() {
        format!("{environment} runs nothing instead of {desired}")
    } else {
        let other = observation.live().map_or_else(other_label, |id| version_label(observation, &id));
        format!("{environment} runs {other}, which was deployed outside the operator, instead of {desired}")
    };
    match drift {
        Drift::None | Drift::LateEffect => cause,
        Drift::Enforce => format!("{cause}; redeploying {desired}"),
        Drift::Warn => format!("{cause}; spec.drift is Warn, so the operator changes nothing"),
        Drift::LimitReached => {
            let corrections = observation.status().drift_corrections.as_ref();
            format!(
                "{cause}; drift was corrected {} times within an hour, so automatic correction is paused for the \
                 rest of that hour",
                corrections.map_or(0, |corrections| corrections.count)
            )
        }
    }
}

/// What a version changed where it became live, as a sentence of its own; empty where nothing is known.
fn changes(observation: &Observation, id: &str) -> String {
    observation.changes(id).map_or_else(String::new, |changes| format!(" Changes: {changes}."))
}

fn after_failure() -> String {
    format!("Check the service for the cause, then change the spec, or retry: {}.", request_reconcile())
}

fn request_reconcile() -> String {
    format!("annotate the object with {}=<any new value>", annotation::RECONCILE_REQUESTED_AT)
}

/// A version as `version 1.2 (vrsKq8BxZaJd2)`, or without the number where that is not known.
fn version_label(observation: &Observation, id: &str) -> String {
    observation
        .version_number(id)
        .map_or_else(|| format!("version {id}"), |number| format!("version {number} ({id})"))
}

fn desired_label(observation: &Observation) -> String {
    let desired = observation.desired();
    desired.map_or_else(|_| unknown_label(), |desired| version_label(observation, &desired.version_id))
}

/// What runs, where it can be observed.
fn live_label(observation: &Observation) -> Option<String> {
    if !observation.live_is_observable() {
        return None;
    }
    Some(match observation.live() {
        Some(id) => version_label(observation, &id),
        None if observation.nothing_is_live() => "nothing".to_owned(),
        None => other_label(),
    })
}

fn unknown_label() -> String {
    "the desired version".to_owned()
}

fn other_label() -> String {
    "another version".to_owned()
}

#[cfg(test)]
mod tests;
