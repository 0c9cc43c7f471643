//! Observations for the tests of this kind.
//!
//! Unless a test says otherwise, `ns/support` manages prod of chatbot `bot` and names the `ChatbotVersion` `a`, which is
//! version `v1`; the service lists `v1`, `v2` and `v3` with the numbers 1.1, 1.2 and 1.3, and nothing runs.

use std::{
    collections::HashSet,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Freeze, Live, Observation, Outcome, PendingDeletionState, Promotion, Rollout, State, Step, TargetState,
    report,
};
use crate::{
    chatcaptain::{
        ApiCall, DeploymentStatus, Failure, FailureClass, Inventory, LiveVersion, Refusal, Version, VersionId,
    },
    crd::{Cause, ChatbotDeploymentStatus, ChatbotVersion, DeletionPolicy, FINALIZER},
    plan::{PlanConfig, Report, ServiceView, Unavailable, UnavailableReason},
};

/// An inventory needs an instant to be made. No test depends on it: the plan itself reads no clock.
static READ_AT: LazyLock<Instant> = LazyLock::new(Instant::now);

const NOW: i64 = 1_000_000;

/// A time before the observation, as manifests have it.
pub(super) fn ago(seconds: i64) -> Value {
    json!(at(-seconds).to_string())
}

/// A time relative to the observation.
pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW + seconds).unwrap()
}

/// A version in the service; the number of `v1` is 1.1.
pub(super) fn version(id: &str) -> Version {
    Version {
        id: VersionId::parse(id).unwrap(),
        name: None,
        description: None,
        number: Some(id.replace('v', "1.").into()),
        created: None,
        deployed: None,
        contents: None,
    }
}

/// A version in the service that was deployed so many seconds before the observation.
pub(super) fn deployed(id: &str, seconds: i64) -> Version {
    Version { deployed: Some(at(-seconds)), ..version(id) }
}

/// The object of `v1`, with other fields.
pub(super) fn referenced(fields: &Value) -> Arc<ChatbotVersion> {
    let mut value = json!({
        "apiVersion": "chatcaptain.dev/v1alpha1", "kind": "ChatbotVersion",
        "metadata": {"name": "a", "namespace": "ns"},
        "spec": {"chatbotId": "bot"}, "status": {"versionId": "v1", "versionNumber": "1.1"},
    });
    value.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    Arc::new(serde_json::from_value(value).unwrap())
}

/// `status.currentOperation` on `id`; a call that was not sent has no age.
pub(super) fn operation(operation: &str, id: &str, called: Option<i64>, result: Option<&str>) -> Value {
    json!({"currentOperation": {
        "operation": operation, "versionId": id, "startTime": ago(called.unwrap_or(0)),
        "callTime": called.map(ago), "result": result,
    }})
}

/// A target that the environment has run.
pub(super) fn reached_target(id: &str) -> Value {
    json!({"target": {"versionId": id, "cause": "Spec", "startTime": ago(200), "reachedTime": ago(100)}})
}

/// A rejected call.
pub(super) fn refused(call: ApiCall) -> Failure {
    Failure::new(call, FailureClass::Refused(Refusal::Unsupported), "no such call")
}

/// A call that was not sent because of a throttle.
pub(super) fn throttled(call: ApiCall) -> Failure {
    Failure::new(call, FailureClass::Throttled { retry_after: Some(Duration::from_secs(3)) }, "slow down")
}

/// A call without a usable answer.
pub(super) fn unknown(call: ApiCall) -> Failure {
    Failure::new(call, FailureClass::Unknown, "timeout")
}

impl Observation {
    pub(super) fn test() -> Self {
        let object = json!({
            "apiVersion": "chatcaptain.dev/v1alpha1", "kind": "ChatbotDeployment",
            "metadata": {"name": "support", "namespace": "ns", "generation": 1},
            "spec": {"chatbotId": "bot", "environment": "prod", "versionRef": {"name": "a"}},
            "status": {"observedGeneration": 1},
        });
        let observation = Self {
            object: Arc::new(serde_json::from_value(object).unwrap()),
            service: ServiceView::NotQueried,
            may_call: false,
            older_claim: None,
            referenced_version: Some(referenced(&json!({}))),
            rollback_version: None,
            promotion_source: None,
            followed: None,
            promotion_ring: false,
            freeze: Freeze::Off,
            versions_being_deleted: vec![],
            reclaimed: HashSet::new(),
            in_use_elsewhere: HashSet::new(),
            elsewhere: None,
            crd_is_being_deleted: false,
            config: Arc::new(PlanConfig {
                owner_id: "default".to_owned(),
                interval: Duration::from_mins(5),
                min_interval: Duration::from_secs(10),
                visibility_grace: Duration::from_secs(30),
                deletion_policy: DeletionPolicy::Delete,
                deletion_timeout: Duration::from_mins(15),
            }),
            now: at(0),
            jitter: 0.0,
        };
        observation.listing([version("v1"), version("v2"), version("v3")]).running(None)
    }

    /// With these fields in part of the object; null removes one.
    fn with(mut self, part: &str, fields: &Value) -> Self {
        let mut object = serde_json::to_value(&*self.object).unwrap();
        let old = object[part].as_object_mut().unwrap();
        old.extend(fields.as_object().unwrap().clone());
        old.retain(|_, field| !field.is_null());
        self.object = Arc::new(serde_json::from_value(object).unwrap());
        self
    }

    pub(super) fn with_metadata(self, fields: &Value) -> Self {
        self.with("metadata", fields)
    }

    pub(super) fn with_spec(self, fields: &Value) -> Self {
        self.with("spec", fields)
    }

    pub(super) fn with_status(self, fields: &Value) -> Self {
        self.with("status", fields)
    }

    pub(super) fn annotated(self, key: &str, value: &str) -> Self {
        let annotations = json!({"annotations": {key: value}});
        self.with_metadata(&annotations)
    }

    /// The object holds the finalizer and is being deleted for so many seconds.
    pub(super) fn deleted(self, seconds: i64) -> Self {
        self.with_metadata(&json!({"finalizers": [FINALIZER], "deletionTimestamp": ago(seconds)}))
    }

    /// The service lists these versions and does not show what runs.
    pub(super) fn listing<const N: usize>(mut self, versions: [Version; N]) -> Self {
        self.service = ServiceView::Available {
            inventory: Arc::new(Inventory::new(versions.into(), *READ_AT)),
            deployment_status: None,
            authoritative: true,
            rollout_pending: false,
            age: Duration::ZERO,
        };
        self
    }

    /// The deployment status says that prod runs the version with the number of `id`.
    pub(super) fn running(mut self, id: Option<&str>) -> Self {
        let live = id.map(|id| LiveVersion { id: None, number: Some(id.replace('v', "1.").into()) });
        let ServiceView::Available { deployment_status, .. } = &mut self.service else {
            panic!("nothing is listed")
        };
        *deployment_status = Some(Arc::new(DeploymentStatus { test: None, prod: live }));
        self
    }

    /// The service gives no answer.
    pub(super) fn unavailable(mut self, reason: UnavailableReason) -> Self {
        let message = "The service gives no answer. Wait.".to_owned();
        self.service = ServiceView::Unavailable(Unavailable { reason, message, retry_after: None });
        self
    }

    pub(super) fn next_step(&self) -> Step {
        super::next_step(&self.state())
    }

    /// The report of the next step, if that calls nothing.
    pub(super) fn report(&self) -> Report<ChatbotDeploymentStatus> {
        self.report_of(&Outcome::NoCall)
    }

    /// The report of the next step.
    pub(super) fn report_of(&self, outcome: &Outcome) -> Report<ChatbotDeploymentStatus> {
        let state = self.state();
        report(self, &state, super::next_step(&state), outcome)
    }

    /// The next reconcile, after the report of this one.
    pub(super) fn after(mut self, report: Report<ChatbotDeploymentStatus>) -> Self {
        Arc::make_mut(&mut self.object).status = Some(report.status);
        self
    }
}

impl State {
    /// The environment runs what the spec names.
    pub(super) fn test() -> Self {
        Self {
            spec_valid: true,
            suspended: false,
            deleting: None,
            finalizer: false,
            conflict: false,
            command_ended: false,
            backing_off: false,
            unavailable: None,
            target: TargetState::Resolved(Cause::Spec),
            live: Live::Desired,
            foreign_live: false,
            rollout: Rollout::None,
            use_rollback: false,
            promotion: Promotion::Allowed,
            drift: super::Drift::None,
            pending_deletion: PendingDeletionState::None,
        }
    }
}

/// Status and reason of a condition.
pub(super) fn condition<'a>(
    report: &'a Report<ChatbotDeploymentStatus>,
    kind: &str,
) -> Option<(&'a str, &'a str)> {
    let conditions = &report.status.common.conditions;
    let found = conditions.iter().find(|condition| condition.type_ == kind);
    found.map(|condition| (condition.status.as_str(), condition.reason.as_str()))
}

/// Reasons and notes of the events.
pub(super) fn events(report: &Report<ChatbotDeploymentStatus>) -> Vec<(&'static str, &str)> {
    report.events.iter().map(|event| (event.reason.as_str(), event.note.as_str())).collect()
}
