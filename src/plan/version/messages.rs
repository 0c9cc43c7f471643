//! Every sentence about a `ChatbotVersion` that a user reads: in conditions, in events, and in log lines.
//!
//! What happened, why, and what to do next; plain, active, present English. No timestamps, durations or request ids: a
//! message that changes with each reconcile would be a write with each reconcile.

use std::fmt;

use super::{FinalizerRemoval, Step};
use crate::{
    chatcaptain::Version,
    crd::{LiveEnvironment, Reason, annotation},
    plan::{messages, status::ReadyCondition},
};

// Conditions: Ready, and beside it Reconciling or Stalled.

/// The version exists.
pub(super) fn available(version: &Version, duplicates: &[String]) -> ReadyCondition {
    let number = version.number.as_deref().map(|number| format!("{number} ")).unwrap_or_default();
    let mut message = format!("Version {number}({}) exists in the service.", version.id.as_str());
    if !duplicates.is_empty() {
        message = format!("{message} {}", duplicates_found(duplicates));
    }
    ReadyCondition::new(Reason::Available, message)
}

pub(super) fn creating(name: &str) -> ReadyCondition {
    ReadyCondition::new(Reason::Creating, format!("Creating version {name:?}."))
}

pub(super) fn older_create_pending(name: &str) -> ReadyCondition {
    ReadyCondition::new(
        Reason::Creating,
        format!(
            "Waiting for an older ChatbotVersion that is creating a version with the same name {name:?}; no action \
             needed."
        ),
    )
}

pub(super) fn create_unconfirmed(name: &str) -> ReadyCondition {
    ReadyCondition::new(
        Reason::CreateUnconfirmed,
        format!(
            "The result of the create request for version {name:?} is unknown. Searching the service before retrying; no \
             action needed."
        ),
    )
}

/// The service accepted the create request; which version it has created is known once that is listed.
pub(super) fn created_not_listed_yet(name: &str) -> ReadyCondition {
    ReadyCondition::new(
        Reason::WaitingForVisibility,
        format!("Version {name:?} is created; waiting for the service to list it. No action needed."),
    )
}

pub(super) fn waiting_for_visibility(id: &str) -> ReadyCondition {
    ReadyCondition::new(
        Reason::WaitingForVisibility,
        format!("Version {id} is created; waiting for the service to list it. No action needed."),
    )
}

pub(super) fn waiting_for_deletion(name: &str) -> ReadyCondition {
    ReadyCondition::new(
        Reason::WaitingForDeletion,
        format!("Waiting for the deletion of the existing version {name:?} to finish; no action needed."),
    )
}

/// Another create would make a second version, and a deletion needs the id.
pub(super) fn version_unidentified(name: &str) -> String {
    format!(
        "The service lists version {name:?}, which is or may be this object's, without an id. Delete that version in the \
         service; the operator then continues automatically."
    )
}

/// `ran_in` is the environment that ran it, as far as a history shows that.
pub(super) fn version_lost(id: &str, name: &str, ran_in: Option<LiveEnvironment>) -> ReadyCondition {
    let version = ran_in.map_or_else(
        || format!("Version {id}"),
        |environment| format!("Version {name:?} ({id}), which ran in {},", environment.as_str()),
    );
    ReadyCondition::new(
        Reason::VersionLost,
        format!(
            "{version} is no longer in the service and is not created again automatically. Annotate this object with \
             {}=<new token> to create a new snapshot, or delete this object.",
            annotation::RECREATE
        ),
    )
}

/// The version is not listed, and neither is anything else of ours: that says more about the key than about the version.
pub(super) fn unknown_account(id: &str, secret: &str) -> ReadyCondition {
    ReadyCondition::new(
        Reason::VersionLost,
        format!(
            "{} If it does, annotate this object with {}=<new token> to create a new snapshot.",
            unknown_account_problem(id, secret),
            annotation::RECREATE
        ),
    )
}

/// The same as the cause of something else.
pub(super) fn unknown_account_problem(id: &str, secret: &str) -> String {
    format!(
        "The API key in Secret {secret} lists neither version {id} nor any other version of this installation. Check \
         that the key belongs to the chatbot's account."
    )
}

pub(super) fn adopt_id_not_found(id: &str) -> ReadyCondition {
    ReadyCondition::new(
        Reason::VersionNotFound,
        format!(
            "Version {id}, which annotation {} names, is not in the service. Correct or remove the annotation.",
            annotation::ADOPT_ID
        ),
    )
}

/// `owner` is the owner id of the installation that has the version; `None`: another object holds it.
pub(super) fn adopt_id_conflict(id: &str, owner: Option<&str>) -> ReadyCondition {
    let other = owner.map_or_else(|| "another object".to_owned(), installation);
    ReadyCondition::new(
        Reason::Conflict,
        format!(
            "Version {id}, which annotation {} names, belongs to {other}. Correct or remove the annotation.",
            annotation::ADOPT_ID
        ),
    )
}

/// The marker of the recorded version names the installation `owner`.
pub(super) fn foreign_marker(id: &str, owner: &str) -> ReadyCondition {
    ReadyCondition::new(
        Reason::Conflict,
        format!(
            "Version {id} belongs to {}. Correct the operator's --owner-id, or delete this object; the version stays in \
             the service.",
            installation(owner)
        ),
    )
}

fn installation(owner: &str) -> String {
    format!("another installation: its marker names the owner id {owner:?}")
}

/// `older` is the `namespace/name` of the object that keeps the version.
pub(super) fn conflict(id: &str, older: &str) -> ReadyCondition {
    ReadyCondition::new(
        Reason::Conflict,
        format!(
            "Version {id} belongs to ChatbotVersion {older}, which is older. Delete this object; the version stays in the \
             service."
        ),
    )
}

/// Versions with the right name existed before this object, and nothing shows which object they belong to.
pub(super) fn unmarked(name: &str, ids: &[&str]) -> ReadyCondition {
    ReadyCondition::new(
        Reason::AmbiguousVersion,
        format!(
            "A version named {name:?} already exists and may be this object's. Annotate this object with {}=<new token> to \
             create another one, or with {}=<id> to adopt one of: {}.",
            annotation::RECREATE,
            annotation::ADOPT_ID,
            ids.join(", ")
        ),
    )
}

/// Several versions can be this object's.
pub(super) fn ambiguous(ids: &[&str]) -> ReadyCondition {
    ReadyCondition::new(
        Reason::AmbiguousVersion,
        format!(
            "Several versions can be this object's. Annotate this object with {}=<id> to adopt one of: {}.",
            annotation::ADOPT_ID,
            ids.join(", ")
        ),
    )
}

/// The service accepted the create request, but lists no version that it can have created.
pub(super) fn created_but_not_listed() -> ReadyCondition {
    ReadyCondition::new(
        Reason::AmbiguousVersion,
        format!(
            "The service accepted the create request but lists no matching version. Annotate this object with {}=<id>, or \
             delete it with annotation {}=<any value> and apply it again.",
            annotation::ADOPT_ID,
            annotation::FORCE_ORPHAN
        ),
    )
}

// Conditions while the object is being deleted.

pub(super) fn deletion_accepted(id: &str) -> ReadyCondition {
    deleting(format!(
        "The service accepted the deletion of version {id} but still lists it; no action needed."
    ))
}

pub(super) fn waiting_for_disappearance(id: &str) -> ReadyCondition {
    deleting(format!("Waiting for version {id} to disappear from the service; no action needed."))
}

/// A version that was created a moment ago cannot be deleted before the service lists it.
pub(super) fn waiting_for_visibility_before_deletion(id: &str) -> ReadyCondition {
    deleting(format!("Waiting for the service to list version {id} before deleting it; no action needed."))
}

/// `deployments` are the `namespace/name` of those that use the version.
pub(super) fn waiting_for_handover(id: &str, deployments: &[String]) -> ReadyCondition {
    deleting(format!(
        "Version {id} is in use; waiting for ChatbotDeployment {} to take over the deletion. No action needed.",
        deployments.join(" or ")
    ))
}

/// The version stays, but `deployment` has recorded its deletion.
pub(super) fn waiting_for_call_off(id: &str, deployment: &str) -> ReadyCondition {
    deleting(format!(
        "Version {id} stays in the service; waiting for ChatbotDeployment {deployment} to drop its pending deletion. No \
         action needed."
    ))
}

/// A call of ours may make the version live in a moment.
pub(super) fn waiting_for_rollout(id: &str) -> ReadyCondition {
    deleting(format!(
        "Version {id} may become live in a moment; waiting for the service to show whether it does before deleting it. No \
         action needed."
    ))
}

pub(super) fn searching_before_deletion(name: &str) -> ReadyCondition {
    deleting(format!(
        "The result of the create request for version {name:?} is unknown. Searching the service before this object is \
         deleted; no action needed."
    ))
}

/// `problem` keeps the version from being deleted, at most until `--deletion-timeout`.
pub(super) fn deletion_blocked_until_timeout(problem: &str) -> ReadyCondition {
    deleting(format!(
        "{problem} After --deletion-timeout the operator removes its finalizer from this object, and the version stays in the \
         service."
    ))
}

/// The service rejects the delete request; `problem` says why.
pub(super) fn deletion_refused(problem: &str, id: &str) -> ReadyCondition {
    deleting(format!(
        "{problem} To delete this object and leave version {id} in the service, annotate it with {}=<any value>.",
        annotation::FORCE_ORPHAN
    ))
}

/// The user has to say which of several versions is deleted with the object.
pub(super) fn ambiguous_before_deletion(ids: &[&str]) -> ReadyCondition {
    deleting(format!(
        "Several versions can be this object's: {}. Annotate this object with {}=<id> to delete that version with it, or \
         with {}=<any value> to leave them all in the service.",
        ids.join(", "),
        annotation::ADOPT_ID,
        annotation::FORCE_ORPHAN
    ))
}

pub(super) fn waiting_for_other_finalizers() -> ReadyCondition {
    deleting(messages::WAITING_FOR_OTHER_FINALIZERS.to_owned())
}

fn deleting(message: String) -> ReadyCondition {
    ReadyCondition::new(Reason::Deleting, message)
}

// Events: one sentence with ids and names.

pub(super) fn created(id: &str) -> String {
    format!("Created version {id}.")
}

pub(super) fn version_deleted(id: &str) -> String {
    format!("Version {id} of this ChatbotVersion is no longer in the service.")
}

pub(super) fn adopted(id: &str) -> String {
    format!("Adopted existing version {id}; nothing was created.")
}

pub(super) fn create_recovered(id: &str) -> String {
    format!("Found version {id}, which a create request with unknown result had created.")
}

pub(super) fn lost(id: &str) -> String {
    format!("Version {id} is no longer in the service; it is not created again automatically.")
}

/// Also the second sentence of the condition.
pub(super) fn duplicates_found(ids: &[String]) -> String {
    format!(
        "Duplicate versions with this object's marker exist: {}. No object uses them; delete them in the service.",
        ids.join(", ")
    )
}

/// `deployment` is the `namespace/name` of the one that has recorded the deletion.
pub(super) fn deletion_delegated(id: &str, deployment: &str) -> String {
    format!(
        "Version {id} is in use by ChatbotDeployment {deployment}, which deletes it once it is no longer in use."
    )
}

/// What may be left in the service: by its id, or by its name while the id is not known.
pub(super) fn version_label(id: Option<&str>, name: &str) -> String {
    id.map_or_else(|| format!("a version named {name:?}"), |id| format!("version {id}"))
}

/// The finalizer was removed by somebody else while a request was in flight.
pub(super) fn object_vanished(version: &str) -> String {
    format!(
        "This ChatbotVersion was removed during a request; {version} may exist in the service. Apply the manifest again to \
         adopt it, or delete it in the service."
    )
}

pub(super) fn force_orphaned(version: &str) -> String {
    format!(
        "Finalizer removed because of the force-orphan annotation; {version} may still exist in the service."
    )
}

pub(super) fn live_unmanaged(version: &str) -> String {
    format!(
        "Finalizer removed without deleting {version}: it is or may be live, and no ChatbotDeployment takes over its \
         deletion."
    )
}

pub(super) fn foreign_not_deleted(version: &str, owner: &str) -> String {
    format!("Finalizer removed without deleting {version}: it belongs to {}.", installation(owner))
}

pub(super) fn credentials_timeout(version: &str) -> String {
    format!("No valid credentials within --deletion-timeout; {version} was not deleted.")
}

pub(super) fn deletion_unconfirmed(version: &str) -> String {
    format!(
        "The service does not list {version} and rejects its deletion until --deletion-timeout; it may still exist."
    )
}

/// The namespace's annotation has a value that is no policy.
pub(super) fn invalid_namespace_policy(value: &str, version: &str) -> String {
    let value: String = value.chars().take(64).collect();
    format!(
        "The namespace's annotation {} is {value:?}, neither Delete nor Retain; {version} was not deleted.",
        annotation::DELETION_POLICY
    )
}

// Log lines.

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddFinalizer => f.write_str("add finalizer"),
            Self::RecordIntent => f.write_str("record create intent"),
            Self::StartSearch => f.write_str("search for the result of the create request"),
            Self::Create => f.write_str("create version"),
            Self::Adopt => f.write_str("adopt version"),
            Self::Reclaim => f.write_str("record the version that ran under this name"),
            Self::Delete => f.write_str("delete version"),
            Self::RemoveFinalizer(why) => write!(f, "remove finalizer: {why}"),
            Self::Wait(_) => f.write_str("update status"),
        }
    }
}

impl fmt::Display for FinalizerRemoval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deleted => "version deleted",
            Self::NeverCreated => "no version created",
            Self::Retained => "version retained",
            Self::HandedOver => "deletion handed over to a ChatbotDeployment",
            Self::OwnedByOther => "version belongs to an older object",
            Self::ForeignMarker => "version belongs to another installation",
            Self::ForceOrphaned => "force-orphan annotation",
            Self::LiveUnmanaged => "version may be live and no ChatbotDeployment takes over its deletion",
            Self::Unconfirmed => "service rejects the deletion of a version that it does not list",
            Self::CredentialsTimeout => "no valid credentials within --deletion-timeout",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{OURS, version};
    use super::*;

    const ID: &str = "vrsKq8BxZaJd2";
    const OWNER: &str = "customer-care-production";
    const SECRET: &str = "chatcaptain-production-credentials";
    const NAME: &str = "Release 2026-09-21 for the fourth quarter, as approved by customer care";
    const OBJECT: &str = "customer-care-production/support-2026-09-21-hotfix-3";

    /// Every condition that stands until the user acts, with the step that ends it.
    fn actions() -> Vec<(ReadyCondition, &'static str)> {
        let ids = [ID; 5];
        vec![
            (version_lost(ID, NAME, None), annotation::RECREATE),
            (version_lost(ID, NAME, Some(LiveEnvironment::Prod)), annotation::RECREATE),
            (unknown_account(ID, SECRET), "Check that the key"),
            (adopt_id_not_found(ID), "Correct or remove the annotation"),
            (adopt_id_conflict(ID, None), "Correct or remove the annotation"),
            (adopt_id_conflict(ID, Some(OWNER)), "Correct or remove the annotation"),
            (foreign_marker(ID, OWNER), "Correct the operator's --owner-id, or delete this object"),
            (conflict(ID, OBJECT), "Delete this object"),
            (unmarked(NAME, &ids), annotation::ADOPT_ID),
            (ambiguous(&ids), annotation::ADOPT_ID),
            (created_but_not_listed(), annotation::FORCE_ORPHAN),
            (ambiguous_before_deletion(&ids), annotation::FORCE_ORPHAN),
            (deletion_refused(&"x".repeat(250), ID), annotation::FORCE_ORPHAN),
        ]
    }

    fn waits() -> Vec<ReadyCondition> {
        vec![
            creating(NAME),
            older_create_pending(NAME),
            create_unconfirmed(NAME),
            created_not_listed_yet(NAME),
            waiting_for_visibility(ID),
            waiting_for_deletion(NAME),
            deletion_accepted(ID),
            waiting_for_disappearance(ID),
            waiting_for_visibility_before_deletion(ID),
            waiting_for_handover(ID, &[OBJECT.to_owned(), OBJECT.to_owned()]),
            waiting_for_call_off(ID, OBJECT),
            waiting_for_rollout(ID),
            searching_before_deletion(NAME),
            deletion_blocked_until_timeout(&unknown_account_problem(ID, SECRET)),
            waiting_for_other_finalizers(),
        ]
    }

    #[test]
    fn a_message_that_needs_the_user_names_the_next_step() {
        for (condition, step) in actions() {
            assert!(condition.message.contains(step), "{step} is not in: {}", condition.message);
        }
    }

    #[test]
    fn every_message_is_whole_sentences_and_fits_a_condition() {
        let duplicates = vec![ID.to_owned(); 5];
        let available = available(&version(ID, OURS), &duplicates);
        let actions = actions().into_iter().map(|(condition, _)| condition);
        for ReadyCondition { message, .. } in actions.chain(waits()).chain([available]) {
            assert!(message.chars().count() <= 512, "{} characters: {message}", message.chars().count());
            assert!(message.ends_with('.') && !message.contains("  "), "{message}");
        }
    }

    #[test]
    fn log_lines_use_the_words_of_the_documentation() {
        let line = |step: Step| step.to_string();
        assert_eq!(line(Step::RecordIntent), "record create intent");
        assert_eq!(
            line(Step::RemoveFinalizer(FinalizerRemoval::Deleted)),
            "remove finalizer: version deleted"
        );
        assert_eq!(line(Step::Wait(super::super::Wait::Available)), "update status");
    }
}
