//! The operator is killed at every request between the finalizer and the record, on both of its sides.

use std::sync::{Arc, OnceLock};

use chatcaptain_operator::crd::ChatbotVersion;
use simulator::Settings;

use crate::harness::{Flags, Side, Trap, World, before_cluster, before_service, is_ready, side_by_side};

/// No looks of its own accord: each request is a step of the one object's way.
const FLAGS: Flags = &[("interval", "1h"), ("visibility-grace", "1s")];

/// A world whose operator reaches cluster and service through a trap.
fn trapped(spring: Option<(usize, Side)>) -> (World, Arc<Trap>) {
    // known only once there is a world
    let kill: Arc<OnceLock<Box<dyn Fn() + Send + Sync>>> = Arc::default();
    let killer = kill.clone();
    let trap = Trap::new(spring, move || killer.get().unwrap()());
    let mut world = World::asleep(Settings::default(), FLAGS);
    let _ = kill.set(Box::new(world.killer()));
    let kubeconfig = before_cluster(&world, trap.clone());
    world.use_kubeconfig(&kubeconfig.to_string());
    let url = before_service(&world, trap.clone());
    world.use_service(&url);
    (world, trap)
}

/// Starts the operator and a version, and waits until that is Ready or the operator is killed.
fn create(world: &World, trap: &Trap) {
    world.start();
    world.apply_version("new", &["description: For a test"]);
    world.eventually("Ready or killed", || {
        let version = world.get::<ChatbotVersion>("new")?;
        (is_ready(&version) || trap.is_sprung()).then_some(())
    });
}

#[test]
fn a_kill_at_any_step_of_a_create_leaves_one_version() {
    let (world, trap) = trapped(None);
    create(&world, &trap);
    let steps = trap.seen();
    let posts = steps.iter().filter(|step| step.starts_with("POST"));
    assert_eq!(posts.count(), 1, "{steps:#?}");
    // finalizer, look, intent, look, create, look, record
    assert!(steps.len() >= 7, "{steps:#?}");

    let mut cases = Vec::new();
    for step in 1..=steps.len() {
        cases.push((step, Side::Before));
        cases.push((step, Side::After));
    }
    side_by_side(6, &cases, |&(step, side)| {
        let (world, trap) = trapped(Some((step, side)));
        create(&world, &trap);
        let seen = trap.seen();
        assert!(trap.is_sprung(), "no step {step}: {seen:#?}");
        // until the kill is done; the next start must not be what it hits
        world.eventually("killed", || world.operator().is_none().then_some(()));
        world.start();
        world.ready_version("new");
        let what = format!("killed {side:?} step {step} of {seen:#?}");
        assert_eq!(world.effects(), ["create new dev"], "{what}");
        assert_eq!(world.creates(), 1, "{what}");
    });
}
