//! The API: both kinds, their shared words, and the CRDs as YAML.
//!
//! Nothing here is async, reads a clock or knows the service.

mod common;
mod condition;
mod deployment;
mod version;

pub use common::{
    CommonStatus, CredentialsRef, DeletionPolicy, Environment, LiveEnvironment, Operation, OperationRecord,
    OperationResult, Retry, parse_duration,
};
pub use condition::{ConditionType, Reason, Verdict, build_conditions};
pub use deployment::{
    Cause, ChatbotDeployment, ChatbotDeploymentSpec, ChatbotDeploymentStatus, CurrentOperation,
    DeployedVersion, DriftCorrections, DriftPolicy, FailedVersions, HistoryEntry, LocalObjectReference,
    OnFailure, PendingDeletion, PromoteAfter, RollbackCommand, RollbackMethod, RollbackPolicy, Target,
    VersionSource,
};
pub use version::{ChatbotVersion, ChatbotVersionSpec, ChatbotVersionStatus, PendingCreate};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSON};
use kube::CustomResourceExt;

/// API group of both kinds.
pub const GROUP: &str = "chatcaptain.dev";

/// Finalizer on versions, and on deployments that still have a version to delete.
pub const FINALIZER: &str = "chatcaptain.dev/finalizer";

/// Commands and settings that live in annotations, because git does not hold them.
pub mod annotation {
    macro_rules! annotations {
        ($($(#[doc = $doc:literal])+ $constant:ident = $name:literal;)+) => {
            $($(#[doc = $doc])+ pub const $constant: &str = concat!("chatcaptain.dev/", $name);)+

            /// Every annotation and what it means, for the README's table.
            pub const ALL: &[(&str, &str)] = &[$(($constant, concat!($($doc),+))),+];
        };
    }

    annotations! {
        /// Any token: look now, past any backoff, and try again what was given up; echoed in `status.lastHandledReconcileAt`.
        RECONCILE_REQUESTED_AT = "reconcile-requested-at";
        /// On a version: id of an existing version that it takes over instead of creating one.
        ADOPT_ID = "adopt-id";
        /// On a version, any new token: create again although the version was lost, or although one of that name exists.
        RECREATE = "recreate";
        /// On an object that is being deleted, any value: let it go at once and leave its version behind, on record.
        FORCE_ORPHAN = "force-orphan";
        /// On a deployment: `previous`, a ChatbotVersion's name or a version id; holds until the spec changes.
        ROLLBACK_TO = "rollback-to";
        /// On a namespace: `Delete` or `Retain` for the versions in it that do not say so themselves; anything else keeps them, on record.
        DELETION_POLICY = "deletion-policy";
    }
}

/// Both CRDs, as they are served by `chatcaptain-operator crds`.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![with_status_default(ChatbotVersion::crd()), with_status_default(ChatbotDeployment::crd())]
}

/// Defaults `status` to `{observedGeneration: -1}`: without it kstatus takes an object that the
/// operator has not seen yet for done (kstatus, "the status of a resource without status is Current").
fn with_status_default(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        let properties = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut())
            .and_then(|schema| schema.properties.as_mut());
        if let Some(status) = properties.and_then(|properties| properties.get_mut("status")) {
            status.default = Some(JSON(serde_json::json!({"observedGeneration": -1})));
            status.nullable = None;
        }
    }
    crd
}

/// A CRD as one YAML document.
///
/// # Errors
/// When the document cannot be written, which would be a bug in the YAML library.
pub fn yaml(crd: &CustomResourceDefinition) -> Result<String, serde_saphyr::ser::Error> {
    Ok(format!("---\n{}", serde_saphyr::to_string(crd)?))
}
