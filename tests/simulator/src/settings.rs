//! Every switch of the simulator. The defaults are the friendliest service.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::faults::Fault;

/// What varies between services. As JSON the names are camelCase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// The body a create answers with.
    pub create_answer: CreateAnswer,
    /// The status a create answers with: 200 or 201.
    pub create_status: u16,
    /// The word that a create for no deployment needs; the other one is refused.
    pub no_deployment: NoDeployment,
    /// The body a deploy answers with.
    pub deploy_answer: DeployAnswer,
    /// The status a deploy answers with: 200, 201 or 202.
    pub deploy_status: u16,
    /// Which body a rollback accepts.
    pub rollback_body: RollbackBody,
    /// What a rollback acts on.
    pub rollback_acts: RollbackActs,
    /// Whether the rollback route exists.
    pub rollback_available: bool,
    /// What a rollback answers while the route does not exist: 404 or 405.
    pub rollback_missing_status: u16,
    /// Whether a refused operation is an HTTP error or a 200 that says so.
    pub failures_as: FailuresAs,
    /// How many milliseconds after its creation the list shows a version.
    pub list_delay_ms: u64,
    /// How many versions the list shows, the newest; without it all of them.
    pub list_limit: Option<usize>,
    /// How many seconds the service's clock is ahead of ours; below zero it is behind.
    pub clock_offset_seconds: i64,
    /// Whether the deployment status can be read.
    pub deployments_status: DeploymentsStatus,
    /// Whether a version that is live may be deleted.
    pub delete_live: DeleteLive,
    /// How descriptions come back.
    pub descriptions: Descriptions,
    /// The description of one more entry at the end of each list, which has no id.
    pub entry_without_id: Option<String>,
    /// The form of `created` and `deployed`.
    pub times: Times,
    /// The type of `versionNumber`, and of `version` in the deployment status.
    pub version_numbers: VersionNumbers,
    /// Whether versions carry `deployed`.
    pub deployed_field: FieldShown,
    /// Whether versions carry `versionNumber`.
    pub version_number_field: FieldShown,
    /// By the name of a version: its `modelId` and `stats`, of whatever type. Without an entry these are `model-1` and `{}`.
    pub contents: BTreeMap<String, Contents>,
    /// How an unknown version id is answered.
    pub unknown_id: UnknownId,
    /// What happens to chatbots nobody has registered.
    pub unknown_chatbots: UnknownChatbots,
    /// The chatbots that are registered, next to those that already have versions.
    pub chatbots: Vec<String>,
    /// How long every call waits before it is looked at.
    pub latency_ms: u64,
    /// How long after its acceptance a deploy is live.
    pub rollout_ms: u64,
    /// Whether accepted deploys become live at all.
    pub rollout: Rollout,
    /// Names or ids of versions that never become live.
    pub failing_rollouts: Vec<String>,
    /// What a rollout that never becomes live makes of what was.
    pub failed_rollout: FailedRollout,
    /// The rate limit of each key, and how a throttled call is answered.
    pub throttle: Option<Throttle>,
    /// A command: throttles every call for so long from now on, then reads 0 again.
    pub throttle_for_ms: u64,
    /// The number of seconds in `Retry-After`.
    pub retry_after_seconds: u64,
    /// The keys that are accepted; without them any key that starts with `CCSB-`.
    pub keys: Option<BTreeMap<String, Key>>,
    /// By chatbot: the permissions that every key lacks there.
    pub denied: BTreeMap<String, Vec<Permission>>,
    /// The status for an absent or unknown key: 401 or 403.
    pub refused_key: u16,
    /// What goes wrong on the way. The first fault that fits a call strikes.
    pub faults: Vec<Fault>,
    /// Where the randomness of ids and probabilities starts.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            create_answer: CreateAnswer::Wrapped,
            create_status: 200,
            no_deployment: NoDeployment::Dev,
            deploy_answer: DeployAnswer::Detail,
            deploy_status: 200,
            rollback_body: RollbackBody::Environment,
            rollback_acts: RollbackActs::Environment,
            rollback_available: true,
            rollback_missing_status: 404,
            failures_as: FailuresAs::Http,
            list_delay_ms: 0,
            list_limit: None,
            clock_offset_seconds: 0,
            deployments_status: DeploymentsStatus::Allowed,
            delete_live: DeleteLive::Refused,
            descriptions: Descriptions::AsSent,
            entry_without_id: None,
            times: Times::Rfc3339,
            version_numbers: VersionNumbers::Strings,
            deployed_field: FieldShown::Shown,
            version_number_field: FieldShown::Shown,
            contents: BTreeMap::new(),
            unknown_id: UnknownId::NotFound,
            unknown_chatbots: UnknownChatbots::Accept,
            chatbots: Vec::new(),
            latency_ms: 0,
            rollout_ms: 0,
            rollout: Rollout::Succeeds,
            failing_rollouts: Vec::new(),
            failed_rollout: FailedRollout::Harmless,
            throttle: None,
            throttle_for_ms: 0,
            retry_after_seconds: 1,
            keys: None,
            denied: BTreeMap::new(),
            refused_key: 401,
            faults: Vec::new(),
            seed: 0,
        }
    }
}

/// The body a create answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CreateAnswer {
    /// `{"version": {…}}`
    Wrapped,
    /// The version itself.
    Bare,
    /// `{"versionId": "…"}`
    VersionId,
    /// `{"id": "…"}`
    Id,
    /// No body.
    Empty,
    /// Other objects, each with an id of its own: `{"id": "mdl-1", "model": {"id": "mdl-1"}, …}`
    OtherIds,
    /// `{"version": {"id": "…"}}` with the id of the chatbot's oldest version.
    OldestVersion,
}

/// The word for no deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NoDeployment {
    /// `dev`
    Dev,
    /// `none`
    None,
}

/// The body a deploy answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeployAnswer {
    /// No body.
    Empty,
    /// `{}`
    Object,
    /// An object that tells about the deployment.
    Detail,
}

/// Which body a rollback accepts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RollbackBody {
    /// `environment` is accepted and may be left out; any other property is refused.
    Environment,
    /// Any property is refused.
    None,
    /// This property must be there; `environment` is accepted too.
    Requires(String),
}

/// What a rollback acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RollbackActs {
    /// The version becomes live: where the body says, else wherever it was live before.
    Environment,
    /// Only the working copy changes; what is live stays.
    WorkingCopy,
}

/// How an operation that was refused is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FailuresAs {
    /// With an HTTP error.
    Http,
    /// With 200 and `error`, `deleted: false` or `rolledBack: false`.
    Ok,
}

/// Whether the deployment status can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeploymentsStatus {
    /// It can.
    Allowed,
    /// 403.
    Forbidden,
    /// 404, as if there were no such route.
    Missing,
}

/// Whether a version that is live may be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeleteLive {
    /// No: 409 or `deleted: false`.
    Refused,
    /// Yes; nothing is live there afterwards.
    Accepted,
}

/// How descriptions come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Descriptions {
    /// As they were sent.
    AsSent,
    /// Not at all.
    Missing,
    /// Only so many of their first characters.
    Cut(usize),
    /// In one line: line breaks are blanks, and there are none at the ends.
    OneLine,
}

/// The form of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Times {
    /// A string.
    Rfc3339,
    /// Unix time in milliseconds.
    Millis,
    /// `{"_seconds": …, "_nanoseconds": …}`
    Object,
}

/// The type of a version number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VersionNumbers {
    /// Strings.
    Strings,
    /// JSON numbers.
    Numbers,
}

/// Whether a field is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FieldShown {
    /// It is there.
    Shown,
    /// It is never there.
    Missing,
}

/// What a version consists of. A field that is absent is not shown.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Contents {
    /// `modelId`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_id: Option<Value>,
    /// `stats`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<Value>,
}

/// How an unknown version id is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum UnknownId {
    /// 404.
    NotFound,
    /// 400.
    BadRequest,
    /// 200 with `error`.
    Ok,
}

/// What happens to chatbots nobody has registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum UnknownChatbots {
    /// They exist from their first use on.
    Accept,
    /// 404.
    Refuse,
}

/// Whether accepted deploys become live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Rollout {
    /// After `rolloutMs`.
    Succeeds,
    /// Never.
    Fails,
}

/// What a rollout that never becomes live makes of what was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FailedRollout {
    /// It stays live.
    Harmless,
    /// It is gone: from its acceptance on nothing is live there.
    Emptying,
}

/// The rate limit of each key, and how throttled calls are answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Throttle {
    /// 429, or 403 or 503 with a text about throttling.
    pub answer: u16,
    /// The form of `Retry-After`.
    pub retry_after: RetryAfter,
    /// Calls per second of one key; without it there is no limit.
    pub per_second: Option<f64>,
    /// Calls at once of one key.
    pub burst: u32,
}

impl Default for Throttle {
    fn default() -> Self {
        Self { answer: 429, retry_after: RetryAfter::Seconds, per_second: None, burst: 1 }
    }
}

/// The form of the header `Retry-After`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RetryAfter {
    /// The header is absent.
    None,
    /// A number of seconds.
    Seconds,
    /// A date.
    Date,
}

/// What one key may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Key {
    /// The account it belongs to; accounts do not see each other's chatbots.
    pub account: String,
    /// Its permissions; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Vec<Permission>>,
}

/// A permission of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Permission {
    /// List versions.
    #[serde(rename = "chatbots.versions.list")]
    List,
    /// Create a version.
    #[serde(rename = "chatbots.versions.create")]
    Create,
    /// Delete a version.
    #[serde(rename = "chatbots.versions.delete")]
    Delete,
    /// Deploy a version, and roll back to one.
    #[serde(rename = "chatbots.versions.deploy")]
    Deploy,
    /// Read the deployment status.
    #[serde(rename = "chatbots.deployments.status")]
    Status,
}
