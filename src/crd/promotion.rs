//! How a `ChatbotDeployment` moves forward: whose version it takes over, and what stands before that.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LocalObjectReference, MetaDuration};

/// What a version has to have passed before it is deployed. Each condition is about one version, so none outlives it.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PromoteAfter {
    /// ChatbotDeployment in the same namespace that must be Ready on the version first. When unset, the one that
    /// spec.follow names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_ref: Option<LocalObjectReference>,
    /// How long that ChatbotDeployment must have been Ready on the version, in hours, minutes and seconds, for example 30m.
    /// When unset, it only has to be Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soak: Option<MetaDuration>,
    /// Whether the annotation chatcaptain.dev/verified of that ChatbotDeployment must name the version. Defaults to false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<bool>,
    /// Whether the annotation chatcaptain.dev/approved of this object must name the version. Defaults to false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved: Option<bool>,
}

/// A time during which versions may be deployed, again and again.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseWindow {
    /// When the window opens: minute, hour, day of month, month and day of week, as crontab has them, for example
    /// 0 9 * * 1-5.
    #[schemars(length(min = 9, max = 100), regex(pattern = r"^[0-9A-Za-z*/,#?-]+( [0-9A-Za-z*/,#?-]+){4}$"))]
    pub schedule: String,
    /// How long the window stays open, in hours, minutes and seconds, for example 8h.
    pub duration: MetaDuration,
    /// Time zone of the schedule, by its name in the IANA database, for example Europe/Berlin. Defaults to UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_+/-]+$"))]
    pub time_zone: Option<String>,
}

/// Whose version to run.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Follow {
    /// ChatbotDeployment in the same namespace. The version that it runs is taken over each time that it is Ready on one.
    pub deployment_ref: LocalObjectReference,
}

/// The version of another ChatbotDeployment.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FollowedVersion {
    /// Name of the ChatbotDeployment.
    pub name: String,
    /// Id of the version in the service.
    pub version_id: String,
    /// Number of the version in the service, for example 2.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_number: Option<String>,
}
