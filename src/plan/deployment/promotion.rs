//! The gates: whether a version may move forward. Each is about one version, and none delays a rollback, a correction of
//! drift, or a rollout that has begun.

use std::{collections::HashSet, sync::Arc};

use jiff::Timestamp;

use super::{
    Desired, Freeze, Gate, Observation, Promotion, State, Step, Wait, next_step,
    windows::{Windows, windows},
};
use crate::{
    crd::{
        ChatbotDeployment, ChatbotDeploymentStatus, ConditionType, MetaDuration, PromoteAfter, VersionSource,
        annotation,
    },
    plan::{annotation_value, elapsed},
};

/// Why a spec cannot be worked on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum InvalidSpec {
    /// It names no version, or more than one.
    NotOneVersion,
    /// A window cannot be read.
    Window(String),
    /// `spec.follow` leads back to this object.
    FollowsItself,
}

impl Observation {
    /// Whether the decision depends on a freeze of the namespace: the environment is about to move forward.
    #[must_use]
    pub fn needs_freeze(&self) -> bool {
        let moves_forward =
            |desired: &Desired| !self.is_live(&desired.version_id) && !self.goes_back_to(desired);
        // first: what runs what it should need not compute the state twice
        if !self.desired().is_ok_and(|desired| moves_forward(&desired)) {
            return false;
        }
        let state = self.state();
        // without a command that has ended, whose removal comes first only where nothing moves
        let frozen = State { promotion: Promotion::Waiting(Gate::Freeze), command_ended: false, ..state };
        state.promotion == Promotion::Allowed && next_step(&frozen) == Step::Wait(Wait::Gate(Gate::Freeze))
    }

    pub(super) fn promotion(&self, desired: &Desired) -> Promotion {
        if self.goes_back_to(desired) {
            return Promotion::Allowed;
        }
        let (spec, id) = (&self.object.spec, desired.version_id.as_str());
        if let Some(after) = &spec.promote_after {
            let is_named =
                |annotation: Option<&str>| annotation.is_some_and(|value| self.is_name_of(value, id));
            if spec.promotion_source().is_some()
                && let held @ (Promotion::Waiting(_) | Promotion::Blocked) =
                    self.promotion_by_source(after, id)
            {
                return held;
            }
            if after.verified == Some(true) && !is_named(self.verified()) {
                return Promotion::Waiting(Gate::Verification);
            }
            if after.approved == Some(true) && !is_named(self.approved()) {
                return Promotion::Waiting(Gate::Approval);
            }
        }
        match windows(&spec.windows, self.now) {
            Windows::Closed(_) => Promotion::Waiting(Gate::Window),
            // last: the namespace is read only for what nothing else holds
            _ if self.freeze != Freeze::Off => Promotion::Waiting(Gate::Freeze),
            // an invalid one makes the spec invalid
            Windows::Open | Windows::Invalid(_) => Promotion::Allowed,
        }
    }

    /// Whether the deployment that has to run the version first has done so.
    fn promotion_by_source(&self, after: &PromoteAfter, desired: &str) -> Promotion {
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
            Promotion::Waiting(Gate::Promotion)
        }
    }

    /// What the deployment before this one says that it has verified.
    pub(super) fn verified(&self) -> Option<&str> {
        annotation_value(&self.promotion_source.as_ref()?.metadata, annotation::VERIFIED)
    }

    /// What this object says that is approved.
    pub(super) fn approved(&self) -> Option<&str> {
        annotation_value(&self.object.metadata, annotation::APPROVED)
    }

    /// Whether the value of an annotation names this version: by its id, its number, or its ChatbotVersion.
    fn is_name_of(&self, value: &str, id: &str) -> bool {
        value == id
            || self.version_name(id).as_deref() == Some(value)
            || self.numbered_version(value).as_deref() == Some(id)
    }

    /// When the next window opens, where that is what the object waits for.
    pub(super) fn next_window(&self) -> Option<Timestamp> {
        match windows(&self.object.spec.windows, self.now) {
            Windows::Closed(next) => next,
            Windows::Open | Windows::Invalid(_) => None,
        }
    }

    /// Why the spec cannot be worked on, if it cannot.
    pub(super) fn invalid_spec(&self) -> Option<InvalidSpec> {
        let spec = &self.object.spec;
        let source = spec.version_source();
        match (source, windows(&spec.windows, self.now)) {
            (None, _) => Some(InvalidSpec::NotOneVersion),
            (_, Windows::Invalid(why)) => Some(InvalidSpec::Window(why)),
            (Some(VersionSource::Follow(_)), _) if self.promotion_ring => Some(InvalidSpec::FollowsItself),
            _ => None,
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
/// The same of `follow`. None of a ring is ever the first.
#[must_use]
pub fn is_promotion_ring(
    deployment: &ChatbotDeployment,
    named: impl Fn(&str) -> Option<Arc<ChatbotDeployment>>,
) -> bool {
    leads_to_ring(deployment, &named, &mut Vec::new(), &mut HashSet::new())
}

fn leads_to_ring(
    deployment: &ChatbotDeployment,
    named: &impl Fn(&str) -> Option<Arc<ChatbotDeployment>>,
    path: &mut Vec<String>,
    done: &mut HashSet<String>,
) -> bool {
    let name = deployment.metadata.name.clone().unwrap_or_default();
    path.push(name.clone());
    let closes = deployment.spec.sources().any(|next| {
        path.iter().any(|passed| passed == next)
            || !done.contains(next)
                && named(next).is_some_and(|source| leads_to_ring(&source, named, path, done))
    });
    path.pop();
    done.insert(name);
    closes
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

    use super::{
        super::{RolloutMethod, fixtures::*},
        *,
    };

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
            (runs("v1", 59, ready(61, "Available", "True")), Promotion::Waiting(Gate::Promotion)),
            (runs("v1", 61, ready(59, "Available", "True")), Promotion::Waiting(Gate::Promotion)),
            (runs("v1", 61, ready(61, "Deploying", "False")), Promotion::Waiting(Gate::Promotion)),
            (runs("v2", 61, ready(61, "Available", "True")), Promotion::Waiting(Gate::Promotion)),
        ] {
            assert_eq!(after_test(&source).state().promotion, expected, "{source}");
        }
    }

    /// Ready in test, with every gate of prod closed.
    fn behind_every_gate() -> Observation {
        let gates = json!({
            "promoteAfter": {"deploymentRef": {"name": "test"}, "verified": true, "approved": true},
            // at() is in January 2026
            "windows": [{"schedule": "0 0 1 6 *", "duration": "1h"}],
        });
        let source = after_test(&runs("v1", 61, ready(61, "Available", "True")));
        Observation { freeze: Freeze::On("a holiday".to_owned()), ..source.with_spec(&gates) }
    }

    fn verified(mut observation: Observation, name: &str) -> Observation {
        let source = observation.promotion_source.take().unwrap();
        let mut source = ChatbotDeployment::clone(&source);
        source
            .metadata
            .annotations
            .get_or_insert_default()
            .insert(annotation::VERIFIED.to_owned(), name.to_owned());
        Observation { promotion_source: Some(Arc::new(source)), ..observation }
    }

    #[test]
    fn gates_open_one_by_one() {
        let held = |observation: &Observation| observation.state().promotion;
        let closed = behind_every_gate();
        assert_eq!(held(&closed), Promotion::Waiting(Gate::Verification));
        let verified = verified(closed, "v1");
        assert_eq!(held(&verified), Promotion::Waiting(Gate::Approval));
        let approved = verified.annotated(annotation::APPROVED, "v1");
        assert_eq!(held(&approved), Promotion::Waiting(Gate::Window));
        let open = approved.with_spec(&json!({"windows": []}));
        assert_eq!(held(&open), Promotion::Waiting(Gate::Freeze));
        assert_eq!(held(&Observation { freeze: Freeze::Off, ..open }), Promotion::Allowed);
    }

    #[test]
    fn an_annotation_is_about_one_version() {
        let waits = |name: &str| {
            let observation = verified(behind_every_gate(), name);
            observation.state().promotion == Promotion::Waiting(Gate::Verification)
        };
        for name in ["v1", "1.1", "a"] {
            assert!(!waits(name), "{name} is the version's id, number or object");
        }
        for other in ["v2", "1.2", "b", "V1", "v1 "] {
            assert!(waits(other), "{other:?}");
        }
        let stale = verified(behind_every_gate(), "v2");
        let message = stale.report().status.common.conditions.remove(0).message;
        assert!(message.contains("verified names v2") && message.contains("verified=v1"), "{message}");
    }

    #[test]
    fn no_gate_holds_a_rollback_or_a_correction_of_drift() {
        let elsewhere = json!({"history": [{"versionId": "v2", "startTime": ago(9)}, {"versionId": "v1", "startTime": ago(99)}]});
        let revert = behind_every_gate().with_status(&elsewhere).running(Some("v2"));
        assert_eq!(revert.next_step(), Step::RecordIntent(RolloutMethod::Rollback));
        assert!(!revert.needs_freeze(), "the namespace is not read for it");
        let drifted = behind_every_gate().with_status(&reached_target("v1")).running(Some("v2"));
        assert_eq!(drifted.next_step(), Step::RecordIntent(RolloutMethod::Deploy));
        let forward = Observation { freeze: Freeze::Off, ..Observation::test().running(Some("v2")) };
        assert!(forward.needs_freeze());
        assert!(!Observation::test().running(Some("v1")).needs_freeze(), "nothing moves");
        let spent = forward.annotated(annotation::ROLLBACK_TO, "v1");
        assert!(spent.needs_freeze(), "a command that names the version of the spec opens no gate");
    }

    #[test]
    fn window_that_cannot_be_read_is_an_invalid_spec() {
        let windows = json!({"windows": [{"schedule": "0 25 * * *", "duration": "1h"}]});
        let report = Observation::test().with_spec(&windows).report();
        assert_eq!(condition(&report, "Stalled"), Some(("True", "InvalidSpec")));
        let message = &report.status.common.conditions[0].message;
        assert!(message.contains("0 25 * * *") && message.ends_with("Correct spec.windows."), "{message}");
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
        assert_eq!(promotion(&target("v2"), 300), Promotion::Waiting(Gate::Promotion));
        assert_eq!(promotion(&target("v2"), 301), Promotion::Blocked);
        assert_eq!(promotion(&target("v1"), 301), Promotion::Waiting(Gate::Promotion), "it is on its way");
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
        assert_eq!(
            soaking.state().promotion,
            Promotion::Waiting(Gate::Promotion),
            "it stays Ready on the version"
        );
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
