//! Which copies of an object our own writes have replaced.
//!
//! The cache shows a write of ours only after the watch has brought it. A decision on the copy before it would repeat
//! what was just done; the resourceVersion precondition would refuse its write, but not its call to the service. So
//! every copy that a write of ours has replaced is remembered until the cache shows another one.
//!
//! A set, not the newest resourceVersion: resourceVersions may only be compared for equality (Kubernetes API concepts),
//! and several writes can be under way before the watch brings the first. Forgotten at every relist: where etcd was
//! restored, a copy that was replaced may be the newest again.

use std::{
    collections::{HashMap, HashSet},
    sync::Mutex,
};

use crate::sync::lock;

/// The replaced resourceVersions, by the object's uid.
#[derive(Default)]
pub struct StaleReads(Mutex<HashMap<String, HashSet<String>>>);

impl StaleReads {
    /// Our write has replaced the copy `old` by `new`. A write that changes nothing keeps the resourceVersion.
    pub fn mark_stale(&self, uid: &str, old: Option<String>, new: Option<&str>) {
        let mut stale = lock(&self.0);
        let versions = stale.entry(uid.to_owned()).or_default();
        versions.extend(old);
        if let Some(new) = new {
            versions.remove(new);
        }
    }

    /// Whether our write has replaced this copy. The first copy that is not ends the memory.
    pub fn is_stale(&self, uid: &str, resource_version: Option<&str>) -> bool {
        let mut stale = lock(&self.0);
        let is_stale = stale
            .get(uid)
            .is_some_and(|versions| resource_version.is_some_and(|version| versions.contains(version)));
        // the watch brings copies in their order, so none of the replaced ones follows
        if !is_stale {
            stale.remove(uid);
        }
        is_stale
    }

    /// Forgets an object that no longer exists.
    pub fn forget(&self, uid: &str) {
        lock(&self.0).remove(uid);
    }

    /// Forgets everything.
    pub fn clear(&self) {
        lock(&self.0).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_is_stale_until_the_cache_shows_another() {
        let reads = StaleReads::default();
        reads.mark_stale("u", Some("1".to_owned()), Some("2"));
        reads.mark_stale("u", Some("2".to_owned()), Some("3"));
        assert!(reads.is_stale("u", Some("1")), "the watch lags two writes behind");
        assert!(reads.is_stale("u", Some("2")));
        assert!(!reads.is_stale("u", Some("3")));
        assert!(!reads.is_stale("u", Some("1")), "a restored etcd may show it again");
    }

    #[test]
    fn write_that_changes_nothing_marks_nothing() {
        let reads = StaleReads::default();
        reads.mark_stale("u", Some("1".to_owned()), Some("1"));
        assert!(!reads.is_stale("u", Some("1")));
    }
}
