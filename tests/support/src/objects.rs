//! Reading both kinds in tests.

use std::fmt::Debug;

use chatcaptain_operator::crd::{ChatbotDeployment, ChatbotVersion, CommonStatus};
use k8s_openapi::{api::events::v1::Event, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{Resource, ResourceExt, core::NamespaceResourceScope};
use serde::{Serialize, de::DeserializeOwned};

/// A namespaced object.
pub trait Object:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned
{
    /// The part of the status that both kinds have.
    fn common(&self) -> Option<&CommonStatus> {
        None
    }
}

impl Object for ChatbotVersion {
    fn common(&self) -> Option<&CommonStatus> {
        self.status.as_ref().map(|status| &status.common)
    }
}

impl Object for ChatbotDeployment {
    fn common(&self) -> Option<&CommonStatus> {
        self.status.as_ref().map(|status| &status.common)
    }
}

impl Object for Event {}

/// A condition.
pub fn condition<'a, K: Object>(object: &'a K, kind: &str) -> Option<&'a Condition> {
    let conditions = object.common()?.conditions.iter();
    conditions.into_iter().find(|c| c.type_ == kind)
}

/// Whether `Ready` is true for the current generation.
pub fn is_ready<K: Object>(object: &K) -> bool {
    let now = object.meta().generation;
    condition(object, "Ready").is_some_and(|ready| {
        ready.status == "True"
            && ready.observed_generation == now
            && object.common().and_then(|c| c.observed_generation) == now
    })
}

/// Asserts that no two tools can interpret the object's conditions differently.
pub fn assert_consistent_conditions<K: Object>(object: &K) {
    let holds = |kind| condition(object, kind).is_some_and(|c| c.status == "True");
    let verdicts = ["Ready", "Reconciling", "Stalled"];
    let held: Vec<_> = verdicts.into_iter().filter(|kind| holds(kind)).collect();
    assert!(held.len() <= 1, "{} claims {held:?}", object.name_any());
    let is_being_deleted = object.meta().deletion_timestamp.is_some();
    assert!(
        !is_being_deleted || !holds("Ready") || !is_ready(object) || just_deleted(object),
        "{} is Ready while it is being deleted",
        object.name_any()
    );
    for condition in object.common().iter().flat_map(|c| &c.conditions) {
        assert!(!condition.message.is_empty(), "{condition:?}");
    }
}

/// The deletion has raised the generation, and the operator has not reconciled the object since.
fn just_deleted<K: Object>(object: &K) -> bool {
    condition(object, "Ready").is_some_and(|c| c.observed_generation != object.meta().generation)
}
