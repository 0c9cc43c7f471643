//! What the service may be like: a create, a deploy, a rollback and a deletion end well with each variant.

use std::collections::BTreeMap;

use chatcaptain_operator::crd::ChatbotVersion;
use simulator::{
    DeploymentsStatus, Descriptions, Environment, FailuresAs, Fault, FaultKind, FaultOperation, NoDeployment,
    Operation, Permission, Settings, Times, VersionNumbers,
};
use support::{World, run_concurrently};

fn variants() -> Vec<(&'static str, Settings)> {
    let usual = Settings::default;
    vec![
        ("no deployment is called none", Settings { no_deployment: NoDeployment::None, ..usual() }),
        ("descriptions in one line", Settings { descriptions: Descriptions::OneLine, ..usual() }),
        ("an entry without an id", Settings { entry_without_id: Some("of the past".into()), ..usual() }),
        ("times in milliseconds", Settings { times: Times::Millis, ..usual() }),
        ("times as objects", Settings { times: Times::Object, ..usual() }),
        ("numbers", Settings { version_numbers: VersionNumbers::Numbers, ..usual() }),
        ("no deployment status", Settings { deployments_status: DeploymentsStatus::Missing, ..usual() }),
        ("errors with 200", Settings { failures_as: FailuresAs::Ok, ..usual() }),
    ]
}

#[test]
fn create_deploy_rollback_and_deletion_end_well_in_every_variant() {
    run_concurrently(4, &variants(), |(variant, settings)| {
        let world = World::new(settings.clone());
        assert_all_four_end_well(&world, variant);
    });
}

/// As where the key lacks it: the permission is denied for this chatbot.
#[test]
fn create_deploy_rollback_and_deletion_end_well_without_the_deployment_status() {
    let world = World::without_operator(Settings::default(), &[]);
    let denied = BTreeMap::from([(world.bot.clone(), vec![Permission::Status])]);
    world.service.settings(|settings| settings.denied = denied);
    world.start();
    assert_all_four_end_well(&world, "no permission for the deployment status");
}

fn assert_all_four_end_well(world: &World, variant: &str) {
    let roll_out = |environment: &str, version: &str| {
        world.apply_deployment(environment, version, &["revisionHistoryLimit: 0"]);
        world.wait_until_deployment_ready(environment);
    };
    for version in ["first", "second", "third"] {
        world.apply_version(version, &["description: For a test"]);
        world.wait_until_version_ready(version);
    }
    roll_out("test", "first");
    roll_out("test", "second");
    // where the deployment status cannot be read, a version is deleted only if each environment is known to run a version of
    // its own that was deployed later
    roll_out("prod", "third");
    roll_out("test", "first");
    assert_eq!(world.live_version(Environment::Test).as_deref(), Some("first"), "{variant}");
    world.delete("chatbotversion", "second");
    world.wait_until_deleted::<ChatbotVersion>("second");
    let expected = [
        "create first dev",
        "create second dev",
        "create third dev",
        "deploy first test",
        "deploy second test",
        "deploy third prod",
        "rollback first test",
        "delete second",
    ];
    // the deletion may have been handed over to the ChatbotDeployment
    world.eventually("the version is deleted", || (world.effects().len() >= expected.len()).then_some(()));
    assert_eq!(world.effects(), expected, "{variant}");
    assert_eq!(world.state().unwrap().versions.len(), 2, "{variant}");
}

/// The word that the service accepts is remembered: one refused create for the account, not one for each version.
#[test]
fn other_word_for_no_deployment_is_found_once() {
    let world = World::new(Settings { no_deployment: NoDeployment::None, ..Settings::default() });
    for name in ["a", "b", "c"] {
        world.apply_version(name, &[]);
        world.wait_until_version_ready(name);
    }
    let creates = world.service.counters().of(Operation::Create).clone();
    assert_eq!((creates.calls, creates.took_effect), (4, 3));
}

/// The marker is found although its line break has become a blank: no create is repeated.
#[test]
fn lost_answers_create_one_version_each_where_descriptions_are_in_one_line() {
    const OBJECTS: usize = 12;
    let lost = Fault::new(FaultOperation::Create, FaultKind::CutAfter);
    let settings = Settings {
        descriptions: Descriptions::OneLine,
        faults: vec![Fault { probability: 0.5, ..lost }],
        ..Settings::default()
    };
    let world = World::new(settings);
    for number in 0..OBJECTS {
        world.apply_version(&format!("v{number}"), &["description: For a test"]);
    }
    world.wait_until_versions_ready(OBJECTS);
    assert_eq!(world.creates(), OBJECTS as u64, "{:#?}", world.effects());
}

/// A version that is listed without an id stops the object whose marker it carries, and no other of the chatbot.
#[test]
fn version_without_an_id_stops_its_object_alone() {
    let world = World::without_operator(Settings::default(), &[]);
    let marker = format!("[chatcaptain.dev default/{}/a]", world.namespace);
    world.service.settings(|settings| settings.entry_without_id = Some(marker));
    world.start();
    world.apply_version("a", &[]);
    world.apply_version("b", &[]);
    world.wait_until_version_ready("b");
    let message = world.wait_for_reason::<ChatbotVersion>("a", "VersionUnidentified");
    assert!(message.contains("Delete that version in the service"), "{message}");
    world.wait_for_two_polls();
    assert_eq!(world.effects(), ["create b dev"]);
    // deleted without its id it would be left behind
    world.delete("chatbotversion", "a");
    world.wait_for_reason::<ChatbotVersion>("a", "Deleting");
    world.wait_for_two_polls();
    assert!(world.get::<ChatbotVersion>("a").is_some());
    // as the message says
    world.service.settings(|settings| settings.entry_without_id = None);
    world.wait_until_deleted::<ChatbotVersion>("a");
    world.apply_version("a", &[]);
    world.wait_until_version_ready("a");
    assert_eq!(world.effects(), ["create b dev", "create a dev"]);
}
