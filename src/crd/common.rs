//! What both kinds share: references, policies, durations and the common part of status.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConditionType;

/// Where a version is meant to run.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// The bot's own working place: nothing is deployed.
    Dev,
    /// The test environment.
    Test,
    /// The production environment.
    Prod,
}

/// An environment that runs one version at a time.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum LiveEnvironment {
    /// The test environment.
    Test,
    /// The production environment.
    Prod,
}

impl LiveEnvironment {
    /// Both, in the order in which a version travels.
    pub const ALL: [Self; 2] = [Self::Test, Self::Prod];

    /// The value in manifests and in the service's API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Prod => "prod",
        }
    }
}

impl Environment {
    /// The value in manifests and in the service's API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Test => "test",
            Self::Prod => "prod",
        }
    }

    /// The environment that a create for this value also deploys to.
    #[must_use]
    pub fn deploys_to(self) -> Option<LiveEnvironment> {
        match self {
            Self::Dev => None,
            Self::Test => Some(LiveEnvironment::Test),
            Self::Prod => Some(LiveEnvironment::Prod),
        }
    }
}

/// What happens in the service when a `ChatbotVersion` is deleted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// The version is deleted, unless it is live.
    Delete,
    /// The version stays.
    Retain,
}

impl DeletionPolicy {
    /// What a deletion means: the object says so, or its namespace, or the flag. What cannot be understood is Retain: a
    /// version that is deleted by mistake cannot be had again.
    #[must_use]
    pub fn of(object: Option<Self>, namespace: Option<&str>, flag: Self) -> Self {
        let namespace = namespace.map(|text| text.parse().unwrap_or(Self::Retain));
        object.or(namespace).unwrap_or(flag)
    }
}

impl std::str::FromStr for DeletionPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "Delete" => Ok(Self::Delete),
            "Retain" => Ok(Self::Retain),
            _ => Err("expected Delete or Retain".to_owned()),
        }
    }
}

/// The Secret, in the object's own namespace, that holds the API key.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialsRef {
    /// Name of the Secret. Unset: `chatcaptain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,
    /// Key in the Secret's data. Unset: `apiKey`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub key: Option<String>,
}

impl CredentialsRef {
    /// Name of the Secret.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("chatcaptain")
    }

    /// Key in the Secret's data.
    #[must_use]
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or("apiKey")
    }
}

/// A call that changes the service.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A version was to be created.
    Create,
    /// An existing version was taken over; no call was needed.
    Adopt,
    /// A version was to be deleted.
    Delete,
    /// A version was to become live.
    Deploy,
    /// A version that ran before was to become live again.
    Rollback,
}

/// How a call ended, as far as its answer tells.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationResult {
    /// The service accepted it.
    Accepted,
    /// The service refused it: nothing happened.
    Refused,
    /// No usable answer came: it may have happened.
    Unknown,
}

/// One line of `lastOperations`.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct OperationRecord {
    /// What was called.
    pub operation: Operation,
    /// On which version, where one was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// When.
    pub completion_time: Time,
    /// How it ended.
    pub result: OperationResult,
    /// What the service said, where it refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Backoff, kept here so that a restart neither resets nor repeats it.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Failures in a row.
    #[schemars(range(min = 1))]
    pub failures: i32,
    /// Nothing is changed in the service before this time.
    pub next_attempt_time: Time,
}

/// The part of status that both kinds have.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CommonStatus {
    /// The generation that the conditions speak of; -1 until the operator has seen the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready` always; `Reconciling` and `Stalled` only while True, and never both.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
    /// The last `reconcile-requested-at` token that was acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// The last 10 calls that changed the service, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub last_operations: Vec<OperationRecord>,
    /// Present while something failed and is to be tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

impl CommonStatus {
    /// How many calls `lastOperations` keeps.
    pub const MAX_OPERATIONS: usize = 10;

    /// Whether a condition is True.
    #[must_use]
    pub fn is_true(&self, kind: ConditionType) -> bool {
        self.conditions.iter().any(|c| c.type_ == kind.as_str() && c.status == "True")
    }

    /// Puts one call on record.
    pub fn push_operation(&mut self, record: OperationRecord) {
        self.last_operations.insert(0, record);
        self.last_operations.truncate(Self::MAX_OPERATIONS);
    }
}

/// Reads a duration such as `30s`, `5m` or `1h30m`.
///
/// # Errors
/// One line that says what is accepted.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let accepted = || "expected a number with its unit, such as 30s, 5m or 1h30m".to_owned();
    let signed: jiff::SignedDuration = text.parse().map_err(|_| accepted())?;
    Duration::try_from(signed).map_err(|_| accepted())
}
