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
    explore::{Violation, invariant},
    invariants::{at, consistent, has_finalizer, is_true, reason},
    service::{Creator, Descriptions, id_of},
};

impl VersionWorld {
    /// Before a step is taken.
    pub fn check_step(&mut self, observation: &Observation, step: Step) -> Result<(), Violation> {
        let status = observation.status();
        match step {
            Step::RecordIntent => {
                // each token of `recreate` allows one more
                let seen = observation.state();
                self.allowed += usize::from(seen.recreate_requested && self.allowed == self.made());
            }
            Step::Create => {
                let intent = status.pending_create.as_ref();
                let intended = intent.is_some_and(|intent| intent.search_start_time.is_none());
                let newest = self.snapshot.as_ref().map(|snapshot| snapshot.read);
                invariant!(intended, "a create without an intent");
                invariant!(
                    newest > self.permit() && self.permit().is_some(),
                    "a create without a list requested after its intent"
                );
                invariant!(!self.is_held(observation), "a create within the backoff");
                invariant!(
                    self.setup.place != Place::Claimed || observation.new_version().environment == "dev",
                    "a create deploys to an environment that a deployment decides"
                );
            }
            Step::Delete => invariant!(!self.is_held(observation), "a delete within the backoff"),
            Step::RemoveFinalizer(why) => self.check_release(why)?,
            Step::Wait(Wait::VersionLost) => {
                let id = self.known_id().unwrap_or_default();
                invariant!(self.service.find(id).is_none(), "lost, though it is there");
            }
            _ => {}
        }
        Ok(())
    }

    fn is_held(&self, observation: &Observation) -> bool {
        let (status, meta) = (&observation.status().common, &observation.object.metadata);
        let handled = status.last_handled_reconcile_at.as_deref();
        let later = status.retry.as_ref().is_some_and(|retry| retry.next_attempt_time.0 > at(self.now));
        later && status.observed_generation == meta.generation && !reconcile_requested(meta, handled)
    }

    /// Nothing of ours is left behind unless somebody wanted it, takes it over, or it is on record.
    fn check_release(&self, why: FinalizerRemoval) -> Result<(), Violation> {
        let ours = self.service.there().find(|stored| stored.creator == Creator::Operator);
        let known = self.known_id();
        match why {
            FinalizerRemoval::Deleted => {
                let left = known.and_then(|id| self.service.find(id));
                invariant!(left.is_none(), "let go as deleted, though it is there");
            }
            FinalizerRemoval::NeverCreated => {
                // whoever says which version it is takes the others on themselves
                invariant!(ours.is_none() || self.told_to_adopt, "let go as never created, though it was");
            }
            FinalizerRemoval::LiveUnmanaged => {
                let live = known.is_some_and(|id| self.service.is_live(id));
                let report =
                    self.snapshot.as_ref().is_some_and(|snapshot| snapshot.view.tells_what_is_live());
                invariant!(live || !report, "left as live, though it is known not to be");
            }
            FinalizerRemoval::HandedOver => invariant!(self.slot.1, "handed over to nobody"),
            FinalizerRemoval::Retained
            | FinalizerRemoval::OwnedByOther
            | FinalizerRemoval::ForceOrphaned
            | FinalizerRemoval::CredentialsTimeout => {}
        }
        Ok(())
    }

    /// Before a status is published.
    pub fn check_report(
        &self,
        observation: &Observation,
        step: Step,
        report: &Report<ChatbotVersionStatus>,
    ) -> Result<(), Violation> {
        if report.finalizer.is_some() {
            let left = matches!(
                step,
                Step::RemoveFinalizer(
                    FinalizerRemoval::ForceOrphaned
                        | FinalizerRemoval::LiveUnmanaged
                        | FinalizerRemoval::CredentialsTimeout
                )
            );
            invariant!(!left || !report.orphans.is_empty(), "a version is left behind and nothing says so");
            return Ok(());
        }
        let status = &report.status;
        consistent(&status.common, &observation.object.metadata)?;
        let suspended = observation.object.spec.suspend == Some(true);
        if is_true(&status.common, "Ready")
            && !suspended
            && matches!(observation.service, ServiceView::Available { .. })
        {
            let id = status.version_id.as_deref().unwrap_or_default();
            let shown = self.snapshot.as_ref().is_none_or(|snapshot| snapshot.view.shows(id));
            invariant!(shown, "Ready without the version in the list");
            invariant!(status.pending_create.is_none(), "Ready with an open intent");
            self.check_owner(id)?;
        }
        Ok(())
    }

    /// The version is this object's: made for it, or by command.
    pub fn check_owner(&self, id: &str) -> Result<(), Violation> {
        let stored = self.service.ever().iter().find(|stored| id_of(stored.id).as_str() == id);
        invariant!(
            stored.is_some_and(|stored| stored.creator != Creator::Somebody) || self.can_be_mistaken(),
            "version {id} is somebody else's"
        );
        Ok(())
    }

    /// Once nothing happens any more.
    pub fn check_rest(&self) -> Result<(), Violation> {
        invariant!(self.made() <= self.allowed, "more than one create took effect");
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
        invariant!(
            is_true(&status.common, "Ready") == (there && !self.older && !deleting),
            "Ready is {}, though the version is there: {there}",
            reason(&status.common)
        );
        invariant!(
            status.common.observed_generation == object.metadata.generation,
            "the status speaks of an earlier generation"
        );
        // being deleted for ever is no end, but where two versions could be meant a human must say which
        let held = self.setup.shared && self.released.is_some() || !has_finalizer(&object.metadata);
        let asked = status.common.conditions.iter().any(|c| c.message.contains("adopt-id"));
        invariant!(
            !is_true(&status.common, "Reconciling") || held || asked,
            "it is under way for ever: {}",
            reason(&status.common)
        );
        Ok(())
    }

    fn check_gone(&self) -> Result<(), Violation> {
        let left = self.service.there().any(|stored| stored.creator == Creator::Operator);
        let meant =
            !matches!(self.released, Some(FinalizerRemoval::Deleted | FinalizerRemoval::NeverCreated) | None);
        let again = self.allowed > 1;
        invariant!(!left || meant || again || self.can_be_mistaken(), "a version is left behind silently");
        Ok(())
    }

    /// Where descriptions cannot be read, a version of the same name that somebody made after the intent is taken
    /// for the object's own; and whoever says which version it is takes the rest on themselves. Both are documented.
    pub fn can_be_mistaken(&self) -> bool {
        let readable = self.setup.behavior.descriptions == Descriptions::Returned;
        let rivals = self.service.ever().iter().any(|stored| stored.creator == Creator::Somebody);
        self.told_to_adopt || (rivals && !readable)
    }
}
