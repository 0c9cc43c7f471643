//! `ChatbotVersion`: an immutable snapshot of a chatbot, created once in the service.

#![allow(clippy::duplicated_attributes, reason = "columns and rules are attributes of one name")]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CommonStatus, CredentialsRef, DeletionPolicy, Environment, LiveEnvironment, MetaDuration};

/// Desired version. What identifies it is immutable, because a snapshot cannot be taken again.
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
    doc = "An immutable snapshot of a chatbot. The operator creates the version in the service once; deleting the object deletes the version unless deletionPolicy is Retain.",
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
    // an array is printed as JSON and `[*]` as its first element, so that each environment has a column
    printcolumn(name = "Test", type_ = "string", json_path = r#".status.liveIn[?(@=="test")]"#),
    printcolumn(name = "Prod", type_ = "string", json_path = r#".status.liveIn[?(@=="prod")]"#),
    printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspend"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Chatbot", type_ = "string", json_path = ".spec.chatbotId", priority = 1),
    printcolumn(name = "Model", type_ = "string", json_path = ".status.modelId", priority = 1),
    printcolumn(name = "Id", type_ = "string", json_path = ".status.versionId", priority = 1),
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
    /// Name of the version in the service. Immutable. Defaults to the name of this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub name: Option<String>,
    /// Description of the version in the service, at most 1000 characters. Immutable. The operator appends a line that
    /// identifies this object as the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    pub description: Option<String>,
    /// Environment to create the version for. With test or prod, creating this object also deploys the version there,
    /// replacing the one that is live, unless a ChatbotDeployment claims that environment. Immutable. Defaults to dev.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// Secret that holds the API key. When unset, the Secret chatcaptain is used: its key that is named like the chatbot, else
    /// its key apiKey.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_ref: Option<CredentialsRef>,
    /// What happens to the version in the service when this object is deleted. When unset, the annotation
    /// chatcaptain.dev/deletion-policy of the namespace applies, else the operator's --deletion-policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// How often the operator checks the service for this object, in hours, minutes and seconds, for example 5m or
    /// 1h30m. When unset, the operator's --interval applies. A value below the operator's --min-interval is raised to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<MetaDuration>,
    /// Whether to stop all work on this object. The conditions stay as they are; deleting the object while it is
    /// suspended keeps the version in the service. Defaults to false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// Observed state, written by the operator.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ChatbotVersionStatus {
    /// What both kinds have.
    #[serde(flatten)]
    pub common: CommonStatus,
    /// Id of the version in the service. Absent until the version exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// Number of the version in the service, for example 2.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_number: Option<String>,
    /// Name of the version as the service lists it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Time at which the service took the snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_time: Option<Time>,
    /// Time at which the service last deployed the version, to any environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_deploy_time: Option<Time>,
    /// Id of the model that the version was made of, as the service first listed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_id: Option<String>,
    /// Figures of the version, such as its number of intents, as the service first listed them; at most 16.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub stats: BTreeMap<String, f64>,
    /// Environments that run the version, as last observed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub live_in: Vec<LiveEnvironment>,
    /// Create request whose result is not recorded yet. It is written before the request is sent, so that a restarted
    /// operator searches the service before it sends another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_create: Option<PendingCreate>,
    /// Ids of further versions that name this object as their owner, at most 5. They are unused; delete them in the
    /// service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub duplicates: Vec<String>,
    /// Value of the annotation chatcaptain.dev/recreate that was handled last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_recreate: Option<String>,
}

/// A create request that may have been sent.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PendingCreate {
    /// Random id of this attempt; only the process that wrote it sends the request.
    pub attempt_id: String,
    /// Time at which the attempt was recorded, before the request is sent.
    pub start_time: Time,
    /// Ids of the versions with the same name that existed before the attempt, at most 50. The attempt did not create
    /// them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub existing_ids: Vec<String>,
    /// Id that the answer to the request names. It is a hint: the id of the version is recorded once the service lists it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// Time since which the result of the request is unknown and the operator searches the service for its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search_start_time: Option<Time>,
}

impl ChatbotVersionStatus {
    /// How many ids `duplicates` keeps.
    pub const MAX_DUPLICATES: usize = 5;
}

impl ChatbotVersion {
    /// What the version is created for; the default applied.
    #[must_use]
    pub fn environment(&self) -> Environment {
        self.spec.environment.unwrap_or(Environment::Dev)
    }

    /// Name of the version in the service; the default applied.
    #[must_use]
    pub fn version_name(&self) -> &str {
        self.spec.name.as_deref().or(self.metadata.name.as_deref()).unwrap_or_default()
    }

    /// Id of the version in the service; `None` until it is recorded.
    #[must_use]
    pub fn version_id(&self) -> Option<&str> {
        self.status.as_ref()?.version_id.as_deref()
    }
}
