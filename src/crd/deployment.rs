//! `ChatbotDeployment`: a pointer that says which version an environment of a bot runs.

#![allow(clippy::duplicated_attributes, reason = "columns and rules are attributes of one name")]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CommonStatus, CredentialsRef, LiveEnvironment, Operation, OperationResult};

/// Which version the environment is to run.
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
    doc = "A pointer: this environment of this chatbot runs that version.",
    selectable = ".spec.chatbotId",
    selectable = ".spec.environment",
    selectable = ".status.active.versionId",
    printcolumn(name = "Env", type_ = "string", json_path = ".spec.environment"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.active.versionNumber"),
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
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Chatbot", type_ = "string", json_path = ".spec.chatbotId", priority = 1),
    printcolumn(name = "Active", type_ = "string", json_path = ".status.active.versionId", priority = 1),
    printcolumn(name = "Target", type_ = "string", json_path = ".status.target.versionId", priority = 1),
    printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspend", priority = 1),
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
    validation = Rule::new("[has(self.versionRef), has(self.versionId), has(self.versionNumber)].filter(x, x).size() == 1").message("set exactly one of spec.versionRef, spec.versionId, spec.versionNumber")
)]
pub struct ChatbotDeploymentSpec {
    /// Id of the chatbot in the service. Immutable.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9_-]{1,128}$"))]
    pub chatbot_id: String,
    /// The environment that this object decides. Immutable.
    pub environment: LiveEnvironment,
    /// A ChatbotVersion of the same namespace and chatbot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_ref: Option<LocalObjectReference>,
    /// Id of a version in the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9_-]{1,128}$"))]
    pub version_id: Option<String>,
    /// Number of a version in the service, such as 2.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub version_number: Option<String>,
    /// How the environment goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<RollbackPolicy>,
    /// What is done when somebody deploys by hand. Unset: Enforce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftPolicy>,
    /// A gate: wait until another ChatbotDeployment runs the same version well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promote_after: Option<PromoteAfter>,
    /// How long a version may take to become live, such as 5m. Unset: 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20), regex(pattern = r"^([0-9]{1,5}(s|m|h)){1,3}$"))]
    pub progress_deadline: Option<String>,
    /// The Secret that holds the API key. Unset: key apiKey of Secret chatcaptain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_ref: Option<CredentialsRef>,
    /// How often the service is looked at, such as 5m. Unset: the operator's flag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20), regex(pattern = r"^([0-9]{1,5}(s|m|h)){1,3}$"))]
    pub interval: Option<String>,
    /// While true nothing is done for this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// An object of the same namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct LocalObjectReference {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// How the environment goes back.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RollbackPolicy {
    /// What is done when a version does not become live by progressDeadline. Unset: Never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    /// The call that goes back. Unset: Rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<RollbackMethod>,
    /// Further properties for the body of the rollback call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub parameters: Option<BTreeMap<String, String>>,
}

/// What is done when a rollout fails.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Nothing but saying so.
    Never,
    /// The last good version is restored, once per generation.
    Previous,
}

/// The call that goes back.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollbackMethod {
    /// The service's rollback, and a deploy where that does not lead there.
    Rollback,
    /// A deploy of the earlier version.
    Redeploy,
}

/// What is done when somebody deploys by hand.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriftPolicy {
    /// The wanted version is deployed again.
    Enforce,
    /// It is reported, and left as it is.
    Warn,
}

/// A gate in front of this deployment.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PromoteAfter {
    /// The ChatbotDeployment, of the same namespace, to wait for.
    pub deployment_ref: LocalObjectReference,
    /// How long it must have been Ready on the same version, such as 30m. Unset: no time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20), regex(pattern = r"^([0-9]{1,5}(s|m|h)){1,3}$"))]
    pub soak: Option<String>,
}

/// What the operator found and did.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ChatbotDeploymentStatus {
    /// Generation, conditions, calls and backoff.
    #[serde(flatten)]
    pub common: CommonStatus,
    /// The version that should run now, and who says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// The version that runs, as last confirmed. Absent: none, or nobody can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<DeployedVersion>,
    /// The version that ran before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<DeployedVersion>,
    /// What ran here, newest first, at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub history: Vec<HistoryEntry>,
    /// Versions to delete once they no longer run here: their ChatbotVersions are already gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub pending_deletions: Vec<PendingDeletion>,
    /// The change under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_operation: Option<CurrentOperation>,
    /// What failed to become live for this generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_versions: Option<FailedVersions>,
    /// The `rollback-to` command that holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_command: Option<RollbackCommand>,
    /// How often a change by hand was reversed lately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift_corrections: Option<DriftCorrections>,
}

/// Who decided which version should run.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The spec.
    Spec,
    /// The `rollback-to` annotation.
    RollbackCommand,
    /// `onFailure: Previous`.
    AutomaticRollback,
}

/// The version that should run.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Its id.
    pub version_id: String,
    /// Its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_number: Option<String>,
    /// Who says so.
    pub cause: Cause,
    /// Since when it is the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it was first seen running since it is the target; a later departure is drift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached_time: Option<Time>,
}

/// A version that runs or ran.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DeployedVersion {
    /// Its id.
    pub version_id: String,
    /// Its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_number: Option<String>,
    /// Since when it was seen running.
    pub start_time: Time,
}

/// One line of `history`.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// Id of the version.
    pub version_id: String,
    /// Its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_number: Option<String>,
    /// Since when it was seen running.
    pub start_time: Time,
    /// The call that led there; unset where it was found running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
}

/// A version to delete once it no longer runs here.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PendingDeletion {
    /// Its id.
    pub version_id: String,
    /// Name of the ChatbotVersion it belonged to.
    pub name: String,
    /// Since when it waits.
    pub request_time: Time,
}

/// A deploy or rollback under way.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CurrentOperation {
    /// Deploy or Rollback.
    pub operation: Operation,
    /// The version that is to become live.
    pub version_id: String,
    /// When it was decided.
    pub start_time: Time,
    /// When a deploy of this version was first called, if this one repeats it because no usable answer came;
    /// progressDeadline counts from here then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_call_time: Option<Time>,
    /// When the call was answered or given up; progressDeadline counts from here. Unset before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_time: Option<Time>,
    /// How the call ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<OperationResult>,
    /// The version's `deployed` time before the call: a later one shows that the call took effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_deploy_time: Option<MicroTime>,
}

/// Rollouts that failed.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FailedVersions {
    /// The spec's generation.
    pub generation: i64,
    /// The versions that did not become live, newest first.
    #[serde(default)]
    #[schemars(length(max = 10))]
    pub version_ids: Vec<String>,
}

/// A command from the `rollback-to` annotation.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RollbackCommand {
    /// The annotation's value.
    pub value: String,
    /// The generation it was given for; a later one ends it.
    pub generation: i64,
    /// The version it meant when it was given.
    pub version_id: String,
}

/// Changes by hand that were reversed.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DriftCorrections {
    /// How many.
    #[schemars(range(min = 1))]
    pub count: i32,
    /// Since when they are counted.
    pub window_start_time: Time,
}

/// The one of three fields that names the wanted version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionSource<'a> {
    /// A `ChatbotVersion` of the same namespace.
    Ref(&'a str),
    /// An id in the service.
    Id(&'a str),
    /// A number in the service.
    Number(&'a str),
}

impl HistoryEntry {
    /// What it was when it ran.
    #[must_use]
    pub fn to_deployed_version(&self) -> DeployedVersion {
        let Self { version_id, version_number, start_time: since, operation: _ } = self.clone();
        DeployedVersion { version_id, version_number, start_time: since }
    }
}

impl ChatbotDeploymentStatus {
    /// Versions that can wait in `retiring`.
    pub const MAX_PENDING_DELETIONS: usize = 50;
}

impl ChatbotDeploymentSpec {
    /// The field that names the wanted version, or `None` where not exactly one is set.
    #[must_use]
    pub fn version_source(&self) -> Option<VersionSource<'_>> {
        match (&self.version_ref, &self.version_id, &self.version_number) {
            (Some(reference), None, None) => Some(VersionSource::Ref(&reference.name)),
            (None, Some(id), None) => Some(VersionSource::Id(id)),
            (None, None, Some(number)) => Some(VersionSource::Number(number)),
            _ => None,
        }
    }

    /// What is done when a rollout fails.
    #[must_use]
    pub fn on_failure(&self) -> OnFailure {
        self.rollback.as_ref().and_then(|r| r.on_failure).unwrap_or(OnFailure::Never)
    }

    /// The call that goes back.
    #[must_use]
    pub fn rollback_method(&self) -> RollbackMethod {
        self.rollback.as_ref().and_then(|r| r.method).unwrap_or(RollbackMethod::Rollback)
    }
}

impl CurrentOperation {
    /// Whether the call was sent, as far as anybody may assume: its answer, or that there was none, is recorded.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        self.call_time.is_some()
    }
}
