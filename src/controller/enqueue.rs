//! Queues objects for which no event of their own arrives: something that they refer to has changed.

use std::{collections::HashSet, sync::Mutex};

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};

use super::{
    Context, Indexed,
    cache::{Cache, IndexKey, Ref},
};
use crate::{
    crd::{ChatbotDeployment, ChatbotVersion},
    sync::lock,
};

/// The queues of one kind's controllers, one for each watched namespace.
pub struct Queues<K: Indexed>(Mutex<Vec<UnboundedSender<Ref<K>>>>);

impl<K: Indexed> Default for Queues<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Indexed> Queues<K> {
    /// The queue of one more controller.
    pub fn add(&self) -> UnboundedReceiver<Ref<K>> {
        // a bound would block the watch that fills it; an object that is queued twice is reconciled once
        let (sender, receiver) = unbounded();
        lock(&self.0).push(sender);
        receiver
    }

    /// Each controller drops the objects of other namespaces.
    fn send(&self, references: &[Ref<K>]) {
        for queue in lock(&self.0).iter() {
            for reference in references {
                // fails once the controller has ended
                let _ = queue.unbounded_send(reference.clone());
            }
        }
    }

    /// Queues one object.
    pub fn enqueue(&self, reference: Ref<K>) {
        self.send(&[reference]);
    }

    /// Queues the objects that are found by `key`.
    pub fn enqueue_by_key(&self, cache: &Cache<K>, key: IndexKey) {
        self.send(&cache.refs(key));
    }

    fn enqueue_all(&self, cache: &Cache<K>) {
        self.send(&cache.all());
    }
}

impl Context {
    /// Queues the versions that are found by `key`.
    pub(super) fn enqueue_versions(&self, key: IndexKey) {
        self.version_queues.enqueue_by_key(&self.versions, key);
    }

    /// Queues the deployments that are found by `key`.
    pub(super) fn enqueue_deployments(&self, key: IndexKey) {
        self.deployment_queues.enqueue_by_key(&self.deployments, key);
    }

    /// A watch broke and has listed again. Changes in between brought no events, so everything is queued.
    pub(super) fn handle_relist(&self) {
        // before the objects are queued: after a restore of etcd a copy that we replaced may be the newest
        self.stale_reads.clear();
        self.versions.prune();
        self.deployments.prune();
        self.retain(&self.versions.uids().chain(self.deployments.uids()).collect());
        self.version_queues.enqueue_all(&self.versions);
        self.deployment_queues.enqueue_all(&self.deployments);
    }

    /// Forgets the objects that are not among these: one that was deleted while a watch was broken brings no event.
    fn retain(&self, uids: &HashSet<String>) {
        lock(&self.call_permits).retain(uids);
        lock(&self.search_timers).retain(uids);
        for permits in [&self.version_permits, &self.deployment_permits] {
            permits.retain(uids);
        }
        self.unknown_annotations.retain(uids);
    }

    /// Forgets an object that no longer exists.
    pub(super) fn forget(&self, uid: &str) {
        for permits in [&self.version_permits, &self.deployment_permits] {
            permits.forget(uid);
        }
        self.stale_reads.forget(uid);
        lock(&self.call_permits).forget(uid);
        lock(&self.search_timers).forget(uid);
    }

    /// Queues one version.
    pub(super) fn enqueue_version(&self, reference: Ref<ChatbotVersion>) {
        self.version_queues.enqueue(reference);
    }

    /// Queues one deployment.
    pub(super) fn enqueue_deployment(&self, reference: Ref<ChatbotDeployment>) {
        self.deployment_queues.enqueue(reference);
    }
}
