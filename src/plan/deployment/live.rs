//! What runs in the environment, and what may run in a moment.

use jiff::Timestamp;

use super::Observation;
use crate::{
    chatcaptain::{Inventory, LiveVersion},
    crd::{ChatbotDeploymentStatus, CurrentOperation, Operation, OperationResult},
    plan::{PlanConfig, ServiceView, elapsed},
};

impl Observation {
    /// The environment runs this version, and no call of ours is about to replace it.
    pub(super) fn is_live(&self, id: &str) -> bool {
        self.live().as_deref() == Some(id) && !self.other_call_in_flight(id)
    }

    /// Whether the service shows what is live: the key may read the deployment status, and what that names can be
    /// found in the list.
    #[must_use]
    pub fn live_is_observable(&self) -> bool {
        let ServiceView::Available { inventory, deployments: Some(deployments), .. } = &self.service else {
            return false;
        };
        deployments.get(self.environment()).is_none_or(|deployed| {
            let comparable = deployed.number.is_some() && inventory.has_version_numbers();
            comparable || deployed.resolve(inventory).is_some()
        })
    }

    /// The deployment status says that nothing runs.
    pub(super) fn nothing_is_live(&self) -> bool {
        let ServiceView::Available { deployments: Some(deployments), .. } = &self.service else {
            return false;
        };
        deployments.get(self.environment()).is_none()
    }

    /// Id of the version that runs: from the deployment status, else from what the list shows of our own call, else
    /// as last confirmed. `None`: nothing runs, or nothing that has a name.
    #[must_use]
    pub fn live(&self) -> Option<String> {
        let ServiceView::Available { inventory, deployments, .. } = &self.service else {
            return self.status().active.as_ref().map(|active| active.version_id.clone());
        };
        let Some(deployments) = deployments else {
            return self.live_by_list(inventory);
        };
        let deployed = deployments.get(self.environment())?;
        if let Some(version) = deployed.resolve(inventory) {
            return Some(version.id.as_str().to_owned());
        }
        let comparable = deployed.number.is_some() && inventory.has_version_numbers();
        self.live_by_recorded_number(deployed)
            .or_else(|| if comparable { None } else { self.live_by_list(inventory) })
    }

    /// The list may show no numbers; then the one that status recorded for our own version decides.
    fn live_by_recorded_number(&self, deployed: &LiveVersion) -> Option<String> {
        let number = deployed.number.as_deref()?;
        let status = self.status();
        let target = status.target.as_ref().map(|target| (&target.version_id, &target.version_number));
        let active = status.active.as_ref().map(|active| (&active.version_id, &active.version_number));
        let mut recorded = target.into_iter().chain(active);
        recorded.find(|(_, recorded)| recorded.as_deref() == Some(number)).map(|(id, _)| id.clone())
    }

    fn live_by_list(&self, inventory: &Inventory) -> Option<String> {
        let status = self.status();
        match &status.current_operation {
            Some(operation) if self.took_effect(operation, inventory) => Some(operation.version_id.clone()),
            // since a version was last confirmed another call may have taken effect
            Some(_) => None,
            None => status.active.as_ref().map(|active| active.version_id.clone()),
        }
    }

    /// Whether the list proves that our call took effect.
    fn took_effect(&self, operation: &CurrentOperation, inventory: &Inventory) -> bool {
        let Some(called_at) = &operation.call_time else {
            return false;
        };
        if inventory.has_deploy_times() {
            // after a call without a usable answer, the time may have moved for another environment's deploy
            let ours = operation.result == Some(OperationResult::Accepted)
                || !self.in_use_elsewhere.contains(&operation.version_id);
            let before = operation.previous_deploy_time.as_ref().map_or(0, |time| time.0.as_microsecond());
            let deployed = inventory.version(&operation.version_id).and_then(|version| version.deployed);
            return ours && deployed.is_some_and(|at| at.as_microsecond() != before);
        }
        // the service shows nothing of deployments: an accepted deploy is the last that can be known
        operation.operation == Operation::Deploy
            && operation.result == Some(OperationResult::Accepted)
            && elapsed(called_at, self.now) > self.config.visibility_grace
    }

    /// The desired version runs, but a call for another one, which the spec named meanwhile, may still replace it.
    pub(super) fn other_call_in_flight(&self, desired: &str) -> bool {
        let in_flight = self.status().current_operation.as_ref().is_some_and(|operation| {
            operation.version_id != desired
                // without a record of the call, only the process that may still send it knows that it did not
                && (operation.call_time.is_some() || !self.may_call)
                && operation.result != Some(OperationResult::Refused)
                && elapsed(&operation.start_time, self.now) <= self.progress_deadline()
        });
        in_flight && self.live_is_observable() && self.live().as_deref() == Some(desired)
    }
}

/// Versions that may become live though no operation is current: the outcome of a call for them was unknown within
/// the last visibility grace, and they have not been seen running since.
pub fn possibly_live<'a>(
    status: &'a ChatbotDeploymentStatus,
    now: Timestamp,
    config: &PlanConfig,
) -> impl Iterator<Item = &'a str> {
    let grace = config.visibility_grace;
    status.common.last_operations.iter().filter_map(move |record| {
        let id = record.version_id.as_deref()?;
        let seen = status
            .history
            .iter()
            .any(|entry| entry.version_id == id && entry.start_time.0 >= record.completion_time.0);
        let pending = matches!(record.operation, Operation::Deploy | Operation::Rollback)
            && record.result == OperationResult::Unknown
            && elapsed(&record.completion_time, now) <= grace;
        (pending && !seen).then_some(id)
    })
}
