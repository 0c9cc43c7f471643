//! What must hold for each step and each status of a `ChatbotVersion`, and once it has settled.

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
                let state = observation.state();
                self.allowed += usize::from(state.recreate_requested && self.allowed == self.made());
            }
            Step::Create => {
                let intent = status.pending_create.as_ref();
                let is_recorded = intent.is_some_and(|intent| intent.search_start_time.is_none());
                let newest = self.snapshot.as_ref().map(|snapshot| snapshot.read);
                invariant!(is_recorded, "a create without an intent");
                invariant!(
                    newest > self.permit() && self.permit().is_some(),
                    "a create without a list requested after its intent"
                );
                invariant!(!self.is_backing_off(observation), "a create within the backoff");
                invariant!(
                    self.setup.place != Place::Managed || observation.new_version().environment == "dev",
                    "a create deploys to an environment that a deployment manages"
                );
            }
            Step::Delete => invariant!(!self.is_backing_off(observation), "a delete within the backoff"),
            Step::RemoveFinalizer(why) => self.check_finalizer_removal(why)?,
            Step::Wait(Wait::VersionLost) => {
                let id = self.known_id().unwrap_or_default();
                let is_cut = self.setup.behavior.cut;
                invariant!(self.service.find(id).is_none() || is_cut, "lost, though it is there");
            }
            _ => {}
        }
        Ok(())
    }

    fn is_backing_off(&self, observation: &Observation) -> bool {
        let (status, meta) = (&observation.status().common, &observation.object.metadata);
        let handled = status.last_handled_reconcile_at.as_deref();
        let later = status.retry.as_ref().is_some_and(|retry| retry.next_attempt_time.0 > at(self.now));
        later && status.observed_generation == meta.generation && !reconcile_requested(meta, handled)
    }

    /// No version of ours is left behind, unless the user wants it, a deployment takes it over, or an event reports it.
    fn check_finalizer_removal(&self, why: FinalizerRemoval) -> Result<(), Violation> {
        let ours = self.service.there().find(|stored| stored.creator == Creator::Operator);
        let known = self.known_id();
        match why {
            FinalizerRemoval::Deleted => {
                let left = known.and_then(|id| self.service.find(id));
                invariant!(left.is_none(), "removed as deleted, though the version is there");
            }
            FinalizerRemoval::NeverCreated => {
                // a user who sets adopt-id is responsible for the other versions
                invariant!(
                    ours.is_none() || self.adopt_id_set,
                    "removed as never created, though a version was"
                );
            }
            FinalizerRemoval::LiveUnmanaged => {
                let live = known.is_some_and(|id| self.service.is_live(id));
                let report =
                    self.snapshot.as_ref().is_some_and(|snapshot| snapshot.view.shows_what_is_live());
                // without times of deployment it is not known whether its create has made it live already
                let is_awaited = self.setup.place == Place::Test && !self.setup.behavior.dated;
                invariant!(live || !report || is_awaited, "left as live, though it is known not to be");
            }
            FinalizerRemoval::ForeignMarker => {
                let stored = known.and_then(|id| self.service.find(id));
                invariant!(
                    stored.is_some_and(|stored| stored.creator == Creator::Somebody),
                    "left as another installation's, though it is ours"
                );
            }
            FinalizerRemoval::HandedOver => {
                invariant!(self.deployment_view.1, "handed over to no deployment")
            }
            FinalizerRemoval::Retained
            | FinalizerRemoval::OwnedByOther
            | FinalizerRemoval::ForceOrphaned
            | FinalizerRemoval::Unconfirmed
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
                        | FinalizerRemoval::ForeignMarker
                        | FinalizerRemoval::CredentialsTimeout
                        | FinalizerRemoval::Unconfirmed
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
            "version {id} belongs to another object"
        );
        Ok(())
    }

    /// Once nothing happens any more.
    pub fn check_settled_state(&self) -> Result<(), Violation> {
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
        let stored = status.version_id.as_deref().and_then(|id| self.service.find(id));
        let is_listed = |id| self.service.view(self.now).shows(id);
        let is_listed = status.version_id.as_deref().is_some_and(is_listed);
        let there = is_listed
            && stored.is_some_and(|stored| stored.creator != Creator::Somebody || self.can_be_mistaken());
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
        let is_waiting =
            self.setup.shared && self.removed_because.is_some() || !has_finalizer(&object.metadata);
        let asked = status.common.conditions.iter().any(|c| c.message.contains("adopt-id"));
        invariant!(
            !is_true(&status.common, "Reconciling") || is_waiting || asked,
            "it is Reconciling for ever: {}",
            reason(&status.common)
        );
        Ok(())
    }

    fn check_gone(&self) -> Result<(), Violation> {
        let left = self.service.there().any(|stored| stored.creator == Creator::Operator);
        let meant = !matches!(
            self.removed_because,
            Some(FinalizerRemoval::Deleted | FinalizerRemoval::NeverCreated) | None
        );
        let again = self.allowed > 1;
        invariant!(!left || meant || again || self.can_be_mistaken(), "a version is left behind silently");
        Ok(())
    }

    /// Where descriptions cannot be read, a version of the same name that somebody made after the intent is taken
    /// for the object's own; and a user who sets adopt-id is responsible for the other versions. Both are documented.
    pub fn can_be_mistaken(&self) -> bool {
        let readable = self.setup.behavior.descriptions == Descriptions::Returned;
        let others = self.service.ever().iter().any(|stored| stored.creator == Creator::Somebody);
        self.adopt_id_set || (others && !readable)
    }
}
