//! What all passes share.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::channel::mpsc::UnboundedSender;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt, runtime::events::Recorder};
use rand::RngExt;
use tokio::{sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Kind,
    cache::{Cache, Key, Ref},
    credentials::Credentials,
    turns::Turns,
};
use crate::{
    chatcaptain::{Account, Accounts, Call, ChatbotId, Class, Failure},
    crd::{ChatbotDeployment, ChatbotVersion, CredentialsRef, LiveEnvironment, annotation},
    lease::Fence,
    plan::{Blocked, Look, Obstacle, Rules, annotated, is_older},
    telemetry::Metrics,
};

/// What a context is made of.
pub struct Parts {
    /// The cluster.
    pub client: Client,
    /// The service, by key.
    pub accounts: Arc<Accounts>,
    /// The flags.
    pub rules: Rules,
    /// What is counted.
    pub metrics: Metrics,
    /// Where events go.
    pub events: Recorder,
    /// Whether we may write.
    pub fence: Fence,
    /// Passes at a time.
    pub concurrency: usize,
    /// No pass starts after this.
    pub stop: CancellationToken,
}

/// What all passes share.
pub struct Context {
    pub(super) client: Client,
    pub(super) accounts: Arc<Accounts>,
    pub(super) rules: Arc<Rules>,
    pub(super) metrics: Metrics,
    pub(super) events: Recorder,
    pub(super) fence: Fence,
    pub(super) credentials: Credentials,
    pub(super) versions: Cache<ChatbotVersion>,
    pub(super) deployments: Cache<ChatbotDeployment>,
    /// Passes and events under way.
    pub tasks: TaskTracker,
    pub(super) turns: Turns,
    stop: CancellationToken,
    /// Caches that are not full yet; none are counted before the watches begin.
    empty_caches: watch::Sender<Option<usize>>,
    permits: Mutex<HashMap<String, (String, Instant)>>,
    /// Attempts whose end is unknown, and since when this process watches the list for them.
    searches: Mutex<HashMap<String, (String, Instant)>>,
    superseded: Mutex<HashMap<String, HashSet<String>>>,
    wake_versions: Mutex<Vec<UnboundedSender<Ref<ChatbotVersion>>>>,
    wake_deployments: Mutex<Vec<UnboundedSender<Ref<ChatbotDeployment>>>>,
}

impl Context {
    /// A context with empty caches.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { client, accounts, rules, metrics, events, fence, concurrency, stop } = parts;
        Self {
            credentials: Credentials::new(client.clone()),
            client,
            accounts,
            rules: Arc::new(rules),
            metrics,
            events,
            fence,
            versions: Cache::default(),
            deployments: Cache::default(),
            tasks: TaskTracker::new(),
            turns: Turns::new(concurrency),
            stop,
            empty_caches: watch::channel(None).0,
            permits: Mutex::default(),
            searches: Mutex::default(),
            superseded: Mutex::default(),
            wake_versions: Mutex::default(),
            wake_deployments: Mutex::default(),
        }
    }

    /// Waits until every cache is full: before that a missing object proves nothing.
    pub async fn ready(&self) {
        let mut empty = self.empty_caches.subscribe();
        tokio::select! {
            // the sender lives as long as we do
            _ = empty.wait_for(|empty| *empty == Some(0)) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// This many caches are to be filled.
    pub(super) fn expect_caches(&self, count: usize) {
        self.empty_caches.send_replace(Some(count));
    }

    /// One more is. (A store's own `wait_until_ready` wakes only one of those who wait.)
    pub(super) fn cache_is_full(&self) {
        self.empty_caches.send_modify(|empty| *empty = empty.map(|count| count.saturating_sub(1)));
        if self.are_caches_full() {
            tracing::info!("caches are full");
        }
    }

    /// Whether every cache is full.
    pub fn are_caches_full(&self) -> bool {
        *self.empty_caches.borrow() == Some(0)
    }

    /// No pass starts any more.
    pub(super) fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// This process has announced a call in the object's status and may make it, once.
    pub(super) fn permit(&self, uid: &str, call: String) {
        lock(&self.permits).insert(uid.to_owned(), (call, Instant::now()));
    }

    /// When the call was announced, if it was by this process and is not made yet.
    pub(super) fn permitted(&self, uid: &str, call: Option<&str>) -> Option<Instant> {
        lock(&self.permits).get(uid).filter(|(known, _)| Some(known.as_str()) == call).map(|(_, at)| *at)
    }

    /// The call is being made: whoever finds it announced from now on does not know its end.
    pub(super) fn spend(&self, uid: &str) {
        lock(&self.permits).remove(uid);
    }

    /// For how long this process has watched the list for what an attempt may have made; `None` ends that. Times in
    /// objects are no measure: clocks jump, and those of two replicas differ.
    pub(super) fn searched(&self, uid: &str, attempt: Option<&str>) -> Duration {
        let mut searches = lock(&self.searches);
        let Some(attempt) = attempt else {
            searches.remove(uid);
            return Duration::ZERO;
        };
        let since = searches.get(uid).filter(|(known, _)| known == attempt).map(|(_, since)| *since);
        if let Some(since) = since {
            return since.elapsed();
        }
        searches.insert(uid.to_owned(), (attempt.to_owned(), Instant::now()));
        Duration::ZERO
    }

    /// Our write has replaced the copy `old` of an object.
    pub(super) fn supersede(&self, uid: &str, old: Option<String>, new: Option<&str>) {
        let mut superseded = lock(&self.superseded);
        let versions = superseded.entry(uid.to_owned()).or_default();
        versions.extend(old);
        // a write that changes nothing keeps the version
        if let Some(new) = new {
            versions.remove(new);
        }
    }

    /// Whether a cached copy was replaced by our own write already.
    pub(super) fn is_superseded(&self, uid: &str, resource_version: Option<&str>) -> bool {
        let mut superseded = lock(&self.superseded);
        let is = superseded
            .get(uid)
            .is_some_and(|versions| resource_version.is_some_and(|v| versions.contains(v)));
        if !is {
            superseded.remove(uid);
        }
        is
    }

    /// Nothing is remembered of an object that is gone.
    pub(super) fn forget(&self, uid: &str) {
        lock(&self.superseded).remove(uid);
        lock(&self.searches).remove(uid);
        lock(&self.permits).remove(uid);
    }

    pub(super) fn add_wakers(
        &self,
        versions: UnboundedSender<Ref<ChatbotVersion>>,
        deployments: UnboundedSender<Ref<ChatbotDeployment>>,
    ) {
        lock(&self.wake_versions).push(versions);
        lock(&self.wake_deployments).push(deployments);
    }

    /// A watch has begun anew, with a list. What happened in between is not told, so everything is looked at; and where
    /// etcd was restored, a version of an object that was replaced may be the newest again.
    pub(super) fn begin_anew(&self) {
        lock(&self.superseded).clear();
        self.versions.prune();
        self.deployments.prune();
        send(&self.wake_versions, &self.versions.all());
        send(&self.wake_deployments, &self.deployments.all());
    }

    /// Has this version looked at now.
    pub(super) fn wake_version(&self, reference: Ref<ChatbotVersion>) {
        send(&self.wake_versions, &[reference]);
    }

    /// Has this deployment looked at now.
    pub(super) fn wake_deployment(&self, reference: Ref<ChatbotDeployment>) {
        send(&self.wake_deployments, &[reference]);
    }

    /// Has the versions with this key looked at now.
    pub(super) fn wake_versions(&self, key: Key) {
        send(&self.wake_versions, &self.versions.refs(key));
    }

    /// Has the deployments with this key looked at now.
    pub(super) fn wake_deployments(&self, key: Key) {
        send(&self.wake_deployments, &self.deployments.refs(key));
    }

    /// The account of the key that `reference` names.
    pub(super) async fn account(
        &self,
        namespace: &str,
        reference: Option<&CredentialsRef>,
        last_good: bool,
    ) -> Result<Arc<Account>, Obstacle> {
        let reference = reference.cloned().unwrap_or_default();
        let key = self.credentials.key(namespace, &reference, last_good).await?;
        Ok(self.accounts.get(&key))
    }

    /// The account and bot for a change in the service; whatever fails here, nothing was sent.
    pub(super) async fn change(
        &self,
        call: Call,
        namespace: &str,
        credentials: Option<&CredentialsRef>,
        chatbot: &str,
        last_good: bool,
    ) -> Result<(Arc<Account>, ChatbotId), Failure> {
        let unsent = |why: &str| Failure::new(call, Class::Unsent, why);
        if !self.fence.allows_writes() {
            return Err(unsent("the lease is not held"));
        }
        let account =
            self.account(namespace, credentials, last_good).await.map_err(|o| unsent(&o.message))?;
        Ok((account, ChatbotId::parse(chatbot).map_err(|bad| unsent(&bad.to_string()))?))
    }

    /// Looks at a bot in the service; the list and the deployment status may be as old as asked.
    pub(super) async fn look(&self, place: &Place<'_>, list_since: Instant, status_since: Instant) -> Look {
        match self.try_look(place, list_since, status_since).await {
            Ok(look) => look,
            Err(obstacle) => Look::Blocked(obstacle),
        }
    }

    async fn try_look(
        &self,
        place: &Place<'_>,
        list_since: Instant,
        status_since: Instant,
    ) -> Result<Look, Obstacle> {
        let account = self.account(place.namespace, place.credentials, place.last_good).await?;
        let secret = place.credentials.cloned().unwrap_or_default().name().to_owned();
        let obstacle = |failure: &Failure| Obstacle::new(failure, &secret, place.chatbot);
        let bot = ChatbotId::parse(place.chatbot).map_err(|bad| Obstacle {
            blocked: Blocked::ChatbotNotFound,
            message: format!("spec.chatbotId: {bad}"),
            pause: None,
        })?;
        let inventory = account.inventory(&bot, list_since).await.map_err(|failure| obstacle(&failure))?;
        let ours = place.version_id.is_some_and(|id| inventory.version(id).is_some());
        if ours || (!account.is_trusted(&bot) && inventory.is_familiar(&self.rules.owner_id)) {
            account.trust(&bot);
        }
        let deployments =
            if place.live { account.deployments(&bot, status_since).await.map(Some) } else { Ok(None) };
        let deployments = deployments.or_else(|failure| match failure.class {
            // the key may not read it, or there is no such call: the list has to do
            Class::Forbidden { whole_key: false } | Class::Refused(_) => Ok(None),
            _ => Err(obstacle(&failure)),
        })?;
        account.arrived(&bot, |environment, id| {
            let deployed = deployments.as_ref().and_then(|deployments| deployments.of(environment));
            deployed.and_then(|deployed| deployed.resolve(&inventory)).is_some_and(|v| v.id.as_str() == id)
        });
        Ok(Look::Shown {
            trusted: account.is_trusted(&bot),
            coming: place.version_id.is_some_and(|id| account.is_on_its_way(&bot, id)),
            age: inventory.at.elapsed(),
            inventory,
            deployments,
        })
    }

    /// The object that decides each environment of a bot: the oldest that is not being deleted.
    pub(super) fn slots(&self, chatbot: &str) -> BTreeMap<LiveEnvironment, Arc<ChatbotDeployment>> {
        LiveEnvironment::ALL.into_iter().filter_map(|env| Some((env, self.slot(chatbot, env)?))).collect()
    }

    /// The object that decides one environment.
    pub(super) fn slot(&self, chatbot: &str, environment: LiveEnvironment) -> Option<Arc<ChatbotDeployment>> {
        let found = self.deployments.find(Key::slot(chatbot, environment.as_str()));
        found
            .into_iter()
            .filter(|d| d.spec.chatbot_id == chatbot && d.spec.environment == environment)
            .filter(|d| d.metadata.deletion_timestamp.is_none())
            .reduce(|a, b| if is_older(&b.metadata, &a.metadata) { b } else { a })
    }

    /// The other objects that hold a version id.
    pub(super) fn holders(&self, object: &ChatbotVersion, id: &str) -> Vec<Arc<ChatbotVersion>> {
        let mut found = self.versions.find(Key::version(&object.spec.chatbot_id, id));
        found.retain(|other| {
            other.metadata.uid != object.metadata.uid
                && other.spec.chatbot_id == object.spec.chatbot_id
                && other.version_id() == Some(id)
        });
        found
    }

    /// What a version's namespace says of its deletion, where the version does not say so itself. What cannot be read is
    /// waited for.
    pub(super) async fn namespace_policy(
        &self,
        version: &ChatbotVersion,
    ) -> Result<Option<String>, Obstacle> {
        if version.spec.deletion_policy.is_some() {
            return Ok(None);
        }
        let name = version.namespace().unwrap_or_default();
        let unknown = |why: String| Obstacle {
            blocked: Blocked::Unavailable,
            message: format!(
                "Namespace {name} cannot be read for its deletion policy ({why}); it is tried again."
            ),
            pause: None,
        };
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        match timeout(Duration::from_secs(15), namespaces.get_opt(&name)).await {
            Ok(Ok(namespace)) => {
                let meta = namespace.map(|namespace| namespace.metadata).unwrap_or_default();
                Ok(annotated(&meta, annotation::DELETION_POLICY).map(str::to_owned))
            }
            Ok(Err(error)) => Err(unknown(error.to_string())),
            Err(_) => Err(unknown("no answer in time".to_owned())),
        }
    }

    /// Now, as objects keep it.
    pub(super) fn now() -> Timestamp {
        let now = Timestamp::now();
        Timestamp::from_second(now.as_second()).unwrap_or(now)
    }

    /// Randomness for backoff and pacing.
    pub(super) fn jitter() -> f64 {
        rand::rng().random()
    }
}

/// Where to look.
pub struct Place<'a> {
    pub namespace: &'a str,
    pub credentials: Option<&'a CredentialsRef>,
    pub chatbot: &'a str,
    pub version_id: Option<&'a str>,
    /// What is live matters, too.
    pub live: bool,
    /// A key that is no longer there will do.
    pub last_good: bool,
}

/// The oldest look that is fresh enough.
pub fn since(age: Duration) -> Instant {
    Instant::now().checked_sub(age).unwrap_or_else(Instant::now)
}

fn send<K: Kind>(wakers: &Mutex<Vec<UnboundedSender<Ref<K>>>>, refs: &[Ref<K>]) {
    for waker in lock(wakers).iter() {
        for reference in refs {
            // a controller that has ended needs no waking
            let _ = waker.unbounded_send(reference.clone());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
