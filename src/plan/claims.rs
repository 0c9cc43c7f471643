//! Which of several objects holds a claim: to an environment, to a version, to the next create.
//!
//! One rule for all of them: the older object wins, and of two that were created within one second the one with the
//! smaller uid. Only a deployment that has never run a version gives way, so that a claim without a valid key or a version
//! keeps no other team out for ever. Every replica and every restart comes to the same answer, because it depends on the
//! objects alone.

use std::{collections::HashSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};

use super::{PlanConfig, annotation_value, deployment::possibly_live, elapsed};
use crate::crd::{
    ChatbotDeployment, ChatbotDeploymentStatus, ChatbotVersion, ChatbotVersionStatus, ConditionType,
    DeletionPolicy, LiveEnvironment, Reason, VersionSource, annotation,
};

/// Whether `a` wins a claim against `b`.
#[must_use]
pub fn is_older(a: &ObjectMeta, b: &ObjectMeta) -> bool {
    age_key(a) < age_key(b)
}

fn age_key(meta: &ObjectMeta) -> (Option<Timestamp>, Option<&str>) {
    (meta.creation_timestamp.as_ref().map(|t| t.0), meta.uid.as_deref())
}

/// The deployment that manages an environment: of those that claim it and are not being deleted the oldest that has run a
/// version; where none has, the oldest that gives way to no younger one.
#[must_use]
pub fn environment_owner(
    deployments: Vec<Arc<ChatbotDeployment>>,
    chatbot: &str,
    environment: LiveEnvironment,
) -> Option<Arc<ChatbotDeployment>> {
    let mut claims = deployments;
    claims.retain(|d| d.spec.chatbot_id == chatbot && d.spec.environment == environment);
    // it gives the environment up at once, though other finalizers may keep it for long
    claims.retain(|d| d.metadata.deletion_timestamp.is_none());
    claims.sort_by(|a, b| age_key(&a.metadata).cmp(&age_key(&b.metadata)));
    match claims.iter().find(|d| has_run_a_version(d)) {
        Some(owner) => Some(owner.clone()),
        None => claims
            .into_iter()
            .reduce(|owner, younger| if gives_way(&owner, &younger) { younger } else { owner }),
    }
}

/// It has reached its target, or is on its way there. That somebody else's version runs says nothing.
fn has_run_a_version(deployment: &ChatbotDeployment) -> bool {
    deployment.status.as_ref().is_some_and(|status| {
        status.current_operation.is_some()
            || status.target.as_ref().is_some_and(|target| target.reached_time.is_some())
            || status.history.iter().any(|entry| entry.operation.is_some())
    })
}

/// Whether a claim that has never run a version had stalled before the younger one was made.
// not one that stalled later: in a cluster that is rebuilt, keys and versions may come after the objects
fn gives_way(owner: &ChatbotDeployment, younger: &ChatbotDeployment) -> bool {
    let is_stalled = |c: &&Condition| c.type_ == ConditionType::Stalled.as_str() && c.status == "True";
    let mut stalled = owner.status.iter().flat_map(|status| &status.common.conditions).filter(is_stalled);
    let created = younger.metadata.creation_timestamp.as_ref();
    stalled.any(|stalled| {
        // one that waits behind another claim has not failed by itself
        stalled.reason != Reason::Conflict.as_str()
            && created.is_some_and(|created| stalled.last_transition_time.0 < created.0)
    })
}

/// The object, as `namespace/name`, that manages the environment of `object`: it is older, or has run a version.
#[must_use]
pub fn older_environment_claim(
    object: &ChatbotDeployment,
    owner: Option<&ChatbotDeployment>,
) -> Option<String> {
    // by uid: an object that is applied again has the name of the one before, but not its claim
    let owner = owner.filter(|owner| owner.metadata.uid != object.metadata.uid)?;
    // an object that is being deleted owns nothing, so the owner may be younger. The same holds of one that gave way: until
    // the other has run a version, it goes on as soon as it can
    let is_settled = object.metadata.deletion_timestamp.is_none() && has_run_a_version(owner);
    (is_settled || is_older(&owner.metadata, &object.metadata)).then(|| full_name(&owner.metadata))
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
    // the oldest of them, in whatever order they come: another name would be another message
    let oldest =
        holders.iter().filter(older).reduce(|a, b| if is_older(&b.metadata, &a.metadata) { b } else { a });
    oldest.map(|other| full_name(&other.metadata))
}

/// Whether another object holds the version `id` of the same chatbot.
#[must_use]
pub fn is_held_by_other(object: &ChatbotVersion, id: &str, holders: &[Arc<ChatbotVersion>]) -> bool {
    holders.iter().any(|other| is_other(object, other) && holds(other, &object.spec.chatbot_id, id))
}

/// How long a younger object waits for the create of an older one.
const OLDER_CREATE_DEADLINE: Duration = Duration::from_mins(5);

/// Whether an older object has a create under way for a version of the same name. Where the service returns no
/// descriptions, only one of them may create at a time: by its name alone a new version cannot be distinguished from another.
/// One that is suspended, or needs a user, keeps none waiting; nor does any for longer than the deadline.
#[must_use]
pub fn is_older_create_pending(
    object: &ChatbotVersion,
    others: &[Arc<ChatbotVersion>],
    now: Timestamp,
) -> bool {
    let is_progressing = |status: &ChatbotVersionStatus| {
        let create = status.pending_create.as_ref();
        create.is_some_and(|create| elapsed(&create.start_time, now) <= OLDER_CREATE_DEADLINE)
            && !status.common.is_true(ConditionType::Stalled)
    };
    others.iter().any(|other| {
        is_other(object, other)
            && other.status.as_ref().is_some_and(is_progressing)
            && other.spec.suspend != Some(true)
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

/// Whether an object is there, or back, that has no version yet: it will adopt the one with its marker.
#[must_use]
pub fn is_returning(version: &ChatbotVersion, chatbot: &str) -> bool {
    version.metadata.deletion_timestamp.is_none()
        && version.spec.chatbot_id == chatbot
        && version.version_id().is_none()
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

/// The versions that a deployment uses: the one rule for both kinds of what must not be deleted. ([`names`] has the part of
/// it that no id shows.)
///
/// What it runs, should run, is rolling out, or may run in a moment; what its spec names, also while a command holds another
/// version; until the target is live, what ran before, because a rollout may empty the environment and a rollback then needs
/// it; and the versions that `spec.revisionHistoryLimit` keeps. A deployment that is being deleted goes back to nothing.
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
    ids.extend(status.followed.iter().map(|followed| followed.version_id.as_str()));
    ids.extend(status.active.iter().map(|active| active.version_id.as_str()));
    ids.extend(status.target.iter().map(|target| target.version_id.as_str()));
    ids.extend(status.current_operation.iter().map(|operation| operation.version_id.as_str()));
    ids.extend(possibly_live(deployment, now, config));
    if deployment.metadata.deletion_timestamp.is_none() {
        let command = status.rollback_command.as_ref();
        ids.extend(command.and_then(|command| command.spec_version_id.as_deref()));
        ids.extend(rollback_candidate(status));
        ids.extend(kept_revisions(status, deployment.spec.revision_history_limit()));
    }
    ids
}

/// What a spec may name a version by, besides its id.
#[derive(Clone, Copy, Debug)]
pub struct VersionNames<'a> {
    /// Id of the version.
    pub id: &'a str,
    /// Namespace of the object that it was made for.
    pub namespace: Option<&'a str>,
    /// Name of that object.
    pub name: &'a str,
    /// Number of the version, where it is known.
    pub number: Option<&'a str>,
    /// Id that an object of this name holds now: another one if it was created again.
    pub held_now: Option<&'a str>,
}

/// Whether the spec of a deployment names a version by its object or by its number.
#[must_use]
pub fn names(deployment: &ChatbotDeployment, version: &VersionNames<'_>) -> bool {
    let is_named = match deployment.spec.version_source() {
        Some(VersionSource::Ref(reference)) => {
            reference == version.name
                && deployment.metadata.namespace.as_deref() == version.namespace
                && version.held_now.is_none_or(|held| held == version.id)
        }
        Some(VersionSource::Number(named)) => Some(named) == version.number,
        // those are in use by their id
        Some(VersionSource::Id(_) | VersionSource::Follow(_)) | None => false,
    };
    is_named && deployment.metadata.deletion_timestamp.is_none()
}

/// The newest `limit` versions of `history`, each once, without the live one.
fn kept_revisions(status: &ChatbotDeploymentStatus, limit: usize) -> Vec<&str> {
    let active = status.active.as_ref().map(|active| active.version_id.as_str());
    let mut kept: Vec<&str> = Vec::new();
    for entry in &status.history {
        let id = entry.version_id.as_str();
        if kept.len() < limit && Some(id) != active && !kept.contains(&id) {
            kept.push(id);
        }
    }
    kept
}

/// The newest version that ran before the target, while that is not live.
fn rollback_candidate(status: &ChatbotDeploymentStatus) -> Option<&str> {
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

/// An object as messages name it: `namespace/name`.
#[must_use]
pub fn full_name(meta: &ObjectMeta) -> String {
    format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::time::Duration;

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::{Value, json};

    use super::*;
    use crate::crd::FINALIZER;

    /// Metadata of `ns/NAME`, created in this second.
    fn meta(name: &str, second: u8) -> Value {
        let created = format!("2026-01-01T00:00:0{second}Z");
        json!({"namespace": "ns", "name": name, "uid": name, "creationTimestamp": created})
    }

    fn deployment(name: &str, second: u8) -> Arc<ChatbotDeployment> {
        let spec = json!({"chatbotId": "bot", "environment": "prod", "versionId": "v1"});
        let object = json!({
            "apiVersion": "chatcaptain.dev/v1alpha1", "kind": "ChatbotDeployment",
            "metadata": meta(name, second), "spec": spec,
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    /// A version named `q4` of chatbot `bot` with this status.
    fn version(name: &str, second: u8, status: &Value) -> ChatbotVersion {
        let object = json!({
            "apiVersion": "chatcaptain.dev/v1alpha1", "kind": "ChatbotVersion",
            "metadata": meta(name, second), "spec": {"chatbotId": "bot", "name": "q4"}, "status": status,
        });
        serde_json::from_value(object).unwrap()
    }

    fn changed<T: Clone>(object: &T, change: impl FnOnce(&mut T)) -> Arc<T> {
        let mut object = object.clone();
        change(&mut object);
        Arc::new(object)
    }

    fn config() -> PlanConfig {
        PlanConfig {
            owner_id: "default".to_owned(),
            interval: Duration::from_mins(5),
            min_interval: Duration::from_secs(10),
            visibility_grace: Duration::from_secs(30),
            deletion_policy: DeletionPolicy::Delete,
            deletion_timeout: Duration::from_mins(15),
        }
    }

    #[test]
    fn older_object_wins_and_of_two_in_one_second_the_smaller_uid() {
        let older = |a: (&str, u8), b: (&str, u8)| {
            is_older(&deployment(a.0, a.1).metadata, &deployment(b.0, b.1).metadata)
        };
        assert!(older(("b", 1), ("a", 2)));
        assert!(!older(("a", 2), ("b", 1)));
        assert!(older(("a", 1), ("b", 1)));
        assert!(!older(("a", 1), ("a", 1)), "nothing is older than itself");
    }

    #[test]
    fn environment_belongs_to_the_oldest_deployment_that_is_not_being_deleted() {
        let owner = |deployments: Vec<_>| {
            let owner = environment_owner(deployments, "bot", LiveEnvironment::Prod);
            owner.and_then(|owner| owner.metadata.name.clone())
        };
        let [first, second] = [deployment("x", 1), deployment("a", 2)];
        let decided = Some("x".to_owned());
        assert_eq!(owner(vec![second.clone(), first.clone()]), decided);
        assert_eq!(owner(vec![first.clone(), second.clone()]), decided, "in whatever order they come");
        for other in [
            changed(&*first, |d| d.spec.chatbot_id = "other".to_owned()),
            changed(&*first, |d| d.spec.environment = LiveEnvironment::Test),
            changed(&*first, |d| d.metadata.deletion_timestamp = d.metadata.creation_timestamp.clone()),
        ] {
            assert_eq!(owner(vec![other, second.clone()]), Some("a".to_owned()));
        }
        assert_eq!(owner(vec![]), None);
    }

    /// The deployment, Stalled since this second.
    fn stalled(deployment: &ChatbotDeployment, second: u8) -> Arc<ChatbotDeployment> {
        let conditions = json!([{
            "type": "Stalled", "status": "True", "reason": "CredentialsMissing", "message": "",
            "lastTransitionTime": format!("2026-01-01T00:00:0{second}Z"),
        }]);
        changed(deployment, |d| {
            d.status.get_or_insert_default().common.conditions = serde_json::from_value(conditions).unwrap();
        })
    }

    fn after_a_version(deployment: &ChatbotDeployment) -> Arc<ChatbotDeployment> {
        let ran = json!([{"versionId": "v1", "startTime": "2026-01-01T00:00:00Z", "operation": "Deploy"}]);
        changed(deployment, |d| {
            d.status.get_or_insert_default().history = serde_json::from_value(ran).unwrap();
        })
    }

    #[test]
    fn claim_that_stalled_before_another_was_made_and_never_ran_a_version_gives_way() {
        let owner = |deployments: &[&Arc<ChatbotDeployment>]| {
            let deployments = deployments.iter().map(|d| (*d).clone()).collect();
            environment_owner(deployments, "bot", LiveEnvironment::Prod)
                .unwrap()
                .metadata
                .name
                .clone()
                .unwrap()
        };
        let [first, second, third] = [deployment("a", 1), deployment("b", 5), deployment("c", 7)];
        assert_eq!(owner(&[&second, &stalled(&first, 2)]), "b");
        assert_eq!(owner(&[&second, &stalled(&first, 5)]), "a", "it may still get its key");
        assert_eq!(owner(&[&third, &stalled(&second, 6), &stalled(&first, 2)]), "c");
        let waiting = changed(&*stalled(&first, 2), |d| {
            d.status.as_mut().unwrap().common.conditions[0].reason = "Conflict".to_owned();
        });
        assert_eq!(owner(&[&second, &waiting]), "a", "it waited for a claim that has ended");
        // what has run a version keeps the environment, whatever happens to it, and though another is older
        assert_eq!(owner(&[&second, &stalled(&after_a_version(&first), 2)]), "a");
        assert_eq!(owner(&[&after_a_version(&second), &first]), "b");
        assert_eq!(owner(&[&after_a_version(&second), &after_a_version(&first)]), "a");
    }

    #[test]
    fn claim_that_gave_way_is_in_conflict_once_the_other_has_run_a_version() {
        let [first, second] = [stalled(&deployment("a", 1), 2), deployment("b", 5)];
        assert_eq!(older_environment_claim(&first, Some(&second)), None);
        let ran = after_a_version(&second);
        assert_eq!(older_environment_claim(&first, Some(&ran)).as_deref(), Some("ns/b"));
        let deleted =
            changed(&*first, |d| d.metadata.deletion_timestamp = d.metadata.creation_timestamp.clone());
        assert_eq!(older_environment_claim(&deleted, Some(&ran)), None);
    }

    #[test]
    fn environment_claim_of_an_older_object_stands_in_the_way() {
        let [first, second] = [deployment("x", 1), deployment("a", 2)];
        assert_eq!(older_environment_claim(&second, Some(&first)).as_deref(), Some("ns/x"));
        assert_eq!(older_environment_claim(&first, Some(&first)), None, "its own");
        // it is being deleted, so a younger one decides; it still finishes what it has begun
        assert_eq!(older_environment_claim(&first, Some(&second)), None);
        assert_eq!(older_environment_claim(&first, None), None);
    }

    #[test]
    fn version_belongs_to_the_oldest_object_that_holds_it() {
        let [first, second] = [("x", 1), ("a", 2)]
            .map(|(name, second)| Arc::new(version(name, second, &json!({"versionId": "v1"}))));
        let claim = |object: &ChatbotVersion, holder: &Arc<ChatbotVersion>| {
            older_version_claim(object, std::slice::from_ref(holder))
        };
        assert_eq!(claim(&second, &first).as_deref(), Some("ns/x"));
        assert_eq!(claim(&first, &second), None);
        let third = version("b", 3, &json!({"versionId": "v1"}));
        for holders in [[first.clone(), second.clone()], [second.clone(), first.clone()]] {
            assert_eq!(older_version_claim(&third, &holders).as_deref(), Some("ns/x"));
        }
        assert_eq!(claim(&first, &first), None);
        let other_chatbot = changed(&*first, |v| v.spec.chatbot_id = "other".to_owned());
        assert_eq!(claim(&second, &other_chatbot), None);
        let other_version = Arc::new(version("x", 1, &json!({"versionId": "v2"})));
        assert_eq!(claim(&second, &other_version), None);
        let new = version("a", 2, &json!({}));
        assert_eq!(claim(&new, &first), None, "it holds nothing yet");
    }

    #[test]
    fn version_is_held_by_another_object_of_any_age() {
        let [first, second] = [("x", 1), ("a", 2)]
            .map(|(name, second)| Arc::new(version(name, second, &json!({"versionId": "v1"}))));
        let held = |object: &ChatbotVersion, id: &str, holder: &Arc<ChatbotVersion>| {
            is_held_by_other(object, id, std::slice::from_ref(holder))
        };
        assert!(held(&second, "v1", &first));
        assert!(held(&first, "v1", &second));
        assert!(!held(&first, "v1", &first));
        assert!(!held(&second, "v2", &first));
        let other_chatbot = changed(&*first, |v| v.spec.chatbot_id = "other".to_owned());
        assert!(!held(&second, "v1", &other_chatbot));
    }

    #[test]
    fn only_an_older_create_for_the_same_name_is_waited_for() {
        let intent = json!({"pendingCreate": {"attemptId": "a", "startTime": "2026-01-01T00:00:00Z"}});
        let (first, second) = (version("x", 1, &intent), version("a", 2, &intent));
        let at = |second: i64| Timestamp::from_second(1_767_225_600 + second).unwrap();
        let pending_at = |second, object: &ChatbotVersion, other: ChatbotVersion| {
            is_older_create_pending(object, &[Arc::new(other)], at(second))
        };
        let pending = |object: &ChatbotVersion, other| pending_at(0, object, other);
        assert!(pending(&second, first.clone()));
        assert!(!pending(&first, second.clone()));
        assert!(!pending(&second, second.clone()));
        assert!(!pending(&second, version("x", 1, &json!({"versionId": "v1"}))), "it has its version");
        assert!(pending_at(300, &second, first.clone()));
        assert!(!pending_at(301, &second, first.clone()), "it is not waited for without an end");
        let suspended = changed(&first, |v| v.spec.suspend = Some(true));
        assert!(!pending(&second, (*suspended).clone()));
        let stalled = json!([{
            "type": "Stalled", "status": "True", "reason": "RequestRejected", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]);
        let stalled = changed(&first, |v| {
            v.status.as_mut().unwrap().common.conditions = serde_json::from_value(stalled).unwrap();
        });
        assert!(!pending(&second, (*stalled).clone()), "it waits for a user");
        let renamed = changed(&first, |v| v.spec.name = Some("q5".to_owned()));
        assert!(!pending(&second, (*renamed).clone()));
        let other_chatbot = changed(&first, |v| v.spec.chatbot_id = "other".to_owned());
        assert!(!pending(&second, (*other_chatbot).clone()));
    }

    #[test]
    fn version_goes_with_its_object_unless_something_keeps_it() {
        let mut deleted = version("a", 1, &json!({"versionId": "v1"}));
        deleted.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
        assert!(!is_deleted_with_object(&deleted, None, &config()), "it is not being deleted");
        deleted.metadata.deletion_timestamp = deleted.metadata.creation_timestamp.clone();
        assert!(is_deleted_with_object(&deleted, None, &config()));
        assert!(!is_deleted_with_object(&deleted, Some("Retain"), &config()));
        let suspended = changed(&deleted, |v| v.spec.suspend = Some(true));
        assert!(!is_deleted_with_object(&suspended, None, &config()));
        let orphaned = changed(&deleted, |v| {
            let forced = (annotation::FORCE_ORPHAN.to_owned(), String::new());
            v.metadata.annotations = Some([forced].into());
        });
        assert!(!is_deleted_with_object(&orphaned, None, &config()));
    }

    #[test]
    fn deployment_speaks_for_what_it_runs_or_may_run() {
        let status = json!({
            "active": {"versionId": "active", "startTime": "2026-01-01T00:00:00Z"},
            "target": {"versionId": "target", "cause": "Spec"},
            "currentOperation": {
                "operation": "Deploy", "versionId": "operation", "startTime": "2026-01-01T00:00:00Z",
            },
            "lastOperations": [{
                "operation": "Deploy", "versionId": "late", "result": "Unknown",
                "completionTime": "2026-01-01T00:00:00Z",
            }],
            "history": [{"versionId": "ran", "startTime": "2026-01-01T00:00:00Z"}],
            "rollbackCommand": {"value": "previous", "versionId": "target", "specVersionId": "replaced"},
            "pendingDeletions": [
                {"versionId": "pending", "name": "a", "requestTime": "2026-01-01T00:00:00Z"},
            ],
        });
        let deployment: ChatbotDeployment = serde_json::from_value(json!({
            "apiVersion": "chatcaptain.dev/v1alpha1", "kind": "ChatbotDeployment", "metadata": {"name": "test"},
            "spec": {"chatbotId": "bot", "environment": "test", "versionId": "named"}, "status": status,
        }))
        .unwrap();
        let now = "2026-01-01T00:00:10Z".parse().unwrap();
        let used = ["active", "target", "operation", "late", "named", "ran", "replaced"];
        // a pending deletion does not keep its version in use
        assert_eq!(in_use(&deployment, now, &config()), HashSet::from(used));
        let in_charge = versions_in_charge(&deployment, now, &config());
        assert_eq!(in_charge, used.into_iter().chain(["pending"]).collect());
        let deleted = changed(&deployment, |d| d.metadata.deletion_timestamp = Some(Time(now)));
        let live = HashSet::from(["active", "target", "operation", "late", "named"]);
        assert_eq!(in_use(&deleted, now, &config()), live, "it goes back to nothing");
    }

    #[test]
    fn deployment_keeps_the_newest_versions_that_ran_each_once_and_without_the_live_one() {
        let kept = |limit: Option<i32>| {
            let entry = |id: &&str| json!({"versionId": id, "startTime": "2026-01-01T00:00:00Z"});
            let history: Vec<Value> = ["live", "a", "live", "a", "b", "c", "d"].iter().map(entry).collect();
            let status = json!({"active": entry(&"live"), "history": history});
            let deployment = changed(&*deployment("x", 1), |d| {
                d.spec.revision_history_limit = limit;
                d.status = serde_json::from_value(status).unwrap();
            });
            let now = "2026-01-01T00:00:10Z".parse().unwrap();
            let mut ids: Vec<_> =
                in_use(&deployment, now, &config()).into_iter().map(str::to_owned).collect();
            ids.sort();
            ids
        };
        assert_eq!(kept(None), ["a", "b", "c", "live", "v1"], "three, and what the spec names");
        assert_eq!(kept(Some(0)), ["live", "v1"]);
        assert_eq!(kept(Some(1)), ["a", "live", "v1"]);
        assert_eq!(kept(Some(10)), ["a", "b", "c", "d", "live", "v1"]);
    }

    #[test]
    fn object_without_a_version_is_returning_unless_it_is_being_deleted() {
        let new = version("x", 1, &json!({}));
        assert!(is_returning(&new, "bot"));
        assert!(!is_returning(&new, "other"));
        assert!(!is_returning(&version("x", 1, &json!({"versionId": "v1"})), "bot"));
        let deleted =
            changed(&new, |v| v.metadata.deletion_timestamp = v.metadata.creation_timestamp.clone());
        assert!(!is_returning(&deleted, "bot"));
    }

    #[test]
    fn version_whose_object_the_spec_names_is_used_before_it_runs() {
        let named = changed(&*deployment("x", 1), |d| {
            d.spec.version_id = None;
            d.spec.version_ref = Some(crate::crd::LocalObjectReference { name: "q4".to_owned() });
        });
        let version =
            VersionNames { id: "v4", namespace: Some("ns"), name: "q4", number: None, held_now: None };
        assert!(names(&named, &version));
        assert!(names(&named, &VersionNames { held_now: Some("v4"), ..version }));
        assert!(!names(&named, &VersionNames { held_now: Some("v5"), ..version }), "it was created again");
        assert!(!names(&named, &VersionNames { name: "q3", ..version }));
        let elsewhere = VersionNames { namespace: Some("other"), ..version };
        assert!(!names(&named, &elsewhere), "a reference stays in its namespace");
        let numbered = changed(&*deployment("x", 1), |d| {
            d.spec.version_id = None;
            d.spec.version_number = Some("2.1".to_owned());
        });
        assert!(names(&numbered, &VersionNames { number: Some("2.1"), ..elsewhere }));
        assert!(!names(&numbered, &VersionNames { number: Some("2.2"), ..version }));
        assert!(!names(&numbered, &version));
        let deleted =
            changed(&*named, |d| d.metadata.deletion_timestamp = d.metadata.creation_timestamp.clone());
        assert!(!names(&deleted, &version));
    }
}
