//! One function a row or group of rows.

use std::{
    collections::BTreeMap,
    thread::sleep,
    time::{Duration, Instant},
};

use chatcaptain_operator::crd::ChatbotVersion;
use kube::Api;
use simulator::{Fault, FaultKind, FaultOperation, Operation, Settings};
use support::{World, operator_binary};

use crate::{
    bare,
    report::Table,
    stage::{
        RECONCILES, binaries, create_versions, made_ready, memory, start, wait_for_reconciles, world, writes,
    },
};

const MIB: f64 = 1024.0 * 1024.0;

fn settings() -> Settings {
    Settings { latency_ms: 20, ..Settings::default() }
}

pub fn binary(table: &mut Table) {
    let size = std::fs::metadata(operator_binary()).expect("a binary").len();
    #[allow(clippy::cast_precision_loss)]
    let mib = size as f64 / MIB;
    table.row("binary, stripped", "15 MiB", format!("{mib:.1} MiB"), mib <= 15.0);
}

pub fn memory_idle(table: &mut Table) {
    let world = world(settings(), &[]);
    start(&world);
    sleep(Duration::from_secs(1));
    let mib = memory(&world);
    table.row("memory, no objects", "16 MiB", format!("{mib:.1} MiB"), mib <= 16.0);
}

/// Calls and writes in the steady state, and writes of a new version.
pub fn steady_state(table: &mut Table) {
    let world = world(settings(), &[("interval", "4s"), ("min-interval", "1s")]);
    start(&world);
    create_versions(&world, 100, 1);
    world.wait_until_versions_ready(100);

    let mut per_object: BTreeMap<String, usize> = BTreeMap::new();
    for write in writes(&world) {
        *per_object.entry(write.name).or_default() += 1;
    }
    let most = per_object.values().max().copied().unwrap_or_default();
    table.row("writes to the cluster, per new version until Ready", 3, most, most <= 3);

    // the interval in which it settled is not part of the steady state yet
    sleep(Duration::from_secs(5));
    let (lists, statuses) = reads(&world);
    let before = writes(&world).len();
    sleep(Duration::from_secs(20));
    let (more_lists, more_statuses) = reads(&world);
    let calls =
        format!("{} lists + {} statuses in 5 intervals", more_lists - lists, more_statuses - statuses);
    let met = more_lists - lists <= 5 && more_statuses - statuses <= 5;
    table.row("calls per interval, 100 objects of one bot", "1 list + 1 status", calls, met);
    let more = writes(&world).len() - before;
    table.row("writes to the cluster in the steady state, 5 intervals", 0, more, more == 0);

    world.kill();
    let before = writes(&world).len();
    start(&world);
    sleep(Duration::from_secs(5));
    let more = writes(&world).len() - before;
    table.row("writes to the cluster after a restart", 0, more, more == 0);
}

/// Renewals of the Lease. Each is one request: a unit test counts them, while the audit log shows writes alone.
pub fn lease(table: &mut Table) {
    const NAMESPACE: &str = "chatcaptain-system";
    for binary in binaries() {
        let world = world(settings(), &[("leader-elect", "true"), ("lease-namespace", NAMESPACE)]);
        start(&world);
        let renewals = || {
            let writes = world.cluster.writes(NAMESPACE);
            writes.iter().filter(|write| write.resource == "leases").count()
        };
        world.eventually("it leads", || (renewals() > 1).then_some(()));
        let before = renewals();
        sleep(Duration::from_secs(30));
        let per_minute = (renewals() - before) * 2;
        table.row(
            &format!("renewals of the Lease per minute, at rest{}", binary.label),
            60,
            per_minute,
            per_minute <= 60,
        );
    }
}

fn reads(world: &World) -> (u64, u64) {
    let counters = world.service.counters();
    (counters.list.calls, counters.status.calls)
}

pub fn creates_under_faults_and_kills_happen_once(table: &mut Table) {
    let fault = |kind, probability| Fault { probability, ..Fault::new(FaultOperation::Create, kind) };
    let faults = vec![
        fault(FaultKind::CutAfter, 0.15),
        fault(FaultKind::Html504After, 0.15),
        fault(FaultKind::Error500, 0.1),
        fault(FaultKind::Cut, 0.1),
    ];
    let settings = Settings { faults, list_delay_ms: 500, ..settings() };
    let world = world(settings, &[("visibility-grace", "2s")]);
    start(&world);
    create_versions(&world, 200, 1);
    world.wait_until_versions_ready_within(Duration::from_mins(3), 200);
    let mut creates: BTreeMap<String, usize> = BTreeMap::new();
    for entry in world.service.log().into_iter().filter(|entry| entry.operation == Operation::Create) {
        *creates.entry(entry.name).or_default() += 1;
    }
    let most = creates.values().max().copied().unwrap_or_default();
    let lost = 200 - creates.len();
    let calls = world.service.counters().create.calls;
    let measured =
        format!("{most} at most, {lost} lost ({calls} calls for 200 versions, half of them disturbed)");
    table.row("creates that took effect, per version", 1, measured, most == 1 && lost == 0);
}

/// In turn, five times: the middle ratio is the least noisy.
pub fn against_a_bare_loop(table: &mut Table, count: usize) {
    let mut rounds: BTreeMap<String, Vec<(f64, String)>> = BTreeMap::new();
    for _ in 1..=5 {
        for binary in binaries() {
            let (ours, lists) = operator_run(count);
            let bare = bare_run(count, lists);
            let details = format!("{ours:.1} s against {bare:.1} s, {lists} lists each");
            rounds.entry(binary.label.clone()).or_default().push((ours / bare, details));
        }
    }
    for (label, mut rounds) in rounds {
        let all: Vec<String> = rounds.iter().map(|(ratio, _)| format!("{ratio:.2}")).collect();
        rounds.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (ratio, details) = &rounds[2];
        table.row(
            &format!("{count} new versions until Ready{label}, against a bare loop"),
            "1.2 x",
            format!("{ratio:.2} x ({details}; in turn {})", all.join(", ")),
            *ratio <= 1.2,
        );
    }
}

/// Seconds until all are Ready, and how often the list was asked for.
fn operator_run(count: usize) -> (f64, usize) {
    let world = world(settings(), &[]);
    create_versions(&world, count, 1);
    start(&world);
    let started = Instant::now();
    made_ready(&world, count, Duration::from_mins(5));
    let (took, lists) = (started.elapsed().as_secs_f64(), world.service.counters().list.calls);
    world.wait_until_versions_ready_within(Duration::from_secs(1), count);
    (took, usize::try_from(lists).expect("a count"))
}

/// Seconds until a bare loop with as many lists is through.
fn bare_run(count: usize, lists: usize) -> f64 {
    let world = world(settings(), &[]);
    create_versions(&world, count, 1);
    let objects = world.cluster.list::<ChatbotVersion>(&world.namespace);
    let api: Api<ChatbotVersion> = Api::namespaced(world.cluster.client(), &world.namespace);
    let started = Instant::now();
    world.cluster.runtime().block_on(bare::run(&api, objects, &world.service.url(), lists));
    let took = started.elapsed().as_secs_f64();
    world.wait_until_versions_ready_within(Duration::from_secs(1), count);
    took
}

/// Memory with long lists: each chatbot has versions that are not ours, too.
pub fn many_versions(table: &mut Table) {
    const BOTS: usize = 200;
    const OBJECTS: usize = 1_000;
    const OF_EACH_BOT: usize = 2_000 - OBJECTS / BOTS;
    for binary in binaries() {
        let world = world(Settings { latency_ms: 1, ..Settings::default() }, &[]);
        for number in 0..BOTS * OF_EACH_BOT {
            let (bot, name) = (format!("{}-{}", world.bot, number % BOTS), format!("Version {number}"));
            let text = Some("Release for the campaign of the fourth quarter");
            world.service.hand_create(&bot, &name, text).expect("created");
        }
        start(&world);
        create_versions(&world, OBJECTS, BOTS);
        made_ready(&world, OBJECTS, Duration::from_mins(5));
        let mib = memory(&world);
        table.row(
            &format!("memory, {BOTS} bots of 2,000 versions each, {OBJECTS} objects{}", binary.label),
            "128 MiB",
            format!("{mib:.1} MiB"),
            mib <= 128.0,
        );
    }
}

/// Memory, restart and their budgets with many objects.
pub fn many_objects(table: &mut Table, count: usize) {
    let world = &world(Settings { latency_ms: 1, ..Settings::default() }, &[]);
    let bots = (count / 500).max(1);
    eprintln!("creating {count} versions of {bots} chatbots; this takes some minutes");
    start(world);
    let started = Instant::now();
    create_versions(world, count, bots);
    made_ready(world, count, Duration::from_mins(20));
    table.note(
        &format!("{count} new versions until Ready"),
        format!("{:.0} s", started.elapsed().as_secs_f64()),
    );
    let mib = memory(world);
    table.note(&format!("memory right after making {count} objects Ready"), format!("{mib:.1} MiB"));
    world.kill();

    let before = writes(world).len();
    start(world);
    let took = wait_for_reconciles(world, count as u64).as_secs_f64();
    table.row(
        &format!("restart to Ready again, {count} objects, after the caches are full"),
        "1 s",
        format!("{took:.2} s"),
        took <= 1.0,
    );
    sleep(Duration::from_secs(3));
    let more = writes(world).len() - before;
    table.row(&format!("writes to the cluster after that restart, {count} objects"), 0, more, more == 0);
    let mib = memory(world);
    table.row(&format!("memory, {count} Ready objects"), "64 MiB", format!("{mib:.1} MiB"), mib <= 64.0);
    after_an_outage(table, world, count);
}

/// The watches begin anew, so that for a moment the objects are held twice, and everything is reconciled.
fn after_an_outage(table: &mut Table, world: &World, count: usize) {
    let (before, reconciles) = (writes(world).len(), world.metric(RECONCILES, &[]));
    world.cluster.control_plane().stop_apiserver();
    world.cluster.control_plane().start_apiserver().expect("an API server");
    wait_for_reconciles(world, reconciles + count as u64);
    sleep(Duration::from_secs(3));
    let more = writes(world).len() - before;
    table.row("writes to the cluster after the API server was away", 0, more, more == 0);
    let mib = memory(world);
    table.row(
        &format!("memory, {count} Ready objects, after the API server was away"),
        "64 MiB",
        format!("{mib:.1} MiB"),
        mib <= 64.0,
    );
}
