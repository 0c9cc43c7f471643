//! The objects of one kind as the watches show them, and an index by what they refer to. Decides nothing about them.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, RwLock},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Resource, ResourceExt,
    runtime::{
        reflector::{ObjectRef, Store},
        watcher,
    },
};

use super::{Indexed, unreadable::Guarded};
use crate::{
    crd,
    plan::deployment::{CHANGE_CAUSE, writes_spec},
    sync::{read, write},
};

/// Something an object is found by. A hash, to stay small: of ten thousand objects each has several. Two keys may have one
/// hash, so the caller checks what it finds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct IndexKey(u64);

impl IndexKey {
    fn new(what: &str, parts: &[&str]) -> Self {
        // the default hasher is the same for the whole process, and keys never leave it
        let mut hasher = DefaultHasher::new();
        (what, parts).hash(&mut hasher);
        Self(hasher.finish())
    }

    /// The Secret that an object refers to.
    pub fn secret(namespace: &str, name: &str) -> Self {
        Self::new("secret", &[namespace, name])
    }

    /// The chatbot that a deployment manages.
    pub fn chatbot(chatbot: &str) -> Self {
        Self::new("chatbot", &[chatbot])
    }

    /// The environment that a deployment claims.
    pub fn environment(chatbot: &str, environment: &str) -> Self {
        Self::new("environment", &[chatbot, environment])
    }

    /// The version id that an object holds.
    pub fn version(chatbot: &str, id: &str) -> Self {
        Self::new("version", &[chatbot, id])
    }

    /// The name of the version in the service, while its create is pending.
    pub fn pending_create(chatbot: &str, name: &str) -> Self {
        Self::new("pending create", &[chatbot, name])
    }

    /// An object that an object refers to by name.
    pub fn reference(kind: &str, namespace: &str, name: &str) -> Self {
        Self::new(kind, &[namespace, name])
    }
}

/// Drops what no reconcile needs: of ten thousand objects, every line counts.
pub fn strip_unused_fields<K: Indexed>(meta: &mut ObjectMeta) {
    if let Some(managers) = meta.managed_fields.take().filter(|_| K::NEEDS_MANAGERS) {
        meta.managed_fields = Some(managers.into_iter().filter(writes_spec).collect());
    }
    meta.labels = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations
            .retain(|name, _| name.starts_with(crd::GROUP) || K::NEEDS_MANAGERS && name == CHANGE_CAUSE);
    }
}

/// Namespace and name of a cached object.
pub type Ref<K> = ObjectRef<Guarded<K>>;

/// All objects of one kind.
pub struct Cache<K: Indexed> {
    stores: RwLock<Vec<Store<Guarded<K>>>>,
    index: RwLock<Index>,
}

#[derive(Default)]
struct Index {
    by_key: HashMap<IndexKey, Vec<Name>>,
    by_name: HashMap<Name, Box<[IndexKey]>>,
}

type Name = Arc<(String, String)>;

impl<K: Indexed> Default for Cache<K> {
    fn default() -> Self {
        Self { stores: RwLock::default(), index: RwLock::default() }
    }
}

impl<K: Indexed> Cache<K> {
    /// Adds the objects of one more namespace.
    pub fn add(&self, store: Store<Guarded<K>>) {
        write(&self.stores).push(store);
    }

    /// The store of each watched namespace.
    pub fn stores(&self) -> Vec<Store<Guarded<K>>> {
        read(&self.stores).clone()
    }

    /// Updates the index with an event; call it after the store has taken the event. An object that a list no longer shows
    /// stays in the index until `prune`: the caller of `find` checks what it finds.
    pub fn apply(&self, event: &watcher::Event<Guarded<K>>, store: &Store<Guarded<K>>) {
        match event {
            watcher::Event::Apply(object) => {
                let mut index = write(&self.index);
                index.set(name_of(object), keys_of(object));
            }
            watcher::Event::Delete(object) => {
                write(&self.index).set(name_of(object), Vec::new());
            }
            // before that the store has none of them, and another watch might prune them
            watcher::Event::InitDone => {
                let mut index = write(&self.index);
                for object in store.state() {
                    index.set(name_of(&object), keys_of(&object));
                }
            }
            watcher::Event::Init | watcher::Event::InitApply(_) => {}
        }
    }

    /// Drops from the index the objects that no store has any more.
    pub fn prune(&self) {
        let stores = self.stores();
        let is_gone = |name: &&Name| {
            let reference = Ref::<K>::new(&name.1).within(&name.0);
            stores.iter().all(|store| store.get(&reference).is_none())
        };
        let mut index = write(&self.index);
        let gone: Vec<Name> = index.by_name.keys().filter(is_gone).cloned().collect();
        for name in gone {
            index.set(name, Vec::new());
        }
    }

    /// References to all objects.
    pub fn all(&self) -> Vec<Ref<K>> {
        let objects = self.stores().into_iter().flat_map(|store| store.state());
        objects.map(|object| Ref::<K>::from_obj(object.as_ref())).collect()
    }

    /// The uids of all objects.
    pub fn uids(&self) -> impl Iterator<Item = String> {
        self.stores().into_iter().flat_map(|store| store.state()).filter_map(|object| object.uid())
    }

    /// Whether the object with this uid still has this name.
    pub fn contains(&self, reference: &Ref<K>, uid: &str) -> bool {
        let cached = self.stores().into_iter().find_map(|store| store.get(reference));
        cached.is_some_and(|object| object.meta().uid.as_deref() == Some(uid))
    }

    /// The object of this name; of one that does not fit its schema, the part that can be read.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let reference = Ref::<K>::new(name).within(namespace);
        let cached = self.stores().into_iter().find_map(|store| store.get(&reference))?;
        cached.claimant().cloned().map(Arc::new)
    }

    /// The objects that may have this key; the caller checks that they do.
    pub fn find(&self, key: IndexKey) -> Vec<Arc<K>> {
        self.names(key).iter().filter_map(|name| self.get(&name.0, &name.1)).collect()
    }

    /// References to the objects that may have this key.
    pub fn refs(&self, key: IndexKey) -> Vec<Ref<K>> {
        self.names(key).iter().map(|name| Ref::<K>::new(&name.1).within(&name.0)).collect()
    }

    fn names(&self, key: IndexKey) -> Vec<Name> {
        let index = read(&self.index);
        index.by_key.get(&key).into_iter().flatten().cloned().collect()
    }
}

fn name_of<K: Indexed>(object: &Guarded<K>) -> Name {
    Arc::new((object.namespace().unwrap_or_default(), object.name_any()))
}

fn keys_of<K: Indexed>(object: &Guarded<K>) -> Vec<IndexKey> {
    object.claimant().map(Indexed::keys).unwrap_or_default()
}

impl Index {
    fn set(&mut self, name: Name, keys: Vec<IndexKey>) {
        if self.by_name.get(&name).is_some_and(|old| **old == *keys) {
            return;
        }
        let (name, old) = self.by_name.remove_entry(&name).unwrap_or((name, Box::default()));
        for key in old.iter().filter(|key| !keys.contains(key)) {
            if let Some(names) = self.by_key.get_mut(key) {
                names.retain(|other| !Arc::ptr_eq(other, &name));
                if names.is_empty() {
                    self.by_key.remove(key);
                }
            }
        }
        for key in keys.iter().filter(|key| !old.contains(key)) {
            // most keys have one object, and there are as many of them as objects
            self.by_key.entry(*key).or_insert_with(|| Vec::with_capacity(1)).push(name.clone());
        }
        if !keys.is_empty() {
            self.by_name.insert(name, keys.into());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use kube::runtime::reflector;
    use serde_json::json;

    use super::*;
    use crate::crd::ChatbotVersion;

    /// Another watch ends its list, and prunes, while this one has brought the first page of its own.
    #[test]
    fn prune_of_another_watch_loses_no_page_of_a_list() {
        let (cache, secret) =
            (Cache::<ChatbotVersion>::default(), IndexKey::secret("default", "chatcaptain"));
        let (store, mut writer) = reflector::store();
        cache.add(store.clone());
        let version = json!({
            "apiVersion": "chatcaptain.dev/v1alpha1", "kind": "ChatbotVersion",
            "metadata": {"name": "a", "namespace": "default"}, "spec": {"chatbotId": "bot"},
        });
        let version: Guarded<ChatbotVersion> = serde_json::from_value(version).unwrap();
        for event in [watcher::Event::Init, watcher::Event::InitApply(version), watcher::Event::InitDone] {
            writer.apply_watcher_event(&event);
            cache.apply(&event, &store);
            if !matches!(event, watcher::Event::InitDone) {
                cache.prune();
            }
        }
        assert_eq!(cache.find(secret).len(), 1);
        cache.prune();
        assert_eq!(cache.find(secret).len(), 1, "the store has it");
    }
}
