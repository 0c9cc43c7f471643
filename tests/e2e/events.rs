//! Events tell what happened to an object: once each, also after a restart.

use chatcaptain_operator::crd::{ChatbotDeployment, ChatbotVersion};
use simulator::{Fault, FaultKind, FaultOperation, Settings};
use support::World;

/// The reasons of an object's events, with repetitions.
fn reasons(world: &World, name: &str) -> Vec<String> {
    let mut reasons: Vec<String> = world.events(name).into_iter().map(|(reason, _)| reason).collect();
    reasons.sort();
    reasons
}

#[test]
fn create_and_deletion_are_events() {
    let world = World::new(Settings::default());
    world.apply_version("a", &[]);
    let id = world.wait_until_version_ready("a").version_id().unwrap().to_owned();
    assert!(world.wait_for_event("a", "Created").contains(&id));
    world.delete("cbv", "a");
    world.wait_until_deleted::<ChatbotVersion>("a");
    assert!(world.wait_for_event("a", "VersionDeleted").contains(&id));
    assert_eq!(reasons(&world, "a"), ["Created", "VersionDeleted"]);
}

#[test]
fn unknown_annotation_is_one_event_and_after_a_restart_a_log_line() {
    let world = World::new(Settings::default());
    world.apply_version("a", &[]);
    world.wait_until_version_ready("a");
    let annotate = |name: &str| world.kubectl(&["annotate", "--overwrite", "cbv", "a", name], "");
    annotate("chatcaptain.dev/recreated=now");
    let note = world.wait_for_event("a", "UnknownAnnotation");
    assert!(note.contains("chatcaptain.dev/recreated has no effect"), "{note}");
    assert!(note.contains("chatcaptain.dev/recreate,"), "it names what exists: {note}");
    annotate("example.com/other=now");
    world.stop();
    world.start();
    world.eventually("the log has it again", || {
        (world.log().matches("chatcaptain.dev/recreated has no effect").count() == 2).then_some(())
    });
    world.wait_for_two_polls();
    assert_eq!(reasons(&world, "a"), ["Created", "UnknownAnnotation"]);
}

#[test]
fn each_entry_into_stalled_is_one_event_with_its_reason() {
    let refused = Fault::new(FaultOperation::Create, FaultKind::Refused);
    let world = World::new(Settings { faults: vec![refused], ..Settings::default() });
    world.apply_version("a", &[]);
    let message = world.wait_for_reason::<ChatbotVersion>("a", "RequestRejected");
    assert_eq!(world.wait_for_event("a", "RequestRejected"), message);
    world.apply_deployment("prod", "a", &[]);

    world.set_key("refused-by-the-service");
    let message = world.wait_for_reason::<ChatbotVersion>("a", "AuthenticationFailed");
    assert_eq!(world.wait_for_event("a", "AuthenticationFailed"), message);
    world.wait_for_event("prod", "AuthenticationFailed");
    world.stop();
    world.start();
    world.eventually("both are reconciled again", || {
        let reconciles = |kind| world.metric("chatcaptain_reconcile_total", &[kind]);
        let kinds = [r#"kind="ChatbotVersion""#, r#"kind="ChatbotDeployment""#];
        kinds.map(reconciles).iter().all(|count| *count > 0).then_some(())
    });
    world.wait_for_reason::<ChatbotDeployment>("prod", "AuthenticationFailed");
    assert_eq!(reasons(&world, "a"), ["AuthenticationFailed", "RequestRejected"], "also after a restart");
    assert_eq!(reasons(&world, "prod"), ["AuthenticationFailed"]);
}
