//! What must hold for each step and each status of a `ChatbotDeployment`, and once it has settled.

use chatcaptain_operator::{
    chatcaptain::Failure,
    crd::{
        Cause, ChatbotDeploymentStatus, DriftPolicy, OnFailure, Operation, Retry, RollbackCommand,
        RollbackMethod, annotation,
    },
    plan::{
        Report, ServiceView, annotation_value,
        deployment::{Gate, Observation, Outcome, RolloutMethod, Step, Wait},
        reconcile_requested,
    },
};

use super::world::{DeploymentWorld, FOREIGN, HERE, VersionObject, id_at};
use crate::{
    explore::{Violation, invariant},
    invariants::{at, consistent, has_finalizer, is_true, reason},
    service::{Behavior, id_of},
};

impl DeploymentWorld {
    /// Before a step is taken.
    pub fn check_step(&self, observation: &Observation, step: Step) -> Result<(), Violation> {
        self.check_gate(observation, step)?;
        self.check_foreign(step)?;
        let status = observation.status();
        match step {
            Step::StartRollout(call) => {
                let operation = status.current_operation.as_ref();
                invariant!(
                    operation.is_some_and(|o| o.call_time.is_none()),
                    "a call without a recorded intent"
                );
                invariant!(self.may_call(), "a call that may have been made already");
                let id = operation.map(|o| o.version_id.clone()).unwrap_or_default();
                let ran = status.history.iter().any(|entry| entry.version_id == id);
                invariant!(
                    call == RolloutMethod::Deploy || ran && self.setup.method == RollbackMethod::Rollback,
                    "rolled back to what never ran here"
                );
            }
            Step::DeleteVersion => {
                let entry = observation.deletable();
                let is_needed =
                    |id: &str| self.is_needed(id) && observation.object.metadata.deletion_timestamp.is_none();
                invariant!(
                    entry.is_some_and(|entry| !is_needed(&entry.version_id)),
                    "a version is deleted that git names or that is kept for a rollback"
                );
            }
            Step::RemoveRollbackCommand => invariant!(self.is_commanded(), "nothing to remove"),
            Step::Wait(Wait::ProgressDeadlineExceeded) => {
                invariant!(status.failed_versions.is_some(), "failed without a record");
            }
            _ => {}
        }
        if matches!(step, Step::StartRollout(_) | Step::DeleteVersion | Step::RecordIntent(_)) {
            let retry = match step {
                Step::DeleteVersion => observation.deletable().and_then(|entry| entry.retry),
                _ => own_retry(observation),
            };
            invariant!(!self.is_waiting(retry.as_ref(), observation), "a change within its backoff");
            invariant!(
                !self.older && observation.object.spec.suspend != Some(true),
                "a change though suspended or in conflict"
            );
        }
        Ok(())
    }

    /// A forward move passes no closed gate, and a move back is never held by one.
    fn check_gate(&self, observation: &Observation, step: Step) -> Result<(), Violation> {
        let Ok(desired) = observation.desired() else { return Ok(()) };
        let (status, id) = (observation.status(), &desired.version_id);
        let goes_back = desired.cause != Cause::Spec || self.ran_before_live(id);
        match step {
            Step::RecordIntent(_) if self.is_gate_closed(id) && !goes_back => {
                // the rollout has passed the gate before: it is repeated, or what it has reached is restored
                let is_under_way = status.current_operation.as_ref().is_some_and(|o| o.version_id == *id);
                let target = status.target.as_ref().filter(|target| target.version_id == *id);
                let was_reached = target.is_some_and(|target| target.reached_time.is_some());
                invariant!(is_under_way || was_reached, "a forward move to {id} passes a closed gate");
            }
            Step::Wait(Wait::Gate(_) | Wait::PromotionBlocked) => {
                invariant!(self.is_gate_closed(id), "an open gate holds {id}");
                invariant!(!goes_back, "a gate holds a move back to {id}");
            }
            _ => {}
        }
        Ok(())
    }

    fn is_gate_closed(&self, id: &str) -> bool {
        match self.setup.gate {
            None => false,
            Some(Gate::Freeze) => self.passes.is_none(),
            Some(_) => self.passes.is_none_or(|index| id_at(index) != id),
        }
    }

    /// By the service, not by the plan: it ran here for the first time before the live one did.
    fn ran_before_live(&self, id: &str) -> bool {
        let runs = |id: &str| self.snapshot.as_ref().and_then(|snapshot| snapshot.view.runs(HERE, id));
        let history = &self.status().history;
        let first_run = |id: &str| history.iter().rposition(|entry| entry.version_id == id);
        let live = (0..3).map(id_at).find(|id| runs(id) == Some(true));
        first_run(id)
            .is_some_and(|ran| live.is_none_or(|live| first_run(&live).is_none_or(|live| ran > live)))
    }

    /// Nothing replaces a version of another installation.
    fn check_foreign(&self, step: Step) -> Result<(), Violation> {
        let shown = self.snapshot.as_ref().and_then(|snapshot| snapshot.view.runs(HERE, &id_at(FOREIGN)));
        let replaces = matches!(step, Step::RecordIntent(_) | Step::StartRollout(_));
        invariant!(
            !(self.setup.foreign && replaces && shown == Some(true)),
            "a version of another installation is replaced"
        );
        Ok(())
    }

    fn is_waiting(&self, retry: Option<&Retry>, observation: &Observation) -> bool {
        let (status, meta) = (&observation.status().common, &observation.object.metadata);
        let handled = status.last_handled_reconcile_at.as_deref();
        let later = retry.is_some_and(|retry| retry.next_attempt_time.0 > at(self.now));
        later && status.observed_generation == meta.generation && !reconcile_requested(meta, handled)
    }

    /// Before a status is published.
    pub fn check_report(
        &self,
        observation: &Observation,
        step: Step,
        outcome: &Outcome,
        report: &Report<ChatbotDeploymentStatus>,
    ) -> Result<(), Violation> {
        // then the status is not written
        if report.finalizer.is_some() || report.annotation_to_remove.is_some() {
            return Ok(());
        }
        let status = &report.status;
        self.check_active(status)?;
        // the delete of an old version says nothing of the environment
        if step != Step::DeleteVersion {
            consistent(&status.common, &observation.object.metadata)?;
        }
        check_record(step, outcome, status)?;
        invariant!(
            status.history.len() <= 10 && status.pending_deletions.len() <= 50,
            "status grows without end"
        );
        let is_read = matches!(observation.service, ServiceView::Available { .. });
        if is_true(&status.common, "Ready") && is_read && matches!(step, Step::Wait(_)) {
            let id = id_at(self.desired());
            let shown = self.snapshot.as_ref().and_then(|snapshot| snapshot.view.runs(HERE, &id));
            let tolerated =
                reason(&status.common) == "DriftTolerated" && self.setup.drift == DriftPolicy::Warn;
            invariant!(shown != Some(false) || tolerated, "Ready, though {id} is not shown to be live");
            let active = status.active.as_ref().is_some_and(|active| active.version_id == id);
            invariant!(active || tolerated, "Ready, though another version is said to be active");
        }
        Ok(())
    }

    /// A number alone, which other versions may have as well, makes no version active.
    fn check_active(&self, status: &ChatbotDeploymentStatus) -> Result<(), Violation> {
        let mut ran = status.active.iter().filter(|_| self.setup.behavior.same_number);
        let was_deployed = |id: &str| {
            self.service
                .ever()
                .iter()
                .any(|stored| id_of(stored.id).as_str() == id && stored.deployed.is_some())
        };
        invariant!(
            ran.all(|ran| was_deployed(&ran.version_id)),
            "what was never deployed is said to be active"
        );
        Ok(())
    }

    /// Once nothing happens any more.
    pub fn check_settled_state(&self) -> Result<(), Violation> {
        let Some(object) = &self.object else {
            return self.check_left_behind();
        };
        let status = self.status();
        consistent(&status.common, &object.metadata)?;
        if object.spec.suspend == Some(true) || self.older {
            return Ok(());
        }
        invariant!(
            status.common.observed_generation == object.metadata.generation,
            "the status describes an earlier generation"
        );
        if object.metadata.deletion_timestamp.is_some() {
            invariant!(!has_finalizer(&object.metadata), "it is being deleted for ever");
            return self.check_left_behind();
        }
        self.check_verdict(status)?;
        let live = self.service.runs(HERE).map(|id| id_of(id).as_str().to_owned());
        // what runs and is not listed any more cannot be named
        let nameable = live.as_ref().is_none_or(|id| self.service.find(id).is_some());
        let active = status.active.as_ref().map(|active| active.version_id.clone());
        invariant!(
            !nameable || !self.shows_what_runs() || active == live,
            "{active:?} is said to run, and {live:?} does"
        );
        let runs = matches!(reason(&status.common), "Available" | "RolledBack");
        for entry in status.pending_deletions.iter().filter(|_| runs && self.knows_what_runs()) {
            invariant!(
                self.is_needed(&entry.version_id) || self.service.is_live(&entry.version_id),
                "{} is never deleted",
                entry.version_id
            );
        }
        self.check_left_behind()
    }

    /// The spec names the version, or it ran here and is kept.
    fn is_needed(&self, id: &str) -> bool {
        let ran = self.status().history.iter().any(|entry| entry.version_id == id);
        id_at(self.desired()) == id || self.setup.keeps > 0 && ran
    }

    /// The reason of Ready is the right one.
    fn check_verdict(&self, status: &ChatbotDeploymentStatus) -> Result<(), Violation> {
        let by_spec = id_at(self.desired());
        let command = status.rollback_command.as_ref();
        invariant!(
            command.is_some() == self.is_commanded(),
            "a command that has ended is there, or one that holds is not recorded"
        );
        let exists = self.version_objects[self.desired()] == VersionObject::Present || self.setup.by_id;
        let outlasts =
            |command: &RollbackCommand| command.spec_version_id.as_ref().is_none_or(|id| *id == by_spec);
        invariant!(
            // a version that cannot be found ends no command
            !exists || command.is_none_or(outlasts),
            "a command holds though git names another version"
        );
        let desired = command.map_or(by_spec, |command| command.version_id.clone());
        let live = self.service.runs(HERE).map(id_of);
        let live = live.as_ref().map_or("nothing", |id| id.as_str());
        let violation = self.setup.behavior.broken.map(|id| id_of(id).as_str().to_owned());
        let is_broken = violation.as_deref() == Some(desired.as_str());
        let right = match reason(&status.common) {
            "Available" => live == desired,
            "WaitingForVersion" => !exists,
            "WaitingForPromotion" | "PromotionBlocked" | "WaitingForApproval" | "Frozen" => {
                command.is_none() && self.is_gate_closed(&desired)
            }
            "Conflict" => self.setup.foreign && live == id_at(FOREIGN),
            "VersionNotFound" => self.service.find(&desired).is_none(),
            "RolledBack" => {
                command.is_some() && live == desired
                    || is_broken
                        && self.setup.on_failure == OnFailure::Previous
                        && live != desired
                        && live != "nothing"
            }
            // where nothing shows what runs, a lost answer is never resolved
            "ProgressDeadlineExceeded" => {
                !exists
                    || (violation.is_some() || self.deployed_manually) && live != desired
                    || !self.shows_anything()
            }
            "DriftTolerated" => self.setup.drift == DriftPolicy::Warn && live != desired,
            "DriftCorrectionPaused" => live != desired && status.drift_corrections.is_some(),
            _ => false,
        };
        invariant!(right, "{} with {live} live where {desired} should run", reason(&status.common));
        Ok(())
    }

    /// A version whose object is gone is deleted, or its deletion is pending, or an event reports it.
    fn check_left_behind(&self) -> Result<(), Violation> {
        let status = self.status();
        for index in 0..2 {
            let id = id_at(index);
            let there = self.service.find(&id).is_some();
            let is_pending = status.pending_deletions.iter().any(|entry| entry.version_id == id);
            invariant!(
                self.version_objects[index] != VersionObject::Gone
                    || !there
                    || is_pending
                    || self.orphans.contains(&id),
                "{id} is left behind silently"
            );
            // what is deployed outside the operator shows only once it runs
            invariant!(
                there || self.deployed_manually || !self.service.is_live(&id),
                "{id} was deleted while it was live"
            );
        }
        Ok(())
    }

    fn is_commanded(&self) -> bool {
        let object = self.object.as_ref();
        object.is_some_and(|object| annotation_value(&object.metadata, annotation::ROLLBACK_TO).is_some())
    }

    /// Whether the service shows what runs.
    pub fn shows_what_runs(&self) -> bool {
        let Behavior { readable, numbered, same_number, .. } = self.setup.behavior;
        readable && numbered && !same_number
    }

    /// Whether anything shows what runs.
    fn shows_anything(&self) -> bool {
        self.shows_what_runs() || self.setup.behavior.dated
    }

    /// Whether it is known of every environment what it runs.
    fn knows_what_runs(&self) -> bool {
        self.shows_what_runs() || !self.setup.behavior.readable && self.setup.elsewhere_known
    }
}

/// The backoff of the rollout that is desired.
fn own_retry(observation: &Observation) -> Option<Retry> {
    let (status, desired) = (observation.status(), observation.desired().ok()?);
    let target = status.target.as_ref()?;
    let failed = target.version_id == desired.version_id && target.cause == desired.cause;
    status.common.retry.clone().filter(|_| failed)
}

/// Each call that was made is recorded.
fn check_record(step: Step, outcome: &Outcome, status: &ChatbotDeploymentStatus) -> Result<(), Violation> {
    let (made, operation) = match (step, outcome) {
        (Step::StartRollout(call), Outcome::RolloutStarted(result)) => (
            !result.as_ref().is_err_and(Failure::was_not_sent),
            if call == RolloutMethod::Rollback { Operation::Rollback } else { Operation::Deploy },
        ),
        (Step::DeleteVersion, Outcome::VersionDeleted(_, result)) => {
            (!result.as_ref().is_err_and(Failure::was_not_sent), Operation::Delete)
        }
        _ => return Ok(()),
    };
    let last = status.common.last_operations.first().map(|last| last.operation);
    invariant!(!made || last == Some(operation), "a call is not recorded");
    Ok(())
}
