//! Deletions that involve more than one object; `table.rs` has those of a single version.

use chatcaptain_operator::crd::{ChatbotDeployment, ChatbotVersion};
use simulator::{DeploymentsStatus, Environment, Operation, Settings};
use support::{Flags, World};

/// A version with its id, Ready.
fn ready_version_id(world: &World, name: &str, more: &[&str]) -> String {
    world.apply_version(name, more);
    let version = world.wait_until_version_ready(name);
    version.status.unwrap().version_id.unwrap()
}

/// The names of the versions in the service.
fn versions_in_service(world: &World) -> Vec<String> {
    let versions = world.state().map(|state| state.versions).unwrap_or_default();
    versions.into_iter().map(|version| version.name).collect()
}

fn delete_and_wait(world: &World, name: &str) {
    world.delete("chatbotversion", name);
    world.wait_until_deleted::<ChatbotVersion>(name);
}

fn wait_for_orphans(world: &World, versions: u64) {
    world.wait_for_metric("chatcaptain_orphans_total", &[], versions);
}

/// A policy that cannot be parsed keeps the version, and that is reported.
#[test]
fn invalid_namespace_policy_keeps_the_version_and_is_reported() {
    let world = World::new(Settings::default());
    let id = ready_version_id(&world, "a", &[]);
    ready_version_id(&world, "said", &["deletionPolicy: Retain"]);
    ready_version_id(&world, "asleep", &[]);
    world.apply_version("asleep", &["suspend: true"]);
    world.kubectl(&["annotate", "namespace", &world.namespace, "chatcaptain.dev/deletion-policy=delete"], "");
    for name in ["said", "asleep", "a"] {
        delete_and_wait(&world, name);
    }
    let note = world.wait_for_event("a", "Orphaned");
    for part in ["chatcaptain.dev/deletion-policy", "\"delete\"", "neither Delete nor Retain", &id] {
        assert!(note.contains(part), "{part:?} is not in: {note}");
    }
    // the others stay because somebody asked for it
    wait_for_orphans(&world, 1);
    assert_eq!(versions_in_service(&world), ["a", "said", "asleep"]);
}

#[test]
fn live_version_is_deleted_after_its_environment_moves_on() {
    // no periodic polling within the test: changes alone trigger reconciliation
    let world = World::with_flags(Settings::default(), &[("interval", "1h")]);
    let a = ready_version_id(&world, "a", &[]);
    ready_version_id(&world, "b", &[]);
    world.apply_deployment("test", "a", &["revisionHistoryLimit: 0"]);
    world.wait_until_deployment_ready("test");

    // git drops a and moves on to b in one commit; the tools delete first
    world.delete("chatbotversion", "a");
    world.wait_until_deleted::<ChatbotVersion>("a");
    world.wait_for_event("a", "DeletionDelegated");
    assert_eq!(world.live_version(Environment::Test).as_deref(), Some("a"));
    let pending = world.deployment("test").status.unwrap().pending_deletions;
    let ids: Vec<&str> = pending.iter().map(|r| r.version_id.as_str()).collect();
    assert_eq!(ids, [a.as_str()]);
    assert_eq!(versions_in_service(&world), ["a", "b"]);

    world.apply_deployment("test", "b", &["revisionHistoryLimit: 0"]);
    world.wait_until_deployment_ready("test");
    world.eventually("a is deleted", || (versions_in_service(&world) == ["b"]).then_some(()));
    world.wait_for_event("test", "VersionDeleted");
    world.eventually("the deployment has nothing to do any more", || {
        let test = world.deployment("test");
        let pending = test.status.unwrap().pending_deletions;
        (pending.is_empty() && test.metadata.finalizers.is_none()).then_some(())
    });
    let moves = ["deploy a test", "deploy b test", "delete a"];
    assert_eq!(world.effects_besides_creates(), moves);
    wait_for_orphans(&world, 0);
}

/// Another finalizer still holds the object when somebody decides that the version is to stay.
#[test]
fn hand_over_is_called_off_when_the_version_is_to_stay() {
    for (part, patch) in [
        ("spec", r#"{"deletionPolicy": "Retain"}"#),
        ("metadata", r#"{"annotations": {"chatcaptain.dev/force-orphan": "true"}}"#),
    ] {
        let world = World::with_flags(Settings::default(), &[("interval", "1h")]);
        ready_version_id(&world, "a", &[]);
        ready_version_id(&world, "b", &[]);
        world.apply_deployment("test", "a", &["revisionHistoryLimit: 0"]);
        world.wait_until_deployment_ready("test");
        hold(&world, "a");
        world.delete("chatbotversion", "a");
        world.wait_for_event("a", "DeletionDelegated");
        let patch = format!(r#"{{"{part}": {patch}}}"#);
        world.kubectl(&["patch", "cbv", "a", "--type=merge", "-p", &patch], "");
        world.eventually("the deployment deletes nothing any more", || {
            let test = world.deployment("test");
            let pending = test.status.unwrap().pending_deletions;
            (pending.is_empty() && test.metadata.finalizers.is_none()).then_some(())
        });
        world.apply_deployment("test", "b", &["revisionHistoryLimit: 0"]);
        world.wait_until_deployment_ready("test");
        assert_eq!(world.live_version(Environment::Test).as_deref(), Some("b"));
        assert_eq!(versions_in_service(&world), ["a", "b"], "{part}");
        assert_eq!(world.service.counters().of(Operation::Delete).calls, 0);
    }
}

/// Adds a finalizer that is another tool's.
fn hold(world: &World, name: &str) {
    let hold = r#"[{"op": "add", "path": "/metadata/finalizers/-", "value": "example.com/hold"}]"#;
    world.kubectl(&["patch", "cbv", name, "--type=json", "-p", hold], "");
}

/// The message says what happened to the version that the spec names, and following its advice works.
#[test]
fn deployment_says_how_to_keep_its_deleted_version() {
    let world = World::with_flags(Settings::default(), &[("interval", "1h")]);
    let a = ready_version_id(&world, "a", &[]);
    world.apply_deployment("test", "a", &[]);
    world.wait_until_deployment_ready("test");
    delete_and_wait(&world, "a");
    let message = world.wait_for_reason::<ChatbotDeployment>("test", "WaitingForVersion");
    for part in ["ChatbotVersion a was deleted", &a, "apply the ChatbotVersion again to keep it"] {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
    world.apply_version("a", &[]);
    world.wait_until_deployment_ready("test");
    assert_eq!(world.version("a").version_id(), Some(a.as_str()));
    assert_eq!(world.deployment("test").status.unwrap().pending_deletions, []);
    assert_eq!((world.creates(), world.effects_besides_creates()), (1, vec!["deploy a test".to_owned()]));

    ready_version_id(&world, "b", &[]);
    hold(&world, "b");
    world.delete("chatbotversion", "b");
    world.apply_deployment("test", "b", &[]);
    let message = world.wait_for_reason::<ChatbotDeployment>("test", "WaitingForVersion");
    for part in ["ChatbotVersion b is being deleted", "Name another", "apply it again once it is gone"] {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

#[test]
fn deleting_a_deployment_changes_nothing_in_the_service() {
    let world = World::new(Settings::default());
    ready_version_id(&world, "a", &[]);
    world.apply_deployment("test", "a", &[]);
    world.wait_until_deployment_ready("test");
    world.delete("chatbotdeployment", "test");
    world.wait_until_deleted::<ChatbotDeployment>("test");
    assert_eq!(world.live_version(Environment::Test).as_deref(), Some("a"));
    assert_eq!(world.effects_besides_creates(), ["deploy a test"]);
}

#[test]
fn deleting_a_namespace_deletes_its_versions() {
    let world = World::new(Settings::default());
    ready_version_id(&world, "a", &[]);
    ready_version_id(&world, "b", &[]);
    // the Secret may go first: the key is still known
    world.cluster.kubectl_ok(&["delete", "namespace", &world.namespace, "--timeout=60s"], "");
    assert_eq!(versions_in_service(&world), Vec::<String>::new());
}

#[test]
fn deleting_the_younger_of_two_owners_keeps_the_version() {
    let world = World::new(Settings::default());
    let id = ready_version_id(&world, "older", &[]);
    // as a backup does that was restored beside the original, with its status
    world.stop();
    world.wait_for_later_timestamp::<ChatbotVersion>("older");
    world.apply_version("younger", &[]);
    let status = format!(r#"{{"status":{{"versionId":"{id}"}}}}"#);
    let patch = ["patch", "cbv", "younger", "--subresource=status", "--type=merge", "-p", &status];
    let guard = r#"{"metadata":{"finalizers":["chatcaptain.dev/finalizer"]}}"#;
    world.kubectl(&patch, "");
    world.kubectl(&["patch", "cbv", "younger", "--type=merge", "-p", guard], "");
    world.start();
    let message = world.wait_for_reason::<ChatbotVersion>("younger", "Conflict");
    assert!(message.contains("/older") && message.contains("Delete this object"), "{message}");
    world.wait_until_version_ready("older");
    delete_and_wait(&world, "younger");
    assert_eq!(versions_in_service(&world), ["older"]);
    wait_for_orphans(&world, 0);
    delete_and_wait(&world, "older");
    assert_eq!(versions_in_service(&world), Vec::<String>::new());
    assert_eq!(world.creates(), 1);
}

/// `a` runs in test.
fn running(flags: Flags) -> World {
    let world = World::with_flags(Settings::default(), flags);
    ready_version_id(&world, "a", &[]);
    world.apply_deployment("test", "a", &[]);
    world.wait_until_deployment_ready("test");
    world
}

/// Row 16. Version and deployment are pruned in one commit: neither waits for the other, and the live version stays
/// live.
#[test]
fn version_and_deployment_deleted_together_do_not_deadlock() {
    for first in ["chatbotversion", "chatbotdeployment"] {
        let world = running(&[("interval", "1h")]);
        let objects = [("chatbotversion", "a"), ("chatbotdeployment", "test")];
        let mut order = objects.to_vec();
        order.sort_by_key(|(kind, _)| *kind != first);
        for (kind, name) in order {
            world.delete(kind, name);
        }
        world.wait_until_deleted::<ChatbotVersion>("a");
        world.wait_until_deleted::<ChatbotDeployment>("test");
        assert_eq!(world.live_version(Environment::Test).as_deref(), Some("a"));
        assert_eq!(world.service.counters().of(Operation::Delete).took_effect, 0);
        wait_for_orphans(&world, 1);
    }
}

/// The list shows the newest two versions. `a` is not among them, but it is there.
fn unlisted() -> World {
    let world = World::new(Settings::default());
    for name in ["a", "b", "c"] {
        ready_version_id(&world, name, &[]);
    }
    world.service.settings(|settings| settings.list_limit = Some(2));
    world.kubectl(&["annotate", "cbv", "a", "chatcaptain.dev/reconcile-requested-at=1"], "");
    world.wait_for_reason::<ChatbotVersion>("a", "VersionLost");
    world
}

#[test]
fn version_that_a_cut_list_hides_is_deleted_with_its_object() {
    let world = unlisted();
    delete_and_wait(&world, "a");
    assert_eq!(versions_in_service(&world), ["b", "c"]);
    wait_for_orphans(&world, 0);
}

#[test]
fn live_version_that_a_cut_list_hides_is_not_deleted() {
    let world = unlisted();
    world.service.hand_deploy(&world.bot, "a", Environment::Prod).unwrap();
    delete_and_wait(&world, "a");
    assert_eq!(world.live_version(Environment::Prod).as_deref(), Some("a"));
    assert_eq!(world.service.counters().of(Operation::Delete).calls, 0);
    world.wait_for_event("a", "Orphaned");
    wait_for_orphans(&world, 1);
}

/// Its object is gone, so the deployment that ran it deletes it, listed or not.
#[test]
fn handed_over_version_that_a_cut_list_hides_is_deleted() {
    let world = World::new(Settings::default());
    for name in ["a", "b", "c"] {
        ready_version_id(&world, name, &[]);
    }
    let keeps_nothing = "revisionHistoryLimit: 0";
    world.apply_deployment("test", "a", &[keeps_nothing]);
    world.wait_until_deployment_ready("test");
    delete_and_wait(&world, "a");
    world.service.settings(|settings| settings.list_limit = Some(2));
    world.apply_deployment("test", "b", &[keeps_nothing]);
    world.wait_for_event("test", "VersionDeleted");
    assert_eq!(versions_in_service(&world), ["b", "c"]);
    wait_for_orphans(&world, 0);
}

/// Only times of deployment show that somebody has deployed `a`, and the service's clock is two hours behind.
#[test]
fn version_deployed_manually_is_not_deleted_whatever_the_services_clock() {
    let world = World::new(Settings {
        deployments_status: DeploymentsStatus::Forbidden,
        clock_offset_seconds: -7200,
        ..Settings::default()
    });
    for (name, environment) in [("b", "test"), ("c", "prod")] {
        ready_version_id(&world, name, &[]);
        world.apply_deployment(environment, name, &[]);
        world.wait_until_deployment_ready(environment);
    }
    ready_version_id(&world, "a", &[]);
    world.service.hand_deploy(&world.bot, "a", Environment::Test).unwrap();
    delete_and_wait(&world, "a");
    assert_eq!(world.live_version(Environment::Test).as_deref(), Some("a"));
    assert_eq!(world.service.counters().of(Operation::Delete).calls, 0);
    world.wait_for_event("a", "Orphaned");
}

/// The operator that has sent the create is gone, and with it what it remembered.
#[test]
fn version_whose_create_still_deploys_is_not_deleted_after_a_restart() {
    let world = World::new(Settings { rollout_ms: 10_000, ..Settings::default() });
    world.apply_version("a", &["environment: prod"]);
    world.wait_until_version_ready("a");
    world.kill();
    world.delete("chatbotversion", "a");
    world.start();
    let message = world.wait_for_reason::<ChatbotVersion>("a", "Deleting");
    assert!(message.contains("may become live"), "{message}");
    world.wait_until_deleted::<ChatbotVersion>("a");
    assert_eq!(world.live_version(Environment::Prod).as_deref(), Some("a"));
    assert_eq!(world.service.counters().of(Operation::Delete).calls, 0);
    world.wait_for_event("a", "Orphaned");
}

/// A suspended deployment does not know that its environment runs `a`, so it cannot take the deletion over.
#[test]
fn hand_over_that_does_not_come_ends_with_the_timeout() {
    let world = World::with_flags(
        Settings::default(),
        &[("deletion-timeout", "4s"), ("visibility-grace", "1s"), ("interval", "1h")],
    );
    for name in ["a", "b"] {
        ready_version_id(&world, name, &[]);
    }
    world.apply_deployment("test", "b", &[]);
    world.wait_until_deployment_ready("test");
    world.apply_deployment("test", "b", &["suspend: true"]);
    world.service.hand_deploy(&world.bot, "a", Environment::Test).unwrap();
    world.delete("chatbotversion", "a");
    let message = world.wait_for_reason::<ChatbotVersion>("a", "Deleting");
    assert!(message.contains("take over the deletion"), "{message}");
    world.wait_until_deleted::<ChatbotVersion>("a");
    let note = world.wait_for_event("a", "Orphaned");
    assert!(note.contains("no ChatbotDeployment takes over its deletion"), "{note}");
    assert_eq!(world.live_version(Environment::Test).as_deref(), Some("a"));
    wait_for_orphans(&world, 1);
}

/// Row 20. Objects are deleted while no operator runs: they wait for the next one.
#[test]
fn deletion_without_an_operator_is_carried_out_later() {
    let world = running(&[]);
    world.apply_version("b", &[]);
    world.wait_until_version_ready("b");
    world.stop();
    for (kind, name) in [("chatbotversion", "a"), ("chatbotversion", "b")] {
        world.delete(kind, name);
    }
    assert!(world.get::<ChatbotVersion>("b").is_some(), "its finalizer holds it");
    world.start();
    world.wait_until_deleted::<ChatbotVersion>("a");
    world.wait_until_deleted::<ChatbotVersion>("b");
    assert_eq!(world.live_version(Environment::Test).as_deref(), Some("a"));
    assert_eq!(versions_in_service(&world), ["a"], "live, and handed over");
}
