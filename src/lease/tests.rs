//! The election against an API server with one Lease in it, on a paused clock.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
use axum::{
    Router,
    body::Bytes,
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tokio::time::advance;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// An API server with at most one Lease in it.
#[derive(Clone, Default)]
struct FakeApi(Arc<Mutex<Content>>);

#[derive(Default)]
struct Content {
    lease: Option<Lease>,
    version: u32,
    requests: u32,
    /// Every request takes this long.
    latency: Duration,
    /// This many requests get no answer.
    hangs: u32,
    /// Every request is answered with 500.
    fails: bool,
    /// Another replica writes right after each read.
    races: bool,
}

impl Content {
    fn write(&mut self, spec: Option<LeaseSpec>) {
        self.version += 1;
        let resource_version = Some(self.version.to_string());
        let metadata =
            ObjectMeta { name: Some("operator".to_owned()), resource_version, ..ObjectMeta::default() };
        self.lease = Some(Lease { metadata, spec });
    }

    fn answer(&mut self, method: &Method, body: &[u8]) -> Response {
        self.requests += 1;
        if self.fails {
            return refusal(500, "InternalError");
        }
        if method == Method::GET {
            let answer = self.show();
            if self.races {
                self.write(Some(held_by("other")));
            }
            return answer;
        }
        let sent: Lease = serde_json::from_slice(body).unwrap();
        let current = self.lease.as_ref().map(|lease| lease.metadata.resource_version.clone());
        match current {
            Some(_) if method == Method::POST => refusal(409, "AlreadyExists"),
            Some(version) if version != sent.metadata.resource_version => refusal(409, "Conflict"),
            _ => {
                self.write(sent.spec);
                self.show()
            }
        }
    }

    fn show(&self) -> Response {
        let found = self.lease.as_ref().map(|lease| serde_json::to_string(lease).unwrap());
        found.map_or_else(|| refusal(404, "NotFound"), IntoResponse::into_response)
    }
}

fn refusal(code: u16, reason: &str) -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": reason, "reason": reason, "code": code});
    (StatusCode::from_u16(code).unwrap(), status.to_string()).into_response()
}

impl FakeApi {
    fn holding(spec: LeaseSpec) -> Self {
        let api = Self::default();
        api.set(|content| content.write(Some(spec)));
        api
    }

    fn client(&self) -> Client {
        let api = self.clone();
        let answer = async move |method: Method, body: Bytes| {
            let (latency, hangs) = {
                let mut content = lock(&api.0);
                let hangs = content.hangs > 0;
                content.hangs = content.hangs.saturating_sub(1);
                (content.latency, hangs)
            };
            sleep(if hangs { 3600 * SECOND } else { latency }).await;
            lock(&api.0).answer(&method, &body)
        };
        Client::new(Router::new().fallback(answer), "default")
    }

    fn elector(&self) -> LeaderElector {
        LeaderElector::new(self.client(), config("us")).0
    }

    fn set(&self, change: impl FnOnce(&mut Content)) {
        change(&mut lock(&self.0));
    }

    fn spec(&self) -> LeaseSpec {
        lock(&self.0).lease.clone().unwrap().spec.unwrap()
    }
}

fn config(identity: &str) -> LeaderElectionConfig {
    let [namespace, name, identity] = ["system", "operator", identity].map(str::to_owned);
    LeaderElectionConfig { namespace, name, identity, lease_duration: 15 * SECOND }
}

/// Held since the epoch and for the third time, with a duration that is not ours.
fn held_by(holder: &str) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: Some(20),
        acquire_time: Some(MicroTime(Timestamp::UNIX_EPOCH)),
        renew_time: Some(MicroTime(Timestamp::UNIX_EPOCH)),
        lease_transitions: Some(2),
        ..LeaseSpec::default()
    }
}

#[tokio::test(start_paused = true)]
async fn fence_allows_writes_never_until_or_always() {
    let [never, until, always] =
        [Validity::Never, Validity::Until(Instant::now() + SECOND), Validity::Always].map(Fence::new);
    let allowed = || [&never, &until, &always].map(Fence::allows_writes);
    assert_eq!(allowed(), [false, true, true]);
    advance(SECOND).await;
    assert_eq!(allowed(), [false, false, true]);
}

#[test]
fn leader_stops_after_two_thirds_and_retries_at_the_pace_of_client_go() {
    let periods = |seconds| {
        let config = LeaderElectionConfig { lease_duration: seconds * SECOND, ..config("us") };
        (config.renew_deadline().as_millis(), config.retry_period().as_millis())
    };
    assert_eq!([periods(15), periods(3), periods(60)], [(10_000, 2_000), (2_000, 400), (40_000, 2_000)]);
}

#[tokio::test(start_paused = true)]
async fn fence_counts_from_before_the_request() {
    let api = FakeApi::default();
    api.set(|content| content.latency = 2 * SECOND);
    let mut elector = api.elector();
    // reads and creates: four seconds of ten are over
    assert_eq!(elector.attempt().await, None);
    advance(Duration::from_millis(5_900)).await;
    assert!(elector.fence.allows_writes());
    advance(Duration::from_millis(200)).await;
    assert!(!elector.fence.allows_writes());
}

#[tokio::test(start_paused = true)]
async fn missing_lease_is_created() {
    let api = FakeApi::default();
    assert!(api.elector().try_acquire_or_renew().await.unwrap());
    let spec = api.spec();
    assert_eq!(spec.holder_identity.as_deref(), Some("us"));
    assert_eq!((spec.lease_duration_seconds, spec.lease_transitions), (Some(15), Some(0)));
}

#[tokio::test(start_paused = true)]
async fn lease_is_valid_for_the_holders_duration_after_the_last_observed_change() {
    let api = FakeApi::holding(held_by("other"));
    let mut elector = api.elector();
    // its renewTime is long past, which does not count
    assert!(!elector.try_acquire_or_renew().await.unwrap());
    advance(19 * SECOND).await;
    assert!(!elector.try_acquire_or_renew().await.unwrap());
    api.set(|content| content.write(Some(held_by("other"))));
    assert!(!elector.try_acquire_or_renew().await.unwrap());
    advance(19 * SECOND).await;
    assert!(!elector.try_acquire_or_renew().await.unwrap());
    advance(SECOND).await;
    assert!(elector.try_acquire_or_renew().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn takeover_is_a_transition_and_renewal_is_not() {
    let api = FakeApi::holding(held_by(""));
    let mut elector = api.elector();
    assert!(elector.try_acquire_or_renew().await.unwrap());
    let taken = api.spec();
    assert_eq!(taken.lease_transitions, Some(3));
    assert_ne!(taken.acquire_time, held_by("").acquire_time);
    assert!(elector.try_acquire_or_renew().await.unwrap());
    let renewed = api.spec();
    assert_eq!(renewed.lease_transitions, Some(3));
    assert_eq!(renewed.acquire_time, taken.acquire_time);
    assert!(renewed.renew_time > taken.renew_time);
}

#[tokio::test(start_paused = true)]
async fn conflict_is_a_lost_race() {
    for api in [FakeApi::default(), FakeApi::holding(held_by(""))] {
        api.set(|content| content.races = true);
        assert!(!api.elector().try_acquire_or_renew().await.unwrap());
        assert_eq!(api.spec().holder_identity.as_deref(), Some("other"));
    }
}

#[tokio::test(start_paused = true)]
async fn leader_that_loses_a_race_stops_at_once_and_one_that_gets_an_error_goes_on() {
    let api = FakeApi::default();
    let mut elector = api.elector();
    assert_eq!(elector.attempt().await, None);
    api.set(|content| content.fails = true);
    assert!(elector.attempt().await.is_some_and(|error| error.contains("InternalError")));
    assert!(elector.fence.allows_writes());
    api.set(|content| {
        content.fails = false;
        content.write(Some(held_by("other")));
    });
    assert_eq!(elector.attempt().await, None);
    assert!(!elector.fence.allows_writes());
}

#[tokio::test(start_paused = true)]
async fn renewal_is_one_request() {
    let api = FakeApi::default();
    let mut elector = api.elector();
    assert_eq!(elector.attempt().await, None);
    let requests = || lock(&api.0).requests;
    let before = requests();
    for _ in 0..10 {
        assert_eq!(elector.attempt().await, None);
    }
    assert_eq!(requests() - before, 10);
}

/// Somebody annotates it, for example, or the answer to a renewal was lost.
#[tokio::test(start_paused = true)]
async fn leader_whose_lease_was_written_by_others_reads_it_and_goes_on() {
    let api = FakeApi::default();
    let mut elector = api.elector();
    assert_eq!(elector.attempt().await, None);
    let spec = api.spec();
    api.set(|content| content.write(Some(spec)));
    assert_eq!(elector.attempt().await, None);
    assert!(elector.fence.allows_writes());
    assert_eq!(api.spec().lease_transitions, Some(0), "it is a renewal");
}

#[tokio::test(start_paused = true)]
async fn leader_that_cannot_renew_stops_at_its_deadline() {
    for (latency, fails) in [(Duration::ZERO, true), (3600 * SECOND, false)] {
        let api = FakeApi::default();
        let election = LeaderElection::start(api.client(), config("us"));
        election.acquired().await;
        let acquired = Instant::now();
        api.set(|content| (content.latency, content.fails) = (latency, fails));
        timeout(15 * SECOND, election.lost()).await.expect("another replica may lead now");
        assert_eq!(acquired.elapsed().as_secs(), 10, "fails: {fails}");
        assert!(!election.fence().allows_writes());
    }
}

#[tokio::test(start_paused = true)]
async fn one_renewal_that_hangs_does_not_cost_leadership() {
    let api = FakeApi::default();
    let election = LeaderElection::start(api.client(), config("us"));
    election.acquired().await;
    api.set(|content| content.hangs = 1);
    timeout(60 * SECOND, election.lost()).await.unwrap_err();
    assert!(election.fence().allows_writes());
    assert_eq!(lock(&api.0).hangs, 0);
}

#[tokio::test(start_paused = true)]
async fn lease_that_cannot_be_read_for_its_duration_is_reported() {
    let api = FakeApi::holding(held_by("other"));
    let standby = LeaderElection::start(api.client(), config("us"));
    let access = standby.access();
    assert_eq!(access.problem(), None, "nothing has failed yet");
    sleep(3 * SECOND / 2).await;
    api.set(|content| content.fails = true);
    sleep(13 * SECOND).await;
    assert_eq!(access.problem(), None);
    sleep(2 * SECOND).await;
    let problem = access.problem().unwrap();
    assert!(problem.starts_with("the Lease system/operator can be neither read nor written ("), "{problem}");
    assert!(problem.contains("InternalError") && problem.ends_with("--lease-name and the Role"), "{problem}");
    api.set(|content| content.fails = false);
    sleep(3 * SECOND).await;
    assert_eq!(access.problem(), None, "the next attempt is within the retry period");
}

#[tokio::test(start_paused = true)]
async fn lease_that_was_never_read_is_reported_at_once() {
    let api = FakeApi::default();
    api.set(|content| content.fails = true);
    let standby = LeaderElection::start(api.client(), config("us"));
    sleep(SECOND / 2).await;
    assert!(standby.access().problem().is_some());
}

#[tokio::test(start_paused = true)]
async fn released_lease_is_taken_within_the_retry_period() {
    let api = FakeApi::default();
    let first = LeaderElection::start(api.client(), config("first"));
    first.acquired().await;
    let second = LeaderElection::start(api.client(), config("second"));
    sleep(60 * SECOND).await;
    assert_eq!([first.fence().allows_writes(), second.fence().allows_writes()], [true, false]);
    let (released, fence) = (Instant::now(), first.fence());
    first.release().await;
    assert!(!fence.allows_writes());
    assert_eq!(api.spec().holder_identity.as_deref(), Some(""));
    second.acquired().await;
    assert!(released.elapsed() <= 2 * SECOND && second.fence().allows_writes());
}

#[tokio::test(start_paused = true)]
async fn standby_releases_nothing() {
    let api = FakeApi::holding(held_by("other"));
    let standby = LeaderElection::start(api.client(), config("us"));
    sleep(SECOND).await;
    let requests = lock(&api.0).requests;
    standby.release().await;
    assert_eq!(lock(&api.0).requests, requests, "it holds no lease");
    assert_eq!(api.spec(), held_by("other"));
}

#[tokio::test(start_paused = true)]
async fn single_replica_leads_always() {
    let election = LeaderElection::disabled();
    election.acquired().await;
    timeout(24 * 3600 * SECOND, election.lost()).await.unwrap_err();
    assert!(election.fence().allows_writes());
}
