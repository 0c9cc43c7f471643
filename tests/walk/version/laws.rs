//! What must hold for each step, each status and each rest of a `ChatbotVersion`.

use chatcaptain_operator::{
    crd::ChatbotVersionStatus,
    plan::{
        Report, ServiceView, reconcile_requested,
        version::{FinalizerRemoval, Observation, Step, Wait},
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
    pub fn check_step(&mut self, facts: &Observation, step: Step) -> Result<(), Broken> {
        let status = facts.status();
        match step {
            Step::RecordIntent => {
                // each token of `recreate` allows one more
                let seen = facts.state();
                self.allowed += usize::from(seen.recreate_requested && self.allowed == self.made());
            }
            Step::Create => {
                let intent = status.pending_create.as_ref();
                let intended = intent.is_some_and(|intent| intent.search_start_time.is_none());
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
            Step::RemoveFinalizer(why) => self.check_release(why)?,
            Step::Wait(Wait::VersionLost) => {
                let id = self.known_id().unwrap_or_default();
                law!(self.service.find(id).is_none(), "lost, though it is there");
            }
            _ => {}
        }
        Ok(())
    }

    fn is_held(&self, facts: &Observation) -> bool {
        let (status, meta) = (&facts.status().common, &facts.object.metadata);
        let handled = status.last_handled_reconcile_at.as_deref();
        let later = status.retry.as_ref().is_some_and(|retry| retry.next_attempt_time.0 > at(self.now));
        later && status.observed_generation == meta.generation && !reconcile_requested(meta, handled)
    }

    /// Nothing of ours is left behind unless somebody wanted it, takes it over, or it is on record.
    fn check_release(&self, why: FinalizerRemoval) -> Result<(), Broken> {
        let ours = self.service.there().find(|kept| kept.maker == Maker::Operator);
        let known = self.known_id();
        match why {
            FinalizerRemoval::Deleted => {
                let left = known.and_then(|id| self.service.find(id));
                law!(left.is_none(), "let go as deleted, though it is there");
            }
            FinalizerRemoval::NeverCreated => {
                // whoever says which version it is takes the others on themselves
                law!(ours.is_none() || self.told_to_adopt, "let go as never created, though it was");
            }
            FinalizerRemoval::LiveUnmanaged => {
                let live = known.is_some_and(|id| self.service.is_live(id));
                let told = self.shot.as_ref().is_some_and(|shot| shot.view.tells_what_is_live());
                law!(live || !told, "left as live, though it is known not to be");
            }
            FinalizerRemoval::HandedOver => law!(self.slot.1, "handed over to nobody"),
            FinalizerRemoval::Retained
            | FinalizerRemoval::OwnedByOther
            | FinalizerRemoval::ForceOrphaned
            | FinalizerRemoval::CredentialsTimeout => {}
        }
        Ok(())
    }

    /// Before a status is published.
    pub fn check_told(
        &self,
        facts: &Observation,
        step: Step,
        told: &Report<ChatbotVersionStatus>,
    ) -> Result<(), Broken> {
        if told.finalizer.is_some() {
            let left = matches!(
                step,
                Step::RemoveFinalizer(
                    FinalizerRemoval::ForceOrphaned
                        | FinalizerRemoval::LiveUnmanaged
                        | FinalizerRemoval::CredentialsTimeout
                )
            );
            law!(!left || !told.orphans.is_empty(), "a version is left behind and nothing says so");
            return Ok(());
        }
        let status = &told.status;
        consistent(&status.common, &facts.object.metadata)?;
        let suspended = facts.object.spec.suspend == Some(true);
        if is_true(&status.common, "Ready")
            && !suspended
            && matches!(facts.service, ServiceView::Available { .. })
        {
            let id = status.version_id.as_deref().unwrap_or_default();
            let shown = self.shot.as_ref().is_none_or(|shot| shot.view.shows(id));
            law!(shown, "Ready without the version in the list");
            law!(status.pending_create.is_none(), "Ready with an open intent");
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
        let asked = status.common.conditions.iter().any(|c| c.message.contains("adopt-id"));
        law!(
            !is_true(&status.common, "Reconciling") || held || asked,
            "it is under way for ever: {}",
            reason(&status.common)
        );
        Ok(())
    }

    fn check_gone(&self) -> Result<(), Broken> {
        let left = self.service.there().any(|kept| kept.maker == Maker::Operator);
        let meant =
            !matches!(self.released, Some(FinalizerRemoval::Deleted | FinalizerRemoval::NeverCreated) | None);
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
