//! Which of several objects holds a claim: to an environment, to a version, to the next create.
//!
//! One rule for all of them: the older object wins, and of two that were created within one second the one with the
//! smaller uid. Every replica and every restart comes to the same answer, because it depends on the objects alone.

use std::{collections::HashSet, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{PlanConfig, annotation_value, deployment::possibly_live};
use crate::crd::{
    ChatbotDeployment, ChatbotDeploymentStatus, ChatbotVersion, DeletionPolicy, LiveEnvironment,
    VersionSource, annotation,
};

/// Whether `a` wins a claim against `b`.
#[must_use]
pub fn is_older(a: &ObjectMeta, b: &ObjectMeta) -> bool {
    let key = |meta: &ObjectMeta| (meta.creation_timestamp.as_ref().map(|t| t.0), meta.uid.clone());
    key(a) < key(b)
}

/// The deployment that manages an environment: the oldest of those that claim it and are not being deleted.
#[must_use]
pub fn environment_owner(
    deployments: Vec<Arc<ChatbotDeployment>>,
    chatbot: &str,
    environment: LiveEnvironment,
) -> Option<Arc<ChatbotDeployment>> {
    deployments
        .into_iter()
        .filter(|d| d.spec.chatbot_id == chatbot && d.spec.environment == environment)
        .filter(|d| d.metadata.deletion_timestamp.is_none())
        .reduce(|a, b| if is_older(&b.metadata, &a.metadata) { b } else { a })
}

/// The older object, as `namespace/name`, that manages the environment of `object`.
#[must_use]
pub fn older_environment_claim(
    object: &ChatbotDeployment,
    owner: Option<&ChatbotDeployment>,
) -> Option<String> {
    let owner = owner.filter(|owner| owner.metadata.uid != object.metadata.uid)?;
    is_older(&owner.metadata, &object.metadata).then(|| full_name(&owner.metadata))
}

/// The older object, as `namespace/name`, that holds the version id of `object`.
#[must_use]
pub fn older_version_claim(object: &ChatbotVersion, holders: &[Arc<ChatbotVersion>]) -> Option<String> {
    let id = object.version_id()?;
    let older = |other: &&Arc<ChatbotVersion>| {
        is_other(object, other)
            && holds(other, &object.spec.chatbot_id, id)
            && is_older(&other.metadata, &object.metadata)
    };
    holders.iter().find(older).map(|other| full_name(&other.metadata))
}

/// Whether another object holds the version `id` of the same chatbot.
#[must_use]
pub fn is_held_by_other(object: &ChatbotVersion, id: &str, holders: &[Arc<ChatbotVersion>]) -> bool {
    holders.iter().any(|other| is_other(object, other) && holds(other, &object.spec.chatbot_id, id))
}

/// Whether an older object has a create under way for a version of the same name. Where the service returns no
/// descriptions, only one of them may create at a time: by its name alone a new version cannot be distinguished from another.
#[must_use]
pub fn is_older_create_pending(object: &ChatbotVersion, others: &[Arc<ChatbotVersion>]) -> bool {
    others.iter().any(|other| {
        is_other(object, other)
            && other.status.as_ref().is_some_and(|status| status.pending_create.is_some())
            && other.spec.chatbot_id == object.spec.chatbot_id
            && other.version_name() == object.version_name()
            && is_older(&other.metadata, &object.metadata)
    })
}

/// Whether an object holds the version `id` of a chatbot.
#[must_use]
pub fn holds(version: &ChatbotVersion, chatbot: &str, id: &str) -> bool {
    version.spec.chatbot_id == chatbot && version.version_id() == Some(id)
}

/// Whether the deletion of the object deletes the version, too: neither a policy nor suspension nor `force-orphan` keeps
/// it.
#[must_use]
pub fn is_deleted_with_object(
    version: &ChatbotVersion,
    namespace_policy: Option<&str>,
    config: &PlanConfig,
) -> bool {
    let policy = DeletionPolicy::of(version.spec.deletion_policy, namespace_policy, config.deletion_policy);
    version.metadata.deletion_timestamp.is_some()
        && policy == DeletionPolicy::Delete
        && version.spec.suspend != Some(true)
        && annotation_value(&version.metadata, annotation::FORCE_ORPHAN).is_none()
}

/// The versions that a deployment uses: the one rule for both kinds of what must not be deleted.
///
/// What it runs, should run, is rolling out, or may run in a moment; what its spec names by id; and, until the target is
/// live, what ran before: a rollout may empty the environment, and whoever goes back then needs it.
#[must_use]
pub fn in_use<'a>(
    deployment: &'a ChatbotDeployment,
    now: Timestamp,
    config: &PlanConfig,
) -> HashSet<&'a str> {
    let mut ids = HashSet::new();
    if let Some(VersionSource::Id(id)) = deployment.spec.version_source() {
        ids.insert(id);
    }
    let Some(status) = &deployment.status else {
        return ids;
    };
    ids.extend(status.active.iter().map(|active| active.version_id.as_str()));
    ids.extend(status.target.iter().map(|target| target.version_id.as_str()));
    ids.extend(status.current_operation.iter().map(|operation| operation.version_id.as_str()));
    ids.extend(possibly_live(status, now, config));
    ids.extend(way_back(status));
    ids
}

/// The newest version that ran before the target, while that is not live.
fn way_back(status: &ChatbotDeploymentStatus) -> Option<&str> {
    let target = status.target.as_ref().map(|target| target.version_id.as_str())?;
    let is_live = status.active.as_ref().is_some_and(|active| active.version_id == target);
    let before = status.history.iter().map(|entry| entry.version_id.as_str()).find(|id| *id != target);
    before.filter(|_| !is_live)
}

/// The versions whose deletion a deployment takes over, should their objects be deleted: what it uses, and what it has
/// taken over already.
#[must_use]
pub fn versions_in_charge<'a>(
    deployment: &'a ChatbotDeployment,
    now: Timestamp,
    config: &PlanConfig,
) -> HashSet<&'a str> {
    let pending = deployment.status.iter().flat_map(|status| &status.pending_deletions);
    let mut ids = in_use(deployment, now, config);
    ids.extend(pending.map(|entry| entry.version_id.as_str()));
    ids
}

fn is_other(object: &ChatbotVersion, other: &ChatbotVersion) -> bool {
    other.metadata.uid != object.metadata.uid
}

fn full_name(meta: &ObjectMeta) -> String {
    format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}
