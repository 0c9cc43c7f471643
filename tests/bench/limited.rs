//! Under a limit of the service that the flags do not know: how much of it is used, and how often it is met.

use std::time::{Duration, Instant};

use chatcaptain_operator::crd::ChatbotVersion;
use jiff::Timestamp;
use simulator::{CallEntry, Operation, Settings, Throttle};
use support::{World, is_ready, poll_every};

use crate::{
    report::Table,
    stage::{self, CONCURRENCY, start},
};

/// Requests per second that the service accepts of a key.
const LIMIT: u32 = 5;
const MINUTE: Duration = Duration::from_mins(1);
/// As the operator is shipped: twice the limit, and a burst.
const SHIPPED: &[(&str, &str)] = &[("api-rate", "10"), ("api-burst", "20")];

pub fn rows(table: &mut Table) {
    for binary in stage::binaries() {
        hundred_versions(table, &binary.label);
        first_minute(table, &binary.label);
    }
}

fn world(count: usize) -> World {
    let throttle = Throttle { per_second: Some(f64::from(LIMIT)), ..Throttle::default() };
    let settings =
        Settings { latency_ms: 20, throttle: Some(throttle), retry_after_seconds: 5, ..Settings::default() };
    let world = World::with_shipped_flags(settings, SHIPPED);
    world.create_versions(count, CONCURRENCY, |_| world.bot.clone());
    start(&world);
    world
}

/// How many are Ready.
fn ready(world: &World) -> usize {
    world.cluster.list::<ChatbotVersion>(&world.namespace).iter().filter(|version| is_ready(*version)).count()
}

/// How many answers were 429; prints after how many others each came.
fn refused(calls: &[CallEntry]) -> usize {
    let positions = (0..calls.len()).filter(|index| calls[*index].status == "429");
    let positions: Vec<String> = positions.map(|index| format!("{index} at {}", calls[index].at)).collect();
    eprintln!("    429 after these many answers: {}", positions.join(", "));
    calls.iter().filter(|call| call.status == "429").count()
}

/// The time until a hundred are Ready, of which a pause and the first throttle take their part.
fn hundred_versions(table: &mut Table, label: &str) {
    const COUNT: usize = 100;
    let world = world(COUNT);
    let started = Instant::now();
    let done = poll_every(Duration::from_millis(500), 3 * MINUTE, || (ready(&world) == COUNT).then_some(()));
    let took = started.elapsed().as_secs_f64();
    let (calls, ready) = (world.service.calls(), ready(&world));
    let refused = refused(&calls);
    table.note(
        &format!("100 versions at {LIMIT} requests/s, Retry-After 5{label}: until Ready"),
        if done.is_some() { format!("{took:.0} s") } else { format!("{ready} Ready after {took:.0} s") },
    );
    table.row(
        &format!("100 versions at {LIMIT} requests/s{label}: answers that are 429"),
        "5 %",
        format!("{refused} of {}", calls.len()),
        refused * 20 <= calls.len(),
    );
}

/// Versions in the first minute, with more waiting than the limit allows.
fn first_minute(table: &mut Table, label: &str) {
    const ALLOWED: usize = LIMIT as usize * 60;
    let world = world(ALLOWED);
    let since = Instant::now();
    poll_every(Duration::from_millis(100), 2 * MINUTE, || (since.elapsed() >= MINUTE).then_some(()));
    let (calls, ready) = (world.service.calls(), ready(&world));
    let created = calls.iter().filter(|call| call.operation == Operation::Create && call.took_effect).count();
    table.note(
        &format!("share of the limit that creates use once it is known{label}"),
        format!("{:.0} %", 100.0 * share_after_throttles(&calls)),
    );
    table.row(
        &format!(
            "versions in the first minute at {LIMIT} requests/s{label}, of {ALLOWED} that the limit allows"
        ),
        "80 %",
        format!("{created} created, {ready} Ready, {} of {} answers were 429", refused(&calls), calls.len()),
        created * 5 >= ALLOWED * 4,
    );
}

/// The creates since the last 429, against what the limit allows in their time.
fn share_after_throttles(calls: &[CallEntry]) -> f64 {
    let since = calls.iter().rposition(|call| call.status == "429").map_or(0, |index| index + 1);
    let creates: Vec<Timestamp> = calls[since..]
        .iter()
        .filter(|call| call.operation == Operation::Create && call.took_effect)
        .map(|call| call.at.parse().expect("a time"))
        .collect();
    let (Some(first), Some(last)) = (creates.first(), creates.last()) else { return 0.0 };
    let allowed = last.duration_since(*first).as_secs_f64() * f64::from(LIMIT);
    #[allow(clippy::cast_precision_loss)]
    let count = creates.len() as f64;
    count / allowed.max(1.0)
}
