//! One reconcile: what the controller reads and writes is the model's, every decision is the code that ships.

use std::{collections::HashSet, sync::Arc};

use chatcaptain_operator::{
    crd::{ChatbotDeployment, ChatbotDeploymentStatus, LiveEnvironment},
    plan::{
        Report, ServiceReads, ServiceView, claims,
        deployment::{Freeze, Observation, Outcome, Step, VersionBeingDeleted, next_step, report},
        proves_account,
    },
};

use super::world::{DeploymentWorld, ELSEWHERE, HERE, NAMES, UID, VersionObject, id_at};
use crate::{
    explore::{Choices, Violation},
    invariants::at,
    reads::{requeue_seconds, service_is_unavailable},
    service::Snapshot,
    version::CONFIG,
};

impl DeploymentWorld {
    /// Reconciles the object: one step.
    pub fn reconcile(&mut self, choices: &mut Choices) -> Result<bool, Violation> {
        let Some(object) = self.object.clone() else {
            self.now += 3600;
            self.service.pass_time(self.now);
            return Ok(true);
        };
        self.now += self.sleep;
        self.sleep = 0;
        self.service.pass_time(self.now);
        let mut observation = self.observe(&object, choices);
        let step = next_step(&observation.state());
        self.check_step(&observation, step)?;
        let outcome = match step {
            Step::StartRollout(method) => self.roll_out(&observation, method, choices)?,
            Step::DeleteVersion => self.delete_version(&observation, choices)?,
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
        self.check_report(&observation, step, &outcome, &report)?;
        let wrote = self.publish(step, &report);
        // our own write queues the object at once
        self.sleep = if wrote { 0 } else { requeue_seconds(report.requeue) };
        Ok(!wrote && matches!(step, Step::Wait(_)))
    }

    fn observe(&mut self, object: &Arc<ChatbotDeployment>, choices: &mut Choices) -> Observation {
        if self.setup.elsewhere_known {
            // it was deployed again a moment ago
            self.service.deploy(LiveEnvironment::Test, ELSEWHERE, self.now);
        }
        let owner = claims::environment_owner(self.claimants(object), "bot", HERE);
        let mut observation = Observation {
            object: object.clone(),
            service: ServiceView::NotQueried,
            may_call: self.permits.granted_at(UID, object.status.as_ref()).is_some(),
            older_claim: claims::older_environment_claim(object, owner.as_deref()),
            referenced_version: if self.setup.by_id { None } else { self.version(self.desired()) },
            rollback_version: self.rollback_version(),
            promotion_source: self.promotion_source(),
            followed: None,
            promotion_ring: false,
            freeze: Freeze::Off,
            versions_being_deleted: self.versions_being_deleted(),
            reclaimed: self.reclaimed(),
            in_use_elsewhere: HashSet::new(),
            elsewhere: self.elsewhere(),
            crd_is_being_deleted: false,
            config: CONFIG.clone(),
            now: at(self.now),
            jitter: 0.0,
        };
        if observation.needs_service() {
            self.query_service(&mut observation, choices);
        }
        if observation.needs_freeze() {
            observation.freeze = self.freeze();
        }
        observation
    }

    /// Reads as often as the plan asks for, of one service: it is unavailable for all reads of a reconcile or for none.
    fn query_service(&mut self, observation: &mut Observation, choices: &mut Choices) {
        if let Some(unavailable) = service_is_unavailable(&mut self.budget, choices) {
            observation.service = ServiceView::Unavailable(unavailable);
            return;
        }
        let mut next = Some(observation.service_reads());
        while let Some(reads) = next {
            observation.service = self.query(observation, reads);
            next = observation.further_reads(reads);
        }
    }

    fn query(&mut self, observation: &Observation, reads: ServiceReads) -> ServiceView {
        self.reads += 1;
        let fresh = Snapshot { view: self.service.view(self.now), at: self.now, read: self.reads };
        let cached = self.snapshot.take();
        let snapshot = cached.filter(|cached| cached.satisfies(reads, self.now, None)).unwrap_or(fresh);
        let active = observation.status().active.as_ref().map(|active| active.version_id.as_str());
        self.authoritative |= proves_account(&snapshot.view.inventory(0), active, &CONFIG.owner_id);
        let view = snapshot.view.to_service_view(self.now - snapshot.at, self.authoritative);
        self.snapshot = Some(snapshot);
        view
    }

    /// The versions in charge of this deployment whose objects are being deleted together with them.
    fn versions_being_deleted(&self) -> Vec<VersionBeingDeleted> {
        let Some(object) = &self.object else { return Vec::new() };
        let in_charge = claims::versions_in_charge(object, at(self.now), &CONFIG);
        let is_deleted = |index: &usize| {
            let version = self.version(*index);
            version.is_some_and(|version| claims::is_deleted_with_object(&version, None, &CONFIG))
        };
        (0..2)
            .filter(|index| in_charge.contains(id_at(*index).as_str()) && is_deleted(index))
            .map(|index| VersionBeingDeleted { version_id: id_at(index), name: NAMES[index].to_owned() })
            .collect()
    }

    /// Versions whose deletion was handed over and that an object which stays holds again.
    fn reclaimed(&self) -> HashSet<String> {
        let pending = self.status().pending_deletions.iter().map(|entry| entry.version_id.clone());
        let stays = |id: &String| {
            (0..2).any(|index| id_at(index) == *id && self.version_objects[index] == VersionObject::Present)
        };
        pending.filter(stays).collect()
    }

    /// Writes the finalizer or the status, if that says something new.
    fn publish(&mut self, step: Step, report: &Report<ChatbotDeploymentStatus>) -> bool {
        let Some(object) = self.object.clone() else {
            return false;
        };
        if let Some(set) = report.finalizer {
            self.orphans.extend(report.orphans.iter().cloned());
            self.set_finalizer(set);
            return true;
        }
        if let Some(annotation) = report.annotation_to_remove {
            self.remove_annotation(annotation);
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
