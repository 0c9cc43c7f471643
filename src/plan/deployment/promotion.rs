//! `spec.promoteAfter`: whether another deployment has run the version for long enough. Delays only moves forward: a rollback
//! waits for no other deployment.

use std::{collections::HashSet, sync::Arc};

use super::{Desired, Observation, Promotion};
use crate::{
    crd::{ChatbotDeployment, ChatbotDeploymentStatus, ConditionType, MetaDuration, PromoteAfter},
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
        if self.promotion_ring
            || source.is_none_or(|source| !runs(source, desired)) && self.is_source_suspended()
        {
            return Promotion::Blocked;
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

    pub(super) fn is_source_suspended(&self) -> bool {
        self.promotion_source.as_ref().is_some_and(|source| source.spec.suspend == Some(true))
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

fn runs(status: &ChatbotDeploymentStatus, id: &str) -> bool {
    status.active.as_ref().is_some_and(|active| active.version_id == id)
}

/// Whether `promoteAfter` leads from a deployment over others back to one of them; `named` finds a deployment by its name.
/// None of a ring is ever the first.
#[must_use]
pub fn is_promotion_ring(
    deployment: &ChatbotDeployment,
    named: impl Fn(&str) -> Option<Arc<ChatbotDeployment>>,
) -> bool {
    let after = |deployment: &ChatbotDeployment| {
        deployment.spec.promote_after.as_ref().map(|after| after.deployment_ref.name.clone())
    };
    let mut passed: HashSet<String> = deployment.metadata.name.clone().into_iter().collect();
    let mut next = after(deployment);
    while let Some(name) = next {
        next = named(&name).and_then(|deployment| after(&deployment));
        if !passed.insert(name) {
            return true;
        }
    }
    false
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
    fn promotion_is_blocked_at_once_where_it_would_wait_for_ever() {
        let mut suspended = after_test(&runs("v2", 61, ready(61, "Available", "True")));
        let source = suspended.promotion_source.as_mut().unwrap();
        Arc::make_mut(source).spec.suspend = Some(true);
        assert_eq!(suspended.state().promotion, Promotion::Blocked);
        let source = Observation::test().with_status(&runs("v1", 59, ready(61, "Available", "True"))).object;
        let mut soaking = Observation { promotion_source: Some(source), ..suspended };
        Arc::make_mut(soaking.promotion_source.as_mut().unwrap()).spec.suspend = Some(true);
        assert_eq!(soaking.state().promotion, Promotion::Waiting, "it stays Ready on the version");
        let ring = Observation { promotion_ring: true, ..after_test(&json!({})) };
        assert_eq!(ring.state().promotion, Promotion::Blocked);
    }

    #[test]
    fn ring_of_promotions_is_found_wherever_it_closes() {
        let named = |name: &str, after: Option<&str>| {
            let after = after.map(|after| json!({"deploymentRef": {"name": after}}));
            let object = Observation::test().with_spec(&json!({"promoteAfter": after})).object;
            let mut object = ChatbotDeployment::clone(&object);
            object.metadata.name = Some(name.to_owned());
            Arc::new(object)
        };
        let is_ring = |all: &[(&str, Option<&str>)]| {
            let all: Vec<_> = all.iter().map(|(name, after)| named(name, *after)).collect();
            let find = |name: &str| all.iter().find(|d| d.metadata.name.as_deref() == Some(name)).cloned();
            is_promotion_ring(&all[0], find)
        };
        assert!(is_ring(&[("prod", Some("prod"))]), "it waits for itself");
        assert!(is_ring(&[("prod", Some("test")), ("test", Some("prod"))]));
        assert!(is_ring(&[("prod", Some("test")), ("test", Some("dev")), ("dev", Some("test"))]));
        assert!(!is_ring(&[("prod", Some("test")), ("test", Some("dev")), ("dev", None)]));
        assert!(!is_ring(&[("prod", Some("missing"))]));
    }

    #[test]
    fn rollback_waits_for_no_promotion() {
        let observation = after_test(&json!({})).annotated(crate::crd::annotation::ROLLBACK_TO, "v2");
        assert_eq!(observation.state().promotion, Promotion::Allowed);
    }
}
