//! What a `ChatbotDeployment` says of itself: what is so, and the next step.

use super::{Desired, Observation, RolloutMethod, Unresolved, observation::is_heading_to};
use crate::{
    crd::{Cause, Reason, annotation},
    plan::{ServiceView, annotation_value, status::ReadyCondition},
};

/// Ids that one message names.
const IDS: usize = 5;

impl Observation {
    pub(super) fn drift_message(&self, wanted: &Desired) -> String {
        let (environment, wanted) = (self.environment(), self.version_label(&wanted.id));
        if self.nothing_is_live() {
            return format!("Nothing runs in {environment} any more, where {wanted} should run.");
        }
        let other = self.live().map_or_else(|| "another version".to_owned(), |id| self.version_label(&id));
        format!("Somebody deployed {other} to {environment} by hand, where {wanted} should run.")
    }

    /// Nothing is live, as the service tells.
    fn nothing_is_live(&self) -> bool {
        let ServiceView::Available { deployments: Some(deployments), .. } = &self.service else {
            return false;
        };
        deployments.get(self.environment()).is_none()
    }

    /// What runs, for people, where it can be seen.
    fn live_name(&self) -> Option<String> {
        let other = if self.nothing_is_live() { "nothing" } else { "another version" };
        let name = || self.live().map_or_else(|| other.to_owned(), |id| self.version_label(&id));
        self.live_is_observable().then(name)
    }

    /// A version for people: number and id.
    pub(super) fn version_label(&self, id: &str) -> String {
        let status = self.status();
        let listed = self.listed(id).and_then(|version| version.number.as_deref().map(str::to_owned));
        let number = listed
            .or_else(|| {
                let target = status.target.as_ref().filter(|target| target.version_id == id);
                target.and_then(|target| target.version_number.clone())
            })
            .or_else(|| {
                let ran = status.history.iter().find(|entry| entry.version_id == id);
                ran.and_then(|entry| entry.version_number.clone())
            });
        number.map_or_else(|| format!("version {id}"), |number| format!("version {number} ({id})"))
    }

    pub(super) fn desired_label(&self) -> String {
        self.desired()
            .map_or_else(|_| "the wanted version".to_owned(), |wanted| self.version_label(&wanted.id))
    }
}

pub(super) fn rollout_condition(facts: &Observation, call: RolloutMethod) -> ReadyCondition {
    let (target, environment) = (facts.desired_label(), facts.environment());
    match call {
        RolloutMethod::Deploy => {
            ReadyCondition::new(Reason::Deploying, format!("Deploying {target} to {environment}."))
        }
        RolloutMethod::Rollback => {
            ReadyCondition::new(Reason::RollingBack, format!("Rolling {environment} back to {target}."))
        }
    }
}

/// A change is to be made when the backoff is over.
pub(super) fn backoff_condition(facts: &Observation) -> ReadyCondition {
    let message = format!(
        "{} is to run in {}; the next call comes after the pause that followed the last failure.",
        facts.desired_label(),
        facts.environment()
    );
    ReadyCondition::new(Reason::Retrying, message)
}

/// On its way out, but not before it has kept its word.
pub(super) fn deleting_condition() -> ReadyCondition {
    let message = "Versions that were to be retired are deleted first; what is live stays live.";
    ReadyCondition::new(Reason::Deleting, message)
}

/// The environment runs what it should.
pub(super) fn reached_message(facts: &Observation, reason: Reason, wanted: &Desired) -> String {
    let (environment, name) = (facts.environment(), facts.version_label(&wanted.id));
    match (reason, wanted.cause) {
        (Reason::RolledBack, Cause::AutomaticRollback) => {
            let failed =
                facts.desired_by_spec().map_or_else(|_| String::new(), |git| facts.version_label(&git.id));
            format!("{environment} runs {name}: {}; {}", deadline_message(&failed), after_failure_hint())
        }
        (Reason::RolledBack, _) => format!(
            "{environment} runs {name} by the annotation {}; it holds until the spec changes or the annotation \
             is removed.",
            annotation::ROLLBACK_TO
        ),
        _ => format!("{environment} runs {name}."),
    }
}

pub(super) fn deadline_condition(facts: &Observation) -> ReadyCondition {
    ReadyCondition::new(
        Reason::ProgressDeadlineExceeded,
        format!("{}; {}", failure_message(facts), after_failure_hint()),
    )
}

/// The wanted version did not become live, and what runs.
pub(super) fn failure_message(facts: &Observation) -> String {
    let (environment, late) = (facts.environment(), deadline_message(&facts.desired_label()));
    match facts.live_name() {
        Some(running) => format!("{environment} runs {running}: {late}"),
        None => format!("In {environment} {late}"),
    }
}

fn deadline_message(name: &str) -> String {
    format!("{name} did not become live by spec.progressDeadline")
}

fn after_failure_hint() -> String {
    format!(
        "look in the service why, then move git on, or annotate the object with {}=<any token> to try again.",
        annotation::RECONCILE_REQUESTED_AT
    )
}

/// Somebody deployed by hand, and git lets them.
pub(super) fn drift_tolerated_message(facts: &Observation) -> String {
    let message = facts.desired().map(|wanted| facts.drift_message(&wanted)).unwrap_or_default();
    format!("{message} It is left as it is because spec.drift is Warn.")
}

/// Somebody deployed by hand, and keeps doing so.
pub(super) fn drift_paused_message(facts: &Observation) -> String {
    let message = facts.desired().map(|wanted| facts.drift_message(&wanted)).unwrap_or_default();
    let times = facts.status().drift_corrections.as_ref().map_or(0, |reversals| reversals.count);
    format!(
        "{message} Changes by hand were reversed {times} times within an hour, so this one is left alone for the \
         rest of it."
    )
}

/// What to do about that.
pub(super) fn drift_paused_hint() -> String {
    format!(
        " Agree who decides, then move git on, set spec.drift to Warn, or annotate the object with {}=<any token> \
         to have it reversed once more.",
        annotation::RECONCILE_REQUESTED_AT
    )
}

pub(super) fn conflict_condition(facts: &Observation) -> ReadyCondition {
    let other = facts.older_claim.as_deref().unwrap_or("another");
    let message = format!(
        "ChatbotDeployment {other}, which is older, decides {} of chatbot {}; delete one of the two.",
        facts.environment(),
        facts.object.spec.chatbot_id
    );
    ReadyCondition::new(Reason::Conflict, message)
}

/// Another deployment comes first.
pub(super) fn promotion_condition(facts: &Observation, reason: Reason) -> ReadyCondition {
    let after = facts.object.spec.promote_after.as_ref();
    let name = after.map_or("", |after| after.deployment_ref.name.as_str());
    let target = facts.desired_label();
    let first = facts.promotion_source.as_ref().map(|gate| gate.status.as_ref());
    let wanted = facts.desired().ok();
    let goes = |id: &str| first.flatten().is_some_and(|first| is_heading_to(first, id));
    let message = match first {
        None => format!(
            "ChatbotDeployment {name}, which spec.promoteAfter waits for, does not exist; create it or correct \
             the name."
        ),
        Some(_) if wanted.is_some_and(|wanted| goes(&wanted.id)) => {
            let soak = after.and_then(|after| after.soak);
            let soak = soak.map(|soak| format!(" for {soak}")).unwrap_or_default();
            format!("Waiting until ChatbotDeployment {name} has been Ready on {target}{soak}.")
        }
        Some(_) => format!(
            "ChatbotDeployment {name}, which spec.promoteAfter waits for, does not go to {target}, or is \
             stalled; see what it says, and have git give it this version first, in the same or an earlier \
             sync wave."
        ),
    };
    ReadyCondition::new(reason, message)
}

pub(super) fn unresolved_condition(facts: &Observation, why: Unresolved) -> ReadyCondition {
    let spec = &facts.object.spec;
    let reference = spec.version_ref.as_ref().map_or("", |reference| reference.name.as_str());
    let bot = &spec.chatbot_id;
    let number = spec.version_number.as_deref().unwrap_or_default();
    let (reason, message) = match why {
        Unresolved::WaitingForVersion => {
            (Reason::WaitingForVersion, waiting_for_version_message(facts, reference))
        }
        Unresolved::ReferenceMismatch => (
            Reason::ReferenceMismatch,
            format!(
                "ChatbotVersion {reference} belongs to another chatbot than {bot}; correct spec.versionRef."
            ),
        ),
        Unresolved::VersionNotFound => {
            let wanted = spec.version_id.as_deref().unwrap_or(number);
            let message =
                format!("The service lists no version {wanted} of chatbot {bot}; correct the spec.");
            (Reason::VersionNotFound, message)
        }
        Unresolved::AmbiguousVersion => (
            Reason::AmbiguousVersion,
            format!("More than one version has the number {number}; use spec.versionId or spec.versionRef."),
        ),
        Unresolved::RollbackTargetNotFound => (Reason::VersionNotFound, rollback_target_message(facts)),
    };
    ReadyCondition::new(reason, message)
}

/// Why the version that `versionRef` names cannot be deployed yet, or any more.
fn waiting_for_version_message(facts: &Observation, reference: &str) -> String {
    let retiring = facts.pending_deletions().into_iter().find(|entry| entry.name == reference);
    match (&facts.referenced_version, retiring) {
        (Some(version), _) if version.metadata.deletion_timestamp.is_some() => format!(
            "ChatbotVersion {reference} is being deleted; name another one in spec.versionRef, or apply it again once it \
             is gone."
        ),
        (Some(_), _) => {
            format!("ChatbotVersion {reference} is not Ready yet; its own conditions say why.")
        }
        (None, Some(entry)) => format!(
            "ChatbotVersion {reference} was deleted, and {} follows once it no longer runs; name another one in \
             spec.versionRef, or apply the ChatbotVersion again to keep it.",
            facts.version_label(&entry.version_id)
        ),
        (None, None) => format!(
            "ChatbotVersion {reference} does not exist in this namespace yet; apply it or correct spec.versionRef."
        ),
    }
}

/// What is wrong with `rollback-to`.
fn rollback_target_message(facts: &Observation) -> String {
    let command = annotation::ROLLBACK_TO;
    let value = annotation_value(&facts.object.metadata, command).unwrap_or_default();
    if value == "previous" {
        return format!(
            "The annotation {command} says previous, but no version ran before this one, or it is no longer in the \
             service; name another or take the annotation away."
        );
    }
    let numbered = facts.inventory().into_iter().flat_map(|inventory| inventory.by_number(value));
    let mut ids: Vec<&str> = numbered.map(|version| version.id.as_str()).collect();
    ids.sort_unstable();
    ids.truncate(IDS);
    let hint = match ids.as_slice() {
        [] => String::new(),
        ids => format!(" {value} is a version number; its id is {}.", ids.join(" or ")),
    };
    format!(
        "The annotation {command} names no version: use previous, the name of a ChatbotVersion of this chatbot, or a \
         version id.{hint}"
    )
}
