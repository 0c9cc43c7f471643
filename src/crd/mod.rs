//! The API: both kinds, what they share, and their CRDs as YAML.
//!
//! Nothing here is async, reads a clock or knows the service.

mod common;
mod condition;
mod deployment;
mod description;
mod duration;
mod promotion;
mod version;

pub use common::{
    CommonStatus, CredentialsRef, DeletionPolicy, Environment, LiveEnvironment, Operation, OperationRecord,
    OperationResult, Retry, parse_duration,
};
pub use condition::{ConditionType, MAX_CONDITIONS, Reason, Verdict, build_conditions};
pub use deployment::{
    Cause, ChatbotDeployment, ChatbotDeploymentSpec, ChatbotDeploymentStatus, CurrentOperation,
    DeployedVersion, DriftCorrections, DriftPolicy, FailedVersions, HistoryEntry, LocalObjectReference,
    OnFailure, PendingDeletion, RollbackCommand, RollbackMethod, RollbackPolicy, Target, VersionSource,
    WaitingForVersion,
};
pub use duration::MetaDuration;
pub use promotion::{Follow, FollowedVersion, PromoteAfter, ReleaseWindow};
pub use version::{ChatbotVersion, ChatbotVersionSpec, ChatbotVersionStatus, PendingCreate};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps,
};
use kube::CustomResourceExt;
use schemars::JsonSchema;

/// API group of both kinds.
pub const GROUP: &str = "chatcaptain.dev";

/// Finalizer on versions, and on deployments that still have a version to delete.
pub const FINALIZER: &str = "chatcaptain.dev/finalizer";

/// Commands and settings that are annotations, so that they need no change in git.
pub mod annotation {
    macro_rules! annotations {
        ($($(#[doc = $doc:literal])+ $constant:ident = $name:literal;)+) => {
            $($(#[doc = $doc])+ pub const $constant: &str = concat!("chatcaptain.dev/", $name);)+

            /// Every annotation and what it means, for the reference table.
            pub const ALL: &[(&str, &str)] = &[$(($constant, concat!($($doc),+))),+];
        };
    }

    annotations! {
        /// Any new value: check the service now, past any backoff, and retry what was given up. Its first 256 characters are echoed in `status.lastHandledReconcileAt` once the service has answered.
        RECONCILE_REQUESTED_AT = "reconcile-requested-at";
        /// On a ChatbotVersion: id of an existing version to adopt instead of creating one.
        ADOPT_ID = "adopt-id";
        /// On a ChatbotVersion, any new value: create the version again although it was lost, or although one of that name exists.
        RECREATE = "recreate";
        /// On an object that is being deleted, any value: remove the finalizer at once. The version stays in the service; an event, a metric and the log record its id.
        FORCE_ORPHAN = "force-orphan";
        /// On a ChatbotDeployment: roll back to `previous` (what ran before the version of the spec), to the ChatbotVersion of this name, or to the version with this id or number. Holds until the spec names another version; then the operator removes the annotation, as it does with one that names no version.
        ROLLBACK_TO = "rollback-to";
        /// On a ChatbotDeployment: its version (id, number, or name of the ChatbotVersion) has passed its tests; for those whose `spec.promoteAfter.verified` is true. Remove it to revoke that.
        VERIFIED = "verified";
        /// On a ChatbotDeployment whose `spec.promoteAfter.approved` is true: the version (id, number, or name of the ChatbotVersion) that may be deployed. Remove it to revoke that.
        APPROVED = "approved";
        /// On a namespace, any value: no ChatbotDeployment in it moves forward. The value says why. Rollbacks and corrections of drift go on.
        FREEZE = "freeze";
        /// On a namespace: `Delete` or `Retain`, for the ChatbotVersions in it that do not set `spec.deletionPolicy`. Any other value keeps the versions, and an event reports it.
        DELETION_POLICY = "deletion-policy";
    }
}

/// Helm, Argo CD and Flux keep what has these, when the installation that it came with is removed: every object goes with
/// its CRD.
const KEEP: [(&str, &str); 3] = [
    ("argocd.argoproj.io/sync-options", "Delete=false,Prune=false"),
    ("helm.sh/resource-policy", "keep"),
    ("kustomize.toolkit.fluxcd.io/prune", "disabled"),
];

/// Both CRDs, as `chatcaptain-operator crds` prints them.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![definition::<ChatbotVersion>(), definition::<ChatbotDeployment>()]
}

/// What kube derives, with the descriptions of the fields and a default for `status`.
fn definition<K: CustomResourceExt + JsonSchema>() -> CustomResourceDefinition {
    let mut crd = K::crd();
    crd.metadata.annotations = Some(KEEP.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    let versions = crd.spec.versions.iter_mut();
    for schema in versions.filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut()) {
        description::describe::<K>(schema);
        default_status(schema);
    }
    crd
}

/// Defaults `status` to `{observedGeneration: -1}`: without it kstatus takes an object that the
/// operator has not reconciled yet for done (kstatus, "the status of a resource without status is Current").
fn default_status(schema: &mut JSONSchemaProps) {
    if let Some(status) = schema.properties.as_mut().and_then(|properties| properties.get_mut("status")) {
        status.default = Some(JSON(serde_json::json!({"observedGeneration": -1})));
        status.nullable = None;
    }
}

/// A CRD as one YAML document.
///
/// # Errors
/// When the document cannot be written, which would be a bug in the YAML library.
pub fn yaml(crd: &CustomResourceDefinition) -> Result<String, serde_saphyr::ser::Error> {
    Ok(format!("---\n{}", serde_saphyr::to_string(crd)?))
}
