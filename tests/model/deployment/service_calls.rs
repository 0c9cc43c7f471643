//! The three calls, each with every way it can end, and the crash within; and what the objects of versions do.

use chatcaptain_operator::{
    chatcaptain::{ApiCall, Failure, FailureClass, Refusal},
    plan::deployment::{Observation, Outcome, RolloutMethod},
};

use super::{
    interference::Interference,
    world::{DeploymentWorld, HERE, Rollback, UID, VersionObject, id_at},
};
use crate::{
    budget::Fault,
    call_outcome::CallOutcome,
    explore::{Choices, Violation, invariant},
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
    Interference(Interference),
}

impl DeploymentWorld {
    /// A deploy or rollback: `None` if the process dies before its record.
    pub fn roll_out(
        &mut self,
        observation: &Observation,
        call: RolloutMethod,
        choices: &mut Choices,
    ) -> Result<Option<Outcome>, Violation> {
        let id = observation
            .status()
            .current_operation
            .as_ref()
            .map(|operation| operation.version_id.clone())
            .unwrap_or_default();
        let service_call = if call == RolloutMethod::Rollback { ApiCall::Rollback } else { ApiCall::Deploy };
        let end = self.end(choices);
        let status = self.object.as_ref().and_then(|object| object.status.as_ref());
        let Some(permit) = self.permits.take(UID, status) else {
            return Err("a call without a permit".to_owned());
        };
        if end.is_slow() {
            self.now += SLOW;
            self.service.pass_time(self.now);
        }
        let mut result = end.failure(service_call).map_or(Ok(()), Err);
        if end.takes_effect() {
            match (call, self.setup.rollback, self.service.find(&id).map(|stored| stored.id)) {
                (RolloutMethod::Rollback, Rollback::Refused, _) | (_, _, None) => {
                    let class = FailureClass::Refused(Refusal::Unsupported);
                    result = Err(Failure::new(service_call, class, "no such call"));
                }
                (RolloutMethod::Rollback, Rollback::WorkingCopy, _) => {}
                (_, _, Some(stored)) => self.service.deploy(HERE, stored, self.now),
            }
        }
        self.snapshot = None;
        if let Err(failure) = &result {
            self.permits.restore(permit, failure);
            if failure.was_not_sent() {
                return Ok(Some(Outcome::RolloutStarted(result)));
            }
        }
        Ok((self.between(choices) != Between::Crash).then_some(Outcome::RolloutStarted(result)))
    }

    /// A delete of a version whose object is gone.
    pub fn delete_version(
        &mut self,
        observation: &Observation,
        choices: &mut Choices,
    ) -> Result<Option<Outcome>, Violation> {
        let Some(deletable) = observation.deletable() else {
            return Ok(Some(Outcome::NoCall));
        };
        let id = deletable.version_id;
        invariant!(!self.service.is_live(&id), "a live version is deleted");
        // what was deployed outside the operator a moment ago does not show yet
        invariant!(
            self.deployed_manually || !self.service.is_coming(&id),
            "a version is deleted that is about to be live"
        );
        let index = (0..2).find(|index| id_at(*index) == id).unwrap();
        invariant!(
            self.version_objects[index] != VersionObject::Present,
            "a version is deleted that an object holds"
        );
        let end = self.end(choices);
        if end.is_slow() {
            self.now += SLOW;
        }
        if end.takes_effect() {
            self.service.delete(&id, self.now);
        }
        self.snapshot = None;
        let result = end.failure(ApiCall::Delete).map_or(Ok(()), Err);
        Ok((self.between(choices) != Between::Crash).then_some(Outcome::VersionDeleted(id, result)))
    }

    fn end(&mut self, choices: &mut Choices) -> CallOutcome {
        let mut ends = vec![CallOutcome::Done];
        if self.budget.allows(Fault::SlowAnswer) {
            ends.push(CallOutcome::DoneSlowly);
        }
        if self.budget.allows(Fault::LostAnswer) {
            ends.extend([CallOutcome::LostAfter, CallOutcome::LostBefore, CallOutcome::ThrottledAfter]);
        }
        if self.budget.allows(Fault::Refusal) {
            ends.extend([
                CallOutcome::Throttled,
                CallOutcome::Unsent,
                CallOutcome::Refused,
                CallOutcome::Forbidden,
            ]);
        }
        let end = choices.pick(&ends);
        end.fault().inspect(|fault| self.budget.spend(*fault));
        end
    }

    fn between(&mut self, choices: &mut Choices) -> Between {
        let deleting = self.object.as_ref().is_some_and(|o| o.metadata.deletion_timestamp.is_some());
        let mut options = vec![Between::Nothing];
        if self.budget.allows(Fault::Crash) {
            options.push(Between::Crash);
        }
        if self.budget.allows(Fault::Interference) && !deleting {
            options.push(Between::Interference(Interference::MoveSpec(1 - self.desired())));
            options.push(Between::Interference(Interference::Delete));
        }
        let between = choices.pick(&options);
        match between {
            Between::Crash => {
                self.budget.spend(Fault::Crash);
                self.forget();
            }
            Between::Interference(interference) => {
                self.budget.spend(Fault::Interference);
                self.interfere(interference);
            }
            Between::Nothing => {}
        }
        between
    }

    /// Whether the object of a version, which is being deleted, can go now.
    pub fn can_go(&self, index: usize) -> bool {
        let (id, status) = (id_at(index), self.status());
        let is_recorded = status.pending_deletions.iter().any(|entry| entry.version_id == id);
        // a process that has called for a version remembers that for a while; only a crash in between forgets it
        let coming = self.service.is_coming(&id);
        self.version_objects[index] == VersionObject::BeingDeleted
            && (is_recorded || !self.is_offered(index) && !coming)
    }

    /// It runs here or is about to, and the deployment is there to take its deletion over.
    fn is_offered(&self, index: usize) -> bool {
        let (id, status) = (id_at(index), self.status());
        let deleting = self.object.as_ref().is_none_or(|o| o.metadata.deletion_timestamp.is_some());
        let coming = status.current_operation.as_ref().is_some_and(|operation| operation.version_id == id);
        let active = status.active.as_ref().is_some_and(|active| active.version_id == id);
        let runs = if self.setup.behavior.readable { self.service.is_live(&id) } else { active };
        !deleting && (coming || runs)
    }

    /// The object of a version goes, as its own table says: recorded, it is handed over; live without a deployment
    /// that manages the environment, it is left; else its version goes with it.
    pub fn reconcile_version(&mut self, index: usize) -> Result<(), Violation> {
        let id = id_at(index);
        let is_recorded = self.status().pending_deletions.iter().any(|entry| entry.version_id == id);
        self.version_objects[index] = VersionObject::Gone;
        if is_recorded {
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
