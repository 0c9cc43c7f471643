//! One key's view of the service: every call goes through the limiter, what many objects need is fetched once, and
//! what was written is remembered until it shows.
//!
//! All in memory: after a restart, or on another replica, none of it is known.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    cached_fetch::{CachedFetch, Lane},
    call_queue::CallPriority,
    call_tracking::track_call,
    client::{ApiClient, NewVersion},
    error::{ApiCall, Failure, FailureClass, Refusal},
    inventory::{DeploymentStatus, Inventory},
    limits::{CallEvent, CallLimiter, CallObserver, Limits},
    types::{ApiKey, ChatbotId, VersionId},
};
use crate::sync::lock;

/// A key that was not used for this long is forgotten, with its limits, and so is a chatbot; a delete that ended this long
/// ago, too, because it no longer takes effect.
const IDLE_TIMEOUT: Duration = Duration::from_hours(1);
/// How often idle keys and chatbots are forgotten.
const FORGET_EVERY: Duration = Duration::from_mins(1);
/// The environment of a create that deploys nothing, and what the service may call it instead.
const NO_DEPLOYMENT: [&str; 2] = ["dev", "none"];
/// How long a rollout may take to show. After that the version is not expected any more: a call that was lost must not
/// protect it for ever.
const ROLLOUT_PENDING_TIMEOUT: Duration = Duration::from_mins(5);
/// Why a delete is not sent.
const STILL_NEEDED: &str = "the version is needed again";
/// Why a create is not sent.
const NOT_WANTED: &str = "the object was deleted or suspended meanwhile";

/// What all accounts share.
#[derive(Clone)]
pub struct AccountsConfig {
    /// Makes the calls.
    pub client: ApiClient,
    /// The rate limit of each key.
    pub limits: Limits,
    /// Called for the calls of every key.
    pub observer: CallObserver,
    /// Asked right before a call that changes the service is sent, after every wait: whether it may still be.
    pub may_write: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// The accounts of all keys in use. Two Secrets with one key share its limits.
pub struct Accounts {
    config: AccountsConfig,
    /// Each account with the time of its last use.
    by_key: Mutex<HashMap<ApiKey, (Arc<Account>, Instant)>>,
    /// When idle keys and chatbots were forgotten last.
    forgot_at: Mutex<Instant>,
}

impl Accounts {
    /// Empty; an account is made when it is first needed.
    #[must_use]
    pub fn new(config: AccountsConfig) -> Self {
        Self { config, by_key: Mutex::default(), forgot_at: Mutex::new(Instant::now()) }
    }

    /// The account of a key, made where there is none.
    #[must_use]
    pub fn get(&self, key: &ApiKey) -> Arc<Account> {
        self.get_at(key, Instant::now())
    }

    fn get_at(&self, key: &ApiKey, now: Instant) -> Arc<Account> {
        let mut by_key = lock(&self.by_key);
        if let Some((account, used_at)) = by_key.get_mut(key) {
            *used_at = now;
            let account = account.clone();
            self.forget_idle(&mut by_key, now);
            return account;
        }
        let account = Arc::new(Account {
            client: self.config.client.clone(),
            key: key.clone(),
            limiter: CallLimiter::new(self.config.limits, self.config.observer.clone()),
            observer: self.config.observer.clone(),
            may_write: self.config.may_write.clone(),
            key_refused: AtomicBool::default(),
            no_deployment: Mutex::new(NO_DEPLOYMENT[0]),
            chatbots: Mutex::default(),
        });
        by_key.insert(key.clone(), (account.clone(), now));
        self.forget_idle(&mut by_key, now);
        account
    }

    /// Forgets the keys and chatbots that were not used: a list of versions may be large.
    fn forget_idle(&self, by_key: &mut HashMap<ApiKey, (Arc<Account>, Instant)>, now: Instant) {
        let mut forgot_at = lock(&self.forgot_at);
        if now.duration_since(*forgot_at) < FORGET_EVERY {
            return;
        }
        *forgot_at = now;
        by_key.retain(|_, (_, used_at)| now.duration_since(*used_at) < IDLE_TIMEOUT);
        for (account, _) in by_key.values() {
            account.forget_idle(now);
        }
    }

    /// The Secret with this key was written: what the service refused may be granted now.
    pub fn retry_now(&self, key: &ApiKey) {
        if let Some((account, _)) = lock(&self.by_key).get(key) {
            account.limiter.retry_now(None);
        }
    }

    /// How many keys are paused now because the service throttles them.
    #[must_use]
    pub fn open_breakers(&self) -> usize {
        lock(&self.by_key).values().filter(|(account, _)| account.limiter.is_breaker_open()).count()
    }
}

/// One key's view of the service.
pub struct Account {
    client: ApiClient,
    key: ApiKey,
    limiter: CallLimiter,
    observer: CallObserver,
    may_write: Arc<dyn Fn() -> bool + Send + Sync>,
    /// The service answered 401, and `take_key_refused` was not called since.
    key_refused: AtomicBool,
    /// The word of `NO_DEPLOYMENT` that the service has accepted.
    no_deployment: Mutex<&'static str>,
    /// Each chatbot with the time of its last use.
    chatbots: Mutex<HashMap<ChatbotId, (Arc<ChatbotState>, Instant)>>,
}

/// What is remembered of one chatbot.
#[derive(Default)]
struct ChatbotState {
    list: CachedFetch<Inventory>,
    deployment_status: CachedFetch<DeploymentStatus>,
    authoritative: Mutex<bool>,
    /// By environment: the version of the last deploy or rollback call, until it is live there.
    rollouts: Mutex<HashMap<Box<str>, (VersionId, Instant)>>,
    /// Deletes and when they ended; `None` while they are under way.
    deletions: Mutex<HashMap<VersionId, Option<Instant>>>,
}

impl Account {
    /// The versions of a chatbot as of `since` or later. Callers during a fetch share it.
    ///
    /// # Errors
    /// The failure of the call, or of an earlier one that is not repeated yet.
    pub async fn inventory(&self, chatbot: &ChatbotId, since: Instant) -> Result<Arc<Inventory>, Failure> {
        self.list(chatbot, since, Lane::Soon).await
    }

    /// The same for a create, before it is sent or after: the list is sent among the creates and answers for many.
    ///
    /// # Errors
    /// As `inventory`.
    pub async fn inventory_for_create(
        &self,
        chatbot: &ChatbotId,
        since: Instant,
    ) -> Result<Arc<Inventory>, Failure> {
        self.list(chatbot, since, Lane::Later).await
    }

    async fn list(&self, chatbot: &ChatbotId, since: Instant, lane: Lane) -> Result<Arc<Inventory>, Failure> {
        let priority = match lane {
            Lane::Soon => ApiCall::List.into(),
            Lane::Later => CallPriority::BulkRead,
        };
        let admit = || self.limiter.acquire(ApiCall::List, priority, chatbot);
        let send = || self.send(ApiCall::List, chatbot, self.client.list(&self.key, chatbot));
        self.state(chatbot).list.get(since, lane, admit, send).await
    }

    /// What is live for a chatbot as of `since` or later.
    ///
    /// # Errors
    /// As `inventory`.
    pub async fn deployment_status(
        &self,
        chatbot: &ChatbotId,
        since: Instant,
    ) -> Result<Arc<DeploymentStatus>, Failure> {
        let admit = || self.limiter.acquire(ApiCall::Status, ApiCall::Status.into(), chatbot);
        let send = || self.send(ApiCall::Status, chatbot, self.client.status(&self.key, chatbot));
        self.state(chatbot).deployment_status.get(since, Lane::Soon, admit, send).await
    }

    /// Fetches what is live, and the list to resolve it, for the next reconcile that asks for them.
    pub async fn prefetch(&self, chatbot: &ChatbotId) {
        let since = Instant::now();
        // who asks next gets the failure, too
        let _ = tokio::join!(self.inventory(chatbot, since), self.deployment_status(chatbot, since));
    }

    /// The user asks for it, or has changed something: the next read is sent, whatever was refused or failed before. A
    /// throttle remains.
    pub fn retry_now(&self, chatbot: &ChatbotId) {
        self.limiter.retry_now(Some(chatbot));
        let state = self.state(chatbot);
        state.list.retry_now();
        state.deployment_status.retry_now();
    }

    /// Whether the service has refused the key since the last call of this.
    pub fn take_key_refused(&self) -> bool {
        self.key_refused.swap(false, Ordering::Relaxed)
    }

    /// Remembers that this key lists a version known to be ours, so from now on a version that it does not list is gone.
    /// A key of another account shows an empty or foreign list, which proves nothing.
    pub fn mark_authoritative(&self, chatbot: &ChatbotId) {
        *lock(&self.state(chatbot).authoritative) = true;
    }

    /// Whether a version that this key does not list is gone.
    #[must_use]
    pub fn is_authoritative(&self, chatbot: &ChatbotId) -> bool {
        *lock(&self.state(chatbot).authoritative)
    }

    /// Creates a version, if it `is_wanted` when the wait for the limiter is over.
    ///
    /// # Errors
    /// As [`ApiClient::create`], or the limiter's failure; then nothing was sent. So for every write.
    pub async fn create(
        &self,
        chatbot: &ChatbotId,
        new: &NewVersion,
        is_wanted: impl Fn() -> bool,
    ) -> Result<Option<VersionId>, Failure> {
        if new.environment == NO_DEPLOYMENT[0] {
            return self.create_without_deployment(chatbot, new, is_wanted).await;
        }
        let request = self.create_if(is_wanted, chatbot, new);
        let priority = ApiCall::Create.into();
        let result = self.call_and_invalidate(ApiCall::Create, priority, chatbot, request).await;
        // without an id there is nothing to track; the list shows the id later
        if let Ok(Some(id)) = &result {
            let rollout = (id.clone(), Instant::now());
            lock(&self.state(chatbot).rollouts).insert(new.environment.into(), rollout);
        }
        result
    }

    /// A create that only adds to the list. It invalidates nothing: a caller that waits for the new version asks for a newer
    /// list anyway, and a hundred creates must not make all other objects list a hundred times.
    async fn create_without_deployment(
        &self,
        chatbot: &ChatbotId,
        new: &NewVersion,
        is_wanted: impl Fn() -> bool,
    ) -> Result<Option<VersionId>, Failure> {
        let create = async |environment| {
            let new = NewVersion { environment, ..new.clone() };
            self.call(ApiCall::Create, chatbot, self.create_if(&is_wanted, chatbot, &new)).await
        };
        let word = *lock(&self.no_deployment);
        let result = create(word).await;
        // proves that nothing was created, so this does not repeat a create
        let Err(Failure { class: FailureClass::Refused(Refusal::UnknownEnvironment), .. }) = result else {
            return result;
        };
        let [first, second] = NO_DEPLOYMENT;
        let other = if word == first { second } else { first };
        let result = create(other).await;
        if result.is_ok() {
            *lock(&self.no_deployment) = other;
        }
        result
    }

    async fn create_if(
        &self,
        is_wanted: impl Fn() -> bool,
        chatbot: &ChatbotId,
        new: &NewVersion,
    ) -> Result<Option<VersionId>, Failure> {
        // asked when the limiter lets the request be sent, as for a delete
        if !is_wanted() {
            return Err(Failure::new(ApiCall::Create, FailureClass::Unsent, NOT_WANTED));
        }
        self.client.create(&self.key, chatbot, new).await
    }

    /// Deletes a version, unless it `is_needed` when the wait for the limiter is over.
    ///
    /// # Errors
    /// As [`ApiClient::delete`]; unsent where the version is needed.
    pub async fn delete(
        &self,
        chatbot: &ChatbotId,
        version: &VersionId,
        is_needed: impl Fn() -> bool,
    ) -> Result<(), Failure> {
        let state = self.state(chatbot);
        // here, because only deletes make the map grow
        lock(&state.deletions).retain(|_, ended| ended.is_none_or(|at| at.elapsed() < IDLE_TIMEOUT));
        // asked when the limiter lets the request be sent: thousands of calls may wait in front of it
        let request = async {
            if is_needed() {
                return Err(Failure::new(ApiCall::Delete, FailureClass::Unsent, STILL_NEEDED));
            }
            self.client.delete(&self.key, chatbot, version).await
        };
        let call = self.call_and_invalidate(ApiCall::Delete, ApiCall::Delete.into(), chatbot, request);
        track_call(&state.deletions, version.clone(), None, || Some(Instant::now()), call).await
    }

    /// Whether a delete of a version is under way, or ended within `grace` and may still take effect. Only the calls of
    /// this process are known.
    #[must_use]
    pub fn is_delete_pending(&self, chatbot: &ChatbotId, version: &VersionId, grace: Duration) -> bool {
        let state = self.state(chatbot);
        let deletions = lock(&state.deletions);
        deletions.get(version).is_some_and(|ended| ended.is_none_or(|at| at.elapsed() <= grace))
    }

    /// Starts to deploy a version. One that `goes_back` to an earlier version is as urgent as a rollback.
    ///
    /// # Errors
    /// As [`ApiClient::deploy`].
    pub async fn deploy(
        &self,
        chatbot: &ChatbotId,
        version: &VersionId,
        environment: &str,
        goes_back: bool,
    ) -> Result<(), Failure> {
        let request = self.client.deploy(&self.key, chatbot, version, environment);
        let priority = if goes_back { CallPriority::GoBack } else { ApiCall::Deploy.into() };
        let call = self.call_and_invalidate(ApiCall::Deploy, priority, chatbot, request);
        self.track_rollout(chatbot, version, environment, call).await
    }

    /// Starts to roll back to a version.
    ///
    /// # Errors
    /// As [`ApiClient::rollback`].
    pub async fn rollback(
        &self,
        chatbot: &ChatbotId,
        version: &VersionId,
        environment: &str,
        body: &serde_json::Value,
    ) -> Result<(), Failure> {
        let request = self.client.rollback(&self.key, chatbot, version, body);
        let call = self.call_and_invalidate(ApiCall::Rollback, ApiCall::Rollback.into(), chatbot, request);
        self.track_rollout(chatbot, version, environment, call).await
    }

    /// Whether a deploy or rollback of a version was called lately and the version is not live yet: it may become live
    /// any moment and must not be deleted. Only the calls of this process are known.
    #[must_use]
    pub fn is_rollout_pending(&self, chatbot: &ChatbotId, version: &str) -> bool {
        let state = self.state(chatbot);
        let rollouts = lock(&state.rollouts);
        rollouts.values().any(|(id, at)| id.as_str() == version && at.elapsed() < ROLLOUT_PENDING_TIMEOUT)
    }

    /// Ends the rollouts whose version is live; `is_live` takes an environment and a version id.
    pub fn record_live(&self, chatbot: &ChatbotId, is_live: impl Fn(&str, &str) -> bool) {
        let state = self.state(chatbot);
        lock(&state.rollouts).retain(|environment, (id, _)| !is_live(environment, id.as_str()));
    }

    async fn track_rollout(
        &self,
        chatbot: &ChatbotId,
        version: &VersionId,
        environment: &str,
        call: impl Future<Output = Result<(), Failure>>,
    ) -> Result<(), Failure> {
        // once more when the call has ended: the time for the version to show counts from then
        let rollout = || (version.clone(), Instant::now());
        track_call(&self.state(chatbot).rollouts, environment.into(), rollout(), rollout, call).await
    }

    fn state(&self, chatbot: &ChatbotId) -> Arc<ChatbotState> {
        self.state_at(chatbot, Instant::now())
    }

    fn state_at(&self, chatbot: &ChatbotId, now: Instant) -> Arc<ChatbotState> {
        let mut chatbots = lock(&self.chatbots);
        if let Some((state, used_at)) = chatbots.get_mut(chatbot) {
            *used_at = now;
            return state.clone();
        }
        chatbots.entry(chatbot.clone()).or_insert_with(|| (Arc::default(), now)).0.clone()
    }

    fn forget_idle(&self, now: Instant) {
        lock(&self.chatbots).retain(|_, (_, used_at)| now.duration_since(*used_at) < IDLE_TIMEOUT);
    }

    /// Makes a call that changes or removes. However it ends, what was fetched before it is out of date.
    async fn call_and_invalidate<T>(
        &self,
        call: ApiCall,
        priority: CallPriority,
        chatbot: &ChatbotId,
        request: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let state = self.state(chatbot);
        let result = self.call_with_priority(call, priority, chatbot, request).await;
        // after the call: a fetch that began during it may show either state
        state.list.invalidate();
        state.deployment_status.invalidate();
        result
    }

    /// A call with the usual priority.
    async fn call<T>(
        &self,
        call: ApiCall,
        chatbot: &ChatbotId,
        request: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        self.call_with_priority(call, call.into(), chatbot, request).await
    }

    async fn call_with_priority<T>(
        &self,
        call: ApiCall,
        priority: CallPriority,
        chatbot: &ChatbotId,
        request: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        self.limiter.acquire(call, priority, chatbot).await?;
        self.send(call, chatbot, request).await
    }

    /// The only way to the service, for a call that the limiter has let through: it records how the call ends.
    async fn send<T>(
        &self,
        call: ApiCall,
        chatbot: &ChatbotId,
        request: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let started = Instant::now();
        // after the wait for the limiter, in which the Lease may have been lost
        let result = if call.is_read() || (self.may_write)() {
            request.await
        } else {
            Err(Failure::not_leading(call))
        };
        let outcome = result.as_ref().map_or_else(|failure| failure.class.as_str(), |_| "ok");
        (self.observer)(CallEvent::Completed { call, outcome, duration: started.elapsed() });
        self.limiter.record(call, chatbot, result.as_ref().map(|_| ()));
        result.map_err(|failure| {
            if failure.class == (FailureClass::Forbidden { whole_key: true }) {
                self.key_refused.store(true, Ordering::Relaxed);
            }
            Failure { paused_for: self.limiter.pause(call, chatbot), ..failure }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bot() -> ChatbotId {
        ChatbotId::parse("bot").unwrap()
    }

    fn accounts() -> Accounts {
        // an error says that another test has installed it
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = "https://chatcaptain.invalid".parse().unwrap();
        let many = std::num::NonZeroU32::MAX;
        Accounts::new(AccountsConfig {
            client: ApiClient::new(url, None, Duration::from_secs(1)).unwrap(),
            limits: Limits { rate: many, burst: many },
            observer: Arc::new(|_| ()),
            may_write: Arc::new(|| true),
        })
    }

    fn account() -> Arc<Account> {
        accounts().get(&ApiKey::parse("CCSB-account-test").unwrap())
    }

    /// The failure of a create that ends like this where it is sent.
    async fn fail(account: &Account, class: FailureClass) -> Failure {
        let request = async { Err::<(), _>(Failure::new(ApiCall::Create, class, "no")) };
        account.call(ApiCall::Create, &bot(), request).await.unwrap_err()
    }

    #[tokio::test]
    async fn failure_says_whether_the_call_was_sent_and_how_long_such_calls_are_paused() {
        let (account, another) = (account(), account());
        let refused = FailureClass::Forbidden { whole_key: false };
        let first = fail(&account, refused).await;
        assert!(first.sent && !first.was_not_sent() && first.paused_for.is_some(), "{first:?}");
        let second = fail(&account, FailureClass::Unknown).await;
        assert_eq!((second.class, second.sent, second.was_not_sent()), (refused, false, true));
        assert!(fail(&another, FailureClass::Unknown).await.paused_for.is_none());
    }

    #[tokio::test]
    async fn delete_of_a_version_that_is_needed_by_then_is_not_sent() {
        let (account, chatbot, id) = (account(), bot(), VersionId::parse("v1").unwrap());
        let is_needed = || {
            assert!(
                account.is_delete_pending(&chatbot, &id, Duration::ZERO),
                "it must not be adopted meanwhile"
            );
            true
        };
        let failure = account.delete(&chatbot, &id, is_needed).await.unwrap_err();
        assert_eq!((failure.class, failure.was_not_sent()), (FailureClass::Unsent, true));
        assert!(!account.is_delete_pending(&chatbot, &id, Duration::MAX), "nothing can take effect");
    }

    #[test]
    fn key_and_chatbot_are_forgotten_an_hour_after_their_last_use() {
        let (accounts, start) = (accounts(), Instant::now());
        let chatbot = |id: &str| ChatbotId::parse(id).unwrap();
        let key = |key: &str| ApiKey::parse(key).unwrap();
        let (half, hour) = (start + IDLE_TIMEOUT / 2, start + IDLE_TIMEOUT);
        accounts.get_at(&key("CCSB-idle"), start);
        let account = accounts.get_at(&key("CCSB-used"), start);
        account.state_at(&chatbot("idle"), start);
        let used = account.state_at(&chatbot("used"), half);
        // no new key or chatbot is needed for it
        assert!(Arc::ptr_eq(&account, &accounts.get_at(&key("CCSB-used"), hour)));
        assert!(!lock(&accounts.by_key).contains_key(&key("CCSB-idle")));
        assert!(!lock(&account.chatbots).contains_key(&chatbot("idle")));
        assert!(Arc::ptr_eq(&used, &account.state_at(&chatbot("used"), hour)));
    }

    #[tokio::test]
    async fn refusal_of_the_key_is_reported_once() {
        let account = account();
        fail(&account, FailureClass::Forbidden { whole_key: false }).await;
        assert!(!account.take_key_refused());
        account
            .call(ApiCall::List, &bot(), async {
                Err::<(), _>(Failure::new(ApiCall::List, FailureClass::Forbidden { whole_key: true }, "no"))
            })
            .await
            .unwrap_err();
        assert_eq!((account.take_key_refused(), account.take_key_refused()), (true, false));
    }
}
