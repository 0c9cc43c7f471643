//! One reconcile: what the controller reads and writes is the model's, every decision is the code that ships.

use std::{sync::Arc, time::Duration};

use chatcaptain_operator::{
    crd::{ChatbotVersion, ChatbotVersionStatus, LiveEnvironment},
    plan::{
        Report, ServiceView, claims, proves_account,
        version::{Observation, Outcome, Step, next_step, report},
    },
};

use super::world::{CONFIG, UID, VersionWorld};
use crate::{
    explore::{Choices, Violation},
    invariants::at,
    reads::{requeue_seconds, service_is_unavailable},
    service::Snapshot,
};

impl VersionWorld {
    /// Reconciles the object: one step.
    pub fn reconcile(&mut self, choices: &mut Choices) -> Result<bool, Violation> {
        let Some(object) = self.object.clone() else {
            self.now += 3600;
            return Ok(true);
        };
        self.now += self.sleep;
        self.sleep = 0;
        self.service.pass_time(self.now);
        let mut observation = self.observe(&object, choices);
        let step = next_step(&observation.state());
        self.check_step(&observation, step)?;
        let outcome = match step {
            Step::Create => self.create(&observation, choices)?,
            Step::Delete => self.delete(choices)?,
            _ => Some(Outcome::NoCall),
        };
        let Some(outcome) = outcome else {
            // the process died within the call
            return Ok(false);
        };
        // a call takes its time, and the object may have changed meanwhile
        observation.now = at(self.now);
        observation.object.clone_from(self.object.as_ref().unwrap_or(&object));
        let report = report(&observation, &observation.state(), step, &outcome);
        self.check_report(&observation, step, &report)?;
        let wrote = self.publish(step, &report);
        // our own write queues the object at once
        self.sleep = if wrote { 0 } else { requeue_seconds(report.requeue) };
        Ok(!step.writes_to_service() && !wrote && matches!(step, Step::Wait(_)))
    }

    fn observe(&mut self, object: &Arc<ChatbotVersion>, choices: &mut Choices) -> Observation {
        let status = object.status.as_ref();
        let permit = self.permits.granted_at(UID, status);
        let search_started = self.searches.start(UID, status, self.now);
        let holders = self.holders();
        let deployments = self.deployments();
        let owner = claims::environment_owner(deployments.clone(), "bot", LiveEnvironment::Test);
        let mut observation = Observation {
            object: object.clone(),
            service: ServiceView::NotQueried,
            may_call: permit.is_some(),
            search_elapsed: Duration::from_secs(
                search_started.map_or(0, |started| (self.now - started).unsigned_abs()),
            ),
            held_by_others: Default::default(),
            deletion_pending: Default::default(),
            older_claim: claims::older_version_claim(object, &holders),
            older_create_pending: false,
            deployments,
            environment_owners: owner.map(|owner| (LiveEnvironment::Test, owner)).into_iter().collect(),
            namespace_policy: None,
            crd_is_being_deleted: false,
            config: CONFIG.clone(),
            now: at(self.now),
            attempt_id: format!("attempt {}", self.reads),
            jitter: 0.0,
        };
        if observation.needs_service() {
            observation.service = self.query(&observation, permit, choices);
        }
        if let ServiceView::Available { inventory, .. } = &observation.service {
            let candidates = observation.candidates_to_check(inventory);
            let ids = candidates.into_iter().map(|version| version.id.as_str());
            let held_by_others = ids.filter(|id| claims::is_held_by_other(object, id, &holders));
            let held_by_others = held_by_others.map(str::to_owned).collect();
            observation.older_create_pending = !inventory.has_descriptions()
                && claims::is_older_create_pending(object, &self.older_creates(), at(self.now));
            observation.held_by_others = held_by_others;
        }
        observation
    }

    fn query(
        &mut self,
        observation: &Observation,
        permit: Option<u32>,
        choices: &mut Choices,
    ) -> ServiceView {
        if let Some(unavailable) = service_is_unavailable(&mut self.budget, choices) {
            return ServiceView::Unavailable(unavailable);
        }
        self.reads += 1;
        let fresh = Snapshot { view: self.service.view(self.now), at: self.now, read: self.reads };
        let reads = observation.service_reads();
        let cached = self.snapshot.take();
        let snapshot = cached.filter(|cached| cached.satisfies(reads, self.now, permit)).unwrap_or(fresh);
        let known = observation.status().version_id.as_deref();
        self.authoritative |= proves_account(&snapshot.view.inventory(0), known, &CONFIG.owner_id);
        let view = snapshot.view.to_service_view(self.now - snapshot.at, self.authoritative);
        self.snapshot = Some(snapshot);
        view
    }

    /// Writes the finalizer or the status, if that says something new.
    fn publish(&mut self, step: Step, report: &Report<ChatbotVersionStatus>) -> bool {
        let Some(object) = self.object.clone() else {
            return false;
        };
        if let Some(set) = report.finalizer {
            self.set_finalizer(set);
            if let Step::RemoveFinalizer(why) = step {
                self.removed_because = Some(why);
            }
            return true;
        }
        if object.status.as_ref() == Some(&report.status) {
            return false;
        }
        let reports_call = step.writes_to_service();
        self.permits.after_write(UID, object.status.as_ref(), &report.status, reports_call, self.reads);
        self.edit(|object| object.status = Some(report.status.clone()));
        true
    }
}
