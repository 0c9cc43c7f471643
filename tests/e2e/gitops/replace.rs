//! `kubectl replace`, with and without force.

use simulator::{Operation, Settings};
use support::{World, version};

/// `a` runs in test.
fn running() -> (World, String) {
    let world = World::new(Settings::default());
    world.apply_version("a", &[]);
    let id = world.wait_until_version_ready("a").version_id().unwrap().to_owned();
    world.apply_deployment("test", "a", &[]);
    world.wait_until_deployment_ready("test");
    (world, id)
}

/// Row 10. Replace removes everything that is not in the manifest, including the finalizer; the status stays.
#[test]
fn replace_makes_no_service_call() {
    let (world, id) = running();
    let writes = || world.service.counters().of(Operation::Delete).calls + world.effects().len() as u64;
    let before = writes();
    world.kubectl(&["replace", "-f", "-"], &version(&world.bot, "a", &[]));
    world.eventually("the finalizer is there again", || {
        let finalizers = world.version("a").metadata.finalizers.unwrap_or_default();
        (finalizers.len() == 1).then_some(())
    });
    assert_eq!(world.wait_until_version_ready("a").version_id(), Some(id.as_str()));
    assert_eq!(writes(), before);
}

/// Row 10. Forced replace deletes and creates: the deletion of a live version is delegated to its deployment, and the
/// new object revokes it.
#[test]
fn forced_replace_adopts_the_version_again() {
    let (world, id) = running();
    world.kubectl(&["replace", "--force", "-f", "-"], &version(&world.bot, "a", &[]));
    assert_eq!(world.wait_until_version_ready("a").version_id(), Some(id.as_str()));
    world.eventually("the hand-over is taken back", || {
        world.deployment("test").status.unwrap().pending_deletions.is_empty().then_some(())
    });
    // moving on deletes nothing that git has
    world.apply_version("b", &[]);
    world.apply_deployment("test", "b", &[]);
    world.wait_until_deployment_ready("test");
    world.wait_until_version_ready("a");
    assert_eq!(world.effects(), ["create a dev", "deploy a test", "create b dev", "deploy b test"]);
}
