//! What disturbs an environment: deploys that fail or only seem to, versions that vanish.

use chatcaptain_operator::crd::{ChatbotDeployment, ChatbotVersion};
use simulator::{
    Environment, FailuresAs, Fault, FaultKind, FaultOperation, Operation, RollbackBody, Settings,
};
use support::{World, condition, deployment, is_ready};

fn calls(world: &World, operation: Operation) -> u64 {
    world.service.counters().of(operation).calls
}

/// Row 17. Somebody deletes a version in the vendor's interface: a snapshot is not taken again by itself.
#[test]
fn a_version_deleted_by_hand_is_lost_and_said_so() {
    let world = World::new(Settings::default());
    for name in ["a", "b"] {
        world.apply_version(name, &[]);
    }
    let id = world.ready_version("a").version_id().unwrap().to_owned();
    world.ready_version("b");
    world.service.hand_delete(&world.bot, &id).unwrap();
    let message = world.told::<ChatbotVersion>("a", "VersionLost");
    assert!(message.contains(&id) && message.contains("recreate"), "{message}");
    assert_eq!(condition(&world.version("a"), "Stalled").unwrap().status, "True");
    world.event("a", "VersionLost");
    world.kill();
    world.start();
    world.apply_version("c", &[]);
    world.ready_version("c");
    world.told::<ChatbotVersion>("a", "VersionLost");
    assert_eq!(calls(&world, Operation::Create), 3);
    // only by command
    world.kubectl(&["annotate", "cbv", "a", "chatcaptain.dev/recreate=once"], "");
    assert_ne!(world.ready_version("a").version_id(), Some(id.as_str()));
    assert_eq!(calls(&world, Operation::Create), 4);
}

/// Row 19. The deploy took effect and its answer is a 500: what is live counts.
#[test]
fn a_deploy_that_only_seems_to_fail_is_not_repeated() {
    let lost = Fault::new(FaultOperation::Deploy, FaultKind::Error500After).times(1);
    let world = World::new(Settings { faults: vec![lost], ..Settings::default() });
    world.apply_version("a", &[]);
    world.point("test", "a", &[]);
    world.ready_deployment("test");
    assert_eq!(world.moves(), ["deploy a test"]);
    assert_eq!(calls(&world, Operation::Deploy), 1);
}

/// `a` runs in test; `b`, which never becomes live, is wanted.
fn failing(more: &[&str], settings: Settings) -> World {
    let world = World::new(Settings { failing_rollouts: vec!["b".to_owned()], ..settings });
    for name in ["a", "b"] {
        world.apply_version(name, &[]);
        world.ready_version(name);
    }
    world.point("test", "a", more);
    world.ready_deployment("test");
    world.point("test", "b", more);
    world
}

/// Row 19. It fails for real: back to what ran, once, however often git is applied again.
#[test]
fn a_rollout_that_fails_goes_back_once() {
    let more = ["progressDeadline: 3s", "rollback: {onFailure: Previous}"];
    let world = failing(&more, Settings::default());
    world.told::<ChatbotDeployment>("test", "RolledBack");
    world.event("test", "RolloutFailed");
    assert_eq!(world.live(Environment::Test).as_deref(), Some("a"));
    let moves = world.moves();
    assert_eq!(moves.iter().filter(|m| *m == "deploy b test").count(), 1, "{moves:?}");
    // as Argo CD's self-heal does, and a restart on top
    let reference = ["versionRef: {name: b}"].into_iter().chain(more).collect::<Vec<_>>();
    let git = deployment(&world.bot, "test", "test", &reference);
    world.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &git);
    world.kill();
    world.start();
    let looks = calls(&world, Operation::Status);
    world.eventually("two more looks", || (calls(&world, Operation::Status) > looks + 1).then_some(()));
    assert_eq!(world.moves(), moves);
    let stalled = world.deployment("test");
    assert_eq!(condition(&stalled, "Stalled").unwrap().reason, "RolledBack");
    assert!(!is_ready(&stalled));
}

/// Row 19. It fails and so does the way back: a human must act, and what is live is still what was.
#[test]
fn a_rollback_that_fails_too_is_said() {
    let refusing = Settings { rollback_body: RollbackBody::None, ..Settings::default() };
    let world = failing(&["progressDeadline: 3s", "rollback: {onFailure: Previous}"], refusing);
    let broken = Fault::new(FaultOperation::Any, FaultKind::Refused);
    world.eventually("b was tried", || world.moves().iter().any(|m| m == "deploy b test").then_some(()));
    world.service.settings(|settings| {
        settings.failures_as = FailuresAs::Http;
        settings.faults = vec![
            Fault { operation: FaultOperation::Deploy, ..broken.clone() },
            Fault { operation: FaultOperation::Rollback, ..broken },
        ];
    });
    // nothing was undone in the service: a still runs, so the way back is no way at all
    world.told::<ChatbotDeployment>("test", "RolledBack");
    let status = world.deployment("test").status.unwrap();
    assert!(status.failed.is_some());
    assert_eq!(world.live(Environment::Test).as_deref(), Some("a"));
    let active = status.active.unwrap().version_id;
    assert_eq!(world.version("a").version_id(), Some(active.as_str()));
}

/// A deploy without a usable answer takes effect after git has moved on: it is our own, and nobody is blamed.
#[test]
fn a_deploy_that_lands_late_is_nobodys_drift() {
    let mut late = Fault::new(FaultOperation::Deploy, FaultKind::LateEffect).times(1);
    late.late_ms = 3_000;
    let world = World::with(Settings::default(), &[("visibility-grace", "10s")]);
    for name in ["a", "b", "c"] {
        world.apply_version(name, &[]);
        world.ready_version(name);
    }
    world.point("test", "a", &[]);
    world.ready_deployment("test");
    world.service.settings(|settings| settings.faults = vec![late]);
    world.point("test", "b", &[]);
    world.eventually("b is called for", || (calls(&world, Operation::Deploy) == 2).then_some(()));
    world.point("test", "c", &[]);
    world.eventually("b lands late, and c is back", || {
        (world.moves().last()? == "deploy c test" && world.moves().contains(&"deploy b test".to_owned()))
            .then_some(())
    });
    world.ready_deployment("test");
    assert_eq!(world.moves(), ["deploy a test", "deploy c test", "deploy b test", "deploy c test"]);
    let blamed = world.events("test").into_iter().find(|(reason, _)| reason == "DriftDetected");
    assert_eq!(blamed, None);
    assert!(world.deployment("test").status.unwrap().reversals.is_none());
}
