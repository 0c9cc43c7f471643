//! The three calls, each with every way it can end, and the crash within; and what the objects of versions do.

use chatcaptain_operator::{
    chatcaptain::{ApiCall as ServiceCall, Failure, FailureClass, Refusal},
    plan::deployment::{Observation, Outcome, RolloutMethod},
};

use super::{
    orders::Order,
    world::{DeploymentWorld, HERE, Holder, Rollback, id_at},
};
use crate::{
    budget::Trouble,
    ends::End,
    explore::{Broken, Choices, law},
    service::LATE,
};

/// A slow call takes longer than the visibility grace.
const SLOW: i64 = LATE + 1;

/// What comes between a call and its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Between {
    Nothing,
    Crash,
    /// Git names the other version, or the object is deleted.
    Order(Order),
}

impl DeploymentWorld {
    /// A deploy or rollback: `None` if the process dies before its record.
    pub fn call(
        &mut self,
        facts: &Observation,
        call: RolloutMethod,
        choices: &mut Choices,
    ) -> Result<Option<Outcome>, Broken> {
        let id = facts
            .status()
            .current_operation
            .as_ref()
            .map(|operation| operation.version_id.clone())
            .unwrap_or_default();
        let service_call =
            if call == RolloutMethod::Rollback { ServiceCall::Rollback } else { ServiceCall::Deploy };
        let end = self.end(choices);
        let permit = self.permit.take();
        if end.is_slow() {
            self.now += SLOW;
            self.service.pass_time(self.now);
        }
        let mut result = end.failure(service_call).map_or(Ok(()), Err);
        if end.takes_effect() {
            match (call, self.setup.rollback, self.service.find(&id).map(|kept| kept.id)) {
                (RolloutMethod::Rollback, Rollback::Refused, _) | (_, _, None) => {
                    let class = FailureClass::Refused(Refusal::Unsupported);
                    result = Err(Failure::new(service_call, class, "no such call"));
                }
                (RolloutMethod::Rollback, Rollback::WorkingCopy, _) => {}
                (_, _, Some(kept)) => self.service.deploy(HERE, kept, self.now),
            }
        }
        self.shot = None;
        if result.as_ref().is_err_and(Failure::was_not_sent) {
            self.permit = permit;
            return Ok(Some(Outcome::RolloutStarted(result)));
        }
        Ok((self.between(choices) != Between::Crash).then_some(Outcome::RolloutStarted(result)))
    }

    /// A delete of a version whose object is gone.
    pub fn retire(&mut self, facts: &Observation, choices: &mut Choices) -> Result<Option<Outcome>, Broken> {
        let Some(due) = facts.deletable() else {
            return Ok(Some(Outcome::NoCall));
        };
        let id = due.version_id;
        law!(!self.service.is_live(&id), "a live version is deleted");
        // what somebody else has deployed a moment ago nobody can see
        law!(self.meddled || !self.service.is_coming(&id), "a version is deleted that is about to be live");
        let index = (0..2).find(|index| id_at(*index) == id).unwrap();
        law!(self.holders[index] != Holder::There, "a version is deleted that somebody holds");
        let end = self.end(choices);
        if end.is_slow() {
            self.now += SLOW;
        }
        if end.takes_effect() {
            self.service.delete(&id, self.now);
        }
        self.shot = None;
        let result = end.failure(ServiceCall::Delete).map_or(Ok(()), Err);
        Ok((self.between(choices) != Between::Crash).then_some(Outcome::VersionDeleted(id, result)))
    }

    fn end(&mut self, choices: &mut Choices) -> End {
        let mut ends = vec![End::Done];
        if self.budget.allows(Trouble::Awkwardness) {
            ends.push(End::DoneSlowly);
        }
        if self.budget.allows(Trouble::Loss) {
            ends.extend([End::LostAfter, End::LostBefore, End::ThrottledAfter]);
        }
        if self.budget.allows(Trouble::Refusal) {
            ends.extend([End::Throttled, End::Unsent, End::Refused, End::Forbidden]);
        }
        let end = choices.pick(&ends);
        end.trouble().inspect(|trouble| self.budget.spend(*trouble));
        end
    }

    fn between(&mut self, choices: &mut Choices) -> Between {
        let deleting = self.object.as_ref().is_some_and(|o| o.metadata.deletion_timestamp.is_some());
        let mut options = vec![Between::Nothing];
        if self.budget.allows(Trouble::Crash) {
            options.push(Between::Crash);
        }
        if self.budget.allows(Trouble::Order) && !deleting {
            options.push(Between::Order(Order::Want(1 - self.wanted())));
            options.push(Between::Order(Order::Delete));
        }
        let between = choices.pick(&options);
        match between {
            Between::Crash => {
                self.budget.spend(Trouble::Crash);
                self.forget();
            }
            Between::Order(order) => {
                self.budget.spend(Trouble::Order);
                self.obey(order);
            }
            Between::Nothing => {}
        }
        between
    }

    /// Whether the object of a version, which is being deleted, can go now.
    pub fn can_go(&self, index: usize) -> bool {
        let (id, status) = (id_at(index), self.status());
        let noted = status.pending_deletions.iter().any(|entry| entry.version_id == id);
        // a process that has called for a version remembers that for a while; only a crash in between forgets it
        let coming = self.service.is_coming(&id);
        self.holders[index] == Holder::Leaving && (noted || !self.is_offered(index) && !coming)
    }

    /// It runs here or is about to, and the deployment is there to take its deletion over.
    fn is_offered(&self, index: usize) -> bool {
        let (id, status) = (id_at(index), self.status());
        let deleting = self.object.as_ref().is_none_or(|o| o.metadata.deletion_timestamp.is_some());
        let coming = status.current_operation.as_ref().is_some_and(|operation| operation.version_id == id);
        let active = status.active.as_ref().is_some_and(|active| active.version_id == id);
        let runs = if self.setup.manner.readable { self.service.is_live(&id) } else { active };
        !deleting && (coming || runs)
    }

    /// The object of a version goes, as its own table says: noted, it is handed over; live without anybody in
    /// charge, it is left; else its version goes with it.
    pub fn take_turn(&mut self, index: usize) -> Result<(), Broken> {
        let id = id_at(index);
        let noted = self.status().pending_deletions.iter().any(|entry| entry.version_id == id);
        self.holders[index] = Holder::Gone;
        if noted {
            return Ok(());
        }
        if self.service.is_live(&id) {
            self.orphans.push(id);
        } else {
            self.service.delete(&id, self.now);
        }
        Ok(())
    }
}
