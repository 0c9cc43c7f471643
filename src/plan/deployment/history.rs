//! What runs and what ran before: `active`, `previous` and `history`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};

use super::{Observation, possibly_live};
use crate::{
    crd::{Cause, ChatbotDeploymentStatus, HistoryEntry, Operation, OperationRecord},
    plan::{annotation_value, truncate_to_seconds},
};

/// Why an object was changed, as `kubectl rollout history` reads it.
pub const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";
/// Characters of it that are kept.
const MAX_CHANGE_CAUSE: usize = 256;

/// Entries of `status.history`, as the CRD bounds it: the live version and the most that `spec.revisionHistoryLimit` keeps.
const MAX_HISTORY: usize = 11;

/// Records that `id` runs and was not the last confirmed version.
pub(super) fn record_live(observation: &Observation, status: &mut ChatbotDeploymentStatus, id: &str) {
    let entry = entry(observation, id);
    // first: what ran until now becomes `previous`
    clear_active(status);
    let previous = status.previous.take().filter(|previous| previous.version_id != id);
    // the same version is back after nothing ran: what ran before it is older
    let older =
        || status.history.iter().find(|entry| entry.version_id != id).map(HistoryEntry::to_deployed_version);
    status.previous = previous.or_else(older);
    status.active = Some(entry.to_deployed_version());
    status.history.insert(0, entry);
    truncate(&mut status.history);
}

/// Drops the oldest entry between the first and the last run of a version, else the oldest first run of a version that ran
/// again, else the oldest of all: two versions that alternate push no other out.
fn truncate(history: &mut Vec<HistoryEntry>) {
    while history.len() > MAX_HISTORY {
        let is_same = |index: usize| {
            let id = history[index].version_id.clone();
            move |other: &HistoryEntry| other.version_id == id
        };
        let ran_again = |index: &usize| history[..*index].iter().any(is_same(*index));
        let ran_earlier = |index: &usize| history[*index + 1..].iter().any(is_same(*index));
        let oldest_first = || (0..history.len()).rev();
        let dropped = oldest_first()
            .find(|index| ran_again(index) && ran_earlier(index))
            .or_else(|| oldest_first().find(ran_again))
            .unwrap_or(history.len() - 1);
        history.remove(dropped);
    }
}

fn entry(observation: &Observation, id: &str) -> HistoryEntry {
    let operation = own_operation(observation, id);
    let target = observation.status().target.as_ref().filter(|target| target.version_id == id);
    // what somebody else deployed has no cause here
    let cause = operation.and(target).map(|target| target.cause);
    let meta = &observation.object.metadata;
    let by_spec = cause == Some(Cause::Spec);
    let change_cause = annotation_value(meta, CHANGE_CAUSE).filter(|_| by_spec);
    HistoryEntry {
        version_id: id.to_owned(),
        version_number: observation.version_number(id).map(str::to_owned),
        version_name: observation.version_name(id),
        start_time: truncate_to_seconds(observation.now),
        operation,
        cause,
        changes: observation.changes(id),
        change_cause: change_cause.map(|text| text.chars().take(MAX_CHANGE_CAUSE).collect()),
        spec_manager: spec_manager(meta).filter(|_| by_spec),
    }
}

/// The request of ours that has made a version live: the current one, or one without an answer that took effect late.
fn own_operation(observation: &Observation, id: &str) -> Option<Operation> {
    let status = observation.status();
    let current = status.current_operation.as_ref().filter(|operation| operation.version_id == id);
    let late = || {
        possibly_live(&observation.object, observation.now, &observation.config).find(|late| *late == id)?;
        let is_late = |record: &&OperationRecord| record.version_id.as_deref() == Some(id);
        status.common.last_operations.iter().find(is_late).map(|record| record.operation)
    };
    current.map(|operation| operation.operation).or_else(late)
}

/// The entry has fields of the spec.
#[must_use]
pub fn writes_spec(entry: &ManagedFieldsEntry) -> bool {
    entry.fields_v1.as_ref().is_some_and(|fields| fields.0.get("f:spec").is_some())
}

/// The manager that wrote fields of the spec last.
fn spec_manager(meta: &ObjectMeta) -> Option<String> {
    let writers = meta.managed_fields.iter().flatten().filter(|entry| writes_spec(entry));
    writers.max_by_key(|entry| entry.time.as_ref().map(|time| time.0))?.manager.clone()
}

/// What was last confirmed no longer runs, or it cannot be observed whether it does.
pub(super) fn clear_active(status: &mut ChatbotDeploymentStatus) {
    // an empty environment keeps what ran last: `rollback-to: previous` leads there
    status.previous = status.active.take().or_else(|| status.previous.take());
}

/// Records what the service shows, also what was deployed outside the operator.
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::fixtures::*, *};

    /// The ids of `active` and `previous`, and of `history`.
    fn ids(status: &ChatbotDeploymentStatus) -> ([Option<&str>; 2], Vec<&str>) {
        let ran = [&status.active, &status.previous];
        let history = status.history.iter().map(|entry| entry.version_id.as_str()).collect();
        (ran.map(|ran| ran.as_ref().map(|ran| ran.version_id.as_str())), history)
    }

    #[test]
    fn each_live_version_becomes_history() {
        let mut status = ChatbotDeploymentStatus::default();
        for id in ["v1", "v2", "v1"] {
            sync_history(&Observation::test().running(Some(id)), &mut status);
        }
        assert_eq!(ids(&status), ([Some("v1"), Some("v2")], vec!["v1", "v2", "v1"]));
        assert_eq!(status.history[0].operation, None, "it was found running");
        sync_history(&Observation::test().running(None), &mut status);
        assert_eq!(ids(&status), ([None, Some("v1")], vec!["v1", "v2", "v1"]));
        sync_history(&Observation::test().running(Some("v1")), &mut status);
        assert_eq!(ids(&status).0, [Some("v1"), Some("v2")], "previous is not what runs");
    }

    #[test]
    fn versions_that_alternate_push_no_other_out_of_the_history() {
        let mut status = ChatbotDeploymentStatus::default();
        let alternating = ["v1", "v2"].into_iter().cycle().take(30);
        for id in ["v3"].into_iter().chain(alternating) {
            sync_history(&Observation::test().running(Some(id)), &mut status);
        }
        let (_, history) = ids(&status);
        assert_eq!((history.len(), history.last()), (11, Some(&"v3")));
    }

    #[test]
    fn history_names_who_changed_the_spec_and_why() {
        let manager = |name: &str, second: u8, fields: &str| {
            json!({
                "manager": name, "operation": "Update", "time": format!("2026-01-01T00:00:0{second}Z"),
                "fieldsV1": {fields: {}},
            })
        };
        let writers = [
            manager("helm", 1, "f:spec"),
            manager("argocd-controller", 2, "f:spec"),
            manager("kubectl", 3, "f:metadata"),
        ];
        let meta = json!({"annotations": {CHANGE_CAUSE: "release 4"}, "managedFields": writers});
        let called = operation("Deploy", "v1", Some(5), Some("Accepted"));
        let observation = Observation::test().with_metadata(&meta).with_status(&called);
        let newest = |observation: &Observation| {
            let mut status = observation.status().clone();
            record_live(observation, &mut status, "v1");
            let entry = status.history.remove(0);
            (entry.cause, entry.change_cause, entry.spec_manager)
        };
        let by_spec = observation.clone().with_status(&reached_target("v1"));
        let (cause, why, who) = newest(&by_spec);
        assert_eq!(
            (cause, why.as_deref(), who.as_deref()),
            (Some(Cause::Spec), Some("release 4"), Some("argocd-controller"))
        );
        let target = json!({"target": {"versionId": "v1", "cause": "RollbackCommand"}});
        assert_eq!(newest(&observation.with_status(&target)), (Some(Cause::RollbackCommand), None, None));
        let manually = by_spec.with_status(&json!({"currentOperation": null}));
        assert_eq!(newest(&manually), (None, None, None), "deployed outside the operator");
    }

    #[test]
    fn late_effect_of_our_own_call_is_no_deploy_outside_the_operator() {
        let record =
            json!({"operation": "Deploy", "versionId": "v2", "completionTime": ago(10), "result": "Unknown"});
        let late = Observation::test().with_status(&json!({"lastOperations": [record]}));
        let mut status = late.status().clone();
        record_live(&late, &mut status, "v2");
        assert_eq!(status.history[0].operation, Some(Operation::Deploy));
    }

    #[test]
    fn history_names_the_call_and_is_bounded() {
        let called = operation("Rollback", "v1", Some(5), Some("Accepted"));
        let entry = json!({"versionId": "v3", "startTime": ago(100)});
        let observation =
            Observation::test().with_status(&called).with_status(&json!({"history": vec![entry; 11]}));
        let mut status = observation.status().clone();
        record_live(&observation, &mut status, "v1");
        assert_eq!(status.history.len(), 11);
        let newest = &status.history[0];
        assert_eq!(newest.version_number.as_deref(), Some("1.1"));
        assert_eq!(newest.operation, Some(crate::crd::Operation::Rollback));
    }
}
