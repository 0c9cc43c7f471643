//! What unit tests start from: a new object with its finalizer, and a service that lists nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::{Observation, Outcome, Step, next_step, report};
use crate::{
    chatcaptain::{
        ApiCall, DeploymentStatus, Failure, FailureClass, Inventory, LiveVersion, Version, VersionId,
    },
    crd::{
        ChatbotDeployment, ChatbotVersion, ChatbotVersionStatus, DeletionPolicy, FINALIZER, LiveEnvironment,
        Operation, OperationRecord, OperationResult, PendingCreate,
    },
    plan::{PlanConfig, Report, ServiceView, Unavailable, UnavailableReason},
};

/// The time of the reconcile, in seconds.
const NOW: i64 = 1_000_000;
static LIST_TIME: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The marker of the object.
pub(super) const OURS: &str = "[chatcaptain.dev default/chatbots/support]";
/// The marker of another object.
pub(super) const THEIRS: &str = "[chatcaptain.dev default/chatbots/other]";

/// The marker of an object of the same name, of another installation.
pub(super) const FOREIGN: &str = "[chatcaptain.dev other/chatbots/support]";

/// A time before the reconcile.
pub(super) fn seconds_ago(seconds: i64) -> Time {
    Time(Timestamp::from_second(NOW - seconds).unwrap())
}

/// A version named `support`, as the service lists it.
pub(super) fn version(id: &str, description: &str) -> Version {
    Version {
        id: VersionId::parse(id).unwrap(),
        name: Some("support".into()),
        description: Some(description.into()),
        number: Some(id.replace('v', "1.").into()),
        created: None,
        deployed: None,
        contents: None,
    }
}

/// An answer to a failed call.
pub(super) fn failure(call: ApiCall, class: FailureClass) -> Failure {
    Failure::new(call, class, "Quota reached")
}

/// These versions as one answer of the service.
pub(super) fn inventory(versions: Vec<Version>) -> Arc<Inventory> {
    Arc::new(Inventory::new(versions, *LIST_TIME))
}

impl Observation {
    /// A new object with its finalizer; the service lists no versions and runs none.
    pub(super) fn test() -> Self {
        let object = json!({
            "apiVersion": "chatcaptain.dev/v1alpha1", "kind": "ChatbotVersion",
            "metadata": {"name": "support", "namespace": "chatbots", "uid": "u", "generation": 1, "finalizers": [FINALIZER]},
            "spec": {"chatbotId": "bot59aBv7wzR9"},
            "status": {"observedGeneration": -1},
        });
        let config = PlanConfig {
            owner_id: "default".to_owned(),
            interval: Duration::from_mins(5),
            min_interval: Duration::from_secs(10),
            visibility_grace: Duration::from_secs(30),
            deletion_policy: DeletionPolicy::Delete,
            deletion_timeout: Duration::from_mins(15),
        };
        let observation = Self {
            object: Arc::new(serde_json::from_value(object).unwrap()),
            service: ServiceView::NotQueried,
            may_call: false,
            search_elapsed: Duration::ZERO,
            held_by_others: HashSet::new(),
            deletion_pending: HashSet::new(),
            older_claim: None,
            older_create_pending: false,
            deployments: Vec::new(),
            environment_owners: BTreeMap::new(),
            namespace_policy: None,
            crd_is_being_deleted: false,
            config: Arc::new(config),
            now: seconds_ago(0).0,
            attempt_id: "attempt".to_owned(),
            jitter: 0.0,
        };
        observation.listing(vec![])
    }

    /// With another object.
    pub(super) fn with(mut self, change: impl FnOnce(&mut ChatbotVersion)) -> Self {
        change(Arc::make_mut(&mut self.object));
        self
    }

    /// With another status.
    pub(super) fn with_status(self, change: impl FnOnce(&mut ChatbotVersionStatus)) -> Self {
        self.with(|object| change(object.status.get_or_insert_default()))
    }

    /// With an annotation.
    pub(super) fn annotated(self, key: &str, value: &str) -> Self {
        self.with(|object| {
            object.metadata.annotations.get_or_insert_default().insert(key.to_owned(), value.to_owned());
        })
    }

    /// Being deleted since this many seconds.
    pub(super) fn deleted(self, seconds: i64) -> Self {
        self.with(|object| object.metadata.deletion_timestamp = Some(seconds_ago(seconds)))
    }

    /// With a recorded version.
    pub(super) fn recorded(self, id: &str) -> Self {
        self.with_status(|status| status.version_id = Some(id.to_owned()))
    }

    /// With an intent that another process has written.
    pub(super) fn with_intent(self, existing: &[&str]) -> Self {
        self.with_status(|status| {
            status.pending_create = Some(PendingCreate {
                attempt_id: "attempt".to_owned(),
                start_time: seconds_ago(60),
                existing_ids: existing.iter().map(|&id| id.to_owned()).collect(),
                version_id: None,
                search_start_time: None,
            });
        })
    }

    /// With an intent of this process, which may send the request.
    pub(super) fn may_create(self) -> Self {
        Self { may_call: true, ..self.with_intent(&[]) }
    }

    /// With a create of unknown outcome that has been searched for this long.
    pub(super) fn searching(self, seconds: u64) -> Self {
        let observation = Self { search_elapsed: Duration::from_secs(seconds), ..self.with_intent(&[]) };
        observation.with_status(|status| {
            status.pending_create.as_mut().unwrap().search_start_time = Some(seconds_ago(0));
        })
    }

    /// With an accepted call in `lastOperations`.
    pub(super) fn after(self, operation: Operation, id: Option<&str>, seconds: i64) -> Self {
        let record = OperationRecord {
            operation,
            version_id: id.map(str::to_owned),
            completion_time: seconds_ago(seconds),
            result: OperationResult::Accepted,
            message: None,
        };
        self.with_status(|status| status.common.push_operation(record))
    }

    /// With a service that lists these versions and runs none of them.
    pub(super) fn listing(mut self, versions: Vec<Version>) -> Self {
        self.service = ServiceView::Available {
            inventory: inventory(versions),
            deployment_status: Some(Arc::new(DeploymentStatus::default())),
            authoritative: true,
            rollout_pending: false,
            age: Duration::ZERO,
        };
        self
    }

    /// With a key that lists nothing of ours.
    pub(super) fn with_unknown_account(mut self) -> Self {
        if let ServiceView::Available { authoritative, .. } = &mut self.service {
            *authoritative = false;
        }
        self
    }

    /// With a key that may not read what is live.
    pub(super) fn without_deployment_status(mut self) -> Self {
        if let ServiceView::Available { deployment_status, .. } = &mut self.service {
            *deployment_status = None;
        }
        self
    }

    /// With a service that runs the version with this number in test.
    pub(super) fn running(mut self, number: &str) -> Self {
        if let ServiceView::Available { deployment_status, .. } = &mut self.service {
            let test = Some(LiveVersion { id: None, number: Some(number.into()) });
            *deployment_status = Some(Arc::new(DeploymentStatus { test, prod: None }));
        }
        self
    }

    /// With a `ChatbotDeployment` that manages test.
    pub(super) fn managed_by(mut self, status: &Value) -> Self {
        let deployment = json!({
            "apiVersion": "chatcaptain.dev/v1alpha1", "kind": "ChatbotDeployment",
            "metadata": {"name": "support-test", "namespace": "chatbots", "uid": "d"},
            "spec": {
                "chatbotId": "bot59aBv7wzR9", "environment": "test", "versionId": "v9", "revisionHistoryLimit": 0,
            },
            "status": status,
        });
        let deployment: Arc<ChatbotDeployment> = Arc::new(serde_json::from_value(deployment).unwrap());
        self.deployments.push(deployment.clone());
        self.environment_owners.insert(LiveEnvironment::Test, deployment);
        self
    }

    /// With a service that gives no usable answer.
    pub(super) fn unavailable(mut self, reason: UnavailableReason) -> Self {
        let message = "The service is unavailable.".to_owned();
        self.service = ServiceView::Unavailable(Unavailable { reason, message, retry_after: None });
        self
    }

    /// The next step.
    pub(super) fn step(&self) -> Step {
        next_step(&self.state())
    }

    /// What the next step leads to, if it is no call.
    pub(super) fn report(&self) -> Report<ChatbotVersionStatus> {
        self.report_call(&Outcome::NoCall)
    }

    /// What the next step leads to.
    pub(super) fn report_call(&self, outcome: &Outcome) -> Report<ChatbotVersionStatus> {
        let state = self.state();
        report(self, &state, next_step(&state), outcome)
    }
}

impl Report<ChatbotVersionStatus> {
    /// The reason and the message of Ready.
    pub(super) fn ready(&self) -> (&str, &str) {
        let ready = self.status.common.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
        (&ready.reason, &ready.message)
    }

    /// The reasons of the events.
    pub(super) fn event_reasons(&self) -> Vec<&str> {
        self.events.iter().map(|event| event.reason.as_str()).collect()
    }
}
