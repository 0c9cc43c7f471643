//! Whether the service is queried for a `ChatbotVersion`, and how new its answers have to be.

use super::Observation;
use crate::{
    chatcaptain::{Inventory, Version},
    crd::{DeletionPolicy, FINALIZER, Reason, annotation},
    plan::{Freshness, ServiceReads, annotation_value},
};

impl Observation {
    /// Whether the decision depends on the service's answer. Where it does not, the service is not queried: an object whose
    /// version stays must be deletable during an outage.
    #[must_use]
    pub fn needs_service(&self) -> bool {
        let meta = &self.object.metadata;
        let version_stays = self.deletion_policy() == DeletionPolicy::Retain
            || annotation_value(meta, annotation::FORCE_ORPHAN).is_some();
        let only_finalizer_goes = meta.deletion_timestamp.is_some() && version_stays;
        let has_finalizer = meta.finalizers.iter().flatten().any(|f| f == FINALIZER);
        has_finalizer
            && self.object.spec.suspend != Some(true)
            && self.older_claim.is_none()
            && !only_finalizer_goes
    }

    /// How new the answers have to be.
    #[must_use]
    pub fn service_reads(&self) -> ServiceReads {
        let status = self.status();
        let usual = Freshness::Within(self.interval());
        let urgent = self.object.metadata.deletion_timestamp.is_some() || self.is_reconcile_requested();
        let list = match () {
            () if self.is_about_to_change() => Freshness::Now,
            () if self.may_call => Freshness::AfterIntent,
            () if urgent || status.pending_create.is_some() => Freshness::Now,
            () => usual,
        };
        let deployment_status = if urgent { Freshness::Now } else { usual };
        // what does not exist yet runs nowhere
        ServiceReads { list, deployment_status: status.version_id.is_some().then_some(deployment_status) }
    }

    /// Whether a version is about to appear or to disappear, which only a newer list shows.
    fn is_about_to_change(&self) -> bool {
        let waiting = [Reason::WaitingForVisibility, Reason::WaitingForDeletion].map(Reason::as_str);
        self.status().common.conditions.iter().any(|c| waiting.contains(&c.reason.as_str()))
    }

    /// The listed versions that other objects may hold or delete, and that therefore have to be checked: all candidates
    /// while the object does not know which version is its own.
    #[must_use]
    pub fn candidates_to_check<'a>(&self, inventory: &'a Inventory) -> Vec<&'a Version> {
        let is_known = self.object.version_id().is_some() && self.status().pending_create.is_none();
        if is_known { Vec::new() } else { self.candidates(inventory) }
    }
}
