//! What every row needs besides the tests' world: the operator with its defaults but without a rate limit, and waits
//! that add little to what they measure.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use control_plane::AuditWrite;
use simulator::Settings;
use support::{Flags, Usage, World, poll_every, use_operator_binary};

/// Counts reconciles.
pub const RECONCILES: &str = "chatcaptain_reconcile_total";
/// As many at a time as the operator works on.
pub const CONCURRENCY: usize = 16;

/// A binary that a row measures. Until it is dropped every world starts it.
pub struct Binary {
    /// What the row says of it; nothing of the one that cargo has built.
    pub label: String,
}

impl Drop for Binary {
    fn drop(&mut self) {
        use_operator_binary(None);
    }
}

/// The binary of `BENCH_BEFORE`, where it is set, and the one that cargo has built, to compare them in one run.
pub fn binaries() -> impl Iterator<Item = Binary> {
    let before = std::env::var_os("BENCH_BEFORE").map(PathBuf::from);
    let before = before.map(|path| {
        use_operator_binary(Some(path));
        Binary { label: ", before".to_owned() }
    });
    before.into_iter().chain(std::iter::once_with(|| Binary { label: String::new() }))
}

/// A world whose operator is not started yet.
pub fn world(settings: Settings, flags: Flags) -> World {
    let no_brake: Flags = &[("api-rate", "100000"), ("api-burst", "100000")];
    World::with_shipped_flags(settings, &[no_brake, flags].concat())
}

/// Starts the operator with next to no log, and waits until its caches are full.
pub fn start(world: &World) {
    // besides warnings only the line with its address
    world.start_with(&[("RUST_LOG", "warn,chatcaptain_operator::admin=info")]);
    wait(world, Duration::from_millis(5), Duration::from_mins(1), "the caches are full", |world| {
        world.operator().as_ref().expect("an operator").http_get("/readyz").0 == 200
    });
}

/// Creates `count` versions, spread over `bots` chatbots.
pub fn create_versions(world: &World, count: usize, bots: usize) {
    world.create_versions(count, CONCURRENCY, |number| format!("{}-{}", world.bot, number % bots));
}

/// How often the operator wrote objects of ours.
pub fn writes(world: &World) -> Vec<AuditWrite> {
    let mut writes = world.writes("chatbotversions");
    writes.retain(|write| write.code < 300);
    writes
}

/// Resident memory of the operator in MiB.
pub fn memory(world: &World) -> f64 {
    Usage::of(world).resident_mib
}

/// Waits until `count` versions have become Ready, as the operator counts it.
pub fn made_ready(world: &World, count: usize, within: Duration) {
    // a scrape lists every object and must not distort the measurement
    let pause = Duration::from_millis(if count > 2_000 { 1_000 } else { 250 });
    wait(world, pause, within, "all are Ready", |world| {
        world.metric("chatcaptain_time_to_ready_seconds_count", &[]) >= count as u64
    });
}

/// Waits until there were so many reconciles since its start; how long that took.
pub fn wait_for_reconciles(world: &World, count: u64) -> Duration {
    let started = Instant::now();
    wait(world, Duration::from_millis(20), Duration::from_mins(2), "every object was reconciled", |world| {
        world.metric(RECONCILES, &[]) >= count
    });
    started.elapsed()
}

fn wait(world: &World, pause: Duration, within: Duration, what: &str, probe: impl Fn(&World) -> bool) {
    let done = poll_every(pause, within, || probe(world).then_some(()));
    assert!(done.is_some(), "{what}: not within {within:?}\n{}", world.log());
}
