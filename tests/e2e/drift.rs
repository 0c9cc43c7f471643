//! Changes in the service outside the operator: a user deploys or deletes a version there.

use chatcaptain_operator::crd::{ChatbotDeployment, ChatbotVersion};
use simulator::{Environment, FailedRollout, Operation, Settings};
use support::{World, condition};

/// A world where test runs `a`, and `b` and `c` are there too.
fn in_sync(more: &[&str]) -> World {
    let world = World::with_flags(Settings::default(), &[("interval", "1s")]);
    for name in ["a", "b", "c"] {
        world.apply_version(name, &[]);
        world.wait_until_version_ready(name);
    }
    world.apply_deployment("test", "a", more);
    world.wait_until_deployment_ready("test");
    world
}

fn deploy_manually(world: &World, name: &str) {
    let deployed = world.service.hand_deploy(&world.bot, name, Environment::Test);
    deployed.unwrap();
}

/// Waits until `Ready` has this reason and the deployment runs that version; returns the message.
fn wait_for_reason_and_version(world: &World, reason: &str, name: &str) -> String {
    let id = world.version(name).version_id().unwrap().to_owned();
    world.eventually(&format!("{reason} because of {name}"), || {
        let deployment = world.deployment("test");
        let ready = condition(&deployment, "Ready")?.clone();
        let active = deployment.status?.active?.version_id;
        let is_it = ready.reason == reason && ready.message.contains(&id) && active == id;
        is_it.then_some(ready.message)
    })
}

fn status_of(world: &World, kind: &str) -> String {
    condition(&world.deployment("test"), kind).unwrap().status.clone()
}

fn wait_for_drift_count(world: &World, action: &str, times: u64) {
    world.wait_for_metric("chatcaptain_drift_total", &[&format!("action={action:?}")], times);
}

#[test]
fn enforced_drift_is_corrected_by_one_deploy() {
    let world = in_sync(&[]);
    deploy_manually(&world, "b");
    world.eventually("a runs again", || {
        (world.live_version(Environment::Test).as_deref() == Some("a")).then_some(())
    });
    let note = world.wait_for_event("test", "DriftDetected");
    assert!(note.contains("outside the operator"), "{note}");
    world.wait_until_deployment_ready("test");
    assert_eq!(world.effects_besides_creates(), ["deploy a test", "deploy a test"]);
    wait_for_drift_count(&world, "enforced", 1);
}

#[test]
fn emptied_environment_is_redeployed() {
    let world = in_sync(&[]);
    world.service.settings(|settings| {
        settings.failing_rollouts = vec!["b".to_owned()];
        settings.failed_rollout = FailedRollout::Emptying;
    });
    deploy_manually(&world, "b");
    assert_eq!(world.live_version(Environment::Test), None);
    world.eventually("a runs again", || {
        (world.live_version(Environment::Test).as_deref() == Some("a")).then_some(())
    });
    let note = world.wait_for_event("test", "DriftDetected");
    assert!(note.contains("test runs nothing"), "{note}");
    world.wait_until_deployment_ready("test");
    assert_eq!(world.effects_besides_creates(), ["deploy a test", "deploy a test"]);
}

#[test]
fn tolerated_drift_is_reported_and_not_corrected() {
    let world = in_sync(&["drift: Warn"]);
    deploy_manually(&world, "b");
    let message = world.wait_for_reason::<ChatbotDeployment>("test", "DriftTolerated");
    assert!(message.contains("outside the operator"), "{message}");
    let deployment = world.wait_until_deployment_ready("test");
    let drifted = condition(&deployment, "Drifted").unwrap();
    assert_eq!((drifted.status.as_str(), drifted.reason.as_str()), ("True", "OutOfSync"));
    world.wait_for_event("test", "DriftDetected");
    wait_for_drift_count(&world, "warned", 1);
    assert_eq!(world.live_version(Environment::Test).as_deref(), Some("b"));

    // nine more
    let since =
        |world: &World| condition(&world.deployment("test"), "Ready").unwrap().last_transition_time.clone();
    let ready = since(&world);
    for name in ["c", "a", "b", "c", "a", "b", "c", "a", "b"] {
        let theirs = world.service.hand_create(&world.bot, "theirs", None).unwrap();
        deploy_manually(&world, name);
        let (reason, drifted) = if name == "a" { ("Available", "False") } else { ("DriftTolerated", "True") };
        wait_for_reason_and_version(&world, reason, name);
        assert_eq!(status_of(&world, "Drifted"), drifted);
        world.service.hand_delete(&world.bot, &theirs.version).unwrap();
    }
    world.wait_for_two_polls();
    assert_eq!(world.rollout_calls(), 1, "the first deploy was the only one");
    assert_eq!(since(&world), ready, "it was Ready all the time");
    wait_for_drift_count(&world, "warned", 7);
    assert_versions_untouched(&world);
}

/// Drift is corrected five times; then no call is made until somebody requests it.
#[test]
fn drift_correction_pauses_after_limit() {
    let world = in_sync(&[]);
    for round in 1..=5 {
        assert_corrected(&world, round);
    }
    for name in ["b", "c", "b", "c", "b"] {
        let theirs = world.service.hand_create(&world.bot, "theirs", None).unwrap();
        deploy_manually(&world, name);
        let message = wait_for_reason_and_version(&world, "DriftCorrectionPaused", name);
        for said in ["outside the operator", "5 times", "paused", "spec.drift", "reconcile-requested-at"] {
            assert!(message.contains(said), "{said} in {message}");
        }
        world.service.hand_delete(&world.bot, &theirs.version).unwrap();
        world.wait_for_two_polls();
        assert_eq!(world.rollout_calls(), 6, "nothing is called for {name}");
        assert_eq!(world.live_version(Environment::Test).as_deref(), Some(name));
        assert_eq!(status_of(&world, "Stalled"), "True");
        assert_eq!(status_of(&world, "Drifted"), "True");
    }
    wait_for_drift_count(&world, "enforced", 5);
    wait_for_drift_count(&world, "warned", 5);
    world.eventually("b was corrected once and left once, and c was left", || {
        let events = world.events("test").into_iter().filter(|(reason, _)| reason == "DriftDetected");
        (events.count() == 3).then_some(())
    });

    // somebody asks for one more
    world.kubectl(&["annotate", "cbd", "test", "chatcaptain.dev/reconcile-requested-at=once"], "");
    wait_for_reason_and_version(&world, "Available", "a");
    deploy_manually(&world, "b");
    wait_for_reason_and_version(&world, "DriftCorrectionPaused", "b");
    world.wait_for_two_polls();
    assert_eq!(world.rollout_calls(), 7);

    world.apply_deployment("test", "c", &[]);
    wait_for_reason_and_version(&world, "Available", "c");
    // it was deployed manually, but later than b, which runs now
    let healed = [&["deploy a test"; 7][..], &["deploy c test"]].concat();
    assert_eq!(world.effects_besides_creates(), healed);
    assert_versions_untouched(&world);
}

/// Deploys `b` outside the operator and waits for the correction of this number.
fn assert_corrected(world: &World, round: u64) {
    deploy_manually(world, "b");
    world.eventually("the drift is corrected", || (world.rollout_calls() == 1 + round).then_some(()));
    world.wait_until_deployment_ready("test");
}

/// A version that was deployed outside the operator while the desired one fails is live as well: its object can be deleted.
#[test]
fn version_deployed_manually_can_be_deleted() {
    let world = in_sync(&[]);
    world.service.settings(|settings| settings.failing_rollouts = vec!["b".to_owned()]);
    world.apply_deployment("test", "b", &["progressDeadline: 3s", "revisionHistoryLimit: 0"]);
    world.wait_for_reason::<ChatbotDeployment>("test", "ProgressDeadlineExceeded");
    deploy_manually(&world, "c");
    wait_for_reason_and_version(&world, "ProgressDeadlineExceeded", "c");
    world.delete("chatbotversion", "c");
    world.wait_until_deleted::<ChatbotVersion>("c");
    assert_eq!(world.live_version(Environment::Test).as_deref(), Some("c"));
    world.apply_deployment("test", "a", &["revisionHistoryLimit: 0"]);
    wait_for_reason_and_version(&world, "Available", "a");
    world.eventually("c is deleted once it does not run", || {
        let versions = world.state()?.versions;
        (!versions.iter().any(|version| version.name == "c")).then_some(())
    });
}

/// Row 17. A user deletes a version in the service: it is not created again automatically.
#[test]
fn version_deleted_manually_is_reported_lost_and_not_recreated() {
    let world = World::new(Settings::default());
    for name in ["a", "b"] {
        world.apply_version(name, &[]);
    }
    let id = world.wait_until_version_ready("a").version_id().unwrap().to_owned();
    world.wait_until_version_ready("b");
    world.service.hand_delete(&world.bot, &id).unwrap();
    let message = world.wait_for_reason::<ChatbotVersion>("a", "VersionLost");
    assert!(message.contains(&id) && message.contains("recreate"), "{message}");
    assert_eq!(condition(&world.version("a"), "Stalled").unwrap().status, "True");
    world.wait_for_event("a", "VersionLost");
    let creates = || world.service.counters().of(Operation::Create).calls;
    world.kill();
    world.start();
    world.apply_version("c", &[]);
    world.wait_until_version_ready("c");
    world.wait_for_reason::<ChatbotVersion>("a", "VersionLost");
    assert_eq!(creates(), 3);
    // only by command
    world.kubectl(&["annotate", "cbv", "a", "chatcaptain.dev/recreate=once"], "");
    assert_ne!(world.wait_until_version_ready("a").version_id(), Some(id.as_str()));
    assert_eq!(creates(), 4);
}

/// Asserts that manual changes to other versions have not affected ours.
fn assert_versions_untouched(world: &World) {
    for name in ["a", "b", "c"] {
        world.wait_until_version_ready(name);
    }
    assert_eq!(world.creates(), 3);
    assert_eq!(world.state().unwrap().versions.len(), 3);
}
