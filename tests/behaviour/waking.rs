//! Related objects wake each other at once: nothing here waits for an interval, which is an hour.

use std::time::Instant;

use chatcaptain_operator::crd::{ChatbotDeployment, ChatbotVersion};
use simulator::{Environment, Operation, Settings};

use crate::harness::{World, condition, deployment, is_ready};

fn world(settings: Settings) -> World {
    World::with(settings, &[("interval", "1h")])
}

#[test]
fn a_version_that_becomes_ready_wakes_its_deployment() {
    let world = world(Settings::default());
    world.point("test", "a", &[]);
    let message = world.told::<ChatbotDeployment>("test", "WaitingForVersion");
    assert!(message.contains("ChatbotVersion a does not exist"), "{message}");
    world.apply_version("a", &[]);
    world.ready_deployment("test");
    assert_eq!(world.effects(), ["create a dev", "deploy a test"]);
}

#[test]
fn a_new_key_heals_everything_that_uses_it() {
    let world = world(Settings::default());
    world.apply_version("a", &[]);
    world.point("test", "a", &[]);
    world.ready_deployment("test");
    world.set_key("refused-by-the-service");
    world.apply_version("b", &[]);
    world.point("prod", "a", &[]);
    world.told::<ChatbotVersion>("b", "AuthenticationFailed");
    world.told::<ChatbotDeployment>("prod", "AuthenticationFailed");
    world.set_key("CCSB-another-good-one");
    world.ready_version("b");
    world.ready_deployment("prod");
    world.ready_deployment("test");
}

#[test]
fn the_older_of_two_deployments_decides_until_it_goes() {
    let world = world(Settings::default());
    world.apply_version("a", &[]);
    world.apply_version("b", &[]);
    world.point("test", "a", &[]);
    world.ready_deployment("test");
    world.outgrown::<ChatbotDeployment>("test");
    let younger = ["versionRef: {name: b}"];
    world.apply(&deployment(&world.bot, "younger", "test", &younger));
    let message = world.told::<ChatbotDeployment>("younger", "Conflict");
    let older = format!("{}/test", world.namespace);
    assert!(message.contains(&older) && message.contains("Delete one"), "{message}");
    let loser = world.deployment("younger");
    assert_eq!(condition(&loser, "Stalled").unwrap().status, "True");
    assert_eq!(world.moves(), ["deploy a test"]);

    world.delete("chatbotdeployment", "test");
    world.ready_deployment("younger");
    assert_eq!(world.moves(), ["deploy a test", "deploy b test"]);
    assert_eq!(world.live(Environment::Test).as_deref(), Some("b"));
}

#[test]
fn a_request_is_answered_at_once_and_a_suspended_object_costs_no_call() {
    let world = world(Settings::default());
    world.apply_version("a", &[]);
    world.ready_version("a");
    let looks = || world.service.counters().of(Operation::List).calls;
    let handled = |token: &str| {
        let status = world.version("a").status?;
        (status.common.last_handled_reconcile_at.as_deref() == Some(token)).then_some(())
    };
    let request = |token: &str| {
        let annotation = format!("chatcaptain.dev/reconcile-requested-at={token}");
        world.kubectl(&["annotate", "--overwrite", "cbv", "a", &annotation], "");
    };
    let before = looks();
    request("one");
    let asked = Instant::now();
    world.eventually("the request is acknowledged", || handled("one"));
    println!("acknowledged {:?} after kubectl returned", asked.elapsed());
    assert!(looks() > before, "it was looked at anew");

    world.apply_version("a", &["suspend: true"]);
    world.eventually("it has seen that it is suspended", || {
        let version = world.version("a");
        (version.status?.common.observed_generation == version.metadata.generation).then_some(())
    });
    let before = looks();
    request("two");
    world.apply_version("a", &["suspend: true", "interval: 1s"]);
    world.eventually("it has seen that as well", || {
        let version = world.version("a");
        (version.status?.common.observed_generation == version.metadata.generation).then_some(())
    });
    assert_eq!(looks(), before, "nothing is asked for a suspended object");
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
