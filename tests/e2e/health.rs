//! The probes say the truth: when the process does not work although it runs, and when it works although something is slow.

use std::{
    net::Ipv6Addr,
    time::{Duration, Instant},
};

use axum::http::{Method, Uri};
use chatcaptain_operator::health::WATCH_SILENCE;
use serde_json::{Value, json};
use simulator::Settings;
use support::{Clock, Flags, Relay, World, disturbed_cluster};

/// How many times faster time passes for the operator.
const SPEED: u32 = 40;
/// A write is given up after half a minute of the operator's time, and the service after five minutes.
const FLAGS: Flags = &[("interval", "1m"), ("api-timeout", "1m")];

/// Status and body of a probe.
fn probe(world: &World, path: &str) -> (u16, String) {
    world.operator().as_ref().unwrap().http_get(path)
}

/// Waits until a probe fails with a reason that contains `why`; the seconds of the operator's time that took.
fn wait_for_failure(world: &World, path: &str, why: &str) -> u64 {
    let started = Instant::now();
    world.eventually(&format!("{path} fails: {why}"), || {
        let (status, body) = probe(world, path);
        (status == 503 && body.contains(why)).then_some(())
    });
    (started.elapsed() * SPEED).as_secs()
}

fn wait_until_ok(world: &World, path: &str) {
    world.eventually(&format!("{path} is ok"), || (probe(world, path).0 == 200).then_some(()));
}

fn is_watch(_: &Method, uri: &Uri) -> bool {
    uri.path().ends_with("/chatbotversions") && uri.query().is_some_and(|query| query.contains("watch="))
}

fn is_list(method: &Method, uri: &Uri) -> bool {
    method == Method::GET && uri.path().ends_with("/chatbotversions") && !is_watch(method, uri)
}

/// Changes an object of each kind that is watched.
fn touch(world: &World) {
    for object in ["cbv/a", "cbd/test", "secret/chatcaptain"] {
        let time = format!("example.com/touched={:?}", Instant::now());
        world.kubectl(&["annotate", "--overwrite", object, &time], "");
    }
}

/// The connection stays open and is answered, but nothing of what changes arrives. The API server's bookmarks come once a
/// minute of real time, too seldom for this clock: here the watches hear of changes instead.
#[test]
fn livez_fails_when_a_watch_is_silent_and_recovers_with_it() {
    let clock = Clock::accelerated(SPEED.into());
    let mut world = World::without_operator(Settings::default(), FLAGS);
    let (kubeconfig, disturbance) = disturbed_cluster(&world);
    world.use_kubeconfig(&kubeconfig.to_string());
    world.start_with(&clock.env());
    world.apply_version("a", &[]);
    world.apply_deployment("test", "a", &[]);
    world.wait_until_deployment_ready("test");
    let started = Instant::now();
    world.eventually("it was watched for longer than a watch may be silent", || {
        touch(&world);
        assert_eq!(probe(&world, "/livez"), (200, "ok".to_owned()));
        (started.elapsed() * SPEED > WATCH_SILENCE).then_some(())
    });

    disturbance.silence(is_watch);
    let silenced = Instant::now();
    world.eventually("/livez fails", || {
        touch(&world);
        let (status, body) = probe(&world, "/livez");
        (status == 503 && body.contains("/chatbotversions has been silent for 420 s")).then_some(())
    });
    let after = silenced.elapsed() * SPEED;
    println!("/livez failed {after:?} after the watch fell silent; the limit is {WATCH_SILENCE:?}");
    assert!(after + Duration::from_mins(1) > WATCH_SILENCE, "{after:?}");
    assert_eq!(probe(&world, "/readyz"), (200, "ok".to_owned()));
    assert!(world.log().contains("not live"), "the reason outlives the container in its log");
    disturbance.end();
    touch(&world);
    wait_until_ok(&world, "/livez");
    world.apply_version("b", &[]);
    world.wait_until_version_ready("b");
}

/// The thread that runs the controllers stops; the others, which renew the Lease and answer the probes, go on.
#[test]
fn livez_fails_when_the_controllers_are_wedged() {
    let clock = Clock::accelerated(SPEED.into());
    let world = World::without_operator(Settings::default(), FLAGS);
    world.start_with(&clock.env());
    world.apply_version("a", &[]);
    world.wait_until_version_ready("a");
    assert_eq!(probe(&world, "/livez"), (200, "ok".to_owned()));
    clock.stop_main_thread();
    let after = wait_for_failure(&world, "/livez", "has finished nothing for 480 s");
    println!("/livez failed {after} s after the controllers stopped");
    assert!((300..700).contains(&after), "{after}");
    world.kill();
}

/// A controller without anything to do is no wedged one.
#[test]
fn idle_operator_is_not_wedged() {
    let speed = 200;
    let clock = Clock::accelerated(speed.into());
    let world = World::without_operator(Settings::default(), &[("interval", "24h"), ("api-timeout", "1s")]);
    world.start_with(&clock.env());
    wait_until_ok(&world, "/readyz");
    let started = Instant::now();
    world.eventually("it was idle for ten minutes", || {
        let (_, body) = probe(&world, "/livez");
        assert!(!body.contains("has finished nothing"), "{body}");
        (started.elapsed() * speed > Duration::from_mins(10)).then_some(())
    });
}

/// At the start and for the first list; both end, are reported, and are tried again.
#[test]
fn list_that_hangs_ends() {
    let clock = Clock::accelerated(SPEED.into());
    let mut world = World::without_operator(Settings::default(), FLAGS);
    let (kubeconfig, disturbance) = disturbed_cluster(&world);
    world.use_kubeconfig(&kubeconfig.to_string());
    disturbance.hang(is_list);
    world.start_with(&clock.env());
    let no_answer = "no answer from the API server within 65 s";
    let after = wait_for_failure(&world, "/readyz", no_answer);
    println!("/readyz named the list that hangs after {after} s");
    assert!(after < 200, "{after}");

    disturbance.hang(|method, uri| {
        let is_check = uri.query().unwrap_or_default().split('&').any(|pair| pair == "limit=1");
        is_list(method, uri) && !is_check
    });
    world.eventually("the first list ends", || {
        let log = world.log();
        let line = log.lines().find(|line| line.contains("watch failed; listing again"))?;
        line.contains(no_answer).then_some(())
    });
    wait_for_failure(&world, "/readyz", "waiting for the caches to sync");
    disturbance.end();
    wait_until_ok(&world, "/readyz");
    world.apply_version("a", &[]);
    world.wait_until_version_ready("a");
    assert_eq!(probe(&world, "/livez"), (200, "ok".to_owned()));
}

/// The role grants one Lease by its name; with another name the replica can never lead.
#[test]
fn readyz_fails_when_the_lease_cannot_be_read() {
    let lease: Flags = &[
        ("leader-elect", "true"),
        ("lease-namespace", "chatcaptain-system"),
        ("lease-name", "other"),
        ("lease-duration", "3s"),
    ];
    let world = World::with_flags(Settings::default(), lease);
    world.eventually("/readyz names the Lease", || {
        let (status, body) = probe(&world, "/readyz");
        let named = body.starts_with("the Lease chatcaptain-system/other can be neither read nor written");
        (status == 503 && named && body.contains("check --lease-namespace, --lease-name")).then_some(())
    });
    assert_eq!(probe(&world, "/livez"), (200, "ok".to_owned()));
}

/// Every address is one of IPv6.
#[test]
fn operator_works_without_ipv4() {
    let mut world = World::without_operator(Settings::default(), &[("listen", "[::1]:0")]);
    let text = std::fs::read_to_string(&world.kubeconfig).unwrap();
    let mut kubeconfig: Value = serde_json::from_str(&text).unwrap();
    let cluster = &mut kubeconfig["clusters"][0]["cluster"];
    let api_server = cluster["server"].as_str().unwrap().strip_prefix("https://").unwrap();
    let at_ipv6 = |target| Relay::disconnected_at(Ipv6Addr::LOCALHOST.into(), target);
    let api_server = at_ipv6(api_server.parse().unwrap());
    let service = at_ipv6(world.service.address());
    api_server.connect();
    service.connect();
    cluster["server"] = json!(format!("https://{}", api_server.address()));
    // the certificate has no address of IPv6
    cluster["tls-server-name"] = json!("kubernetes.default.svc");
    world.use_kubeconfig(&kubeconfig.to_string());
    world.use_service(&service.url());
    world.start();
    world.apply_version("a", &[]);
    world.wait_until_version_ready("a");
    wait_until_ok(&world, "/readyz");
}
