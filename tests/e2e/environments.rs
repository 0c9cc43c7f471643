//! Who manages an environment: a deployment if there is one, else the version that was created for it.

use chatcaptain_operator::crd::ChatbotDeployment;
use simulator::{Environment, Settings};
use support::{World, condition, deployment, version};

#[test]
fn version_for_a_managed_environment_is_created_for_dev() {
    let world = World::new(Settings::default());
    world.apply_version("a", &[]);
    world.apply_deployment("prod", "a", &[]);
    world.wait_until_deployment_ready("prod");
    world.apply_version("b", &["environment: prod"]);
    world.wait_until_version_ready("b");
    assert_eq!(world.effects(), ["create a dev", "deploy a prod", "create b dev"]);
    assert_eq!(world.live_version(Environment::Prod).as_deref(), Some("a"));
}

#[test]
fn deployment_in_the_same_commit_manages_the_environment() {
    let world = World::without_operator(Settings::default(), &[]);
    let bot = &world.bot;
    // the version comes first in the file; the deployment manages the environment all the same
    let git = [
        version(bot, "a", &["environment: prod"]),
        deployment(bot, "prod", "prod", &["versionRef: {name: a}"]),
    ];
    world.apply(&git.concat());
    world.start();
    world.wait_until_deployment_ready("prod");
    assert_eq!(world.effects(), ["create a dev", "deploy a prod"]);
}

#[test]
fn unmanaged_environment_is_set_by_the_create() {
    let world = World::new(Settings::default());
    world.apply_version("a", &[]);
    // a deployment for test does not manage prod
    world.apply_deployment("test", "a", &[]);
    world.wait_until_deployment_ready("test");
    world.apply_version("b", &["environment: prod"]);
    let version = world.wait_until_version_ready("b");
    assert_eq!(world.effects(), ["create a dev", "deploy a test", "create b prod"]);
    assert_eq!(world.live_version(Environment::Prod).as_deref(), Some("b"));
    assert_eq!(version.metadata.generation, Some(1));
}

#[test]
fn older_of_two_deployments_manages_the_environment() {
    let world = World::with_flags(Settings::default(), &[("interval", "1h")]);
    world.apply_version("a", &[]);
    world.apply_version("b", &[]);
    world.apply_deployment("test", "a", &[]);
    world.wait_until_deployment_ready("test");
    world.wait_for_later_timestamp::<ChatbotDeployment>("test");
    let younger = ["versionRef: {name: b}"];
    world.apply(&deployment(&world.bot, "younger", "test", &younger));
    let message = world.wait_for_reason::<ChatbotDeployment>("younger", "Conflict");
    let older = format!("{}/test", world.namespace);
    assert!(message.contains(&older) && message.contains("Delete one"), "{message}");
    let loser = world.deployment("younger");
    assert_eq!(condition(&loser, "Stalled").unwrap().status, "True");
    assert_eq!(world.effects_besides_creates(), ["deploy a test"]);

    world.delete("chatbotdeployment", "test");
    world.wait_until_deployment_ready("younger");
    assert_eq!(world.effects_besides_creates(), ["deploy a test", "deploy b test"]);
    assert_eq!(world.live_version(Environment::Test).as_deref(), Some("b"));
}
