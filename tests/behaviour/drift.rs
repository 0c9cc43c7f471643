//! Somebody deploys by hand.

use chatcaptain_operator::crd::ChatbotDeployment;
use simulator::{Environment, Settings};

use crate::harness::{World, condition};

/// A world where test runs `a`, and `b` is there too.
fn in_sync(more: &[&str]) -> World {
    let world = World::new(Settings::default());
    world.apply_version("a", &[]);
    world.apply_version("b", &[]);
    world.ready_version("b");
    world.point("test", "a", more);
    world.ready_deployment("test");
    world
}

fn by_hand(world: &World, name: &str) {
    let deployed = world.service.hand_deploy(&world.bot, name, Environment::Test);
    deployed.unwrap();
}

#[test]
fn an_enforced_environment_is_put_right_by_one_deploy() {
    let world = in_sync(&[]);
    by_hand(&world, "b");
    world
        .eventually("a runs again", || (world.live(Environment::Test).as_deref() == Some("a")).then_some(()));
    let note = world.event("test", "DriftDetected");
    assert!(note.contains("by hand"), "{note}");
    world.ready_deployment("test");
    assert_eq!(world.moves(), ["deploy a test", "deploy a test"]);
    let enforced = world.metric("chatcaptain_drift_total", &[r#"action="enforced""#]);
    assert_eq!(enforced, 1);
}

#[test]
fn a_tolerant_environment_says_so_and_does_nothing() {
    let world = in_sync(&["drift: Warn"]);
    by_hand(&world, "b");
    let message = world.told::<ChatbotDeployment>("test", "DriftTolerated");
    assert!(message.contains("by hand"), "{message}");
    let deployment = world.ready_deployment("test");
    let drifted = condition(&deployment, "Drifted").unwrap();
    assert_eq!((drifted.status.as_str(), drifted.reason.as_str()), ("True", "OutOfSync"));
    world.event("test", "DriftDetected");
    let warned = world.metric("chatcaptain_drift_total", &[r#"action="warned""#]);
    assert_eq!(warned, 1);
    assert_eq!(world.live(Environment::Test).as_deref(), Some("b"));

    by_hand(&world, "a");
    world.told::<ChatbotDeployment>("test", "Available");
    let deployment = world.deployment("test");
    assert_eq!(condition(&deployment, "Drifted").unwrap().status, "False");
    assert_eq!(world.moves(), ["deploy a test"]);
}

#[test]
fn nobody_is_fought_without_end() {
    let world = in_sync(&[]);
    let corrections = || world.moves().len() - 1;
    for round in 1..=5 {
        by_hand(&world, "b");
        world.eventually("it is put right", || (corrections() == round).then_some(()));
        world.ready_deployment("test");
    }
    by_hand(&world, "b");
    let message = world.told::<ChatbotDeployment>("test", "DriftRepeated");
    assert!(message.contains("spec.drift"), "{message}");
    let deployment = world.deployment("test");
    assert_eq!(condition(&deployment, "Stalled").unwrap().status, "True");
    assert_eq!(corrections(), 5);
    assert_eq!(world.live(Environment::Test).as_deref(), Some("b"));
}
