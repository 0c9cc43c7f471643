//! What happens to the object and the service from outside: git, people, other objects, crashes.

use chatcaptain_operator::{
    crd::{ChatbotDeployment, LiveEnvironment, annotation},
    plan::call_permits::CallPermits,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::world::{DeploymentWorld, FOREIGN, HERE, NAMES, VersionObject, id_at};
use crate::{
    budget::Fault,
    explore::{Choices, Violation},
    invariants::at,
    service::{LATE, id_of},
};

/// One thing that can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// The next reconcile.
    Reconcile,
    /// The next reconcile comes late: the machine is busy.
    Late,
    /// The process dies between two reconciles.
    Crash,
    /// The object of a version, which is being deleted, is reconciled.
    Version(usize),
    /// A user, or another object, interferes.
    Interference(Interference),
}

/// Seconds for which the machine is busy: longer than the visibility grace.
const BUSY: i64 = 2 * LATE;

/// What somebody can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interference {
    /// Git names this version.
    MoveSpec(usize),
    /// Git drops the object of this version.
    Prune(usize),
    /// Git brings the object of this version back, and it adopts what is still there.
    Return(usize),
    /// The object is deleted.
    Delete,
    Suspend,
    Resume,
    /// `reconcile-requested-at` with a new token.
    Request,
    /// `rollback-to: previous`.
    Command,
    /// `rollback-to` with the name of this version's object.
    CommandByName(usize),
    /// No `rollback-to` any more.
    RemoveCommand,
    /// Somebody deploys this version to prod.
    DeployManually(usize),
    /// Somebody deploys this version to test.
    Elsewhere(usize),
    /// This version may pass the gate, or none.
    Promote(Option<usize>),
    /// Drift was corrected as often as the limit allows.
    ExhaustDriftCorrections,
    /// An older object manages the environment.
    Older,
    /// The older object is gone.
    Younger,
}

impl DeploymentWorld {
    /// One thing happens.
    pub fn happen(&mut self, choices: &mut Choices) -> Result<bool, Violation> {
        match choices.pick(&self.events()) {
            Event::Reconcile => return self.reconcile(choices),
            Event::Late => {
                self.budget.spend(Fault::SlowAnswer);
                self.sleep += BUSY;
                return Ok(false);
            }
            Event::Crash => {
                self.budget.spend(Fault::Crash);
                self.forget();
            }
            Event::Version(index) => self.reconcile_version(index)?,
            Event::Interference(interference) => {
                self.budget.spend(Fault::Interference);
                self.interfere(interference);
            }
        }
        self.sleep = 0;
        Ok(false)
    }

    /// What only the process knows is lost.
    pub fn forget(&mut self) {
        self.permits = CallPermits::default();
        self.snapshot = None;
        self.authoritative = false;
    }

    fn events(&self) -> Vec<Event> {
        let mut events = vec![Event::Reconcile];
        events.extend((0..2).filter(|index| self.can_go(*index)).map(Event::Version));
        if self.calm {
            // other objects do their part before the next reconcile
            events.reverse();
            return events;
        }
        if self.budget.allows(Fault::SlowAnswer) && self.object.is_some() {
            events.push(Event::Late);
        }
        if self.budget.allows(Fault::Crash) && (self.may_call() || self.authoritative) {
            events.push(Event::Crash);
        }
        if self.budget.allows(Fault::Interference) && self.object.is_some() {
            events.extend(self.interferences().into_iter().map(Event::Interference));
        }
        events
    }

    /// What makes a difference now.
    fn interferences(&self) -> Vec<Interference> {
        let object = self.object.as_ref().unwrap();
        let suspended = object.spec.suspend == Some(true);
        let deleting = object.metadata.deletion_timestamp.is_some();
        let annotations = object.metadata.annotations.as_ref();
        let commanded = annotations.is_some_and(|all| all.contains_key(annotation::ROLLBACK_TO));
        let mut possible = vec![
            (Interference::MoveSpec(1 - self.desired()), !deleting),
            (Interference::Delete, !deleting),
            (Interference::Suspend, !suspended),
            (Interference::Resume, suspended),
            (Interference::Request, true),
            (Interference::Command, !commanded && self.status().previous.is_some()),
            (Interference::RemoveCommand, commanded),
            (Interference::Promote(None), self.setup.gate.is_some() && self.passes.is_some()),
            (
                Interference::DeployManually(FOREIGN),
                self.setup.foreign
                    && self.service.runs(HERE).is_none_or(|id| id_of(id).as_str() != id_at(FOREIGN)),
            ),
            (Interference::Older, !self.older),
            (Interference::Younger, self.older),
        ];
        for index in 0..2 {
            let there = self.service.find(&id_at(index));
            let runs =
                |environment| there.is_some_and(|stored| self.service.runs(environment) == Some(stored.id));
            // what cannot be observed is no fault of the operator
            let is_shown = there.is_some() && self.shows_what_runs();
            possible.extend([
                (Interference::CommandByName(index), !commanded),
                (Interference::Promote(Some(index)), self.setup.gate.is_some() && self.passes != Some(index)),
                (Interference::Prune(index), self.version_objects[index] == VersionObject::Present),
                (
                    Interference::Return(index),
                    self.version_objects[index] != VersionObject::Present && there.is_some(),
                ),
                (Interference::DeployManually(index), is_shown && !runs(HERE)),
                (Interference::Elsewhere(index), is_shown && !runs(LiveEnvironment::Test)),
            ]);
        }
        possible.into_iter().filter_map(|(interference, can)| can.then_some(interference)).collect()
    }

    /// It takes effect.
    pub fn interfere(&mut self, interference: Interference) {
        let now = self.now;
        let stored = |index: usize| u8::try_from(index + 1).unwrap();
        let token = format!("token-{}", self.budget.left());
        match interference {
            Interference::MoveSpec(index) => {
                self.set_spec(index);
                self.edit(bump);
            }
            Interference::Prune(index) => self.version_objects[index] = VersionObject::BeingDeleted,
            Interference::Return(index) => self.version_objects[index] = VersionObject::Present,
            Interference::Delete => self.edit(|object| {
                object.metadata.deletion_timestamp = Some(Time(at(now)));
                bump(object);
            }),
            Interference::Suspend | Interference::Resume => self.edit(|object| {
                object.spec.suspend = Some(interference == Interference::Suspend);
                bump(object);
            }),
            Interference::Request => self.annotate(annotation::RECONCILE_REQUESTED_AT, &token),
            Interference::Command => self.annotate(annotation::ROLLBACK_TO, "previous"),
            Interference::CommandByName(index) => self.annotate(annotation::ROLLBACK_TO, NAMES[index]),
            Interference::Promote(version) => self.promote(version),
            Interference::RemoveCommand => self.remove_annotation(annotation::ROLLBACK_TO),
            Interference::DeployManually(index) => {
                self.deployed_manually = true;
                self.service.deploy(HERE, stored(index), now);
            }
            Interference::Elsewhere(index) => {
                self.deployed_manually = true;
                self.service.deploy(LiveEnvironment::Test, stored(index), now);
            }
            Interference::ExhaustDriftCorrections => self.exhaust_drift_corrections(),
            Interference::Older => self.older = true,
            Interference::Younger => self.older = false,
        }
        self.collect();
    }

    /// The object loses an annotation.
    pub fn remove_annotation(&mut self, key: &str) {
        self.edit(|object| {
            object.metadata.annotations.get_or_insert_default().remove(key);
        });
    }

    /// The object gets an annotation.
    pub fn annotate(&mut self, key: &str, value: &str) {
        self.edit(|object| {
            let annotations = object.metadata.annotations.get_or_insert_default();
            annotations.insert(key.to_owned(), value.to_owned());
        });
    }
}

fn bump(object: &mut ChatbotDeployment) {
    *object.metadata.generation.get_or_insert(1) += 1;
}
