//! The state of a walk over one `ChatbotDeployment` for prod, which runs one of two versions.

use std::{
    hash::{DefaultHasher, Hash},
    sync::{Arc, LazyLock},
};

use chatcaptain_operator::{
    crd::{
        ChatbotDeployment, ChatbotDeploymentStatus, ChatbotVersion, DriftCorrections, DriftPolicy,
        LiveEnvironment, LocalObjectReference, OnFailure, RollbackMethod, RollbackPolicy,
    },
    plan::deployment::possibly_live,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::json;

use super::orders::Order;
use crate::{
    budget::Budget,
    explore::{Broken, Choices, World},
    laws::{OTHER, age, at, guard, hash_common, is_free_to_go, is_true, reason},
    service::{LATE, Maker, Manner, Service, Shot, id_of},
    version::RULES,
};

/// The two versions: their objects' names and, one more than the index, their ids.
pub const NAMES: [&str; 2] = ["a", "b"];
/// Their objects.
static VERSIONS: LazyLock<[ChatbotVersion; 2]> = LazyLock::new(|| {
    [0, 1].map(|index| {
        serde_json::from_value(json!({
            "apiVersion": "chatcaptain.dev/v1alpha1", "kind": "ChatbotVersion",
            "metadata": {"name": NAMES[index], "namespace": "ns", "uid": NAMES[index]},
            "spec": {"chatbotId": "bot"},
            "status": {"versionId": id_at(index), "versionNumber": format!("1.{}", index + 1)},
        }))
        .unwrap()
    })
});
/// The environment that the deployment decides.
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
pub enum Holder {
    There,
    /// It is being deleted, and its version with it.
    Leaving,
    Gone,
}

/// What one walk starts from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setup {
    pub manner: Manner,
    pub rollback: Rollback,
    pub method: RollbackMethod,
    pub drift: DriftPolicy,
    pub on_failure: OnFailure,
    /// The spec names versions by id, not by reference.
    pub by_id: bool,
    /// What the test environment runs is known from its own deployment.
    pub elsewhere_known: bool,
    /// Another finalizer holds the object, too.
    pub shared: bool,
}

/// The state.
#[derive(Clone)]
pub struct DeploymentWorld {
    pub setup: Setup,
    pub budget: Budget,
    pub object: Option<Arc<ChatbotDeployment>>,
    pub holders: [Holder; 2],
    pub service: Service,
    pub now: i64,
    /// Until the next pass, unless something wakes the object.
    pub sleep: i64,
    /// The call that the process has announced and may make.
    pub permit: Option<String>,
    pub looks: u32,
    pub shot: Option<Shot>,
    pub trusted: bool,
    /// An older object decides the environment.
    pub older: bool,
    /// Somebody has deployed by hand.
    pub meddled: bool,
    /// Versions that were let go on record.
    pub orphans: Vec<String>,
    pub calm: bool,
}

/// Every start; there may be `more` trouble than usual.
pub fn starts(more: u8) -> Vec<DeploymentWorld> {
    let mut starts = Vec::new();
    let mut start = |setup: Setup, orders: &[Order], trouble: u8| {
        let mut world = DeploymentWorld::new(setup);
        for &order in orders {
            world.run_to_rest();
            world.obey(order);
        }
        world.budget = Budget::new(2, trouble + more);
        world.calm = false;
        starts.push(world);
    };
    let usual = Setup {
        manner: Manner::HELPFUL,
        rollback: Rollback::Effective,
        method: RollbackMethod::Rollback,
        drift: DriftPolicy::Enforce,
        on_failure: OnFailure::Never,
        by_id: false,
        elsewhere_known: false,
        shared: false,
    };
    let slow = Manner { rollout: 3, ..Manner::HELPFUL };
    // a, then b, then back to a: by every kind of rollback, and with everything that is told of what runs
    let there_and_back = [Order::Want(1), Order::Want(0)];
    for rollback in [Rollback::Effective, Rollback::WorkingCopy, Rollback::Refused] {
        for (readable, dated, numbered) in
            [(true, true, true), (true, true, false), (false, true, true), (false, false, true)]
        {
            let manner = Manner { readable, dated, numbered, ..Manner::HELPFUL };
            start(Setup { manner, rollback, ..usual }, &there_and_back, 2);
        }
        start(Setup { manner: slow, rollback, ..usual }, &there_and_back, 2);
    }
    start(Setup { method: RollbackMethod::Redeploy, by_id: true, ..usual }, &there_and_back, 2);
    // from nothing
    start(Setup { shared: true, ..usual }, &[], 2);
    start(Setup { manner: slow, by_id: true, ..usual }, &[], 2);
    // somebody deploys by hand
    for drift in [DriftPolicy::Enforce, DriftPolicy::Warn] {
        start(Setup { drift, ..usual }, &[Order::Want(1), Order::ByHand(0)], 2);
    }
    start(usual, &[Order::Want(1), Order::Weary, Order::ByHand(0)], 1);
    // the live version's object is deleted, and git moves on
    for (manner, elsewhere_known) in [
        (Manner::HELPFUL, false),
        (slow, false),
        (Manner { readable: false, ..Manner::HELPFUL }, true),
        (Manner { readable: false, ..Manner::HELPFUL }, false),
    ] {
        start(Setup { manner, elsewhere_known, ..usual }, &[Order::Leave(0), Order::Want(1)], 2);
    }
    // the wanted version does not become live
    for empties in [false, true] {
        let broken = Manner { broken: Some(2), empties, ..Manner::HELPFUL };
        for on_failure in [OnFailure::Never, OnFailure::Previous] {
            start(Setup { manner: broken, on_failure, ..usual }, &[Order::Want(1)], 2);
        }
    }
    let broken = Manner { broken: Some(1), ..Manner::HELPFUL };
    start(Setup { manner: broken, on_failure: OnFailure::Previous, ..usual }, &[Order::Want(1)], 1);
    // a command
    start(usual, &[Order::Want(1), Order::Command], 2);
    starts
}

impl DeploymentWorld {
    /// The object is new, both versions are there, and the first one is wanted.
    pub fn new(setup: Setup) -> Self {
        let mut service = Service::new(setup.manner);
        for name in NAMES {
            service.create(Maker::Operator, name, "", 0);
        }
        let mut world = Self {
            setup,
            budget: Budget::default(),
            object: Some(Arc::new(newborn(setup))),
            holders: [Holder::There; 2],
            service,
            now: 1000,
            sleep: 0,
            permit: None,
            looks: 0,
            shot: None,
            trusted: false,
            older: false,
            meddled: false,
            orphans: Vec::new(),
            calm: true,
        };
        world.want(0);
        world
    }

    fn run_to_rest(&mut self) {
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
    pub fn want(&mut self, index: usize) {
        let by_id = self.setup.by_id;
        self.edit(|object| {
            object.spec.version_id = by_id.then(|| id_at(index));
            object.spec.version_ref =
                (!by_id).then(|| LocalObjectReference { name: NAMES[index].to_owned() });
        });
    }

    /// The version that git names.
    pub fn wanted(&self) -> usize {
        let spec = &self.object.as_ref().unwrap().spec;
        let named = |index: &usize| {
            spec.version_id.as_ref() == Some(&id_at(*index))
                || spec.version_ref.as_ref().is_some_and(|reference| reference.name == NAMES[*index])
        };
        (0..2).find(named).unwrap()
    }

    /// The object of a version, unless it is gone.
    pub fn version(&self, index: usize) -> Option<Arc<ChatbotVersion>> {
        if self.holders[index] == Holder::Gone {
            return None;
        }
        let mut version = VERSIONS[index].clone();
        if !self.setup.manner.numbered {
            version.status.as_mut().unwrap().version_number = None;
        }
        let leaving = self.holders[index] == Holder::Leaving;
        version.metadata.deletion_timestamp = leaving.then(|| Time(at(0)));
        Some(Arc::new(version))
    }

    /// The status as it stands.
    pub fn status(&self) -> &ChatbotDeploymentStatus {
        static NONE: LazyLock<ChatbotDeploymentStatus> = LazyLock::new(Default::default);
        self.object.as_ref().and_then(|object| object.status.as_ref()).unwrap_or(&NONE)
    }

    /// The finalizer is set or removed; what is being deleted and held by none goes.
    pub fn guard(&mut self, set: bool) {
        self.edit(|object| guard(&mut object.metadata, set));
        self.collect();
    }

    /// What is being deleted and held by no finalizer goes.
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
        "metadata": {"name": "prod", "namespace": "ns", "uid": "u", "generation": 1},
        "spec": {"chatbotId": "bot", "environment": "prod", "progressDeadline": format!("{DEADLINE}s")},
        "status": {"observedGeneration": -1},
    }))
    .unwrap();
    object.metadata.finalizers = setup.shared.then(|| vec![OTHER.to_owned()]);
    object.spec.drift = Some(setup.drift);
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
        for ran in [&status.active, &status.previous] {
            ran.as_ref().map(|ran| (&ran.version_id, ran.version_number.is_some())).hash(hasher);
        }
        status.history.iter().for_each(|entry| entry.version_id.hash(hasher));
        possibly_live(status, at(now), &RULES).for_each(|id| id.hash(hasher));
        status.pending_deletions.iter().for_each(|entry| entry.version_id.hash(hasher));
        if let Some(operation) = &status.current_operation {
            let started = age(&operation.start_time, now).min(DEADLINE + 1);
            let called = operation.call_time.as_ref().map(|at| age(at, now).min(LATE + 1));
            let deployed = self.service.find(&operation.version_id).and_then(|kept| kept.deployed);
            let shows = deployed != operation.previous_deploy_time.as_ref().map(|before| before.0);
            (operation.operation, &operation.version_id, started, called, shows).hash(hasher);
            operation.result.map(|result| result as u8).hash(hasher);
            operation.first_call_time.as_ref().map(|first| age(first, now).min(DEADLINE + 1)).hash(hasher);
        }
        let failed = status.failed_versions.as_ref();
        failed.map(|failed| (Some(failed.generation) == meta.generation, &failed.version_ids)).hash(hasher);
        let command = status.rollback_command.as_ref();
        command
            .map(|command| (Some(command.generation) == meta.generation, &command.version_id))
            .hash(hasher);
        let reversals = status.drift_corrections.as_ref();
        reversals.map(|reversals| (reversals.count, age(&reversals.window_start_time, now))).hash(hasher);
    }

    /// Many changes by hand were reversed lately.
    pub fn weary(&mut self) {
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
        (self.meddled, self.holders, self.sleep, &self.permit.is_some(), self.trusted, self.older, self.calm)
            .hash(hasher);
        self.orphans.hash(hasher);
        if let Some(shot) = &self.shot {
            (self.now - shot.at).min(61).hash(hasher);
            if shot.view != self.service.view(self.now) {
                shot.view.hash(hasher);
            }
        }
        let Some(object) = &self.object else { return };
        (object.spec.suspend, self.wanted()).hash(hasher);
        if let Some(status) = &object.status {
            self.hash_status(status, &object.metadata, hasher);
        }
    }

    fn step(&mut self, choices: &mut Choices) -> Result<bool, Broken> {
        self.happen(choices)
    }

    fn calm_down(&mut self) {
        self.budget = Budget::default();
        self.calm = true;
    }

    fn is_troubled(&self) -> bool {
        self.budget.left() > 0
    }

    fn now(&self) -> i64 {
        self.now
    }

    fn at_rest(&self) -> Result<(), Broken> {
        self.check_rest()
    }

    fn outline(&self) -> String {
        let live = self.service.runs(HERE);
        let Some(object) = &self.object else {
            return format!("{} gone, live={live:?} orphans={:?}", self.now, self.orphans);
        };
        let status = self.status();
        let ran = status.active.as_ref().map(|active| active.version_id.as_str());
        format!(
            "{} Ready={} {} wanted={} live={live:?} active={ran:?} operation={:?} retiring={:?} holders={:?} sleep={} permit={} deleting={} generation={:?}/{:?}",
            self.now,
            is_true(&status.common, "Ready"),
            reason(&status.common),
            id_at(self.wanted()),
            status.current_operation.as_ref().map(|o| (
                o.operation,
                &o.version_id,
                o.call_time.is_some(),
                o.result
            )),
            status.pending_deletions.iter().map(|entry| entry.version_id.as_str()).collect::<Vec<_>>(),
            self.holders,
            self.sleep,
            self.permit.is_some(),
            object.metadata.deletion_timestamp.is_some(),
            status.common.observed_generation,
            object.metadata.generation,
        )
    }
}
