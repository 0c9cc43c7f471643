//! How far the current operation has come.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Observation, Rollout, RolloutMethod};
use crate::{
    crd::{CurrentOperation, Operation, OperationResult, RollbackMethod},
    plan::elapsed,
};

impl RolloutMethod {
    /// The call as status names it.
    pub(super) fn operation(self) -> Operation {
        match self {
            Self::Deploy => Operation::Deploy,
            Self::Rollback => Operation::Rollback,
        }
    }

    fn of(operation: &CurrentOperation) -> Self {
        if operation.operation == Operation::Rollback { Self::Rollback } else { Self::Deploy }
    }
}

impl Observation {
    pub(super) fn rollout(&self, desired: &str) -> Rollout {
        match &self.status().current_operation {
            None => Rollout::None,
            Some(operation) if operation.version_id == desired => self.progress_of(operation),
            Some(operation) if self.other_call_in_flight(desired) => {
                Rollout::InProgress(RolloutMethod::of(operation))
            }
            Some(_) => Rollout::None,
        }
    }

    fn progress_of(&self, operation: &CurrentOperation) -> Rollout {
        let method = RolloutMethod::of(operation);
        let grace_is_over = |since: &Time| elapsed(since, self.now) > self.config.visibility_grace;
        let deadline_is_over = |since: &Time| elapsed(since, self.now) > self.progress_deadline();
        let Some(called_at) = &operation.call_time else {
            return if self.may_call {
                Rollout::IntentRecorded(method)
            } else if grace_is_over(&operation.start_time) {
                Rollout::OutcomeUnknown
            } else {
                Rollout::InProgress(method)
            };
        };
        // a version is late only after everything was tried: the deploy in place of a rollback, and a second deploy in
        // place of one without a usable answer
        match (method, operation.result) {
            (RolloutMethod::Rollback, Some(OperationResult::Refused)) => Rollout::RollbackIneffective,
            (RolloutMethod::Deploy, Some(OperationResult::Refused)) => Rollout::None,
            (RolloutMethod::Rollback, _) if grace_is_over(called_at) => Rollout::RollbackIneffective,
            (RolloutMethod::Deploy, Some(OperationResult::Unknown)) if grace_is_over(called_at) => {
                let repeated_too_long = operation.first_call_time.as_ref().is_some_and(deadline_is_over);
                if repeated_too_long { Rollout::DeadlineExceeded } else { Rollout::OutcomeUnknown }
            }
            (RolloutMethod::Deploy, Some(OperationResult::Accepted)) if deadline_is_over(called_at) => {
                Rollout::DeadlineExceeded
            }
            _ => Rollout::InProgress(method),
        }
    }

    /// The version ran here before, and the spec wants the rollback call for going back.
    pub(super) fn use_rollback(&self, desired: &str) -> bool {
        self.object.spec.rollback_method() == RollbackMethod::Rollback
            && self.status().history.iter().any(|entry| entry.version_id == desired)
    }
}
