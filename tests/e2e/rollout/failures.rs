//! Deploys that take effect despite an error, that fail, or that take effect late.

use chatcaptain_operator::crd::ChatbotDeployment;
use simulator::{Environment, FailedRollout, Fault, FaultKind, FaultOperation, Operation, Settings};
use support::{World, condition};

fn calls(world: &World, operation: Operation) -> u64 {
    world.service.counters().of(operation).calls
}

/// A world whose test environment ran `a`, and where the deploy of `b` was just sent: it empties the environment and
/// fails after `deadline`, a line of the spec.
fn emptied_by_failing_rollout(deadline: &str) -> World {
    let settings = Settings {
        failing_rollouts: vec!["b".to_owned()],
        failed_rollout: FailedRollout::Emptying,
        ..Settings::default()
    };
    let world = World::new(settings);
    let more = [deadline, "rollback: {onFailure: Previous}"];
    for name in ["a", "b"] {
        world.apply_version(name, &[]);
        world.wait_until_version_ready(name);
    }
    world.apply_deployment("test", "a", &more);
    world.wait_until_deployment_ready("test");
    world.apply_deployment("test", "b", &more);
    world.eventually("b was tried", || (calls(&world, Operation::Deploy) == 2).then_some(()));
    world
}

/// Row 19. The deploy took effect and the response is a 500: what is live counts.
#[test]
fn deploy_that_took_effect_despite_an_error_is_not_repeated() {
    let lost = Fault::new(FaultOperation::Deploy, FaultKind::Error500After).times(1);
    let world = World::new(Settings { faults: vec![lost], ..Settings::default() });
    world.apply_version("a", &[]);
    world.apply_deployment("test", "a", &[]);
    world.wait_until_deployment_ready("test");
    assert_eq!(world.effects_besides_creates(), ["deploy a test"]);
    assert_eq!(calls(&world, Operation::Deploy), 1);
}

/// Row 19. The rollout fails and so does the rollback: that is reported, and retried.
#[test]
fn failed_automatic_rollback_is_reported_and_retried() {
    let world = emptied_by_failing_rollout("progressDeadline: 3s");
    let refused = [FaultOperation::Deploy, FaultOperation::Rollback];
    let refused = refused.map(|operation| Fault::new(operation, FaultKind::Refused)).to_vec();
    world.service.settings(|settings| settings.faults = refused);
    let message = world.wait_for_reason::<ChatbotDeployment>("test", "RequestRejected");
    assert!(message.contains("Quota reached"), "{message}");
    let deployment = world.deployment("test");
    assert_eq!(condition(&deployment, "Stalled").unwrap().status, "True");
    assert!(deployment.status.unwrap().failed_versions.is_some());
    assert_eq!(world.live_version(Environment::Test), None);

    world.service.settings(|settings| settings.faults.clear());
    world.kubectl(&["annotate", "cbd", "test", "chatcaptain.dev/reconcile-requested-at=now"], "");
    world.wait_for_reason::<ChatbotDeployment>("test", "RolledBack");
    assert_eq!(world.live_version(Environment::Test).as_deref(), Some("a"));
    world.wait_for_event("test", "RolloutFailed");
}

/// The release commit drops a's manifest, and b's rollout empties the environment before it fails: a is what there is to
/// go back to, so it is not deleted with its object.
#[test]
fn predecessor_pruned_during_a_rollout_that_empties_the_environment_is_kept() {
    let world = emptied_by_failing_rollout("progressDeadline: 5s");
    world.delete("cbv", "a");
    world.wait_for_reason::<ChatbotDeployment>("test", "RolledBack");
    assert_eq!(world.live_version(Environment::Test).as_deref(), Some("a"));
    assert_eq!(calls(&world, Operation::Delete), 0);
}

/// A deploy without a usable response takes effect after git has changed: it is the operator's own, not drift.
#[test]
fn own_late_deploy_is_not_reported_as_drift() {
    let mut late = Fault::new(FaultOperation::Deploy, FaultKind::LateEffect).times(1);
    late.late_ms = 3_000;
    let world = World::with_flags(Settings::default(), &[("visibility-grace", "10s")]);
    for name in ["a", "b", "c"] {
        world.apply_version(name, &[]);
        world.wait_until_version_ready(name);
    }
    world.apply_deployment("test", "a", &[]);
    world.wait_until_deployment_ready("test");
    world.service.settings(|settings| settings.faults = vec![late]);
    world.apply_deployment("test", "b", &[]);
    world.eventually("b is called for", || (calls(&world, Operation::Deploy) == 2).then_some(()));
    world.apply_deployment("test", "c", &[]);
    world.eventually("b lands late, and c is back", || {
        (world.effects_besides_creates().last()? == "deploy c test"
            && world.effects_besides_creates().contains(&"deploy b test".to_owned()))
        .then_some(())
    });
    world.wait_until_deployment_ready("test");
    assert_eq!(
        world.effects_besides_creates(),
        ["deploy a test", "deploy c test", "deploy b test", "deploy c test"]
    );
    let blamed = world.events("test").into_iter().find(|(reason, _)| reason == "DriftDetected");
    assert_eq!(blamed, None);
    assert!(world.deployment("test").status.unwrap().drift_corrections.is_none());
}
