//! The operator's clock jumps, or the clocks of two replicas differ.

use simulator::{Fault, FaultKind, FaultOperation, Operation, Settings};
use support::{Clock, World};

const HOUR: i64 = 3600;

/// A version whose create got no usable response; the operator is searching the list for its result.
fn world_with_unknown_create(fault: Fault, clock: &Clock) -> World {
    let flags = [("api-timeout", "1s"), ("visibility-grace", "6s")];
    let world =
        World::without_operator(Settings { faults: vec![fault.times(1)], ..Settings::default() }, &flags);
    world.start_with(&clock.env());
    world.apply_version("a", &[]);
    world.eventually("the search begins", || {
        world.version("a").status?.pending_create?.search_start_time.map(|_| ())
    });
    assert_eq!(world.creates(), 0, "the effect came before the search");
    world
}

fn create_calls(world: &World) -> u64 {
    world.service.counters().of(Operation::Create).calls
}

/// By the clock the grace has passed long ago, but the effect is still to come.
#[test]
fn forward_clock_jump_does_not_duplicate_a_version() {
    let clock = Clock::real_time();
    let mut late = Fault::new(FaultOperation::Create, FaultKind::LateEffect);
    late.late_ms = 4_000;
    let world = world_with_unknown_create(late, &clock);
    clock.set_ahead(HOUR);
    world.wait_until_version_ready("a");
    assert_eq!(create_calls(&world), 1);
}

/// The same for the next operator, whose clock is ahead of that of the first.
#[test]
fn replica_with_a_fast_clock_waits_for_late_effects() {
    let mut late = Fault::new(FaultOperation::Create, FaultKind::LateEffect);
    late.late_ms = 4_000;
    let world = world_with_unknown_create(late, &Clock::real_time());
    world.kill();
    let clock = Clock::real_time();
    clock.set_ahead(HOUR);
    world.start_with(&clock.env());
    world.wait_until_version_ready("a");
    assert_eq!(create_calls(&world), 1);
}

/// Nothing was created: it is retried after the grace, not an hour later when the backoff would end by the clock.
#[test]
fn backward_clock_jump_does_not_delay_a_create() {
    let clock = Clock::real_time();
    let world = world_with_unknown_create(Fault::new(FaultOperation::Create, FaultKind::Cut), &clock);
    clock.set_ahead(-HOUR);
    world.wait_until_version_ready("a");
    assert_eq!((create_calls(&world), world.creates()), (2, 1));
}
