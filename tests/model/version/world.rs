//! The state of the model of one `ChatbotVersion`.

use std::{
    hash::{DefaultHasher, Hash},
    sync::{Arc, LazyLock},
    time::Duration,
};

use chatcaptain_operator::{
    crd::{
        ChatbotDeployment, ChatbotVersion, ChatbotVersionStatus, DeletionPolicy, DeployedVersion,
        Environment, FINALIZER, LiveEnvironment, PendingCreate, PendingDeletion, annotation,
    },
    plan::{
        PlanConfig, annotation_value,
        call_permits::{CallPermits, SearchTimers},
        version::FinalizerRemoval,
    },
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::json;

use crate::{
    budget::Budget,
    explore::{Choices, Violation, World},
    invariants::{OTHER, age, at, hash_common, is_free_to_go, is_true, reason, set_finalizer},
    service::{Behavior, Creator, Descriptions, LATE, Service, Snapshot, id_of},
};

/// Name of the object and, as it does not say otherwise, of its version.
pub const NAME: &str = "support";
/// The line that marks its version.
pub const MARKER: &str = "[chatcaptain.dev default/ns/support]";
/// The line that marks the version of another installation's object of this name.
const OTHER_OWNER: &str = "[chatcaptain.dev other/ns/support]";
const FOREIGN: &str = "[chatcaptain.dev default/ns/other]";

/// The object's uid; those of older objects come before it.
pub const UID: &str = "u";

/// The flags. The visibility grace is as long as the delay of a late list.
pub static CONFIG: LazyLock<Arc<PlanConfig>> = LazyLock::new(|| {
    Arc::new(PlanConfig {
        owner_id: "default".to_owned(),
        interval: Duration::from_secs(60),
        min_interval: Duration::from_secs(10),
        visibility_grace: Duration::from_secs(LATE.unsigned_abs()),
        deletion_policy: DeletionPolicy::Delete,
        deletion_timeout: Duration::from_secs(40),
    })
});

/// What the service has before the object is there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Preexisting {
    Nothing,
    /// The version of this very manifest, made by an earlier cluster.
    Earlier,
    /// Two of them.
    Twins,
    /// A version of that name without any description.
    Namesake,
    /// A version of that name that another object holds.
    HeldByOther,
    /// A version of that name that another object's marker is on.
    Foreign,
    /// Nothing, and an older object is creating a version of that name.
    OlderCreate,
    /// Nothing, though an environment ran a version of this very manifest.
    RanAndGone,
    /// The version of this very manifest, which an environment ran.
    Ran,
    /// The version of another installation, which the status names: the object is from a backup.
    Restored,
}

impl Preexisting {
    const SOMETHING: [Self; 9] = [
        Self::Earlier,
        Self::Twins,
        Self::Namesake,
        Self::HeldByOther,
        Self::Foreign,
        Self::OlderCreate,
        Self::RanAndGone,
        Self::Ran,
        Self::Restored,
    ];
}

/// What the version is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Place {
    Dev,
    /// The test environment, which no deployment manages.
    Test,
    /// The test environment, which a deployment manages.
    Managed,
}

/// What one exploration starts from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Setup {
    pub behavior: Behavior,
    pub before: Preexisting,
    pub place: Place,
    /// The object has the finalizer of another controller, too.
    pub shared: bool,
}

/// The state.
#[derive(Clone)]
pub struct VersionWorld {
    pub setup: Setup,
    pub budget: Budget,
    pub object: Option<Arc<ChatbotVersion>>,
    pub service: Service,
    pub now: i64,
    /// Seconds until the next reconcile, unless something queues the object.
    pub sleep: i64,
    /// By the count of reads.
    pub permits: CallPermits<u32>,
    pub searches: SearchTimers<i64>,
    /// Reads so far.
    pub reads: u32,
    pub snapshot: Option<Snapshot>,
    /// What is not listed is gone.
    pub authoritative: bool,
    /// An older object is creating a version of the same name.
    pub older_create: bool,
    /// An older object holds the same id.
    pub older: bool,
    /// What the deployment that manages the environment has recorded: that the version runs, and its deletion.
    pub deployment_view: (bool, bool),
    /// Creates that may take effect.
    pub allowed: usize,
    pub removed_because: Option<FinalizerRemoval>,
    /// The user has set `adopt-id`.
    pub adopt_id_set: bool,
    /// Nothing fails any more.
    pub calm: bool,
}

/// Every start, with `extra` faults in each run.
pub fn starts(extra: i8) -> Vec<VersionWorld> {
    let mut starts = Vec::new();
    let mut start = |behavior: Behavior, before: Preexisting, place: Place, fault: u8| {
        let shared = before == Preexisting::Nothing && behavior == Behavior::IDEAL;
        let setup = Setup { behavior, before, place, shared };
        starts.push(VersionWorld::new(setup, Budget::new(2, fault.saturating_add_signed(extra))));
    };
    for descriptions in [Descriptions::Returned, Descriptions::Cut, Descriptions::Missing] {
        let prompt = Behavior { descriptions, ..Behavior::IDEAL };
        let late = Behavior { late: true, ..prompt };
        start(prompt, Preexisting::Nothing, Place::Dev, 2);
        start(late, Preexisting::Nothing, Place::Dev, 2);
        for before in Preexisting::SOMETHING {
            start(late, before, Place::Dev, 1);
        }
    }
    for descriptions in [Descriptions::Returned, Descriptions::Missing] {
        for late in [false, true] {
            let misleading = Behavior { misleading: true, late, descriptions, ..Behavior::IDEAL };
            for before in [Preexisting::Nothing, Preexisting::HeldByOther, Preexisting::Namesake] {
                start(misleading, before, Place::Dev, 1);
            }
        }
    }
    // a long list is cut: two more versions, and that of the object is not listed any more
    for place in [Place::Dev, Place::Managed] {
        start(Behavior { cut: true, ..Behavior::IDEAL }, Preexisting::Nothing, place, 2);
    }
    // what a create deploys becomes live later
    for dated in [true, false] {
        let slow = Behavior { rollout: 2 * LATE, dated, ..Behavior::IDEAL };
        start(slow, Preexisting::Nothing, Place::Test, 2);
    }
    for (readable, dated) in [(true, true), (false, true), (false, false)] {
        let behavior = Behavior { readable, dated, ..Behavior::IDEAL };
        start(behavior, Preexisting::Nothing, Place::Test, 2);
        start(behavior, Preexisting::Nothing, Place::Managed, 2);
    }
    starts
}

impl VersionWorld {
    /// The object is new.
    pub fn new(setup: Setup, budget: Budget) -> Self {
        let mut service = Service::new(setup.behavior);
        let (creator, description) = match setup.before {
            Preexisting::Earlier | Preexisting::Twins | Preexisting::Ran => (Creator::Earlier, MARKER),
            Preexisting::Restored => (Creator::Somebody, OTHER_OWNER),
            Preexisting::Foreign => (Creator::Somebody, FOREIGN),
            _ => (Creator::Somebody, ""),
        };
        let count = match setup.before {
            Preexisting::Nothing | Preexisting::OlderCreate | Preexisting::RanAndGone => 0,
            Preexisting::Twins => 2,
            _ => 1,
        };
        for _ in 0..count {
            service.create(creator, NAME, description, 0);
        }
        Self {
            setup,
            budget,
            object: Some(Arc::new(newborn(setup))),
            service,
            now: 1000,
            sleep: 0,
            permits: CallPermits::default(),
            searches: SearchTimers::default(),
            reads: 0,
            snapshot: None,
            authoritative: false,
            older_create: setup.before == Preexisting::OlderCreate,
            older: false,
            deployment_view: (false, false),
            allowed: usize::from(!matches!(
                setup.before,
                Preexisting::RanAndGone | Preexisting::Ran | Preexisting::Restored
            )),
            removed_because: None,
            adopt_id_set: false,
            calm: false,
        }
    }

    /// Changes the object as somebody else would.
    pub fn edit(&mut self, change: impl FnOnce(&mut ChatbotVersion)) {
        if let Some(object) = &mut self.object {
            change(Arc::make_mut(object));
        }
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

    /// The read after which the create intent was written, while this process may send the request.
    pub fn permit(&self) -> Option<u32> {
        self.permits.granted_at(UID, self.object.as_ref()?.status.as_ref())
    }

    /// Since when this process searches for what a create of unknown outcome made.
    pub fn search_started(&self) -> Option<i64> {
        self.searches.started(UID, self.object.as_ref()?.status.as_ref())
    }

    /// Other objects that hold versions.
    pub fn holders(&self) -> Vec<Arc<ChatbotVersion>> {
        let older = self.older.then(|| holder("older", self.known_id().unwrap_or_default()));
        let younger =
            (self.setup.before == Preexisting::HeldByOther).then(|| holder("younger", id_of(1).as_str()));
        older.into_iter().chain(younger).map(Arc::new).collect()
    }

    /// Older objects that create a version of the same name.
    pub fn older_creates(&self) -> Vec<Arc<ChatbotVersion>> {
        let mut older = holder("older", "");
        let status = older.status.get_or_insert_default();
        (status.version_id, status.pending_create) = (
            None,
            Some(PendingCreate {
                attempt_id: "older".to_owned(),
                start_time: Time(at(self.now)),
                existing_ids: Vec::new(),
                version_id: None,
                search_start_time: None,
            }),
        );
        Vec::from_iter(self.older_create.then(|| Arc::new(older)))
    }

    /// Versions that the operator made for this object and that took effect.
    pub fn made(&self) -> usize {
        let made = self.service.ever().iter();
        made.filter(|stored| stored.creator == Creator::Operator).count()
    }

    /// The version that status names.
    pub fn known_id(&self) -> Option<&str> {
        self.object.as_ref()?.version_id()
    }

    /// The deployment that manages the environment.
    pub fn deployment(&self) -> Option<Arc<ChatbotDeployment>> {
        (self.setup.place == Place::Managed).then(|| {
            let id = self.known_id().unwrap_or_default();
            let mut deployment: ChatbotDeployment = serde_json::from_value(json!({
                "apiVersion": "chatcaptain.dev/v1alpha1", "kind": "ChatbotDeployment",
                "metadata": {
                    "name": "test", "namespace": "ns", "uid": "d", "creationTimestamp": "1970-01-01T00:00:00Z",
                },
                "spec": {"chatbotId": "bot", "environment": "test", "versionId": "other"},
            }))
            .unwrap();
            let (runs, recorded) = self.deployment_view;
            let status = deployment.status.get_or_insert_default();
            status.active = Some(DeployedVersion {
                version_id: if runs { id } else { "other" }.to_owned(),
                version_number: None,
                version_name: None,
                start_time: Time(at(0)),
            });
            status.pending_deletions.extend(recorded.then(|| PendingDeletion {
                version_id: id.to_owned(),
                name: NAME.to_owned(),
                request_time: Time(at(0)),
                retry: None,
            }));
            Arc::new(deployment)
        })
    }

    /// Every deployment of the chatbot.
    pub fn deployments(&self) -> Vec<Arc<ChatbotDeployment>> {
        let ran = match self.setup.before {
            Preexisting::RanAndGone => Some("v9"),
            Preexisting::Ran => Some("v1"),
            _ => None,
        };
        let before = ran.map(|id| {
            serde_json::from_value(json!({
                "apiVersion": "chatcaptain.dev/v1alpha1", "kind": "ChatbotDeployment",
                "metadata": {"name": "prod", "namespace": "ns", "uid": "p"},
                "spec": {"chatbotId": "bot", "environment": "prod", "versionId": "other"},
                "status": {"history": [
                    {"versionId": id, "versionName": NAME, "startTime": "1970-01-01T00:00:00Z"},
                ]},
            }))
            .unwrap()
        });
        self.deployment().into_iter().chain(before.map(Arc::new)).collect()
    }

    /// What the deployment would record if it were reconciled now.
    pub fn current_deployment_view(&self) -> (bool, bool) {
        let (Some(object), Some(id)) = (&self.object, self.known_id()) else {
            return (false, false);
        };
        let live = self.service.runs(LiveEnvironment::Test).map(id_of);
        let runs = live.is_some_and(|live| live.as_str() == id);
        (runs, runs && object.metadata.deletion_timestamp.is_some())
    }
}

/// Another object of the same chatbot and name that holds the version `id`; by their uids they are ordered by age.
fn holder(uid: &str, id: &str) -> ChatbotVersion {
    let uid = if uid == "older" { "a" } else { "z" };
    serde_json::from_value(json!({
        "apiVersion": "chatcaptain.dev/v1alpha1", "kind": "ChatbotVersion",
        "metadata": {"name": uid, "namespace": "ns", "uid": uid},
        "spec": {"chatbotId": "bot", "name": NAME},
        "status": {"versionId": id},
    }))
    .unwrap()
}

fn newborn(setup: Setup) -> ChatbotVersion {
    let mut object: ChatbotVersion = serde_json::from_value(json!({
        "apiVersion": "chatcaptain.dev/v1alpha1", "kind": "ChatbotVersion",
        "metadata": {"name": NAME, "namespace": "ns", "uid": UID, "generation": 1},
        "spec": {"chatbotId": "bot"},
        "status": {"observedGeneration": -1},
    }))
    .unwrap();
    object.spec.environment = (setup.place != Place::Dev).then_some(Environment::Test);
    if setup.before == Preexisting::Restored {
        object.status.get_or_insert_default().version_id = Some(id_of(1).as_str().to_owned());
        object.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
        return object;
    }
    object.metadata.finalizers = setup.shared.then(|| vec![OTHER.to_owned()]);
    object
}

fn hash_status(status: &ChatbotVersionStatus, meta: &ObjectMeta, now: i64, hasher: &mut DefaultHasher) {
    hash_common(&status.common, meta, now, LATE, hasher);
    (&status.version_id, &status.live_in, status.last_deploy_time.is_some(), &status.duplicates).hash(hasher);
    (status.last_handled_recreate.as_deref() == annotation_value(meta, annotation::RECREATE)).hash(hasher);
    if let Some(intent) = &status.pending_create {
        (&intent.existing_ids, &intent.version_id, intent.search_start_time.is_some()).hash(hasher);
    }
}

impl World for VersionWorld {
    fn hash(&self, hasher: &mut DefaultHasher) {
        self.budget.hash(hasher);
        self.service.hash(self.now, hasher);
        (self.sleep, self.permit().is_some(), self.authoritative, self.older_create, self.older).hash(hasher);
        self.search_started().map(|since| (self.now - since).min(LATE + 1)).hash(hasher);
        (
            self.adopt_id_set,
            self.deployment_view,
            self.allowed - self.made().min(self.allowed),
            self.removed_because,
            self.calm,
        )
            .hash(hasher);
        if let Some(snapshot) = &self.snapshot {
            let enough = self.permit().is_some_and(|permit| snapshot.read > permit);
            ((self.now - snapshot.at).min(61), enough).hash(hasher);
            if snapshot.view != self.service.view(self.now) {
                snapshot.view.hash(hasher);
            }
        }
        let Some(object) = &self.object else { return };
        let spec = &object.spec;
        (spec.suspend, spec.deletion_policy.map(|policy| policy == DeletionPolicy::Delete)).hash(hasher);
        if let Some(status) = &object.status {
            hash_status(status, &object.metadata, self.now, hasher);
        }
    }

    fn step(&mut self, choices: &mut Choices) -> Result<bool, Violation> {
        self.happen(choices)
    }

    fn stop_faults(&mut self) {
        self.budget = Budget::default();
        self.older_create = false;
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
        let Some(object) = &self.object else {
            return format!("{} gone, {:?}", self.now, self.removed_because);
        };
        let status = object.status.clone().unwrap_or_default();
        format!(
            "{} Ready={} {} id={:?} intent={:?} retry={} permit={:?} service={:?} sleep={} deleting={} generation={:?}/{:?}",
            self.now,
            is_true(&status.common, "Ready"),
            reason(&status.common),
            status.version_id,
            status.pending_create.map(|intent| intent.search_start_time.map(|since| age(&since, self.now))),
            status.common.retry.is_some(),
            self.permit(),
            self.service.there().map(|stored| (stored.id, stored.creator)).collect::<Vec<_>>(),
            self.sleep,
            object.metadata.deletion_timestamp.is_some(),
            status.common.observed_generation,
            object.metadata.generation,
        )
    }
}
