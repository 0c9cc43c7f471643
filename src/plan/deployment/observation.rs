//! Everything that one reconcile has read, with accessors that decide nothing.

use std::{
    collections::HashSet,
    sync::{Arc, LazyLock},
    time::Duration,
};

use jiff::Timestamp;

use super::VersionBeingDeleted;
use crate::{
    chatcaptain::{Inventory, Marker, Version},
    crd::{ChatbotDeployment, ChatbotDeploymentStatus, ChatbotVersion},
    plan::{PlanConfig, ServiceView, reconcile_requested},
};

/// Whether a namespace holds every move forward.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Freeze {
    /// It does not, or nothing depends on it.
    #[default]
    Off,
    /// It does, for this reason.
    On(String),
    /// It cannot be read, for this reason: what is not known to be allowed waits.
    Unknown(String),
}

/// Everything that one reconcile has read.
#[derive(Clone)]
pub struct Observation {
    /// The object, as the cache or this reconcile's last write shows it.
    pub object: Arc<ChatbotDeployment>,
    /// What the service shows of the chatbot.
    pub service: ServiceView,
    /// This process recorded the intent that status shows, and has not sent the call.
    pub may_call: bool,
    /// The object that manages the same environment of the chatbot, as `namespace/name`.
    pub older_claim: Option<String>,
    /// The object that `spec.versionRef` names.
    pub referenced_version: Option<Arc<ChatbotVersion>>,
    /// The object that the annotation `rollback-to` names.
    pub rollback_version: Option<Arc<ChatbotVersion>>,
    /// The object that `spec.promoteAfter` names.
    pub promotion_source: Option<Arc<ChatbotDeployment>>,
    /// The object that `spec.follow` names.
    pub followed: Option<Arc<ChatbotDeployment>>,
    /// `spec.promoteAfter` or `spec.follow` leads over other deployments back to one of them: none of them is ever the first.
    pub promotion_ring: bool,
    /// Whether the namespace is frozen; read only where something is to move forward.
    pub freeze: Freeze,
    /// Versions that run here, or may, and whose objects are being deleted with them.
    pub versions_being_deleted: Vec<VersionBeingDeleted>,
    /// Ids in `status.pendingDeletions` that an object holds with which they are not deleted: it is back, or its policy has
    /// changed since.
    pub reclaimed: HashSet<String>,
    /// Ids that other environments of the chatbot use, or whose object is back and has not adopted them yet.
    pub in_use_elsewhere: HashSet<String>,
    /// The deployment that manages the other environment of the chatbot.
    pub elsewhere: Option<Arc<ChatbotDeployment>>,
    /// The CRD is being deleted, and every object with it; read only while the object is being deleted.
    pub crd_is_being_deleted: bool,
    /// The operator's flags.
    pub config: Arc<PlanConfig>,
    /// The time of this reconcile, in whole seconds as objects keep it.
    pub now: Timestamp,
    /// Randomness that spreads delays, 0 to 1.
    pub jitter: f64,
}

impl Observation {
    /// The status; that of a new object is empty.
    #[must_use]
    pub fn status(&self) -> &ChatbotDeploymentStatus {
        static EMPTY: LazyLock<ChatbotDeploymentStatus> = LazyLock::new(Default::default);
        self.object.status.as_ref().unwrap_or(&EMPTY)
    }

    /// `test` or `prod`.
    #[must_use]
    pub fn environment(&self) -> &'static str {
        self.object.spec.environment.as_str()
    }

    /// The chatbot's versions, if the service could be read.
    #[must_use]
    pub fn inventory(&self) -> Option<&Arc<Inventory>> {
        if let ServiceView::Available { inventory, .. } = &self.service { Some(inventory) } else { None }
    }

    /// A version as the service lists it.
    #[must_use]
    pub fn listed(&self, id: &str) -> Option<&Version> {
        self.inventory().and_then(|inventory| inventory.version(id))
    }

    /// The `reconcile-requested-at` annotation has a token that was not acted on yet: read the service, and retry what was
    /// given up.
    #[must_use]
    pub fn is_reconcile_requested(&self) -> bool {
        reconcile_requested(&self.object.metadata, self.status().common.last_handled_reconcile_at.as_deref())
    }

    /// The environment ran the version, as far as `history` goes back.
    pub(super) fn has_run(&self, id: &str) -> bool {
        self.status().history.iter().any(|entry| entry.version_id == id)
    }

    /// Number of a version, as the service lists it, else as the status has recorded it.
    pub(super) fn version_number(&self, id: &str) -> Option<&str> {
        let status = self.status();
        let listed = || self.listed(id).and_then(|version| version.number.as_deref());
        let target = || status.target.as_ref().filter(|target| target.version_id == id);
        let ran = || status.history.iter().find(|entry| entry.version_id == id);
        listed()
            .or_else(|| target().and_then(|target| target.version_number.as_deref()))
            .or_else(|| ran().and_then(|entry| entry.version_number.as_deref()))
    }

    /// Name of the ChatbotVersion that a version belongs to, as far as anything shows it.
    pub(super) fn version_name(&self, id: &str) -> Option<String> {
        self.name_of_object(id).or_else(|| {
            let status = self.status();
            let earlier = status.history.iter().find(|entry| entry.version_id == id);
            let deleted = status.pending_deletions.iter().find(|entry| entry.version_id == id);
            earlier
                .and_then(|entry| entry.version_name.clone())
                .or_else(|| deleted.map(|entry| entry.name.clone()))
        })
    }

    /// Of an object that the spec or a rollback names, else by the marker.
    fn name_of_object(&self, id: &str) -> Option<String> {
        let mut named = [&self.referenced_version, &self.rollback_version].into_iter().flatten();
        if let Some(version) = named.find(|version| version.version_id() == Some(id)) {
            return version.metadata.name.clone();
        }
        let namespace = self.object.metadata.namespace.as_deref().unwrap_or_default();
        // the whole start is compared: the marker of another owner or namespace names an object that is not beside
        // this one
        let nameless = Marker::new(&self.config.owner_id, namespace, "");
        let marker = self.listed(id)?.marker()?;
        let name = marker.strip_prefix(nameless.as_str().strip_suffix(']')?)?.strip_suffix(']')?;
        Some(name.to_owned())
    }

    /// How long a version may take to become live.
    #[must_use]
    pub fn progress_deadline(&self) -> Duration {
        self.object.spec.progress_deadline()
    }

    /// How old a view of the service may be for this object.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.config.interval(self.object.spec.interval)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::fixtures::version, *};

    #[test]
    fn version_is_named_by_its_object_or_its_marker() {
        let marked = |marker: &str| Version { description: Some(marker.into()), ..version("v2") };
        let listing = |marker: &str| Observation::test().listing([version("v1"), marked(marker)]);
        let ours = listing("[chatcaptain.dev default/ns/b]");
        assert_eq!(ours.version_name("v1").as_deref(), Some("a"), "by versionRef");
        assert_eq!(ours.version_name("v2").as_deref(), Some("b"), "by its marker");
        assert_eq!(ours.version_name("v3"), None);
        assert_eq!(listing("[chatcaptain.dev default/other/b]").version_name("v2"), None);
    }
}
