//! Somebody deploys by hand.

use chatcaptain_operator::crd::{ChatbotDeployment, ChatbotVersion};
use simulator::{Environment, FailedRollout, Settings};

use crate::harness::{World, condition};

/// A world where test runs `a`, and `b` and `c` are there too.
fn in_sync(more: &[&str]) -> World {
    let world = World::with(Settings::default(), &[("interval", "1s")]);
    for name in ["a", "b", "c"] {
        world.apply_version(name, &[]);
        world.ready_version(name);
    }
    world.point("test", "a", more);
    world.ready_deployment("test");
    world
}

fn by_hand(world: &World, name: &str) {
    let deployed = world.service.hand_deploy(&world.bot, name, Environment::Test);
    deployed.unwrap();
}

/// Waits until the deployment is said to be like this and to run that version; the message.
fn told(world: &World, reason: &str, name: &str) -> String {
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

fn drifts_are(world: &World, action: &str, times: u64) {
    world.counted("chatcaptain_drift_total", &[&format!("action={action:?}")], times);
}

#[test]
fn an_enforced_environment_is_put_right_by_one_deploy() {
    let world = in_sync(&[]);
    by_hand(&world, "b");
    world
        .eventually("a runs again", || (world.live(Environment::Test).as_deref() == Some("a")).then_some(()));
    let note = world.event("test", "DriftDetected");
    assert!(note.contains("outside the operator"), "{note}");
    world.ready_deployment("test");
    assert_eq!(world.moves(), ["deploy a test", "deploy a test"]);
    drifts_are(&world, "enforced", 1);
}

#[test]
fn what_somebody_has_emptied_is_filled_again() {
    let world = in_sync(&[]);
    world.service.settings(|settings| {
        settings.failing_rollouts = vec!["b".to_owned()];
        settings.failed_rollout = FailedRollout::Emptying;
    });
    by_hand(&world, "b");
    assert_eq!(world.live(Environment::Test), None);
    world
        .eventually("a runs again", || (world.live(Environment::Test).as_deref() == Some("a")).then_some(()));
    let note = world.event("test", "DriftDetected");
    assert!(note.contains("Nothing runs in test"), "{note}");
    world.ready_deployment("test");
    assert_eq!(world.moves(), ["deploy a test", "deploy a test"]);
}

#[test]
fn a_tolerant_environment_says_so_and_does_nothing() {
    let world = in_sync(&["drift: Warn"]);
    by_hand(&world, "b");
    let message = world.told::<ChatbotDeployment>("test", "DriftTolerated");
    assert!(message.contains("outside the operator"), "{message}");
    let deployment = world.ready_deployment("test");
    let drifted = condition(&deployment, "Drifted").unwrap();
    assert_eq!((drifted.status.as_str(), drifted.reason.as_str()), ("True", "OutOfSync"));
    world.event("test", "DriftDetected");
    drifts_are(&world, "warned", 1);
    assert_eq!(world.live(Environment::Test).as_deref(), Some("b"));

    // nine more
    let since =
        |world: &World| condition(&world.deployment("test"), "Ready").unwrap().last_transition_time.clone();
    let ready = since(&world);
    for name in ["c", "a", "b", "c", "a", "b", "c", "a", "b"] {
        let theirs = world.service.hand_create(&world.bot, "theirs", None).unwrap();
        by_hand(&world, name);
        let (reason, drifted) = if name == "a" { ("Available", "False") } else { ("DriftTolerated", "True") };
        told(&world, reason, name);
        assert_eq!(status_of(&world, "Drifted"), drifted);
        world.service.hand_delete(&world.bot, &theirs.version).unwrap();
    }
    world.looked_twice();
    assert_eq!(world.changes(), 1, "the first deploy was the only one");
    assert_eq!(since(&world), ready, "it was Ready all the time");
    drifts_are(&world, "warned", 7);
    undisturbed(&world);
}

/// Changes by hand are reversed five times, and then nothing is called any more until somebody says so.
#[test]
fn nobody_is_fought_without_end() {
    let world = in_sync(&[]);
    for round in 1..=5 {
        is_put_right(&world, round);
    }
    for name in ["b", "c", "b", "c", "b"] {
        let theirs = world.service.hand_create(&world.bot, "theirs", None).unwrap();
        by_hand(&world, name);
        let message = told(&world, "DriftCorrectionPaused", name);
        for said in ["outside the operator", "5 times", "paused", "spec.drift", "reconcile-requested-at"] {
            assert!(message.contains(said), "{said} in {message}");
        }
        world.service.hand_delete(&world.bot, &theirs.version).unwrap();
        world.looked_twice();
        assert_eq!(world.changes(), 6, "nothing is called for {name}");
        assert_eq!(world.live(Environment::Test).as_deref(), Some(name));
        assert_eq!(status_of(&world, "Stalled"), "True");
        assert_eq!(status_of(&world, "Drifted"), "True");
    }
    drifts_are(&world, "enforced", 5);
    drifts_are(&world, "warned", 5);
    world.eventually("b was put right and left alone, and c was left alone", || {
        let events = world.events("test").into_iter().filter(|(reason, _)| reason == "DriftDetected");
        (events.count() == 3).then_some(())
    });

    // somebody asks for one more
    world.kubectl(&["annotate", "cbd", "test", "chatcaptain.dev/reconcile-requested-at=once"], "");
    told(&world, "Available", "a");
    by_hand(&world, "b");
    told(&world, "DriftCorrectionPaused", "b");
    world.looked_twice();
    assert_eq!(world.changes(), 7);

    world.point("test", "c", &[]);
    told(&world, "Available", "c");
    // which has run here by now
    let healed = [&["deploy a test"; 7][..], &["rollback c test"]].concat();
    assert_eq!(world.moves(), healed);
    undisturbed(&world);
}

/// Somebody deploys `b`, and it is reversed, which makes so many corrections.
fn is_put_right(world: &World, round: u64) {
    by_hand(world, "b");
    world.eventually("it is put right", || (world.changes() == 1 + round).then_some(()));
    world.ready_deployment("test");
}

/// What somebody has deployed while the wanted version fails runs here, too: its object need not wait for anything.
#[test]
fn a_version_that_runs_by_hand_alone_can_be_pruned() {
    let world = in_sync(&[]);
    world.service.settings(|settings| settings.failing_rollouts = vec!["b".to_owned()]);
    world.point("test", "b", &["progressDeadline: 3s"]);
    world.told::<ChatbotDeployment>("test", "ProgressDeadlineExceeded");
    by_hand(&world, "c");
    told(&world, "ProgressDeadlineExceeded", "c");
    world.delete("chatbotversion", "c");
    world.gone::<ChatbotVersion>("c");
    assert_eq!(world.live(Environment::Test).as_deref(), Some("c"));
    world.point("test", "a", &[]);
    told(&world, "Available", "a");
    world.eventually("c is deleted once it does not run", || {
        let versions = world.state()?.versions;
        (!versions.iter().any(|version| version.name == "c")).then_some(())
    });
}

/// No version of ours suffered from what somebody did to others.
fn undisturbed(world: &World) {
    for name in ["a", "b", "c"] {
        world.ready_version(name);
    }
    assert_eq!(world.creates(), 3);
    assert_eq!(world.state().unwrap().versions.len(), 3);
}
