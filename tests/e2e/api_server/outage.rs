//! The API server is down for a while: nothing happens twice, the operator does not exit, and records wait.

use std::{
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use simulator::{Fault, FaultKind, FaultOperation, Operation, Settings};
use support::{Clock, Cluster, Usage, World, version};

use super::relayed;
use crate::is_long;

const VERSIONS: usize = 60;

/// A separate cluster for each test: the shared one must not be stopped.
fn world(settings: Settings, flags: &[(&str, &str)]) -> World {
    let cluster = Cluster::installed();
    let kubeconfig = cluster.operator_kubeconfig();
    let world = World::on_cluster(cluster, kubeconfig, settings, flags);
    world.start();
    world
}

/// Row 5. The response of a create arrives while the API server cannot store its result.
#[test]
fn create_result_is_recorded_after_the_api_server_returns() {
    let mut hang = Fault::new(FaultOperation::Create, FaultKind::Hang).times(1);
    hang.hang_ms = 1_500;
    let world = world(Settings { faults: vec![hang], ..Settings::default() }, &[]);
    world.apply_version("a", &[]);
    world.eventually("the create is under way", || (world.creates() == 1).then_some(()));
    world.cluster.control_plane().stop_apiserver();
    world.eventually("the record was tried", || {
        world.log().contains("cannot record the outcome of a call; retrying").then_some(())
    });
    world.cluster.control_plane().start_apiserver().unwrap();
    world.wait_until_version_ready("a");
    assert_eq!(create_calls(&world), 1);
    let recovered = world.events("a").iter().any(|(reason, _)| reason == "CreateRecovered");
    assert!(!recovered, "the answer itself was recorded");
}

/// Row 5. The API server is down in the middle of many creates.
#[test]
fn api_server_outage_during_creates_loses_nothing() {
    let outage = Duration::from_secs(if is_long() { 30 } else { 8 });
    let settings = Settings { latency_ms: 150, ..Settings::default() };
    let world = world(settings, &[("concurrency", "8")]);
    let git: String = (0..VERSIONS).map(|n| version(&world.bot, &format!("v{n:02}"), &[])).collect();
    let pid = world.operator().as_ref().unwrap().pid();
    world.apply(&git);
    world.eventually("some are created", || (world.creates() >= 10).then_some(()));
    world.cluster.control_plane().stop_apiserver();
    let before = world.creates();
    sleep(outage);
    let meanwhile = world.creates() - before;
    assert!(world.creates() < VERSIONS as u64, "the outage came too late to matter");
    world.cluster.control_plane().start_apiserver().unwrap();
    let back = Instant::now();
    world.wait_until_versions_ready(VERSIONS);
    println!(
        "API server away for {outage:?}: {meanwhile} of {VERSIONS} creates took effect meanwhile, \
         all Ready {:?} after its return",
        back.elapsed()
    );
    assert_eq!(world.creates(), VERSIONS as u64);
    assert_eq!(create_calls(&world), VERSIONS as u64);
    let operator = world.operator();
    let operator = operator.as_ref().unwrap();
    assert_eq!((operator.pid(), operator.http_get("/livez").0), (pid, 200), "it is the same process");
}

/// The API server accepts requests and does not respond; once it continues, it executes both the writes that the
/// operator has given up and their retries.
#[test]
fn late_api_server_writes_do_not_duplicate_versions() {
    let cluster = Cluster::installed();
    let kubeconfig = cluster.operator_kubeconfig();
    // a write is given up after half a minute
    let clock = Clock::accelerated(20);
    let flags = [("api-timeout", "5m"), ("interval", "1m"), ("visibility-grace", "40s")];
    let world =
        World::on_cluster(cluster, kubeconfig, Settings { latency_ms: 50, ..Settings::default() }, &flags);
    world.start_with(&clock.env());
    let git: String = (0..VERSIONS).map(|n| version(&world.bot, &format!("v{n:02}"), &[])).collect();
    world.apply(&git);
    let api_server = world.cluster.control_plane().pids()[0];
    for creates in [5, 20, 40] {
        world.eventually("some are created", || (world.creates() >= creates).then_some(()));
        signal(api_server, "STOP");
        sleep(Duration::from_secs(3));
        signal(api_server, "CONT");
    }
    world.wait_until_versions_ready(VERSIONS);
    assert!(world.log().contains("no answer within the timeout"), "no write was given up");
    assert_eq!(world.creates(), VERSIONS as u64);
}

fn signal(pid: u32, name: &str) {
    let sent = Command::new("/bin/sh").args(["-c", &format!("kill -s {name} {pid}")]).status();
    assert!(sent.unwrap().success(), "kill -s {name} {pid}");
}

/// It goes down and up again and again: nothing accumulates, and in the end everything is reconciled.
#[test]
fn flapping_api_server_leaks_no_memory_or_descriptors() {
    let flaps = if is_long() { 50 } else { 15 };
    let mut world = World::without_operator(Settings::default(), &[]);
    let relay = relayed(&mut world);
    world.start();
    world.apply_version("before", &[]);
    world.wait_until_version_ready("before");
    let before = Usage::of(&world);
    for flap in 0..flaps {
        relay.disconnect();
        sleep(Duration::from_millis(100 + 20 * (flap % 10)));
        relay.connect();
        sleep(Duration::from_millis(500 + 100 * (flap % 5)));
    }
    world.apply_version("after", &[]);
    world.wait_until_version_ready("after");
    let after = Usage::of(&world);
    println!("{flaps} times away: {before:?} before, {after:?} after");
    assert!(after.descriptors <= before.descriptors + 5, "{before:?} {after:?}");
    assert!(after.resident_mib <= before.resident_mib + 10.0, "{before:?} {after:?}");
    assert_eq!(create_calls(&world), 2);
}

fn create_calls(world: &World) -> u64 {
    world.service.counters().of(Operation::Create).calls
}
