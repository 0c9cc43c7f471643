//! What happens to the object and the service from outside: people, other objects, crashes.

use chatcaptain_operator::crd::{ChatbotVersion, DeletionPolicy, LiveEnvironment, annotation};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::world::VersionWorld;
use crate::{
    budget::Trouble,
    explore::{Broken, Choices},
    laws::at,
    service::{Descriptions, LATE, Maker, id_of},
};

/// One thing that can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// The next pass.
    Pass,
    /// The next pass comes late: the machine is busy.
    Late,
    /// The process dies between two passes.
    Crash,
    /// The deployment that decides the environment looks.
    Deployment,
    /// The older object of the same name has its version.
    RivalDone,
    /// Somebody interferes.
    Order(Order),
}

/// Seconds for which the machine is busy: longer than the visibility grace.
const BUSY: i64 = 2 * LATE;

/// What somebody can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
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
    Displace,
    /// An older object turns out to hold the same version.
    Older,
}

impl VersionWorld {
    /// One thing happens.
    pub fn happen(&mut self, choices: &mut Choices) -> Result<bool, Broken> {
        let events = self.events();
        match choices.pick(&events) {
            Event::Pass => return self.pass(choices),
            Event::Late => {
                self.budget.spend(Trouble::Awkwardness);
                self.sleep += BUSY;
                return Ok(false);
            }
            Event::Crash => {
                self.budget.spend(Trouble::Crash);
                self.forget();
            }
            Event::Deployment => self.slot = self.slot_now(),
            Event::RivalDone => self.rival = false,
            Event::Order(order) => {
                self.budget.spend(Trouble::Order);
                self.obey(order);
                self.collect();
            }
        }
        self.sleep = 0;
        Ok(false)
    }

    /// What only the process knows is lost.
    pub fn forget(&mut self) {
        self.permit = None;
        self.searching = None;
        self.shot = None;
        self.trusted = false;
    }

    fn events(&self) -> Vec<Event> {
        let mut events = vec![Event::Pass];
        if self.budget.allows(Trouble::Awkwardness) && self.object.is_some() {
            events.push(Event::Late);
        }
        if self.budget.allows(Trouble::Crash)
            && (self.permit.is_some() || self.searching.is_some() || self.trusted)
        {
            events.push(Event::Crash);
        }
        if self.slot != self.slot_now() && self.deployment().is_some() {
            events.push(Event::Deployment);
        }
        if self.rival {
            events.push(Event::RivalDone);
        }
        if self.calm {
            // whoever else is involved does its part before the next pass
            events.reverse();
        } else if self.budget.allows(Trouble::Order) {
            events.extend(self.orders().into_iter().map(Event::Order));
        }
        events
    }

    /// What makes a difference now.
    fn orders(&self) -> Vec<Order> {
        let Some(object) = &self.object else {
            return Vec::new();
        };
        let suspended = object.spec.suspend == Some(true);
        let known = self.known_id().is_some_and(|id| self.service.find(id).is_some());
        let deleting = object.metadata.deletion_timestamp.is_some();
        let test = self.service.runs(LiveEnvironment::Test).map(id_of);
        let runs = test.is_some_and(|live| self.known_id() == Some(live.as_str()));
        let possible = [
            (Order::Delete, !deleting),
            (Order::Suspend, !suspended),
            (Order::Resume, suspended),
            (Order::Retain, object.spec.deletion_policy.is_none()),
            (Order::Recreate, !deleting),
            (Order::Request, true),
            (Order::ForceOrphan, deleting),
            (Order::Adopt, self.known_id().is_none() && self.service.there().next().is_some()),
            (Order::Remove, known),
            (Order::Namesake, self.service.ever().len() < 3),
            (Order::Deploy, known && !runs),
            (Order::Displace, runs),
            (Order::Older, self.known_id().is_some() && !self.older),
        ];
        possible.into_iter().filter_map(|(order, can)| can.then_some(order)).collect()
    }

    /// Somebody has their way.
    pub fn obey(&mut self, order: Order) {
        let now = self.now;
        let first = self.service.there().next().map(|kept| id_of(kept.id));
        let token = format!("token-{}", self.budget.left());
        match order {
            Order::Delete => self.edit(|object| {
                object.metadata.deletion_timestamp = Some(Time(at(now)));
                bump(object);
            }),
            Order::Suspend | Order::Resume => self.edit(|object| {
                object.spec.suspend = Some(order == Order::Suspend);
                bump(object);
            }),
            Order::Retain => self.edit(|object| {
                object.spec.deletion_policy = Some(DeletionPolicy::Retain);
                bump(object);
            }),
            Order::Recreate => self.annotate(annotation::RECREATE, &token),
            Order::Request => self.annotate(annotation::RECONCILE_REQUESTED_AT, &token),
            Order::ForceOrphan => self.annotate(annotation::FORCE_ORPHAN, "yes"),
            Order::Adopt => {
                self.told_to_adopt = true;
                self.annotate(annotation::ADOPT_ID, first.unwrap().as_str());
            }
            Order::Remove => {
                let id = self.known_id().unwrap_or_default().to_owned();
                self.service.delete(&id, now);
            }
            Order::Namesake => {
                let described = self.setup.manner.descriptions == Descriptions::Returned;
                let description = if described { "by hand" } else { "" };
                self.service.create(Maker::Somebody, super::world::NAME, description, now);
            }
            Order::Deploy => {
                let id = self.service.find(self.known_id().unwrap_or_default()).unwrap().id;
                self.service.deploy(LiveEnvironment::Test, id, now);
            }
            Order::Displace => {
                let other = self.service.create(Maker::Somebody, "other", "by hand", now);
                self.service.deploy(LiveEnvironment::Test, other, now);
            }
            Order::Older => self.older = true,
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
