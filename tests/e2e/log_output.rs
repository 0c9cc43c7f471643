//! The log shows what changed where, and from what to what.

use chatcaptain_operator::crd::ChatbotDeployment;
use simulator::{Environment, Settings};
use support::World;

#[test]
fn log_shows_every_change_of_an_environment() {
    let world = World::new(Settings { failing_rollouts: vec!["c".to_owned()], ..Settings::default() });
    let names = ["a", "b", "c"].map(|name| {
        world.apply_version(name, &[]);
        let status = world.wait_until_version_ready(name).status.unwrap();
        format!("version {} ({})", status.version_number.unwrap(), status.version_id.unwrap())
    });
    let [a, b, c] = &names;
    let id_of = |name: &str| name.split(['(', ')']).nth(1).unwrap().to_owned();
    // a line about the object with all of these; the log is read again until it is there
    let wait_for_line = |parts: &[&str]| {
        let object = [r#"kind="ChatbotDeployment""#, r#"name="test""#, &world.namespace, &world.bot];
        world.eventually(&format!("the log has {parts:?}"), || {
            let log = world.log();
            let mut lines = log.lines();
            lines.find(|line| object.iter().chain(parts).all(|part| line.contains(part))).map(str::to_owned)
        })
    };
    world.apply_deployment("test", "a", &[]);
    wait_for_line(&["Deployed", &format!("test runs {a}.")]);
    world.apply_deployment("test", "b", &[]);
    wait_for_line(&["Deployed", &format!("test runs {b} instead of {a}.")]);
    let called = wait_for_line(&["deploy ", &format!("version_id={:?}", id_of(b)), "result=Accepted"]);
    assert_eq!(called.matches("version_id=").count(), 1, "no earlier target beside it: {called}");
    world.apply_deployment("test", "a", &[]);
    wait_for_line(&["RolledBack", &format!("back from {b} to {a}.")]);

    world.service.hand_deploy(&world.bot, "b", Environment::Test).unwrap();
    wait_for_line(&[
        "WARN",
        "DriftDetected",
        &format!("test runs {b}, which was deployed outside"),
        &format!("redeploying {a}."),
    ]);
    world.eventually("a runs again", || {
        (world.live_version(Environment::Test).as_deref() == Some("a")).then_some(())
    });
    world.apply_deployment("test", "c", &["progressDeadline: 3s", "revisionHistoryLimit: 0"]);
    wait_for_line(&["WARN", "RolloutFailed", c, "spec.progressDeadline", &format!("test runs {a}.")]);
    world.wait_for_reason::<ChatbotDeployment>("test", "ProgressDeadlineExceeded");
    assert_removal_is_logged(&world);
}

/// A line says why the finalizer is removed, and no line shows a value as the code prints it.
fn assert_removal_is_logged(world: &World) {
    world.delete("cbv", "b");
    let gone = "remove finalizer: version deleted";
    world.eventually(gone, || world.log().contains(gone).then_some(()));
    let log = world.log();
    for debug in ["step=", "RecordIntent(", "RemoveFinalizer(", "Wait("] {
        assert!(!log.contains(debug), "{debug} is debug output: {log}");
    }
}
