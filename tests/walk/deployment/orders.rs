//! What happens to the object and the service from outside: git, people, other objects, crashes.

use chatcaptain_operator::crd::{ChatbotDeployment, LiveEnvironment, annotation};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::world::{DeploymentWorld, HERE, Holder, id_at};
use crate::{
    budget::Trouble,
    explore::{Broken, Choices},
    laws::at,
    service::LATE,
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
    /// The object of a version, which is being deleted, has its turn.
    Version(usize),
    /// Somebody interferes.
    Order(Order),
}

/// Seconds for which the machine is busy: longer than the visibility grace.
const BUSY: i64 = 2 * LATE;

/// What somebody can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Git names this version.
    Want(usize),
    /// Git drops the object of this version.
    Leave(usize),
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
    /// No `rollback-to` any more.
    Countermand,
    /// Somebody deploys this version to prod.
    ByHand(usize),
    /// Somebody deploys this version to test.
    Elsewhere(usize),
    /// Changes by hand were reversed too often.
    Weary,
    /// An older object decides the environment.
    Older,
    /// It does no more.
    Younger,
}

impl DeploymentWorld {
    /// One thing happens.
    pub fn happen(&mut self, choices: &mut Choices) -> Result<bool, Broken> {
        match choices.pick(&self.events()) {
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
            Event::Version(index) => self.take_turn(index)?,
            Event::Order(order) => {
                self.budget.spend(Trouble::Order);
                self.obey(order);
            }
        }
        self.sleep = 0;
        Ok(false)
    }

    /// What only the process knows is lost.
    pub fn forget(&mut self) {
        self.permit = None;
        self.shot = None;
        self.trusted = false;
    }

    fn events(&self) -> Vec<Event> {
        let mut events = vec![Event::Pass];
        events.extend((0..2).filter(|index| self.can_go(*index)).map(Event::Version));
        if self.calm {
            // whoever else is involved does its part before the next pass
            events.reverse();
            return events;
        }
        if self.budget.allows(Trouble::Awkwardness) && self.object.is_some() {
            events.push(Event::Late);
        }
        if self.budget.allows(Trouble::Crash) && (self.permit.is_some() || self.trusted) {
            events.push(Event::Crash);
        }
        if self.budget.allows(Trouble::Order) && self.object.is_some() {
            events.extend(self.orders().into_iter().map(Event::Order));
        }
        events
    }

    /// What makes a difference now.
    fn orders(&self) -> Vec<Order> {
        let object = self.object.as_ref().unwrap();
        let suspended = object.spec.suspend == Some(true);
        let deleting = object.metadata.deletion_timestamp.is_some();
        let annotations = object.metadata.annotations.as_ref();
        let commanded = annotations.is_some_and(|all| all.contains_key(annotation::ROLLBACK_TO));
        let mut possible = vec![
            (Order::Want(1 - self.wanted()), !deleting),
            (Order::Delete, !deleting),
            (Order::Suspend, !suspended),
            (Order::Resume, suspended),
            (Order::Request, true),
            (Order::Command, !commanded && self.status().previous.is_some()),
            (Order::Countermand, commanded),
            (Order::Older, !self.older),
            (Order::Younger, self.older),
        ];
        for index in 0..2 {
            let there = self.service.find(&id_at(index));
            let runs =
                |environment| there.is_some_and(|kept| self.service.runs(environment) == Some(kept.id));
            // what nobody can see is nobody's fault
            let seen = there.is_some() && self.sees_what_runs();
            possible.extend([
                (Order::Leave(index), self.holders[index] == Holder::There),
                (Order::Return(index), self.holders[index] != Holder::There && there.is_some()),
                (Order::ByHand(index), seen && !runs(HERE)),
                (Order::Elsewhere(index), seen && !runs(LiveEnvironment::Test)),
            ]);
        }
        possible.into_iter().filter_map(|(order, can)| can.then_some(order)).collect()
    }

    /// Somebody has their way.
    pub fn obey(&mut self, order: Order) {
        let now = self.now;
        let kept = |index: usize| u8::try_from(index + 1).unwrap();
        let token = format!("token-{}", self.budget.left());
        match order {
            Order::Want(index) => {
                self.want(index);
                self.edit(bump);
            }
            Order::Leave(index) => self.holders[index] = Holder::Leaving,
            Order::Return(index) => self.holders[index] = Holder::There,
            Order::Delete => self.edit(|object| {
                object.metadata.deletion_timestamp = Some(Time(at(now)));
                bump(object);
            }),
            Order::Suspend | Order::Resume => self.edit(|object| {
                object.spec.suspend = Some(order == Order::Suspend);
                bump(object);
            }),
            Order::Request => self.annotate(annotation::RECONCILE_REQUESTED_AT, &token),
            Order::Command => self.annotate(annotation::ROLLBACK_TO, "previous"),
            Order::Countermand => self.edit(|object| {
                object.metadata.annotations.get_or_insert_default().remove(annotation::ROLLBACK_TO);
            }),
            Order::ByHand(index) => {
                self.meddled = true;
                self.service.deploy(HERE, kept(index), now);
            }
            Order::Elsewhere(index) => {
                self.meddled = true;
                self.service.deploy(LiveEnvironment::Test, kept(index), now);
            }
            Order::Weary => self.weary(),
            Order::Older => self.older = true,
            Order::Younger => self.older = false,
        }
        self.collect();
    }

    fn annotate(&mut self, key: &str, value: &str) {
        self.edit(|object| {
            let annotations = object.metadata.annotations.get_or_insert_default();
            annotations.insert(key.to_owned(), value.to_owned());
        });
    }
}

fn bump(object: &mut ChatbotDeployment) {
    *object.metadata.generation.get_or_insert(1) += 1;
}
