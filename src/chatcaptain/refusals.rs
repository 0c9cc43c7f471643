//! What the service refuses to a key: everything (401), or one permission for one chatbot (403).
//!
//! Decides when a refused call may be tried again, by one probe at a time. The clock is passed in.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{
    error::{ApiCall, Failure},
    limits::{PROBE_RETRY_AFTER, PROBE_TIMEOUT, with_jitter},
    types::ChatbotId,
};
use crate::backoff::Backoff;

/// Between two probes. The user has to change something, so it is not worth many calls, but who has done so waits for it.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(5), Duration::from_mins(1));
/// Between two probes that are requested: many objects may be changed at once.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// A refusal that nothing was called for since is forgotten: its chatbot may be gone.
const IDLE_TIMEOUT: Duration = Duration::from_hours(1);

/// What the service refuses to one key.
#[derive(Default)]
pub struct Refusals(HashMap<Scope, Refusal>);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Scope {
    Key,
    Permission(&'static str, ChatbotId),
}

struct Refusal {
    failure: Failure,
    consecutive_refusals: u32,
    /// When the last probe was sent, or answered.
    last_probe: Instant,
    /// When the next probe may be sent.
    next_probe: Instant,
    /// While a probe is under way: until when other calls wait for its result.
    probing_until: Option<Instant>,
}

impl Refusals {
    /// The refusal that a call would meet, unless a probe is due.
    pub fn check(&self, call: ApiCall, chatbot: &ChatbotId, now: Instant) -> Result<(), Failure> {
        for scope in scopes(call, chatbot) {
            if let Some(refusal) = self.0.get(&scope)
                && let Some(pause) = refusal.pause(now)
            {
                return Err(refusal.failure.clone().paused(call, pause));
            }
        }
        Ok(())
    }

    /// A call is sent: where it was refused before, it is the one probe.
    pub fn start_probe(&mut self, call: ApiCall, chatbot: &ChatbotId, now: Instant) {
        self.update(call, chatbot, |refusal| {
            refusal.last_probe = now;
            refusal.probing_until = Some(now + PROBE_TIMEOUT);
        });
    }

    /// The call ended without an answer about the key: the next one may probe soon.
    pub fn end_probe(&mut self, call: ApiCall, chatbot: &ChatbotId, now: Instant) {
        self.update(call, chatbot, |refusal| {
            if refusal.probing_until.take().is_some() {
                refusal.next_probe = now + MIN_INTERVAL;
            }
        });
    }

    /// The service refused the call.
    pub fn refuse(&mut self, whole_key: bool, chatbot: &ChatbotId, failure: &Failure, now: Instant) {
        self.0.retain(|_, refusal| now.duration_since(refusal.last_probe) < IDLE_TIMEOUT);
        let scope = if whole_key { Scope::Key } else { permission(failure.call, chatbot) };
        let former = self.0.get(&scope).map_or(0, |refusal| refusal.consecutive_refusals);
        let consecutive_refusals = former.saturating_add(1);
        let refusal = Refusal {
            failure: failure.clone(),
            consecutive_refusals,
            last_probe: now,
            next_probe: now + with_jitter(BACKOFF.delay(consecutive_refusals)),
            probing_until: None,
        };
        self.0.insert(scope, refusal);
    }

    /// The service handled the call: the key is valid, and has this permission.
    pub fn forget(&mut self, call: ApiCall, chatbot: &ChatbotId) {
        for scope in scopes(call, chatbot) {
            self.0.remove(&scope);
        }
    }

    /// The user may have ended the cause, for this chatbot or (`None`) for all: the next call probes.
    pub fn retry_now(&mut self, chatbot: Option<&ChatbotId>) {
        let concerns = |scope: &Scope| match scope {
            Scope::Key => true,
            Scope::Permission(_, other) => chatbot.is_none_or(|chatbot| chatbot == other),
        };
        for (_, refusal) in self.0.iter_mut().filter(|(scope, _)| concerns(scope)) {
            refusal.consecutive_refusals = 0;
            refusal.next_probe = refusal.next_probe.min(refusal.last_probe + MIN_INTERVAL);
        }
    }

    fn update(&mut self, call: ApiCall, chatbot: &ChatbotId, change: impl Fn(&mut Refusal)) {
        for scope in scopes(call, chatbot) {
            if let Some(refusal) = self.0.get_mut(&scope) {
                change(refusal);
            }
        }
    }
}

impl Refusal {
    /// How long calls wait for the next probe, or for the result of this one.
    fn pause(&self, now: Instant) -> Option<Duration> {
        if self.probing_until.is_some_and(|until| until > now) {
            return Some(PROBE_RETRY_AFTER);
        }
        self.next_probe.checked_duration_since(now).filter(|pause| !pause.is_zero())
    }
}

fn permission(call: ApiCall, chatbot: &ChatbotId) -> Scope {
    Scope::Permission(call.permission(), chatbot.clone())
}

fn scopes(call: ApiCall, chatbot: &ChatbotId) -> [Scope; 2] {
    [Scope::Key, permission(call, chatbot)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chatcaptain::FailureClass;

    /// The refusals of one key and their clock.
    struct Key {
        refusals: Refusals,
        now: Instant,
    }

    fn bot(id: &str) -> ChatbotId {
        ChatbotId::parse(id).unwrap()
    }

    impl Key {
        fn new() -> Self {
            Self { refusals: Refusals::default(), now: Instant::now() }
        }

        fn refuse(&mut self, call: ApiCall, chatbot: &str, whole_key: bool) {
            let failure = Failure::new(call, FailureClass::Forbidden { whole_key }, "no");
            self.refusals.refuse(whole_key, &bot(chatbot), &failure, self.now);
        }

        fn pause(&self, call: ApiCall, chatbot: &str) -> Option<Duration> {
            let failure = self.refusals.check(call, &bot(chatbot), self.now).err()?;
            assert_eq!((failure.call, failure.sent, failure.was_not_sent()), (call, false, true));
            failure.paused_for
        }

        fn is_paused(&self, call: ApiCall, chatbot: &str) -> bool {
            self.pause(call, chatbot).is_some()
        }

        fn probe(&mut self, call: ApiCall, chatbot: &str) {
            assert!(!self.is_paused(call, chatbot));
            self.refusals.start_probe(call, &bot(chatbot), self.now);
        }

        fn advance(&mut self, seconds: f64) {
            self.now += Duration::from_secs_f64(seconds);
        }
    }

    #[test]
    fn permission_is_refused_for_one_chatbot() {
        let mut key = Key::new();
        key.refuse(ApiCall::Deploy, "a", false);
        assert!(key.is_paused(ApiCall::Deploy, "a"));
        assert!(key.is_paused(ApiCall::Rollback, "a"), "it needs the same permission");
        assert!(!key.is_paused(ApiCall::Deploy, "b"));
        assert!(!key.is_paused(ApiCall::List, "a"));
    }

    #[test]
    fn key_is_refused_for_all_chatbots() {
        let mut key = Key::new();
        key.refuse(ApiCall::List, "a", true);
        assert!(key.is_paused(ApiCall::Create, "b"));
        // an answer proves that the key is valid, and has the permission for this call alone
        key.refuse(ApiCall::Create, "b", false);
        key.refusals.forget(ApiCall::List, &bot("a"));
        assert!(!key.is_paused(ApiCall::List, "b"));
        assert!(key.is_paused(ApiCall::Create, "b"));
        key.refusals.forget(ApiCall::Create, &bot("b"));
        assert!(!key.is_paused(ApiCall::Create, "b"));
    }

    #[test]
    fn refusal_is_probed_ever_more_rarely_and_at_least_once_a_minute() {
        let mut key = Key::new();
        for seconds in [5.0, 10.0, 20.0, 40.0, 60.0, 60.0] {
            key.refuse(ApiCall::List, "a", false);
            key.advance(seconds - 0.1);
            assert!(key.is_paused(ApiCall::List, "a"), "{seconds} s");
            // the jitter
            key.advance(0.1 + seconds / 10.0);
            key.probe(ApiCall::List, "a");
            assert_eq!(key.pause(ApiCall::List, "a"), Some(PROBE_RETRY_AFTER), "one probe at a time");
        }
    }

    #[test]
    fn probe_without_an_answer_is_followed_by_another() {
        let mut key = Key::new();
        key.refuse(ApiCall::List, "a", true);
        key.advance(10.0);
        key.probe(ApiCall::List, "a");
        key.refusals.end_probe(ApiCall::List, &bot("a"), key.now);
        assert_eq!(key.pause(ApiCall::List, "a"), Some(MIN_INTERVAL));
        key.advance(1.0);
        key.probe(ApiCall::List, "a");
        // never any result
        key.advance(60.0);
        key.probe(ApiCall::List, "a");
    }

    #[test]
    fn user_ends_the_memory_of_a_refusal_at_most_once_a_second() {
        let mut key = Key::new();
        for whole_key in [false, true] {
            key.refuse(ApiCall::List, "a", whole_key);
        }
        key.refuse(ApiCall::List, "b", false);
        key.refusals.retry_now(Some(&bot("a")));
        assert_eq!(key.pause(ApiCall::List, "a"), Some(MIN_INTERVAL));
        key.advance(1.0);
        key.probe(ApiCall::List, "a");
        key.refusals.retry_now(Some(&bot("a")));
        assert!(key.is_paused(ApiCall::List, "a"), "the probe is under way");
        key.refusals.forget(ApiCall::Status, &bot("a"));
        assert!(key.is_paused(ApiCall::List, "b"), "another chatbot's");
        key.refusals.retry_now(None);
        assert!(!key.is_paused(ApiCall::List, "b"));
    }

    #[test]
    fn refusal_of_a_chatbot_that_is_gone_is_forgotten() {
        let mut key = Key::new();
        key.refuse(ApiCall::List, "gone", false);
        key.advance(3600.0);
        key.refuse(ApiCall::List, "a", false);
        assert_eq!(key.refusals.0.len(), 1);
    }
}
