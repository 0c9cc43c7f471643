//! One release after another, each a commit that adds a version and drops an earlier one, and the way back.

use chatcaptain_operator::crd::ChatbotVersion;
use simulator::{Environment, Settings};
use support::World;

use super::cluster_rebuild::lose_objects;

/// A world in which git has released `v1` to `v5`: each commit drops the version before and moves prod.
fn five_releases() -> World {
    let world = World::new(Settings::default());
    for number in 1..=5 {
        let name = format!("v{number}");
        // `kubectl apply --prune` and Argo CD may take the parts of one commit in any order
        if number > 1 {
            world.delete("chatbotversion", &format!("v{}", number - 1));
        }
        commit(&world, &name);
    }
    world
}

/// Git holds this version and prod runs it.
fn commit(world: &World, name: &str) {
    world.apply_version(name, &[]);
    world.apply_deployment("prod", name, &[]);
    world.eventually(&format!("prod runs {name}"), || {
        (world.live_version(Environment::Prod).as_deref() == Some(name)).then_some(())
    });
    world.wait_until_deployment_ready("prod");
}

/// The reverted commit, and the revert: the former version's manifest is back, the later one's is gone.
fn revert(world: &World, from: &str, to: &str) {
    world.delete("chatbotversion", from);
    commit(world, to);
}

fn in_service(world: &World) -> Vec<(String, String)> {
    let versions = world.state().unwrap().versions.into_iter();
    versions.map(|version| (version.name, version.id)).collect()
}

#[test]
fn reverting_release_after_release_finds_each_version_again() {
    let world = five_releases();
    world.eventually("what is older than the limit is deleted", || {
        let names: Vec<_> = in_service(&world).into_iter().map(|(name, _)| name).collect();
        (names == ["v2", "v3", "v4", "v5"]).then_some(())
    });
    let kept = in_service(&world);
    for (from, to) in [("v5", "v4"), ("v4", "v3"), ("v3", "v2")] {
        revert(&world, from, to);
        let id = world.wait_until_version_ready(to).status.unwrap().version_id.unwrap();
        assert!(kept.contains(&(to.to_owned(), id)), "{to} is the version that it was");
    }
    assert_eq!(world.creates(), 5, "no second snapshot of a name");
    let rollbacks =
        world.effects_besides_creates().into_iter().filter(|effect| effect.starts_with("rollback"));
    assert_eq!(rollbacks.collect::<Vec<_>>(), ["rollback v4 prod", "rollback v3 prod", "rollback v2 prod"]);
}

/// The status is lost with the cluster, and with it what waited to be deleted; the service still has it.
#[test]
fn reverting_on_a_rebuilt_cluster_finds_the_version_by_its_marker() {
    let world = five_releases();
    let before = in_service(&world);
    world.stop();
    lose_objects(&world);
    world.start();
    commit(&world, "v5");
    revert(&world, "v5", "v4");
    let id = world.wait_until_version_ready("v4").status.unwrap().version_id.unwrap();
    assert!(before.contains(&("v4".to_owned(), id)), "adopted");
    assert_eq!(world.creates(), 5, "no second snapshot of a name");
}

/// Without retention the version is gone from the service when its manifest is back.
#[test]
fn version_that_runs_or_may_be_needed_outlives_its_object() {
    let world = World::new(Settings::default());
    for name in ["v1", "v2"] {
        world.apply_version(name, &[]);
        world.wait_until_version_ready(name);
    }
    commit(&world, "v1");
    commit(&world, "v2");
    world.delete("chatbotversion", "v1");
    world.wait_until_deleted::<ChatbotVersion>("v1");
    world.wait_for_event("v1", "DeletionDelegated");
    // the command finds it without its object
    world.kubectl(&["annotate", "cbd", "prod", "chatcaptain.dev/rollback-to=previous"], "");
    world.eventually("prod is back", || {
        (world.live_version(Environment::Prod).as_deref() == Some("v1")).then_some(())
    });
    // and meanwhile the version that the spec names is kept as well, without its object
    world.delete("chatbotversion", "v2");
    world.wait_until_deleted::<ChatbotVersion>("v2");
    world.wait_for_two_polls();
    assert_eq!(in_service(&world).len(), 2);
    world.apply_version("v2", &[]);
    world.kubectl(&["annotate", "cbd", "prod", "chatcaptain.dev/rollback-to-"], "");
    commit(&world, "v2");
    assert_eq!(world.creates(), 2);
}
