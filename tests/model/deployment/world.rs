//! The state of the model of one `ChatbotDeployment` for prod, which runs one of two versions.

use std::{
    hash::{DefaultHasher, Hash},
    sync::{Arc, LazyLock},
};

use chatcaptain_operator::{
    crd::{
        ChatbotDeployment, ChatbotDeploymentStatus, ChatbotVersion, DriftCorrections, DriftPolicy,
        LiveEnvironment, LocalObjectReference, OnFailure, RollbackMethod, RollbackPolicy, annotation,
    },
    plan::{
        annotation_value,
        call_permits::CallPermits,
        deployment::{Freeze, Gate, possibly_live},
    },
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::json;

use crate::{
    budget::Budget,
    explore::{Choices, Violation, World},
    invariants::{OTHER, age, at, hash_common, is_free_to_go, is_true, reason, set_finalizer},
    service::{Behavior, Creator, LATE, Service, Snapshot, id_of},
    version::CONFIG,
};

/// The object's uid; that of an older object comes before it.
pub const UID: &str = "u";
/// The two versions: their objects' names and, one more than the index, their ids.
pub const NAMES: [&str; 2] = ["a", "b"];
/// Their objects.
static VERSIONS: LazyLock<[ChatbotVersion; 2]> = LazyLock::new(|| {
    [0, 1].map(|index| {
        serde_json::from_value(json!({
            "apiVersion": "chatcaptain.dev/v1alpha1", "kind": "ChatbotVersion",
            "metadata": {"name": NAMES[index], "namespace": "ns", "uid": NAMES[index]},
            "spec": {"chatbotId": "bot"},
            "status": {"versionId": id_at(index)},
        }))
        .unwrap()
    })
});
/// The environment that the deployment manages.
pub const HERE: LiveEnvironment = LiveEnvironment::Prod;
/// Seconds of `spec.progressDeadline`.
pub const DEADLINE: i64 = 8;

/// What rolling back does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Rollback {
    /// The version becomes live.
    Effective,
    /// It is answered well, and nothing becomes live.
    WorkingCopy,
    /// It is refused.
    Refused,
}

/// The object of one version.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum VersionObject {
    Present,
    /// It is being deleted, and its version with it.
    BeingDeleted,
    Gone,
}

/// The version that test runs, where that is known: after the two of the objects.
pub const ELSEWHERE: u8 = 3;
/// The index of the version of another installation.
pub const FOREIGN: usize = 2;

/// What one exploration starts from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setup {
    pub behavior: Behavior,
    pub rollback: Rollback,
    pub method: RollbackMethod,
    pub drift: DriftPolicy,
    pub on_failure: OnFailure,
    /// The spec names versions by id, not by reference.
    pub by_id: bool,
    /// What the test environment runs is known from its own deployment.
    pub elsewhere_known: bool,
    /// `spec.revisionHistoryLimit`.
    pub keeps: i32,
    /// The object has the finalizer of another controller, too.
    pub shared: bool,
    /// What a move forward has to pass: `spec.promoteAfter` names the deployment of test or asks for an approval, or the
    /// namespace may be frozen.
    pub gate: Option<Gate>,
    /// A version of another installation is there.
    pub foreign: bool,
}

/// The state.
#[derive(Clone)]
pub struct DeploymentWorld {
    pub setup: Setup,
    pub budget: Budget,
    pub object: Option<Arc<ChatbotDeployment>>,
    pub version_objects: [VersionObject; 2],
    pub service: Service,
    pub now: i64,
    /// Seconds until the next reconcile, unless something queues the object.
    pub sleep: i64,
    pub permits: CallPermits<u32>,
    pub reads: u32,
    pub snapshot: Option<Snapshot>,
    pub authoritative: bool,
    /// An older object manages the environment.
    pub older: bool,
    /// The version that may pass the gate: it runs in test, or is approved. Without one test is Stalled, nothing is approved,
    /// or the namespace is frozen.
    pub passes: Option<usize>,
    /// A version was deployed outside the operator.
    pub deployed_manually: bool,
    /// Versions that were left behind with an event.
    pub orphans: Vec<String>,
    pub calm: bool,
}

impl DeploymentWorld {
    /// The object is new, both versions are there, and the first one is desired.
    pub fn new(setup: Setup) -> Self {
        let mut service = Service::new(setup.behavior);
        for name in NAMES {
            service.create(Creator::Operator, name, "", 0);
        }
        if setup.elsewhere_known {
            service.create(Creator::Somebody, "elsewhere", "", 0);
        }
        if setup.foreign {
            service.create(Creator::Somebody, "foreign", "[chatcaptain.dev other/ns/foreign]", 0);
        }
        let mut world = Self {
            setup,
            budget: Budget::default(),
            object: Some(Arc::new(newborn(setup))),
            version_objects: [VersionObject::Present; 2],
            service,
            now: 1000,
            sleep: 0,
            permits: CallPermits::default(),
            reads: 0,
            snapshot: None,
            authoritative: false,
            older: false,
            passes: None,
            deployed_manually: false,
            orphans: Vec::new(),
            calm: true,
        };
        world.set_spec(0);
        world.promote(Some(0));
        world
    }

    /// The deployment that manages test.
    pub fn elsewhere(&self) -> Option<Arc<ChatbotDeployment>> {
        let deployment = json!({
            "apiVersion": "chatcaptain.dev/v1alpha1", "kind": "ChatbotDeployment",
            "metadata": {"name": "test", "namespace": "ns", "uid": "t"},
            "spec": {"chatbotId": "bot", "environment": "test", "versionId": "v3"},
            "status": {"active": {"versionId": "v3", "startTime": "1970-01-01T00:00:00Z"}},
        });
        self.setup.elsewhere_known.then(|| Arc::new(serde_json::from_value(deployment).unwrap()))
    }

    /// The object that the annotation `rollback-to` names.
    pub fn rollback_version(&self) -> Option<Arc<ChatbotVersion>> {
        let named = annotation_value(&self.object.as_ref()?.metadata, annotation::ROLLBACK_TO)?;
        let index = NAMES.iter().position(|name| *name == named)?;
        self.version(index)
    }

    /// The deployment that `spec.promoteAfter` names.
    pub fn promotion_source(&self) -> Option<Arc<ChatbotDeployment>> {
        let (kind, runs) = match self.passes {
            Some(index) => ("Ready", json!({"versionId": id_at(index), "startTime": "1970-01-01T00:00:00Z"})),
            None => ("Stalled", json!(null)),
        };
        let condition = json!({
            "type": kind, "status": "True", "reason": "R", "message": "m", "observedGeneration": 1,
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        });
        let source = json!({
            "apiVersion": "chatcaptain.dev/v1alpha1", "kind": "ChatbotDeployment",
            "metadata": {"name": "test", "namespace": "ns", "uid": "s"},
            "spec": {"chatbotId": "bot", "environment": "test", "versionId": "v1"},
            "status": {"active": runs, "conditions": [condition]},
        });
        (self.setup.gate == Some(Gate::Promotion)).then(|| Arc::new(serde_json::from_value(source).unwrap()))
    }

    /// This version may pass the gate, or none.
    pub fn promote(&mut self, version: Option<usize>) {
        self.passes = version;
        if self.setup.gate == Some(Gate::Approval) {
            match version {
                Some(index) => self.annotate(annotation::APPROVED, &id_at(index)),
                None => self.remove_annotation(annotation::APPROVED),
            }
        }
    }

    /// The namespace, where the decision depends on it.
    pub fn freeze(&self) -> Freeze {
        let is_frozen = self.setup.gate == Some(Gate::Freeze) && self.passes.is_none();
        if is_frozen { Freeze::On("a holiday".to_owned()) } else { Freeze::Off }
    }

    pub fn run_until_settled(&mut self) {
        let mut quiet = 0;
        while quiet < 3 {
            let was_quiet = self.step(&mut Choices::default()).unwrap();
            quiet = if was_quiet { quiet + 1 } else { 0 };
        }
    }

    /// Changes the object as somebody else would.
    pub fn edit(&mut self, change: impl FnOnce(&mut ChatbotDeployment)) {
        if let Some(object) = &mut self.object {
            change(Arc::make_mut(object));
        }
    }

    /// Git names another version.
    pub fn set_spec(&mut self, index: usize) {
        let by_id = self.setup.by_id;
        self.edit(|object| {
            object.spec.version_id = by_id.then(|| id_at(index));
            object.spec.version_ref =
                (!by_id).then(|| LocalObjectReference { name: NAMES[index].to_owned() });
        });
    }

    /// The version that git names.
    pub fn desired(&self) -> usize {
        let spec = &self.object.as_ref().unwrap().spec;
        let named = |index: &usize| {
            spec.version_id.as_ref() == Some(&id_at(*index))
                || spec.version_ref.as_ref().is_some_and(|reference| reference.name == NAMES[*index])
        };
        (0..2).find(named).unwrap()
    }

    /// The object of a version, unless it is gone.
    pub fn version(&self, index: usize) -> Option<Arc<ChatbotVersion>> {
        if self.version_objects[index] == VersionObject::Gone {
            return None;
        }
        let mut version = VERSIONS[index].clone();
        let (behavior, id) = (self.setup.behavior, u8::try_from(index + 1).unwrap());
        version.status.as_mut().unwrap().version_number = behavior.numbered.then(|| behavior.number(id));
        let is_being_deleted = self.version_objects[index] == VersionObject::BeingDeleted;
        version.metadata.deletion_timestamp = is_being_deleted.then(|| Time(at(0)));
        Some(Arc::new(version))
    }

    /// Whether this process may make the pending call.
    pub fn may_call(&self) -> bool {
        let status = self.object.as_ref().and_then(|object| object.status.as_ref());
        self.permits.granted_at(UID, status).is_some()
    }

    /// The objects that claim the environment.
    pub fn claimants(&self, object: &Arc<ChatbotDeployment>) -> Vec<Arc<ChatbotDeployment>> {
        let mut older = object.as_ref().clone();
        older.metadata = ObjectMeta {
            name: Some("older".to_owned()),
            namespace: Some("ns".to_owned()),
            uid: Some("a".to_owned()),
            ..ObjectMeta::default()
        };
        [Some(object.clone()), self.older.then(|| Arc::new(older))].into_iter().flatten().collect()
    }

    /// The status; that of a new object is empty.
    pub fn status(&self) -> &ChatbotDeploymentStatus {
        static NONE: LazyLock<ChatbotDeploymentStatus> = LazyLock::new(Default::default);
        self.object.as_ref().and_then(|object| object.status.as_ref()).unwrap_or(&NONE)
    }

    /// The finalizer is set or removed; an object that is being deleted goes with its last finalizer.
    pub fn set_finalizer(&mut self, set: bool) {
        self.edit(|object| set_finalizer(&mut object.metadata, set));
        self.collect();
    }

    /// An object that is being deleted goes with its last finalizer.
    pub fn collect(&mut self) {
        self.object.take_if(|object| is_free_to_go(&object.metadata));
    }
}

/// The id of one of the two versions.
pub fn id_at(index: usize) -> String {
    id_of(u8::try_from(index + 1).unwrap()).as_str().to_owned()
}

fn newborn(setup: Setup) -> ChatbotDeployment {
    let mut object: ChatbotDeployment = serde_json::from_value(json!({
        "apiVersion": "chatcaptain.dev/v1alpha1", "kind": "ChatbotDeployment",
        "metadata": {"name": "prod", "namespace": "ns", "uid": UID, "generation": 1},
        "spec": {"chatbotId": "bot", "environment": "prod", "progressDeadline": format!("{DEADLINE}s")},
        "status": {"observedGeneration": -1},
    }))
    .unwrap();
    object.metadata.finalizers = setup.shared.then(|| vec![OTHER.to_owned()]);
    object.spec.drift = Some(setup.drift);
    object.spec.revision_history_limit = Some(setup.keeps);
    object.spec.promote_after = match setup.gate {
        Some(Gate::Promotion) => serde_json::from_value(json!({"deploymentRef": {"name": "test"}})).unwrap(),
        Some(Gate::Approval) => serde_json::from_value(json!({"approved": true})).unwrap(),
        _ => None,
    };
    object.spec.rollback = Some(RollbackPolicy {
        on_failure: Some(setup.on_failure),
        method: Some(setup.method),
        parameters: None,
    });
    object
}

impl DeploymentWorld {
    fn hash_status(&self, status: &ChatbotDeploymentStatus, meta: &ObjectMeta, hasher: &mut DefaultHasher) {
        let now = self.now;
        hash_common(&status.common, meta, now, LATE, hasher);
        let target = status.target.as_ref();
        target.map(|target| (&target.version_id, target.cause, target.reached_time.is_some())).hash(hasher);
        let since =
            target.and_then(|target| target.start_time.as_ref()).filter(|_| self.setup.gate.is_some());
        since.map(|since| age(since, now).min(DEADLINE + 1)).hash(hasher);
        for ran in [&status.active, &status.previous] {
            ran.as_ref().map(|ran| (&ran.version_id, ran.version_number.is_some())).hash(hasher);
        }
        status.history.iter().for_each(|entry| entry.version_id.hash(hasher));
        let object = self.object.iter();
        object.flat_map(|object| possibly_live(object, at(now), &CONFIG)).for_each(|id| id.hash(hasher));
        for entry in &status.pending_deletions {
            let retry = entry.retry.as_ref();
            let retry = retry.map(|retry| (retry.failures, age(&retry.next_attempt_time, now)));
            (&entry.version_id, retry).hash(hasher);
        }
        if let Some(operation) = &status.current_operation {
            let started = age(&operation.start_time, now).min(DEADLINE + 1);
            let called = operation.call_time.as_ref().map(|at| age(at, now).min(LATE + 1));
            let deployed = self.service.find(&operation.version_id).and_then(|stored| stored.deployed);
            let shows = deployed != operation.previous_deploy_time.as_ref().map(|before| before.0);
            (operation.operation, &operation.version_id, started, called, shows).hash(hasher);
            operation.result.map(|result| result as u8).hash(hasher);
            operation.first_call_time.as_ref().map(|first| age(first, now).min(DEADLINE + 1)).hash(hasher);
        }
        let failed = status.failed_versions.as_ref();
        failed.map(|failed| (Some(failed.generation) == meta.generation, &failed.version_ids)).hash(hasher);
        let waiting = status.waiting_for_version.as_ref();
        waiting.map(|waiting| (&waiting.name, age(&waiting.start_time, now).min(DEADLINE + 1))).hash(hasher);
        let command = status.rollback_command.as_ref();
        command.map(|command| (&command.version_id, &command.spec_version_id, command.ended)).hash(hasher);
        let corrections = status.drift_corrections.as_ref();
        corrections
            .map(|corrections| (corrections.count, age(&corrections.window_start_time, now)))
            .hash(hasher);
    }

    /// Drift was corrected as often as the limit allows.
    pub fn exhaust_drift_corrections(&mut self) {
        let since = Time(at(self.now));
        self.edit(|object| {
            object.status.as_mut().unwrap().drift_corrections =
                Some(DriftCorrections { count: 5, window_start_time: since });
        });
    }
}

impl World for DeploymentWorld {
    fn hash(&self, hasher: &mut DefaultHasher) {
        self.budget.hash(hasher);
        self.service.hash(self.now, hasher);
        (
            self.deployed_manually,
            self.version_objects,
            self.sleep,
            self.may_call(),
            self.authoritative,
            self.older,
            self.passes,
            self.calm,
        )
            .hash(hasher);
        self.orphans.hash(hasher);
        if let Some(snapshot) = &self.snapshot {
            (self.now - snapshot.at).min(61).hash(hasher);
            if snapshot.view != self.service.view(self.now) {
                snapshot.view.hash(hasher);
            }
        }
        let Some(object) = &self.object else { return };
        (object.spec.suspend, self.desired()).hash(hasher);
        if let Some(status) = &object.status {
            self.hash_status(status, &object.metadata, hasher);
        }
    }

    fn step(&mut self, choices: &mut Choices) -> Result<bool, Violation> {
        self.happen(choices)
    }

    fn stop_faults(&mut self) {
        self.budget = Budget::default();
        self.calm = true;
    }

    fn has_budget(&self) -> bool {
        self.budget.left() > 0
    }

    fn now(&self) -> i64 {
        self.now
    }

    fn check_settled(&self) -> Result<(), Violation> {
        self.check_settled_state()
    }

    fn outline(&self) -> String {
        let live = self.service.runs(HERE);
        let Some(object) = &self.object else {
            return format!("{} gone, live={live:?} orphans={:?}", self.now, self.orphans);
        };
        let status = self.status();
        let ran = status.active.as_ref().map(|active| active.version_id.as_str());
        format!(
            "{} Ready={} {} desired={} live={live:?} active={ran:?} operation={:?} pending_deletions={:?} version_objects={:?} sleep={} permit={} deleting={} generation={:?}/{:?}",
            self.now,
            is_true(&status.common, "Ready"),
            reason(&status.common),
            id_at(self.desired()),
            status.current_operation.as_ref().map(|o| (
                o.operation,
                &o.version_id,
                o.call_time.is_some(),
                o.result
            )),
            status.pending_deletions.iter().map(|entry| entry.version_id.as_str()).collect::<Vec<_>>(),
            self.version_objects,
            self.sleep,
            self.may_call(),
            object.metadata.deletion_timestamp.is_some(),
            status.common.observed_generation,
            object.metadata.generation,
        )
    }
}
