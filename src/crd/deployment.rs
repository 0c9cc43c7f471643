//! `ChatbotDeployment`: which version an environment of a chatbot runs.

#![allow(clippy::duplicated_attributes, reason = "columns and rules are attributes of one name")]

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    CommonStatus, CredentialsRef, Follow, FollowedVersion, LiveEnvironment, MetaDuration, Operation,
    OperationResult, PromoteAfter, ReleaseWindow, Retry, common::OBJECT_NAME,
};

/// Desired version of the environment.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "chatcaptain.dev",
    version = "v1alpha1",
    kind = "ChatbotDeployment",
    namespaced,
    shortname = "cbd",
    category = "chatcaptain",
    status = "ChatbotDeploymentStatus",
    derive = "PartialEq",
    doc = "Which version an environment of a chatbot runs. The operator deploys it, and rolls back when the spec returns to a version that ran before.",
    selectable = ".spec.chatbotId",
    selectable = ".spec.environment",
    selectable = ".status.active.versionId",
    printcolumn(name = "Env", type_ = "string", json_path = ".spec.environment"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.active.versionNumber"),
    printcolumn(name = "ChatbotVersion", type_ = "string", json_path = ".status.active.versionName"),
    printcolumn(name = "Since", type_ = "date", json_path = ".status.active.startTime"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
    ),
    printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspend"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Chatbot", type_ = "string", json_path = ".spec.chatbotId", priority = 1),
    printcolumn(name = "Active", type_ = "string", json_path = ".status.active.versionId", priority = 1),
    printcolumn(name = "Target", type_ = "string", json_path = ".status.target.versionId", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.chatbotId == oldSelf.chatbotId").message("spec.chatbotId is immutable: create a new ChatbotDeployment").field_path(".chatbotId"),
    validation = Rule::new("self.environment == oldSelf.environment").message("spec.environment is immutable: create a new ChatbotDeployment").field_path(".environment"),
    validation = Rule::new("[has(self.versionRef), has(self.versionId), has(self.versionNumber), has(self.follow)].filter(x, x).size() == 1").message("set exactly one of spec.versionRef, spec.versionId, spec.versionNumber, spec.follow"),
    validation = Rule::new("!has(self.rollback) || !has(self.rollback.parameters) || !('environment' in self.rollback.parameters)").message("spec.rollback.parameters must not contain environment: spec.environment decides it"),
    validation = Rule::new("!has(self.promoteAfter) || has(self.promoteAfter.deploymentRef) || has(self.follow) || !has(self.promoteAfter.soak) && !(has(self.promoteAfter.verified) && self.promoteAfter.verified)").message("spec.promoteAfter.soak and spec.promoteAfter.verified need spec.promoteAfter.deploymentRef")
)]
pub struct ChatbotDeploymentSpec {
    /// Id of the chatbot in the service. Immutable.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9_-]{1,128}$"))]
    pub chatbot_id: String,
    /// Environment whose live version this object decides. Immutable.
    pub environment: LiveEnvironment,
    /// ChatbotVersion to run, in the same namespace and of the same chatbot. Set exactly one of versionRef, versionId,
    /// versionNumber and follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_ref: Option<LocalObjectReference>,
    /// Id of the version to run, as the service lists it. Set exactly one of versionRef, versionId, versionNumber
    /// and follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9_-]{1,128}$"))]
    pub version_id: Option<String>,
    /// Number of the version to run, for example 2.1, which only one version may have. Set exactly one of versionRef,
    /// versionId, versionNumber and follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub version_number: Option<String>,
    /// ChatbotDeployment, of the same chatbot, whose version to run. Set exactly one of versionRef, versionId, versionNumber
    /// and follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow: Option<Follow>,
    /// How the environment returns to an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<RollbackPolicy>,
    /// What happens when another version is deployed to the environment outside the operator. Defaults to Enforce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftPolicy>,
    /// How many of the versions that the environment ran last, besides the live one, are kept in the service after their
    /// ChatbotVersions are deleted, so that it can go back to them. 0 keeps none. Defaults to 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10))]
    pub revision_history_limit: Option<i32>,
    /// What the version that the spec names has to have passed before this object deploys it. A rollback does not wait.
    /// When unset, nothing waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promote_after: Option<PromoteAfter>,
    /// When versions are deployed, at most 20 windows. A rollback and a correction of drift do not wait. When unset, at any
    /// time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub windows: Vec<ReleaseWindow>,
    /// How long a version may take to become live, in hours, minutes and seconds, for example 10m; after that the rollout
    /// has failed. Defaults to 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_deadline: Option<MetaDuration>,
    /// Secret that holds the API key. When unset, the Secret chatcaptain is used: its key that is named like the chatbot, else
    /// its key apiKey.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_ref: Option<CredentialsRef>,
    /// How often the operator checks the service for this object, in hours, minutes and seconds, for example 5m or
    /// 1h30m. When unset, the operator's --interval applies. A value below the operator's --min-interval is raised to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<MetaDuration>,
    /// Whether to stop all work on this object. The conditions and what is live stay as they are. Defaults to false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// An object in the same namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct LocalObjectReference {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
}

/// How an environment returns to an earlier version.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RollbackPolicy {
    /// What happens when a version does not become live within progressDeadline. Defaults to Never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    /// How a version that ran in this environment before becomes live again. Defaults to Rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<RollbackMethod>,
    /// Additional properties for the body of the rollback request, at most 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 16))]
    pub parameters: Option<BTreeMap<String, String>>,
}

/// What happens when a rollout fails.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Report the failure and leave the environment as it is.
    Never,
    /// Restore the last other version that ran, once per generation of the spec.
    Previous,
}

/// How an earlier version becomes live again.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollbackMethod {
    /// Send the rollback request of the service; deploy the version if the request is rejected or has no effect.
    Rollback,
    /// Deploy the version.
    Redeploy,
}

/// What happens when another version is deployed outside the operator.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriftPolicy {
    /// Deploy the desired version again, at most 5 times within an hour.
    Enforce,
    /// Report the drift and leave the environment as it is.
    Warn,
}

/// Observed state, written by the operator.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ChatbotDeploymentStatus {
    /// What both kinds have.
    #[serde(flatten)]
    pub common: CommonStatus,
    /// Version that should run, and what decided so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Version that runs, as last confirmed. Absent when none runs or the live version cannot be determined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<DeployedVersion>,
    /// Version that ran before the active one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<DeployedVersion>,
    /// Versions that the environment ran, newest first, at most 11.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 11))]
    pub history: Vec<HistoryEntry>,
    /// Versions whose ChatbotVersion was deleted while they were in use here or kept by spec.revisionHistoryLimit, at most
    /// 50. Each is deleted once it is no longer needed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub pending_deletions: Vec<PendingDeletion>,
    /// Version that the ChatbotDeployment named by spec.follow was last Ready on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub followed: Option<FollowedVersion>,
    /// ChatbotVersion, or ChatbotDeployment to follow, that the rollout waits for. Absent once it has a version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for_version: Option<WaitingForVersion>,
    /// Deploy or rollback in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_operation: Option<CurrentOperation>,
    /// Versions that did not become live. They are not tried again until the spec changes, or until the annotation
    /// chatcaptain.dev/reconcile-requested-at gets a new value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_versions: Option<FailedVersions>,
    /// Rollback that the annotation chatcaptain.dev/rollback-to commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_command: Option<RollbackCommand>,
    /// Recent corrections of drift. After 5 within an hour, the operator makes no more for the rest of that hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift_corrections: Option<DriftCorrections>,
}

/// What decided which version should run.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The spec names the version.
    Spec,
    /// The annotation chatcaptain.dev/rollback-to names the version.
    RollbackCommand,
    /// The version that the spec names did not become live, and spec.rollback.onFailure is Previous.
    AutomaticRollback,
}

/// A version that should run.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Id of the version in the service.
    pub version_id: String,
    /// Number of the version in the service, for example 2.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_number: Option<String>,
    /// Name of the ChatbotVersion that created or adopted the version, where one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_name: Option<String>,
    /// What decided that this version should run.
    pub cause: Cause,
    /// Time since which this version is the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// Time at which the environment was first observed running the target. Another live version after that is drift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached_time: Option<Time>,
}

/// A version that runs or ran.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DeployedVersion {
    /// Id of the version in the service.
    pub version_id: String,
    /// Number of the version in the service, for example 2.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_number: Option<String>,
    /// Name of the ChatbotVersion that created or adopted the version, where one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_name: Option<String>,
    /// Time at which the environment was first observed running the version.
    pub start_time: Time,
}

/// An entry of `history`.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// Id of the version in the service.
    pub version_id: String,
    /// Number of the version in the service, for example 2.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_number: Option<String>,
    /// Name of the ChatbotVersion that created or adopted the version, where one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_name: Option<String>,
    /// Time at which the environment was first observed running the version.
    pub start_time: Time,
    /// Request that made the version live. Absent when the operator found it running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// What decided that the version should run. Absent when it was deployed outside the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// What differs from the version that ran before, such as model 3 -> 4, intents 120 -> 131, as far as the service lists
    /// model and figures; at most 256 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<String>,
    /// Annotation kubernetes.io/change-cause of this object at that time, cut to 256 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change_cause: Option<String>,
    /// Field manager that had written the spec last, for example argocd-controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec_manager: Option<String>,
}

/// A version to delete once it is no longer in use.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PendingDeletion {
    /// Id of the version in the service.
    pub version_id: String,
    /// Name of the deleted ChatbotVersion.
    pub name: String,
    /// Time at which this object took over the deletion.
    pub request_time: Time,
    /// Backoff after a delete request that failed. It delays neither a rollout nor another deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

/// A ChatbotVersion that does not exist, or has no version yet.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct WaitingForVersion {
    /// Name of the ChatbotVersion, or of the ChatbotDeployment to follow.
    pub name: String,
    /// Time since which the rollout waits; progressDeadline counts from here.
    pub start_time: Time,
}

/// A deploy or rollback in progress.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CurrentOperation {
    /// Which request makes the version live: Deploy or Rollback.
    pub operation: Operation,
    /// Id of the version that is to become live.
    pub version_id: String,
    /// Time at which the operation was recorded, before the request is sent.
    pub start_time: Time,
    /// Time of the first request to deploy this version, when the operation repeats it because no usable answer arrived;
    /// progressDeadline counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_call_time: Option<Time>,
    /// Time at which the request was answered or given up; progressDeadline counts from here. Absent until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_time: Option<Time>,
    /// How the request ended. Absent until it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<OperationResult>,
    /// Time of the version's last deploy before the request, as the service lists it. Another time shows that the request
    /// took effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_deploy_time: Option<MicroTime>,
}

/// Versions that did not become live.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FailedVersions {
    /// Generation of the spec for which they failed.
    pub generation: i64,
    /// Ids of the versions, newest first, at most 10.
    #[serde(default)]
    #[schemars(length(max = 10))]
    pub version_ids: Vec<String>,
}

/// A rollback that an annotation commands.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RollbackCommand {
    /// Value of the annotation chatcaptain.dev/rollback-to.
    pub value: String,
    /// Id of the version that the value named when the command was given.
    pub version_id: String,
    /// Id of the version that the spec named at that time; the rollback ends when the spec names another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec_version_id: Option<String>,
    /// Whether the rollback has ended although the annotation is still there, because the manifest holds it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
}

/// Corrections of drift.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DriftCorrections {
    /// Number of corrections since windowStartTime.
    #[schemars(range(min = 1))]
    pub count: i32,
    /// Time of the first correction that is counted; counting starts again an hour later.
    pub window_start_time: Time,
}

/// The one of four fields that names the desired version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionSource<'a> {
    /// A `ChatbotVersion` of the same namespace.
    Ref(&'a str),
    /// The id of a version in the service.
    Id(&'a str),
    /// The number of a version in the service.
    Number(&'a str),
    /// What a `ChatbotDeployment` of the same namespace runs.
    Follow(&'a str),
}

impl HistoryEntry {
    /// The same without how and why it came.
    #[must_use]
    pub fn to_deployed_version(&self) -> DeployedVersion {
        let Self { version_id, version_number, version_name, start_time, .. } = self.clone();
        DeployedVersion { version_id, version_number, version_name, start_time }
    }
}

impl ChatbotDeploymentStatus {
    /// How many versions can wait in `pendingDeletions`.
    pub const MAX_PENDING_DELETIONS: usize = 50;
}

impl ChatbotDeploymentSpec {
    /// The field that names the desired version, or `None` where not exactly one is set.
    #[must_use]
    pub fn version_source(&self) -> Option<VersionSource<'_>> {
        match (&self.version_ref, &self.version_id, &self.version_number, &self.follow) {
            (Some(reference), None, None, None) => Some(VersionSource::Ref(&reference.name)),
            (None, Some(id), None, None) => Some(VersionSource::Id(id)),
            (None, None, Some(number), None) => Some(VersionSource::Number(number)),
            (None, None, None, Some(follow)) => Some(VersionSource::Follow(&follow.deployment_ref.name)),
            _ => None,
        }
    }

    /// Name of the `ChatbotDeployment` that has to run a version first; the default applied.
    #[must_use]
    pub fn promotion_source(&self) -> Option<&str> {
        let after = self.promote_after.as_ref()?;
        let source =
            after.deployment_ref.as_ref().or(self.follow.as_ref().map(|follow| &follow.deployment_ref));
        source.map(|source| source.name.as_str())
    }

    /// Names of the deployments that this one takes its version from, or has to come after.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        let followed = self.follow.as_ref().map(|follow| follow.deployment_ref.name.as_str());
        self.promotion_source().into_iter().chain(followed)
    }

    /// How long a version may take to become live; the default applied.
    #[must_use]
    pub fn progress_deadline(&self) -> Duration {
        // a deploy takes seconds: minutes are patience with a slow service, more would hide a failure
        self.progress_deadline.map_or(Duration::from_mins(5), MetaDuration::get)
    }

    /// How many earlier versions are kept; the default applied.
    #[must_use]
    pub fn revision_history_limit(&self) -> usize {
        // enough for the last few releases, few enough that a chatbot's list of versions stays short
        self.revision_history_limit.map_or(3, |limit| usize::try_from(limit).unwrap_or_default())
    }

    /// What happens when a rollout fails; the default applied.
    #[must_use]
    pub fn on_failure(&self) -> OnFailure {
        self.rollback.as_ref().and_then(|r| r.on_failure).unwrap_or(OnFailure::Never)
    }

    /// How an earlier version becomes live again; the default applied.
    #[must_use]
    pub fn rollback_method(&self) -> RollbackMethod {
        self.rollback.as_ref().and_then(|r| r.method).unwrap_or(RollbackMethod::Rollback)
    }
}

impl CurrentOperation {
    /// Whether the call counts as sent: its answer, or that there was none, is recorded.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        self.call_time.is_some()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::{Value, json};

    use super::*;

    fn spec(fields: &Value) -> ChatbotDeploymentSpec {
        let mut spec = json!({"chatbotId": "bot", "environment": "prod"});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn exactly_one_field_names_the_version() {
        let reference = spec(&json!({"versionRef": {"name": "support-q4"}}));
        assert_eq!(reference.version_source(), Some(VersionSource::Ref("support-q4")));
        assert_eq!(spec(&json!({"versionId": "v1"})).version_source(), Some(VersionSource::Id("v1")));
        assert_eq!(
            spec(&json!({"versionNumber": "2.1"})).version_source(),
            Some(VersionSource::Number("2.1"))
        );
        let follow = spec(&json!({"follow": {"deploymentRef": {"name": "test"}}}));
        assert_eq!(follow.version_source(), Some(VersionSource::Follow("test")));
    }

    #[test]
    fn no_field_or_several_name_no_version() {
        let all = [
            ("versionRef", json!({"name": "a"})),
            ("versionId", json!("a")),
            ("versionNumber", json!("1")),
            ("follow", json!({"deploymentRef": {"name": "a"}})),
        ];
        for chosen in (0..1_u32 << all.len()).filter(|chosen| chosen.count_ones() != 1) {
            let fields = all.iter().enumerate().filter(|(bit, _)| chosen >> bit & 1 == 1);
            let fields = fields.map(|(_, (name, value))| ((*name).to_owned(), value.clone())).collect();
            assert_eq!(spec(&Value::Object(fields)).version_source(), None, "{chosen:04b}");
        }
    }

    #[test]
    fn rollback_has_defaults() {
        let unset = spec(&json!({}));
        assert_eq!(
            (unset.on_failure(), unset.rollback_method()),
            (OnFailure::Never, RollbackMethod::Rollback)
        );
        let set = spec(&json!({"rollback": {"onFailure": "Previous", "method": "Redeploy"}}));
        assert_eq!(
            (set.on_failure(), set.rollback_method()),
            (OnFailure::Previous, RollbackMethod::Redeploy)
        );
    }
}
