//! One state of an object, and how it comes about from a status that the plan reports.

use std::{
    any::type_name,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use chatcaptain_operator::{
    chatcaptain::{
        ApiCall, DeploymentStatus, Failure, FailureClass, Inventory, LiveVersion, Refusal, Version, VersionId,
    },
    crd::{CommonStatus, DeletionPolicy, Reason, Verdict},
    plan::{
        PlanConfig, ServiceView, Unavailable, UnavailableReason,
        status::{ReadyCondition, unreadable_status, with_conditions},
    },
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Serialize;
use serde_json::{Value, json};

/// The time of every scene.
pub const NOW: i64 = 1_000_000;

/// An enum of the plan, whose every variant must occur in a scene.
pub trait Variants {
    /// Their names.
    const ALL: &[&str];
    /// The name of this one.
    fn name(&self) -> &'static str;
}

/// Names the variants of an enum, and no longer compiles once there is another.
macro_rules! variants {
    ($enum:ident: $($variant:ident)+) => {
        impl crate::states::Variants for $enum {
            const ALL: &[&str] = &[$(stringify!($variant)),+];

            fn name(&self) -> &'static str {
                match self { $($enum::$variant { .. } => stringify!($variant),)+ }
            }
        }
    };
}
pub(crate) use variants;

variants!(UnavailableReason: CredentialsMissing AuthenticationFailed PermissionDenied ChatbotNotFound VersionUnidentified Throttled ServiceUnavailable);

/// The variants that occurred.
#[derive(Default)]
pub struct Coverage(BTreeSet<(&'static str, &'static str)>);

impl Coverage {
    /// A scene shows this one.
    pub fn note<T: Variants>(&mut self, value: &T) {
        self.0.insert((type_name::<T>(), value.name()));
    }

    /// Fails with the variants for which there is no scene.
    pub fn assert_all<T: Variants>(&self) {
        let occurred = |name: &&&str| self.0.contains(&(type_name::<T>(), **name));
        let missing: Vec<_> = T::ALL.iter().filter(|name| !occurred(name)).collect();
        assert!(missing.is_empty(), "there is no scene for {} {missing:?}", type_name::<T>());
    }
}

/// One way for an object to be.
#[derive(Clone)]
pub struct ObjectState {
    /// How it came about, for the message of a failure.
    pub story: String,
    /// The object.
    pub object: Value,
}

/// What came over an object that its status does not know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Since {
    Nothing,
    Changed,
    Deleted,
}

impl ObjectState {
    /// The object with the status that was reported.
    pub fn new(story: String, object: &impl Serialize) -> Self {
        Self { story, object: serde_json::to_value(object).unwrap() }
    }

    /// The same once git changed it, or somebody deleted it.
    fn after(&self, since: Since) -> Self {
        let mut state = self.clone();
        let meta = &mut state.object["metadata"];
        meta["generation"] = json!(meta["generation"].as_i64().unwrap() + 1);
        if since == Since::Deleted {
            meta["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        state
    }

    /// The same once it cannot be read any more: what was known besides stays.
    pub fn unreadable(&self) -> Self {
        let mut object = self.object.clone();
        let meta: ObjectMeta = serde_json::from_value(object["metadata"].clone()).unwrap();
        object["status"] = unreadable_status(&object["status"], &meta, "spec: no such field", at(NOW));
        Self { story: format!("{}, then unreadable", self.story), object }
    }

    /// The reason that its `Ready` gives; a newborn has none.
    pub fn reason(&self) -> Option<Reason> {
        let conditions = self.object["status"]["conditions"].as_array()?;
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready")?;
        Reason::ALL.iter().copied().find(|reason| ready["reason"] == reason.as_str())
    }

    /// What came over it since its status was written.
    pub fn since(&self) -> Since {
        let meta = &self.object["metadata"];
        if meta["deletionTimestamp"].is_string() && self.reason() != Some(Reason::Deleting) {
            Since::Deleted
        } else if self.object["status"]["observedGeneration"] == meta["generation"] {
            Since::Nothing
        } else {
            Since::Changed
        }
    }

    /// The verdict that every tool must come to: that of its reason, if the status is about this generation.
    pub fn verdict(&self) -> &'static str {
        match (self.since(), self.reason()) {
            (Since::Nothing, Some(reason)) => word(reason),
            _ => "going on",
        }
    }

    /// Everything that a tool could read.
    pub fn shape(&self) -> String {
        let conditions = self.object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let condition = |c: &Value| format!("{}={} {}", c["type"], c["status"], c["reason"]);
        format!(
            "{} {:?} suspended={} deleting={} {:?}",
            self.object["kind"],
            conditions.iter().map(condition).collect::<Vec<_>>(),
            self.object["spec"]["suspend"],
            self.object["metadata"]["deletionTimestamp"].is_string(),
            self.since()
        )
    }
}

/// What a reason makes of an object, in the words of the matrix.
pub fn word(reason: Reason) -> &'static str {
    match reason.verdict() {
        Verdict::Ready => "done",
        Verdict::Reconciling | Verdict::Waiting => "going on",
        Verdict::Stalled => "failed",
    }
}

/// Each state as it was reported, and after a change of the spec or a deletion; of those with the same shape one.
pub fn and_since(reported: Vec<ObjectState>) -> Vec<ObjectState> {
    let mut states = BTreeMap::new();
    for state in reported {
        let is_being_deleted = state.object["metadata"]["deletionTimestamp"].is_string();
        let later = [Since::Changed, Since::Deleted].into_iter().filter(|_| !is_being_deleted);
        for later in later.map(|since| state.after(since)).chain([state.clone()]) {
            states.entry(later.shape()).or_insert(later);
        }
    }
    states.into_values().collect()
}

/// What was said of an object before: nothing, and one of each verdict.
pub fn befores(meta: &ObjectMeta) -> Vec<CommonStatus> {
    let newborn = CommonStatus { observed_generation: Some(-1), ..CommonStatus::default() };
    let mut befores = vec![newborn.clone()];
    for reason in [Reason::Available, Reason::Retrying, Reason::AuthenticationFailed] {
        befores.push(with_conditions(&newborn, meta, &ReadyCondition::new(reason, ""), None, at(NOW)));
    }
    befores
}

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// Some seconds ago, as objects keep it.
pub fn ago(seconds: i64) -> Time {
    Time(at(NOW - seconds))
}

pub fn config() -> Arc<PlanConfig> {
    Arc::new(PlanConfig {
        owner_id: "default".to_owned(),
        interval: Duration::from_mins(5),
        min_interval: Duration::from_secs(10),
        visibility_grace: Duration::from_secs(30),
        deletion_policy: DeletionPolicy::Delete,
        deletion_timeout: Duration::from_mins(15),
    })
}

/// The service shows these versions; the number of `v1` is 1.1 and so on.
pub fn shown(versions: Vec<Version>, live: Option<[Option<&str>; 2]>) -> ServiceView {
    let deployed =
        |number: Option<&str>| number.map(|number| LiveVersion { id: None, number: Some(number.into()) });
    ServiceView::Available {
        inventory: Arc::new(Inventory::new(versions, Instant::now())),
        deployment_status: live
            .map(|[test, prod]| Arc::new(DeploymentStatus { test: deployed(test), prod: deployed(prod) })),
        authoritative: true,
        rollout_pending: false,
        age: Duration::ZERO,
    }
}

/// A version in the service.
pub fn version(id: &str, name: &str, description: &str) -> Version {
    Version {
        id: VersionId::parse(id).unwrap(),
        name: Some(name.into()),
        description: Some(description.into()),
        number: Some(id.replace('v', "1.").into()),
        created: None,
        deployed: None,
        contents: None,
    }
}

/// Every reason for which the service gives no usable answer.
pub fn unavailable() -> Vec<ServiceView> {
    let view = |reason| {
        let message = "The service gives no usable answer.".to_owned();
        ServiceView::Unavailable(Unavailable { reason, message, retry_after: None })
    };
    UnavailableReason::ALL.map(view).into()
}

/// Every way in which a call can fail.
pub fn failures(call: ApiCall) -> Vec<Failure> {
    let classes = [
        FailureClass::Refused(Refusal::Invalid),
        FailureClass::Forbidden { whole_key: true },
        FailureClass::Forbidden { whole_key: false },
        FailureClass::Throttled { retry_after: Some(Duration::from_secs(3)) },
        FailureClass::Throttled { retry_after: None },
        FailureClass::Unsent,
        FailureClass::Unknown,
    ];
    classes.map(|class| Failure::new(call, class, "trouble")).into()
}
