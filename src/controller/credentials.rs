//! API keys from Secrets, read when needed and kept until the Secret changes.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::time::timeout;

use crate::{
    chatcaptain::ApiKey,
    crd::CredentialsRef,
    plan::{Blocked, Obstacle},
};

const READ_TIMEOUT: Duration = Duration::from_secs(15);

/// Namespace, Secret, key in it.
type Place = (String, String, String);

/// All keys that were read.
pub struct Credentials {
    client: Client,
    known: Mutex<HashMap<Place, Known>>,
    /// Counts changes of Secrets: what was read before one may be what was there before it.
    changes: AtomicU64,
}

#[derive(Clone)]
struct Known {
    key: ApiKey,
    /// The Secret has not changed since.
    current: bool,
}

impl Credentials {
    pub fn new(client: Client) -> Self {
        Self { client, known: Mutex::default(), changes: AtomicU64::new(0) }
    }

    /// The Secret has changed or is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        for ((ns, secret, _), known) in self.lock().iter_mut() {
            if ns == namespace && secret == name {
                known.current = false;
            }
        }
    }

    /// Any Secret may have changed; namespace and name of those that were read.
    pub fn forget_all(&self) -> HashSet<(String, String)> {
        self.changes.fetch_add(1, Ordering::SeqCst);
        let mut known = self.lock();
        known.values_mut().for_each(|known| known.current = false);
        known.keys().map(|(namespace, name, _)| (namespace.clone(), name.clone())).collect()
    }

    /// The key that `reference` names. With `last_good`, the one that was there before serves where the Secret
    /// is gone: a namespace that is deleted loses its Secret first.
    pub async fn key(
        &self,
        namespace: &str,
        reference: &CredentialsRef,
        last_good: bool,
    ) -> Result<ApiKey, Obstacle> {
        let place = (namespace.to_owned(), reference.name().to_owned(), reference.key().to_owned());
        let before = self.lock().get(&place).cloned();
        if let Some(known) = before.as_ref().filter(|known| known.current) {
            return Ok(known.key.clone());
        }
        let changes = self.changes.load(Ordering::SeqCst);
        match self.read(&place).await {
            Ok(key) => {
                let current = changes == self.changes.load(Ordering::SeqCst);
                self.lock().insert(place, Known { key: key.clone(), current });
                Ok(key)
            }
            Err(obstacle) => match before.filter(|_| last_good) {
                Some(known) => Ok(known.key),
                None => Err(obstacle),
            },
        }
    }

    async fn read(&self, (namespace, name, key): &Place) -> Result<ApiKey, Obstacle> {
        let missing =
            |message: String| Obstacle { blocked: Blocked::CredentialsMissing, message, pause: None };
        // the Secret is there, so it is not created but patched
        let unusable = |what: &str| {
            missing(format!(
                "{what}; set it with: kubectl -n {namespace} patch secret {name} -p '{{\"stringData\":{{\"{key}\":\"<API key>\"}}}}'."
            ))
        };
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let unavailable = |why: String| Obstacle {
            blocked: Blocked::Unavailable,
            message: format!("Secret {name} cannot be read ({why}); it is tried again."),
            pause: None,
        };
        let secret = match timeout(READ_TIMEOUT, secrets.get_opt(name)).await {
            Ok(Ok(Some(secret))) => secret,
            Ok(Ok(None)) => {
                return Err(missing(format!(
                    "Secret {name} does not exist in namespace {namespace}; create it with: kubectl -n {namespace} create \
                     secret generic {name} --from-literal={key}=<API key>."
                )));
            }
            Ok(Err(kube::Error::Api(status))) if status.is_forbidden() => {
                return Err(unavailable("the operator's role does not allow it".to_owned()));
            }
            Ok(Err(error)) => return Err(unavailable(error.to_string())),
            Err(_) => return Err(unavailable("no answer in time".to_owned())),
        };
        let Some(bytes) = secret.data.as_ref().and_then(|data| data.get(key)) else {
            return Err(unusable(&format!("Secret {name} has no key {key}")));
        };
        let text = std::str::from_utf8(&bytes.0)
            .map_err(|_| unusable(&format!("Key {key} of Secret {name} is no text")))?;
        ApiKey::parse(text).map_err(|why| unusable(&format!("Key {key} of Secret {name} {why}")))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Place, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
