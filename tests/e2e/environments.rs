//! Who moves an environment: a deployment where there is one, else the version that was made for it.

use chatcaptain_operator::crd::ChatbotDeployment;
use simulator::{Environment, Settings};
use support::{World, condition, deployment, version};

#[test]
fn a_version_for_a_claimed_environment_is_created_for_dev() {
    let world = World::new(Settings::default());
    world.apply_version("a", &[]);
    world.point("prod", "a", &[]);
    world.ready_deployment("prod");
    world.apply_version("b", &["environment: prod"]);
    world.ready_version("b");
    assert_eq!(world.effects(), ["create a dev", "deploy a prod", "create b dev"]);
    assert_eq!(world.live(Environment::Prod).as_deref(), Some("a"));
}

#[test]
fn one_commit_with_both_objects_claims_too() {
    let world = World::asleep(Settings::default(), &[]);
    let bot = &world.bot;
    // the version comes first in the file; the claim holds all the same
    let git = [
        version(bot, "a", &["environment: prod"]),
        deployment(bot, "prod", "prod", &["versionRef: {name: a}"]),
    ];
    world.apply(&git.concat());
    world.start();
    world.ready_deployment("prod");
    assert_eq!(world.effects(), ["create a dev", "deploy a prod"]);
}

#[test]
fn an_unclaimed_environment_gets_its_version_by_the_create() {
    let world = World::new(Settings::default());
    world.apply_version("a", &[]);
    // a claim on test is none on prod
    world.point("test", "a", &[]);
    world.ready_deployment("test");
    world.apply_version("b", &["environment: prod"]);
    let version = world.ready_version("b");
    assert_eq!(world.effects(), ["create a dev", "deploy a test", "create b prod"]);
    assert_eq!(world.live(Environment::Prod).as_deref(), Some("b"));
    assert_eq!(version.metadata.generation, Some(1));
}

#[test]
fn the_older_of_two_deployments_decides_until_it_goes() {
    let world = World::with(Settings::default(), &[("interval", "1h")]);
    world.apply_version("a", &[]);
    world.apply_version("b", &[]);
    world.point("test", "a", &[]);
    world.ready_deployment("test");
    world.outgrown::<ChatbotDeployment>("test");
    let younger = ["versionRef: {name: b}"];
    world.apply(&deployment(&world.bot, "younger", "test", &younger));
    let message = world.told::<ChatbotDeployment>("younger", "Conflict");
    let older = format!("{}/test", world.namespace);
    assert!(message.contains(&older) && message.contains("delete one"), "{message}");
    let loser = world.deployment("younger");
    assert_eq!(condition(&loser, "Stalled").unwrap().status, "True");
    assert_eq!(world.moves(), ["deploy a test"]);

    world.delete("chatbotdeployment", "test");
    world.ready_deployment("younger");
    assert_eq!(world.moves(), ["deploy a test", "deploy b test"]);
    assert_eq!(world.live(Environment::Test).as_deref(), Some("b"));
}
