//! What runs and what ran before: `active`, `previous` and `history`.

use super::Observation;
use crate::{
    crd::{ChatbotDeploymentStatus, HistoryEntry},
    plan::truncate_to_seconds,
};

/// Entries of `status.history`, as the CRD bounds it.
const MAX_HISTORY: usize = 10;

/// Another version runs than was last confirmed.
pub(super) fn record_live(observation: &Observation, status: &mut ChatbotDeploymentStatus, id: &str) {
    let operation = observation.status().current_operation.as_ref();
    let entry = HistoryEntry {
        version_id: id.to_owned(),
        version_number: observation
            .listed(id)
            .and_then(|version| version.number.as_deref())
            .map(str::to_owned),
        start_time: truncate_to_seconds(observation.now),
        operation: operation
            .filter(|operation| operation.version_id == id)
            .map(|operation| operation.operation),
    };
    clear_active(status);
    let previous = status.previous.take().filter(|previous| previous.version_id != id);
    // the same version is back after nothing ran: what ran before it is older
    let older =
        || status.history.iter().find(|entry| entry.version_id != id).map(HistoryEntry::to_deployed_version);
    status.previous = previous.or_else(older);
    status.active = Some(entry.to_deployed_version());
    status.history.insert(0, entry);
    status.history.truncate(MAX_HISTORY);
}

/// What was last confirmed does not run any more, or nobody can see whether it does.
pub(super) fn clear_active(status: &mut ChatbotDeploymentStatus) {
    status.previous = status.active.take().or_else(|| status.previous.take());
}

/// Records what the service shows, whoever deployed it.
pub(super) fn sync_history(observation: &Observation, status: &mut ChatbotDeploymentStatus) {
    let live = observation.live();
    if status.active.as_ref().map(|active| &active.version_id) == live.as_ref() {
        return;
    }
    match live {
        Some(id) => record_live(observation, status, &id),
        None => clear_active(status),
    }
}
