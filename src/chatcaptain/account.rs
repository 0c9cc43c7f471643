//! One key's view of the service: every call goes through its gate, and what many objects ask for is
//! fetched once.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{Mutex as AsyncMutex, watch};

use super::{
    client::{ApiClient, NewVersion},
    error::{ApiCall, Failure, FailureClass},
    inventory::{Deployments, Inventory},
    limits::{CallEvent, CallLimiter, CallObserver, Limits},
    types::{ApiKey, ChatbotId, VersionId},
};

/// A key that nobody has used for this long is forgotten.
const IDLE_TIMEOUT: Duration = Duration::from_hours(1);
/// Pauses after a list or status that failed, per chatbot.
const INITIAL_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_mins(1);
/// The environment of a create that deploys nothing.
const NO_DEPLOYMENT: &str = "dev";
/// How long a version that was called for counts as on its way.
const ROLLOUT_PENDING: Duration = Duration::from_mins(5);
/// How long a refusal of a list or status is believed, per chatbot.
const REFUSED_BACKOFF: Duration = Duration::from_secs(30);

/// What all accounts share.
#[derive(Clone)]
pub struct AccountsConfig {
    /// Where the service is.
    pub client: ApiClient,
    /// How fast each key may call.
    pub limits: Limits,
    /// Told of every call.
    pub observer: CallObserver,
}

/// All keys in use.
pub struct Accounts {
    settings: AccountsConfig,
    by_key: Mutex<HashMap<ApiKey, (Arc<Account>, Instant)>>,
}

impl Accounts {
    /// No account yet.
    #[must_use]
    pub fn new(settings: AccountsConfig) -> Self {
        Self { settings, by_key: Mutex::default() }
    }

    /// The account of a key.
    #[must_use]
    pub fn get(&self, key: &ApiKey) -> Arc<Account> {
        let now = Instant::now();
        let mut by_key = lock(&self.by_key);
        if let Some((account, used)) = by_key.get_mut(key) {
            *used = now;
            return account.clone();
        }
        by_key.retain(|_, (_, used)| now.duration_since(*used) < IDLE_TIMEOUT);
        let account = Arc::new(Account {
            service: self.settings.client.clone(),
            key: key.clone(),
            limiter: CallLimiter::new(self.settings.limits, self.settings.observer.clone()),
            observer: self.settings.observer.clone(),
            chatbots: Mutex::default(),
        });
        by_key.insert(key.clone(), (account.clone(), now));
        account
    }

    /// How many keys pause now because the service asked to slow down.
    #[must_use]
    pub fn open_breakers(&self) -> usize {
        lock(&self.by_key).values().filter(|(account, _)| account.limiter.is_breaker_open()).count()
    }
}

/// One key's view of the service.
pub struct Account {
    service: ApiClient,
    key: ApiKey,
    limiter: CallLimiter,
    observer: CallObserver,
    chatbots: Mutex<HashMap<ChatbotId, Arc<ChatbotState>>>,
}

/// What is remembered of one chatbot.
#[derive(Default)]
struct ChatbotState {
    list: CachedFetch<Inventory>,
    status: CachedFetch<Deployments>,
    authoritative: Mutex<bool>,
    /// By environment: the version that was called for last and has not been seen there yet.
    rollouts: Mutex<HashMap<Box<str>, (VersionId, Instant)>>,
    /// Deletes and when they ended; `None` while they are under way.
    deletions: Mutex<HashMap<VersionId, Option<Instant>>>,
    /// Of each bot one call at a time waits for the key's budget: so they share it, however busy one of them is.
    queue: AsyncMutex<()>,
}

impl Account {
    /// The versions of a chatbot as of `since` or later. One call serves all who ask meanwhile.
    ///
    /// # Errors
    /// The failure of the call, or of an earlier one that is not repeated yet.
    pub async fn inventory(&self, bot: &ChatbotId, since: Instant) -> Result<Arc<Inventory>, Failure> {
        let known = self.chatbot(bot);
        let fetch = || self.call(ApiCall::List, &known, self.service.list(&self.key, bot));
        known.list.get(since, fetch).await.map(|(list, _)| list)
    }

    /// What is live for a chatbot as of `since` or later.
    ///
    /// # Errors
    /// As `inventory`.
    pub async fn deployments(&self, bot: &ChatbotId, since: Instant) -> Result<Arc<Deployments>, Failure> {
        let known = self.chatbot(bot);
        let fetch = || self.call(ApiCall::Status, &known, self.service.status(&self.key, bot));
        known.status.get(since, fetch).await.map(|(status, _)| status)
    }

    /// Takes note that this key lists a version known to be ours: from now on it is believed when it shows
    /// one no more. A key of another account shows an empty or foreign list, which proves nothing.
    pub fn mark_authoritative(&self, bot: &ChatbotId) {
        *lock(&self.chatbot(bot).authoritative) = true;
    }

    /// Whether what this key does not list is believed to be gone.
    #[must_use]
    pub fn is_authoritative(&self, bot: &ChatbotId) -> bool {
        *lock(&self.chatbot(bot).authoritative)
    }

    /// Creates a version.
    ///
    /// # Errors
    /// The class of the failure.
    pub async fn create(&self, bot: &ChatbotId, new: &NewVersion) -> Result<Option<VersionId>, Failure> {
        let request = self.service.create(&self.key, bot, new);
        if new.environment == NO_DEPLOYMENT {
            // it only adds to the list, and whoever waits for that asks for a newer one: a hundred creates
            // do not make everybody else look a hundred times
            return self.call(ApiCall::Create, &self.chatbot(bot), request).await;
        }
        let result = self.call_and_invalidate(ApiCall::Create, bot, request).await;
        if let Ok(Some(id)) = &result {
            let coming = (id.clone(), Instant::now());
            lock(&self.chatbot(bot).rollouts).insert(new.environment.into(), coming);
        }
        result
    }

    /// Deletes a version.
    ///
    /// # Errors
    /// The class of the failure.
    pub async fn delete(&self, bot: &ChatbotId, version: &VersionId) -> Result<(), Failure> {
        let known = self.chatbot(bot);
        lock(&known.deletions).retain(|_, ended| ended.is_none_or(|at| at.elapsed() < IDLE_TIMEOUT));
        let call =
            self.call_and_invalidate(ApiCall::Delete, bot, self.service.delete(&self.key, bot, version));
        track_call(&known.deletions, version.clone(), None, || Some(Instant::now()), call).await
    }

    /// Whether a delete of a version is under way, or ended within `grace` and may still take effect. Only what
    /// this process has called for is known.
    #[must_use]
    pub fn is_delete_pending(&self, bot: &ChatbotId, version: &VersionId, grace: Duration) -> bool {
        let known = self.chatbot(bot);
        let deletions = lock(&known.deletions);
        deletions.get(version).is_some_and(|ended| ended.is_none_or(|at| at.elapsed() <= grace))
    }

    /// Deploys a version.
    ///
    /// # Errors
    /// The class of the failure.
    pub async fn deploy(
        &self,
        bot: &ChatbotId,
        version: &VersionId,
        environment: &str,
    ) -> Result<(), Failure> {
        let request = self.service.deploy(&self.key, bot, version, environment);
        self.track_rollout(bot, version, environment, self.call_and_invalidate(ApiCall::Deploy, bot, request))
            .await
    }

    /// Rolls back to a version.
    ///
    /// # Errors
    /// The class of the failure.
    pub async fn rollback(
        &self,
        bot: &ChatbotId,
        version: &VersionId,
        environment: &str,
        body: &serde_json::Value,
    ) -> Result<(), Failure> {
        let request = self.service.rollback(&self.key, bot, version, body);
        self.track_rollout(
            bot,
            version,
            environment,
            self.call_and_invalidate(ApiCall::Rollback, bot, request),
        )
        .await
    }

    /// Whether a version was called for lately and has not been seen where it should run: it may be live in a
    /// moment. Only what this process has called for is known.
    #[must_use]
    pub fn is_rollout_pending(&self, bot: &ChatbotId, version: &str) -> bool {
        let known = self.chatbot(bot);
        let rollouts = lock(&known.rollouts);
        rollouts.values().any(|(id, at)| id.as_str() == version && at.elapsed() < ROLLOUT_PENDING)
    }

    /// Takes note of what runs where: what has arrived is on its way no more.
    pub fn record_live(&self, bot: &ChatbotId, runs: impl Fn(&str, &str) -> bool) {
        let known = self.chatbot(bot);
        lock(&known.rollouts).retain(|environment, (id, _)| !runs(environment, id.as_str()));
    }

    /// From before the call until it is proven that it did nothing, the version may be live in a moment.
    async fn track_rollout(
        &self,
        bot: &ChatbotId,
        version: &VersionId,
        environment: &str,
        call: impl Future<Output = Result<(), Failure>>,
    ) -> Result<(), Failure> {
        let coming = || (version.clone(), Instant::now());
        track_call(&self.chatbot(bot).rollouts, environment.into(), coming(), coming, call).await
    }

    fn chatbot(&self, bot: &ChatbotId) -> Arc<ChatbotState> {
        let mut bots = lock(&self.chatbots);
        if let Some(known) = bots.get(bot) {
            return known.clone();
        }
        bots.entry(bot.clone()).or_default().clone()
    }

    /// A write that changes or removes: whatever came of it, what was known before is out of date.
    async fn call_and_invalidate<T>(
        &self,
        call: ApiCall,
        bot: &ChatbotId,
        request: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let known = self.chatbot(bot);
        let result = self.call(call, &known, request).await;
        known.list.invalidate();
        known.status.invalidate();
        result
    }

    /// Every call goes through here: the gate before it, the record after it.
    async fn call<T>(
        &self,
        call: ApiCall,
        bot: &ChatbotState,
        request: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        self.limiter.acquire(call, &bot.queue).await?;
        let started = Instant::now();
        let result = request.await;
        let outcome = result.as_ref().map_or_else(|failure| failure.class.as_str(), |_| "ok");
        (self.observer)(CallEvent::Completed { call, outcome, duration: started.elapsed() });
        self.limiter.record(call, result.as_ref().map(|_| ()));
        result
    }
}

/// One thing that is fetched for many.
struct CachedFetch<T> {
    /// What the last call brought, and when that was started.
    value: watch::Sender<Option<(Arc<T>, Instant)>>,
    /// Held by whoever makes the call.
    in_flight: AsyncMutex<Option<FailedFetch>>,
    invalidated_at: Mutex<Option<Instant>>,
}

struct FailedFetch {
    failure: Failure,
    until: Instant,
    times: u32,
}

impl<T> Default for CachedFetch<T> {
    fn default() -> Self {
        Self {
            value: watch::channel(None).0,
            in_flight: AsyncMutex::default(),
            invalidated_at: Mutex::default(),
        }
    }
}

impl<T> CachedFetch<T> {
    fn invalidate(&self) {
        *lock(&self.invalidated_at) = Some(Instant::now());
    }

    /// The value as of `since`, and when it was asked for. Whoever comes while a call is under way takes what
    /// that brings, if it was started late enough, or else what the next one does.
    async fn get<F: Future<Output = Result<T, Failure>>>(
        &self,
        since: Instant,
        fetch: impl FnOnce() -> F,
    ) -> Result<(Arc<T>, Instant), Failure> {
        let outdated = *lock(&self.invalidated_at);
        let since = outdated.map_or(since, |outdated| outdated.max(since));
        let fresh = |value: &Option<(Arc<T>, Instant)>| value.clone().filter(|(_, at)| *at >= since);
        let mut values = self.value.subscribe();
        let turn = tokio::select! {
            biased;
            // without a turn of its own: those in front may have to wait for a newer one
            _ = values.wait_for(|value| fresh(value).is_some()) => None,
            turn = self.in_flight.lock() => Some(turn),
        };
        if let Some(value) = fresh(&self.value.borrow()) {
            return Ok(value);
        }
        let mut failed = if let Some(turn) = turn { turn } else { self.in_flight.lock().await };
        if let Some(failed) = failed.as_ref().filter(|failed| failed.until > Instant::now()) {
            return Err(failed.failure.clone());
        }
        let at = Instant::now();
        match fetch().await {
            Ok(value) => {
                let value = Arc::new(value);
                *failed = None;
                self.value.send_replace(Some((value.clone(), at)));
                Ok((value, at))
            }
            Err(failure) => {
                let times = failed.as_ref().map_or(0, |failed| failed.times);
                let until = Instant::now() + retry_delay(failure.class, times);
                *failed = Some(FailedFetch { failure: failure.clone(), until, times: times + 1 });
                Err(failure)
            }
        }
    }
}

/// Keeps note of a call: `during` from before it is made, `after` from its end. If it is proven that nothing happened,
/// what an earlier call left there comes back, as that may still take effect.
async fn track_call<K: Clone + Eq + Hash, V>(
    notes: &Mutex<HashMap<K, V>>,
    key: K,
    during: V,
    after: impl FnOnce() -> V,
    call: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let former = lock(notes).insert(key.clone(), during);
    let result = call.await;
    let undone = result.as_ref().is_err_and(|failure| !failure.may_have_happened);
    let note = if undone { former } else { Some(after()) };
    match note {
        Some(note) => lock(notes).insert(key, note),
        None => lock(notes).remove(&key),
    };
    result
}

/// How long a failed read is not repeated.
fn retry_delay(class: FailureClass, times: u32) -> Duration {
    match class {
        // the gate knows better when it is over
        FailureClass::Throttled { .. } | FailureClass::Forbidden { .. } => Duration::ZERO,
        FailureClass::Refused(_) => REFUSED_BACKOFF,
        FailureClass::Unsent | FailureClass::Unknown => {
            let doublings = 2u32.saturating_pow(times.min(6));
            INITIAL_BACKOFF.saturating_mul(doublings).min(MAX_BACKOFF)
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
