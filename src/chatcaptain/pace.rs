//! How fast one key may call: a token bucket whose rate follows what the service accepts.
//!
//! **Down at once.** A throttle shows that the flags allow more than the service does. From then on the calls are spaced
//! evenly, with less than half of the rate, because the limit can be anywhere below. Where some calls in a row were accepted
//! at a rate before it was throttled, the limit is near, and a little less is enough.
//!
//! **Up slowly.** Each throttle costs the whole pause that the service asks for, so a rate is raised only after it was
//! accepted for a minute, and after twice as long for each further throttle.
//!
//! **Remembered**, also while nothing is called, until the flags' rate is reached or for `FORGET_AFTER`.
//!
//! A call that is late on its way shortens the time until the next one, where the service counts. How late it was, its answer
//! shows: by so much more than the shortest time that an answer has taken the next call waits longer.
//!
//! A key that is new calls few at once, and more with each answer: of a burst into a throttle every call would be refused.
//!
//! Counts and computes only; the clock is passed in.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::limits::Limits;

/// What is left of a rate of which nothing is known but that it is too high.
// less than half: with half of 10 per second a limit of 5 would be met by every delay on the way
const UNPROVEN_FACTOR: f64 = 0.47;
/// What is left of a rate at which some calls were accepted before, and of one at which many were.
const NEAR_FACTOR: f64 = 0.7;
const NEAR_CALLS: u32 = 3;
const PROVEN_FACTOR: f64 = 0.85;
const PROVEN_CALLS: u32 = 10;
/// The lowest rate, per second: a service that throttles whatever is called is asked by its pauses alone.
const MIN_RATE: f64 = 0.2;
/// A key that is busy is throttled for its rate; below so many calls in the last second it may have been the burst.
const BUSY: f64 = 10.0;
/// How long a rate is accepted before it is raised: at first, and at most.
const HOLD: Duration = Duration::from_mins(1);
const MAX_HOLD: Duration = Duration::from_mins(16);
/// After that the rate rises by this factor, each time it was accepted for so long again.
const RISE: f64 = 1.05;
const RISE_EVERY: Duration = Duration::from_secs(10);
/// A throttle so long ago says nothing about today's limit.
const FORGET_AFTER: Duration = Duration::from_mins(30);
/// With each answer the shortest time of one may be so much longer.
const LATENCY_RISE: f64 = 1.02;
/// So many calls of a new key may be without an answer.
const FIRST_WINDOW: usize = 2;
/// A call without an answer counts for so long: a service that is slow, or hangs, must not stop the key.
const UNANSWERED_FOR: Duration = Duration::from_secs(1);

/// The pace of one key.
pub struct Pace {
    flags: Limits,
    /// Calls per second.
    rate: f64,
    tokens: f64,
    filled_at: Option<Instant>,
    /// Set while the rate is below the flags'.
    throttle: Option<Throttle>,
    /// How many calls may be without an answer; no bound once it exceeds the flags' burst.
    window: usize,
    /// When the calls without an answer were sent.
    unanswered: VecDeque<Instant>,
    /// When the calls of the last second were sent.
    sent: VecDeque<Instant>,
    /// The shortest time from a call to its answer, also from before a throttle: the first call after a pause, which may need
    /// a new connection, is late itself.
    latency: Option<Duration>,
}

/// What is remembered of the last throttle.
struct Throttle {
    at: Instant,
    /// Calls that were accepted since.
    calls: u32,
    /// For how long the rate was accepted, counted by the calls that were.
    accepted: Duration,
    hold: Duration,
}

impl Pace {
    pub fn new(flags: Limits) -> Self {
        Self {
            rate: f64::from(flags.rate.get()),
            tokens: f64::from(flags.burst.get()),
            flags,
            filled_at: None,
            throttle: None,
            window: FIRST_WINDOW,
            unanswered: VecDeque::new(),
            sent: VecDeque::new(),
            latency: None,
        }
    }

    /// Takes the right to send a call, or says how long to wait for it. An urgent call waits for no answer.
    pub fn take(&mut self, is_urgent: bool, now: Instant) -> Result<(), Duration> {
        if self.throttle.as_ref().is_some_and(|throttle| now.duration_since(throttle.at) >= FORGET_AFTER) {
            self.reset();
        }
        forget_before(&mut self.unanswered, now, UNANSWERED_FOR);
        if !is_urgent
            && self.window <= self.burst()
            && self.unanswered.len() >= self.window
            && let Some(oldest) = self.unanswered.front()
        {
            return Err(UNANSWERED_FOR.saturating_sub(now.duration_since(*oldest)));
        }
        self.fill(now);
        if self.tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - self.tokens) / self.rate));
        }
        self.tokens -= 1.0;
        forget_before(&mut self.sent, now, Duration::from_secs(1));
        self.sent.push_back(now);
        self.unanswered.push_back(now);
        Ok(())
    }

    /// A call has ended, however it did.
    pub fn end(&mut self, now: Instant) {
        // which one does not matter where several are under way: only how many there are
        let Some(sent) = self.unanswered.pop_front() else { return };
        let took = now.duration_since(sent);
        // rises slowly: a service may become slower for good
        let shortest = self.latency.map_or(took, |latency| latency.mul_f64(LATENCY_RISE).min(took));
        self.latency = Some(shortest);
        if self.throttle.is_none() {
            return;
        }
        // half a call at most: a service that is slow at times is not late
        let late = (took.saturating_sub(shortest).as_secs_f64() * self.rate).min(0.5);
        self.fill(now);
        self.tokens -= late;
    }

    /// The service has handled a call.
    pub fn accept(&mut self) {
        self.window = self.window.saturating_add(1);
        let Some(throttle) = &mut self.throttle else { return };
        throttle.calls = throttle.calls.saturating_add(1);
        throttle.accepted += Duration::from_secs_f64(1.0 / self.rate);
        if throttle.accepted >= throttle.hold {
            throttle.accepted -= RISE_EVERY;
            self.rate *= RISE;
        }
        if self.rate >= f64::from(self.flags.rate.get()) {
            self.reset();
        }
    }

    /// The service throttles calls that were sent at this pace.
    pub fn slow_down(&mut self, now: Instant) {
        forget_before(&mut self.sent, now, Duration::from_secs(1));
        #[allow(clippy::cast_precision_loss, reason = "calls of one second")]
        let busy = (self.sent.len() as f64).max(BUSY);
        let former = self.throttle.take();
        let factor = match &former {
            Some(former) if former.calls >= PROVEN_CALLS => PROVEN_FACTOR,
            Some(former) if former.calls >= NEAR_CALLS => NEAR_FACTOR,
            _ => UNPROVEN_FACTOR,
        };
        let hold = former.map_or(HOLD, |former| (former.hold * 2).min(MAX_HOLD));
        self.rate = (self.rate.min(busy) * factor).max(MIN_RATE);
        self.window = 1;
        self.throttle = Some(Throttle { at: now, calls: 0, accepted: Duration::ZERO, hold });
    }

    /// As the flags say.
    fn reset(&mut self) {
        self.throttle = None;
        self.rate = f64::from(self.flags.rate.get());
    }

    fn fill(&mut self, now: Instant) {
        let burst = if self.throttle.is_some() { 1.0 } else { f64::from(self.flags.burst.get()) };
        let passed = self.filled_at.map_or(Duration::ZERO, |at| now.duration_since(at));
        self.tokens = (self.tokens + passed.as_secs_f64() * self.rate).min(burst);
        self.filled_at = Some(now);
    }

    fn burst(&self) -> usize {
        usize::try_from(self.flags.burst.get()).unwrap_or(usize::MAX)
    }
}

fn forget_before(times: &mut VecDeque<Instant>, now: Instant, age: Duration) {
    while times.front().is_some_and(|time| now.duration_since(*time) >= age) {
        times.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    /// A key that calls as often as it may, of a service that accepts `limit` calls a second.
    struct Key {
        pace: Pace,
        now: Instant,
        limit: f64,
        tokens: f64,
        accepted: u32,
        throttled: u32,
    }

    impl Key {
        fn new(rate: u32, burst: u32, limit: f64) -> Self {
            let [rate, burst] = [rate, burst].map(|number| NonZeroU32::new(number).unwrap());
            let pace = Pace::new(Limits { rate, burst });
            Self { pace, now: Instant::now(), limit, tokens: 1.0, accepted: 0, throttled: 0 }
        }

        fn advance(&mut self, by: Duration) {
            self.now += by;
            self.tokens = (self.tokens + by.as_secs_f64() * self.limit).min(1.0);
        }

        /// Each call is answered at once; after a throttle nothing is called for `RETRY_AFTER`.
        fn run(&mut self, time: Duration) {
            const RETRY_AFTER: Duration = Duration::from_secs(5);
            let end = self.now + time;
            while self.now < end {
                if let Err(wait) = self.pace.take(false, self.now) {
                    self.advance(wait.max(Duration::from_micros(1)));
                    continue;
                }
                self.pace.end(self.now);
                if self.limit.is_infinite() || self.tokens >= 1.0 {
                    self.tokens -= 1.0;
                    self.accepted += 1;
                    self.pace.accept();
                } else {
                    self.throttled += 1;
                    self.pace.slow_down(self.now);
                    self.advance(RETRY_AFTER);
                }
            }
        }

        fn take(&mut self) -> bool {
            self.pace.take(false, self.now).is_ok()
        }
    }

    #[test]
    fn a_service_without_a_limit_is_called_at_the_rate_of_the_flags() {
        let mut key = Key::new(10, 20, f64::INFINITY);
        key.advance(Duration::from_secs(1));
        key.run(Duration::from_secs(10));
        assert_eq!(key.throttled, 0);
        assert!((118..=121).contains(&key.accepted), "the burst, and ten a second: {}", key.accepted);
    }

    #[test]
    fn a_limit_is_used_and_rarely_met() {
        for (rate, share) in [(10, 0.83), (20, 0.7), (1000, 0.8)] {
            let mut key = Key::new(rate, 20, 5.0);
            key.run(Duration::from_mins(1));
            let used = f64::from(key.accepted) / 300.0;
            assert!(used >= share && key.throttled <= 2, "{rate}: {used}, {} throttled", key.throttled);
            key.run(Duration::from_hours(1));
            let used = f64::from(key.accepted) / (61.0 * 300.0);
            assert!(used >= 0.85, "{rate}: {used}");
            assert!(f64::from(key.throttled) < f64::from(key.accepted) / 100.0, "{rate}: {}", key.throttled);
        }
    }

    #[test]
    fn calls_are_spaced_evenly_after_a_throttle() {
        let mut key = Key::new(10, 20, 5.0);
        key.pace.slow_down(key.now);
        // however long nothing was called
        key.advance(Duration::from_mins(5));
        assert!(key.take() && !key.take());
        key.pace.end(key.now);
        key.advance(Duration::from_millis(200));
        assert!(!key.take());
        key.advance(Duration::from_millis(20));
        assert!(key.take());
    }

    #[test]
    fn the_call_after_one_that_was_late_waits_longer() {
        let mut key = Key::new(10, 20, 5.0);
        key.pace.slow_down(key.now);
        let next = |key: &mut Key, latency| {
            assert!(key.take());
            key.advance(Duration::from_millis(latency));
            key.pace.end(key.now);
            let wait = key.pace.take(false, key.now).expect_err("it is spaced");
            key.advance(wait + Duration::from_millis(1));
            wait.as_millis() + u128::from(latency)
        };
        key.advance(Duration::from_secs(5));
        assert_eq!(next(&mut key, 20), 212);
        assert_eq!(next(&mut key, 50), 242);
        assert_eq!(next(&mut key, 20), 212);
        assert_eq!(next(&mut key, 200), 319, "half a call at most");
        // with half of the rate again
        key.pace.slow_down(key.now);
        key.advance(Duration::from_secs(5));
        let spaced = next(&mut key, 60);
        assert!((490..495).contains(&spaced), "also the first after a pause: {spaced}");
    }

    #[test]
    fn a_throttle_is_remembered_while_nothing_is_called_and_then_forgotten() {
        let mut key = Key::new(10, 20, 5.0);
        key.pace.slow_down(key.now);
        key.advance(FORGET_AFTER / 2);
        assert!(key.take());
        assert!(key.pace.rate < 5.0);
        key.advance(FORGET_AFTER / 2);
        key.pace.end(key.now);
        assert!(key.take());
        assert!((key.pace.rate - 10.0).abs() < f64::EPSILON);
    }

    #[test]
    fn rate_never_falls_to_nothing() {
        let mut key = Key::new(10, 20, 0.0);
        for _ in 0..20 {
            key.pace.slow_down(key.now);
        }
        assert!((key.pace.rate - MIN_RATE).abs() < f64::EPSILON);
    }

    #[test]
    fn a_new_key_calls_more_at_once_with_each_answer() {
        let mut key = Key::new(10, 20, f64::INFINITY);
        let at_once = |key: &mut Key| (0..50).filter(|_| key.take()).count();
        assert_eq!(at_once(&mut key), 2);
        for _ in 0..2 {
            key.pace.end(key.now);
            key.pace.accept();
        }
        assert_eq!(at_once(&mut key), 4);
        assert!(key.pace.take(true, key.now).is_ok(), "what is urgent waits for no answer");
        // a service that hangs
        key.advance(UNANSWERED_FOR);
        assert_eq!(at_once(&mut key), 4);
    }
}
