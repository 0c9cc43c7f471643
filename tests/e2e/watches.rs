//! Changes trigger related objects at once: the interval is an hour, so nothing here waits for it.

use std::time::Instant;

use chatcaptain_operator::crd::{ChatbotDeployment, ChatbotVersion};
use simulator::{Operation, Settings};
use support::{World, deployment, is_ready};

fn world(settings: Settings) -> World {
    World::with_flags(settings, &[("interval", "1h")])
}

#[test]
fn ready_version_triggers_its_deployment() {
    let world = world(Settings::default());
    world.apply_deployment("test", "a", &[]);
    let message = world.wait_for_reason::<ChatbotDeployment>("test", "WaitingForVersion");
    assert!(message.contains("ChatbotVersion a does not exist"), "{message}");
    world.apply_version("a", &[]);
    world.wait_until_deployment_ready("test");
    assert_eq!(world.effects(), ["create a dev", "deploy a test"]);
}

#[test]
fn new_key_triggers_every_object_that_uses_it() {
    let world = world(Settings::default());
    world.apply_version("a", &[]);
    world.apply_deployment("test", "a", &[]);
    world.wait_until_deployment_ready("test");
    world.set_key("refused-by-the-service");
    world.apply_version("b", &[]);
    world.apply_deployment("prod", "a", &[]);
    world.wait_for_reason::<ChatbotVersion>("b", "AuthenticationFailed");
    world.wait_for_reason::<ChatbotDeployment>("prod", "AuthenticationFailed");
    world.set_key("CCSB-another-good-one");
    world.wait_until_version_ready("b");
    world.wait_until_deployment_ready("prod");
    world.wait_until_deployment_ready("test");
}

#[test]
fn reconcile_request_is_handled_at_once_and_suspended_objects_make_no_calls() {
    let world = world(Settings::default());
    world.apply_version("a", &[]);
    world.wait_until_version_ready("a");
    let polls = || world.service.counters().of(Operation::List).calls;
    let handled = |token: &str| {
        let status = world.version("a").status?;
        (status.common.last_handled_reconcile_at.as_deref() == Some(token)).then_some(())
    };
    let request = |token: &str| {
        let annotation = format!("chatcaptain.dev/reconcile-requested-at={token}");
        world.kubectl(&["annotate", "--overwrite", "cbv", "a", &annotation], "");
    };
    let before = polls();
    request("one");
    let asked = Instant::now();
    world.eventually("the request is acknowledged", || handled("one"));
    println!("acknowledged {:?} after kubectl returned", asked.elapsed());
    assert!(polls() > before, "it was read again");

    world.apply_version("a", &["suspend: true"]);
    world.eventually("it has seen that it is suspended", || {
        let version = world.version("a");
        (version.status?.common.observed_generation == version.metadata.generation).then_some(())
    });
    let before = polls();
    request("two");
    world.apply_version("a", &["suspend: true", "interval: 1s"]);
    world.eventually("it has seen that as well", || {
        let version = world.version("a");
        (version.status?.common.observed_generation == version.metadata.generation).then_some(())
    });
    assert_eq!(polls(), before, "nothing is asked for a suspended object");
    assert!(is_ready(&world.version("a")), "its verdict stays");
    let shown = |kind: &str| {
        let table = world.kubectl(&["get", kind, "-o", "wide"], "");
        let (head, row) = table.split_once('\n').unwrap();
        row[head.find("SUSPENDED").expect(&table)..].split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(shown("cbv"), "true");
    world.apply(&deployment(&world.bot, "test", "test", &["versionId: v", "suspend: true"]));
    assert_eq!(shown("cbd"), "true");
}
