//! What both kinds share: references, policies, durations and the common part of status.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConditionType, MAX_CONDITIONS};

/// What a version is created for.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Create the version without deploying it.
    Dev,
    /// Create the version and deploy it to the test environment.
    Test,
    /// Create the version and deploy it to the production environment.
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
    /// Delete the version. A live version is kept; so is one that a ChatbotDeployment needs, and that one deletes it
    /// once it needs it no longer.
    Delete,
    /// Keep the version.
    Retain,
}

impl DeletionPolicy {
    /// The policy that applies: that of the object, else of its namespace, else of the flag. A value that cannot be parsed
    /// is Retain: a version that is deleted by mistake cannot be restored.
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

/// The names that Kubernetes gives objects: DNS subdomains, as in RFC 1123.
pub(super) const OBJECT_NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// A Secret in the object's own namespace, and a key in it.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialsRef {
    /// Name of the Secret, which is in the namespace of this object. Defaults to chatcaptain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: Option<String>,
    /// Key in the Secret's data whose value is the API key. When unset, the key that is named like the chatbot, else apiKey.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: Option<String>,
}

impl CredentialsRef {
    /// Name of the Secret; the default applied.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("chatcaptain")
    }

    /// Keys in the Secret's data, of which the first that is there counts; the default applied: one of the chatbot's own comes
    /// before the one of all.
    #[must_use]
    pub fn keys(&self, chatbot: &str) -> Vec<String> {
        match &self.key {
            Some(key) => vec![key.clone()],
            None => vec![chatbot.to_owned(), "apiKey".to_owned()],
        }
    }
}

/// A request that changes the service, or an adoption in its place.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Create a version.
    Create,
    /// Record an existing version as that of the object; no request is sent.
    Adopt,
    /// Delete a version.
    Delete,
    /// Make a version live.
    Deploy,
    /// Make a version that ran before live again, with the rollback request of the service.
    Rollback,
}

/// How a request ended, as far as its answer shows.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationResult {
    /// The service accepted the request.
    Accepted,
    /// The request had no effect: the service rejected it, or it was never sent.
    Refused,
    /// No usable answer arrived; the request may have taken effect.
    Unknown,
}

/// An entry of `lastOperations`.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct OperationRecord {
    /// What the operator did.
    pub operation: Operation,
    /// Id of the version concerned. Absent for a create that returned no id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// Time at which the request was answered or given up.
    pub completion_time: Time,
    /// How the request ended.
    pub result: OperationResult,
    /// Error of a request that was not accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Backoff, kept in status so that a restart does not reset it.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Number of consecutive failures.
    #[schemars(range(min = 1))]
    pub failures: i32,
    /// Time before which the operator does not repeat the request that failed. A new generation of the spec, or a new
    /// value of the annotation chatcaptain.dev/reconcile-requested-at, ends the wait.
    pub next_attempt_time: Time,
}

/// The part of status that both kinds have.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CommonStatus {
    /// Generation of the spec that the conditions describe; -1 until the operator has reconciled the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Chatbot that this status is about. Nothing is requested for an object whose spec names another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chatbot_id: Option<String>,
    /// Environment that this status is about: dev, test or prod. Nothing is requested for an object whose spec names
    /// another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// State of the object. Ready is always present; Reconciling and Stalled are present only while True, and never both.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = MAX_CONDITIONS))]
    pub conditions: Vec<Condition>,
    /// Value of the annotation chatcaptain.dev/reconcile-requested-at that was handled last, cut to 256 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// The last 10 requests to change the service, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub last_operations: Vec<OperationRecord>,
    /// Backoff of a request that failed: of the create or delete, or of the rollout to the current target. Absent when
    /// nothing waits to be retried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

impl CommonStatus {
    /// How many entries `lastOperations` keeps.
    pub const MAX_OPERATIONS: usize = 10;

    /// Whether a condition is True.
    #[must_use]
    pub fn is_true(&self, kind: ConditionType) -> bool {
        self.conditions.iter().any(|c| c.type_ == kind.as_str() && c.status == "True")
    }

    /// Keeps, from the first time on, what the status is about.
    pub fn record_subject(&mut self, chatbot: &str, environment: &str) {
        self.chatbot_id.get_or_insert_with(|| chatbot.to_owned());
        self.environment.get_or_insert_with(|| environment.to_owned());
    }

    /// Why a spec with these values is not the one that the status is about. The CRDs have rules for it, but not every
    /// cluster enforces them, and a request for the other chatbot would be one for the wrong version.
    #[must_use]
    pub fn contradiction(&self, chatbot: &str, environment: &str) -> Option<String> {
        let fields =
            [("chatbotId", &self.chatbot_id, chatbot), ("environment", &self.environment, environment)];
        fields.into_iter().find_map(|(field, recorded, now)| {
            let recorded = recorded.as_deref().filter(|recorded| *recorded != now)?;
            Some(format!("spec.{field} is immutable, and was changed from {recorded} to {now}"))
        })
    }

    /// Adds an entry to `lastOperations`.
    pub fn push_operation(&mut self, record: OperationRecord) {
        self.last_operations.insert(0, record);
        self.last_operations.truncate(Self::MAX_OPERATIONS);
    }
}

/// Parses the duration of a command line flag, such as `30s`, `5m` or `1h30m`. Manifests have [`super::MetaDuration`].
///
/// # Errors
/// One line that says what is accepted.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let accepted = || "expected a number with its unit, such as 30s, 5m or 1h30m".to_owned();
    let signed: jiff::SignedDuration = text.parse().map_err(|_| accepted())?;
    Duration::try_from(signed).map_err(|_| accepted())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use DeletionPolicy::{Delete, Retain};

    use super::*;

    #[test]
    fn deletion_policy_of_the_object_comes_before_namespace_and_flag() {
        assert_eq!(DeletionPolicy::of(Some(Delete), Some("Retain"), Retain), Delete);
        assert_eq!(DeletionPolicy::of(None, Some("Delete"), Retain), Delete);
        assert_eq!(DeletionPolicy::of(None, None, Delete), Delete);
        assert_eq!(DeletionPolicy::of(None, None, Retain), Retain);
    }

    #[test]
    fn deletion_policy_that_cannot_be_read_retains() {
        for text in ["delete", "Delete ", ""] {
            assert_eq!(DeletionPolicy::of(None, Some(text), Delete), Retain, "{text:?}");
        }
        assert_eq!(DeletionPolicy::of(Some(Delete), Some("delete"), Retain), Delete);
    }

    #[test]
    fn status_is_about_one_environment_of_one_chatbot() {
        let mut status = CommonStatus::default();
        assert_eq!(status.contradiction("bot", "test"), None);
        status.record_subject("bot", "test");
        status.record_subject("other", "prod");
        assert_eq!(status.contradiction("bot", "test"), None);
        let changed = |chatbot, environment| status.contradiction(chatbot, environment).unwrap();
        assert_eq!(
            changed("other", "test"),
            "spec.chatbotId is immutable, and was changed from bot to other"
        );
        assert!(changed("bot", "prod").contains("spec.environment"));
    }

    #[test]
    fn last_operations_keeps_the_newest() {
        let mut status = CommonStatus::default();
        for second in 1..=12 {
            status.push_operation(OperationRecord {
                operation: Operation::Deploy,
                version_id: None,
                completion_time: Time(jiff::Timestamp::from_second(second).unwrap()),
                result: OperationResult::Accepted,
                message: None,
            });
        }
        let seconds: Vec<i64> =
            status.last_operations.iter().map(|record| record.completion_time.0.as_second()).collect();
        assert_eq!(seconds, (3..=12).rev().collect::<Vec<_>>());
    }

    #[test]
    fn flags_take_more_durations_than_manifests() {
        for (text, milliseconds) in [("5m", 300_000), ("1500ms", 1500), ("1h 30m", 5_400_000), ("0s", 0)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "5", "-5m", "5 parsecs"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
