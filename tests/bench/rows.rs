//! One function a row or group of rows.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use kube::api::ListParams;
use simulator::{Fault, FaultKind, FaultOperation, Operation, Settings};

use crate::{
    bare,
    report::Table,
    stage::{Operator, PASSES, Stage, service},
};

const MIB: f64 = 1024.0 * 1024.0;

fn settings() -> Settings {
    Settings { latency_ms: 20, ..Settings::default() }
}

pub fn binary(table: &mut Table) {
    let size = std::fs::metadata(env!("CARGO_BIN_EXE_chatcaptain-operator")).expect("a binary").len();
    #[allow(clippy::cast_precision_loss)]
    let mib = size as f64 / MIB;
    table.row("binary, stripped", "15 MiB", format!("{mib:.1} MiB"), mib <= 15.0);
}

pub async fn memory_idle(stage: &Stage, table: &mut Table) {
    let simulator = service(settings());
    stage.namespace("idle").await;
    let operator = stage.operator("idle", &simulator, &[]);
    operator.caches_full().await;
    operator.rest(Duration::from_secs(1)).await;
    let mib = operator.memory();
    table.row("memory, no objects", "16 MiB", format!("{mib:.1} MiB"), mib <= 16.0);
}

/// Calls and writes at rest, and writes of a new version.
pub async fn at_rest(stage: &Stage, table: &mut Table) {
    let simulator = service(settings());
    stage.namespace("rest").await;
    let flags = ["--interval", "4s", "--min-interval", "1s"];
    let operator = stage.operator("rest", &simulator, &flags);
    operator.caches_full().await;
    stage.create_versions("rest", 100, 1).await;
    stage.all_ready("rest", 100, Duration::from_mins(1)).await;

    let mut per_object: BTreeMap<String, usize> = BTreeMap::new();
    for write in stage.writes("rest") {
        *per_object.entry(write.name).or_default() += 1;
    }
    let most = per_object.values().max().copied().unwrap_or_default();
    table.row("writes to the cluster, per new version until Ready", 3, most, most <= 3);

    // the interval in which it came to rest is not one of rest yet
    operator.rest(Duration::from_secs(5)).await;
    let (lists, statuses) = reads(&simulator);
    let writes = stage.writes("rest").len();
    operator.rest(Duration::from_secs(20)).await;
    let (more_lists, more_statuses) = reads(&simulator);
    let calls =
        format!("{} lists + {} statuses in 5 intervals", more_lists - lists, more_statuses - statuses);
    let met = more_lists - lists <= 5 && more_statuses - statuses <= 5;
    table.row("calls per interval, 100 objects of one bot", "1 list + 1 status", calls, met);
    let more = stage.writes("rest").len() - writes;
    table.row("writes to the cluster at rest, 5 intervals", 0, more, more == 0);

    drop(operator);
    let writes = stage.writes("rest").len();
    let operator = stage.operator("rest", &simulator, &flags);
    operator.caches_full().await;
    operator.rest(Duration::from_secs(5)).await;
    let more = stage.writes("rest").len() - writes;
    table.row("writes to the cluster after a restart", 0, more, more == 0);
}

fn reads(simulator: &simulator::Simulator) -> (u64, u64) {
    let counters = simulator.counters();
    (counters.list.calls, counters.status.calls)
}

pub async fn creates_under_faults(stage: &Stage, table: &mut Table) {
    let fault = |kind, probability| Fault { probability, ..Fault::new(FaultOperation::Create, kind) };
    let faults = vec![
        fault(FaultKind::CutAfter, 0.15),
        fault(FaultKind::Html504After, 0.15),
        fault(FaultKind::Error500, 0.1),
        fault(FaultKind::Cut, 0.1),
    ];
    let simulator = service(Settings { faults, list_delay_ms: 500, ..settings() });
    stage.namespace("faults").await;
    let operator = stage.operator("faults", &simulator, &["--visibility-grace", "2s"]);
    operator.caches_full().await;
    stage.create_versions("faults", 200, 1).await;
    stage.all_ready("faults", 200, Duration::from_mins(3)).await;
    let mut creates: BTreeMap<String, usize> = BTreeMap::new();
    for entry in simulator.log().into_iter().filter(|entry| entry.operation == Operation::Create) {
        *creates.entry(entry.name).or_default() += 1;
    }
    let most = creates.values().max().copied().unwrap_or_default();
    let lost = 200 - creates.len();
    let calls = simulator.counters().create.calls;
    let measured =
        format!("{most} at most, {lost} lost ({calls} calls for 200 versions, half of them disturbed)");
    table.row("creates that took effect, per version", 1, measured, most == 1 && lost == 0);
}

/// One after the other, three times: of noisy seconds the middle ratio tells most.
pub async fn against_a_bare_loop(stage: &Stage, table: &mut Table, count: usize) {
    let mut rounds = Vec::new();
    for round in 1..=3 {
        let (ours, lists) = operator_run(stage, &format!("thousand-{round}"), count).await;
        let bare = bare_run(stage, &format!("bare-{round}"), count, lists).await;
        rounds.push((ours / bare, format!("{ours:.1} s against {bare:.1} s, {lists} lists each")));
    }
    let all: Vec<String> = rounds.iter().map(|(ratio, _)| format!("{ratio:.2}")).collect();
    rounds.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (ratio, details) = &rounds[1];
    table.row(
        &format!("{count} new versions until Ready, against a bare loop"),
        "1.5 x",
        format!("{ratio:.2} x ({details}; in turn {})", all.join(", ")),
        *ratio <= 1.5,
    );
}

/// Seconds until all are Ready, and how often the list was asked for.
async fn operator_run(stage: &Stage, namespace: &str, count: usize) -> (f64, usize) {
    let simulator = service(settings());
    stage.namespace(namespace).await;
    stage.create_versions(namespace, count, 1).await;
    let operator = stage.operator(namespace, &simulator, &[]);
    operator.caches_full().await;
    let started = Instant::now();
    operator.made_ready(count, Duration::from_mins(5)).await;
    let (took, lists) = (started.elapsed().as_secs_f64(), simulator.counters().list.calls);
    stage.all_ready(namespace, count, Duration::from_secs(1)).await;
    (took, usize::try_from(lists).expect("a count"))
}

/// Seconds until a bare loop with as many lists is through.
async fn bare_run(stage: &Stage, namespace: &str, count: usize, lists: usize) -> f64 {
    let simulator = service(settings());
    stage.namespace(namespace).await;
    stage.create_versions(namespace, count, 1).await;
    let api = stage.versions(namespace);
    let objects = api.list(&ListParams::default()).await.expect("listed").items;
    let started = Instant::now();
    bare::run(&api, objects, &simulator.url(), lists).await;
    let took = started.elapsed().as_secs_f64();
    stage.all_ready(namespace, count, Duration::from_secs(1)).await;
    took
}

/// Memory, restart and their budgets with many objects.
pub async fn many_objects(stage: &Stage, table: &mut Table, count: usize) {
    let simulator = service(Settings { latency_ms: 1, ..Settings::default() });
    stage.namespace("many").await;
    let bots = (count / 500).max(1);
    eprintln!("creating {count} versions of {bots} chatbots; this takes some minutes");
    let operator = stage.operator("many", &simulator, &[]);
    operator.caches_full().await;
    let started = Instant::now();
    stage.create_versions("many", count, bots).await;
    operator.made_ready(count, Duration::from_mins(20)).await;
    table.note(
        &format!("{count} new versions until Ready"),
        format!("{:.0} s", started.elapsed().as_secs_f64()),
    );
    let mib = operator.memory();
    table.note(&format!("memory right after making {count} objects Ready"), format!("{mib:.1} MiB"));
    drop(operator);

    let writes = stage.writes("many").len();
    let operator = stage.operator("many", &simulator, &[]);
    operator.caches_full().await;
    #[allow(clippy::cast_precision_loss)]
    let took = operator.passed(count as f64).await.as_secs_f64();
    table.row(
        &format!("restart to Ready again, {count} objects, after the caches are full"),
        "2 s",
        format!("{took:.2} s"),
        took <= 2.0,
    );
    operator.rest(Duration::from_secs(3)).await;
    let more = stage.writes("many").len() - writes;
    table.row(&format!("writes to the cluster after that restart, {count} objects"), 0, more, more == 0);
    let mib = operator.memory();
    table.row(&format!("memory, {count} Ready objects"), "64 MiB", format!("{mib:.1} MiB"), mib <= 64.0);
    after_an_outage(stage, table, &operator, count).await;
}

/// The watches begin anew, so that for a moment the objects are held twice, and everything is looked at.
async fn after_an_outage(stage: &Stage, table: &mut Table, operator: &Operator, count: usize) {
    let (writes, passes) = (stage.writes("many").len(), operator.metric(PASSES).await);
    let cluster = stage.cluster;
    let restarted = tokio::task::spawn_blocking(|| {
        cluster.stop_apiserver();
        cluster.start_apiserver()
    });
    restarted.await.expect("no panic").expect("an API server");
    #[allow(clippy::cast_precision_loss)]
    operator.passed(passes + count as f64).await;
    operator.rest(Duration::from_secs(3)).await;
    let more = stage.writes("many").len() - writes;
    table.row("writes to the cluster after the API server was away", 0, more, more == 0);
    let mib = operator.memory();
    table.note(
        &format!("memory, {count} Ready objects, after the API server was away"),
        format!("{mib:.1} MiB"),
    );
}
