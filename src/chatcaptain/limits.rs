//! What protects the account: a token bucket, a breaker and one probe while a key is refused.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use rand::RngExt;
use tokio::sync::Mutex as AsyncMutex;

use super::error::{ApiCall, Failure, FailureClass};

/// How fast one key may call.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Calls per second.
    pub rate: NonZeroU32,
    /// Calls at once after a pause.
    pub burst: NonZeroU32,
}

/// What a call came to, for metrics.
#[derive(Clone, Copy, Debug)]
pub enum CallEvent {
    /// A call was made.
    Completed {
        /// What.
        call: ApiCall,
        /// `ok` or the class of failure.
        outcome: &'static str,
        /// How long it took.
        duration: Duration,
    },
    /// Calls pause for this long because the service asks to slow down.
    Paused(Duration),
}

/// Told of every call. Must not block.
pub type CallObserver = Arc<dyn Fn(CallEvent) + Send + Sync>;

/// First pause after a throttle without `Retry-After`, and after a refusal of the key.
const INITIAL_BACKOFF: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(1));
/// Longest such pauses.
const MAX_BACKOFF: (Duration, Duration) = (Duration::from_mins(5), Duration::from_hours(1));

/// How long a probe may keep others waiting, should nobody ever tell how it ended.
const PROBE_TIMEOUT: Duration = Duration::from_mins(1);

/// The gate that every call with one key goes through.
pub struct CallLimiter {
    bucket: DefaultDirectRateLimiter,
    state: Mutex<State>,
    observer: CallObserver,
}

#[derive(Default)]
struct State {
    breaker: Option<Breaker>,
    /// Per call, or for the whole key under `None`.
    refusals: BTreeMap<Option<ApiCall>, KeyRefusal>,
}

struct Breaker {
    until: Instant,
    trips: u32,
    /// Somebody is trying whether it is over; for so long others wait for the answer.
    probing_until: Option<Instant>,
}

struct KeyRefusal {
    until: Instant,
    times: u32,
    failure: Failure,
}

impl State {
    /// The failure that stands in the way of a call, if one does.
    fn check(&self, call: ApiCall, now: Instant) -> Result<(), Failure> {
        for scope in [None, Some(call)] {
            if let Some(refused) = self.refusals.get(&scope)
                && refused.until > now
            {
                return Err(Failure { call, may_have_happened: false, ..refused.failure.clone() });
            }
        }
        match &self.breaker {
            Some(breaker) if breaker.until > now => Err(throttled_failure(call, breaker.until - now)),
            Some(breaker) if breaker.probing_until.is_some_and(|until| until > now) => {
                Err(throttled_failure(call, Duration::from_secs(1)))
            }
            _ => Ok(()),
        }
    }
}

impl CallLimiter {
    pub fn new(limits: Limits, observer: CallObserver) -> Self {
        let quota = Quota::per_second(limits.rate).allow_burst(limits.burst);
        Self { bucket: RateLimiter::direct(quota), state: Mutex::default(), observer }
    }

    /// Waits for a turn; of those who share a `queue` one at a time.
    ///
    /// # Errors
    /// The failure that stands in the way, without a call: the throttle or the refusal that still holds.
    pub async fn acquire(&self, call: ApiCall, queue: &AsyncMutex<()>) -> Result<(), Failure> {
        self.lock().check(call, Instant::now())?;
        {
            let _first = queue.lock().await;
            self.bucket.until_ready().await;
        }
        // while we queued somebody else may have been told to slow down
        self.admit(call)
    }

    /// Takes note of how a call ended.
    pub fn record(&self, call: ApiCall, result: Result<(), &Failure>) {
        let now = Instant::now();
        let mut state = self.lock();
        match result.map_err(|failure| (failure.class, failure)) {
            Err((FailureClass::Throttled { retry_after }, _)) => {
                let (trips, floor) = match &state.breaker {
                    // calls that were under way are told the same thing again
                    Some(breaker) if breaker.until > now => (breaker.trips, breaker.until),
                    Some(breaker) => (breaker.trips + 1, now),
                    None => (0, now),
                };
                let pause =
                    retry_after.unwrap_or_else(|| exponential(INITIAL_BACKOFF.0, trips, MAX_BACKOFF.0));
                let until = (now + with_jitter(pause)).max(floor);
                state.breaker = Some(Breaker { until, trips, probing_until: None });
                (self.observer)(CallEvent::Paused(until - floor));
            }
            Err((FailureClass::Forbidden { whole_key }, failure)) => {
                let scope = (!whole_key).then_some(call);
                let times = state.refusals.get(&scope).map_or(0, |refused| refused.times);
                let pause = with_jitter(exponential(INITIAL_BACKOFF.1, times, MAX_BACKOFF.1));
                let refused = KeyRefusal { until: now + pause, times: times + 1, failure: failure.clone() };
                state.refusals.insert(scope, refused);
            }
            // no answer says nothing about throttle or key; the next caller probes
            Err((FailureClass::Unknown | FailureClass::Unsent, _)) => {
                if let Some(breaker) = &mut state.breaker {
                    breaker.probing_until = None;
                }
            }
            Ok(()) | Err((FailureClass::Refused(_), _)) => {
                // a call that was sent before the pause says nothing about it
                state.breaker.take_if(|breaker| breaker.until <= now);
                state.refusals.remove(&None);
                state.refusals.remove(&Some(call));
            }
        }
    }

    /// Whether calls pause now because the service asked to slow down.
    pub fn is_breaker_open(&self) -> bool {
        self.lock().breaker.as_ref().is_some_and(|breaker| breaker.until > Instant::now())
    }

    /// Lets a call through and, where something is to be probed, makes it the one probe.
    fn admit(&self, call: ApiCall) -> Result<(), Failure> {
        let now = Instant::now();
        let mut state = self.lock();
        state.check(call, now)?;
        if let Some(breaker) = &mut state.breaker {
            breaker.probing_until = Some(now + PROBE_TIMEOUT);
        }
        for scope in [None, Some(call)] {
            if let Some(refused) = state.refusals.get_mut(&scope) {
                refused.until = now + INITIAL_BACKOFF.1;
            }
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn throttled_failure(call: ApiCall, rest: Duration) -> Failure {
    let class = FailureClass::Throttled { retry_after: Some(rest) };
    Failure::new(call, class, "the service asks to slow down; calls pause for every object with this key")
}

fn exponential(first: Duration, times: u32, last: Duration) -> Duration {
    first.saturating_mul(2u32.saturating_pow(times.min(16))).min(last)
}

/// Up to a tenth longer, never shorter: the service may count strictly.
fn with_jitter(pause: Duration) -> Duration {
    pause + pause.mul_f64(rand::rng().random::<f64>() / 10.0)
}
