//! What is sent to `--events-address`, compared with what happened, under faults of the receiver as well.

use std::{
    collections::BTreeMap,
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, http::StatusCode, routing::post};
use chatcaptain_operator::{crd::ChatbotVersion, plan::EventReason};
use serde_json::Value;
use simulator::{Environment, Settings};
use support::{KEY, World};

/// It takes the request and never answers.
const SILENT: u16 = 0;
const PATH: &str = "/events";
/// Part of the URL, which must not be logged.
const TOKEN: &str = "s3cret-token";

#[derive(Clone)]
struct Receiver {
    /// What it has taken, and what it has refused.
    taken: Arc<Mutex<Vec<Value>>>,
    refused: Arc<Mutex<Vec<Value>>>,
    answer: Arc<AtomicU16>,
}

impl Receiver {
    fn start(world: &World, answer: u16) -> Self {
        let answer = Arc::new(AtomicU16::new(answer));
        let receiver = Self { taken: Arc::default(), refused: Arc::default(), answer };
        let runtime = world.cluster.runtime();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = format!("http://{}{PATH}?token={TOKEN}", listener.local_addr().unwrap());
        let routes = Router::new().route(PATH, post(Self::take)).with_state(receiver.clone());
        runtime.spawn(async move { axum::serve(listener, routes).await });
        world.start_with(&[("CHATCAPTAIN_EVENTS_ADDRESS", &address)]);
        receiver
    }

    async fn take(State(receiver): State<Self>, headers: HeaderMap, body: Bytes) -> StatusCode {
        let event: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(headers["content-type"], "application/cloudevents+json; charset=utf-8");
        let status = receiver.answer.load(Ordering::SeqCst);
        let list = if status == 200 { &receiver.taken } else { &receiver.refused };
        list.lock().unwrap().push(event);
        if status == SILENT { pending().await } else { StatusCode::from_u16(status).unwrap() }
    }

    fn set_answer(&self, status: u16) {
        self.answer.store(status, Ordering::SeqCst);
    }

    /// Reason and message of what it has taken about an object.
    fn about(&self, name: &str) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let taken = self.taken.lock().unwrap();
        let data = taken.iter().map(|event| &event["data"]).filter(|data| data["name"] == name);
        data.map(|data| (text(&data["reason"]), text(&data["message"]))).collect()
    }
}

fn world_with(answer: u16, versions: &[&str]) -> (World, Receiver) {
    let world = World::without_operator(Settings::default(), &[]);
    let receiver = Receiver::start(&world, answer);
    for name in versions {
        world.apply_version(name, &[]);
        world.wait_until_version_ready(name);
    }
    (world, receiver)
}

fn deploy(world: &World, version: &str) {
    world.apply_deployment("prod", version, &["progressDeadline: 3s"]);
    world.wait_until_deployment_ready("prod");
}

/// Those of the object's events in the cluster that are also sent.
fn happened(world: &World, name: &str) -> Vec<(String, String)> {
    let is_sent =
        |reason: &str| EventReason::ALL.iter().any(|known| known.is_sent() && known.as_str() == reason);
    let mut events = world.events(name);
    events.retain(|(reason, _)| is_sent(reason));
    events.sort();
    events
}

#[test]
fn each_rollout_failure_rollback_drift_and_orphan_is_received_once() {
    let (world, receiver) = world_with(200, &["a", "b", "c"]);
    deploy(&world, "a");
    deploy(&world, "b");
    deploy(&world, "a");
    world.service.hand_deploy(&world.bot, "b", Environment::Prod).unwrap();
    world.wait_for_event("prod", "DriftDetected");
    world.eventually("a runs again", || {
        (world.live_version(Environment::Prod).as_deref() == Some("a")).then_some(())
    });
    world.wait_until_deployment_ready("prod");
    world.service.settings(|settings| settings.failing_rollouts = vec!["c".to_owned()]);
    world.apply_deployment("prod", "c", &["progressDeadline: 3s"]);
    world.wait_for_event("prod", "RolloutFailed");
    world.apply_version("d", &[]);
    let orphan = world.wait_until_version_ready("d").version_id().unwrap().to_owned();
    world.kubectl(&["annotate", "cbv", "d", "chatcaptain.dev/force-orphan=yes"], "");
    world.delete("cbv", "d");
    world.wait_until_deleted::<ChatbotVersion>("d");
    world.wait_for_event("d", "Orphaned");

    for name in ["prod", "d"] {
        world.eventually(&format!("what happened to {name} is received"), || {
            let mut events = receiver.about(name);
            events.sort();
            (events == happened(&world, name)).then_some(())
        });
    }
    let mut counts = BTreeMap::<String, usize>::new();
    for (reason, _) in receiver.about("prod").into_iter().chain(receiver.about("d")) {
        *counts.entry(reason).or_default() += 1;
    }
    let reasons: Vec<&str> = counts.keys().map(String::as_str).collect();
    assert_eq!(reasons, ["Deployed", "DriftDetected", "Orphaned", "RolledBack", "RolloutFailed"]);
    assert_eq!((counts["DriftDetected"], counts["Orphaned"], counts["RolloutFailed"]), (1, 1, 1));

    assert_content(&world, &receiver, &orphan);
}

fn assert_content(world: &World, receiver: &Receiver, orphan: &str) {
    let taken = receiver.taken.lock().unwrap();
    let event = taken.iter().find(|event| event["data"]["reason"] == "Orphaned").unwrap();
    assert_eq!(event["specversion"], "1.0");
    assert_eq!(event["type"], "dev.chatcaptain.Orphaned");
    assert_eq!(event["source"], "/chatcaptain-operator/default");
    assert_eq!(event["subject"], format!("namespaces/{}/chatbotversions/d", world.namespace));
    assert_eq!(event["data"]["versionIds"][0], orphan);
    let first = &taken[0]["data"];
    assert_eq!((&first["operation"], &first["cause"]), (&"Deploy".into(), &"Spec".into()));
    assert_eq!((&first["versionName"], &first["chatbotId"]), (&"a".into(), &world.bot.as_str().into()));
    assert!(!taken.iter().any(|event| event.to_string().contains(KEY)), "the API key is in an event");
    assert!(!world.log().contains(TOKEN), "{}", world.log());
    world.wait_for_metric("chatcaptain_cloud_events_total", &[r#"outcome="delivered""#], taken.len() as u64);
}

/// From the command until the former version is live.
fn time_of_rollback(world: &World, to: &str) -> Duration {
    let command = format!("chatcaptain.dev/rollback-to={to}");
    let started = Instant::now();
    world.kubectl(&["annotate", "--overwrite", "cbd", "prod", &command], "");
    world.eventually("it is back", || {
        (world.live_version(Environment::Prod).as_deref() == Some(to)).then_some(())
    });
    started.elapsed()
}

#[test]
fn receiver_that_fails_delays_nothing_and_gets_everything_in_the_end() {
    for fault in [SILENT, 503] {
        let (world, receiver) = world_with(fault, &["a", "b"]);
        deploy(&world, "a");
        deploy(&world, "b");
        let elapsed = time_of_rollback(&world, "a");
        // a request to the receiver alone takes ten
        assert!(elapsed < Duration::from_secs(5), "{elapsed:?} with a receiver that answers {fault}");
        assert_eq!(receiver.about("prod"), [], "{fault}");
        world.wait_for_event("prod", "RolledBack");

        receiver.set_answer(200);
        let reasons = world.eventually("all of them arrive", || {
            let reasons: Vec<String> = receiver.about("prod").into_iter().map(|(reason, _)| reason).collect();
            (reasons.len() >= 3).then_some(reasons)
        });
        assert_eq!(reasons, ["Deployed", "Deployed", "RolledBack"], "in the order in which they happened");
        // the attempt that failed was the first event
        assert_eq!(receiver.refused.lock().unwrap()[0]["id"], receiver.taken.lock().unwrap()[0]["id"]);
        assert!(world.log().contains("cannot deliver events"), "{}", world.log());
    }
}

#[test]
fn operator_ends_although_the_receiver_is_silent() {
    let (world, _receiver) = world_with(SILENT, &["a"]);
    deploy(&world, "a");
    let started = Instant::now();
    world.stop();
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert!(world.log().contains("event is dropped, because the operator ends"), "{}", world.log());
}
