//! The two calls, each with every way it can end, and the crash within.

use std::sync::Arc;

use chatcaptain_operator::{
    chatcaptain::ApiCall,
    crd::LiveEnvironment,
    plan::version::{Observation, Outcome},
};

use super::{
    orders::Order,
    world::{NAME, VersionWorld},
};
use crate::{
    budget::Trouble,
    ends::End,
    explore::{Broken, Choices, law},
    service::{LATE, Maker, id_of},
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
    pub fn create(&mut self, facts: &Observation, choices: &mut Choices) -> Result<Option<Outcome>, Broken> {
        law!(self.made() < self.allowed, "a second create could take effect");
        let end = self.end(choices);
        let permit = self.permit.take();
        let mut id = None;
        if end.is_slow() {
            self.now += SLOW;
        }
        if end.takes_effect() {
            let new = facts.new_version();
            let later = if end == End::LostDuring { LATE } else { 0 };
            let made = self.service.create(Maker::Operator, NAME, &new.description, self.now + later);
            if new.environment == "test" {
                self.service.deploy(LiveEnvironment::Test, made, self.now);
            }
            id = Some(made);
        }
        self.shot = None;
        let result = match end.failure(ApiCall::Create) {
            None => Ok(id.filter(|_| end != End::DoneSilently).map(id_of)),
            Some(failure) => Err(failure),
        };
        if matches!(end, End::Throttled | End::Unsent) {
            self.permit = permit;
            return Ok(Some(Outcome::Created(result, None)));
        }
        if matches!(end, End::Refused | End::Forbidden) {
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
    pub fn delete(&mut self, choices: &mut Choices) -> Result<Option<Outcome>, Broken> {
        let id = self.known_id().unwrap_or_default().to_owned();
        law!(!self.service.is_live(&id), "a live version is deleted");
        law!(!self.older, "a version of an older object is deleted");
        self.check_owner(&id)?;
        let end = self.end(choices);
        if end.is_slow() {
            self.now += SLOW;
        }
        if end.takes_effect() {
            self.service.delete(&id, self.now);
        }
        self.shot = None;
        let result = end.failure(ApiCall::Delete).map_or(Ok(()), Err);
        if self.between(choices, false) == Between::Crash {
            return Ok(None);
        }
        Ok(Some(Outcome::Deleted(result)))
    }

    fn end(&mut self, choices: &mut Choices) -> End {
        let mut ends = vec![End::Done];
        if self.budget.allows(Trouble::Awkwardness) {
            ends.extend([End::DoneSilently, End::DoneSlowly]);
        }
        if self.budget.allows(Trouble::Loss) {
            ends.extend([End::LostAfter, End::LostBefore, End::ThrottledAfter]);
            if !self.setup.manner.late {
                // together with a late list this would be longer than the grace
                ends.push(End::LostDuring);
            }
        }
        if self.budget.allows(Trouble::Refusal) {
            ends.extend([End::Throttled, End::Unsent, End::Refused, End::Forbidden]);
        }
        let end = choices.pick(&ends);
        end.trouble().inspect(|trouble| self.budget.spend(*trouble));
        end
    }

    fn between(&mut self, choices: &mut Choices, lists: bool) -> Between {
        let deleting = |world: &Self| {
            let object = world.object.as_ref();
            object.is_some_and(|object| object.metadata.deletion_timestamp.is_some())
        };
        let mut options = vec![Between::Nothing];
        if lists && self.budget.allows(Trouble::Awkwardness) {
            options.push(Between::NoList);
        }
        if self.budget.allows(Trouble::Crash) {
            options.push(Between::Crash);
        }
        if self.budget.allows(Trouble::Order) && !deleting(self) {
            options.push(Between::Deleted);
        }
        let between = choices.pick(&options);
        match between {
            Between::Crash => {
                self.budget.spend(Trouble::Crash);
                self.forget();
                self.sleep = 0;
            }
            Between::Deleted => {
                self.budget.spend(Trouble::Order);
                self.obey(Order::Delete);
            }
            Between::NoList => self.budget.spend(Trouble::Awkwardness),
            Between::Nothing => {}
        }
        between
    }
}
