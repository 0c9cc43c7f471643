//! A rollout that waits for another object: the wait ends, or the status says who has to act.

use chatcaptain_operator::crd::{ChatbotDeployment, ChatbotVersion};
use simulator::{Environment, Fault, FaultKind, FaultOperation, Settings};
use support::{World, condition};

#[test]
fn missing_version_fails_the_rollout_at_the_deadline_and_heals_when_it_appears() {
    let world = World::new(Settings::default());
    world.apply_deployment("test", "a", &["progressDeadline: 2s"]);
    world.wait_for_reason::<ChatbotDeployment>("test", "WaitingForVersion");
    let message = world.wait_for_reason::<ChatbotDeployment>("test", "ProgressDeadlineExceeded");
    assert!(message.starts_with("ChatbotVersion a does not exist in this namespace."), "{message}");
    assert!(condition(&world.deployment("test"), "Stalled").is_some());
    world.apply_version("a", &[]);
    world.wait_until_deployment_ready("test");
    assert_eq!(world.live_version(Environment::Test).as_deref(), Some("a"));
    assert_eq!(world.deployment("test").status.unwrap().waiting_for_version, None);
}

#[test]
fn version_that_is_stalled_is_quoted() {
    let refused = Fault::new(FaultOperation::Create, FaultKind::Refused);
    let world = World::new(Settings { faults: vec![refused], ..Settings::default() });
    world.apply_version("a", &[]);
    let cause = world.wait_for_reason::<ChatbotVersion>("a", "RequestRejected");
    world.apply_deployment("test", "a", &["progressDeadline: 2s"]);
    let message = world.wait_for_reason::<ChatbotDeployment>("test", "ProgressDeadlineExceeded");
    assert!(message.contains("RequestRejected") && message.ends_with(&cause), "{message}");
}

#[test]
fn promotion_that_would_never_begin_is_blocked_at_once() {
    let world = World::new(Settings::default());
    world.apply_version("a", &[]);
    world.wait_until_version_ready("a");
    let after = |name: &str| format!("promoteAfter: {{deploymentRef: {{name: {name}}}}}");
    // each waits for the other
    world.apply_deployment("test", "a", &[&after("prod")]);
    world.apply_deployment("prod", "a", &[&after("test")]);
    for name in ["test", "prod"] {
        let message = world.wait_for_reason::<ChatbotDeployment>(name, "PromotionBlocked");
        assert!(message.ends_with("Remove promoteAfter from one of them."), "{message}");
    }
    // the one it waits for does not work
    world.apply_deployment("test", "a", &["suspend: true"]);
    world.eventually("it says so", || {
        let message = world.wait_for_reason::<ChatbotDeployment>("prod", "PromotionBlocked");
        message.contains("ChatbotDeployment test, which spec.promoteAfter names, is suspended").then_some(())
    });
    world.apply_deployment("test", "a", &[]);
    world.wait_until_deployment_ready("prod");
    assert_eq!(world.effects_besides_creates(), ["deploy a test", "deploy a prod"]);
}
