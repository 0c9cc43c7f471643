//! Recorded times that lie in the future: the clock that recorded them was ahead, or was put back since.
//!
//! Until the clock reaches such a time no deadline, soak time or budget that counts from it would move on. So it is read
//! as the current time, and by the next write recorded as that. A status has them all in one place; the service's times
//! are compared with each other only and stay, and a backoff has a bound of its own.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::truncate_to_seconds;
use crate::crd::{
    ChatbotDeploymentStatus, ChatbotVersionStatus, CommonStatus, ConditionType, CurrentOperation,
};

/// So much the clocks of two replicas may differ: a new leader must not write every object.
const MAX_SKEW: Duration = Duration::from_mins(1);

/// Whether a recorded time lies in the future.
#[must_use]
pub fn is_in_future(time: &Time, now: Timestamp) -> bool {
    time.0.duration_since(now) > MAX_SKEW.try_into().unwrap_or_default()
}

/// A status with times that the operator records.
pub trait RecordedTimes: Clone {
    /// All of them that something is counted from.
    fn recorded_times(&mut self) -> Vec<&mut Time>;

    /// The status with the current time in place of each time in the future; `None` if it has none.
    #[must_use]
    fn without_future(&self, now: Timestamp) -> Option<Self> {
        let mut status = self.clone();
        let mut in_future = status.recorded_times();
        in_future.retain(|time| is_in_future(time, now));
        if in_future.is_empty() {
            return None;
        }
        for time in in_future {
            *time = truncate_to_seconds(now);
        }
        Some(status)
    }
}

impl RecordedTimes for CommonStatus {
    fn recorded_times(&mut self) -> Vec<&mut Time> {
        let conditions = self.conditions.iter_mut().filter(|condition| ConditionType::is_ours(condition));
        let transitions = conditions.map(|condition| &mut condition.last_transition_time);
        transitions.chain(self.last_operations.iter_mut().map(|record| &mut record.completion_time)).collect()
    }
}

impl RecordedTimes for ChatbotVersionStatus {
    fn recorded_times(&mut self) -> Vec<&mut Time> {
        let mut times = self.common.recorded_times();
        times.extend(self.pending_create.iter_mut().map(|create| &mut create.start_time));
        times
    }
}

impl RecordedTimes for ChatbotDeploymentStatus {
    fn recorded_times(&mut self) -> Vec<&mut Time> {
        let mut times = self.common.recorded_times();
        if let Some(target) = &mut self.target {
            times.extend(target.start_time.iter_mut().chain(&mut target.reached_time));
        }
        let deployed = self.active.iter_mut().chain(&mut self.previous);
        times.extend(deployed.map(|version| &mut version.start_time));
        times.extend(self.history.iter_mut().map(|entry| &mut entry.start_time));
        times.extend(self.waiting_for_version.iter_mut().map(|waiting| &mut waiting.start_time));
        times.extend(self.pending_deletions.iter_mut().map(|entry| &mut entry.request_time));
        times.extend(self.drift_corrections.iter_mut().map(|corrections| &mut corrections.window_start_time));
        // before the call the time is part of the intent's identity: another one would be another intent
        if let Some(operation) = self.current_operation.as_mut().filter(|operation| operation.is_sent()) {
            let CurrentOperation { start_time, first_call_time, call_time, .. } = operation;
            times.push(start_time);
            times.extend(first_call_time.iter_mut().chain(call_time));
        }
        times
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-01-01T00:00:00Z";
    const SOON: &str = "2026-01-01T00:01:00Z";
    const LATER: &str = "2026-01-01T01:00:00Z";

    fn corrected<S: RecordedTimes + serde::Serialize + serde::de::DeserializeOwned>(
        status: &Value,
    ) -> Option<Value> {
        let status: S = serde_json::from_value(status.clone()).unwrap();
        status.without_future(NOW.parse().unwrap()).map(|status| serde_json::to_value(status).unwrap())
    }

    fn condition(kind: &str, time: &str) -> Value {
        json!({"type": kind, "status": "True", "reason": "Available", "message": "", "lastTransitionTime": time})
    }

    fn deployment(time: &str) -> Value {
        json!({
            "conditions": [condition("Ready", time)],
            "lastOperations": [{"operation": "Deploy", "completionTime": time, "result": "Accepted"}],
            "target": {"versionId": "v1", "cause": "Spec", "startTime": time, "reachedTime": time},
            "active": {"versionId": "v1", "startTime": time},
            "previous": {"versionId": "v2", "startTime": time},
            "history": [{"versionId": "v1", "startTime": time}],
            "pendingDeletions": [{"versionId": "v2", "name": "b", "requestTime": time}],
            "driftCorrections": {"count": 5, "windowStartTime": time},
            "currentOperation": {
                "operation": "Deploy", "versionId": "v1", "startTime": time, "callTime": time, "firstCallTime": time,
            },
        })
    }

    #[test]
    fn every_time_in_the_future_becomes_the_current_one() {
        assert_eq!(corrected::<ChatbotDeploymentStatus>(&deployment(LATER)), Some(deployment(NOW)));
        let version = |time: &str| {
            json!({
                "conditions": [condition("Ready", time)],
                "lastOperations": [{"operation": "Create", "completionTime": time, "result": "Accepted"}],
                "pendingCreate": {"attemptId": "a", "startTime": time},
            })
        };
        assert_eq!(corrected::<ChatbotVersionStatus>(&version(LATER)), Some(version(NOW)));
    }

    #[test]
    fn clocks_that_differ_a_little_change_nothing() {
        assert_eq!(corrected::<ChatbotDeploymentStatus>(&deployment(SOON)), None);
    }

    #[test]
    fn times_of_others_and_those_of_an_intent_stay() {
        let foreign = json!({"conditions": [condition("velero.io/BackedUp", LATER)], "creationTime": LATER});
        assert_eq!(corrected::<ChatbotVersionStatus>(&foreign), None);
        let operation = json!({"operation": "Deploy", "versionId": "v1", "startTime": LATER});
        assert_eq!(corrected::<ChatbotDeploymentStatus>(&json!({"currentOperation": operation})), None);
    }
}
