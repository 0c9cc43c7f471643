//! Other field managers write to our status: a backup tool that restores it, an admission tool with a condition of its own.

use chatcaptain_operator::crd::{ChatbotDeployment, ChatbotVersion};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use simulator::Settings;
use support::{Object, World, condition};

const LONG_AGO: &str = "2026-01-01T00:00:00Z";
const OTHER_TYPE: &str = "velero.io/BackedUp";

/// Another manager applies this status, and owns its fields from now on.
fn apply_status_of_velero<K: Object>(world: &World, name: &str, status: &Value) {
    let apply = Patch::Apply(json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": {"name": name}, "status": status,
    }));
    let api: Api<K> = Api::namespaced(world.cluster.client(), &world.namespace);
    // not by kubectl, which repeats it to take over the fields of other kubectl commands
    let params = PatchParams::apply("velero").force();
    let applied = api.patch_status(name, &params, &apply);
    world.cluster.runtime().block_on(applied).unwrap();
}

fn backed_up() -> Value {
    json!({
        "type": OTHER_TYPE, "status": "True", "reason": "Completed", "message": "Backup 7 contains it.",
        "observedGeneration": 1, "lastTransitionTime": LONG_AGO,
    })
}

fn without_status<K: Object>(object: &K) -> Value {
    let mut object = serde_json::to_value(object).unwrap();
    object.as_object_mut().unwrap().remove("status");
    let meta = object["metadata"].as_object_mut().unwrap();
    meta.remove("resourceVersion");
    // the entries of those that wrote the status change; ours has a time in it
    let managers = meta["managedFields"].as_array_mut().unwrap();
    managers.retain(|entry| entry["subresource"] != "status");
    object
}

/// Restored fields of ours, owned by another manager, are gone after one write; nothing else of the object changes.
fn replaces_leftovers<K: Object>(world: &World, name: &str, mut leftovers: Value) {
    leftovers["retry"] = json!({"failures": 3, "nextAttemptTime": LONG_AGO});
    let resource = &K::plural(&());
    world.kubectl(&["label", resource, name, "team=support"], "");
    let before: K = world.get(name).unwrap();
    let (status, writes) = (serde_json::to_value(&before).unwrap()["status"].clone(), world.writes(resource));
    apply_status_of_velero::<K>(world, name, &leftovers);
    let after = world.eventually("the status is ours again", || {
        let now: K = world.get(name)?;
        (serde_json::to_value(&now).unwrap()["status"] == status).then_some(now)
    });
    world.wait_for_two_polls();
    let since = world.writes(resource).split_off(writes.len());
    assert_eq!(since.len(), 1, "{since:#?}");
    assert_eq!((since[0].verb.as_str(), since[0].subresource.as_str()), ("update", "status"));
    assert_eq!(without_status(&after), without_status(&before));
}

#[test]
fn restored_fields_of_another_manager_are_replaced_by_one_write() {
    let world = World::new(Settings::default());
    world.apply_version("a", &["deletionPolicy: Retain"]);
    world.wait_until_version_ready("a");
    world.apply_deployment("test", "a", &[]);
    world.wait_until_deployment_ready("test");
    world.eventually("the version knows where it is live", || {
        (world.version("a").status?.live_in.len() == 1).then_some(())
    });
    let drifted = json!({
        "type": "Drifted", "status": "True", "reason": "OutOfSync", "message": "From a backup.", "lastTransitionTime": LONG_AGO,
    });
    let of_version = json!({"duplicates": ["vrsOld"], "conditions": [drifted]});
    // the audit log follows the writes, and the list may still show when the version was deployed
    world.wait_for_two_polls();
    replaces_leftovers::<ChatbotVersion>(&world, "a", of_version);
    let operation = json!({"operation": "Deploy", "versionId": "vrsOld", "startTime": LONG_AGO});
    let of_deployment = json!({"currentOperation": operation});
    replaces_leftovers::<ChatbotDeployment>(&world, "test", of_deployment);
    assert_eq!(world.effects(), ["create a dev", "deploy a test"]);
}

#[test]
fn condition_of_another_type_survives_every_write() {
    let world = World::new(Settings::default());
    world.apply_version("a", &[]);
    let conditions = json!({"conditions": [backed_up()]});
    // before the operator has written anything, or after
    apply_status_of_velero::<ChatbotVersion>(&world, "a", &conditions);
    let id = world.wait_until_version_ready("a").version_id().unwrap().to_owned();
    let writes = world.writes("chatbotversions");
    apply_status_of_velero::<ChatbotVersion>(&world, "a", &conditions);
    world.wait_for_two_polls();
    assert_eq!(world.writes("chatbotversions"), writes, "it says nothing new");

    world.service.hand_delete(&world.bot, &id).unwrap();
    world.wait_for_reason::<ChatbotVersion>("a", "VersionLost");
    let lost = world.version("a");
    assert_eq!(serde_json::to_value(condition(&lost, OTHER_TYPE)).unwrap(), backed_up());
    world.wait_for_two_polls();
    assert_eq!(world.writes("chatbotversions").len(), writes.len() + 1, "one write has both");
}
