//! Whose version it is: of this object, of another one, or of another installation; and whose environment.

use chatcaptain_operator::crd::{ChatbotDeployment, ChatbotVersion};
use jiff::Timestamp;
use simulator::{Environment, Operation, Settings};
use support::{World, condition, deployment};

/// As after a restore of etcd into another installation, or a changed `--owner-id`.
#[test]
fn recorded_version_of_another_owner_is_a_conflict_and_is_not_deleted() {
    let world = World::new(Settings::default());
    world.apply_version("a", &[]);
    let id = world.wait_until_version_ready("a").version_id().unwrap().to_owned();
    world.stop();
    let other = world.replica(&["--owner-id=other"], &[]);
    let message = world.wait_for_reason::<ChatbotVersion>("a", "Conflict");
    for part in [id.as_str(), "owner id \"default\"", "--owner-id", "delete this object"] {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
    world.delete("cbv", "a");
    world.wait_until_deleted::<ChatbotVersion>("a");
    let note = world.wait_for_event("a", "Orphaned");
    assert!(note.contains(&id) && note.contains("owner id \"default\""), "{note}");
    world.eventually("it is counted", || (other.metric("chatcaptain_orphans_total", &[]) == 1).then_some(()));
    assert_eq!(world.service.counters().of(Operation::Delete).calls, 0);
    assert_eq!(world.creates(), 1);
}

/// Two installations that replaced each other's version would never end.
#[test]
fn live_version_of_another_owner_is_a_conflict_and_is_not_replaced() {
    let world = World::new(Settings::default());
    world.apply_version("a", &[]);
    world.apply_deployment("test", "a", &[]);
    world.wait_until_deployment_ready("test");
    world.stop();
    let _other = world.replica(&["--owner-id=other"], &[]);
    world.apply_version("b", &[]);
    world.wait_until_version_ready("b");
    world.apply_deployment("test", "b", &[]);
    let message = world.wait_for_reason::<ChatbotDeployment>("test", "Conflict");
    assert!(message.contains("--owner-id default"), "{message}");
    world.wait_for_two_polls();
    assert_eq!(world.effects_besides_creates(), ["deploy a test"]);
    // the way out that the message names
    world.service.hand_deploy(&world.bot, "b", Environment::Test).unwrap();
    world.wait_until_deployment_ready("test");
}

/// Another team's deployment claims the environment, but has never had a key.
#[test]
fn claim_that_never_worked_shuts_no_other_team_out() {
    let world = World::new(Settings::default());
    world.apply_version("a", &[]);
    world.wait_until_version_ready("a");
    let named = |name: &str, more: &[&str]| deployment(&world.bot, name, "prod", more);
    let keyless = named("first", &["versionRef: {name: a}", "credentialsRef: {name: missing}"]);
    world.apply(&keyless);
    world.wait_for_reason::<ChatbotDeployment>("first", "CredentialsMissing");
    // later than the second in which it stalled
    world.eventually("a second has passed", || {
        let first = world.deployment("first");
        let stalled = condition(&first, "Stalled").unwrap().last_transition_time.0;
        (Timestamp::now().as_second() > stalled.as_second()).then_some(())
    });
    world.apply(&named("second", &["versionRef: {name: a}"]));
    world.wait_until_deployment_ready("second");
    let message = world.wait_for_reason::<ChatbotDeployment>("first", "Conflict");
    assert!(message.contains(&format!("{}/second", world.namespace)), "{message}");
    // once it has its key, it does not take the environment back
    world.cluster.set_secret(&world.namespace, "missing", "apiKey", support::KEY);
    world.wait_for_two_polls();
    world.wait_for_reason::<ChatbotDeployment>("first", "Conflict");
    assert_eq!(world.effects_besides_creates(), ["deploy a prod"]);
}

/// An object is renamed: its version stays, and the object with the new name adopts it.
#[test]
fn adopt_id_works_after_a_rename() {
    let world = World::new(Settings::default());
    world.apply_version("a", &["deletionPolicy: Retain", "name: release"]);
    let id = world.wait_until_version_ready("a").version_id().unwrap().to_owned();
    world.delete("cbv", "a");
    world.wait_until_deleted::<ChatbotVersion>("a");
    world.stop();
    world.apply_version("b", &["name: release"]);
    world.kubectl(&["annotate", "cbv", "b", &format!("chatcaptain.dev/adopt-id={id}")], "");
    world.start();
    assert_eq!(world.wait_until_version_ready("b").version_id(), Some(id.as_str()));
    assert_eq!(world.creates(), 1);
    // from now on it is the object's own
    world.delete("cbv", "b");
    world.wait_until_deleted::<ChatbotVersion>("b");
    assert_eq!(world.effects_besides_creates(), ["delete release"]);
}
