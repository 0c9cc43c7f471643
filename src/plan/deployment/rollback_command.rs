//! The annotation `rollback-to`: which version it names, how long it holds, and when it is removed.
//!
//! A command is resolved once, when it is read first: `previous` must not move with every rollback. It holds until git names
//! another version than at that time, or until somebody removes the annotation; suspending the object does not end it.
//!
//! A command that has ended, and one that leads nowhere, holds nothing back: the spec decides. The operator removes
//! its annotation, so that the same command can be given again. Where the manifest itself holds the annotation that would
//! bring it back at once, and the environment would move with it for ever: there the annotation stays and is ignored.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;

use super::{Observation, rollout::ran_before};
use crate::{
    crd::{ChatbotDeployment, ChatbotDeploymentStatus, HistoryEntry, RollbackCommand, annotation},
    plan::annotation_value,
};

/// The fields of a spec that name its version, as `managedFields` has them.
const VERSION_FIELDS: [&str; 4] = ["f:versionRef", "f:versionId", "f:versionNumber", "f:follow"];

/// What the annotation leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RollbackTo {
    /// This version should run in place of the one that the spec names.
    Holds(String),
    /// Nothing: the spec decides.
    Ended(CommandEnd),
}

/// Why a command leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommandEnd {
    /// The spec names another version than when the command was given.
    SpecChanged,
    /// The spec names the same version.
    NamedBySpec,
    /// No version of the chatbot is named, or it is gone.
    VersionNotFound,
}

/// Whether a command that no status has recorded yet may lead to the version `id` of the object `namespace/name`.
#[must_use]
pub fn may_be_commanded(deployment: &ChatbotDeployment, id: &str, namespace: &str, name: &str) -> bool {
    let Some(value) = annotation_value(&deployment.metadata, annotation::ROLLBACK_TO) else {
        return false;
    };
    let status = deployment.status.as_ref();
    let recorded = status.and_then(|status| status.rollback_command.as_ref());
    let ran = status.into_iter().flat_map(|status| &status.history).filter(|entry| entry.version_id == id);
    let is_named =
        value == id || value == name && deployment.metadata.namespace.as_deref() == Some(namespace);
    let is_numbered = |entry: &HistoryEntry| entry.version_number.as_deref() == Some(value);
    recorded.is_none_or(|command| command.value != value)
        && (is_named || ran.into_iter().any(|entry| value == "previous" || is_numbered(entry)))
}

impl Observation {
    /// What the annotation leads to; `None` without it, or where the service has to be read first.
    pub(super) fn rollback_command(&self) -> Option<RollbackTo> {
        let value = self.rollback_annotation()?;
        match self.recorded_command() {
            Some(command) if command.ended || self.spec_has_changed(command) => {
                Some(RollbackTo::Ended(CommandEnd::SpecChanged))
            }
            Some(command) if self.may_exist(&command.version_id) => {
                Some(RollbackTo::Holds(command.version_id.clone()))
            }
            Some(_) => Some(RollbackTo::Ended(CommandEnd::VersionNotFound)),
            // the status was lost with the cluster, and with it that the command has ended
            None if self.is_command_in_manifest() && self.status().target.is_none() => {
                Some(RollbackTo::Ended(CommandEnd::SpecChanged))
            }
            None => self.resolve(value),
        }
    }

    /// Why the annotation is to be removed, if it is.
    pub(super) fn command_to_remove(&self) -> Option<CommandEnd> {
        match self.rollback_command() {
            Some(RollbackTo::Ended(why)) if !self.is_command_in_manifest() => Some(why),
            _ => None,
        }
    }

    /// An annotation that leads nowhere is part of the manifest.
    pub(super) fn has_ended_command_in_manifest(&self) -> bool {
        matches!(self.rollback_command(), Some(RollbackTo::Ended(_))) && self.is_command_in_manifest()
    }

    pub(super) fn rollback_annotation(&self) -> Option<&str> {
        annotation_value(&self.object.metadata, annotation::ROLLBACK_TO)
    }

    /// The command that the status has recorded for the annotation as it is now.
    fn recorded_command(&self) -> Option<&RollbackCommand> {
        let value = self.rollback_annotation()?;
        self.status().rollback_command.as_ref().filter(|command| command.value == value)
    }

    pub(super) fn has_unrecorded_command(&self) -> bool {
        self.rollback_annotation().is_some() && self.recorded_command().is_none()
    }

    fn spec_has_changed(&self, command: &RollbackCommand) -> bool {
        let named = self.version_of_spec();
        // either may be unknown for a moment, and that changes nothing
        command.spec_version_id.is_some() && named.is_some() && named != command.spec_version_id
    }

    /// Id of the version that the spec names.
    fn version_of_spec(&self) -> Option<String> {
        self.desired_by_spec().ok().map(|desired| desired.version_id)
    }

    fn resolve(&self, value: &str) -> Option<RollbackTo> {
        // without the list the number of the spec names no version yet, and the command would be resolved for good
        if self.inventory().is_none() && self.object.spec.version_number.is_some() {
            return None;
        }
        let target = if value == "previous" { self.version_before_spec() } else { self.named_version(value) };
        match target {
            Some(id) if self.version_of_spec().as_ref() == Some(&id) => {
                Some(RollbackTo::Ended(CommandEnd::NamedBySpec))
            }
            Some(id) => Some(RollbackTo::Holds(id)),
            None if self.inventory().is_none() => None,
            None => Some(RollbackTo::Ended(CommandEnd::VersionNotFound)),
        }
    }

    /// The newest version that ran before the one that the spec names ran for the first time. So the command never leads
    /// forward: neither when it is given again after its rollback, nor after a revert in git.
    fn version_before_spec(&self) -> Option<String> {
        let (status, history) = (self.status(), &self.status().history);
        // where the spec's version cannot be found, what runs takes its place: it is not what ran before itself
        let active = || status.active.as_ref().map(|active| active.version_id.clone());
        let spec = self.version_of_spec().or_else(active);
        let previous =
            self.newest_of_history(|entry| ran_before(history, &entry.version_id, spec.as_deref()));
        previous.map(|entry| entry.version_id.clone())
    }

    /// By the name of a `ChatbotVersion`, by an id, or by a number that one version has, in this order.
    fn named_version(&self, value: &str) -> Option<String> {
        let named = self
            .rollback_version
            .as_ref()
            .filter(|version| version.spec.chatbot_id == self.object.spec.chatbot_id)
            .and_then(|version| version.version_id());
        let listed = || self.listed(value).map(|version| version.id.as_str());
        let ran = || (self.has_run(value) && self.may_exist(value)).then_some(value);
        named.or_else(listed).or_else(ran).map(str::to_owned).or_else(|| self.numbered_version(value))
    }

    /// Id of the version with this number; a number that several versions have names none of them.
    pub(super) fn numbered_version(&self, number: &str) -> Option<String> {
        let mut numbered = self.inventory()?.by_number(number);
        let one = numbered.next().filter(|_| numbered.next().is_none());
        one.map(|version| version.id.as_str().to_owned())
    }

    /// The manager that has written the annotation has written the version of the spec, too: both are in one manifest.
    fn is_command_in_manifest(&self) -> bool {
        self.object.metadata.managed_fields.iter().flatten().any(is_of_manifest)
    }

    /// Records the command, and forgets one whose annotation is gone.
    pub(super) fn sync_rollback_command(&self, status: &mut ChatbotDeploymentStatus) {
        let recorded = self.recorded_command();
        let record = |version_id: String, ended: bool| RollbackCommand {
            value: self.rollback_annotation().unwrap_or_default().to_owned(),
            version_id,
            spec_version_id: recorded
                .and_then(|command| command.spec_version_id.clone())
                .or_else(|| self.version_of_spec()),
            ended,
        };
        status.rollback_command = match self.rollback_command() {
            Some(RollbackTo::Holds(id)) => Some(record(id, false)),
            Some(RollbackTo::Ended(_)) if self.is_command_in_manifest() => {
                Some(record(recorded.map(|command| command.version_id.clone()).unwrap_or_default(), true))
            }
            // until the annotation is removed, it must not be taken for a new one
            _ => recorded.cloned(),
        };
        if recorded.is_none()
            && let (Some(command), Some(failed)) = (&status.rollback_command, &mut status.failed_versions)
        {
            // a new command is a reason to try again
            failed.version_ids.retain(|id| *id != command.version_id);
        }
    }
}

fn is_of_manifest(entry: &ManagedFieldsEntry) -> bool {
    let command = format!("f:{}", annotation::ROLLBACK_TO);
    entry.fields_v1.as_ref().is_some_and(|fields| {
        VERSION_FIELDS.iter().any(|field| fields.0["f:spec"].get(*field).is_some())
            && fields.0["f:metadata"]["f:annotations"].get(&command).is_some()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::fixtures::*, *};
    use crate::{
        chatcaptain::Version,
        crd::Cause,
        plan::{
            UnavailableReason,
            deployment::{Step, Unresolved},
        },
    };

    /// prod runs v2, which the spec names, and ran v1 before it.
    fn running_v2() -> Observation {
        let history = json!({"history": [
            {"versionId": "v2", "startTime": ago(10)}, {"versionId": "v1", "startTime": ago(90)},
        ]});
        let spec = json!({"versionRef": null, "versionId": "v2"});
        Observation::test().with_spec(&spec).with_status(&history).running(Some("v2"))
    }

    fn commanded(value: &str) -> Observation {
        running_v2().annotated(annotation::ROLLBACK_TO, value)
    }

    fn holds(id: &str) -> RollbackTo {
        RollbackTo::Holds(id.to_owned())
    }

    fn desired(observation: &Observation) -> Result<(String, Cause), Unresolved> {
        observation.desired().map(|desired| (desired.version_id, desired.cause))
    }

    #[test]
    fn command_names_previous_an_object_an_id_or_a_number() {
        assert_eq!(commanded("previous").rollback_command(), Some(holds("v1")));
        assert_eq!(commanded("v3").rollback_command(), Some(holds("v3")));
        assert_eq!(commanded("1.3").rollback_command(), Some(holds("v3")));
        let named = Observation { rollback_version: Some(referenced(&json!({}))), ..commanded("a") };
        assert_eq!(named.rollback_command(), Some(holds("v1")));
        assert_eq!(desired(&named), Ok(("v1".to_owned(), Cause::RollbackCommand)));
    }

    #[test]
    fn command_that_is_not_recorded_may_lead_to_what_it_names_or_to_what_ran() {
        let ran = json!({"history": [
            {"versionId": "v2", "startTime": ago(10)},
            {"versionId": "v1", "versionNumber": "1.1", "startTime": ago(90)},
        ]});
        let may = |value: &str, status: &Value| {
            let commanded = commanded(value).with_status(&ran).with_status(status);
            may_be_commanded(&commanded.object, "v1", "ns", "a")
        };
        for value in ["v1", "a", "1.1", "previous"] {
            assert!(may(value, &json!({})), "{value}");
            let recorded = json!({"rollbackCommand": {"value": value, "versionId": "v1"}});
            assert!(!may(value, &recorded), "the status shows what {value} leads to");
        }
        assert!(!may("v2", &json!({})));
        assert!(!may("previous", &json!({"history": []})));
        assert!(!may_be_commanded(&commanded("a").object, "v1", "other", "a"), "of another namespace");
        assert!(!may_be_commanded(&running_v2().object, "v1", "ns", "a"));
    }

    #[test]
    fn command_that_names_nothing_holds_nothing_back_and_is_removed() {
        let foreign = referenced(&json!({"spec": {"chatbotId": "other"}}));
        let foreign = Observation { rollback_version: Some(foreign), ..commanded("a") };
        let twin = Version { number: Some("1.3".into()), ..version("v1") };
        let ambiguous = commanded("1.3").listing([twin, version("v2"), version("v3")]).running(Some("v2"));
        let first = commanded("previous").with_status(&json!({"history": []}));
        for observation in [foreign, ambiguous, first, commanded("nothing")] {
            assert_eq!(observation.command_to_remove(), Some(CommandEnd::VersionNotFound));
            assert_eq!(desired(&observation), Ok(("v2".to_owned(), Cause::Spec)));
            assert_eq!(observation.next_step(), Step::RemoveRollbackCommand);
        }
        let unread = commanded("nothing").unavailable(UnavailableReason::Throttled);
        assert_eq!(unread.rollback_command(), None, "the list may show it");
    }

    #[test]
    fn previous_is_what_ran_before_the_version_of_the_spec_and_never_leads_forward() {
        let history = |ids: &[&str]| {
            let entries: Vec<Value> =
                ids.iter().map(|id| json!({"versionId": id, "startTime": ago(1)})).collect();
            commanded("previous").with_status(&json!({"history": entries})).rollback_command()
        };
        assert_eq!(history(&["v1", "v2", "v1", "v3"]), Some(holds("v1")), "given again after the rollback");
        assert_eq!(history(&["v3", "v2", "v1"]), Some(holds("v1")), "v3 was deployed outside the operator");
        assert_eq!(history(&["v1", "v3"]), Some(holds("v1")), "the version of the spec never ran");
        let reverted = history(&["v2", "v3", "v2"]);
        assert_eq!(reverted, Some(RollbackTo::Ended(CommandEnd::VersionNotFound)), "v3 came after it");
        let hidden = commanded("previous").listing([version("v2"), version("v3")]).running(Some("v2"));
        assert_eq!(hidden.rollback_command(), Some(holds("v1")), "the list may be cut");
        let rejected = json!({"lastOperations": [
            {"operation": "Deploy", "versionId": "v1", "completionTime": ago(5), "result": "Refused"},
        ]});
        let gone = hidden.with_status(&rejected);
        assert_eq!(gone.command_to_remove(), Some(CommandEnd::VersionNotFound));
    }

    #[test]
    fn command_holds_until_the_spec_names_another_version() {
        let given = commanded("previous");
        let held = given.clone().after(given.report()).running(Some("v1"));
        assert_eq!(held.rollback_command(), Some(holds("v1")));
        let other_generation = held.clone().with_spec(&json!({"interval": "1m"}));
        let annotations = json!({annotation::ROLLBACK_TO: "previous"});
        let other_generation =
            other_generation.with_metadata(&json!({"generation": 2, "annotations": annotations}));
        assert_eq!(other_generation.rollback_command(), Some(holds("v1")), "the same version");
        let suspended = other_generation.with_spec(&json!({"suspend": true}));
        let resumed = suspended.clone().after(suspended.report()).with_spec(&json!({"suspend": null}));
        assert_eq!(resumed.rollback_command(), Some(holds("v1")));
        let moved = held.with_spec(&json!({"versionId": "v3"}));
        assert_eq!(moved.command_to_remove(), Some(CommandEnd::SpecChanged));
        assert_eq!(desired(&moved), Ok(("v3".to_owned(), Cause::Spec)));
        let waiting = moved.after(resumed.report());
        assert_eq!(
            waiting.command_to_remove(),
            Some(CommandEnd::SpecChanged),
            "it is not taken for a new one"
        );
        assert!(matches!(waiting.next_step(), Step::RecordIntent(_)), "the spec comes first");
        let moved = waiting.with_status(&json!({"currentOperation": null})).running(Some("v3"));
        assert_eq!(moved.next_step(), Step::RemoveRollbackCommand);
    }

    #[test]
    fn previous_is_not_what_runs_where_the_version_of_the_spec_is_unknown() {
        let missing = json!({"versionId": null, "versionRef": {"name": "gone"}});
        let active = json!({"active": {"versionId": "v2", "startTime": ago(10)}});
        let unknown = commanded("previous").with_spec(&missing).with_status(&active);
        let unknown = Observation { referenced_version: None, ..unknown };
        assert_eq!(unknown.rollback_command(), Some(holds("v1")));
        let numbered = commanded("previous").with_spec(&json!({"versionId": null, "versionNumber": "1.2"}));
        let unread = numbered.unavailable(UnavailableReason::AuthenticationFailed);
        assert_eq!(unread.rollback_command(), None, "the list says which version the number names");
    }

    #[test]
    fn command_to_the_version_of_the_spec_is_no_rollback() {
        assert_eq!(commanded("v2").command_to_remove(), Some(CommandEnd::NamedBySpec));
    }

    #[test]
    fn ended_command_of_the_manifest_stays_and_is_ignored() {
        let fields = json!({
            "f:metadata": {"f:annotations": {format!("f:{}", annotation::ROLLBACK_TO): {}}},
            "f:spec": {"f:versionId": {}},
        });
        let annotations = json!({annotation::ROLLBACK_TO: "previous"});
        let managed = json!([{"manager": "argocd-controller", "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": fields}]);
        let meta = json!({"annotations": annotations, "managedFields": managed});
        let rebuilt = running_v2().with_metadata(&meta);
        assert!(rebuilt.has_ended_command_in_manifest(), "a new object goes nowhere by it");
        let given = rebuilt.with_status(&reached_target("v2"));
        assert_eq!(given.rollback_command(), Some(holds("v1")), "obeyed once");
        let held = given.clone().after(given.report()).running(Some("v1"));
        let held = held.clone().after(held.report());
        let moved = held.with_spec(&json!({"versionId": "v3"})).running(Some("v3"));
        assert_eq!((moved.command_to_remove(), moved.has_ended_command_in_manifest()), (None, true));
        let report = moved.report();
        let [("RollbackCommandEnded", note)] = events(&report)[..] else { panic!("{:?}", report.events) };
        assert!(note.contains("manifest"), "{note}");
        let ended = moved.after(report).with_spec(&json!({"versionId": "v2"})).running(Some("v2"));
        assert!(ended.has_ended_command_in_manifest(), "also once git is back");
        assert!(events(&ended.report()).is_empty(), "once");
        assert_eq!(condition(&ended.report(), "Ready"), Some(("True", "Available")));
    }

    #[test]
    fn new_command_tries_a_failed_version_again() {
        let failed = json!({"failedVersions": {"generation": 1, "versionIds": ["v1"]}});
        let given = commanded("v1").with_status(&failed);
        let recorded = given.clone().after(given.report());
        assert_eq!(
            recorded.next_step(),
            Step::RecordIntent(crate::plan::deployment::RolloutMethod::Rollback)
        );
    }
}
