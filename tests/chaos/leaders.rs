//! One leader after the other, and what each leaves under way.

use std::{
    collections::HashSet,
    sync::Mutex,
    time::{Duration, Instant},
};

use simulator::{Fault, FaultKind, FaultOperation, Operation, Settings};

use crate::harness::{Clock, Flags, Operator, PATIENCE, World, poll};

/// The lease as it is shipped; the operator's role knows no other, so one test at a time has it.
const LEASE: Flags = &[("leader-elect", "true"), ("lease-namespace", "chatcaptain-system")];
static TURN: Mutex<()> = Mutex::new(());

const LEASE_DURATION: Duration = Duration::from_secs(3);
const SHORT: &[&str] = &["--lease-duration=3s"];

fn leads(operator: &Operator) -> Duration {
    let started = Instant::now();
    let led = poll(PATIENCE, || (operator.metric("chatcaptain_leader", &[]) == 1).then_some(()));
    assert!(led.is_some(), "it does not lead:\n{}", operator.log());
    started.elapsed()
}

fn hanging(ms: u64) -> Settings {
    let mut hang = Fault::new(FaultOperation::Create, FaultKind::Hang).times(1);
    hang.hang_ms = ms;
    Settings { faults: vec![hang], ..Settings::default() }
}

/// Row 7. The leader stalls in the middle of a create; whoever takes over finds its version. When the first wakes
/// up with an answer in its hands, it must not write.
#[test]
fn a_leader_frozen_in_the_middle_of_a_create() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let world = World::asleep(hanging(1_000), LEASE);
    let mut first = world.replica(SHORT, &[]);
    leads(&first);
    let second = world.replica(SHORT, &[]);
    world.apply_version("a", &[]);
    world.eventually("the create is under way", || (world.creates() == 1).then_some(()));
    first.signal("STOP");
    let took = leads(&second);
    println!("taken over {took:?} after the leader froze; the lease lasts {LEASE_DURATION:?}");
    assert!(took < LEASE_DURATION * 3, "{took:?}");
    world.ready_version("a");
    let record = world.version("a").metadata.resource_version;
    first.signal("CONT");
    let status = first.ended(PATIENCE).expect("it ends");
    assert!(!status.success(), "{}", first.log());
    assert!(first.log().contains("lost lease"), "{}", first.log());
    assert_eq!(world.version("a").metadata.resource_version, record, "the first wrote nothing");
    assert_eq!(world.service.counters().of(Operation::Create).calls, 1);
}

/// SIGTERM in the middle of a create that ends within a second: it is put on record, then the other leads.
#[test]
fn a_hand_over_takes_less_than_three_seconds() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let world = World::asleep(hanging(1_000), LEASE);
    let mut first = world.replica(&[], &[]);
    leads(&first);
    let second = world.replica(&[], &[]);
    world.apply_version("a", &[]);
    world.eventually("the create is under way", || (world.creates() == 1).then_some(()));
    first.signal("TERM");
    let told = Instant::now();
    leads(&second);
    let took = told.elapsed();
    println!("handed over {took:?} after SIGTERM, with a create of one second under way");
    assert!(took < Duration::from_secs(3), "{took:?}");
    let status = first.ended(PATIENCE).expect("it ends");
    assert!(status.success(), "{}", first.log());
    world.ready_version("a");
    let recovered = world.events("a").iter().any(|(reason, _)| reason == "CreateRecovered");
    assert!(!recovered, "the first had put it on record");
    assert_eq!(world.service.counters().of(Operation::Create).calls, 1);
}

/// When the lease was renewed last.
fn renewed(world: &World) -> String {
    let lease = ["get", "lease", "chatcaptain-operator", "--namespace=chatcaptain-system"];
    world.cluster.kubectl_ok(&[&lease[..], &["--output=jsonpath={.spec.renewTime}"]].concat(), "")
}

/// The lease is timed by clocks that do not jump.
#[test]
fn a_leader_whose_clock_jumps_still_leads() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let world = World::asleep(Settings::default(), LEASE);
    let clock = Clock::right();
    let first = world.replica(SHORT, &clock.env());
    leads(&first);
    let second = world.replica(SHORT, &[]);
    for ahead in [3600, -3600, 0] {
        clock.set_ahead(ahead);
        // it lasts as long as ten renewals: whoever takes it for expired has had the time to say so
        let mut renewals = HashSet::new();
        world.eventually("the lease is renewed", || {
            renewals.insert(renewed(&world));
            (renewals.len() > 12).then_some(())
        });
        let leaders = [&first, &second].map(|one| one.metric("chatcaptain_leader", &[]));
        assert_eq!(leaders, [1, 0], "{ahead} s ahead");
    }
    world.apply_version("a", &[]);
    world.ready_version("a");
    assert_eq!(world.service.counters().of(Operation::Create).calls, 1);
}
