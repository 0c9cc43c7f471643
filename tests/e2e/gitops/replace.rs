//! What tools do to objects besides applying them: replace, prune, uninstall.

use chatcaptain_operator::crd::{ChatbotDeployment, ChatbotVersion};
use simulator::{Environment, Fault, FaultKind, FaultOperation, Operation, Settings};
use support::{World, is_ready, version};

/// `a` runs in test.
fn running(flags: &[(&str, &str)]) -> (World, String) {
    let world = World::with(Settings::default(), flags);
    world.apply_version("a", &[]);
    let id = world.ready_version("a").version_id().unwrap().to_owned();
    world.point("test", "a", &[]);
    world.ready_deployment("test");
    (world, id)
}

/// Row 10. Replace takes everything away that is not in the manifest, finalizer included; status stays.
#[test]
fn replace_leads_to_no_call() {
    let (world, id) = running(&[]);
    let writes = || world.service.counters().of(Operation::Delete).calls + world.effects().len() as u64;
    let before = writes();
    world.kubectl(&["replace", "-f", "-"], &version(&world.bot, "a", &[]));
    world.eventually("the finalizer is there again", || {
        let finalizers = world.version("a").metadata.finalizers.unwrap_or_default();
        (finalizers.len() == 1).then_some(())
    });
    assert_eq!(world.ready_version("a").version_id(), Some(id.as_str()));
    assert_eq!(writes(), before);
}

/// Row 10. Replace with force deletes and creates: what is live is handed over, and the new object takes it back.
#[test]
fn replace_by_force_adopts_what_it_let_go() {
    let (world, id) = running(&[]);
    world.kubectl(&["replace", "--force", "-f", "-"], &version(&world.bot, "a", &[]));
    assert_eq!(world.ready_version("a").version_id(), Some(id.as_str()));
    world.eventually("the hand-over is taken back", || {
        world.deployment("test").status.unwrap().retiring.is_empty().then_some(())
    });
    // moving on deletes nothing that git has
    world.apply_version("b", &[]);
    world.point("test", "b", &[]);
    world.ready_deployment("test");
    world.ready_version("a");
    assert_eq!(world.effects(), ["create a dev", "deploy a test", "create b dev", "deploy b test"]);
}

/// Row 16, third case. Version and deployment are pruned in one commit: neither waits for the other, and what is
/// live stays live.
#[test]
fn version_and_deployment_pruned_together_both_go() {
    for first in ["chatbotversion", "chatbotdeployment"] {
        let (world, _) = running(&[("interval", "1h")]);
        let objects = [("chatbotversion", "a"), ("chatbotdeployment", "test")];
        let mut order = objects.to_vec();
        order.sort_by_key(|(kind, _)| *kind != first);
        for (kind, name) in order {
            world.delete(kind, name);
        }
        world.gone::<ChatbotVersion>("a");
        world.gone::<ChatbotDeployment>("test");
        assert_eq!(world.live(Environment::Test).as_deref(), Some("a"));
        assert_eq!(world.service.counters().of(Operation::Delete).took_effect, 0);
        world.counted("chatcaptain_orphans_total", &[], 1);
    }
}

/// A version is pruned while it is live, its environment moves on, and it comes back to git while the service still
/// deletes it: the new object must not end up with a version that is no more.
#[test]
fn a_version_that_comes_back_while_it_is_being_deleted() {
    let (world, _) = running(&[("visibility-grace", "4s")]);
    world.apply_version("b", &[]);
    world.ready_version("b");
    let mut late = Fault::new(FaultOperation::Delete, FaultKind::LateEffect).times(1);
    late.late_ms = 2_500;
    world.service.settings(|settings| settings.faults = vec![late]);
    world.delete("chatbotversion", "a");
    world.gone::<ChatbotVersion>("a");
    world.point("test", "b", &[]);
    world.eventually("the deletion is under way", || {
        (world.service.counters().of(Operation::Delete).calls == 1).then_some(())
    });
    world.apply_version("a", &[]);
    world.eventually("the deletion took effect", || {
        (world.service.counters().of(Operation::Delete).took_effect == 1).then_some(())
    });
    world.eventually("it has a version that exists", || {
        let version = world.version("a");
        let there = world.state()?.versions.into_iter().any(|v| Some(v.id.as_str()) == version.version_id());
        (is_ready(&version) && there).then_some(())
    });
}

/// Row 20. Objects are deleted while no operator is there: they wait, and are dealt with by the next.
#[test]
fn a_deletion_that_nobody_saw_is_carried_out() {
    let (world, _) = running(&[]);
    world.apply_version("b", &[]);
    world.ready_version("b");
    world.stop();
    for (kind, name) in [("chatbotversion", "a"), ("chatbotversion", "b")] {
        world.delete(kind, name);
    }
    assert!(world.get::<ChatbotVersion>("b").is_some(), "its finalizer holds it");
    world.start();
    world.gone::<ChatbotVersion>("a");
    world.gone::<ChatbotVersion>("b");
    assert_eq!(world.live(Environment::Test).as_deref(), Some("a"));
    let left: Vec<_> = world.state().unwrap().versions.into_iter().map(|v| v.name).collect();
    assert_eq!(left, ["a"], "live, and handed over");
}
