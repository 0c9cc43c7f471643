//! The two calls, each with every way it can end, and the crash within.

use std::sync::Arc;

use chatcaptain_operator::{
    chatcaptain::{ApiCall, Failure, FailureClass, Refusal},
    crd::LiveEnvironment,
    plan::version::{Observation, Outcome},
};

use super::{
    interference::Interference,
    world::{NAME, UID, VersionWorld},
};
use crate::{
    budget::Fault,
    call_outcome::CallOutcome,
    explore::{Choices, Violation, invariant},
    service::{Creator, LATE, id_of},
};

/// A slow call takes longer than the visibility grace.
const SLOW: i64 = LATE + 1;

/// What comes between a call and its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Between {
    Nothing,
    /// The list that would confirm it cannot be had.
    NoList,
    Crash,
    /// The object is deleted.
    Deleted,
}

impl VersionWorld {
    /// A create: `None` if the process dies before its record.
    pub fn create(
        &mut self,
        observation: &Observation,
        choices: &mut Choices,
    ) -> Result<Option<Outcome>, Violation> {
        invariant!(self.made() < self.allowed, "a second create could take effect");
        let end = self.end(choices);
        let status = self.object.as_ref().and_then(|object| object.status.as_ref());
        let permit = self.permits.take(UID, status);
        let Some(permit) = permit else { return Err("a create without a permit".to_owned()) };
        let mut id = None;
        if end.is_slow() {
            self.now += SLOW;
        }
        if end.takes_effect() {
            let new = observation.new_version();
            let later = if end == CallOutcome::LostDuring { LATE } else { 0 };
            let made = self.service.create(Creator::Operator, NAME, &new.description, self.now + later);
            if new.environment == "test" {
                self.service.deploy(LiveEnvironment::Test, made, self.now);
            }
            id = Some(made);
        }
        self.snapshot = None;
        let result = match end.failure(ApiCall::Create) {
            // the first version may be another object's, or what this create has made
            None if self.setup.behavior.misleading => Ok(Some(id_of(self.reads as u8 % 2))),
            None => Ok(id.filter(|_| end != CallOutcome::DoneSilently).map(id_of)),
            Some(failure) => Err(failure),
        };
        if let Err(failure) = &result
            && !failure.may_have_happened
        {
            self.permits.restore(permit, failure);
            return Ok(Some(Outcome::Created(result, None)));
        }
        let list = match self.between(choices, true) {
            Between::Crash => return Ok(None),
            Between::NoList => None,
            _ => Some(Arc::new(self.service.view(self.now).inventory(0))),
        };
        Ok(Some(Outcome::Created(result, list)))
    }

    /// A delete: `None` if the process dies before its record.
    pub fn delete(&mut self, choices: &mut Choices) -> Result<Option<Outcome>, Violation> {
        let id = self.known_id().unwrap_or_default().to_owned();
        invariant!(!self.service.is_live(&id), "a live version is deleted");
        invariant!(!self.service.is_coming(&id), "a version that is about to be live is deleted");
        invariant!(!self.older, "a version of an older object is deleted");
        self.check_owner(&id)?;
        let end = self.end(choices);
        let is_there = self.service.find(&id).is_some();
        if end.is_slow() {
            self.now += SLOW;
        }
        if end.takes_effect() {
            self.service.delete(&id, self.now);
        }
        self.snapshot = None;
        let not_found =
            || Failure::new(ApiCall::Delete, FailureClass::Refused(Refusal::NotFound), "no such version");
        let failure = end.failure(ApiCall::Delete).or_else(|| (!is_there).then(not_found));
        let result = failure.map_or(Ok(()), Err);
        if self.between(choices, false) == Between::Crash {
            return Ok(None);
        }
        Ok(Some(Outcome::Deleted(result)))
    }

    fn end(&mut self, choices: &mut Choices) -> CallOutcome {
        let mut ends = vec![CallOutcome::Done];
        if self.budget.allows(Fault::SlowAnswer) {
            ends.extend([CallOutcome::DoneSilently, CallOutcome::DoneSlowly]);
        }
        if self.budget.allows(Fault::LostAnswer) {
            ends.extend([CallOutcome::LostAfter, CallOutcome::LostBefore, CallOutcome::ThrottledAfter]);
            if !self.setup.behavior.late {
                // together with a late list this would be longer than the grace
                ends.push(CallOutcome::LostDuring);
            }
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

    fn between(&mut self, choices: &mut Choices, lists: bool) -> Between {
        let deleting = |world: &Self| {
            let object = world.object.as_ref();
            object.is_some_and(|object| object.metadata.deletion_timestamp.is_some())
        };
        let mut options = vec![Between::Nothing];
        if lists && self.budget.allows(Fault::SlowAnswer) {
            options.push(Between::NoList);
        }
        if self.budget.allows(Fault::Crash) {
            options.push(Between::Crash);
        }
        if self.budget.allows(Fault::Interference) && !deleting(self) {
            options.push(Between::Deleted);
        }
        let between = choices.pick(&options);
        match between {
            Between::Crash => {
                self.budget.spend(Fault::Crash);
                self.forget();
                self.sleep = 0;
            }
            Between::Deleted => {
                self.budget.spend(Fault::Interference);
                self.interfere(Interference::Delete);
            }
            Between::NoList => self.budget.spend(Fault::SlowAnswer),
            Between::Nothing => {}
        }
        between
    }
}
