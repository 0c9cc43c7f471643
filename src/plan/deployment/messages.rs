//! Every sentence about a `ChatbotDeployment` that a user reads: in conditions, in events, and in log lines.
//!
//! What happened, why, and what to do next; plain, active, present English. No timestamps, durations or request ids: a
//! message that changes with each reconcile would be a write with each reconcile.

use std::fmt;

use super::{
    Desired, Drift, Observation, PendingDeletionState, RolloutMethod, State, Step, Unresolved,
    promotion::is_heading_to,
};
use crate::{
    crd::{Cause, OperationResult, Reason, VersionSource, annotation},
    plan::{EventReason, annotation_value, status::ReadyCondition},
};

/// Ids that one message names.
const MAX_IDS: usize = 5;

// ---- conditions: rollout ----

pub(super) fn rollout(observation: &Observation, method: RolloutMethod) -> ReadyCondition {
    let (desired, environment) = (desired_label(observation), observation.environment());
    match method {
        RolloutMethod::Deploy => ReadyCondition::new(
            Reason::Deploying,
            format!("Deploying {desired} to {environment} and waiting for it to become live."),
        ),
        RolloutMethod::Rollback => ReadyCondition::new(
            Reason::RollingBack,
            format!("Rolling {environment} back to {desired} and waiting for it to become live."),
        ),
    }
}

/// The last call failed; it may have been the delete of an old version.
pub(super) fn backing_off(observation: &Observation) -> ReadyCondition {
    let (desired, environment) = (desired_label(observation), observation.environment());
    let message = format!(
        "{environment} does not run {desired}: the last request to the service failed. Retrying automatically after a \
         pause; no action needed."
    );
    ReadyCondition::new(Reason::Retrying, message)
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
            "{environment} runs {live} because of the annotation {}. Remove the annotation or change the spec to end \
             the rollback.",
            annotation::ROLLBACK_TO
        ),
        _ => format!("{environment} runs {live}."),
    };
    ReadyCondition::new(reason, message)
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
    let (reason, message) = match why {
        Unresolved::WaitingForVersion => {
            (Reason::WaitingForVersion, waiting_for_version(observation, reference))
        }
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
        Unresolved::RollbackTargetNotFound => {
            (Reason::VersionNotFound, rollback_target_not_found(observation))
        }
    };
    ReadyCondition::new(reason, message)
}

/// Why the version of `spec.versionRef` cannot be deployed yet, or any more.
fn waiting_for_version(observation: &Observation, reference: &str) -> String {
    let pending = observation.pending_deletions().into_iter().find(|entry| entry.name == reference);
    match (&observation.referenced_version, pending) {
        (Some(version), _) if version.metadata.deletion_timestamp.is_some() => format!(
            "ChatbotVersion {reference} is being deleted. Name another one in spec.versionRef, or apply it again once \
             it is gone."
        ),
        (Some(_), _) => {
            format!(
                "Waiting for ChatbotVersion {reference} to become Ready. See its conditions for the cause."
            )
        }
        (None, Some(entry)) => format!(
            "ChatbotVersion {reference} was deleted, and {} is deleted once no environment runs it. Name another one in \
             spec.versionRef, or apply the ChatbotVersion again to keep it.",
            version_label(observation, &entry.version_id)
        ),
        (None, None) => format!(
            "ChatbotVersion {reference} does not exist in this namespace. Apply it or correct spec.versionRef."
        ),
    }
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

/// Why the annotation `rollback-to` leads to no version.
fn rollback_target_not_found(observation: &Observation) -> String {
    let command = annotation::ROLLBACK_TO;
    let value = annotation_value(&observation.object.metadata, command).unwrap_or_default();
    if value == "previous" {
        return format!(
            "The annotation {command} says previous, but no earlier version is known, or the service no longer lists \
             it. Name another version in the annotation, or remove it."
        );
    }
    let numbered = observation.inventory().into_iter().flat_map(|inventory| inventory.by_number(value));
    let mut ids: Vec<&str> = numbered.map(|version| version.id.as_str()).collect();
    ids.sort_unstable();
    ids.truncate(MAX_IDS);
    let hint = match ids.as_slice() {
        [] => String::new(),
        ids => format!(" {value} is a version number; its id is {}.", ids.join(" or ")),
    };
    format!(
        "The annotation {command} names no known version. Use previous, the name of a ChatbotVersion of this chatbot, \
         or a version id.{hint}"
    )
}

/// The version is deployed only after the deployment that `spec.promoteAfter` names; for `WaitingForPromotion` and
/// `PromotionBlocked`.
pub(super) fn promotion(observation: &Observation, reason: Reason) -> ReadyCondition {
    let after = observation.object.spec.promote_after.as_ref();
    let name = after.map_or("", |after| after.deployment_ref.name.as_str());
    let desired = desired_label(observation);
    let message = match &observation.promotion_source {
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

pub(super) fn invalid_spec() -> ReadyCondition {
    let message = "The spec names no version, or more than one. Set exactly one of spec.versionRef, spec.versionId and \
                   spec.versionNumber.";
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

pub(super) fn deleting() -> ReadyCondition {
    let message = format!(
        "Deleting the versions in status.pendingDeletions first; what is live stays live. No action needed; to keep \
         these versions, annotate the object with {}=true.",
        annotation::FORCE_ORPHAN
    );
    ReadyCondition::new(Reason::Deleting, message)
}

pub(super) fn waiting_for_other_finalizers() -> ReadyCondition {
    ReadyCondition::new(Reason::Deleting, "Cleanup complete; waiting for other finalizers.")
}

// ---- events ----

/// The environment runs the version that the operator deployed or rolled back to.
pub(super) fn rollout_note(observation: &Observation, event: EventReason, id: &str) -> String {
    let (environment, live) = (observation.environment(), version_label(observation, id));
    let active = observation.status().active.as_ref();
    let former = active.map(|active| version_label(observation, &active.version_id));
    match (event, former) {
        (EventReason::RolledBack, Some(former)) => {
            format!("Rolled {environment} back from {former} to {live}.")
        }
        (EventReason::RolledBack, None) => format!("Rolled {environment} back to {live}."),
        (_, Some(former)) => format!("{environment} runs {live} instead of {former}."),
        (_, None) => format!("{environment} runs {live}."),
    }
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

/// A deletion that was taken over is given up.
pub(super) fn orphaned_note(state: &State, id: &str, name: &str) -> String {
    let cause = if state.deleting.is_some_and(|deletion| deletion.force_orphan) {
        "of the force-orphan annotation"
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

fn after_failure() -> String {
    format!("Check the service for the cause, then change the spec, or retry: {}.", request_reconcile())
}

fn request_reconcile() -> String {
    format!("annotate the object with {}=<any new value>", annotation::RECONCILE_REQUESTED_AT)
}

/// A version as `version 1.2 (vrsKq8BxZaJd2)`, or without the number where that is not known.
fn version_label(observation: &Observation, id: &str) -> String {
    let status = observation.status();
    let listed = || observation.listed(id).and_then(|version| version.number.as_deref());
    let target = || status.target.as_ref().filter(|target| target.version_id == id);
    let ran = || status.history.iter().find(|entry| entry.version_id == id);
    let number = listed()
        .or_else(|| target().and_then(|target| target.version_number.as_deref()))
        .or_else(|| ran().and_then(|entry| entry.version_number.as_deref()));
    number.map_or_else(|| format!("version {id}"), |number| format!("version {number} ({id})"))
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
mod tests {
    use serde_json::json;

    use super::{
        super::{VersionBeingDeleted, fixtures::*},
        *,
    };
    use crate::plan::deployment::{Deletion, Wait};

    fn ready(observation: &Observation) -> String {
        let report = observation.report();
        report
            .status
            .common
            .conditions
            .into_iter()
            .find(|condition| condition.type_ == "Ready")
            .unwrap()
            .message
    }

    /// A message that starts with what is so and ends with this.
    fn assert_ends(message: &str, parts: &[&str], end: &str) {
        assert!(parts.iter().all(|part| message.contains(part)), "{parts:?} in: {message}");
        assert!(message.ends_with(end), "{end:?} at the end of: {message}");
        assert!(message.len() <= 512, "{} characters: {message}", message.len());
    }

    #[test]
    fn failures_name_the_retry() {
        let failed = json!({"failedVersions": {"generation": 1, "versionIds": ["v1"]}});
        let late = Observation::test().with_status(&failed).running(Some("v2"));
        let retry = "annotate the object with chatcaptain.dev/reconcile-requested-at=<any new value>.";
        assert_ends(&ready(&late), &["version 1.1 (v1)", "prod runs version 1.2 (v2)"], retry);
        assert_ends(&ready(&late.clone().running(None)), &["prod runs nothing"], retry);
        let history = json!({"history": [{"versionId": "v2", "startTime": ago(1)}]});
        let previous = json!({"rollback": {"onFailure": "Previous"}});
        let back = late.with_status(&history).with_spec(&previous);
        assert_ends(&ready(&back), &["prod runs version 1.2 (v2) again", "because version 1.1 (v1)"], retry);
    }

    #[test]
    fn commands_name_how_they_end() {
        let commanded =
            |value| Observation::test().annotated(annotation::ROLLBACK_TO, value).running(Some("v2"));
        let end = "Remove the annotation or change the spec to end the rollback.";
        assert_ends(&ready(&commanded("v2")), &["version 1.2 (v2)", "chatcaptain.dev/rollback-to"], end);
        assert_ends(
            &ready(&commanded("1.3")),
            &["or a version id."],
            "1.3 is a version number; its id is v3.",
        );
        assert_ends(&ready(&commanded("previous")), &["no earlier version"], "or remove it.");
    }

    #[test]
    fn drift_names_both_versions_and_who_can_end_it() {
        let drifted = |status| {
            Observation::test().with_status(&reached_target("v1")).with_status(&status).running(Some("v2"))
        };
        let both = ["prod runs version 1.2 (v2), which was deployed outside", "instead of version 1.1 (v1)"];
        let warned = drifted(json!({})).with_spec(&json!({"drift": "Warn"}));
        assert_ends(&ready(&warned), &both, "Set spec.drift to Enforce to redeploy version 1.1 (v1).");
        let corrections = json!({"driftCorrections": {"count": 5, "windowStartTime": ago(100)}});
        let paused = drifted(corrections);
        assert_ends(&ready(&paused), &both, "reconcile-requested-at=<any new value>.");
        assert_ends(&ready(&paused), &["5 times within an hour", "paused"], ".");
        assert!(ready(&paused.running(None)).starts_with("prod runs nothing instead of version 1.1 (v1)"));
    }

    #[test]
    fn unresolved_names_the_field_to_correct() {
        let by_id = Observation::test().with_spec(&json!({"versionRef": null, "versionId": "v9"}));
        assert_ends(&ready(&by_id), &["chatbot bot", "v9"], "Correct spec.versionId.");
        let by_number = Observation::test().with_spec(&json!({"versionRef": null, "versionNumber": "9"}));
        assert_ends(&ready(&by_number), &["chatbot bot", "9"], "Correct spec.versionNumber.");
        let missing = Observation { referenced_version: None, ..Observation::test() };
        assert_ends(&ready(&missing), &["ChatbotVersion a does not exist"], "correct spec.versionRef.");
        let other = Observation {
            referenced_version: Some(referenced(&json!({"spec": {"chatbotId": "other"}}))),
            ..Observation::test()
        };
        assert_ends(&ready(&other), &["ChatbotVersion a", "bot"], "Correct spec.versionRef.");
        let two = Observation::test().with_spec(&json!({"versionId": "v1"}));
        assert_ends(&ready(&two), &["Set exactly one"], "spec.versionNumber.");
    }

    #[test]
    fn deleted_version_names_how_to_keep_it() {
        let version = VersionBeingDeleted { version_id: "v1".to_owned(), name: "a".to_owned() };
        let entry = json!({"versionId": "v1", "name": "a", "requestTime": ago(1)});
        let status = json!({"pendingDeletions": [entry]});
        let gone = Observation { referenced_version: None, ..Observation::test().with_status(&status) };
        let parts = ["ChatbotVersion a was deleted", "version 1.1 (v1)"];
        assert_ends(&ready(&gone), &parts, "apply the ChatbotVersion again to keep it.");
        let deleted = referenced(&json!({"metadata": {"name": "a", "deletionTimestamp": ago(1)}}));
        let being_deleted =
            Observation { referenced_version: Some(deleted), versions_being_deleted: vec![version], ..gone };
        let being_deleted =
            being_deleted.with_metadata(&json!({"finalizers": ["chatcaptain.dev/finalizer"]}));
        assert_ends(&ready(&being_deleted), &["is being deleted"], "or apply it again once it is gone.");
    }

    #[test]
    fn waiting_for_promotion_names_the_other_deployment() {
        let after = json!({"promoteAfter": {"deploymentRef": {"name": "support-test"}, "soak": "30m"}});
        let waiting = Observation::test().with_spec(&after);
        assert_ends(&ready(&waiting), &["support-test", "does not exist"], "correct the name.");
        let source = |status| Some(Observation::test().with_status(&status).object);
        let heading = Observation { promotion_source: source(reached_target("v1")), ..waiting.clone() };
        assert_ends(&ready(&heading), &["support-test", "version 1.1 (v1) for 30m"], "no action needed.");
        let elsewhere = Observation { promotion_source: source(reached_target("v2")), ..waiting };
        assert_ends(&ready(&elsewhere), &["support-test", "version 1.1 (v1)"], "earlier sync wave.");
    }

    #[test]
    fn conflict_and_deletion_name_what_to_do() {
        let older = Observation { older_claim: Some("ns/older".to_owned()), ..Observation::test() };
        assert_ends(&ready(&older), &["ns/older", "prod of chatbot bot"], "apply it again.");
        assert_ends(&deleting().message, &["status.pendingDeletions"], "chatcaptain.dev/force-orphan=true.");
        let deletion = Deletion { force_orphan: false, timed_out: false };
        let new =
            State { deleting: Some(deletion), pending_deletion: PendingDeletionState::New, ..State::test() };
        assert_ends(&orphaned_note(&new, "v1", "a"), &["Version v1", "ChatbotVersion a"], "is deleted, too.");
    }

    #[test]
    fn log_lines_use_the_words_of_the_documentation() {
        let intent = Step::RecordIntent(RolloutMethod::Rollback);
        assert_eq!(intent.to_string(), "record rollback intent");
        assert_eq!(Step::StartRollout(RolloutMethod::Deploy).to_string(), "deploy");
        assert_eq!(Step::Wait(Wait::Available).to_string(), "update status");
    }

    #[test]
    fn longest_message_fits_a_condition() {
        let (id, name) = ("vrsKq8BxZaJd2", "customer-support-assistant-2026-q4-release-candidate-12");
        let listed = || crate::chatcaptain::Version { number: Some("12.34".into()), ..version(id) };
        let corrections = json!({"driftCorrections": {"count": 5, "windowStartTime": ago(100)}});
        let paused = Observation {
            referenced_version: Some(referenced(&json!({"status": {"versionId": id}}))),
            ..Observation::test()
        };
        let paused = paused.with_status(&reached_target(id)).with_status(&corrections);
        let paused = paused.listing([listed(), version("v2")]).running(Some("v2"));
        let message = ready(&paused);
        assert!(message.contains(id) && message.len() < 512, "{} characters: {message}", message.len());
        let after = json!({"promoteAfter": {"deploymentRef": {"name": name}, "soak": "1h30m"}});
        let source = Some(Observation::test().object);
        let waiting = Observation { promotion_source: source, ..Observation::test().with_spec(&after) };
        assert!(ready(&waiting).contains(name) && ready(&waiting).len() < 512);
    }
}
