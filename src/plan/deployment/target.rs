//! The version that should run: by command, after a failure, or by the spec.

use std::time::Duration;

use super::{Observation, Unresolved, rollback_command::RollbackTo};
use crate::{
    crd::{
        Cause, FollowedVersion, HistoryEntry, OnFailure, Operation, OperationRecord, OperationResult, Target,
        VersionSource, WaitingForVersion,
    },
    plan::{elapsed, status::is_ready, truncate_to_seconds},
};

/// The version that should run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Id of the version in the service.
    pub version_id: String,
    /// Number of the version in the service, where one is known; for messages and the status.
    pub version_number: Option<String>,
    /// What decided that this version should run.
    pub cause: Cause,
}

impl Desired {
    /// The recorded target is the same version, for the same cause.
    pub(super) fn is(&self, target: &Target) -> bool {
        target.version_id == self.version_id && target.cause == self.cause
    }
}

impl Observation {
    /// The version that should run: by command, because the spec's version failed, or by the spec.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn desired(&self) -> Result<Desired, Unresolved> {
        // first: with the spec before it, a commanded rollback would last until the next reconcile
        if let Some(RollbackTo::Holds(id)) = self.rollback_command() {
            return Ok(self.desired_version(id, Cause::RollbackCommand));
        }
        let by_spec = self.desired_by_spec()?;
        Ok(self.automatic_rollback(&by_spec).unwrap_or(by_spec))
    }

    pub(super) fn desired_by_spec(&self) -> Result<Desired, Unresolved> {
        match self.object.spec.version_source().ok_or(Unresolved::VersionNotFound)? {
            VersionSource::Ref(_) => self.desired_by_reference(),
            VersionSource::Id(id) if self.may_exist(id) => {
                Ok(self.desired_version(id.to_owned(), Cause::Spec))
            }
            VersionSource::Id(_) => Err(Unresolved::VersionNotFound),
            VersionSource::Follow(name) => self.desired_by_follow(name),
            VersionSource::Number(number) => {
                let mut numbered =
                    self.inventory().into_iter().flat_map(|inventory| inventory.by_number(number));
                let one = numbered.next().ok_or(Unresolved::VersionNotFound)?;
                // the service may give a number again after a deletion
                if numbered.next().is_some() {
                    return Err(Unresolved::AmbiguousVersion);
                }
                Ok(self.desired_version(one.id.as_str().to_owned(), Cause::Spec))
            }
        }
    }

    fn desired_by_reference(&self) -> Result<Desired, Unresolved> {
        let version = self.referenced_version.as_ref().ok_or(Unresolved::WaitingForVersion)?;
        if version.spec.chatbot_id != self.object.spec.chatbot_id {
            return Err(Unresolved::ReferenceMismatch);
        }
        let status = version.status.as_ref().filter(|status| status.pending_create.is_none());
        let id =
            status.and_then(|status| status.version_id.as_deref()).ok_or(Unresolved::WaitingForVersion)?;
        // a version that is being deleted is not deployed; where it runs already, it stays the desired one
        let is_being_deleted = version.metadata.deletion_timestamp.is_some();
        if is_being_deleted && self.live().as_deref() != Some(id) || !self.may_exist(id) {
            return Err(Unresolved::WaitingForVersion);
        }
        let mut desired = self.desired_version(id.to_owned(), Cause::Spec);
        // the list may return no numbers
        if let Some(number) = status.and_then(|status| status.version_number.clone()) {
            desired.version_number = Some(number);
        }
        Ok(desired)
    }

    fn desired_by_follow(&self, name: &str) -> Result<Desired, Unresolved> {
        if self.followed.as_ref().is_some_and(|source| source.spec.chatbot_id != self.object.spec.chatbot_id)
        {
            return Err(Unresolved::ReferenceMismatch);
        }
        let followed = self.followed_version(name).ok_or(Unresolved::WaitingForVersion)?;
        if !self.may_exist(&followed.version_id) {
            return Err(Unresolved::WaitingForVersion);
        }
        let mut desired = self.desired_version(followed.version_id, Cause::Spec);
        desired.version_number = desired.version_number.or(followed.version_number);
        Ok(desired)
    }

    /// The version that the deployment `name` is Ready on. While it is Ready on none, the one that it was Ready on last: what
    /// it goes through is no reason to leave it.
    fn followed_version(&self, name: &str) -> Option<FollowedVersion> {
        let ready_on = || {
            let source = self.followed.as_ref()?;
            let status = source.status.as_ref()?;
            let active = status.active.as_ref()?;
            is_ready(&status.common, &source.metadata).then(|| FollowedVersion {
                name: name.to_owned(),
                version_id: active.version_id.clone(),
                version_number: active.version_number.clone(),
            })
        };
        ready_on().or_else(|| self.status().followed.clone().filter(|followed| followed.name == name))
    }

    /// What `spec.follow` leads to, for the next status.
    pub(super) fn followed(&self) -> Option<FollowedVersion> {
        let VersionSource::Follow(name) = self.object.spec.version_source()? else {
            return None;
        };
        self.followed_version(name)
    }

    fn desired_version(&self, id: String, cause: Cause) -> Desired {
        let number = self.version_number(&id).map(str::to_owned);
        Desired { version_id: id, version_number: number, cause }
    }

    /// `onFailure: Previous`: the newest version of `history` in place of the one that failed. Where that one
    /// fails too, no older one is tried: the target has failed.
    fn automatic_rollback(&self, by_spec: &Desired) -> Option<Desired> {
        if !self.has_failed(&by_spec.version_id) || self.object.spec.on_failure() != OnFailure::Previous {
            return None;
        }
        let good = self.newest_of_history(|entry| entry.version_id != by_spec.version_id)?;
        Some(Desired {
            version_id: good.version_id.clone(),
            version_number: good.version_number.clone(),
            cause: Cause::AutomaticRollback,
        })
    }

    /// The object that the rollout waits for, for the next status.
    pub(super) fn missing_version(&self) -> Option<WaitingForVersion> {
        let Some(VersionSource::Ref(name) | VersionSource::Follow(name)) = self.object.spec.version_source()
        else {
            return None;
        };
        if self.desired() != Err(Unresolved::WaitingForVersion) {
            return None;
        }
        let recorded = self.status().waiting_for_version.clone().filter(|waiting| waiting.name == name);
        Some(recorded.unwrap_or_else(|| WaitingForVersion {
            name: name.to_owned(),
            start_time: truncate_to_seconds(self.now),
        }))
    }

    /// How long the rollout still waits for the version that it lacks; zero once `progressDeadline` is over.
    pub(super) fn time_for_version(&self) -> Option<Duration> {
        let waiting = self.missing_version()?;
        Some(self.progress_deadline().saturating_sub(elapsed(&waiting.start_time, self.now)))
    }

    /// The spec names another version than the one that the status is about.
    pub(super) fn spec_target_changed(&self) -> bool {
        let Some(target) = self.status().target.as_ref().filter(|target| target.cause == Cause::Spec) else {
            return false;
        };
        match self.object.spec.version_source() {
            // as text: a suspended object does not query the service, so there is no list to find the number in
            Some(VersionSource::Number(number)) => target.version_number.as_deref() != Some(number),
            _ => match self.desired_by_spec() {
                Ok(desired) => desired.version_id != target.version_id,
                // the version may be missing for a moment only
                Err(_) => self.status().common.observed_generation != self.object.metadata.generation,
            },
        }
    }

    /// Versions that did not become live in this generation; empty once a reconcile is requested.
    pub(super) fn failed_versions(&self) -> &[String] {
        let failed = self.status().failed_versions.as_ref().filter(|failed| {
            Some(failed.generation) == self.object.metadata.generation && !self.is_reconcile_requested()
        });
        failed.map(|failed| failed.version_ids.as_slice()).unwrap_or_default()
    }

    pub(super) fn has_failed(&self, id: &str) -> bool {
        self.failed_versions().iter().any(|failed| failed == id)
    }

    /// The newest entry of `history` to go back to. One that is listed comes first: of the others it is not known whether
    /// they still exist.
    pub(super) fn newest_of_history(&self, may_be: impl Fn(&HistoryEntry) -> bool) -> Option<&HistoryEntry> {
        let newest = |exists: &dyn Fn(&str) -> bool| {
            self.status().history.iter().find(|entry| may_be(entry) && exists(&entry.version_id))
        };
        newest(&|id| self.is_listed(id)).or_else(|| newest(&|id| self.may_exist(id)))
    }

    /// The version is listed, or may be there all the same.
    pub(super) fn may_exist(&self, id: &str) -> bool {
        self.is_listed(id) || self.may_be_hidden(id)
    }

    /// The version is listed, or the list could not be read.
    fn is_listed(&self, id: &str) -> bool {
        // an outage must not read as a lost version
        self.inventory().is_none_or(|inventory| inventory.version(id).is_some())
    }

    /// A list that is cut does not show every version. One that was there can be deployed, until the service rejects that.
    fn may_be_hidden(&self, id: &str) -> bool {
        let status = self.status();
        let is_followed = status.followed.as_ref().is_some_and(|followed| followed.version_id == id);
        let mut objects = [&self.referenced_version, &self.rollback_version].into_iter().flatten();
        let is_known =
            is_followed || self.has_run(id) || objects.any(|version| version.version_id() == Some(id));
        let is_gone = |record: &OperationRecord| match record.operation {
            Operation::Deploy => Some(record.result == OperationResult::Refused),
            Operation::Delete => Some(record.result == OperationResult::Accepted),
            _ => None,
        };
        let records = status.common.last_operations.iter();
        let last = records.filter(|record| record.version_id.as_deref() == Some(id)).find_map(is_gone);
        // an empty list is not a cut one
        let is_cut = self.inventory().is_some_and(|inventory| !inventory.versions().is_empty());
        is_cut && is_known && last != Some(true)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::{TargetState, fixtures::*},
        *,
    };
    use crate::{
        chatcaptain::Version,
        crd::annotation,
        plan::{
            Requeue,
            deployment::{Step, Wait},
        },
    };

    fn desired(observation: &Observation) -> Result<(String, Cause), Unresolved> {
        observation.desired().map(|desired| (desired.version_id, desired.cause))
    }

    #[test]
    fn spec_names_a_version_by_object_id_or_number() {
        let by_object = Observation::test();
        assert_eq!(desired(&by_object), Ok(("v1".to_owned(), Cause::Spec)));
        let by_id = Observation::test().with_spec(&json!({"versionRef": null, "versionId": "v2"}));
        assert_eq!(desired(&by_id), Ok(("v2".to_owned(), Cause::Spec)));
        assert_eq!(by_id.desired().unwrap().version_number.as_deref(), Some("1.2"));
        let by_number = Observation::test().with_spec(&json!({"versionRef": null, "versionNumber": "1.3"}));
        assert_eq!(desired(&by_number), Ok(("v3".to_owned(), Cause::Spec)));
    }

    #[test]
    fn unresolved_says_why() {
        let by_object = |object| Observation { referenced_version: object, ..Observation::test() };
        let number = json!({"versionRef": null, "versionNumber": "1.1"});
        for (observation, why) in [
            (by_object(None), Unresolved::WaitingForVersion),
            (by_object(Some(referenced(&json!({"status": {}})))), Unresolved::WaitingForVersion),
            (Observation::test().listing([]), Unresolved::WaitingForVersion),
            (
                by_object(Some(referenced(&json!({"spec": {"chatbotId": "other"}})))),
                Unresolved::ReferenceMismatch,
            ),
            (
                Observation::test().with_spec(&json!({"versionRef": null, "versionId": "v9"})),
                Unresolved::VersionNotFound,
            ),
            (Observation::test().listing([version("v2")]).with_spec(&number), Unresolved::VersionNotFound),
            (
                Observation::test().listing([version("v1"), twin_of_v1()]).with_spec(&number),
                Unresolved::AmbiguousVersion,
            ),
        ] {
            assert_eq!(desired(&observation), Err(why));
        }
    }

    #[test]
    fn version_that_a_cut_list_may_hide_is_tried_until_the_service_rejects_it() {
        let hidden = Observation::test().listing([version("v2")]);
        assert_eq!(desired(&hidden), Ok(("v1".to_owned(), Cause::Spec)));
        let called = |operation: &str, result: &str| {
            let record = json!({"operation": operation, "versionId": "v1", "completionTime": ago(5), "result": result});
            desired(&hidden.clone().with_status(&json!({"lastOperations": [record]}))).is_ok()
        };
        assert!(!called("Deploy", "Refused") && !called("Delete", "Accepted"), "it is gone");
        assert!(called("Deploy", "Unknown") && called("Deploy", "Accepted") && called("Delete", "Refused"));
        assert!(called("Rollback", "Refused"), "the service may have no rollback");
        let unknown = hidden.with_spec(&json!({"versionRef": null, "versionId": "v9"}));
        assert_eq!(desired(&unknown), Err(Unresolved::VersionNotFound), "nothing says that it ever was");
    }

    /// What `spec.follow` names, with this status.
    fn following(source: &serde_json::Value) -> Observation {
        let spec = json!({"versionRef": null, "follow": {"deploymentRef": {"name": "test"}}});
        let source = Observation::test().with_status(source).object;
        Observation {
            followed: Some(source),
            referenced_version: None,
            ..Observation::test().with_spec(&spec)
        }
    }

    fn ready_on(id: &str, status: &str) -> serde_json::Value {
        json!({
            "observedGeneration": 1,
            "active": {"versionId": id, "startTime": ago(9)},
            "conditions": [{
                "type": "Ready", "status": status, "reason": "R", "message": "", "lastTransitionTime": ago(9),
            }],
        })
    }

    #[test]
    fn followed_version_is_the_one_that_the_other_was_last_ready_on() {
        let first = following(&ready_on("v2", "True"));
        assert_eq!(desired(&first), Ok(("v2".to_owned(), Cause::Spec)));
        let recorded = serde_json::to_value(&first.report().status).unwrap();
        assert_eq!(recorded["followed"]["versionId"], "v2");
        let moving = following(&ready_on("v1", "False")).with_status(&recorded);
        assert_eq!(desired(&moving), Ok(("v2".to_owned(), Cause::Spec)), "it is not Ready on v1 yet");
        let moved = following(&ready_on("v1", "True")).with_status(&recorded);
        assert_eq!(desired(&moved), Ok(("v1".to_owned(), Cause::Spec)));
        let gone = Observation { followed: None, ..moving };
        assert_eq!(desired(&gone), Ok(("v2".to_owned(), Cause::Spec)), "what it ran stays");
        assert_eq!(desired(&following(&ready_on("v2", "False"))), Err(Unresolved::WaitingForVersion));
    }

    #[test]
    fn rollback_holds_until_the_followed_version_changes() {
        let ran = json!({"history": [{"versionId": "v2", "startTime": ago(9)}, {"versionId": "v1", "startTime": ago(99)}]});
        let given = following(&ready_on("v2", "True")).with_status(&ran).running(Some("v2"));
        let given = given.annotated(annotation::ROLLBACK_TO, "previous");
        assert_eq!(desired(&given), Ok(("v1".to_owned(), Cause::RollbackCommand)));
        let held = given.clone().after(given.report());
        assert_eq!(desired(&held), Ok(("v1".to_owned(), Cause::RollbackCommand)));
        let third = following(&ready_on("v3", "True")).followed;
        let released =
            Observation { followed: third, ..held.listing([version("v1"), version("v2"), version("v3")]) };
        assert_eq!(desired(&released), Ok(("v3".to_owned(), Cause::Spec)));
    }

    #[test]
    fn version_that_does_not_appear_within_the_deadline_fails_the_rollout() {
        let missing = Observation { referenced_version: None, ..Observation::test() };
        let first = missing.report();
        assert_eq!(condition(&first, "Reconciling"), Some(("True", "WaitingForVersion")));
        assert_eq!(first.requeue, Requeue::After(Duration::from_mins(5)));
        let since = |seconds| json!({"waitingForVersion": {"name": "a", "startTime": ago(seconds)}});
        let soon = missing.clone().with_status(&since(299));
        assert_eq!(soon.report().requeue, Requeue::After(Duration::from_secs(1)));
        let late = missing.clone().with_status(&since(300));
        assert_eq!(late.next_step(), Step::Wait(Wait::Unresolved(Unresolved::VersionTimedOut)));
        assert_eq!(condition(&late.report(), "Stalled"), Some(("True", "ProgressDeadlineExceeded")));
        let renamed = late.clone().with_spec(&json!({"versionRef": {"name": "b"}}));
        assert_eq!(renamed.next_step(), Step::Wait(Wait::Unresolved(Unresolved::WaitingForVersion)));
        let there = Observation { referenced_version: Some(referenced(&json!({}))), ..late };
        assert_eq!(there.report().status.waiting_for_version, None);
    }

    /// Another version with the number of `v1`.
    fn twin_of_v1() -> Version {
        Version { number: Some("1.1".into()), ..version("v2") }
    }

    #[test]
    fn version_being_deleted_is_desired_only_where_it_runs() {
        let deleted = referenced(&json!({"metadata": {"name": "a", "deletionTimestamp": ago(1)}}));
        let observation = Observation { referenced_version: Some(deleted), ..Observation::test() };
        assert_eq!(desired(&observation.clone().running(Some("v2"))), Err(Unresolved::WaitingForVersion));
        assert_eq!(desired(&observation.running(Some("v1"))), Ok(("v1".to_owned(), Cause::Spec)));
    }

    #[test]
    fn failed_version_gives_way_to_the_newest_other_one_of_history() {
        let failed = |ids: &[&str]| {
            json!({
                "failedVersions": {"generation": 1, "versionIds": ids},
                "history": [
                    {"versionId": "v1", "startTime": ago(1)},
                    {"versionId": "v2", "startTime": ago(2)},
                    {"versionId": "v3", "startTime": ago(3)},
                ],
            })
        };
        let previous = json!({"rollback": {"onFailure": "Previous"}});
        let observation = Observation::test().with_spec(&previous).with_status(&failed(&["v1"]));
        assert_eq!(desired(&observation), Ok(("v2".to_owned(), Cause::AutomaticRollback)));
        let gone = observation.clone().listing([version("v1"), version("v3")]);
        assert_eq!(
            desired(&gone),
            Ok(("v3".to_owned(), Cause::AutomaticRollback)),
            "what is listed comes first"
        );
        let cut = observation.clone().listing([version("v1"), version("v4")]);
        assert_eq!(desired(&cut), Ok(("v2".to_owned(), Cause::AutomaticRollback)), "the list may hide it");
        let requested = observation.annotated(annotation::RECONCILE_REQUESTED_AT, "again");
        assert_eq!(desired(&requested), Ok(("v1".to_owned(), Cause::Spec)));
        let never = Observation::test().with_status(&failed(&["v1"]));
        assert_eq!(never.state().target, TargetState::Failed);
        let both = Observation::test().with_spec(&previous).with_status(&failed(&["v2", "v1"]));
        assert_eq!(both.state().target, TargetState::Failed, "no older one is tried");
    }

    #[test]
    fn spec_names_another_target_only_where_that_is_certain() {
        let target = json!({"target": {"versionId": "v1", "versionNumber": "1.1", "cause": "Spec"}});
        // a suspended object is not queried in the service
        let suspended = Observation { service: crate::plan::ServiceView::NotQueried, ..Observation::test() }
            .with_status(&target);
        let number =
            |number| suspended.clone().with_spec(&json!({"versionRef": null, "versionNumber": number}));
        let newer = json!({"generation": 2});
        assert!(!number("1.1").with_metadata(&newer).spec_target_changed());
        assert!(number("1.2").spec_target_changed());
        let away = Observation { referenced_version: None, ..suspended };
        assert!(!away.spec_target_changed(), "its object may be back in a moment");
        assert!(away.with_metadata(&newer).spec_target_changed());
    }
}
