//! Deletions that involve more than one object; `table.rs` has those of a version alone.

use chatcaptain_operator::crd::{ChatbotDeployment, ChatbotVersion};
use simulator::{Environment, Fault, FaultKind, FaultOperation, Operation, Settings};
use support::{Flags, World, is_ready};

/// A version with its id, Ready.
fn made(world: &World, name: &str, more: &[&str]) -> String {
    world.apply_version(name, more);
    let version = world.ready_version(name);
    version.status.unwrap().version_id.unwrap()
}

/// The names of the versions in the service.
fn left(world: &World) -> Vec<String> {
    let versions = world.state().map(|state| state.versions).unwrap_or_default();
    versions.into_iter().map(|version| version.name).collect()
}

fn remove(world: &World, name: &str) {
    world.delete("chatbotversion", name);
    world.gone::<ChatbotVersion>(name);
}

fn orphans_are(world: &World, versions: u64) {
    world.counted("chatcaptain_orphans_total", &[], versions);
}

/// What cannot be understood keeps the version, but not silently.
#[test]
fn a_misspelt_policy_is_told() {
    let world = World::new(Settings::default());
    let id = made(&world, "a", &[]);
    made(&world, "said", &["deletionPolicy: Retain"]);
    made(&world, "asleep", &[]);
    world.apply_version("asleep", &["suspend: true"]);
    world.kubectl(&["annotate", "namespace", &world.namespace, "chatcaptain.dev/deletion-policy=delete"], "");
    for name in ["said", "asleep", "a"] {
        remove(&world, name);
    }
    let note = world.event("a", "Orphaned");
    for part in ["chatcaptain.dev/deletion-policy", "\"delete\"", "neither Delete nor Retain", &id] {
        assert!(note.contains(part), "{part:?} is not in: {note}");
    }
    // the others stay because somebody asked for it
    orphans_are(&world, 1);
    assert_eq!(left(&world), ["a", "said", "asleep"]);
}

#[test]
fn a_live_version_is_handed_over_and_deleted_after_the_move() {
    // no look of its own accord within the test: everything is woken by what happens
    let world = World::with(Settings::default(), &[("interval", "1h")]);
    let a = made(&world, "a", &[]);
    made(&world, "b", &[]);
    world.point("test", "a", &[]);
    world.ready_deployment("test");

    // git drops a and moves on to b in one commit; the tools delete first
    world.delete("chatbotversion", "a");
    world.gone::<ChatbotVersion>("a");
    world.event("a", "HandedOver");
    assert_eq!(world.live(Environment::Test).as_deref(), Some("a"));
    let retiring = world.deployment("test").status.unwrap().retiring;
    let ids: Vec<&str> = retiring.iter().map(|r| r.version_id.as_str()).collect();
    assert_eq!(ids, [a.as_str()]);
    assert_eq!(left(&world), ["a", "b"]);

    world.point("test", "b", &[]);
    world.ready_deployment("test");
    world.eventually("a is deleted", || (left(&world) == ["b"]).then_some(()));
    world.event("test", "Retired");
    world.eventually("the deployment has nothing to do any more", || {
        let test = world.deployment("test");
        let retiring = test.status.unwrap().retiring;
        (retiring.is_empty() && test.metadata.finalizers.is_none()).then_some(())
    });
    let moves = ["deploy a test", "deploy b test", "delete a"];
    assert_eq!(world.moves(), moves);
    orphans_are(&world, 0);
}

/// What the spec names was there, so it is said what became of it, and the advice is good.
#[test]
fn a_deployment_whose_version_goes_is_told_how_to_keep_it() {
    let world = World::with(Settings::default(), &[("interval", "1h")]);
    let a = made(&world, "a", &[]);
    world.point("test", "a", &[]);
    world.ready_deployment("test");
    remove(&world, "a");
    let message = world.told::<ChatbotDeployment>("test", "WaitingForVersion");
    for part in ["ChatbotVersion a was deleted", &a, "apply the ChatbotVersion again to keep it"] {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
    world.apply_version("a", &[]);
    world.ready_deployment("test");
    assert_eq!(world.version("a").version_id(), Some(a.as_str()));
    assert_eq!(world.deployment("test").status.unwrap().retiring, []);
    assert_eq!((world.creates(), world.moves()), (1, vec!["deploy a test".to_owned()]));

    made(&world, "b", &[]);
    let hold = r#"[{"op": "add", "path": "/metadata/finalizers/-", "value": "example.com/hold"}]"#;
    world.kubectl(&["patch", "cbv", "b", "--type=json", "-p", hold], "");
    world.delete("chatbotversion", "b");
    world.point("test", "b", &[]);
    let message = world.told::<ChatbotDeployment>("test", "WaitingForVersion");
    for part in ["ChatbotVersion b is being deleted", "name another", "apply it again once it is gone"] {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

#[test]
fn a_deleted_deployment_changes_nothing_in_the_service() {
    let world = World::new(Settings::default());
    made(&world, "a", &[]);
    world.point("test", "a", &[]);
    world.ready_deployment("test");
    world.delete("chatbotdeployment", "test");
    world.gone::<ChatbotDeployment>("test");
    assert_eq!(world.live(Environment::Test).as_deref(), Some("a"));
    assert_eq!(world.moves(), ["deploy a test"]);
}

#[test]
fn a_namespace_goes_with_its_versions() {
    let world = World::new(Settings::default());
    made(&world, "a", &[]);
    made(&world, "b", &[]);
    // the Secret may go first: the key is still known
    world.cluster.kubectl_ok(&["delete", "namespace", &world.namespace, "--timeout=60s"], "");
    assert_eq!(left(&world), Vec::<String>::new());
}

#[test]
fn the_loser_of_a_conflict_takes_nothing_along() {
    let world = World::new(Settings::default());
    let id = made(&world, "older", &[]);
    // as a backup does that was restored beside the original, with its status
    world.stop();
    world.outgrown::<ChatbotVersion>("older");
    world.apply_version("younger", &[]);
    let status = format!(r#"{{"status":{{"versionId":"{id}"}}}}"#);
    let patch = ["patch", "cbv", "younger", "--subresource=status", "--type=merge", "-p", &status];
    let guard = r#"{"metadata":{"finalizers":["chatcaptain.dev/finalizer"]}}"#;
    world.kubectl(&patch, "");
    world.kubectl(&["patch", "cbv", "younger", "--type=merge", "-p", guard], "");
    world.start();
    let message = world.told::<ChatbotVersion>("younger", "Conflict");
    assert!(message.contains("older") && message.contains("delete one"), "{message}");
    world.ready_version("older");
    remove(&world, "younger");
    assert_eq!(left(&world), ["older"]);
    orphans_are(&world, 0);
    remove(&world, "older");
    assert_eq!(left(&world), Vec::<String>::new());
    assert_eq!(world.creates(), 1);
}

/// `a` runs in test.
fn running(flags: Flags) -> World {
    let world = World::with(Settings::default(), flags);
    made(&world, "a", &[]);
    world.point("test", "a", &[]);
    world.ready_deployment("test");
    world
}

/// Row 16, third case. Version and deployment are pruned in one commit: neither waits for the other, and what is
/// live stays live.
#[test]
fn version_and_deployment_pruned_together_both_go() {
    for first in ["chatbotversion", "chatbotdeployment"] {
        let world = running(&[("interval", "1h")]);
        let objects = [("chatbotversion", "a"), ("chatbotdeployment", "test")];
        let mut order = objects.to_vec();
        order.sort_by_key(|(kind, _)| *kind != first);
        for (kind, name) in order {
            world.delete(kind, name);
        }
        world.gone::<ChatbotVersion>("a");
        world.gone::<ChatbotDeployment>("test");
        assert_eq!(world.live(Environment::Test).as_deref(), Some("a"));
        assert_eq!(world.service.counters().of(Operation::Delete).took_effect, 0);
        world.counted("chatcaptain_orphans_total", &[], 1);
    }
}

/// A version is pruned while it is live, its environment moves on, and it comes back to git while the service still
/// deletes it: the new object must not end up with a version that is no more.
#[test]
fn a_version_that_comes_back_while_it_is_being_deleted() {
    let world = running(&[("visibility-grace", "4s")]);
    world.apply_version("b", &[]);
    world.ready_version("b");
    let mut late = Fault::new(FaultOperation::Delete, FaultKind::LateEffect).times(1);
    late.late_ms = 2_500;
    world.service.settings(|settings| settings.faults = vec![late]);
    world.delete("chatbotversion", "a");
    world.gone::<ChatbotVersion>("a");
    world.point("test", "b", &[]);
    world.eventually("the deletion is under way", || {
        (world.service.counters().of(Operation::Delete).calls == 1).then_some(())
    });
    world.apply_version("a", &[]);
    world.eventually("the deletion took effect", || {
        (world.service.counters().of(Operation::Delete).took_effect == 1).then_some(())
    });
    world.eventually("it has a version that exists", || {
        let version = world.version("a");
        let there = world.state()?.versions.into_iter().any(|v| Some(v.id.as_str()) == version.version_id());
        (is_ready(&version) && there).then_some(())
    });
}

/// Row 20. Objects are deleted while no operator is there: they wait, and are dealt with by the next.
#[test]
fn a_deletion_that_nobody_saw_is_carried_out() {
    let world = running(&[]);
    world.apply_version("b", &[]);
    world.ready_version("b");
    world.stop();
    for (kind, name) in [("chatbotversion", "a"), ("chatbotversion", "b")] {
        world.delete(kind, name);
    }
    assert!(world.get::<ChatbotVersion>("b").is_some(), "its finalizer holds it");
    world.start();
    world.gone::<ChatbotVersion>("a");
    world.gone::<ChatbotVersion>("b");
    assert_eq!(world.live(Environment::Test).as_deref(), Some("a"));
    assert_eq!(left(&world), ["a"], "live, and handed over");
}
