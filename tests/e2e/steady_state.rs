//! In the steady state nothing is written and one poll per interval is made; fields of the spec belong to git.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use chatcaptain_operator::crd::{ChatbotDeployment, LiveEnvironment};
use simulator::{Operation, Settings};
use support::{Clock, Object, World, deployment, version};

const VERSIONS: usize = 100;
const INTERVAL: Duration = Duration::from_secs(3);

/// How often the service was polled: lists and deployment status.
fn polls(world: &World) -> [u64; 2] {
    let counters = world.service.counters();
    [Operation::List, Operation::Status].map(|operation| counters.of(operation).calls)
}

fn polls_since(world: &World, before: [u64; 2]) -> [u64; 2] {
    let now = polls(world);
    [now[0] - before[0], now[1] - before[1]]
}

/// One for each interval that has begun.
fn max_polls_in(time: Duration) -> u64 {
    time.as_secs() / INTERVAL.as_secs() + 1
}

fn name(number: usize) -> String {
    format!("v{number:03}")
}

#[test]
fn hundred_idle_objects_cost_one_poll_per_interval() {
    let flags = [("interval", "3s"), ("min-interval", "1s")];
    let world = World::with_flags(Settings::default(), &flags);
    let git: String = (0..VERSIONS).map(|number| version(&world.bot, &name(number), &[])).collect();
    world.apply(&git);
    world.apply_deployment("test", &name(0), &[]);
    world.wait_until_deployment_ready("test");
    world.wait_until_versions_ready(VERSIONS);
    // the last thing that is found out
    world.eventually("the live version knows where it is live", || {
        let status = world.version(&name(0)).status?;
        (status.live_in == [LiveEnvironment::Test]).then_some(())
    });

    let (writes, before, started) =
        (world.cluster.writes(&world.namespace).len(), polls(&world), Instant::now());
    sleep(INTERVAL * 3);
    for asked in polls_since(&world, before) {
        assert!(asked <= max_polls_in(started.elapsed()), "{asked} polls in {:?}", started.elapsed());
        assert!(asked >= 2, "the service is no longer polled");
    }
    let since = |count: usize| world.cluster.writes(&world.namespace).split_off(count);
    assert_eq!(since(writes), [], "steady state");

    world.stop();
    let (before, started) = (polls(&world), Instant::now());
    world.start();
    world.eventually("every object is reconciled again", || {
        let passes = |kind| world.metric("chatcaptain_reconcile_total", &[kind]);
        let versions = passes(r#"kind="ChatbotVersion""#);
        let deployments = passes(r#"kind="ChatbotDeployment""#);
        (versions >= VERSIONS as u64 && deployments >= 1).then_some(())
    });
    for asked in polls_since(&world, before) {
        assert!(asked <= max_polls_in(started.elapsed()), "{asked} polls after a restart");
    }
    assert_eq!(since(writes), [], "after a restart");
}

/// Polling every five minutes, by a clock that runs sixty times faster.
#[test]
fn idle_hour_writes_nothing() {
    let clock = Clock::accelerated(60);
    let flags = [("interval", "5m"), ("api-timeout", "5m")];
    let world = World::without_operator(Settings::default(), &flags);
    world.start_with(&clock.env());
    let spec = ["versionRef: {name: a}", "rollback: {onFailure: Previous}"];
    let git = version(&world.bot, "a", &[]) + &deployment(&world.bot, "test", "test", &spec);
    world.kubectl(&["apply", "--server-side", "-f", "-"], &git);
    world.wait_until_deployment_ready("test");
    world.eventually("the live version knows where it is live", || {
        let status = world.version("a").status?;
        (status.live_in == [LiveEnvironment::Test]).then_some(())
    });

    let (writes, before) = (world.cluster.writes(&world.namespace), polls(&world));
    let started = Instant::now();
    sleep(Duration::from_mins(1));
    let intervals = started.elapsed().as_secs() / 5;
    for asked in polls_since(&world, before) {
        assert!((10..=intervals + 1).contains(&asked), "{asked} polls in {intervals} intervals");
    }
    assert_eq!(world.cluster.writes(&world.namespace), writes, "after an hour");

    world.kill();
    world.start_with(&clock.env());
    world.eventually("every object is reconciled again", || {
        let passes = |kind| world.metric("chatcaptain_reconcile_total", &[kind]);
        let reconciled = [r#"kind="ChatbotVersion""#, r#"kind="ChatbotDeployment""#].map(passes);
        reconciled.iter().all(|passes| *passes > 0).then_some(())
    });
    assert_eq!(world.cluster.writes(&world.namespace), writes, "after a restart");
    // kubectl exits with 1 where there is a difference
    assert_eq!(world.kubectl(&["diff", "-f", "-"], &git), "");
    assert_eq!(world.kubectl(&["diff", "--server-side", "-f", "-"], &git), "");
}

#[test]
fn new_version_takes_three_writes() {
    let world = World::new(Settings::default());
    for name in ["a", "b", "c"] {
        world.apply_version(name, &["description: For a test"]);
        world.wait_until_version_ready(name);
        let mut writes = world.writes("chatbotversions");
        writes.retain(|write| write.name == name);
        assert!(writes.len() <= 3, "{writes:#?}");
        assert!(writes.iter().all(|write| write.code == 200), "{writes:#?}");
    }
}

/// Everything that a manifest can say, and everything that it can leave out.
fn manifests(world: &World) -> String {
    let full = [
        "name: Version 1.2.4",
        "description: Release for Q4",
        "environment: dev",
        "credentialsRef: {name: chatcaptain, key: apiKey}",
        "deletionPolicy: Retain",
        "interval: 5s",
        "suspend: false",
    ];
    let moves = [
        "versionRef: {name: full}",
        "rollback: {onFailure: Previous, method: Redeploy, parameters: {a: b}}",
        "drift: Enforce",
        "progressDeadline: 5m",
        "interval: 5s",
        "suspend: false",
    ];
    let bot = &world.bot;
    [
        version(bot, "full", &full),
        version(bot, "bare", &[]),
        deployment(bot, "full", "prod", &moves),
        deployment(bot, "bare", "test", &["versionRef: {name: bare}"]),
    ]
    .concat()
}

#[test]
fn operator_owns_no_spec_field() {
    let world = World::new(Settings::default());
    let git = manifests(&world);
    world.apply(&git);
    for name in ["full", "bare"] {
        owns_no_spec(&world.wait_until_version_ready(name));
        owns_no_spec(&world.wait_until_deployment_ready(name));
    }
    world.eventually("live versions know where they are live", || {
        let live = |name| world.version(name).status.unwrap().live_in.len();
        (live("full") == 1 && live("bare") == 1).then_some(())
    });
    unchanged(&world, &["apply", "-f", "-"], &git);
    // as Argo CD and Flux do it; the first takes the fields over
    let server_side = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    world.kubectl(&server_side, &git);
    unchanged(&world, &server_side, &git);
    // kubectl exits with 1 where there is a difference
    let diff = world.kubectl(&["diff", "-f", "-"], &git);
    assert_eq!(diff, "");
}

/// Applying once more changes nothing and triggers no write.
fn unchanged(world: &World, apply: &[&str], git: &str) {
    let resource_versions = || {
        let get = ["get", "cbv,cbd", "-o", "jsonpath={.items[*].metadata.resourceVersion}"];
        world.kubectl(&get, "")
    };
    let (before, writes) = (resource_versions(), world.cluster.writes(&world.namespace));
    let polls_before = polls(world);
    world.kubectl(apply, git);
    // the operator has reconciled everything since
    world.eventually("two more polls", || (polls(world)[0] >= polls_before[0] + 2).then_some(()));
    assert_eq!(resource_versions(), before, "{apply:?}");
    assert_eq!(world.cluster.writes(&world.namespace), writes, "{apply:?}");
}

fn owns_no_spec<K: Object>(object: &K) {
    let mut ours = 0;
    for entry in object.meta().managed_fields.iter().flatten() {
        let fields = &entry.fields_v1.as_ref().unwrap().0;
        if entry.manager.as_deref() == Some("chatcaptain-operator") {
            ours += 1;
            assert!(fields.get("f:spec").is_none(), "{fields}");
        }
    }
    assert!(ours > 0, "nothing is written under the operator's name");
}

#[test]
fn api_server_writes_no_defaults_under_spec() {
    // no operator: what the API server itself makes of a bare manifest
    let world = World::without_operator(Settings::default(), &[]);
    world.apply(&manifests(&world));
    let spec = |kind: &str| {
        let get = ["get", kind, "bare", "-o", "jsonpath={.spec}"];
        let text = world.kubectl(&get, "");
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    let bot = &world.bot;
    assert_eq!(spec("cbv"), serde_json::json!({"chatbotId": bot}));
    let expected = serde_json::json!({
        "chatbotId": bot, "environment": "test", "versionRef": {"name": "bare"},
    });
    assert_eq!(spec("cbd"), expected);
    // a newborn is not done
    let newborn: ChatbotDeployment = world.deployment("bare");
    let observed = newborn.status.unwrap().common.observed_generation;
    assert_eq!(observed, Some(-1));
}
