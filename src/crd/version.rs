//! `ChatbotVersion`: an immutable snapshot of a bot, created once in the service.

#![allow(clippy::duplicated_attributes, reason = "columns and rules are attributes of one name")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CommonStatus, CredentialsRef, DeletionPolicy, Environment, LiveEnvironment};

/// What the snapshot is to be. The identity fields never change: a snapshot cannot be taken again.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "chatcaptain.dev",
    version = "v1alpha1",
    kind = "ChatbotVersion",
    namespaced,
    shortname = "cbv",
    category = "chatcaptain",
    status = "ChatbotVersionStatus",
    derive = "PartialEq",
    doc = "An immutable snapshot of a chatbot: created once in the service, deleted with the object.",
    selectable = ".spec.chatbotId",
    selectable = ".spec.environment",
    selectable = ".status.versionId",
    printcolumn(name = "Version", type_ = "string", json_path = ".status.versionNumber"),
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
    printcolumn(name = "Live In", type_ = "string", json_path = ".status.liveIn"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Chatbot", type_ = "string", json_path = ".spec.chatbotId", priority = 1),
    printcolumn(name = "Id", type_ = "string", json_path = ".status.versionId", priority = 1),
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
    validation = Rule::new("self.chatbotId == oldSelf.chatbotId").message("spec.chatbotId is immutable: create a new ChatbotVersion").field_path(".chatbotId"),
    validation = Rule::new("has(self.name) == has(oldSelf.name) && (!has(self.name) || self.name == oldSelf.name)").message("spec.name is immutable: create a new ChatbotVersion"),
    validation = Rule::new("has(self.description) == has(oldSelf.description) && (!has(self.description) || self.description == oldSelf.description)").message("spec.description is immutable: create a new ChatbotVersion"),
    validation = Rule::new("has(self.environment) == has(oldSelf.environment) && (!has(self.environment) || self.environment == oldSelf.environment)").message("spec.environment is immutable: create a new ChatbotVersion")
)]
pub struct ChatbotVersionSpec {
    /// Id of the chatbot in the service. Immutable.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9_-]{1,128}$"))]
    pub chatbot_id: String,
    /// Name of the version in the service. Immutable. Unset: the object's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub name: Option<String>,
    /// Description of the version in the service. Immutable. A line that marks the owner is added to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    pub description: Option<String>,
    /// The environment the version is created for: test and prod also deploy it there, unless a
    /// ChatbotDeployment claims that environment. Immutable. Unset: dev.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// The Secret that holds the API key. Unset: key apiKey of Secret chatcaptain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_ref: Option<CredentialsRef>,
    /// What happens in the service when the object is deleted. Unset: the namespace's annotation, else the operator's flag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// How often the service is looked at, such as 5m. Unset: the operator's flag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20), regex(pattern = r"^([0-9]{1,5}(s|m|h)){1,3}$"))]
    pub interval: Option<String>,
    /// While true nothing is done for this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// What the operator found and did.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ChatbotVersionStatus {
    /// Generation, conditions, calls and backoff.
    #[serde(flatten)]
    pub common: CommonStatus,
    /// Id of the version in the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// Number the service gave it, such as 2.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_number: Option<String>,
    /// Name in the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When the service took the snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_time: Option<Time>,
    /// When the service last deployed it, in whichever environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_deploy_time: Option<Time>,
    /// The environments that run it now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub live_in: Vec<LiveEnvironment>,
    /// Present from before a create until its end is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_create: Option<PendingCreate>,
    /// Other versions with this object's marker, at most 5: nothing refers to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub duplicates: Vec<String>,
    /// The last `recreate` token that was acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_recreate: Option<String>,
}

/// Written before a create is sent, so that whoever comes after a crash knows that one may be out.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PendingCreate {
    /// Random id of this attempt.
    pub attempt_id: String,
    /// When it was written.
    pub start_time: Time,
    /// Ids that bore the same name before: they cannot be what this attempt made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub existing_ids: Vec<String>,
    /// Since when the end of the attempt is unknown and the list is being watched for its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search_start_time: Option<Time>,
}

impl ChatbotVersionStatus {
    /// How many ids `duplicates` keeps.
    pub const MAX_DUPLICATES: usize = 5;
}

impl ChatbotVersion {
    /// Name of the version in the service.
    #[must_use]
    pub fn version_name(&self) -> &str {
        self.spec.name.as_deref().or(self.metadata.name.as_deref()).unwrap_or_default()
    }

    /// Id of the version in the service, once it is known.
    #[must_use]
    pub fn version_id(&self) -> Option<&str> {
        self.status.as_ref()?.version_id.as_deref()
    }
}
