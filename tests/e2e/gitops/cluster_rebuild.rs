//! The cluster is lost and rebuilt from git.

use chatcaptain_operator::crd::{ChatbotDeployment, ChatbotVersion, Operation as Did};
use kube::ResourceExt;
use simulator::{Environment, Settings};
use support::{World, deployment, version};

fn manifests(world: &World) -> String {
    let bot = &world.bot;
    [
        version(bot, "a", &["description: The first"]),
        version(bot, "b", &["name: Second one"]),
        // one that created its version for an environment of its own
        version(bot, "c", &["environment: test"]),
        deployment(bot, "prod", "prod", &["versionRef: {name: b}"]),
    ]
    .concat()
}

/// Deletes every object of the namespace while no operator runs.
pub fn lose_objects(world: &World) {
    for kind in ["chatbotversions", "chatbotdeployments"] {
        let names = world.kubectl(&["get", kind, "-o", "name"], "");
        for name in names.lines() {
            let patch = r#"{"metadata":{"finalizers":null}}"#;
            world.kubectl(&["patch", name, "--type=merge", "-p", patch], "");
        }
        world.kubectl(&["delete", kind, "--all"], "");
    }
}

#[test]
fn same_manifests_on_a_new_cluster_adopt_everything() {
    let world = World::new(Settings::default());
    let git = manifests(&world);
    world.apply(&git);
    let ids = ids(&world);
    world.wait_until_deployment_ready("prod");
    let effects = world.effects();
    assert_eq!(effects.len(), 4, "{effects:?}");

    world.stop();
    lose_objects(&world);
    world.apply(&git);
    world.start();

    assert_eq!(self::ids(&world), ids);
    let prod: ChatbotDeployment = world.wait_until_deployment_ready("prod");
    let active = prod.status.unwrap().active.unwrap();
    assert_eq!(active.version_id, ids[1]);
    for name in ["a", "b", "c"] {
        let status = world.version(name).status.unwrap();
        let last = status.common.last_operations.first().unwrap();
        assert_eq!(last.operation, Did::Adopt);
        world.wait_for_event(name, "Adopted");
    }
    assert_eq!(world.live_version(Environment::Prod).as_deref(), Some("Second one"));
    assert_eq!(world.live_version(Environment::Test).as_deref(), Some("c"));
    assert_eq!(world.effects(), effects, "nothing was created or deployed");

    // what was adopted is ours again: it is deleted with its object
    world.delete("chatbotversion", "a");
    world.wait_until_deleted::<ChatbotVersion>("a");
    assert_eq!(world.effects().last().unwrap(), "delete a");
}

/// The ids of the three versions, once they are Ready.
fn ids(world: &World) -> Vec<String> {
    ["a", "b", "c"]
        .map(|name| {
            let version = world.wait_until_version_ready(name);
            let name = version.name_any();
            let id = version.status.and_then(|status| status.version_id);
            id.unwrap_or_else(|| panic!("{name} is Ready without an id"))
        })
        .to_vec()
}

#[test]
fn versions_of_another_owner_are_not_adopted() {
    let ours = World::new(Settings::default());
    ours.apply_version("a", &[]);
    let id = ours.wait_until_version_ready("a").status.unwrap().version_id.unwrap();
    ours.stop();
    lose_objects(&ours);

    // the same account and the same names, but another owner: nothing of the other is taken
    let theirs = ours.replica(&["--owner-id=other"], &[]);
    ours.apply_version("a", &[]);
    let version = ours.wait_until_version_ready("a");
    assert_ne!(version.status.unwrap().version_id.unwrap(), id);
    assert_eq!(ours.creates(), 2);
    drop(theirs);
}
