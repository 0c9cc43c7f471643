//! Sends what happened to one HTTP address, as `CloudEvents` 1.0 in structured JSON.
//!
//! Never in the way of the work: a reconcile puts an event into a bounded queue and goes on. One task sends the queue,
//! in order, and repeats what fails with a growing delay. What does not fit is dropped, the oldest first, with a log line
//! and a metric: a receiver that is down for long learns of what is recent.

use std::{collections::VecDeque, sync::Arc, sync::Mutex, time::Duration};

use jiff::Timestamp;
use reqwest::StatusCode;
use serde::Serialize;
use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{
    backoff::Backoff,
    network::{Proxy, certificate_problem, describe, http_client},
    sync::lock,
    telemetry::Metrics,
};

/// Events that wait: about a megabyte, and more than a day of a busy team.
const CAPACITY: usize = 1000;
/// For one request and its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
// short at first, for a restart of the receiver
const RETRY: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_mins(1));
/// Between two attempts while the process ends.
const RETRY_WHILE_CLOSING: Duration = Duration::from_millis(250);

/// One event in structured mode, as it is sent.
#[derive(Serialize)]
struct CloudEvent<D> {
    specversion: &'static str,
    /// The same in each attempt, so that a receiver recognizes a repetition.
    id: String,
    source: String,
    r#type: String,
    subject: String,
    time: String,
    datacontenttype: &'static str,
    data: D,
}

/// An event that waits to be sent.
struct Queued {
    /// For log lines.
    id: String,
    kind: &'static str,
    body: Vec<u8>,
}

/// Where events are put. Clones share the queue.
#[derive(Clone)]
pub struct CloudEvents {
    queue: Arc<Queue>,
    source: String,
}

/// What [`CloudEvents::start`] needs.
pub struct CloudEventsConfig {
    /// Where to send them.
    pub address: Url,
    /// The proxy that leads there, if any.
    pub proxy: Option<Proxy>,
    /// The `source` of each event.
    pub source: String,
    /// Counts how each event ended.
    pub metrics: Metrics,
}

/// Ends the task that sends.
pub struct Delivery {
    queue: Arc<Queue>,
    task: JoinHandle<()>,
}

struct Queue {
    waiting: Mutex<VecDeque<Queued>>,
    capacity: usize,
    added: Notify,
    /// Nothing is added any more.
    closing: CancellationToken,
    metrics: Metrics,
}

/// How an attempt ended.
enum Attempt {
    Delivered,
    /// The receiver does not take this event, now or later.
    Rejected(String),
    Failed(String),
}

impl CloudEvents {
    /// Starts the task that sends.
    ///
    /// # Errors
    /// When there is no certificate store.
    pub fn start(config: CloudEventsConfig) -> Result<(Self, Delivery), reqwest::Error> {
        Self::with_capacity(config, CAPACITY)
    }

    fn with_capacity(config: CloudEventsConfig, capacity: usize) -> Result<(Self, Delivery), reqwest::Error> {
        let CloudEventsConfig { address, proxy, source, metrics } = config;
        let http = http_client(proxy, REQUEST_TIMEOUT)?.build()?;
        let queue = Arc::new(Queue {
            waiting: Mutex::default(),
            capacity,
            added: Notify::new(),
            closing: CancellationToken::new(),
            metrics,
        });
        let sender = Sender { http, address, queue: queue.clone() };
        let delivery = Delivery { queue: queue.clone(), task: tokio::spawn(sender.run()) };
        Ok((Self { queue, source }, delivery))
    }

    /// Queues an event of this type about `subject`. Returns at once.
    pub fn send(&self, kind: &'static str, subject: String, data: impl Serialize) {
        let id = format!("{:032x}", rand::random::<u128>());
        let event = CloudEvent {
            specversion: "1.0",
            id: id.clone(),
            source: self.source.clone(),
            r#type: format!("dev.chatcaptain.{kind}"),
            subject,
            time: Timestamp::now().to_string(),
            datacontenttype: "application/json",
            data,
        };
        match serde_json::to_vec(&event) {
            Ok(body) => self.queue.push(Queued { id, kind, body }),
            // what is sent consists of texts, numbers and lists
            Err(error) => tracing::warn!(%error, kind, "cannot encode event"),
        }
    }
}

impl Delivery {
    /// Sends what waits, for at most this long, and ends. Call it when nothing is added any more.
    pub async fn finish(mut self, limit: Duration) {
        self.queue.closing.cancel();
        if timeout(limit, &mut self.task).await.is_err() {
            self.task.abort();
            // its current event is back in the queue once it has ended
            let _ = self.task.await;
        }
        let left: Vec<Queued> = lock(&self.queue.waiting).drain(..).collect();
        for event in &left {
            self.queue.metrics.count_cloud_event("dropped");
            tracing::warn!(id = event.id, r#type = event.kind, "event is dropped, because the operator ends");
        }
    }
}

impl Queue {
    fn push(&self, event: Queued) {
        let dropped = {
            let mut waiting = lock(&self.waiting);
            waiting.push_back(event);
            if waiting.len() > self.capacity { waiting.pop_front() } else { None }
        };
        if let Some(event) = dropped {
            self.metrics.count_cloud_event("dropped");
            tracing::warn!(
                id = event.id,
                r#type = event.kind,
                "event is dropped, because {} newer ones wait",
                self.capacity
            );
        }
        self.added.notify_one();
    }

    /// The oldest event; `None` once there will be none.
    async fn next(&self) -> Option<Taken<'_>> {
        loop {
            if let Some(event) = lock(&self.waiting).pop_front() {
                return Some(Taken { queue: self, event: Some(event) });
            }
            if self.closing.is_cancelled() {
                return None;
            }
            tokio::select! {
                () = self.added.notified() => {}
                () = self.closing.cancelled() => {}
            }
        }
    }
}

/// An event that is being sent. It goes back to where it was if the task ends meanwhile.
struct Taken<'a> {
    queue: &'a Queue,
    event: Option<Queued>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(event) = self.event.take() {
            lock(&self.queue.waiting).push_front(event);
        }
    }
}

struct Sender {
    http: reqwest::Client,
    address: Url,
    queue: Arc<Queue>,
}

impl Sender {
    async fn run(self) {
        while let Some(mut taken) = self.queue.next().await {
            if let Some(event) = &taken.event {
                self.deliver(event).await;
            }
            taken.event = None;
        }
    }

    /// Tries until the receiver has taken or rejected the event.
    async fn deliver(&self, event: &Queued) {
        let mut failures = 0;
        loop {
            match self.attempt(event).await {
                Attempt::Delivered => {
                    if failures > 0 {
                        tracing::info!(attempts = failures + 1, "events are delivered again");
                    }
                    return self.queue.metrics.count_cloud_event("delivered");
                }
                Attempt::Rejected(why) => {
                    tracing::warn!(id = event.id, r#type = event.kind, "event is rejected: {why}");
                    return self.queue.metrics.count_cloud_event("rejected");
                }
                Attempt::Failed(why) => {
                    failures += 1;
                    if failures == 1 {
                        tracing::warn!("cannot deliver events ({why}); retrying");
                    }
                }
            }
            self.pause(failures).await;
        }
    }

    async fn pause(&self, failures: u32) {
        if !self.queue.closing.is_cancelled() {
            tokio::select! {
                () = sleep(RETRY.delay(failures)) => return,
                () = self.queue.closing.cancelled() => {}
            }
        }
        sleep(RETRY_WHILE_CLOSING).await;
    }

    async fn attempt(&self, event: &Queued) -> Attempt {
        let request = self
            .http
            .post(self.address.clone())
            .header(reqwest::header::CONTENT_TYPE, "application/cloudevents+json; charset=utf-8")
            .body(event.body.clone());
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Attempt::Delivered,
            Ok(answer) if is_about_the_event(answer.status()) => {
                Attempt::Rejected(format!("the receiver answers {}", answer.status()))
            }
            Ok(answer) => Attempt::Failed(format!("the receiver answers {}", answer.status())),
            Err(error) => {
                // the URL may contain a password or a token
                let error = error.without_url();
                Attempt::Failed(certificate_problem(&error).unwrap_or_else(|| describe(&error)))
            }
        }
    }
}

/// The same event would be answered the same way again. Everything else may be mended at the receiver.
fn is_about_the_event(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::UNPROCESSABLE_ENTITY
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::sync::atomic::{AtomicU16, Ordering};

    use axum::{
        Router,
        body::Bytes,
        extract::State,
        http::{HeaderMap, StatusCode},
        routing::post,
    };
    use serde_json::{Value, json};

    use super::*;

    /// No answer at all.
    const SILENT: u16 = 0;

    #[derive(Clone, Default)]
    struct Receiver {
        received: Arc<Mutex<Vec<Value>>>,
        answer: Arc<AtomicU16>,
        requested: Arc<Notify>,
    }

    impl Receiver {
        fn answering(status: u16) -> Self {
            let receiver = Self::default();
            receiver.answer.store(status, Ordering::SeqCst);
            receiver
        }

        async fn take(State(receiver): State<Self>, headers: HeaderMap, body: Bytes) -> StatusCode {
            assert_eq!(headers["content-type"], "application/cloudevents+json; charset=utf-8");
            lock(&receiver.received).push(serde_json::from_slice(&body).unwrap());
            receiver.requested.notify_one();
            match receiver.answer.load(Ordering::SeqCst) {
                SILENT => std::future::pending().await,
                status => StatusCode::from_u16(status).unwrap(),
            }
        }

        async fn start(&self, capacity: usize) -> (CloudEvents, Delivery, Metrics) {
            // the binary installs it for the process
            let _ = rustls::crypto::ring::default_provider().install_default();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = format!("http://{}/events", listener.local_addr().unwrap()).parse().unwrap();
            let routes = Router::new().route("/events", post(Self::take)).with_state(self.clone());
            tokio::spawn(async move { axum::serve(listener, routes).await });
            let metrics = Metrics::default();
            let config = CloudEventsConfig {
                address,
                proxy: None,
                source: "/chatcaptain-operator/team-a".to_owned(),
                metrics: metrics.clone(),
            };
            let (events, delivery) = CloudEvents::with_capacity(config, capacity).unwrap();
            (events, delivery, metrics)
        }

        fn field(&self, name: &str) -> Vec<String> {
            lock(&self.received).iter().map(|event| event[name].as_str().unwrap().to_owned()).collect()
        }
    }

    fn send(events: &CloudEvents, subjects: &[&str]) {
        for subject in subjects {
            events.send("Deployed", (*subject).to_owned(), json!({"name": subject}));
        }
    }

    fn counts(metrics: &Metrics) -> [u64; 3] {
        ["delivered", "rejected", "dropped"].map(|outcome| metrics.cloud_events(outcome))
    }

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn events_arrive_in_order_and_what_waits_at_the_end_is_sent() {
        let receiver = Receiver::answering(202);
        let (events, delivery, metrics) = receiver.start(10).await;
        send(&events, &["a", "b", "c"]);
        delivery.finish(LONG).await;
        assert_eq!(receiver.field("subject"), ["a", "b", "c"]);
        assert_eq!(counts(&metrics), [3, 0, 0]);
        let event = lock(&receiver.received)[0].clone();
        let expected = json!({
            "specversion": "1.0", "id": event["id"], "source": "/chatcaptain-operator/team-a",
            "type": "dev.chatcaptain.Deployed", "subject": "a", "time": event["time"],
            "datacontenttype": "application/json", "data": {"name": "a"},
        });
        assert_eq!(event, expected);
        assert!(event["time"].as_str().unwrap().parse::<Timestamp>().is_ok());
    }

    #[tokio::test]
    async fn failed_attempt_is_repeated_with_the_same_id_before_the_next_event() {
        let receiver = Receiver::answering(500);
        let (events, delivery, metrics) = receiver.start(10).await;
        send(&events, &["a", "b"]);
        receiver.requested.notified().await;
        receiver.answer.store(200, Ordering::SeqCst);
        delivery.finish(LONG).await;
        assert_eq!(receiver.field("subject"), ["a", "a", "b"]);
        let ids = receiver.field("id");
        assert!(ids[0] == ids[1] && ids[1] != ids[2], "{ids:?}");
        assert_eq!(counts(&metrics), [2, 0, 0]);
    }

    #[tokio::test]
    async fn event_that_the_receiver_rejects_is_not_repeated() {
        let receiver = Receiver::answering(400);
        let (events, delivery, metrics) = receiver.start(10).await;
        send(&events, &["a", "b"]);
        delivery.finish(LONG).await;
        assert_eq!((receiver.field("subject"), counts(&metrics)), (vec!["a".into(), "b".into()], [0, 2, 0]));
        for (status, rejected) in
            [(401, false), (404, false), (408, false), (413, true), (415, true), (429, false)]
        {
            assert_eq!(is_about_the_event(StatusCode::from_u16(status).unwrap()), rejected, "{status}");
        }
    }

    #[tokio::test]
    async fn oldest_event_is_dropped_for_a_newer_one() {
        let receiver = Receiver::answering(SILENT);
        let (events, delivery, metrics) = receiver.start(2).await;
        send(&events, &["a"]);
        receiver.requested.notified().await;
        send(&events, &["b", "c", "d"]);
        assert_eq!(counts(&metrics), [0, 0, 1]);
        let waiting: Vec<String> = lock(&events.queue.waiting)
            .iter()
            .map(|event| serde_json::from_slice::<Value>(&event.body).unwrap()["subject"].to_string())
            .collect();
        assert_eq!(waiting, [r#""c""#, r#""d""#]);
        // the one that is being sent counts as well
        delivery.finish(Duration::from_millis(10)).await;
        assert_eq!(counts(&metrics), [0, 0, 4]);
    }
}
