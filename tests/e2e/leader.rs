//! Leader election: one replica leads, another takes over.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use simulator::{Fault, FaultKind, FaultOperation, Operation, Settings};
use support::{Clock, Flags, Operator, TIMEOUT, World, poll};

/// The shipped Lease; the operator's role grants no other, so one test at a time uses it.
const LEASE: Flags = &[("leader-elect", "true"), ("lease-namespace", "chatcaptain-system")];
static IN_USE: Mutex<()> = Mutex::new(());

const LEASE_DURATION: Duration = Duration::from_secs(3);
const SHORT: &[&str] = &["--lease-duration=3s"];

fn take_the_lease() -> MutexGuard<'static, ()> {
    // a test that failed with the lease leaves it to the next
    IN_USE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until it leads; how long that took.
fn wait_until_leading(operator: &Operator) -> Duration {
    let started = Instant::now();
    let led = poll(TIMEOUT, || (operator.metric("chatcaptain_leader", &[]) == 1).then_some(()));
    assert!(led.is_some(), "it does not lead:\n{}", operator.log());
    started.elapsed()
}

fn hanging(ms: u64) -> Settings {
    let mut hang = Fault::new(FaultOperation::Create, FaultKind::Hang).times(1);
    hang.hang_ms = ms;
    Settings { faults: vec![hang], ..Settings::default() }
}

/// It logs one line with the Lease and its holder, and reconciles nothing.
fn assert_standing_by(replica: &Operator, leader: &Operator) {
    let log = replica.log();
    let lease = "namespace=chatcaptain-system lease=chatcaptain-operator";
    assert!(log.contains(lease), "{log}");
    let identity = leader
        .log()
        .split("identity=")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next().map(str::to_owned));
    let holder = format!("holder=\"{}\"", identity.expect("the leader logs its identity"));
    let waits: Vec<&str> = log.lines().filter(|line| line.contains("standing by")).collect();
    assert!(matches!(waits[..], [line] if line.contains(&holder)), "{log}");
    assert!(leader.log().contains("object{") && !log.contains("object{"), "{log}");
}

/// One of two leads; the other is ready and reconciles nothing until the lease of the first expires.
#[test]
fn standby_takes_over_when_the_leader_dies() {
    let _lease = take_the_lease();
    let world = World::without_operator(Settings::default(), LEASE);
    let mut first = world.replica(&[], &[]);
    wait_until_leading(&first);
    let second = world.replica(&[], &[]);
    world.eventually("the standby is ready", || (second.http_get("/readyz").0 == 200).then_some(()));
    assert_eq!(second.metric("chatcaptain_leader", &[]), 0);
    world.apply_version("a", &[]);
    world.wait_until_version_ready("a");
    assert_standing_by(&second, &first);
    first.kill();
    wait_until_leading(&second);
    world.apply_version("b", &[]);
    world.wait_until_version_ready("b");
    assert_eq!(world.effects(), ["create a dev", "create b dev"]);
}

/// Row 7. The leader is frozen in the middle of a create; the next leader finds its version. When the first continues
/// and receives the response, it must not write.
#[test]
fn frozen_leader_writes_nothing_after_losing_the_lease() {
    let _lease = take_the_lease();
    let world = World::without_operator(hanging(1_000), LEASE);
    let mut first = world.replica(SHORT, &[]);
    wait_until_leading(&first);
    let second = world.replica(SHORT, &[]);
    world.apply_version("a", &[]);
    world.eventually("the create is under way", || (world.creates() == 1).then_some(()));
    first.signal("STOP");
    let took = wait_until_leading(&second);
    println!("taken over {took:?} after the leader froze; the lease lasts {LEASE_DURATION:?}");
    assert!(took < LEASE_DURATION * 3, "{took:?}");
    world.wait_until_version_ready("a");
    let record = world.version("a").metadata.resource_version;
    first.signal("CONT");
    let status = first.wait_for_exit(TIMEOUT).expect("it ends");
    assert!(!status.success(), "{}", first.log());
    assert!(first.log().contains("lost lease"), "{}", first.log());
    assert_eq!(world.version("a").metadata.resource_version, record, "the first wrote nothing");
    assert_eq!(world.service.counters().of(Operation::Create).calls, 1);
}

/// SIGTERM in the middle of a create that takes a second: its result is recorded, then the other replica leads.
#[test]
fn sigterm_hands_over_within_three_seconds() {
    let _lease = take_the_lease();
    let world = World::without_operator(hanging(1_000), LEASE);
    let mut first = world.replica(&[], &[]);
    wait_until_leading(&first);
    let second = world.replica(&[], &[]);
    world.apply_version("a", &[]);
    world.eventually("the create is under way", || (world.creates() == 1).then_some(()));
    first.signal("TERM");
    let signalled = Instant::now();
    wait_until_leading(&second);
    let took = signalled.elapsed();
    println!("handed over {took:?} after SIGTERM, with a create of one second under way");
    assert!(took < Duration::from_secs(3), "{took:?}");
    let status = first.wait_for_exit(TIMEOUT).expect("it ends");
    assert!(status.success(), "{}", first.log());
    world.wait_until_version_ready("a");
    let recovered = world.events("a").iter().any(|(reason, _)| reason == "CreateRecovered");
    assert!(!recovered, "the first had recorded it");
    let made = &world.state().unwrap().versions;
    assert_eq!(world.version("a").version_id(), Some(made[0].id.as_str()));
    assert_eq!(world.service.counters().of(Operation::Create).calls, 1);
}

/// When the lease was renewed last.
fn renewed(world: &World) -> String {
    let lease = ["get", "lease", "chatcaptain-operator", "--namespace=chatcaptain-system"];
    world.cluster.kubectl_ok(&[&lease[..], &["--output=jsonpath={.spec.renewTime}"]].concat(), "")
}

/// The lease is timed by clocks that do not jump.
#[test]
fn clock_jumps_do_not_lose_the_lease() {
    let _lease = take_the_lease();
    let world = World::without_operator(Settings::default(), LEASE);
    let clock = Clock::real_time();
    let first = world.replica(SHORT, &clock.env());
    wait_until_leading(&first);
    let second = world.replica(SHORT, &[]);
    for ahead in [3600, -3600, 0] {
        clock.set_ahead(ahead);
        // it lasts as long as ten renewals: a replica that takes it for expired has had the time to say so
        let mut renewals = HashSet::new();
        world.eventually("the lease is renewed", || {
            renewals.insert(renewed(&world));
            (renewals.len() > 12).then_some(())
        });
        let leaders = [&first, &second].map(|one| one.metric("chatcaptain_leader", &[]));
        assert_eq!(leaders, [1, 0], "{ahead} s ahead");
    }
    world.apply_version("a", &[]);
    world.wait_until_version_ready("a");
    assert_eq!(world.service.counters().of(Operation::Create).calls, 1);
}
