//! One value that many callers need and one call fetches.
//!
//! A fetch waits until the limiter lets it through, and all who come until then share it. There are two lanes, so that who
//! needs the value soon does not wait behind who can wait; each takes what the other fetches.
//!
//! Does not know what it fetches. Never returns a value that is older than the caller asks for.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Mutex as AsyncMutex, watch},
    time::Instant as Clock,
};

use super::error::{Failure, FailureClass};
use crate::{backoff::Backoff, sync::lock};

/// After a fetch that failed. Short: a service that restarts is back within seconds.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));
/// After a fetch that was refused, which does not heal by itself within seconds.
const REFUSED_DELAY: Duration = Duration::from_secs(30);

/// How soon the value is needed.
#[derive(Clone, Copy, Debug)]
pub enum Lane {
    /// Something waits for it alone.
    Soon,
    /// Other calls are sent before it.
    Later,
}

/// A value, fetched when a caller needs a newer one.
pub struct CachedFetch<T> {
    latest: watch::Sender<Option<Fetched<T>>>,
    /// By lane: locked during a fetch. Dropped with the future of a caller who gives up, so the next one fetches.
    in_flight: [AsyncMutex<()>; 2],
    failed: Mutex<Option<FailedFetch>>,
    invalidated_at: Mutex<Option<Instant>>,
}

struct Fetched<T> {
    value: Arc<T>,
    /// When the fetch was sent: what happened later may be missing in the value.
    started_at: Instant,
}

/// The last fetch, where it failed.
struct FailedFetch {
    failure: Failure,
    consecutive_failures: u32,
    // both by tokio's clock, which tests can advance
    failed_at: Clock,
    retry_at: Clock,
}

impl<T> Default for CachedFetch<T> {
    fn default() -> Self {
        Self {
            latest: watch::channel(None).0,
            in_flight: <[AsyncMutex<()>; 2]>::default(),
            failed: Mutex::default(),
            invalidated_at: Mutex::default(),
        }
    }
}

impl<T> CachedFetch<T> {
    /// Makes every value whose fetch started before now too old, also that of a fetch under way.
    pub fn invalidate(&self) {
        *lock(&self.invalidated_at) = Some(Instant::now());
    }

    /// Ends the backoff of a failed fetch, as far as callers that come together still share it.
    pub fn retry_now(&self) {
        if let Some(failed) = lock(&self.failed).as_mut() {
            failed.retry_at = failed.retry_at.min(failed.failed_at + BACKOFF.initial);
        }
    }

    /// The value as of `since` or later, by a fetch where there is none: `admit` waits for the limiter, `send` makes the call. A
    /// caller during a fetch shares its value, if it was sent late enough. A failure is returned to every caller until its
    /// backoff is over.
    ///
    /// # Errors
    /// The failure of the fetch, or of an earlier one that is not repeated yet.
    pub async fn get<A, F>(
        &self,
        since: Instant,
        lane: Lane,
        admit: impl FnOnce() -> A,
        send: impl FnOnce() -> F,
    ) -> Result<Arc<T>, Failure>
    where
        A: Future<Output = Result<(), Failure>>,
        F: Future<Output = Result<T, Failure>>,
    {
        let since = lock(&self.invalidated_at).map_or(since, |at| at.max(since));
        let _locked = tokio::select! {
            biased;
            // not by the lock alone: callers in front of us may need a newer value, and a fetch for it
            value = self.fetched(since) => return Ok(value),
            locked = self.in_flight[lane as usize].lock() => locked,
        };
        // also with the lock: another thread may finish its fetch between the two polls above
        if let Some(value) = fresh(self.latest.borrow().as_ref(), since) {
            return Ok(value);
        }
        if let Some(failure) = self.recent_failure() {
            return Err(failure);
        }
        tokio::select! {
            biased;
            // the other lane was faster
            value = self.fetched(since) => return Ok(value),
            admitted = admit() => admitted.map_err(|failure| self.record_failure(failure))?,
        }
        self.fetch(send).await
    }

    /// Waits until somebody has fetched such a value.
    async fn fetched(&self, since: Instant) -> Arc<T> {
        let mut latest = self.latest.subscribe();
        loop {
            if let Some(value) = fresh(latest.borrow_and_update().as_ref(), since) {
                return value;
            }
            if latest.changed().await.is_err() {
                // cannot be: the sender is ours
                std::future::pending::<()>().await;
            }
        }
    }

    fn recent_failure(&self) -> Option<Failure> {
        let failed = lock(&self.failed);
        failed.as_ref().filter(|failed| failed.retry_at > Clock::now()).map(|failed| failed.failure.clone())
    }

    /// Fetches and remembers the result.
    async fn fetch<F: Future<Output = Result<T, Failure>>>(
        &self,
        send: impl FnOnce() -> F,
    ) -> Result<Arc<T>, Failure> {
        // before the request: what happens during it may be missing in the answer
        let started_at = Instant::now();
        let value = Arc::new(send().await.map_err(|failure| self.record_failure(failure))?);
        *lock(&self.failed) = None;
        self.latest.send_if_modified(|latest| {
            // the other lane may have sent its fetch later, and got its answer sooner
            let is_newest = latest.as_ref().is_none_or(|latest| latest.started_at <= started_at);
            if is_newest {
                *latest = Some(Fetched { value: value.clone(), started_at });
            }
            is_newest
        });
        Ok(value)
    }

    fn record_failure(&self, failure: Failure) -> Failure {
        let mut failed = lock(&self.failed);
        let consecutive_failures = failed.as_ref().map_or(0, |failed| failed.consecutive_failures) + 1;
        let failed_at = Clock::now();
        let retry_at = failed_at + retry_delay(failure.class, consecutive_failures);
        *failed = Some(FailedFetch { failure: failure.clone(), consecutive_failures, failed_at, retry_at });
        failure
    }
}

fn fresh<T>(latest: Option<&Fetched<T>>, since: Instant) -> Option<Arc<T>> {
    latest.filter(|latest| latest.started_at >= since).map(|latest| latest.value.clone())
}

/// How long a fetch that failed is not repeated.
fn retry_delay(class: FailureClass, consecutive_failures: u32) -> Duration {
    match class {
        // the limiter knows when these are over, and returns the failure until then
        FailureClass::Throttled { .. } | FailureClass::Forbidden { .. } => Duration::ZERO,
        FailureClass::Refused(_) => REFUSED_DELAY,
        FailureClass::Unsent | FailureClass::Unknown => BACKOFF.delay(consecutive_failures),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::{
        sync::oneshot,
        time::{advance, timeout},
    };

    use super::*;
    use crate::chatcaptain::{ApiCall, Refusal};

    /// Fetches the number of the fetch.
    #[derive(Default)]
    struct Counter {
        cache: CachedFetch<u32>,
        fetches: AtomicU32,
    }

    impl Counter {
        fn fetches(&self) -> u32 {
            self.fetches.load(Ordering::Relaxed)
        }

        async fn get(&self, since: Instant) -> Result<u32, Failure> {
            self.get_after(since, async { Ok(()) }).await
        }

        async fn fail(&self, class: FailureClass) -> Result<u32, Failure> {
            let failure = Failure::new(ApiCall::List, class, "failed");
            self.get_after(Instant::now(), async { Err(failure) }).await
        }

        /// Where it fetches, this is awaited first.
        async fn get_after(
            &self,
            since: Instant,
            outcome: impl Future<Output = Result<(), Failure>>,
        ) -> Result<u32, Failure> {
            self.get_admitted(since, Lane::Soon, async { Ok(()) }, outcome).await
        }

        /// The same with a wait for the limiter.
        async fn get_admitted(
            &self,
            since: Instant,
            lane: Lane,
            admit: impl Future<Output = Result<(), Failure>>,
            outcome: impl Future<Output = Result<(), Failure>>,
        ) -> Result<u32, Failure> {
            let fetch = || async {
                let number = self.fetches.fetch_add(1, Ordering::Relaxed) + 1;
                outcome.await.map(|()| number)
            };
            self.cache.get(since, lane, || admit, fetch).await.map(|number| *number)
        }
    }

    async fn wait(answer: oneshot::Receiver<()>) -> Result<(), Failure> {
        answer.await.unwrap();
        Ok(())
    }

    #[tokio::test]
    async fn callers_during_a_fetch_share_it() {
        let (counter, since) = (Counter::default(), Instant::now());
        let (service, answer) = oneshot::channel();
        let (first, second, ()) = tokio::join!(
            biased;
            counter.get_after(since, wait(answer)),
            counter.get(since),
            async { service.send(()).unwrap() },
        );
        assert_eq!((first.unwrap(), second.unwrap(), counter.fetches()), (1, 1, 1));
    }

    #[tokio::test]
    async fn callers_share_a_fetch_that_waits_for_the_limiter() {
        let (counter, since) = (Counter::default(), Instant::now());
        let (limiter, admitted) = oneshot::channel();
        let (first, second, ()) = tokio::join!(
            biased;
            counter.get_admitted(since, Lane::Later, wait(admitted), async { Ok(()) }),
            async { counter.get_admitted(Instant::now(), Lane::Later, async { Ok(()) }, async { Ok(()) }).await },
            async { limiter.send(()).unwrap() },
        );
        assert_eq!((first.unwrap(), second.unwrap(), counter.fetches()), (1, 1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_needs_it_soon_does_not_wait_behind_others_who_take_it_too() {
        let (counter, since) = (Counter::default(), Instant::now());
        let later = counter.get_admitted(since, Lane::Later, std::future::pending(), async { Ok(()) });
        let (later, soon) = timeout(Duration::from_secs(1), async {
            tokio::join!(biased; later, async { counter.get(Instant::now()).await })
        })
        .await
        .expect("neither waits for ever");
        assert_eq!((later.unwrap(), soon.unwrap(), counter.fetches()), (1, 1, 1));
    }

    /// The third caller needs no more than the first and does not wait for what the second needs.
    #[tokio::test(start_paused = true)]
    async fn newer_value_than_the_fetch_under_way_is_another_fetch() {
        let (counter, since) = (Counter::default(), Instant::now());
        let (service, first_answer) = oneshot::channel();
        let (slow_service, second_answer) = oneshot::channel();
        let callers = async {
            tokio::join!(
                biased;
                counter.get_after(since, wait(first_answer)),
                async { counter.get_after(Instant::now(), wait(second_answer)).await },
                async {
                    service.send(()).unwrap();
                    let value = counter.get(since).await;
                    slow_service.send(()).unwrap();
                    value
                },
            )
        };
        let (first, second, third) =
            timeout(Duration::from_secs(1), callers).await.expect("no caller waits for ever");
        assert_eq!((first.unwrap(), second.unwrap(), third.unwrap(), counter.fetches()), (1, 2, 1, 2));
    }

    /// The caller that fetches may be cancelled: the callers that wait for it do not wait for ever.
    #[tokio::test(start_paused = true)]
    async fn next_caller_fetches_where_the_first_gives_up() {
        let (counter, since) = (Counter::default(), Instant::now());
        let first = timeout(Duration::from_secs(1), counter.get_after(since, std::future::pending()));
        let second = timeout(Duration::from_secs(2), counter.get(since));
        let (first, second) = tokio::join!(biased; first, second);
        assert!(first.is_err());
        assert_eq!(second.unwrap(), Ok(2));
    }

    #[tokio::test]
    async fn value_is_kept_until_a_newer_one_is_needed() {
        let (counter, since) = (Counter::default(), Instant::now());
        assert_eq!(counter.get(since).await, Ok(1));
        assert_eq!(counter.get(since).await, Ok(1));
        assert_eq!(counter.get(Instant::now()).await, Ok(2));
        assert_eq!(counter.get(since).await, Ok(2), "the newer one serves the older need");
    }

    #[tokio::test]
    async fn invalidated_value_is_fetched_again() {
        let (counter, since) = (Counter::default(), Instant::now());
        assert_eq!(counter.get(since).await, Ok(1));
        counter.cache.invalidate();
        assert_eq!(counter.get(since).await, Ok(2));
        assert_eq!(counter.get(since).await, Ok(2));
    }

    /// A write ends while a list is under way: that list may not show it.
    #[tokio::test]
    async fn value_of_a_fetch_under_way_is_invalidated_too() {
        let (counter, since) = (Counter::default(), Instant::now());
        let invalidate = async {
            counter.cache.invalidate();
            Ok(())
        };
        assert_eq!(counter.get_after(since, invalidate).await, Ok(1), "asked for before the write");
        assert_eq!(counter.get(since).await, Ok(2));
    }

    #[tokio::test(start_paused = true)]
    async fn failure_is_remembered_and_backs_off() {
        let counter = Counter::default();
        for seconds in [1, 2, 4] {
            let fetches = counter.fetches();
            assert!(counter.fail(FailureClass::Unknown).await.is_err());
            advance(Duration::from_millis(seconds * 1000 - 1)).await;
            assert!(counter.get(Instant::now()).await.is_err(), "still the failure");
            assert_eq!(counter.fetches(), fetches + 1);
            advance(Duration::from_millis(1)).await;
        }
        assert_eq!(counter.get(Instant::now()).await, Ok(4));
        assert!(counter.fail(FailureClass::Unknown).await.is_err());
        advance(BACKOFF.initial).await;
        assert_eq!(counter.get(Instant::now()).await, Ok(6), "a success ends the backoff");
    }

    #[tokio::test(start_paused = true)]
    async fn backoff_ends_on_request_but_not_within_a_second() {
        let counter = Counter::default();
        assert!(counter.fail(FailureClass::Refused(Refusal::NotFound)).await.is_err());
        counter.cache.retry_now();
        assert!(counter.get(Instant::now()).await.is_err(), "callers that come together share it");
        advance(BACKOFF.initial).await;
        assert_eq!(counter.get(Instant::now()).await, Ok(2));
    }

    #[tokio::test(start_paused = true)]
    async fn failed_fetch_keeps_the_former_value_for_callers_that_accept_it() {
        let (counter, since) = (Counter::default(), Instant::now());
        assert_eq!(counter.get(since).await, Ok(1));
        assert!(counter.fail(FailureClass::Unknown).await.is_err());
        assert_eq!(counter.get(since).await, Ok(1));
    }

    #[test]
    fn retry_delay_depends_on_the_class() {
        let refused = FailureClass::Refused(Refusal::NotFound);
        assert_eq!(retry_delay(refused, 1), REFUSED_DELAY);
        assert_eq!(retry_delay(refused, 9), REFUSED_DELAY);
        assert_eq!(retry_delay(FailureClass::Unsent, 3), Duration::from_secs(4));
        assert_eq!(retry_delay(FailureClass::Unknown, 9), Duration::from_mins(1));
        for class in
            [FailureClass::Throttled { retry_after: None }, FailureClass::Forbidden { whole_key: true }]
        {
            assert_eq!(retry_delay(class, 9), Duration::ZERO, "{class:?}");
        }
    }
}
