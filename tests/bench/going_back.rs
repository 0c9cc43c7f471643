//! How long production waits for its way back: from the revert, the command or the failure until the service has the call.

use std::time::{Duration, Instant};

use chatcaptain_operator::crd::{ChatbotDeployment, annotation};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use simulator::{Environment, FailedRollout, Fault, FaultKind, FaultOperation, Settings};
use support::{World, poll_every};

use crate::{
    report::Table,
    stage::{self, start},
};

const PROD: &str = "prod";
const PREVIOUS: &str = "previous";
/// Waits for test to be Ready on the version for longer than any of this takes.
const AFTER_TEST: &str = "promoteAfter: {deploymentRef: {name: test}, soak: 30m}";

pub fn rows(table: &mut Table) {
    let mut row = |what: &str, took: Duration| {
        let measured = format!("{} ms", took.as_millis());
        table.row(
            &format!("going back, {what}: until the call is sent"),
            "1 s",
            measured,
            took.as_secs() < 1,
        );
    };
    row("git reverted", reverted(&running(settings(), &[])));
    row("by annotation", commanded(&running(settings(), &[])));
    row("after a failure that is recorded", failed());
    row("git reverted, with a soak of 30 min", reverted(&soaking(settings())));
    row("git reverted, while test is broken", reverted_while_test_is_broken());
    row("by annotation, while a refused deploy backs off", commanded_in_backoff());
    row("by annotation, while an old version cannot be deleted", commanded_beside_an_undeletable_version());
    row("by annotation, the slowest of three in a row", commanded_three_times());
    row("by annotation, behind 1,000 creates at --api-rate 10", commanded_behind_creates());
}

fn settings() -> Settings {
    Settings { latency_ms: 20, ..Settings::default() }
}

/// prod ran `a` and runs `b`; `more` are further lines of its spec.
fn running(settings: Settings, more: &[&str]) -> World {
    let world = stage::world(settings, &[]);
    start(&world);
    run(&world, &["a", "b"], more);
    world
}

fn run(world: &World, names: &[&str], more: &[&str]) {
    for name in names {
        world.apply_version(name, &[]);
        world.wait_until_version_ready(name);
        release(world, PROD, name, more);
    }
}

fn release(world: &World, environment: &str, name: &str, more: &[&str]) {
    world.apply_deployment(environment, name, more);
    world.wait_until_deployment_ready(environment);
}

/// What `act` takes until the service has one more rollback call.
fn until_rollback(world: &World, act: impl FnOnce()) -> Duration {
    let before = world.service.counters().rollback.calls;
    let started = Instant::now();
    act();
    until_call(world, before, started)
}

/// Time since then until there are more rollback calls than before.
fn until_call(world: &World, before: u64, since: Instant) -> Duration {
    let called = poll_every(Duration::from_millis(1), Duration::from_mins(2), || {
        (world.service.counters().rollback.calls > before).then_some(())
    });
    assert!(called.is_some(), "no rollback was called\n{}", world.log());
    since.elapsed()
}

/// By the API, because a start of kubectl takes a tenth of a second.
fn patch(world: &World, patch: &Value) {
    let api: Api<ChatbotDeployment> = Api::namespaced(world.cluster.client(), &world.namespace);
    let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
    world.cluster.runtime().block_on(api.patch(PROD, &params, &patch)).expect("patched");
}

fn revert(world: &World) {
    patch(world, &json!({"spec": {"versionRef": {"name": "a"}}}));
}

fn command(world: &World, to: Option<&str>) {
    patch(world, &json!({"metadata": {"annotations": {annotation::ROLLBACK_TO: to}}}));
}

fn commanded(world: &World) -> Duration {
    until_rollback(world, || command(world, Some(PREVIOUS)))
}

fn reverted(world: &World) -> Duration {
    until_rollback(world, || revert(world))
}

/// prod runs `b` after test, which runs it, too, and has not for long enough to let another follow.
fn soaking(settings: Settings) -> World {
    let world = running(settings, &[]);
    release(&world, "test", "b", &[]);
    release(&world, PROD, "b", &[AFTER_TEST]);
    world
}

fn reverted_while_test_is_broken() -> Duration {
    let failing_rollouts = vec!["broken".to_owned()];
    let world = soaking(Settings { failing_rollouts, ..settings() });
    world.apply_version("broken", &[]);
    world.apply_deployment("test", "broken", &["progressDeadline: 1s"]);
    world.wait_for_reason::<ChatbotDeployment>("test", "ProgressDeadlineExceeded");
    reverted(&world)
}

/// The rollout of `c` leaves nothing running. Measured from the record of the failure: the deadline is the user's.
fn failed() -> Duration {
    let settings = Settings {
        failing_rollouts: vec!["c".to_owned()],
        failed_rollout: FailedRollout::Emptying,
        ..settings()
    };
    let world = running(settings, &[]);
    world.apply_version("c", &[]);
    world.wait_until_version_ready("c");
    world.apply_deployment(PROD, "c", &["progressDeadline: 3s", "rollback: {onFailure: Previous}"]);
    let has_failed = |deployment: &ChatbotDeployment| {
        deployment.status.as_ref().is_some_and(|status| status.failed_versions.is_some())
    };
    let failed = poll_every(Duration::from_millis(1), Duration::from_mins(1), || {
        has_failed(&world.deployment(PROD)).then(Instant::now)
    });
    until_call(&world, 0, failed.expect("a failure"))
}

fn commanded_in_backoff() -> Duration {
    let world = running(settings(), &[]);
    let refused = Fault::new(FaultOperation::Deploy, FaultKind::Refused);
    world.service.settings(|settings| settings.faults = vec![refused]);
    world.apply_version("c", &[]);
    world.apply_deployment(PROD, "c", &[]);
    world.wait_for_reason::<ChatbotDeployment>(PROD, "RequestRejected");
    // to what ran before `b`, which runs: to `b` itself nothing has to be called
    until_rollback(&world, || command(&world, Some("a")))
}

fn commanded_beside_an_undeletable_version() -> Duration {
    let refused = Fault::new(FaultOperation::Delete, FaultKind::Refused);
    let keeps_nothing = "revisionHistoryLimit: 0";
    let world = running(Settings { faults: vec![refused], ..settings() }, &[keeps_nothing]);
    world.delete("chatbotversion", "b");
    run(&world, &["c"], &[keeps_nothing]);
    world.eventually("a delete is refused", || (world.service.counters().delete.calls > 0).then_some(()));
    until_rollback(&world, || command(&world, Some("a")))
}

fn commanded_three_times() -> Duration {
    let world = running(settings(), &[]);
    let mut slowest = Duration::ZERO;
    for name in ["c", "d", "e"] {
        slowest = slowest.max(commanded(&world));
        run(&world, &[name], &[]);
    }
    slowest
}

fn commanded_behind_creates() -> Duration {
    let world = World::with_shipped_flags(settings(), &[("api-rate", "10"), ("api-burst", "20")]);
    start(&world);
    run(&world, &["a", "b"], &[]);
    let created = world.service.counters().create.calls;
    world.create_versions(1_000, stage::CONCURRENCY, |_| world.bot.clone());
    world.eventually("the creates wait for the limit", || {
        (world.service.counters().create.calls >= created + 20).then_some(())
    });
    let mut slowest = commanded(&world);
    let live = |name: &str| (world.live_version(Environment::Prod).as_deref() == Some(name)).then_some(());
    for _ in 0..2 {
        // the call is counted before it takes effect, and a command that is given again by then needs no second one
        world.eventually("prod is back", || live("a"));
        command(&world, None);
        world.eventually("prod moves on", || live("b"));
        world.wait_until_deployment_ready(PROD);
        slowest = slowest.max(commanded(&world));
    }
    slowest
}
