//! A manifest leaves git and comes back: its version is found again or reported as lost, never created again.

use chatcaptain_operator::crd::{ChatbotDeployment, ChatbotVersion};
use simulator::{Descriptions, Environment, Fault, FaultKind, FaultOperation, Operation, Settings};
use support::World;

/// Version `a` ran in prod, which has moved on to `b`. The object of `a` is gone, its version is not.
fn world_after_release(settings: Settings) -> (World, String) {
    let world = World::new(settings);
    world.apply_version("a", &["deletionPolicy: Retain"]);
    let id = world.wait_until_version_ready("a").version_id().unwrap().to_owned();
    world.apply_version("b", &[]);
    world.wait_until_version_ready("b");
    for name in ["a", "b"] {
        world.apply_deployment("prod", name, &[]);
        world.wait_until_deployment_ready("prod");
    }
    world.delete("cbv", "a");
    world.wait_until_deleted::<ChatbotVersion>("a");
    (world, id)
}

fn revert(world: &World) {
    world.apply_version("a", &["deletionPolicy: Retain"]);
    world.apply_deployment("prod", "a", &[]);
}

#[test]
fn version_that_ran_and_is_gone_is_lost_until_recreate() {
    let (world, id) = world_after_release(Settings::default());
    world.service.hand_delete(&world.bot, &id).unwrap();
    revert(&world);
    let message = world.wait_for_reason::<ChatbotVersion>("a", "VersionLost");
    for part in [id.as_str(), "ran in prod", "chatcaptain.dev/recreate=<new token>"] {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
    world.wait_for_event("a", "VersionLost");
    assert_eq!(world.creates(), 2, "no draft under the name of a release");
    assert_eq!(world.live_version(Environment::Prod).as_deref(), Some("b"));

    // what a history shows is not needed any more once the object knows it
    world.delete("cbd", "prod");
    world.wait_until_deleted::<ChatbotDeployment>("prod");
    world.wait_for_two_polls();
    world.wait_for_reason::<ChatbotVersion>("a", "VersionLost");
    assert_eq!(world.creates(), 2);

    world.kubectl(&["annotate", "cbv", "a", "chatcaptain.dev/recreate=1"], "");
    world.wait_until_version_ready("a");
    assert_eq!(world.creates(), 3);
}

#[test]
fn version_that_ran_is_found_without_a_readable_marker() {
    let settings = Settings { descriptions: Descriptions::Missing, ..Settings::default() };
    let (world, id) = world_after_release(settings);
    revert(&world);
    assert_eq!(world.wait_until_version_ready("a").version_id(), Some(id.as_str()));
    world.wait_until_deployment_ready("prod");
    assert_eq!(world.live_version(Environment::Prod).as_deref(), Some("a"));
    assert_eq!(world.creates(), 2);
}

#[test]
fn rejected_recreate_is_retried_though_the_name_is_in_a_history() {
    let (world, id) = world_after_release(Settings::default());
    world.service.hand_delete(&world.bot, &id).unwrap();
    revert(&world);
    world.wait_for_reason::<ChatbotVersion>("a", "VersionLost");
    let refused = Fault::new(FaultOperation::Create, FaultKind::Refused).times(1);
    world.service.settings(|settings| settings.faults = vec![refused]);
    world.kubectl(&["annotate", "cbv", "a", "chatcaptain.dev/recreate=1"], "");
    world.wait_for_reason::<ChatbotVersion>("a", "RequestRejected");
    world.kubectl(&["annotate", "cbv", "a", "chatcaptain.dev/reconcile-requested-at=1"], "");
    world.wait_until_version_ready("a");
    assert_eq!(world.creates(), 3);
}

#[test]
fn recreate_on_a_version_that_exists_is_not_kept_for_a_later_loss() {
    let world = World::new(Settings::default());
    for name in ["a", "b"] {
        world.apply_version(name, &[]);
        world.wait_until_version_ready(name);
    }
    world.kubectl(&["annotate", "cbv", "a", "chatcaptain.dev/recreate=1"], "");
    world.eventually("the token is handled", || {
        (world.version("a").status?.last_handled_recreate.as_deref() == Some("1")).then_some(())
    });
    let lose = || {
        let id = world.version("a").version_id().unwrap().to_owned();
        world.service.hand_delete(&world.bot, &id).unwrap();
    };
    lose();
    world.wait_for_reason::<ChatbotVersion>("a", "VersionLost");
    world.wait_for_event("a", "VersionLost");
    assert_eq!(world.creates(), 2);
    world.kubectl(&["annotate", "--overwrite", "cbv", "a", "chatcaptain.dev/recreate=2"], "");
    world.wait_until_version_ready("a");
    assert_eq!(world.creates(), 3);

    // a version that somebody created in its place
    lose();
    world.wait_for_reason::<ChatbotVersion>("a", "VersionLost");
    let id = world.service.hand_create(&world.bot, "manual", None).unwrap().version;
    world.kubectl(&["annotate", "cbv", "a", &format!("chatcaptain.dev/adopt-id={id}")], "");
    assert_eq!(world.wait_until_version_ready("a").version_id(), Some(id.as_str()));
    assert_eq!(world.creates(), 3);
}

#[test]
fn version_that_never_ran_is_created_again() {
    let world = World::new(Settings::default());
    for _ in 0..2 {
        world.apply_version("a", &[]);
        world.wait_until_version_ready("a");
        world.delete("cbv", "a");
        world.wait_until_deleted::<ChatbotVersion>("a");
    }
    assert_eq!(world.effects(), ["create a dev", "delete a", "create a dev", "delete a"]);
}

/// A live version is pruned, its environment moves on, and the object is applied again while the service still deletes
/// the version.
#[test]
fn version_whose_pending_deletion_takes_effect_is_lost() {
    let world = World::with_flags(Settings::default(), &[("visibility-grace", "4s")]);
    for name in ["a", "b"] {
        world.apply_version(name, &[]);
        world.wait_until_version_ready(name);
    }
    world.apply_deployment("test", "a", &["revisionHistoryLimit: 0"]);
    world.wait_until_deployment_ready("test");
    let mut late = Fault::new(FaultOperation::Delete, FaultKind::LateEffect).times(1);
    late.late_ms = 2_500;
    world.service.settings(|settings| settings.faults = vec![late]);
    world.delete("chatbotversion", "a");
    world.wait_until_deleted::<ChatbotVersion>("a");
    world.apply_deployment("test", "b", &["revisionHistoryLimit: 0"]);
    world.eventually("the deletion is under way", || {
        (world.service.counters().of(Operation::Delete).calls == 1).then_some(())
    });
    world.apply_version("a", &[]);
    world.wait_for_reason::<ChatbotVersion>("a", "WaitingForDeletion");
    world.wait_for_reason::<ChatbotVersion>("a", "VersionLost");
    assert_eq!(world.creates(), 2, "it is not created again by itself");
}
