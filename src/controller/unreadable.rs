//! Objects that do not fit their schema, for example after a downgrade of the operator, or their own status: they keep what
//! they hold, report why they cannot be used, and can be deleted with `force-orphan`. Nothing is requested from the service for them.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Resource, ResourceExt,
    core::{NamespaceResourceScope, PartialObjectMeta},
    runtime::controller::Action,
};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use super::{
    Context, Indexed, after_write::emit, notify::notify_unreadable, publish, reconcile::requeue_after_error,
};
use crate::{
    crd::{FINALIZER, annotation},
    plan::{
        EventReason, NewEvent, annotation_value, messages,
        status::{newly_stalled, readable_conditions, unreadable_status},
    },
};

/// An object, or what can be read of one that does not fit its schema: one such object must not break the watch of all.
#[derive(Clone, Debug)]
pub struct Guarded<K>(pub Result<K, Box<Unreadable<K>>>);

/// What can be read of an object that does not fit its schema.
#[derive(Clone, Debug)]
pub struct Unreadable<K> {
    /// Why it does not fit.
    pub error: String,
    metadata: ObjectMeta,
    /// As the API server has it: the fields that are not understood have to survive a write.
    status: Value,
    /// The object without the fields that do not fit; `None` where even those that identify its claims do not.
    claim: Option<K>,
}

impl<K> Guarded<K> {
    /// The object, or as much of it as can be read: it holds its environment and its version either way.
    pub fn claimant(&self) -> Option<&K> {
        match &self.0 {
            Ok(object) => Some(object),
            Err(unreadable) => unreadable.claim.as_ref(),
        }
    }

    /// Every copy of its metadata.
    pub fn each_meta_mut(&mut self, change: impl Fn(&mut ObjectMeta))
    where
        K: Resource,
    {
        match &mut self.0 {
            Ok(object) => change(object.meta_mut()),
            Err(unreadable) => {
                change(&mut unreadable.metadata);
                unreadable.claim.iter_mut().for_each(|claim| change(claim.meta_mut()));
            }
        }
    }
}

impl<'de, K: Indexed> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let mut raw = Value::deserialize(deserializer)?;
        let error = match K::deserialize(&raw) {
            Ok(object) => match object.contradiction() {
                None => return Ok(Self(Ok(object))),
                Some(contradiction) => contradiction,
            },
            Err(error) => error.to_string(),
        };
        let metadata = ObjectMeta::deserialize(&raw["metadata"]).map_err(D::Error::custom)?;
        let claim = readable_part(&raw);
        Ok(Self(Err(Box::new(Unreadable { error, metadata, status: raw["status"].take(), claim }))))
    }
}

/// The object without the fields that do not fit.
fn readable_part<K: Indexed>(raw: &Value) -> Option<K> {
    let mut part = raw.clone();
    // with the fields that a claim needs, as the status has recorded them; and it is as little worked on as a suspended
    // object
    let field =
        |field: &str| [&raw["status"][field], &raw["spec"][field]].into_iter().find(|value| !value.is_null());
    let mut spec: Map<String, Value> =
        K::CLAIM.iter().filter_map(|name| Some(((*name).to_owned(), field(name)?.clone()))).collect();
    spec.insert("suspend".to_owned(), true.into());
    part["spec"] = Value::Object(spec);
    part["status"] = json!({});
    for section in ["spec", "status"] {
        for (field, value) in raw[section].as_object().into_iter().flatten() {
            if part[section].get(field).is_some() {
                continue;
            }
            part[section][field] = value.clone();
            if K::deserialize(&part).is_err() {
                part[section].as_object_mut()?.remove(field);
            }
        }
    }
    K::deserialize(&part).ok()
}

impl<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>> Resource for Guarded<K> {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|unreadable| &unreadable.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|unreadable| &mut unreadable.metadata, K::meta_mut)
    }
}

/// Reports in the status why the object cannot be read, or removes its finalizer if `force-orphan` asks for that.
pub async fn reconcile_unreadable<K: Indexed>(
    object: &Guarded<K>,
    unreadable: &Unreadable<K>,
    context: &Context,
) -> Action {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    tracing::error!(kind = K::KIND, namespace, name, error = unreadable.error, "cannot use object");
    let meta = &unreadable.metadata;
    let is_forced = meta.deletion_timestamp.is_some()
        && object.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
        && annotation_value(meta, annotation::FORCE_ORPHAN).is_some();
    let written = if is_forced {
        force_orphan(object, unreadable, context).await
    } else {
        report(object, unreadable, context).await
    };
    match written {
        Ok(()) => Action::await_change(),
        Err(error) => {
            tracing::warn!(kind = K::KIND, namespace, name, %error, "cannot update object");
            requeue_after_error(&error)
        }
    }
}

async fn report<K: Indexed>(
    object: &Guarded<K>,
    unreadable: &Unreadable<K>,
    context: &Context,
) -> Result<(), publish::Error> {
    let Unreadable { error, metadata, status: before, .. } = unreadable;
    let status = unreadable_status(before, metadata, error, Context::now());
    if status == *before {
        return Ok(());
    }
    let written = publish::write_status::<PartialObjectMeta<K>>(metadata, &status, context);
    written.await?;
    let (before, after) = (readable_conditions(before), readable_conditions(&status));
    if let Some(stalled) = newly_stalled(&before, &after) {
        emit(object.object_ref(&()), true, &stalled.reason, &stalled.message, context);
    }
    Ok(())
}

async fn force_orphan<K: Indexed>(
    object: &Guarded<K>,
    unreadable: &Unreadable<K>,
    context: &Context,
) -> Result<(), publish::Error> {
    let ids = unreadable.held_ids();
    publish::log_orphans(&ids, EventReason::Orphaned);
    match publish::write_finalizer::<PartialObjectMeta<K>>(&unreadable.metadata, false, context).await {
        // it disappears without its last finalizer
        Ok(_) | Err(publish::Error::Gone) => {}
        Err(error) => return Err(error),
    }
    let note = messages::unreadable_orphaned(&ids);
    emit(object.object_ref(&()), true, EventReason::Orphaned.as_str(), &note, context);
    for _ in &ids {
        context.metrics.count_orphan();
    }
    let event = NewEvent { warning: true, reason: EventReason::Orphaned, note, version_ids: ids };
    notify_unreadable::<K>(object, &event, context);
    Ok(())
}

impl<K> Unreadable<K> {
    /// The ids of the versions that are deleted with the object, as far as they can be read.
    fn held_ids(&self) -> Vec<String> {
        let pending = self.status["pendingDeletions"].as_array().into_iter().flatten();
        let ids = pending.map(|entry| &entry["versionId"]).chain([&self.status["versionId"]]);
        let ids: Vec<String> = ids.filter_map(Value::as_str).map(str::to_owned).collect();
        if ids.is_empty() { vec!["unknown".to_owned()] } else { ids }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::{super::cache::IndexKey, *};
    use crate::crd::{ChatbotDeployment, ChatbotVersion};

    fn parsed<K: Indexed>(spec: &Value, status: &Value) -> Guarded<K> {
        let meta = json!({"name": "a", "namespace": "ns", "uid": "u"});
        let object = json!({
            "apiVersion": K::api_version(&()), "kind": K::KIND, "metadata": meta, "spec": spec, "status": status,
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn unreadable_object_keeps_its_claim_without_what_does_not_fit() {
        let spec = json!({"chatbotId": "bot", "environment": "prod", "versionId": "v1", "drift": {"mode": "Enforce"}});
        let status =
            json!({"active": {"versionId": "v1", "startTime": "2026-01-01T00:00:00Z"}, "target": "v1"});
        let deployment = parsed::<ChatbotDeployment>(&spec, &status);
        assert!(deployment.0.is_err());
        let claim = deployment.claimant().unwrap();
        assert_eq!((claim.spec.chatbot_id.as_str(), claim.spec.version_id.as_deref()), ("bot", Some("v1")));
        let status = claim.status.as_ref().unwrap();
        assert_eq!(status.active.as_ref().unwrap().version_id, "v1");
        assert_eq!(status.target, None);
        assert!(claim.keys().contains(&IndexKey::environment("bot", "prod")));

        let version = parsed::<ChatbotVersion>(
            &json!({"chatbotId": "bot", "interval": 5}),
            &json!({"versionId": "v1"}),
        );
        let claim = version.claimant().unwrap();
        assert_eq!((claim.version_id(), claim.spec.suspend), (Some("v1"), Some(true)));
        assert_eq!(version.meta().uid.as_deref(), Some("u"));
    }

    #[test]
    fn object_that_contradicts_its_status_claims_what_the_status_is_about() {
        let spec = json!({"chatbotId": "other", "environment": "test", "versionId": "v1"});
        let status = json!({"chatbotId": "bot", "environment": "prod"});
        let deployment = parsed::<ChatbotDeployment>(&spec, &status);
        assert!(deployment.claimant().unwrap().keys().contains(&IndexKey::environment("bot", "prod")));
        let Err(unreadable) = deployment.0 else { panic!("it is used") };
        assert_eq!(unreadable.error, "spec.chatbotId is immutable, and was changed from bot to other");

        let status = json!({"chatbotId": "bot", "environment": "dev"});
        assert!(
            parsed::<ChatbotVersion>(&json!({"chatbotId": "bot"}), &status).0.is_ok(),
            "dev is the default"
        );
        let moved = json!({"chatbotId": "bot", "environment": "prod"});
        assert!(parsed::<ChatbotVersion>(&moved, &status).0.is_err());
    }

    #[test]
    fn object_without_a_readable_chatbot_claims_nothing() {
        let version = parsed::<ChatbotVersion>(&json!({"chatbotId": [1, 2]}), &json!({"versionId": "v1"}));
        assert!(version.claimant().is_none());
        let Err(unreadable) = version.0 else { panic!("it can be read") };
        assert_eq!(unreadable.held_ids(), ["v1"]);
    }

    #[test]
    fn versions_that_an_unreadable_object_would_have_deleted_are_named() {
        let ids = |status: Value| {
            let Err(unreadable) = parsed::<ChatbotDeployment>(&json!({}), &status).0 else {
                panic!("readable")
            };
            unreadable.held_ids()
        };
        assert_eq!(
            ids(json!({"pendingDeletions": [{"versionId": "v1"}, {"versionId": "v2"}]})),
            ["v1", "v2"]
        );
        assert_eq!(ids(json!({"pendingDeletions": "v1"})), ["unknown"]);
        assert_eq!(ids(Value::Null), ["unknown"]);
    }
}
