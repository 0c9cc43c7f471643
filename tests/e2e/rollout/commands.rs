//! `rollback-to`: what it names, how long it holds, and when the annotation is removed.

use chatcaptain_operator::crd::{ChatbotDeployment, annotation};
use kube::ResourceExt;
use simulator::{Environment, Settings};
use support::World;

/// The versions ran in this order in test, and the last one runs.
fn world_that_ran(names: &[&str]) -> World {
    let world = World::new(Settings::default());
    for name in names {
        world.apply_version(name, &[]);
        move_git(&world, name);
    }
    world
}

fn move_git(world: &World, name: &str) {
    world.wait_until_version_ready(name);
    world.apply_deployment("test", name, &[]);
    wait_until_live(world, name);
    world.wait_until_deployment_ready("test");
}

fn wait_until_live(world: &World, name: &str) {
    world.eventually(&format!("{name} is live"), || {
        (world.live_version(Environment::Test).as_deref() == Some(name)).then_some(())
    });
}

fn roll_back_to(world: &World, what: &str) {
    let command = format!("{}={what}", annotation::ROLLBACK_TO);
    world.kubectl(&["annotate", "--overwrite", "cbd", "test", &command], "");
}

fn is_commanded(world: &World) -> bool {
    world.deployment("test").annotations().contains_key(annotation::ROLLBACK_TO)
}

fn wait_until_removed(world: &World) {
    world.eventually("the annotation is removed", || (!is_commanded(world)).then_some(()));
}

#[test]
fn command_that_names_nothing_is_removed_with_its_reason_and_holds_nothing_back() {
    let world = world_that_ran(&["a"]);
    for (command, reason) in [("typo", "says typo"), ("9.9", "says 9.9"), ("previous", "no earlier version")]
    {
        roll_back_to(&world, command);
        wait_until_removed(&world);
        world.eventually("an event says why", || {
            let mut events = world.events("test").into_iter();
            events.find(|(kind, note)| kind == "RollbackCommandEnded" && note.contains(reason))
        });
    }
    world.apply_version("b", &[]);
    world.wait_until_version_ready("b");
    roll_back_to(&world, "typo");
    move_git(&world, "b");
    assert_eq!(world.effects_besides_creates(), ["deploy a test", "deploy b test"]);
}

#[test]
fn command_names_a_version_number() {
    let world = world_that_ran(&["a", "b"]);
    let number = world.version("a").status.unwrap().version_number.unwrap();
    roll_back_to(&world, &number);
    world.wait_for_reason::<ChatbotDeployment>("test", "RolledBack");
    assert_eq!(world.live_version(Environment::Test).as_deref(), Some("a"));
}

/// The annotation of an ended rollback is removed, so that the same command works the second and the third time.
#[test]
fn same_command_can_be_given_again_after_git_has_moved() {
    let world = world_that_ran(&["a"]);
    for name in ["b", "c", "d"] {
        world.apply_version(name, &[]);
        move_git(&world, name);
        wait_until_removed(&world);
        roll_back_to(&world, "previous");
        world.wait_for_reason::<ChatbotDeployment>("test", "RolledBack");
        assert_eq!(world.live_version(Environment::Test).as_deref(), Some("a"), "before {name}");
        assert!(is_commanded(&world), "it holds");
    }
}

#[test]
fn command_that_is_removed_and_given_again_never_leads_forward() {
    let world = world_that_ran(&["a", "b"]);
    for _ in 0..3 {
        roll_back_to(&world, "previous");
        wait_until_live(&world, "a");
        let remove = format!("{}-", annotation::ROLLBACK_TO);
        world.kubectl(&["annotate", "cbd", "test", &remove], "");
        roll_back_to(&world, "previous");
        world.wait_for_reason::<ChatbotDeployment>("test", "RolledBack");
        wait_until_live(&world, "a");
    }
    let status = world.deployment("test").status.unwrap();
    let commanded = status.rollback_command.unwrap().version_id;
    assert_eq!(Some(commanded.as_str()), world.version("a").version_id());
}

#[test]
fn suspending_and_resuming_does_not_end_a_command() {
    let world = world_that_ran(&["a", "b"]);
    roll_back_to(&world, "previous");
    world.wait_for_reason::<ChatbotDeployment>("test", "RolledBack");
    let handled = |deployment: &ChatbotDeployment| {
        deployment.status.as_ref().and_then(|status| status.common.observed_generation)
            == deployment.metadata.generation
    };
    for more in [&["suspend: true"][..], &[], &["interval: 1m"]] {
        world.apply_deployment("test", "b", more);
        world.eventually("it is reconciled", || handled(&world.deployment("test")).then_some(()));
        world.wait_for_reason::<ChatbotDeployment>("test", "RolledBack");
    }
    assert_eq!(world.effects_besides_creates(), ["deploy a test", "deploy b test", "rollback a test"]);
}

/// A manifest brings its annotation back with each sync: obeyed each time, it would move the environment for ever.
#[test]
fn command_in_the_manifest_is_obeyed_once_and_then_reported() {
    let world = world_that_ran(&["a", "b"]);
    let sync = |version: &str| {
        let reference = format!("versionRef: {{name: {version}}}");
        let manifest = support::deployment(&world.bot, "test", "test", &[&reference]);
        let annotations = format!("metadata:\n  annotations: {{{}: previous}}\n", annotation::ROLLBACK_TO);
        world.apply(&manifest.replacen("metadata:\n", &annotations, 1));
    };
    sync("b");
    world.wait_for_reason::<ChatbotDeployment>("test", "RolledBack");
    world.apply_version("c", &[]);
    world.wait_until_version_ready("c");
    sync("c");
    wait_until_live(&world, "c");
    let note = world.wait_for_event("test", "RollbackCommandEnded");
    assert!(note.ends_with("Remove it from the manifest."), "{note}");
    let message = world.wait_for_reason::<ChatbotDeployment>("test", "Available");
    assert!(message.ends_with("Remove it from the manifest."), "{message}");
    let effects = world.effects_besides_creates();
    sync("c");
    sync("b");
    wait_until_live(&world, "b");
    world.wait_for_reason::<ChatbotDeployment>("test", "Available");
    assert_eq!(world.effects_besides_creates()[effects.len()..], ["rollback b test"]);
    assert!(is_commanded(&world), "the manifest would bring it back");
    let ended = world.events("test").into_iter().filter(|(reason, _)| reason == "RollbackCommandEnded");
    assert_eq!(ended.count(), 1);
}
