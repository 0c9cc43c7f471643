//! What runs and what ran before: `active`, `previous` and `history`.

use super::Facts;
use crate::{
    crd::{ChatbotDeploymentStatus, HistoryEntry},
    plan::whole,
};

/// Versions that `history` remembers.
const HISTORY: usize = 10;

/// Another version runs than last confirmed.
pub(super) fn moved(facts: &Facts, status: &mut ChatbotDeploymentStatus, id: &str) {
    let number = facts.listed(id).and_then(|version| version.number.as_deref()).map(str::to_owned);
    let by = facts.status().operation.as_ref().filter(|o| o.version_id == id).map(|o| o.operation);
    let since = whole(facts.now);
    leave(status);
    let before = status.previous.take().filter(|previous| previous.version_id != id);
    // it came back after nothing ran
    let earlier = || status.history.iter().find(|entry| entry.version_id != id).map(HistoryEntry::ran);
    status.previous = before.or_else(earlier);
    let entry = HistoryEntry { version_id: id.to_owned(), version_number: number, since, by };
    status.active = Some(entry.ran());
    status.history.insert(0, entry);
    status.history.truncate(HISTORY);
}

/// What was last confirmed to run does not, or nobody can tell any more.
pub(super) fn leave(status: &mut ChatbotDeploymentStatus) {
    status.previous = status.active.take().or_else(|| status.previous.take());
}

/// Notes what is seen to run, whoever brought it there.
pub(super) fn follow(facts: &Facts, status: &mut ChatbotDeploymentStatus) {
    let live = facts.live();
    if status.active.as_ref().map(|active| &active.version_id) == live.as_ref() {
        return;
    }
    match live {
        Some(id) => moved(facts, status, &id),
        None => leave(status),
    }
}
