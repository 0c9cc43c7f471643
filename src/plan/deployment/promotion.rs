//! `spec.promoteAfter`: whether another deployment has run the version for long enough.

use super::{Observation, Promotion};
use crate::{
    crd::{ChatbotDeploymentStatus, ConditionType, PromoteAfter, parse_duration},
    plan::elapsed,
};

impl Observation {
    pub(super) fn promotion(&self, desired: &str) -> Promotion {
        let Some(after) = &self.object.spec.promote_after else {
            return Promotion::Allowed;
        };
        let source = self.promotion_source.as_ref().and_then(|source| source.status.as_ref());
        if source.is_some_and(|source| self.has_soaked(source, after, desired)) {
            return Promotion::Allowed;
        }
        let target = self.status().target.as_ref().filter(|target| target.version_id == desired);
        let since = target.and_then(|target| target.start_time.as_ref());
        // both may come with one commit: the other one is given time to notice
        let overdue = since.is_some_and(|since| elapsed(since, self.now) > self.progress_deadline());
        if overdue && !source.is_some_and(|source| is_heading_to(source, desired)) {
            Promotion::Blocked
        } else {
            Promotion::Waiting
        }
    }

    /// The other deployment has been Ready, and on this version, for the soak time.
    fn has_soaked(&self, source: &ChatbotDeploymentStatus, after: &PromoteAfter, desired: &str) -> bool {
        let soak = after.soak.as_deref().and_then(|text| parse_duration(text).ok()).unwrap_or_default();
        let ready = source.common.conditions.iter().find(|c| c.type_ == "Ready" && c.status == "True");
        let active = source.active.as_ref().filter(|active| active.version_id == desired);
        ready.zip(active).is_some_and(|(ready, active)| {
            elapsed(&ready.last_transition_time, self.now) >= soak
                && elapsed(&active.start_time, self.now) >= soak
        })
    }
}

/// A deployment runs a version or is on its way there.
pub(super) fn is_heading_to(status: &ChatbotDeploymentStatus, id: &str) -> bool {
    !status.common.is_true(ConditionType::Stalled)
        && status.target.as_ref().is_some_and(|target| target.version_id == id)
}
