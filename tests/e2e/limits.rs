//! Rate limits: one circuit breaker per key, pauses as requested or growing, and a fair share for every chatbot.

use std::time::{Duration, Instant};

use chatcaptain_operator::crd::ChatbotVersion;
use jiff::Timestamp;
use simulator::{
    CallEntry, Environment, Fault, FaultKind, FaultOperation, Operation, RetryAfter, Settings, Throttle,
};
use support::{World, condition, poll, run_concurrently, version};

use crate::is_long;

/// As the operator is shipped.
const SHIPPED: &[(&str, &str)] =
    &[("interval", "5m"), ("min-interval", "10s"), ("api-rate", "10"), ("api-burst", "20")];
const BOTS: usize = 3;
const WAITING: usize = 60;

/// How the service asks to slow down.
struct Case {
    name: &'static str,
    answer: u16,
    retry_after: RetryAfter,
}

const CASES: [Case; 5] = [
    Case { name: "429, Retry-After in seconds", answer: 429, retry_after: RetryAfter::Seconds },
    Case { name: "429, Retry-After as a date", answer: 429, retry_after: RetryAfter::Date },
    Case { name: "429 without a time", answer: 429, retry_after: RetryAfter::None },
    Case { name: "403 with throttling text", answer: 403, retry_after: RetryAfter::None },
    Case { name: "503 with Retry-After", answer: 503, retry_after: RetryAfter::Seconds },
];

/// Rows 13 and 14.
#[test]
fn throttled_account_is_polled_with_backoff_and_resumed_gradually() {
    run_concurrently(CASES.len(), &CASES, |case| {
        // as long as the pause three times over
        let pause: u64 = if is_long() { 20 } else { 5 };
        let throttle = Throttle { answer: case.answer, retry_after: case.retry_after, ..Throttle::default() };
        let settings =
            Settings { throttle: Some(throttle), retry_after_seconds: pause, ..Settings::default() };
        let world = World::without_operator(settings, SHIPPED);
        let git: String = (0..WAITING).map(|n| version(&bot(&world, n), &format!("v{n:02}"), &[])).collect();
        world.apply(&git);
        let window = Duration::from_secs(3 * pause);
        let end = Instant::now() + window;
        world.service.throttle_for(window);
        world.start();
        world.eventually("all wait for the throttle", || (throttled(&world) == WAITING).then_some(()));
        poll(window * 2, || (Instant::now() >= end).then_some(()));
        let asked: Vec<Timestamp> = times(&world);
        assert_eq!(world.creates(), 0);
        println!("{}: {} calls in {window:?} with {WAITING} objects waiting", case.name, asked.len());
        assert!(asked.len() <= 8, "{}: {asked:?}", case.name);
        if case.retry_after == RetryAfter::None {
            assert_growing_pauses(case, &asked);
        }
        assert_gradual_restart(&world, case, asked.len());
    });
}

fn bot(world: &World, number: usize) -> String {
    format!("{}-{}", world.bot, number % BOTS)
}

/// How many objects say that they wait for a throttle, none of them Stalled.
fn throttled(world: &World) -> usize {
    let all = world.cluster.list::<ChatbotVersion>(&world.namespace);
    assert!(all.iter().all(|version| condition(version, "Stalled").is_none()));
    let waits =
        |version: &&ChatbotVersion| condition(*version, "Ready").is_some_and(|c| c.reason == "Throttled");
    all.iter().filter(waits).count()
}

fn times(world: &World) -> Vec<Timestamp> {
    world.service.calls().iter().map(|call| call.at.parse().unwrap()).collect()
}

/// After the first answers, which were under way together, each pause is longer than the one before.
fn assert_growing_pauses(case: &Case, asked: &[Timestamp]) {
    let gaps = asked.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_secs_f64());
    let pauses: Vec<f64> = gaps.filter(|gap| *gap > 1.0).collect();
    println!("{}: pauses {pauses:.1?} s", case.name);
    assert!(!pauses.is_empty() && pauses[0] >= 4.9, "{pauses:?}");
    assert!(pauses.windows(2).all(|pair| pair[1] > pair[0] * 1.5), "{pauses:?}");
}

/// One probe, then no more than the key may call.
fn assert_gradual_restart(world: &World, case: &Case, before: usize) {
    world.wait_until_versions_ready(WAITING);
    assert_eq!(world.creates(), WAITING as u64);
    let after = &times(world)[before..];
    let busiest = after.iter().map(|start| {
        let within = |at: &&Timestamp| (0..1000).contains(&at.duration_since(*start).as_millis());
        after.iter().filter(within).count()
    });
    let busiest = busiest.max().unwrap();
    println!("{}: at most {busiest} calls in one second afterwards", case.name);
    // the burst and the rate that the flags allow
    assert!(busiest <= 31, "{}: {busiest}", case.name);
}

/// The flags allow twice what the service does. One throttle shows it; from then on the limit is used and not met.
#[test]
fn key_finds_the_pace_that_the_service_accepts() {
    const VERSIONS: usize = 80;
    const LIMIT: f64 = 5.0;
    // two at once: one that is late by some milliseconds, on a busy machine, is not throttled
    let throttle = Throttle { per_second: Some(LIMIT), burst: 2, ..Throttle::default() };
    let settings = Settings { throttle: Some(throttle), retry_after_seconds: 5, ..Settings::default() };
    let world = World::without_operator(settings, SHIPPED);
    world.create_versions(VERSIONS, 20, |_| world.bot.clone());
    world.start();
    world.wait_until_versions_ready_within(Duration::from_mins(2), VERSIONS);
    let counters = world.service.counters();
    let calls = world.service.calls();
    let throttled: Vec<usize> = (0..calls.len()).filter(|index| calls[*index].status == "429").collect();
    let since = *throttled.last().expect("the limit is met once");
    let is_create = |call: &&CallEntry| call.operation == Operation::Create && call.took_effect;
    let creates: Vec<Timestamp> =
        calls[since..].iter().filter(is_create).map(|call| call.at.parse().unwrap()).collect();
    let took = creates[creates.len() - 1].duration_since(creates[0]).as_secs_f64();
    println!(
        "{} creates in {took:.1} s, {} lists, {} of {} answers were 429",
        creates.len(),
        counters.of(Operation::List).calls,
        throttled.len(),
        calls.len()
    );
    assert_eq!(world.creates(), VERSIONS as u64);
    assert!(throttled.len() * 20 <= calls.len(), "{throttled:?} of {}", calls.len());
    // the creates alone, without the lists that they need
    #[allow(clippy::cast_precision_loss)]
    let share = creates.len() as f64 / (LIMIT * took);
    assert!(share >= 0.8, "{share}");
}

/// Row 13. Another key's objects do not wait.
#[test]
fn throttling_affects_only_its_key() {
    let settings =
        Settings { throttle: Some(Throttle::default()), retry_after_seconds: 600, ..Settings::default() };
    let world = World::new(settings);
    world.service.throttle_for(Duration::from_hours(1));
    world.apply_version("a", &[]);
    world.wait_for_reason::<ChatbotVersion>("a", "Throttled");
    world.service.throttle_for(Duration::ZERO);
    world.cluster.set_secret(&world.namespace, "another", "apiKey", "CCSB-another");
    world.apply(&version(&bot(&world, 1), "b", &["credentialsRef: {name: another}"]));
    world.wait_until_version_ready("b");
    world.wait_for_reason::<ChatbotVersion>("a", "Throttled");
    world.wait_for_metric("chatcaptain_breaker_open", &[], 1);
}

/// Queued deletions of one chatbot leave room for other chatbots of the same key.
#[test]
fn busy_chatbot_does_not_starve_others() {
    const BUSY: usize = 120;
    let world = World::without_operator(Settings::default(), SHIPPED);
    let mut git = String::new();
    for number in 0..BUSY {
        let name = format!("v{number:03}");
        let marker = format!("[chatcaptain.dev default/{}/{name}]", world.namespace);
        world.service.hand_create(&world.bot, &name, Some(&marker)).unwrap();
        git += &version(&world.bot, &name, &[]);
    }
    world.apply(&git);
    world.start();
    world.wait_until_versions_ready(BUSY);
    let left = || world.state().map_or(0, |state| state.versions.len());
    world.kubectl(&["delete", "cbv", "--all", "--wait=false"], "");
    world.eventually("the deletions are under way", || (left() < BUSY).then_some(()));
    world.apply(&version(&bot(&world, 1), "other", &[]));
    let started = Instant::now();
    world.wait_until_version_ready("other");
    let (took, still) = (started.elapsed(), left());
    println!("another chatbot's version Ready in {took:?}, {still} of {BUSY} deletions still to come");
    world.eventually("all are deleted", || (left() == 0).then_some(()));
    println!("all deleted after {:?}", started.elapsed());
    assert!(still > BUSY / 2, "it waited for the deletions: {still} of {BUSY} were left");
    assert_eq!(world.service.counters().of(Operation::Delete).took_effect, BUSY as u64);
}

/// The versions of one chatbot that wait to be created delay neither its rollback nor what the rollback reads first.
#[test]
fn rollback_overtakes_the_creates_of_its_chatbot() {
    const CREATES: usize = 200;
    let world = World::without_operator(Settings::default(), SHIPPED);
    world.start();
    for name in ["first", "second"] {
        world.apply_version(name, &[]);
        world.apply_deployment("prod", name, &[]);
        world.wait_until_deployment_ready("prod");
    }
    let before = world.creates();
    world.create_versions(CREATES, 20, |_| world.bot.clone());
    // the burst is used up, and all permits of the versions are taken
    world.eventually("the creates wait for the rate limit", || (world.creates() > before + 30).then_some(()));
    world.kubectl(&["annotate", "cbd", "prod", "chatcaptain.dev/rollback-to=previous"], "");
    // not before: kubectl takes a while until it sends the request
    let asked = world.service.calls().len();
    let started = Instant::now();
    world.eventually("prod runs the first again", || {
        (world.live_version(Environment::Prod).as_deref() == Some("first")).then_some(())
    });
    let took = started.elapsed();
    let calls = world.service.calls();
    let is_rollback = |call: &CallEntry| call.operation == Operation::Rollback;
    let sent = calls.iter().position(is_rollback).expect("a rollback was called");
    let overtaken_by = sent.saturating_sub(asked);
    println!("rollback in {took:?}, after {overtaken_by} more calls, {} creates", world.creates());
    // its own reads, the share of the versions, and what a busy machine sends until the watch shows the command; in the
    // queue of the creates it would be behind more than a hundred
    assert!(overtaken_by <= 20, "{overtaken_by} calls before it");
    assert!(world.creates() < before + CREATES as u64 / 2, "the creates were still waiting");
}

/// Runs these in prod, one after the other.
fn run_in_prod(world: &World, names: &[&str]) {
    for name in names {
        world.apply_version(name, &[]);
        world.apply_deployment("prod", name, &["revisionHistoryLimit: 0"]);
        world.wait_until_deployment_ready("prod");
    }
}

/// A delete without an answer keeps its deployment from nothing, and no second one is sent meanwhile.
#[test]
fn rollback_does_not_wait_for_a_delete_that_hangs() {
    let world = World::new(Settings::default());
    run_in_prod(&world, &["first", "second"]);
    world.delete("chatbotversion", "second");
    world.wait_until_deleted::<ChatbotVersion>("second");
    let hang = Fault::new(FaultOperation::Delete, FaultKind::HangLate);
    let hang = Fault { late_ms: 8_000, hang_ms: 12_000, ..hang };
    world.service.settings(|settings| settings.faults = vec![hang]);
    run_in_prod(&world, &["third"]);
    let deletes = || world.service.counters().of(Operation::Delete).calls;
    world.eventually("the delete is under way", || (deletes() == 1).then_some(()));
    world.kubectl(&["annotate", "cbd", "prod", "chatcaptain.dev/rollback-to=first"], "");
    world.eventually("the delete takes effect", || {
        world.effects().iter().any(|effect| effect == "delete second").then_some(())
    });
    let moves = ["deploy first prod", "deploy second prod", "deploy third prod", "rollback first prod"];
    assert_eq!(world.effects_besides_creates(), [moves.as_slice(), &["delete second"]].concat());
    assert_eq!(deletes(), 1);
}

/// A delete waits behind the creates of its chatbot; until it is sent, the version may be needed again.
#[test]
fn delete_is_not_sent_when_its_version_is_named_while_it_waits() {
    const CREATES: usize = 100;
    let flags = [SHIPPED, &[("concurrency", "200")]].concat();
    let world = World::without_operator(Settings::default(), &flags);
    world.start();
    run_in_prod(&world, &["first", "second"]);
    let first = world.version("first").version_id().unwrap().to_owned();
    let before = world.creates();
    world.create_versions(CREATES, 20, |_| world.bot.clone());
    world.eventually("the creates wait for the rate limit", || (world.creates() > before + 20).then_some(()));
    world.delete("chatbotversion", "first");
    let by_id = format!(r#"{{"spec": {{"versionRef": null, "versionId": "{first}"}}}}"#);
    world.kubectl(&["patch", "cbd", "prod", "--type=merge", "-p", &by_id], "");
    world.eventually("prod runs the first again", || {
        (world.live_version(Environment::Prod).as_deref() == Some("first")).then_some(())
    });
    world.eventually("all are created", || (world.creates() == before + CREATES as u64).then_some(()));
    world.wait_until_deleted::<ChatbotVersion>("first");
    assert_eq!(world.service.counters().of(Operation::Delete).calls, 0);
}
