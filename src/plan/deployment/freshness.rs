//! Whether the service is queried for a `ChatbotDeployment`, and how new its answers have to be.

use super::{Observation, Step, next_step};
use crate::{
    crd::CurrentOperation,
    plan::{Freshness, ServiceReads, ServiceView},
};

/// Everything as it is at this moment.
const NEWEST: ServiceReads = ServiceReads { list: Freshness::Now, deployment_status: Some(Freshness::Now) };

impl Observation {
    /// Whether the decision depends on the service's answer.
    #[must_use]
    pub fn needs_service(&self) -> bool {
        self.object.spec.suspend != Some(true) && self.older_claim.is_none()
    }

    /// How new the answers have to be.
    #[must_use]
    pub fn service_reads(&self) -> ServiceReads {
        let usual = Freshness::Within(self.interval());
        let requested = self.is_reconcile_requested();
        let of = |urgent: bool| if urgent { Freshness::Now } else { usual };
        ServiceReads { list: of(requested), deployment_status: Some(of(requested || self.is_rolling_out())) }
    }

    /// What has to be read again after the answers to `made`: only newer ones show what these leave open, and a version that
    /// the next step deletes must not be live at this moment.
    #[must_use]
    pub fn further_reads(&self, made: ServiceReads) -> Option<ServiceReads> {
        if made.list != Freshness::Now && self.leaves_open() {
            return Some(ServiceReads { list: Freshness::Now, ..made });
        }
        let deletes =
            || !self.status().pending_deletions.is_empty() && next_step(&self.state()) == Step::DeleteVersion;
        (made != NEWEST && deletes()).then_some(NEWEST)
    }

    /// Whether the decision depends on something that an older list cannot show.
    fn leaves_open(&self) -> bool {
        let ServiceView::Available { deployment_status, .. } = &self.service else {
            return false;
        };
        let desired = self.referenced_version.as_ref().and_then(|version| version.version_id());
        let unlisted = desired.and_then(|id| self.service.lists(id)) == Some(false);
        // without a deployment status only the list shows whether the call took effect
        unlisted || (self.is_rolling_out() && deployment_status.is_none())
    }

    fn is_rolling_out(&self) -> bool {
        self.status().current_operation.as_ref().is_some_and(CurrentOperation::is_sent)
    }
}
