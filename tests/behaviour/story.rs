//! The log alone tells what changed where, and from what to what.

use chatcaptain_operator::crd::ChatbotDeployment;
use simulator::{Environment, Settings};

use crate::harness::World;

#[test]
fn the_log_tells_the_story_of_an_environment() {
    let world = World::new(Settings { failing_rollouts: vec!["c".to_owned()], ..Settings::default() });
    let names = ["a", "b", "c"].map(|name| {
        world.apply_version(name, &[]);
        let status = world.ready_version(name).status.unwrap();
        format!("version {} ({})", status.version_number.unwrap(), status.version_id.unwrap())
    });
    let [a, b, c] = &names;
    let id_of = |name: &str| name.split(['(', ')']).nth(1).unwrap().to_owned();
    // a line about the object with all of these; the log is read again until it is there
    let tells = |parts: &[&str]| {
        let object = [r#"kind="ChatbotDeployment""#, r#"name="test""#, &world.namespace, &world.bot];
        world.eventually(&format!("the log tells {parts:?}"), || {
            let log = world.log();
            let mut lines = log.lines();
            lines.find(|line| object.iter().chain(parts).all(|part| line.contains(part))).map(str::to_owned)
        })
    };
    world.point("test", "a", &[]);
    tells(&["Deployed", &format!("test runs {a}.")]);
    world.point("test", "b", &[]);
    tells(&["Deployed", &format!("test runs {b} instead of {a}.")]);
    let called = tells(&["deploy ", &format!("version_id={:?}", id_of(b)), "result=Accepted"]);
    assert_eq!(called.matches("version_id=").count(), 1, "no former target beside it: {called}");
    world.point("test", "a", &[]);
    tells(&["RolledBack", &format!("back from {b} to {a}.")]);

    world.service.hand_deploy(&world.bot, "b", Environment::Test).unwrap();
    tells(&["WARN", "DriftDetected", &format!("deployed {b} to test"), &format!("redeploying {a}.")]);
    world
        .eventually("a runs again", || (world.live(Environment::Test).as_deref() == Some("a")).then_some(()));
    world.point("test", "c", &["progressDeadline: 3s"]);
    tells(&["WARN", "RolloutFailed", c, "spec.progressDeadline", &format!("test runs {a}.")]);
    world.told::<ChatbotDeployment>("test", "ProgressDeadlineExceeded");

    world.delete("cbv", "b");
    let gone = "let the object go: its version is gone";
    world.eventually(gone, || world.log().contains(gone).then_some(()));
    let log = world.log();
    for word in ["step=", "Call(", "Release(", "Rest("] {
        assert!(!log.contains(word), "{word} is no word for people: {log}");
    }
}
