//! The operator's clock jumps, as after a correction, or in a hand-over between two machines whose clocks differ.

use simulator::{Fault, FaultKind, FaultOperation, Operation, Settings};
use support::{Clock, World};

const HOUR: i64 = 3600;

/// A version whose create got no usable answer; the list is being watched for what it made.
fn searching(fault: Fault, clock: &Clock) -> World {
    let flags = [("api-timeout", "1s"), ("visibility-grace", "6s")];
    let world = World::asleep(Settings { faults: vec![fault.times(1)], ..Settings::default() }, &flags);
    world.start_with(&clock.env());
    world.apply_version("a", &[]);
    world
        .eventually("the search begins", || world.version("a").status?.intent?.unconfirmed_since.map(|_| ()));
    assert_eq!(world.creates(), 0, "the effect came before the search");
    world
}

fn create_calls(world: &World) -> u64 {
    world.service.counters().of(Operation::Create).calls
}

/// It looks as if the grace had passed long ago, but the effect is still to come.
#[test]
fn no_jump_of_the_clock_makes_a_second_version() {
    let clock = Clock::right();
    let mut late = Fault::new(FaultOperation::Create, FaultKind::LateEffect);
    late.late_ms = 4_000;
    let world = searching(late, &clock);
    clock.set_ahead(HOUR);
    world.ready_version("a");
    assert_eq!(create_calls(&world), 1);
}

/// The same seen by another replica, whose clock is ahead of that of the one that died.
#[test]
fn a_replica_whose_clock_is_ahead_waits_as_well() {
    let mut late = Fault::new(FaultOperation::Create, FaultKind::LateEffect);
    late.late_ms = 4_000;
    let world = searching(late, &Clock::right());
    world.kill();
    let clock = Clock::right();
    clock.set_ahead(HOUR);
    world.start_with(&clock.env());
    world.ready_version("a");
    assert_eq!(create_calls(&world), 1);
}

/// Nothing was made: after the grace it is tried again, not an hour later, though that is when the backoff ends.
#[test]
fn no_jump_back_holds_up_a_create() {
    let clock = Clock::right();
    let world = searching(Fault::new(FaultOperation::Create, FaultKind::Cut), &clock);
    clock.set_ahead(-HOUR);
    world.ready_version("a");
    assert_eq!((create_calls(&world), world.creates()), (2, 1));
}
