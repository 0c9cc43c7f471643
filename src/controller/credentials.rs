//! API keys from Secrets, read when needed and kept until the Secret changes, or where no watch shows that, for a while.

use std::{
    collections::{HashMap, HashSet},
    sync::Mutex,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::time::timeout;

use super::READ_TIMEOUT;
use crate::{
    chatcaptain::ApiKey,
    crd::CredentialsRef,
    plan::{Unavailable, UnavailableReason, messages},
    sync::lock,
};

/// In a large cluster some Secret changes all the time: after this many reads a key that may be stale is accepted.
const MAX_READ_ATTEMPTS: u32 = 3;

/// A key whose Secret has changed or gone is forgotten after so long without use: no deletion needs it any more.
const IDLE_TIMEOUT: Duration = Duration::from_hours(1);

/// How a change of a Secret is noticed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SecretChanges {
    /// A watch reports it.
    Watched,
    /// A key is read again once it is this old.
    ReadAgainAfter(Duration),
}

impl SecretChanges {
    /// By a watch, or by reading a Secret again after this time.
    pub fn noticed(by_watch: bool, interval: Duration) -> Self {
        if by_watch { Self::Watched } else { Self::ReadAgainAfter(interval) }
    }
}

/// Namespace and name of a Secret, and the keys in its data of which the first that is there counts.
type SecretKeyRef = (String, String, Vec<String>);

/// The API keys that were read, until their Secrets change.
pub struct Credentials {
    client: Client,
    changes: SecretChanges,
    cache: Mutex<CachedKeys>,
}

#[derive(Default)]
struct CachedKeys {
    known: HashMap<SecretKeyRef, CachedKey>,
    /// Counts changes of Secrets: a read that was under way during one may have returned the old value.
    changes: u64,
}

#[derive(Clone)]
struct CachedKey {
    key: ApiKey,
    /// The Secret has not changed since it was read.
    current: bool,
    read_at: Instant,
    used_at: Instant,
}

impl CachedKey {
    fn needs_no_read(&self, changes: SecretChanges, now: Instant) -> bool {
        let is_recent = match changes {
            SecretChanges::Watched => true,
            SecretChanges::ReadAgainAfter(age) => now.duration_since(self.read_at) < age,
        };
        self.current && is_recent
    }
}

impl CachedKeys {
    fn get(&mut self, reference: &SecretKeyRef, now: Instant) -> Option<CachedKey> {
        let known = self.known.get_mut(reference)?;
        known.used_at = now;
        Some(known.clone())
    }

    fn insert(&mut self, reference: SecretKeyRef, known: CachedKey, changes: SecretChanges) {
        // here, because only new keys make the map grow
        let now = known.used_at;
        let is_watched = changes == SecretChanges::Watched;
        self.known.retain(|_, known| {
            known.current && is_watched || now.duration_since(known.used_at) < IDLE_TIMEOUT
        });
        self.known.insert(reference, known);
    }
}

impl Credentials {
    pub fn new(client: Client, changes: SecretChanges) -> Self {
        Self { client, changes, cache: Mutex::default() }
    }

    /// Whether the Secrets are to be watched.
    pub fn are_watched(&self) -> bool {
        self.changes == SecretChanges::Watched
    }

    /// The Secret was changed or deleted: its keys are read again when they are needed. Returns those that were known.
    pub fn invalidate(&self, namespace: &str, name: &str) -> Vec<ApiKey> {
        let mut cache = lock(&self.cache);
        cache.changes += 1;
        let keys = cache.known.iter_mut().filter(|((ns, secret, _), _)| ns == namespace && secret == name);
        let invalidated = keys.map(|(_, known)| {
            // not removed: a deletion may need it when the Secret has gone before the object
            known.current = false;
            known.key.clone()
        });
        invalidated.collect()
    }

    /// Any Secret of the namespace, or of all, may have changed. Returns namespace and name of those that were read.
    pub fn invalidate_all(&self, namespace: Option<&str>) -> HashSet<(String, String)> {
        let mut cache = lock(&self.cache);
        cache.changes += 1;
        let invalidated =
            cache.known.iter_mut().filter(|((ns, ..), _)| namespace.is_none_or(|only| ns == only));
        let invalidated = invalidated.map(|((namespace, name, _), known)| {
            known.current = false;
            (namespace.clone(), name.clone())
        });
        invalidated.collect()
    }

    /// The key that `reference` names for a chatbot. With `allow_stale_key`, the last known key is returned where the Secret cannot be
    /// read: a namespace that is deleted may lose its Secret first.
    pub async fn key(
        &self,
        namespace: &str,
        reference: &CredentialsRef,
        chatbot: &str,
        allow_stale_key: bool,
    ) -> Result<ApiKey, Unavailable> {
        let reference = (namespace.to_owned(), reference.name().to_owned(), reference.keys(chatbot));
        let now = Instant::now();
        let before = lock(&self.cache).get(&reference, now);
        if let Some(known) = before.as_ref().filter(|known| known.needs_no_read(self.changes, now)) {
            return Ok(known.key.clone());
        }
        match self.read_current(&reference).await {
            Ok(key) => Ok(key),
            Err(unavailable) => match before.filter(|_| allow_stale_key) {
                Some(known) => Ok(known.key),
                None => Err(unavailable),
            },
        }
    }

    /// Reads again where a Secret changed during the read, which may have returned the old value.
    async fn read_current(&self, reference: &SecretKeyRef) -> Result<ApiKey, Unavailable> {
        let mut attempts = 0;
        loop {
            let changes = lock(&self.cache).changes;
            let key = self.read(reference).await?;
            attempts += 1;
            let mut cache = lock(&self.cache);
            // under one lock with the insert: a change between the two would be lost
            let current = cache.changes == changes;
            if current || attempts == MAX_READ_ATTEMPTS {
                let now = Instant::now();
                let known = CachedKey { key: key.clone(), current, read_at: now, used_at: now };
                cache.insert(reference.clone(), known, self.changes);
                return Ok(key);
            }
        }
    }

    async fn read(&self, (namespace, name, keys): &SecretKeyRef) -> Result<ApiKey, Unavailable> {
        let unavailable = |reason, message: String| Unavailable { reason, message, retry_after: None };
        let missing = |message| unavailable(UnavailableReason::CredentialsMissing, message);
        let unreadable = |detail: &str| {
            unavailable(UnavailableReason::ServiceUnavailable, messages::secret_unreadable(name, detail))
        };
        // of several the last is the one of all chatbots
        let key = keys.last().map_or("", String::as_str);
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = match timeout(READ_TIMEOUT, secrets.get_opt(name)).await {
            Ok(Ok(Some(secret))) => secret,
            Ok(Ok(None)) => return Err(missing(messages::secret_missing(namespace, name, key))),
            // the operator lacks a right: the user's Secret may be fine, so no deletion gives up its version for that
            Ok(Err(kube::Error::Api(status))) if status.is_forbidden() => {
                return Err(unreadable(messages::SECRET_FORBIDDEN));
            }
            Ok(Err(error)) => return Err(unreadable(&error.to_string())),
            Err(_) => return Err(unreadable("no answer within the timeout")),
        };
        let data = secret.data.unwrap_or_default();
        let found = keys.iter().find_map(|key| Some((key, data.get(key)?)));
        let (key, bytes) = found.ok_or_else(|| {
            let problem = match &keys[..] {
                [own, all] => format!("Secret {name} has no key {all}, and none for the chatbot, {own}"),
                _ => format!("Secret {name} has no key {key}"),
            };
            missing(messages::secret_key_unusable(&problem, namespace, name, key))
        })?;
        parse(&bytes.0).map_err(|why| {
            let problem = format!("Key {key} of Secret {name} {why}");
            missing(messages::secret_key_unusable(&problem, namespace, name, key))
        })
    }
}

fn parse(bytes: &[u8]) -> Result<ApiKey, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "is not text".to_owned())?;
    ApiKey::parse(text).map_err(ToString::to_string)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    };

    use axum::{Router, response::IntoResponse};
    use k8s_openapi::ByteString;

    use super::*;

    #[test]
    fn key_whose_secret_is_gone_is_forgotten_an_hour_after_its_last_use() {
        let mut keys = CachedKeys::default();
        let reference = |name: &str| ("default".to_owned(), name.to_owned(), vec!["apiKey".to_owned()]);
        let start = Instant::now();
        let known = |current, read_at| CachedKey {
            key: ApiKey::parse("CCSB-key-1").unwrap(),
            current,
            read_at,
            used_at: read_at,
        };
        let changes = SecretChanges::Watched;
        for name in ["gone", "used", "current"] {
            keys.insert(reference(name), known(name == "current", start), changes);
        }
        assert!(keys.get(&reference("used"), start + IDLE_TIMEOUT / 2).is_some());
        keys.insert(reference("new"), known(true, start + IDLE_TIMEOUT), changes);
        let left = |keys: &CachedKeys| {
            let mut left: Vec<String> = keys.known.keys().map(|(_, name, _)| name.clone()).collect();
            left.sort_unstable();
            left
        };
        assert_eq!(left(&keys), ["current", "new", "used"]);
        // without a watch, a key whose Secret is gone is like any other
        let read_again = SecretChanges::ReadAgainAfter(Duration::from_mins(5));
        keys.insert(reference("newest"), known(true, start + IDLE_TIMEOUT), read_again);
        assert_eq!(left(&keys), ["new", "newest", "used"]);
    }

    #[test]
    fn key_is_read_again_after_a_while_where_no_watch_shows_a_change() {
        let read_at = Instant::now();
        let known =
            CachedKey { key: ApiKey::parse("CCSB-key-1").unwrap(), current: true, read_at, used_at: read_at };
        let interval = Duration::from_mins(5);
        let later = read_at + interval;
        let before = later.checked_sub(Duration::from_millis(1)).unwrap();
        let read_again = SecretChanges::ReadAgainAfter(interval);
        let needs_no_read = [
            known.needs_no_read(read_again, before),
            known.needs_no_read(read_again, later),
            known.needs_no_read(SecretChanges::Watched, later),
        ];
        assert_eq!(needs_no_read, [true, false, true]);
    }

    #[tokio::test]
    async fn key_of_the_chatbot_comes_before_the_key_of_all() {
        let answer = async || {
            let keys = [("bot-1", "CCSB-of-bot-1"), ("apiKey", "CCSB-of-all")];
            let data = keys.map(|(name, key)| (name.to_owned(), ByteString(key.into())));
            serde_json::to_string(&Secret { data: Some(data.into()), ..Secret::default() })
                .unwrap()
                .into_response()
        };
        let client = Client::new(Router::new().fallback(answer), "default");
        let credentials = Credentials::new(client, SecretChanges::Watched);
        let named = |key: Option<&str>| CredentialsRef { name: None, key: key.map(str::to_owned) };
        for (reference, chatbot, expected) in [
            (named(None), "bot-1", "CCSB-of-bot-1"),
            (named(None), "bot-2", "CCSB-of-all"),
            (named(Some("apiKey")), "bot-1", "CCSB-of-all"),
        ] {
            let key = credentials.key("default", &reference, chatbot, false).await.ok().unwrap();
            assert!(key == ApiKey::parse(expected).unwrap(), "{reference:?} {chatbot}");
        }
        let missing = credentials.key("default", &named(Some("other")), "bot-1", false).await.err().unwrap();
        assert!(
            missing.message.starts_with("Secret chatcaptain has no key other. Set it with"),
            "{}",
            missing.message
        );
    }

    /// The Secret changes after the API server has read it and before its answer is there.
    #[tokio::test]
    async fn secret_that_changes_while_it_is_read_is_read_again() {
        let credentials = Arc::new(OnceLock::<Credentials>::new());
        let (requests, changing) = (Arc::new(AtomicU32::new(0)), credentials.clone());
        let count = requests.clone();
        let answer = async move || {
            let request = count.fetch_add(1, Ordering::SeqCst);
            if request == 0 {
                assert!(changing.get().unwrap().invalidate_all(None).is_empty());
            }
            let key = ByteString(format!("CCSB-key-{request}").into_bytes());
            let secret = Secret { data: Some([("apiKey".to_owned(), key)].into()), ..Secret::default() };
            serde_json::to_string(&secret).unwrap().into_response()
        };
        let client = Client::new(Router::new().fallback(answer), "default");
        let credentials = credentials.get_or_init(|| Credentials::new(client, SecretChanges::Watched));
        let reference = CredentialsRef::default();
        for _ in 0..2 {
            let key = credentials.key("default", &reference, "bot", false).await.ok().unwrap();
            assert!(key == ApiKey::parse("CCSB-key-1").unwrap(), "the older one");
        }
        assert_eq!(requests.load(Ordering::SeqCst), 2, "the second time it is known");
        let invalidated = credentials.invalidate_all(Some("other"));
        assert!(invalidated.is_empty(), "{invalidated:?}");
        assert_eq!(credentials.invalidate_all(Some("default")).len(), 1);
    }
}
