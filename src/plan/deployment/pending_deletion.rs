//! Deletions that were handed over to this object because it used the versions: which wait, and which can be carried out.

use std::{collections::HashSet, time::Duration};

use super::{Observation, PendingDeletionState};
use crate::{
    chatcaptain::{DeploymentStatus, Inventory, Version},
    crd::{
        ChatbotDeploymentStatus, LiveEnvironment, Operation, OperationRecord, OperationResult,
        PendingDeletion,
    },
    plan::{
        MarkerOwner, ServiceView,
        claims::{self, VersionNames},
        deploy_times::is_replaced_everywhere,
        is_pending_delete, marker_owner,
        status::{is_waiting_for_retry, time_until_retry},
        truncate_to_seconds,
    },
};

/// How a deletion that was taken over ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeletionEnd {
    /// The version is gone.
    Deleted,
    /// The version is not listed, and the service rejects its deletion.
    Unconfirmed,
    /// The marker of the version names another installation.
    Foreign,
}

/// A version whose object is being deleted while it runs here, or may, and still has our finalizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionBeingDeleted {
    /// Id of the version in the service.
    pub version_id: String,
    /// Name of the `ChatbotVersion` that is being deleted.
    pub name: String,
}

impl Observation {
    pub(super) fn pending_deletion_state(&self) -> PendingDeletionState {
        let recorded = &self.status().pending_deletions;
        let is_recorded = |id: &str| recorded.iter().any(|entry| entry.version_id == id);
        // first: the finalizer of the other object waits until its deletion is recorded here
        let is_being_deleted = self.object.metadata.deletion_timestamp.is_some();
        let has_new = self.versions_being_deleted.iter().any(|version| !is_recorded(&version.version_id));
        // an object that is being deleted takes nothing over, and first deletes what it has
        if has_new && (!is_being_deleted || recorded.is_empty()) {
            return PendingDeletionState::New;
        }
        if recorded.is_empty() {
            return PendingDeletionState::None;
        }
        // the other object removes its finalizer because of this record; without it both would report what is left behind
        let waits_for_record =
            |version: &VersionBeingDeleted| is_being_deleted && is_recorded(&version.version_id);
        if self.versions_being_deleted.iter().any(waits_for_record) {
            return PendingDeletionState::HandingOver;
        }
        let unused = self.unused_entries();
        if unused.iter().any(|entry| self.can_be_sent(entry)) {
            PendingDeletionState::Ready
        } else if unused.iter().any(|entry| self.is_in_flight(entry)) {
            PendingDeletionState::InFlight
        } else if unused.is_empty() {
            // also where every deletion is finished: the next status drops the entries, and then the finalizer is removed
            PendingDeletionState::InUse
        } else {
            PendingDeletionState::BackingOff
        }
    }

    fn can_be_sent(&self, entry: &PendingDeletion) -> bool {
        let (common, meta) = (&self.status().common, &self.object.metadata);
        !self.is_in_flight(entry) && !is_waiting_for_retry(entry.retry.as_ref(), common, meta, self.now)
    }

    /// The time until the first deletion that failed may be tried again.
    pub(super) fn time_until_deletion_retry(&self) -> Option<Duration> {
        let retries = self.unused_entries().into_iter().filter_map(|entry| entry.retry);
        retries.map(|retry| time_until_retry(&retry, self.now)).min()
    }

    /// The entries of `status.pendingDeletions` that are still to be deleted: the version exists, and no object holds it again.
    #[must_use]
    pub fn pending_deletions(&self) -> Vec<PendingDeletion> {
        let mut entries = self.status().pending_deletions.clone();
        entries.retain(|entry| {
            !self.reclaimed.contains(&entry.version_id) && self.deletion_end(entry).is_none()
        });
        entries
    }

    /// How the deletion of an entry has ended, if it has. A list that is cut hides old versions, so only the answer to our own
    /// request proves that one is gone; without a deployment status none is sent for what is not listed.
    pub(super) fn deletion_end(&self, entry: &PendingDeletion) -> Option<DeletionEnd> {
        let ServiceView::Available { inventory, deployment_status, authoritative, .. } = &self.service else {
            return None;
        };
        if let Some(version) = inventory.version(&entry.version_id) {
            return self.is_foreign(version).then_some(DeletionEnd::Foreign);
        }
        // the key of another account lists none of them, and each would count as deleted
        if !*authoritative {
            return None;
        }
        match self.last_delete(entry).map(|record| record.result) {
            Some(OperationResult::Accepted) => Some(DeletionEnd::Deleted),
            Some(OperationResult::Refused) => Some(DeletionEnd::Unconfirmed),
            _ if deployment_status.is_none() => Some(DeletionEnd::Deleted),
            _ => None,
        }
    }

    fn last_delete(&self, entry: &PendingDeletion) -> Option<&OperationRecord> {
        self.status().common.last_operations.iter().find(|record| {
            record.operation == Operation::Delete && record.version_id.as_ref() == Some(&entry.version_id)
        })
    }

    /// The entries for the next status: those that remain, and the deletions that are taken over now.
    pub(super) fn next_pending_deletions(&self) -> Vec<PendingDeletion> {
        let mut entries = self.pending_deletions();
        for version in &self.versions_being_deleted {
            // what does not fit stays: the other object sees the full list and leaves its version in the service
            if entries.len() < ChatbotDeploymentStatus::MAX_PENDING_DELETIONS
                && !entries.iter().any(|entry| entry.version_id == version.version_id)
            {
                entries.push(PendingDeletion {
                    version_id: version.version_id.clone(),
                    name: version.name.clone(),
                    request_time: truncate_to_seconds(self.now),
                    retry: None,
                });
            }
        }
        entries
    }

    /// A version that can be deleted now. One whose last delete failed keeps no other from being deleted.
    #[must_use]
    pub fn deletable(&self) -> Option<PendingDeletion> {
        self.unused_entries().into_iter().find(|entry| self.can_be_sent(entry))
    }

    fn unused_entries(&self) -> Vec<PendingDeletion> {
        self.find_unused_entries().unwrap_or_default()
    }

    /// The entries whose versions run in no environment and are not about to; `None` where that is not known.
    fn find_unused_entries(&self) -> Option<Vec<PendingDeletion>> {
        let ServiceView::Available { inventory, deployment_status, authoritative, .. } = &self.service else {
            return None;
        };
        let mut in_use = self.versions_in_use();
        if let Some(deployment_status) = deployment_status {
            // `?`: where something runs that has no name, it may be any of them
            in_use.extend(live_versions(deployment_status, inventory)?);
        } else {
            // then only a version that was deployed before what runs now is known to run nowhere
            self.live()?;
        }
        let deployments = [Some(self.object.as_ref()), self.elsewhere.as_deref()];
        let mut entries = self.pending_deletions();
        entries.retain(|entry| {
            !in_use.contains(&entry.version_id)
                && !self.is_named(entry)
                && match inventory.version(&entry.version_id) {
                    _ if deployment_status.is_some() => true,
                    Some(version) => is_replaced_everywhere(inventory, version, &deployments),
                    None => false,
                }
        });
        // the key of another account lists nothing of ours, and would be asked to delete it
        entries.retain(|entry| *authoritative || inventory.version(&entry.version_id).is_some());
        Some(entries)
    }

    /// Its marker names another installation: the entry is from a backup, or `--owner-id` has changed since.
    fn is_foreign(&self, version: &Version) -> bool {
        let namespace = self.object.metadata.namespace.as_deref().unwrap_or_default();
        matches!(marker_owner(version, &self.config.owner_id, namespace, ""), MarkerOwner::OtherOwner(_))
    }

    /// The spec names the version by its object, which may be away for a moment, or by its number.
    fn is_named(&self, entry: &PendingDeletion) -> bool {
        let version = VersionNames {
            id: &entry.version_id,
            namespace: self.object.metadata.namespace.as_deref(),
            name: &entry.name,
            number: self.listed(&entry.version_id).and_then(|version| version.number.as_deref()),
            held_now: self.referenced_version.as_ref().and_then(|version| version.version_id()),
        };
        claims::names(&self.object, &version)
    }

    /// Versions that run, should run or may run in a moment, as far as the objects in the cluster show.
    fn versions_in_use(&self) -> HashSet<String> {
        let mut ids = self.in_use_elsewhere.clone();
        ids.extend(claims::in_use(&self.object, self.now, &self.config).into_iter().map(str::to_owned));
        // the status speaks of what was observed last
        ids.extend(
            [self.desired(), self.desired_by_spec()].into_iter().flatten().map(|desired| desired.version_id),
        );
        ids.extend(self.live());
        ids
    }

    /// A delete of the version was sent, and the list may still show it.
    fn is_in_flight(&self, entry: &PendingDeletion) -> bool {
        let grace = self.config.visibility_grace;
        self.last_delete(entry).is_some_and(|record| is_pending_delete(record, self.now, grace))
    }
}

/// What the deployment status shows; `None` where something runs that cannot be named: it may be any version.
fn live_versions(deployment_status: &DeploymentStatus, inventory: &Inventory) -> Option<Vec<String>> {
    let live = LiveEnvironment::ALL
        .into_iter()
        .filter_map(|environment| deployment_status.get(environment.as_str()));
    live.map(|live| Some(live.resolve(inventory)?.id.as_str().to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::fixtures::*, *};

    /// The environment runs v1, and v2 waits to be deleted.
    fn pending() -> Observation {
        let entry = json!({"versionId": "v2", "name": "b", "requestTime": ago(100)});
        let active = json!({"versionId": "v1", "startTime": ago(50)});
        let status = json!({"pendingDeletions": [entry], "active": active});
        Observation::test().with_status(&status).running(Some("v1"))
    }

    fn deletable(observation: &Observation) -> Option<String> {
        observation.deletable().map(|entry| entry.version_id)
    }

    #[test]
    fn version_that_the_spec_names_is_not_deletable_while_a_command_holds_another() {
        let named = pending().with_spec(&json!({"versionId": "v2", "versionRef": null}));
        assert_eq!(named.deletable(), None);
        assert_eq!(pending().deletable().map(|entry| entry.version_id).as_deref(), Some("v2"));
    }

    #[test]
    fn version_that_runs_nowhere_is_deletable() {
        assert_eq!(deletable(&pending()).as_deref(), Some("v2"));
        assert_eq!(pending().state().pending_deletion, PendingDeletionState::Ready);
    }

    #[test]
    fn version_of_another_installation_is_not_deletable() {
        let marked = |owner: &str| {
            let description = Some(format!("[chatcaptain.dev {owner}/ns/b]").into());
            let listed = [version("v1"), Version { description, ..version("v2") }];
            deletable(&pending().listing(listed).running(Some("v1")))
        };
        assert_eq!(marked("default").as_deref(), Some("v2"));
        assert_eq!(marked("other"), None);
    }

    #[test]
    fn version_in_use_is_not_deletable() {
        let lost = json!({"lastOperations": [
            {"operation": "Deploy", "versionId": "v2", "completionTime": ago(10), "result": "Unknown"},
        ]});
        let active = json!({"active": {"versionId": "v2", "startTime": ago(50)}});
        for (cause, observation) in [
            ("it runs", pending().running(Some("v2"))),
            ("it was confirmed last", pending().with_status(&active)),
            ("the spec names it", pending().with_spec(&json!({"versionRef": null, "versionId": "v2"}))),
            (
                "it is being deployed",
                pending().with_status(&operation("Deploy", "v2", Some(5), Some("Accepted"))),
            ),
            ("it may become live", pending().with_status(&lost)),
            (
                "another environment runs it",
                Observation { in_use_elsewhere: ["v2".to_owned()].into(), ..pending() },
            ),
            ("what runs has no name", pending().running(Some("v9"))),
            ("nothing is known", pending().unavailable(crate::plan::UnavailableReason::Throttled)),
        ] {
            assert_eq!(deletable(&observation), None, "{cause}");
            assert_eq!(observation.state().pending_deletion, PendingDeletionState::InUse, "{cause}");
        }
    }

    #[test]
    fn without_deployment_status_only_deploy_times_prove_that_a_version_runs_nowhere() {
        let elsewhere = |active| {
            let status = json!({"active": {"versionId": active, "startTime": ago(60)}});
            Some(Observation::test().with_spec(&json!({"environment": "test"})).with_status(&status).object)
        };
        let listing = |seconds| Observation {
            elsewhere: elsewhere("v3"),
            ..pending().listing([deployed("v1", 50), deployed("v2", seconds), deployed("v3", 60)])
        };
        assert_eq!(deletable(&listing(500)).as_deref(), Some("v2"));
        assert_eq!(deletable(&listing(55)), None, "it may have been deployed to the other environment");
        let unknown = Observation { elsewhere: None, ..listing(500) };
        assert_eq!(deletable(&unknown), None);
        let timeless = listing(500).listing([version("v1"), version("v2"), version("v3")]);
        assert_eq!(deletable(&timeless), None);
    }

    #[test]
    fn sent_delete_is_in_flight_for_the_grace() {
        let sent = |seconds, result| {
            let record = json!({
                "operation": "Delete", "versionId": "v2", "completionTime": ago(seconds), "result": result,
            });
            pending().with_status(&json!({"lastOperations": [record]})).state().pending_deletion
        };
        assert_eq!(sent(10, "Accepted"), PendingDeletionState::InFlight);
        assert_eq!(sent(10, "Unknown"), PendingDeletionState::InFlight);
        assert_eq!(sent(10, "Refused"), PendingDeletionState::Ready);
        assert_eq!(sent(31, "Accepted"), PendingDeletionState::Ready);
    }

    #[test]
    fn failed_delete_delays_only_that_version() {
        let entry = |id: &str, retry: Value| json!({"versionId": id, "name": "b", "requestTime": ago(100), "retry": retry});
        let waits = json!({"failures": 1, "nextAttemptTime": ago(-10)});
        let with = |entries: Value| pending().with_status(&json!({"pendingDeletions": entries}));
        let one = with(json!([entry("v2", waits.clone())]));
        assert_eq!(one.state().pending_deletion, PendingDeletionState::BackingOff);
        let other = with(json!([entry("v2", waits), entry("v3", Value::Null)]));
        assert_eq!(deletable(&other).as_deref(), Some("v3"));
        assert_eq!(other.time_until_deletion_retry(), Some(Duration::from_secs(10)));
        let over = with(json!([entry("v2", json!({"failures": 1, "nextAttemptTime": ago(0)}))]));
        assert_eq!(deletable(&over).as_deref(), Some("v2"));
    }

    #[test]
    fn new_deletion_is_recorded_and_a_finished_one_dropped() {
        let deleted = VersionBeingDeleted { version_id: "v1".to_owned(), name: "a".to_owned() };
        let new = Observation { versions_being_deleted: vec![deleted], ..pending() };
        assert_eq!(new.state().pending_deletion, PendingDeletionState::New);
        let ids = |observation: &Observation| {
            let entries = observation.next_pending_deletions();
            entries.into_iter().map(|entry| entry.version_id).collect::<Vec<_>>()
        };
        assert_eq!(ids(&new), ["v2", "v1"]);
        let record = |result| {
            json!({"lastOperations": [
                {"operation": "Delete", "versionId": "v2", "completionTime": ago(1), "result": result},
            ]})
        };
        let unlisted = new.clone().listing([version("v1")]).running(Some("v1"));
        assert_eq!(ids(&unlisted), ["v2", "v1"], "the list may be cut");
        assert_eq!(ids(&unlisted.clone().with_status(&record("Accepted"))), ["v1"]);
        let reclaimed = Observation { reclaimed: ["v2".to_owned()].into(), ..new };
        assert_eq!(ids(&reclaimed), ["v1"]);
        let mut doubtful = pending().listing([version("v1")]).running(Some("v1"));
        if let ServiceView::Available { authoritative, .. } = &mut doubtful.service {
            *authoritative = false;
        }
        assert_eq!(ids(&doubtful), ["v2"], "a key of another account lists nothing of ours");
    }

    #[test]
    fn deployment_that_is_being_deleted_waits_for_the_objects_that_hand_over() {
        let waiting = VersionBeingDeleted { version_id: "v2".to_owned(), name: "b".to_owned() };
        let waiting = Observation { versions_being_deleted: vec![waiting], ..pending() };
        assert_eq!(waiting.state().pending_deletion, PendingDeletionState::Ready);
        assert_eq!(waiting.deleted(1).state().pending_deletion, PendingDeletionState::HandingOver);
        assert_eq!(pending().deleted(1).state().pending_deletion, PendingDeletionState::Ready);
    }

    #[test]
    fn deletion_of_an_unlisted_version_ends_with_the_answer_to_our_request() {
        let unlisted = pending().listing([version("v1")]).running(Some("v1"));
        assert_eq!(deletable(&unlisted).as_deref(), Some("v2"));
        let end = |observation: &Observation| {
            let entry = observation.status().pending_deletions[0].clone();
            observation.deletion_end(&entry)
        };
        let answered = |result| {
            let record =
                json!({"operation": "Delete", "versionId": "v2", "completionTime": ago(1), "result": result});
            end(&unlisted.clone().with_status(&json!({"lastOperations": [record]})))
        };
        assert_eq!(end(&unlisted), None);
        assert_eq!(answered("Unknown"), None);
        assert_eq!(answered("Accepted"), Some(DeletionEnd::Deleted));
        assert_eq!(answered("Refused"), Some(DeletionEnd::Unconfirmed));
        let blind = pending().listing([version("v1")]);
        assert_eq!(
            end(&blind),
            Some(DeletionEnd::Deleted),
            "without a deployment status the list is all there is"
        );
    }

    #[test]
    fn version_of_another_installation_is_left_alone() {
        let foreign = Version { description: Some("[chatcaptain.dev other/ns/b]".into()), ..version("v2") };
        let foreign = pending().listing([version("v1"), foreign]).running(Some("v1"));
        assert_eq!(deletable(&foreign), None);
        let report = foreign.report();
        let [("Orphaned", note)] = events(&report)[..] else { panic!("{:?}", report.events) };
        assert!(note.contains("another installation"), "{note}");
        assert_eq!((report.orphans, report.status.pending_deletions), (vec!["v2".to_owned()], vec![]));
    }

    #[test]
    fn deletion_is_recorded_once_and_only_while_there_is_room() {
        let other = VersionBeingDeleted { version_id: "v2".to_owned(), name: "b".to_owned() };
        let again = Observation { versions_being_deleted: vec![other], ..pending() };
        assert_eq!(again.next_pending_deletions(), again.status().pending_deletions);
        let max = ChatbotDeploymentStatus::MAX_PENDING_DELETIONS;
        let entries: Vec<_> = (0..max)
            .map(|n| json!({"versionId": format!("x{n}"), "name": "x", "requestTime": ago(100)}))
            .collect();
        let full = again.with_status(&json!({"pendingDeletions": entries}));
        let full = full.unavailable(crate::plan::UnavailableReason::Throttled);
        assert_eq!(full.next_pending_deletions().len(), max);
    }
}
