//! `spec.promoteAfter`: whether another deployment has run the version for long enough. Delays only
//! versions that are new here: a rollback waits for no other deployment.

use super::{Desired, Observation, Promotion};
use crate::{
    crd::{ChatbotDeploymentStatus, ConditionType, MetaDuration, PromoteAfter},
    plan::elapsed,
};

impl Observation {
    pub(super) fn promotion(&self, desired: &Desired) -> Promotion {
        let Some(after) = self.object.spec.promote_after.as_ref().filter(|_| !self.goes_back_to(desired))
        else {
            return Promotion::Allowed;
        };
        let desired = desired.version_id.as_str();
        let source = self.promotion_source.as_ref().and_then(|source| source.status.as_ref());
        if source.is_some_and(|source| self.has_soaked(source, after, desired)) {
            return Promotion::Allowed;
        }
        let target = self.status().target.as_ref().filter(|target| target.version_id == desired);
        // from the start of this target: each version that is to be promoted has its own deadline
        let since = target.and_then(|target| target.start_time.as_ref());
        // one commit may change both: the other deployment gets time to reconcile it
        let deadline_is_over = since.is_some_and(|since| elapsed(since, self.now) > self.progress_deadline());
        if deadline_is_over && !source.is_some_and(|source| is_heading_to(source, desired)) {
            Promotion::Blocked
        } else {
            Promotion::Waiting
        }
    }

    /// Whether the other deployment has been Ready on this version for the soak time.
    fn has_soaked(&self, source: &ChatbotDeploymentStatus, after: &PromoteAfter, desired: &str) -> bool {
        let soak = after.soak.map(MetaDuration::get).unwrap_or_default();
        let ready = source.common.conditions.iter().find(|c| c.type_ == "Ready" && c.status == "True");
        let active = source.active.as_ref().filter(|active| active.version_id == desired);
        ready.zip(active).is_some_and(|(ready, active)| {
            // both: Ready may be older than this version there, and the version may have run before it was Ready
            elapsed(&ready.last_transition_time, self.now) >= soak
                && elapsed(&active.start_time, self.now) >= soak
        })
    }
}

/// Whether a deployment runs a version or is deploying it.
pub(super) fn is_heading_to(status: &ChatbotDeploymentStatus, id: &str) -> bool {
    // a Stalled deployment gets there only if the user acts
    !status.common.is_true(ConditionType::Stalled)
        && status.target.as_ref().is_some_and(|target| target.version_id == id)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::fixtures::*, *};

    /// prod follows test, whose status is this, with a soak time of a minute.
    fn after_test(status: &Value) -> Observation {
        let source = Observation::test().with_status(status).object;
        let after = json!({"promoteAfter": {"deploymentRef": {"name": "test"}, "soak": "1m"}});
        Observation { promotion_source: Some(source), ..Observation::test().with_spec(&after) }
    }

    fn ready(seconds: i64, reason: &str, status: &str) -> Value {
        json!({"conditions": [{
            "type": "Ready", "status": status, "reason": reason, "message": "",
            "lastTransitionTime": ago(seconds),
        }]})
    }

    fn runs(id: &str, since: i64, mut status: Value) -> Value {
        status["active"] = json!({"versionId": id, "startTime": ago(since)});
        status
    }

    #[test]
    fn promotion_waits_until_the_version_was_ready_for_the_soak_time() {
        for (source, expected) in [
            (runs("v1", 61, ready(61, "Available", "True")), Promotion::Allowed),
            (runs("v1", 59, ready(61, "Available", "True")), Promotion::Waiting),
            (runs("v1", 61, ready(59, "Available", "True")), Promotion::Waiting),
            (runs("v1", 61, ready(61, "Deploying", "False")), Promotion::Waiting),
            (runs("v2", 61, ready(61, "Available", "True")), Promotion::Waiting),
        ] {
            assert_eq!(after_test(&source).state().promotion, expected, "{source}");
        }
    }

    #[test]
    fn revert_in_the_spec_waits_for_no_promotion() {
        let elsewhere = runs("v2", 61, ready(61, "Available", "True"));
        let ran = json!({"history": [{"versionId": "v2", "startTime": ago(9)}, {"versionId": "v1", "startTime": ago(99)}]});
        let observation = after_test(&elsewhere).with_status(&ran);
        assert_eq!(observation.state().promotion, Promotion::Allowed);
    }

    #[test]
    fn promotion_is_blocked_after_the_deadline_if_the_source_goes_elsewhere() {
        let target = |id| json!({"target": {"versionId": id, "cause": "Spec", "startTime": ago(1)}});
        let since =
            |seconds| json!({"target": {"versionId": "v1", "cause": "Spec", "startTime": ago(seconds)}});
        let promotion =
            |source: &Value, seconds| after_test(source).with_status(&since(seconds)).state().promotion;
        assert_eq!(promotion(&target("v2"), 300), Promotion::Waiting);
        assert_eq!(promotion(&target("v2"), 301), Promotion::Blocked);
        assert_eq!(promotion(&target("v1"), 301), Promotion::Waiting, "it is on its way");
        let mut stalled = target("v1");
        stalled["conditions"] = json!([{
            "type": "Stalled", "status": "True", "reason": "RolledBack", "message": "", "lastTransitionTime": ago(1),
        }]);
        assert_eq!(promotion(&stalled, 301), Promotion::Blocked);
        let missing =
            Observation { promotion_source: None, ..after_test(&json!({})).with_status(&since(301)) };
        assert_eq!(missing.state().promotion, Promotion::Blocked);
    }

    #[test]
    fn rollback_waits_for_no_promotion() {
        let observation = after_test(&json!({})).annotated(crate::crd::annotation::ROLLBACK_TO, "v2");
        assert_eq!(observation.state().promotion, Promotion::Allowed);
    }
}
