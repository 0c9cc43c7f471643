//! What happened: the log of effects, the counters and the last calls.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::model::{Environment, Moment};

/// How many calls are kept.
const CALLS_KEPT: usize = 10_000;

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Operation {
    /// Listing versions.
    List,
    /// Creating a version.
    Create,
    /// Deleting a version.
    Delete,
    /// Deploying a version.
    Deploy,
    /// Rolling back to a version.
    Rollback,
    /// Reading the deployment status.
    Status,
}

/// Who did something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Actor {
    /// A client of the API.
    Api,
    /// Somebody in the vendor's user interface.
    Hand,
}

/// One change that took effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogEntry {
    /// Counts from 1.
    pub sequence: u64,
    /// When, RFC 3339.
    pub at: String,
    /// What was done.
    pub operation: Operation,
    /// To which chatbot.
    pub chatbot: String,
    /// The id of the version.
    pub version: String,
    /// The name of the version.
    pub name: String,
    /// The number of the version.
    pub version_number: String,
    /// In which environment; for a create, for which one.
    pub environment: Option<Environment>,
    /// By whom.
    pub by: Actor,
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallEntry {
    /// When it was answered, RFC 3339.
    pub at: String,
    /// What was asked for.
    pub operation: Operation,
    /// Of which chatbot.
    pub chatbot: String,
    /// On which version.
    pub version: Option<String>,
    /// The last four characters of the key.
    pub key: String,
    /// The status of the answer, or `cut`.
    pub status: String,
    /// Whether it changed anything.
    pub took_effect: bool,
}

/// How often things happened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    /// Lists of versions.
    pub list: OperationCounters,
    /// Creates.
    pub create: OperationCounters,
    /// Deletes.
    pub delete: OperationCounters,
    /// Deploys.
    pub deploy: OperationCounters,
    /// Rollbacks.
    pub rollback: OperationCounters,
    /// Readings of the deployment status.
    pub status: OperationCounters,
    /// Lists per chatbot.
    pub list_calls_by_chatbot: BTreeMap<String, u64>,
}

/// How often one operation happened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperationCounters {
    /// Calls that arrived.
    pub calls: u64,
    /// Calls that changed something.
    pub took_effect: u64,
    /// Answers by status, with `cut` for connections that ended without one.
    pub by_status: BTreeMap<String, u64>,
}

impl Counters {
    /// The counters of one operation.
    #[must_use]
    pub const fn of(&self, operation: Operation) -> &OperationCounters {
        match operation {
            Operation::List => &self.list,
            Operation::Create => &self.create,
            Operation::Delete => &self.delete,
            Operation::Deploy => &self.deploy,
            Operation::Rollback => &self.rollback,
            Operation::Status => &self.status,
        }
    }

    /// All calls that arrived.
    #[must_use]
    pub const fn total_calls(&self) -> u64 {
        self.list.calls
            + self.create.calls
            + self.delete.calls
            + self.deploy.calls
            + self.rollback.calls
            + self.status.calls
    }

    const fn of_mut(&mut self, operation: Operation) -> &mut OperationCounters {
        match operation {
            Operation::List => &mut self.list,
            Operation::Create => &mut self.create,
            Operation::Delete => &mut self.delete,
            Operation::Deploy => &mut self.deploy,
            Operation::Rollback => &mut self.rollback,
            Operation::Status => &mut self.status,
        }
    }
}

/// Everything on record.
#[derive(Debug, Default)]
pub struct Record {
    pub log: Vec<LogEntry>,
    pub counters: Counters,
    pub calls: VecDeque<CallEntry>,
    // calls that were kept once and are not any more
    forgotten: u64,
}

/// The place of a call among all calls.
#[derive(Debug, Clone, Copy)]
pub struct CallNumber(u64);

impl Record {
    /// Counts a call before anything is done about it.
    pub fn arrived(&mut self, operation: Operation, chatbot: &str) {
        self.counters.of_mut(operation).calls += 1;
        if operation == Operation::List {
            count(&mut self.counters.list_calls_by_chatbot, chatbot);
        }
    }

    /// Keeps how a call was answered.
    pub fn answered(&mut self, call: CallEntry) -> CallNumber {
        let counters = self.counters.of_mut(call.operation);
        counters.took_effect += u64::from(call.took_effect);
        count(&mut counters.by_status, &call.status);
        if self.calls.len() == CALLS_KEPT {
            self.calls.pop_front();
            self.forgotten += 1;
        }
        self.calls.push_back(call);
        CallNumber(self.forgotten + self.calls.len() as u64 - 1)
    }

    /// Notes that a call that was cut long ago has taken effect now.
    pub fn took_effect_late(&mut self, operation: Operation, number: CallNumber) {
        self.counters.of_mut(operation).took_effect += 1;
        let place = number.0.checked_sub(self.forgotten);
        let place = place.and_then(|place| usize::try_from(place).ok());
        if let Some(call) = place.and_then(|place| self.calls.get_mut(place)) {
            call.took_effect = true;
        }
    }

    /// Appends to the log; gives the entry its place and time.
    pub fn log(&mut self, mut entry: LogEntry, now: Moment) -> LogEntry {
        entry.sequence = self.log.len() as u64 + 1;
        entry.at = now.text();
        self.log.push(entry.clone());
        entry
    }
}

// Only the first time costs an allocation.
fn count(counts: &mut BTreeMap<String, u64>, key: &str) {
    if let Some(count) = counts.get_mut(key) {
        *count += 1;
    } else {
        counts.insert(key.to_owned(), 1);
    }
}
