//! What must hold for each step, each status and each rest of a `ChatbotDeployment`.

use chatcaptain_operator::{
    chatcaptain::Failure,
    crd::{ChatbotDeploymentStatus, DriftPolicy, OnFailure, Operation, RollbackMethod, annotation},
    plan::{
        Report, ServiceView, annotation_value,
        deployment::{Observation, Outcome, RolloutMethod, Step, Wait},
        reconcile_requested,
    },
};

use super::world::{DeploymentWorld, HERE, Holder, id_at};
use crate::{
    explore::{Broken, law},
    laws::{at, consistent, is_guarded, is_true, reason},
    service::id_of,
};

impl DeploymentWorld {
    /// Before a step is taken.
    pub fn check_step(&self, facts: &Observation, step: Step) -> Result<(), Broken> {
        let status = facts.status();
        match step {
            Step::StartRollout(call) => {
                let operation = status.current_operation.as_ref();
                law!(
                    operation.is_some_and(|o| o.call_time.is_none()),
                    "a call that status does not announce"
                );
                law!(self.permit.is_some(), "a call that may have been made already");
                let id = operation.map(|o| o.version_id.clone()).unwrap_or_default();
                let ran = status.history.iter().any(|entry| entry.version_id == id);
                law!(
                    call == RolloutMethod::Deploy || ran && self.setup.method == RollbackMethod::Rollback,
                    "rolled back to what never ran here"
                );
            }
            Step::Wait(Wait::ProgressDeadlineExceeded) => {
                law!(status.failed_versions.is_some(), "failed without a record");
            }
            _ => {}
        }
        if matches!(step, Step::StartRollout(_) | Step::DeleteVersion | Step::RecordIntent(_)) {
            law!(!self.is_held(facts), "a change within the backoff");
            law!(!self.older && facts.object.spec.suspend != Some(true), "a change by who has no say");
        }
        Ok(())
    }

    fn is_held(&self, facts: &Observation) -> bool {
        let (status, meta) = (&facts.status().common, &facts.object.metadata);
        let handled = status.last_handled_reconcile_at.as_deref();
        let later = status.retry.as_ref().is_some_and(|retry| retry.next_attempt_time.0 > at(self.now));
        later && status.observed_generation == meta.generation && !reconcile_requested(meta, handled)
    }

    /// Before a status is published.
    pub fn check_told(
        &self,
        facts: &Observation,
        step: Step,
        outcome: &Outcome,
        told: &Report<ChatbotDeploymentStatus>,
    ) -> Result<(), Broken> {
        if told.finalizer.is_some() {
            return Ok(());
        }
        let status = &told.status;
        // what is due says nothing of the environment
        if step != Step::DeleteVersion {
            consistent(&status.common, &facts.object.metadata)?;
        }
        check_record(step, outcome, status)?;
        law!(status.history.len() <= 10 && status.pending_deletions.len() <= 50, "status grows without end");
        let looked = matches!(facts.service, ServiceView::Available { .. });
        if is_true(&status.common, "Ready") && looked && matches!(step, Step::Wait(_)) {
            let id = id_at(self.wanted());
            let shown = self.shot.as_ref().and_then(|shot| shot.view.runs(HERE, &id));
            let tolerated =
                reason(&status.common) == "DriftTolerated" && self.setup.drift == DriftPolicy::Warn;
            law!(shown != Some(false) || tolerated, "Ready, though {id} is not shown to be live");
            let active = status.active.as_ref().is_some_and(|active| active.version_id == id);
            law!(active || tolerated, "Ready, though another version is said to be active");
        }
        Ok(())
    }

    /// Once nothing happens any more.
    pub fn check_rest(&self) -> Result<(), Broken> {
        let Some(object) = &self.object else {
            return self.check_left();
        };
        let status = self.status();
        consistent(&status.common, &object.metadata)?;
        if object.spec.suspend == Some(true) || self.older {
            return Ok(());
        }
        law!(
            status.common.observed_generation == object.metadata.generation,
            "the status speaks of an earlier generation"
        );
        if object.metadata.deletion_timestamp.is_some() {
            law!(!is_guarded(&object.metadata), "it is being deleted for ever");
            return self.check_left();
        }
        self.check_verdict(status)?;
        let live = self.service.runs(HERE).map(|id| id_of(id).as_str().to_owned());
        // what runs and is not listed any more cannot be named
        let nameable = live.as_ref().is_none_or(|id| self.service.find(id).is_some());
        let active = status.active.as_ref().map(|active| active.version_id.clone());
        law!(
            !nameable || !self.sees_what_runs() || active == live,
            "{active:?} is said to run, and {live:?} does"
        );
        let runs = matches!(reason(&status.common), "Available" | "RolledBack");
        for entry in status.pending_deletions.iter().filter(|_| runs && self.knows_what_runs()) {
            law!(self.service.is_live(&entry.version_id), "{} is never deleted", entry.version_id);
        }
        self.check_left()
    }

    /// The one thing to be said of it.
    fn check_verdict(&self, status: &ChatbotDeploymentStatus) -> Result<(), Broken> {
        let command = status.rollback_command.as_ref();
        let command = command.filter(|c| Some(c.generation) == status.common.observed_generation);
        let wanted = command.map_or_else(|| id_at(self.wanted()), |command| command.version_id.clone());
        let live = self.service.runs(HERE).map(id_of);
        let live = live.as_ref().map_or("nothing", |id| id.as_str());
        let held = self.holders[self.wanted()] == Holder::There || self.setup.by_id;
        let broken = self.setup.manner.broken.map(|id| id_of(id).as_str().to_owned());
        let is_broken = broken.as_deref() == Some(wanted.as_str());
        let right = match reason(&status.common) {
            "Available" => live == wanted,
            "WaitingForVersion" => !held,
            "VersionNotFound" => self.service.find(&wanted).is_none() || self.is_commanded(),
            "RolledBack" => {
                command.is_some() && live == wanted
                    || is_broken
                        && self.setup.on_failure == OnFailure::Previous
                        && live != wanted
                        && live != "nothing"
            }
            // where nothing tells what runs, lost answers are all there is
            "ProgressDeadlineExceeded" => {
                (broken.is_some() || self.meddled) && live != wanted || !self.tells_anything()
            }
            "DriftTolerated" => self.setup.drift == DriftPolicy::Warn && live != wanted,
            "DriftCorrectionPaused" => live != wanted && status.drift_corrections.is_some(),
            _ => false,
        };
        law!(right, "{} with {live} live where {wanted} should run", reason(&status.common));
        Ok(())
    }

    /// A version whose object is gone is gone, or runs, or waits to be deleted, or is left on record.
    fn check_left(&self) -> Result<(), Broken> {
        let status = self.status();
        for index in 0..2 {
            let id = id_at(index);
            let there = self.service.find(&id).is_some();
            let noted = status.pending_deletions.iter().any(|entry| entry.version_id == id);
            law!(
                self.holders[index] != Holder::Gone || !there || noted || self.orphans.contains(&id),
                "{id} is left behind silently"
            );
            // what somebody has deployed by hand is seen when it runs, and not before
            law!(there || self.meddled || !self.service.is_live(&id), "{id} was deleted while it was live");
        }
        Ok(())
    }

    fn is_commanded(&self) -> bool {
        let object = self.object.as_ref();
        object.is_some_and(|object| annotation_value(&object.metadata, annotation::ROLLBACK_TO).is_some())
    }

    /// Whether it can be seen what runs.
    pub fn sees_what_runs(&self) -> bool {
        self.setup.manner.readable && self.setup.manner.numbered
    }

    /// Whether anything tells what runs.
    fn tells_anything(&self) -> bool {
        self.sees_what_runs() || self.setup.manner.dated
    }

    /// Whether it is known of every environment what it runs.
    fn knows_what_runs(&self) -> bool {
        self.sees_what_runs() || !self.setup.manner.readable && self.setup.elsewhere_known
    }
}

/// Each call that was made is on record.
fn check_record(step: Step, outcome: &Outcome, status: &ChatbotDeploymentStatus) -> Result<(), Broken> {
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
    law!(!made || last == Some(operation), "a call is not on record");
    Ok(())
}
