//! Protects the account of the service: for each key a pace, a breaker while the service throttles, and one probe at a time
//! while it refuses the key.
//!
//! Decides whether a call may be made now; makes and repeats none itself.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rand::RngExt;

use super::{
    call_queue::{CallPriority, CallQueue},
    error::{ApiCall, Failure, FailureClass},
    pace::Pace,
    refusals::Refusals,
    types::ChatbotId,
};
use crate::{backoff::Backoff, sync::lock};

/// After a throttle without `Retry-After`.
// minutes at most: a throttle ends by itself, and everything with this key waits for it
const THROTTLE_BACKOFF: Backoff = Backoff::new(Duration::from_secs(5), Duration::from_mins(5));
/// How long others wait for a probe. Its result ends the wait sooner; this is for a probe whose task ends without one,
/// after which no call of the key would be sent again.
pub(super) const PROBE_TIMEOUT: Duration = Duration::from_mins(1);
/// When a call that waits for a probe may try again: about how long a call takes.
pub(super) const PROBE_RETRY_AFTER: Duration = Duration::from_secs(1);

/// How fast one key may call.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Calls per second.
    pub rate: NonZeroU32,
    /// Calls at once after a time without any.
    pub burst: NonZeroU32,
}

/// What happens to calls, for metrics.
#[derive(Clone, Copy, Debug)]
pub enum CallEvent {
    /// A call was sent and has ended.
    Completed {
        /// Which call.
        call: ApiCall,
        /// `ok` or the class of the failure.
        outcome: &'static str,
        /// From the request to the end of the answer; the wait for the limiter does not count.
        duration: Duration,
    },
    /// The service throttles a key: its calls are paused for this much longer.
    Paused(Duration),
}

/// Called for every event. Must not block.
pub type CallObserver = Arc<dyn Fn(CallEvent) + Send + Sync>;

/// The limits of one key. Every call with the key needs its permission.
pub struct CallLimiter {
    queue: CallQueue,
    state: Mutex<State>,
    observer: CallObserver,
}

impl CallLimiter {
    pub fn new(limits: Limits, observer: CallObserver) -> Self {
        Self { queue: CallQueue::default(), state: Mutex::new(State::new(limits)), observer }
    }

    /// Waits until a call may be made. After `acquire` the caller must `record` how the call ended.
    ///
    /// # Errors
    /// The throttle or the refusal that still holds; no call is to be made.
    pub async fn acquire(
        &self,
        call: ApiCall,
        priority: CallPriority,
        chatbot: &ChatbotId,
    ) -> Result<(), Failure> {
        // before the queue: a paused call fails at once instead of waiting in it
        lock(&self.state).check(call, chatbot, Instant::now())?;
        // again when it is the next one: others may have been throttled meanwhile
        let admit = || lock(&self.state).admit(call, priority, chatbot, Instant::now());
        self.queue.wait(priority, chatbot, admit).await
    }

    /// Takes note of how a call ended.
    pub fn record(&self, call: ApiCall, chatbot: &ChatbotId, result: Result<(), &Failure>) {
        let now = Instant::now();
        let paused = lock(&self.state).record(call, chatbot, result, now);
        // it may have waited for this answer
        self.queue.notify_next();
        if let Some(pause) = paused {
            (self.observer)(CallEvent::Paused(pause));
        }
    }

    /// For how much longer such a call would not be sent.
    pub fn pause(&self, call: ApiCall, chatbot: &ChatbotId) -> Option<Duration> {
        lock(&self.state).check(call, chatbot, Instant::now()).err()?.paused_for
    }

    /// The user may have ended the cause of refusals, for this chatbot or (`None`) for all: the next call is sent. A throttle
    /// remains.
    pub fn retry_now(&self, chatbot: Option<&ChatbotId>) {
        lock(&self.state).refusals.retry_now(chatbot);
    }

    /// Whether calls are paused now because the service throttles the key.
    pub fn is_breaker_open(&self) -> bool {
        lock(&self.state).is_breaker_open(Instant::now())
    }
}

/// What the service said about calls with this key. The clock is passed in.
struct State {
    pace: Pace,
    breaker: Option<Breaker>,
    refusals: Refusals,
}

/// Open until a time, then half open until a call gets through.
struct Breaker {
    open_until: Instant,
    consecutive_throttles: u32,
    /// While half open: since when other calls wait for the result of the probe.
    probing_since: Option<Instant>,
}

impl State {
    fn new(limits: Limits) -> Self {
        Self { pace: Pace::new(limits), breaker: None, refusals: Refusals::default() }
    }

    /// Whether a call may be made, or wait in the queue.
    fn check(&self, call: ApiCall, chatbot: &ChatbotId, now: Instant) -> Result<(), Failure> {
        self.refusals.check(call, chatbot, now)?;
        match &self.breaker {
            Some(breaker) if breaker.open_until > now => Err(throttled(call, breaker.open_until - now)),
            // a probe that takes long: who waits for it says so
            Some(breaker) if breaker.is_probing(now) && breaker.probe_wait(now).is_zero() => {
                Err(throttled(call, PROBE_RETRY_AFTER))
            }
            _ => Ok(()),
        }
    }

    /// Lets a call through, or says how long it waits. Where the last one was throttled or refused this makes it the one
    /// probe.
    fn admit(
        &mut self,
        call: ApiCall,
        priority: CallPriority,
        chatbot: &ChatbotId,
        now: Instant,
    ) -> Result<Result<(), Failure>, Duration> {
        if let Err(failure) = self.check(call, chatbot, now) {
            return Ok(Err(failure));
        }
        match &self.breaker {
            // its result is about to come, and decides for all that wait
            Some(breaker) if breaker.is_probing(now) => return Err(breaker.probe_wait(now)),
            _ => self.pace.take(priority == CallPriority::GoBack, now)?,
        }
        if let Some(breaker) = &mut self.breaker {
            breaker.probing_since = Some(now);
        }
        self.refusals.start_probe(call, chatbot, now);
        Ok(Ok(()))
    }

    /// Returns for how much longer calls are paused because of this result.
    fn record(
        &mut self,
        call: ApiCall,
        chatbot: &ChatbotId,
        result: Result<(), &Failure>,
        now: Instant,
    ) -> Option<Duration> {
        self.pace.end(now);
        match result.map_err(|failure| (failure.class, failure)) {
            Err((FailureClass::Throttled { retry_after }, _)) => {
                self.refusals.end_probe(call, chatbot, now);
                // not for a probe, which was one call after a pause, nor again for calls that were in flight with the first
                if self.breaker.is_none() {
                    self.pace.slow_down(now);
                }
                Some(self.open_breaker(retry_after, now))
            }
            Err((FailureClass::Forbidden { whole_key }, failure)) => {
                self.refusals.refuse(whole_key, chatbot, failure, now);
                None
            }
            // says nothing about throttle or key; the next caller probes
            Err((FailureClass::Unknown | FailureClass::Unsent, _)) => {
                self.refusals.end_probe(call, chatbot, now);
                if let Some(breaker) = &mut self.breaker {
                    breaker.probing_since = None;
                }
                None
            }
            // a refused request is a success here: the service has handled it
            Ok(()) | Err((FailureClass::Refused(_), _)) => {
                // while the breaker is open this was sent before it opened, and does not prove that the throttle is over
                self.breaker.take_if(|breaker| breaker.open_until <= now);
                self.pace.accept();
                self.refusals.forget(call, chatbot);
                None
            }
        }
    }

    fn open_breaker(&mut self, retry_after: Option<Duration>, now: Instant) -> Duration {
        let (consecutive_throttles, former) = match &self.breaker {
            // calls that were in flight when it opened report the same throttle again
            Some(breaker) if breaker.open_until > now => (breaker.consecutive_throttles, breaker.open_until),
            Some(breaker) => (breaker.consecutive_throttles + 1, now),
            None => (1, now),
        };
        // no time at all, or a date in the past, is no advice: taken literally it would end every pause
        let advised = retry_after.filter(|pause| !pause.is_zero());
        let pause = advised.unwrap_or_else(|| THROTTLE_BACKOFF.delay(consecutive_throttles));
        // never earlier: of answers to calls in flight the longest advice holds
        let open_until = (now + with_jitter(pause)).max(former);
        self.breaker = Some(Breaker { open_until, consecutive_throttles, probing_since: None });
        // only what is added, so that overlapping pauses are counted once
        open_until - former
    }

    fn is_breaker_open(&self, now: Instant) -> bool {
        self.breaker.as_ref().is_some_and(|breaker| breaker.open_until > now)
    }
}

impl Breaker {
    fn is_probing(&self, now: Instant) -> bool {
        self.probing_since.is_some_and(|since| now.duration_since(since) < PROBE_TIMEOUT)
    }

    /// How long others wait for the result of the probe before they give up.
    fn probe_wait(&self, now: Instant) -> Duration {
        let waited = self.probing_since.map_or(Duration::ZERO, |since| now.duration_since(since));
        PROBE_RETRY_AFTER.saturating_sub(waited)
    }
}

/// The failure of a call that is not sent while calls are paused: as the service would answer.
fn throttled(call: ApiCall, remaining: Duration) -> Failure {
    let class = FailureClass::Throttled { retry_after: Some(remaining) };
    let message = "the service throttles this API key, so all requests with it are paused";
    Failure::new(call, class, message).paused(call, remaining)
}

/// Up to a tenth longer, so that the keys of one account do not all come back at once; never shorter, because the
/// service may count strictly.
pub(super) fn with_jitter(pause: Duration) -> Duration {
    pause + pause.mul_f64(rand::rng().random::<f64>() / 10.0)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::FutureExt;

    use super::*;
    use crate::chatcaptain::Refusal;

    const THROTTLED: FailureClass = FailureClass::Throttled { retry_after: None };
    const KEY_REFUSED: FailureClass = FailureClass::Forbidden { whole_key: true };

    fn bot() -> ChatbotId {
        ChatbotId::parse("bot").unwrap()
    }

    fn failure(class: FailureClass) -> Failure {
        Failure::new(ApiCall::List, class, "in these words")
    }

    /// A limiter state and its clock.
    struct Key {
        state: State,
        now: Instant,
    }

    impl Key {
        fn new() -> Self {
            let many = NonZeroU32::new(1_000).unwrap();
            Self { state: State::new(Limits { rate: many, burst: many }), now: Instant::now() }
        }

        /// Returns for how much longer calls are paused.
        fn throttle(&mut self, retry_after: Option<u64>) -> Duration {
            let retry_after = retry_after.map(Duration::from_secs);
            self.fail(ApiCall::List, FailureClass::Throttled { retry_after }).unwrap()
        }

        fn fail(&mut self, call: ApiCall, class: FailureClass) -> Option<Duration> {
            self.state.record(call, &bot(), Err(&failure(class)), self.now)
        }

        fn succeed(&mut self, call: ApiCall) {
            assert_eq!(self.state.record(call, &bot(), Ok(()), self.now), None);
        }

        /// `None` where the call is let through, else the class of the failure in its way.
        fn admit(&mut self, call: ApiCall) -> Option<FailureClass> {
            let mut admitted = self.state.admit(call, call.into(), &bot(), self.now);
            if let Err(pace) = admitted {
                self.advance(pace + Duration::from_millis(1));
                admitted = self.state.admit(call, call.into(), &bot(), self.now);
            }
            let failure = admitted.expect("it waits for its pace alone").err()?;
            assert_eq!((failure.call, failure.was_not_sent()), (call, true));
            Some(failure.class)
        }

        /// How long the call waits in the queue.
        fn wait(&mut self, call: ApiCall) -> Option<Duration> {
            self.state.admit(call, call.into(), &bot(), self.now).err()
        }

        fn advance(&mut self, by: Duration) {
            self.now += by;
        }
    }

    /// So long, or up to a tenth longer.
    fn is_about(pause: Duration, seconds: u64) -> bool {
        let expected = Duration::from_secs(seconds);
        (expected..=expected.mul_f64(1.1)).contains(&pause)
    }

    #[test]
    fn breaker_opens_for_retry_after_and_for_every_call() {
        let mut key = Key::new();
        let pause = key.throttle(Some(7));
        assert!(is_about(pause, 7), "{pause:?}");
        for call in ApiCall::ALL {
            assert_eq!(key.admit(call), Some(FailureClass::Throttled { retry_after: Some(pause) }));
        }
        key.advance(pause);
        assert_eq!(key.admit(ApiCall::Deploy), None);
    }

    #[test]
    fn retry_after_of_zero_is_no_advice() {
        let mut key = Key::new();
        assert!(key.throttle(Some(0)) >= THROTTLE_BACKOFF.delay(1));
    }

    #[test]
    fn breaker_without_retry_after_opens_longer_each_time() {
        let mut key = Key::new();
        for seconds in [5, 10, 20, 40, 80, 160, 300, 300] {
            let pause = key.throttle(None);
            assert!(is_about(pause, seconds), "{pause:?} is not {seconds} s");
            key.advance(pause);
            assert_eq!(key.admit(ApiCall::List), None);
        }
    }

    #[test]
    fn open_breaker_never_closes_before_its_time() {
        let mut key = Key::new();
        key.throttle(Some(60));
        assert_eq!(key.throttle(Some(1)), Duration::ZERO);
        key.advance(Duration::from_secs(59));
        assert!(key.state.is_breaker_open(key.now));
    }

    #[test]
    fn throttles_of_calls_in_flight_count_once() {
        let mut key = Key::new();
        let first = key.throttle(None);
        let again: Duration = (0..20).map(|_| key.throttle(None)).sum();
        assert!(is_about(first + again, 5), "{:?}", first + again);
        key.advance(first + again);
        assert_eq!(key.admit(ApiCall::List), None);
        assert!(is_about(key.throttle(None), 10));
    }

    #[test]
    fn half_open_breaker_lets_one_probe_through() {
        let mut key = Key::new();
        let pause = key.throttle(Some(1));
        key.advance(pause);
        assert_eq!((key.admit(ApiCall::List), key.wait(ApiCall::List)), (None, Some(PROBE_RETRY_AFTER)));
        // no answer: the next one probes
        key.fail(ApiCall::List, FailureClass::Unknown);
        assert_eq!((key.admit(ApiCall::Deploy), key.wait(ApiCall::List)), (None, Some(PROBE_RETRY_AFTER)));
        // still none: the others say what they wait for
        key.advance(PROBE_RETRY_AFTER);
        let throttled = Some(FailureClass::Throttled { retry_after: Some(PROBE_RETRY_AFTER) });
        assert_eq!(key.admit(ApiCall::List), throttled);
        // never any result: the next one probes all the same
        key.advance(PROBE_TIMEOUT);
        assert_eq!((key.admit(ApiCall::List), key.wait(ApiCall::List)), (None, Some(PROBE_RETRY_AFTER)));
        key.succeed(ApiCall::List);
        assert_eq!(key.admit(ApiCall::List), None);
        assert!(key.wait(ApiCall::List).is_some_and(|wait| wait < PROBE_RETRY_AFTER), "its pace remains");
    }

    #[test]
    fn one_throttle_slows_a_key_down_once() {
        let mut key = Key::new();
        // of a call that was in flight with the first
        let pause = key.throttle(Some(1)) + key.throttle(Some(1));
        // also not for the probe
        key.advance(pause);
        assert_eq!(key.admit(ApiCall::List), None);
        let pause = key.throttle(Some(1));
        key.advance(pause);
        assert_eq!(key.admit(ApiCall::List), None);
        key.succeed(ApiCall::List);
        let wait = key.wait(ApiCall::List).expect("the pace of a key that was throttled");
        assert!(wait < Duration::from_millis(300), "{wait:?}");
    }

    #[test]
    fn success_closes_the_breaker_only_after_its_time() {
        let mut key = Key::new();
        let pause = key.throttle(None);
        key.succeed(ApiCall::List);
        assert!(key.state.is_breaker_open(key.now), "that call was sent before the throttle");
        key.advance(pause);
        // a refused request was taken up, too
        key.fail(ApiCall::List, FailureClass::Refused(Refusal::Invalid));
        assert!(is_about(key.throttle(None), 5), "the next throttle is the first again");
    }

    #[test]
    fn refused_key_is_probed_once_until_the_service_handles_a_call() {
        let mut key = Key::new();
        key.fail(ApiCall::List, KEY_REFUSED);
        assert_eq!(key.admit(ApiCall::Create), Some(KEY_REFUSED));
        key.advance(Duration::from_secs(6));
        assert_eq!((key.admit(ApiCall::List), key.admit(ApiCall::Create)), (None, Some(KEY_REFUSED)));
        key.throttle(Some(1));
        key.advance(Duration::from_secs(2));
        assert_eq!(key.admit(ApiCall::Create), None, "that probe said nothing about the key");
        key.fail(ApiCall::Create, FailureClass::Refused(Refusal::Invalid));
        assert_eq!((key.admit(ApiCall::List), key.admit(ApiCall::Deploy)), (None, None));
    }

    fn limiter(observer: CallObserver) -> CallLimiter {
        let one = NonZeroU32::new(1).unwrap();
        CallLimiter::new(Limits { rate: one, burst: one }, observer)
    }

    #[tokio::test]
    async fn throttle_pauses_waiting_calls_and_new_calls() {
        let pauses = Arc::new(AtomicU32::new(0));
        let counter = pauses.clone();
        let limiter = limiter(Arc::new(move |event| {
            if let CallEvent::Paused(pause) = event {
                assert!(is_about(pause, 5));
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }));
        let bot = bot();
        let acquire = |call: ApiCall| limiter.acquire(call, call.into(), &bot);
        acquire(ApiCall::List).await.unwrap();
        let (waiting, new) = tokio::join!(biased; acquire(ApiCall::Deploy), async {
            limiter.record(ApiCall::List, &bot, Err(&failure(THROTTLED)));
            acquire(ApiCall::Create).now_or_never().expect("does not wait in the queue for nothing")
        });
        for (call, result) in [(ApiCall::Deploy, waiting), (ApiCall::Create, new)] {
            let failure = result.unwrap_err();
            assert_eq!((failure.call, failure.was_not_sent()), (call, true));
        }
        assert!(limiter.is_breaker_open());
        assert_eq!(pauses.load(Ordering::Relaxed), 1);
    }
}
