//! What happens to the object and the service from outside: people, other objects, crashes.

use chatcaptain_operator::{
    crd::{ChatbotVersion, DeletionPolicy, LiveEnvironment, annotation},
    plan::call_permits::{CallPermits, SearchTimers},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::world::VersionWorld;
use crate::{
    budget::Fault,
    explore::{Choices, Violation},
    invariants::at,
    service::{Creator, Descriptions, LATE, id_of},
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
    /// The deployment that manages the environment is reconciled.
    Deployment,
    /// The older object of the same name has its version.
    OlderCreateDone,
    /// A user, or another object, interferes.
    Interference(Interference),
}

/// Seconds for which the machine is busy: longer than the visibility grace.
const BUSY: i64 = 2 * LATE;

/// What somebody can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interference {
    /// The object is deleted.
    Delete,
    Suspend,
    Resume,
    /// The policy becomes Retain.
    Retain,
    /// `recreate` with a new token.
    Recreate,
    /// `reconcile-requested-at` with a new token.
    Request,
    ForceOrphan,
    /// `adopt-id` with the first version that is there.
    Adopt,
    /// The known version is removed in the service.
    Remove,
    /// Somebody creates a version of the same name.
    Namesake,
    /// Somebody deploys the known version to test.
    Deploy,
    /// Somebody deploys another version to test.
    DeployOther,
    /// An older object holds the same version.
    Older,
}

impl VersionWorld {
    /// One thing happens.
    pub fn happen(&mut self, choices: &mut Choices) -> Result<bool, Violation> {
        let events = self.events();
        match choices.pick(&events) {
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
            Event::Deployment => self.deployment_view = self.current_deployment_view(),
            Event::OlderCreateDone => self.older_create = false,
            Event::Interference(interference) => {
                self.budget.spend(Fault::Interference);
                self.interfere(interference);
                self.collect();
            }
        }
        self.sleep = 0;
        Ok(false)
    }

    /// What only the process knows is lost.
    pub fn forget(&mut self) {
        self.permits = CallPermits::default();
        self.searches = SearchTimers::default();
        self.snapshot = None;
        self.authoritative = false;
    }

    fn events(&self) -> Vec<Event> {
        let mut events = vec![Event::Reconcile];
        if self.budget.allows(Fault::SlowAnswer) && self.object.is_some() {
            events.push(Event::Late);
        }
        if self.budget.allows(Fault::Crash)
            && (self.permit().is_some() || self.search_started().is_some() || self.authoritative)
        {
            events.push(Event::Crash);
        }
        if self.deployment_view != self.current_deployment_view() && self.deployment().is_some() {
            events.push(Event::Deployment);
        }
        if self.older_create {
            events.push(Event::OlderCreateDone);
        }
        if self.calm {
            // other objects do their part before the next reconcile
            events.reverse();
        } else if self.budget.allows(Fault::Interference) {
            events.extend(self.interferences().into_iter().map(Event::Interference));
        }
        events
    }

    /// What makes a difference now.
    fn interferences(&self) -> Vec<Interference> {
        let Some(object) = &self.object else {
            return Vec::new();
        };
        let suspended = object.spec.suspend == Some(true);
        let known = self.known_id().is_some_and(|id| self.service.find(id).is_some());
        let deleting = object.metadata.deletion_timestamp.is_some();
        let test = self.service.runs(LiveEnvironment::Test).map(id_of);
        let runs = test.is_some_and(|live| self.known_id() == Some(live.as_str()));
        let possible = [
            (Interference::Delete, !deleting),
            (Interference::Suspend, !suspended),
            (Interference::Resume, suspended),
            (Interference::Retain, object.spec.deletion_policy.is_none()),
            (Interference::Recreate, !deleting),
            (Interference::Request, true),
            (Interference::ForceOrphan, deleting),
            (Interference::Adopt, self.known_id().is_none() && self.service.there().next().is_some()),
            (Interference::Remove, known),
            (Interference::Namesake, self.service.ever().len() < 3),
            (Interference::Deploy, known && !runs),
            (Interference::DeployOther, runs),
            (Interference::Older, self.known_id().is_some() && !self.older),
        ];
        possible.into_iter().filter_map(|(interference, can)| can.then_some(interference)).collect()
    }

    /// It takes effect.
    pub fn interfere(&mut self, interference: Interference) {
        let now = self.now;
        let first = self.service.there().next().map(|stored| id_of(stored.id));
        let token = format!("token-{}", self.budget.left());
        match interference {
            Interference::Delete => self.edit(|object| {
                object.metadata.deletion_timestamp = Some(Time(at(now)));
                bump(object);
            }),
            Interference::Suspend | Interference::Resume => self.edit(|object| {
                object.spec.suspend = Some(interference == Interference::Suspend);
                bump(object);
            }),
            Interference::Retain => self.edit(|object| {
                object.spec.deletion_policy = Some(DeletionPolicy::Retain);
                bump(object);
            }),
            Interference::Recreate => self.annotate(annotation::RECREATE, &token),
            Interference::Request => self.annotate(annotation::RECONCILE_REQUESTED_AT, &token),
            Interference::ForceOrphan => self.annotate(annotation::FORCE_ORPHAN, "yes"),
            Interference::Adopt => {
                self.adopt_id_set = true;
                self.annotate(annotation::ADOPT_ID, first.unwrap().as_str());
            }
            Interference::Remove => {
                let id = self.known_id().unwrap_or_default().to_owned();
                self.service.delete(&id, now);
            }
            Interference::Namesake => {
                let described = self.setup.behavior.descriptions == Descriptions::Returned;
                let description = if described { "created manually" } else { "" };
                self.service.create(Creator::Somebody, super::world::NAME, description, now);
            }
            Interference::Deploy => {
                let id = self.service.find(self.known_id().unwrap_or_default()).unwrap().id;
                self.service.deploy(LiveEnvironment::Test, id, now);
            }
            Interference::DeployOther => {
                let other = self.service.create(Creator::Somebody, "other", "created manually", now);
                self.service.deploy(LiveEnvironment::Test, other, now);
            }
            Interference::Older => self.older = true,
        }
    }

    fn annotate(&mut self, key: &str, value: &str) {
        self.edit(|object| {
            let annotations = object.metadata.annotations.get_or_insert_default();
            annotations.insert(key.to_owned(), value.to_owned());
        });
    }
}

fn bump(object: &mut ChatbotVersion) {
    *object.metadata.generation.get_or_insert(1) += 1;
}
