//! API keys from Secrets, read when needed and kept until the Secret changes.

use std::{
    collections::{HashMap, HashSet},
    sync::Mutex,
    time::Duration,
};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::time::timeout;

use crate::{
    chatcaptain::ApiKey,
    crd::CredentialsRef,
    plan::{Unavailable, UnavailableReason, messages},
    sync::lock,
};

const READ_TIMEOUT: Duration = Duration::from_secs(15);
/// In a large cluster some Secret changes all the time: at some time a key that may be stale has to do.
const MAX_READ_ATTEMPTS: u32 = 3;

/// Namespace, Secret, key in it.
type KeyRef = (String, String, String);

/// The API keys that were read, until their Secrets change.
pub struct Credentials {
    client: Client,
    cache: Mutex<CachedKeys>,
}

#[derive(Default)]
struct CachedKeys {
    known: HashMap<KeyRef, CachedKey>,
    /// Counts changes of Secrets: what was read before one may be what was there before it.
    changes: u64,
}

#[derive(Clone)]
struct CachedKey {
    key: ApiKey,
    /// The Secret has not changed since.
    current: bool,
}

impl Credentials {
    pub fn new(client: Client) -> Self {
        Self { client, cache: Mutex::default() }
    }

    /// The Secret has changed or is gone.
    pub fn invalidate(&self, namespace: &str, name: &str) {
        let mut cache = lock(&self.cache);
        cache.changes += 1;
        for ((ns, secret, _), known) in &mut cache.known {
            if ns == namespace && secret == name {
                known.current = false;
            }
        }
    }

    /// Any Secret of the namespace, or of all, may have changed; namespace and name of those that were read.
    pub fn invalidate_all(&self, namespace: Option<&str>) -> HashSet<(String, String)> {
        let mut cache = lock(&self.cache);
        cache.changes += 1;
        let places = cache.known.iter_mut().filter(|((ns, ..), _)| namespace.is_none_or(|only| ns == only));
        let forgotten = places.map(|((namespace, name, _), known)| {
            known.current = false;
            (namespace.clone(), name.clone())
        });
        forgotten.collect()
    }

    /// The key that `reference` names. With `last_good`, the one that was there before serves where the Secret
    /// is gone: a namespace that is deleted loses its Secret first.
    pub async fn key(
        &self,
        namespace: &str,
        reference: &CredentialsRef,
        last_good: bool,
    ) -> Result<ApiKey, Unavailable> {
        let place = (namespace.to_owned(), reference.name().to_owned(), reference.key().to_owned());
        let before = lock(&self.cache).known.get(&place).cloned();
        if let Some(known) = before.as_ref().filter(|known| known.current) {
            return Ok(known.key.clone());
        }
        match self.read_current(&place).await {
            Ok(key) => Ok(key),
            Err(obstacle) => match before.filter(|_| last_good) {
                Some(known) => Ok(known.key),
                None => Err(obstacle),
            },
        }
    }

    /// Once more where a Secret changed meanwhile: what was read may be what was there before.
    async fn read_current(&self, place: &KeyRef) -> Result<ApiKey, Unavailable> {
        let mut tries = 0;
        loop {
            let changes = lock(&self.cache).changes;
            let key = self.read(place).await?;
            tries += 1;
            let mut cache = lock(&self.cache);
            let current = cache.changes == changes;
            if current || tries == MAX_READ_ATTEMPTS {
                cache.known.insert(place.clone(), CachedKey { key: key.clone(), current });
                return Ok(key);
            }
        }
    }

    async fn read(&self, (namespace, name, key): &KeyRef) -> Result<ApiKey, Unavailable> {
        let unavailable = |reason, message: String| Unavailable { reason, message, retry_after: None };
        let missing = |message| unavailable(UnavailableReason::CredentialsMissing, message);
        let unusable = |problem: &str| missing(messages::secret_key_unusable(problem, namespace, name, key));
        let unreadable = |detail: &str| {
            unavailable(UnavailableReason::ServiceUnavailable, messages::secret_unreadable(name, detail))
        };
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = match timeout(READ_TIMEOUT, secrets.get_opt(name)).await {
            Ok(Ok(Some(secret))) => secret,
            Ok(Ok(None)) => return Err(missing(messages::secret_missing(namespace, name, key))),
            Ok(Err(kube::Error::Api(status))) if status.is_forbidden() => {
                return Err(unreadable(messages::SECRET_FORBIDDEN));
            }
            Ok(Err(error)) => return Err(unreadable(&error.to_string())),
            Err(_) => return Err(unreadable("no answer within the timeout")),
        };
        let Some(bytes) = secret.data.as_ref().and_then(|data| data.get(key)) else {
            return Err(unusable(&format!("Secret {name} has no key {key}")));
        };
        let text = std::str::from_utf8(&bytes.0)
            .map_err(|_| unusable(&format!("Key {key} of Secret {name} is not text")))?;
        ApiKey::parse(text).map_err(|why| unusable(&format!("Key {key} of Secret {name} {why}")))
    }
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
            let key = ByteString(format!("key-{request}").into_bytes());
            let secret = Secret { data: Some([("apiKey".to_owned(), key)].into()), ..Secret::default() };
            serde_json::to_string(&secret).unwrap().into_response()
        };
        let client = Client::new(Router::new().fallback(answer), "default");
        let credentials = credentials.get_or_init(|| Credentials::new(client));
        let reference = CredentialsRef::default();
        for _ in 0..2 {
            let key = credentials.key("default", &reference, false).await.ok().unwrap();
            assert!(key == ApiKey::parse("key-1").unwrap(), "the older one");
        }
        assert_eq!(requests.load(Ordering::SeqCst), 2, "the second time it is known");
        let forgotten = credentials.invalidate_all(Some("other"));
        assert!(forgotten.is_empty(), "{forgotten:?}");
        assert_eq!(credentials.invalidate_all(Some("default")).len(), 1);
    }
}
