//! What must hold for each step, each status and each rest of a `ChatbotVersion`.

use chatcaptain_operator::{
    crd::ChatbotVersionStatus,
    plan::{
        Look, Told, requested,
        version::{Facts, Release, Rest, Step},
    },
};

use super::world::{Place, VersionWorld};
use crate::{
    explore::{Broken, law},
    laws::{at, consistent, is_guarded, is_true, reason},
    service::{Descriptions, Maker, id_of},
};

impl VersionWorld {
    /// Before a step is taken.
    pub fn check_step(&mut self, facts: &Facts, step: Step) -> Result<(), Broken> {
        let status = facts.status();
        match step {
            Step::Intend => {
                // each token of `recreate` allows one more
                let seen = facts.see();
                self.allowed += usize::from(seen.recreate && self.allowed == self.made());
            }
            Step::Create => {
                let intent = status.intent.as_ref();
                let intended = intent.is_some_and(|intent| intent.unconfirmed_since.is_none());
                let looked = self.shot.as_ref().map(|shot| shot.look);
                law!(intended, "a create without an intent");
                law!(
                    looked > self.permit && self.permit.is_some(),
                    "a create without a look after its intent"
                );
                law!(!self.is_held(facts), "a create within the backoff");
                law!(
                    self.setup.place != Place::Claimed || facts.new_version().environment == "dev",
                    "a create deploys to an environment that a deployment decides"
                );
            }
            Step::Delete => law!(!self.is_held(facts), "a delete within the backoff"),
            Step::Release(why) => self.check_release(why)?,
            Step::Rest(Rest::Lost) => {
                let id = self.known_id().unwrap_or_default();
                law!(self.service.find(id).is_none(), "lost, though it is there");
            }
            _ => {}
        }
        Ok(())
    }

    fn is_held(&self, facts: &Facts) -> bool {
        let (status, meta) = (&facts.status().common, &facts.object.metadata);
        let handled = status.last_handled_reconcile_at.as_deref();
        let later = status.retry.as_ref().is_some_and(|retry| retry.not_before.0 > at(self.now));
        later && status.observed_generation == meta.generation && !requested(meta, handled)
    }

    /// Nothing of ours is left behind unless somebody wanted it, takes it over, or it is on record.
    fn check_release(&self, why: Release) -> Result<(), Broken> {
        let ours = self.service.there().find(|kept| kept.maker == Maker::Operator);
        let known = self.known_id();
        match why {
            Release::Proven => {
                let left = known.and_then(|id| self.service.find(id));
                law!(left.is_none(), "let go as deleted, though it is there");
            }
            Release::NeverCreated => {
                // whoever says which version it is takes the others on themselves
                law!(ours.is_none() || self.told_to_adopt, "let go as never created, though it was");
            }
            Release::LeftLive => {
                let live = known.is_some_and(|id| self.service.is_live(id));
                let told = self.shot.as_ref().is_some_and(|shot| shot.view.tells_what_is_live());
                law!(live || !told, "left as live, though it is known not to be");
            }
            Release::HandedOver => law!(self.slot.1, "handed over to nobody"),
            Release::Retained | Release::NotOurs | Release::Forced | Release::LeftBehind => {}
        }
        Ok(())
    }

    /// Before a status is published.
    pub fn check_told(
        &self,
        facts: &Facts,
        step: Step,
        told: &Told<ChatbotVersionStatus>,
    ) -> Result<(), Broken> {
        if told.finalizer.is_some() {
            let left =
                matches!(step, Step::Release(Release::Forced | Release::LeftLive | Release::LeftBehind));
            law!(!left || !told.orphans.is_empty(), "a version is left behind and nothing says so");
            return Ok(());
        }
        let status = &told.status;
        consistent(&status.common, &facts.object.metadata)?;
        let suspended = facts.object.spec.suspend == Some(true);
        if is_true(&status.common, "Ready") && !suspended && matches!(facts.look, Look::Shown { .. }) {
            let id = status.version_id.as_deref().unwrap_or_default();
            let shown = self.shot.as_ref().is_none_or(|shot| shot.view.shows(id));
            law!(shown, "Ready without the version in the list");
            law!(status.intent.is_none(), "Ready with an open intent");
            self.check_owner(id)?;
        }
        Ok(())
    }

    /// The version is this object's: made for it, or by command.
    pub fn check_owner(&self, id: &str) -> Result<(), Broken> {
        let kept = self.service.ever().iter().find(|kept| id_of(kept.id).as_str() == id);
        law!(
            kept.is_some_and(|kept| kept.maker != Maker::Somebody) || self.can_be_mistaken(),
            "version {id} is somebody else's"
        );
        Ok(())
    }

    /// Once nothing happens any more.
    pub fn check_rest(&self) -> Result<(), Broken> {
        law!(self.made() <= self.allowed, "more than one create took effect");
        let Some(object) = &self.object else {
            return self.check_gone();
        };
        let status = object.status.clone().unwrap_or_default();
        consistent(&status.common, &object.metadata)?;
        if object.spec.suspend == Some(true) {
            return Ok(());
        }
        let deleting = object.metadata.deletion_timestamp.is_some();
        let there = status.version_id.as_deref().is_some_and(|id| self.service.find(id).is_some());
        law!(
            is_true(&status.common, "Ready") == (there && !self.older && !deleting),
            "Ready is {}, though the version is there: {there}",
            reason(&status.common)
        );
        law!(
            status.common.observed_generation == object.metadata.generation,
            "the status speaks of an earlier generation"
        );
        // being deleted for ever is no end, but where two versions could be meant a human must say which
        let held = self.setup.shared && self.released.is_some() || !is_guarded(&object.metadata);
        let asked = status.common.conditions.iter().any(|c| c.message.contains("Annotate it with"));
        law!(
            !is_true(&status.common, "Reconciling") || held || asked,
            "it is under way for ever: {}",
            reason(&status.common)
        );
        Ok(())
    }

    fn check_gone(&self) -> Result<(), Broken> {
        let left = self.service.there().any(|kept| kept.maker == Maker::Operator);
        let meant = !matches!(self.released, Some(Release::Proven | Release::NeverCreated) | None);
        let again = self.allowed > 1;
        law!(!left || meant || again || self.can_be_mistaken(), "a version is left behind silently");
        Ok(())
    }

    /// Where descriptions cannot be read, a version of the same name that somebody made after the intent is taken
    /// for the object's own; and whoever says which version it is takes the rest on themselves. Both are documented.
    pub fn can_be_mistaken(&self) -> bool {
        let readable = self.setup.manner.descriptions == Descriptions::Returned;
        let rivals = self.service.ever().iter().any(|kept| kept.maker == Maker::Somebody);
        self.told_to_adopt || (rivals && !readable)
    }
}
