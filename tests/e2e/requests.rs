//! `reconcile-requested-at`: when a request is handled, and what it ends.

use std::time::Duration;

use chatcaptain_operator::crd::ChatbotVersion;
use simulator::{Fault, FaultKind, FaultOperation, Operation, Settings};
use support::World;

fn request(world: &World, object: &str, token: &str) {
    let annotation = format!("chatcaptain.dev/reconcile-requested-at={token}");
    world.kubectl(&["annotate", "--overwrite", object, &annotation], "");
}

fn handled(world: &World, name: &str) -> Option<String> {
    world.version(name).status?.common.last_handled_reconcile_at
}

/// An echo says that the service was read for the request: not by the reconcile that finds it throttled.
#[test]
fn request_during_a_throttle_is_handled_after_it() {
    let world = World::with_flags(Settings::default(), &[("interval", "1h")]);
    world.apply_version("a", &[]);
    world.apply_deployment("test", "a", &[]);
    world.wait_until_version_ready("a");
    world.wait_until_deployment_ready("test");
    let answered = || {
        let counters = world.service.counters();
        let answers = |operation| counters.of(operation).by_status.get("200").copied().unwrap_or_default();
        [Operation::List, Operation::Status].map(answers)
    };
    let echoes = || {
        let deployment = world.deployment("test").status.unwrap().common.last_handled_reconcile_at;
        [handled(&world, "a"), deployment]
    };
    world.service.throttle_for(Duration::from_secs(5));
    let before = answered();
    for object in ["cbv/a", "cbd/test"] {
        request(&world, object, "now");
    }
    world.wait_for_metric("chatcaptain_breaker_open", &[], 1);
    let during = echoes();
    world.wait_for_metric("chatcaptain_breaker_open", &[], 1);
    assert_eq!(during, [None, None], "nothing was read yet");
    assert_eq!(answered(), before);

    world.eventually("both are handled", || {
        (echoes() == [Some("now".to_owned()), Some("now".to_owned())]).then_some(())
    });
    assert!(answered().iter().zip(before).all(|(now, before)| *now > before), "both were read again");
}

/// Each request permits one more create; one that is echoed cut and compared whole would permit them for ever.
#[test]
fn long_token_is_handled_once() {
    let refused = Fault::new(FaultOperation::Create, FaultKind::Refused);
    let world = World::new(Settings { faults: vec![refused], ..Settings::default() });
    world.apply_version("a", &[]);
    world.wait_for_reason::<ChatbotVersion>("a", "RequestRejected");
    let creates = || world.service.counters().of(Operation::Create).calls;
    let before = creates();
    request(&world, "cbv/a", &"x".repeat(300));
    world.eventually("it is echoed", || (handled(&world, "a")? == "x".repeat(256)).then_some(()));
    // meanwhile it would be sent again
    world.apply_version("b", &[]);
    world.wait_for_reason::<ChatbotVersion>("b", "RequestRejected");
    assert_eq!(creates(), before + 2, "one of each");
}
