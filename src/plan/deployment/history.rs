//! What runs and what ran before: `active`, `previous` and `history`.

use super::Observation;
use crate::{
    crd::{ChatbotDeploymentStatus, HistoryEntry},
    plan::truncate_to_seconds,
};

/// Versions that `history` remembers.
const MAX_HISTORY: usize = 10;

/// Another version runs than last confirmed.
pub(super) fn record_live(facts: &Observation, status: &mut ChatbotDeploymentStatus, id: &str) {
    let number = facts.listed(id).and_then(|version| version.number.as_deref()).map(str::to_owned);
    let by = facts.status().current_operation.as_ref().filter(|o| o.version_id == id).map(|o| o.operation);
    let since = truncate_to_seconds(facts.now);
    clear_active(status);
    let before = status.previous.take().filter(|previous| previous.version_id != id);
    // it came back after nothing ran
    let earlier =
        || status.history.iter().find(|entry| entry.version_id != id).map(HistoryEntry::to_deployed_version);
    status.previous = before.or_else(earlier);
    let entry = HistoryEntry {
        version_id: id.to_owned(),
        version_number: number,
        version_name: facts.version_name(id),
        start_time: since,
        operation: by,
    };
    status.active = Some(entry.to_deployed_version());
    status.history.insert(0, entry);
    status.history.truncate(MAX_HISTORY);
}

/// What was last confirmed to run does not, or nobody can tell any more.
pub(super) fn clear_active(status: &mut ChatbotDeploymentStatus) {
    status.previous = status.active.take().or_else(|| status.previous.take());
}

/// Notes what is seen to run, whoever brought it there.
pub(super) fn sync_history(facts: &Observation, status: &mut ChatbotDeploymentStatus) {
    let live = facts.live();
    if status.active.as_ref().map(|active| &active.version_id) == live.as_ref() {
        return;
    }
    match live {
        Some(id) => record_live(facts, status, &id),
        None => clear_active(status),
    }
}
