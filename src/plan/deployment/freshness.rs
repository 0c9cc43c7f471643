//! Whether the service is queried for a `ChatbotDeployment`, and how new its answers have to be.

use std::time::Duration;

use super::{Observation, Step, Unresolved, next_step, rollback_command::CommandEnd};
use crate::{
    crd::CurrentOperation,
    plan::{Freshness, ServiceReads, ServiceView},
};

/// Between two reads of a rollout, at least. One that another object has made since then shows as much.
pub(super) const SHORTEST_POLL: Duration = Duration::from_millis(250);
/// Everything as it is at this moment.
const NEWEST: ServiceReads = ServiceReads { list: Freshness::Now, deployment_status: Some(Freshness::Now) };

impl Observation {
    /// Whether the decision depends on the service's answer.
    #[must_use]
    pub fn needs_service(&self) -> bool {
        self.object.spec.suspend != Some(true) && self.older_claim.is_none()
    }

    /// How new the answers have to be.
    #[must_use]
    pub fn service_reads(&self) -> ServiceReads {
        let usual = Freshness::Within(self.interval());
        let requested = self.is_reconcile_requested();
        let list = if requested { Freshness::Now } else { usual };
        // our call has made every older answer out of date
        let progress = self.is_rolling_out().then_some(Freshness::Within(SHORTEST_POLL));
        let deployment_status = if requested { Freshness::Now } else { progress.unwrap_or(usual) };
        ServiceReads { list, deployment_status: Some(deployment_status) }
    }

    /// What has to be read again after the answers to `made`: only newer ones show what these leave open, and a version that
    /// the next step deletes must not be live at this moment.
    #[must_use]
    pub fn further_reads(&self, made: ServiceReads) -> Option<ServiceReads> {
        if made.list != Freshness::Now && self.leaves_open() {
            return Some(ServiceReads { list: Freshness::Now, ..made });
        }
        // last and only on demand, because it computes the whole state
        let deletes =
            || !self.status().pending_deletions.is_empty() && next_step(&self.state()) == Step::DeleteVersion;
        (made != NEWEST && deletes()).then_some(NEWEST)
    }

    /// A command that no status has recorded yet, or another version than the recorded target: it ends the pause after a read
    /// that failed.
    #[must_use]
    pub fn has_unrecorded_target(&self) -> bool {
        let target = self.status().target.as_ref();
        // the first target of an object is no change of it: a thousand new objects request nothing
        let is_other = |id: &str| target.is_some_and(|target| target.version_id != id);
        self.has_unrecorded_command() || self.desired().is_ok_and(|desired| is_other(&desired.version_id))
    }

    /// Whether the decision depends on something that an older list cannot show.
    fn leaves_open(&self) -> bool {
        let ServiceView::Available { deployment_status, .. } = &self.service else {
            return false;
        };
        let desired = self.referenced_version.as_ref().and_then(|version| version.version_id());
        // a version that was created a moment ago is in no older list, and would be taken for missing
        let unlisted = desired.and_then(|id| self.service.lists(id)) == Some(false);
        // so is a version that the spec or a command names by id or number
        let unlisted = unlisted || self.desired_by_spec() == Err(Unresolved::VersionNotFound);
        let unlisted = unlisted || self.command_to_remove() == Some(CommandEnd::VersionNotFound);
        // without a deployment status only the list shows whether the call took effect
        unlisted || (self.is_rolling_out() && deployment_status.is_none())
    }

    fn is_rolling_out(&self) -> bool {
        self.status().current_operation.as_ref().is_some_and(CurrentOperation::is_sent)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::{super::fixtures::*, *};
    use crate::{crd::annotation, plan::UnavailableReason};

    const USUAL: Freshness = Freshness::Within(Duration::from_mins(5));
    /// What is read for an object for which nothing is left to do.
    const IDLE: ServiceReads = ServiceReads { list: USUAL, deployment_status: Some(USUAL) };

    #[test]
    fn service_is_queried_unless_suspended_or_in_conflict() {
        assert!(Observation::test().needs_service());
        assert!(!Observation::test().with_spec(&json!({"suspend": true})).needs_service());
        let younger = Observation { older_claim: Some("ns/older".to_owned()), ..Observation::test() };
        assert!(!younger.needs_service());
    }

    #[test]
    fn answers_are_as_new_as_the_decision_needs() {
        let reads = |observation: Observation| observation.service_reads();
        assert_eq!(reads(Observation::test()), IDLE);
        let requested = Observation::test().annotated(annotation::RECONCILE_REQUESTED_AT, "now");
        assert_eq!(reads(requested), NEWEST);
        let sent = Observation::test().with_status(&operation("Deploy", "v1", Some(5), Some("Accepted")));
        assert_eq!(reads(sent).list, USUAL, "only the deployment status shows whether the call took effect");
        assert_eq!(
            reads(Observation::test().with_status(&operation("Deploy", "v1", Some(5), None)))
                .deployment_status,
            Some(Freshness::Within(SHORTEST_POLL))
        );
        let recorded = Observation::test().with_status(&operation("Deploy", "v1", None, None));
        assert_eq!(reads(recorded), IDLE, "nothing can have become live yet");
    }

    #[test]
    fn command_or_version_that_no_status_has_recorded_ends_the_pause_of_a_failed_read() {
        let running = || Observation::test().with_status(&reached_target("v1"));
        let before_the_read = |observation| Observation { service: ServiceView::NotQueried, ..observation };
        let is_new = |observation| before_the_read(observation).has_unrecorded_target();
        assert!(!is_new(Observation::test()), "a new object");
        assert!(!is_new(running()));
        let by_id = json!({"versionRef": null, "versionId": "v2"});
        assert!(is_new(running().with_spec(&by_id)));
        assert!(!is_new(running().with_spec(&by_id).with_status(&reached_target("v2"))));
        let previous = json!({"rollback": {"onFailure": "Previous"}});
        let failed = running().with_spec(&by_id).with_spec(&previous).with_status(&json!({
            "failedVersions": {"generation": 1, "versionIds": ["v2"]},
            "history": [{"versionId": "v1", "startTime": ago(90)}],
        }));
        assert!(!is_new(failed), "the target is the version before");
        let commanded = running().annotated(annotation::ROLLBACK_TO, "1.2");
        assert!(is_new(commanded.clone()));
        let recorded = json!({"rollbackCommand": {"value": "1.2", "versionId": "v2", "specVersionId": "v1"}});
        let recorded = commanded.with_status(&recorded).with_status(&reached_target("v2"));
        assert!(!is_new(recorded.clone()));
        assert!(is_new(recorded.annotated(annotation::ROLLBACK_TO, "v3")), "another command");
    }

    #[test]
    fn version_that_an_older_list_does_not_show_needs_a_new_list() {
        let again = Some(ServiceReads { list: Freshness::Now, ..IDLE });
        assert_eq!(Observation::test().further_reads(IDLE), None);
        let unlisted = Observation::test().listing([version("v2")]).running(None);
        assert_eq!(unlisted.further_reads(IDLE), again);
        assert_eq!(unlisted.further_reads(NEWEST), None, "it is not there");
        let away = unlisted.unavailable(UnavailableReason::ServiceUnavailable);
        assert_eq!(away.further_reads(IDLE), None);
    }

    #[test]
    fn list_is_read_for_a_rollout_where_the_deployment_status_cannot_be_read() {
        let sent = Observation::test().with_status(&operation("Deploy", "v1", Some(5), Some("Accepted")));
        assert_eq!(sent.further_reads(IDLE), None);
        let unreadable = || Observation::test().listing([version("v1")]);
        assert_eq!(unreadable().further_reads(IDLE), None, "nothing is on its way");
        let sent = unreadable().with_status(&operation("Deploy", "v1", Some(5), Some("Accepted")));
        let again = ServiceReads { list: Freshness::Now, ..IDLE };
        assert_eq!(sent.further_reads(IDLE), Some(again));
    }

    #[test]
    fn version_is_deleted_only_by_the_newest_answers() {
        let entry = json!({"versionId": "v2", "name": "b", "requestTime": ago(100)});
        let status = json!({
            "pendingDeletions": [entry], "active": {"versionId": "v1", "startTime": ago(50)},
        });
        let due = Observation::test().with_status(&status).running(Some("v1"));
        assert_eq!(due.next_step(), Step::DeleteVersion);
        assert_eq!(due.further_reads(IDLE), Some(NEWEST));
        assert_eq!(due.further_reads(ServiceReads { list: Freshness::Now, ..IDLE }), Some(NEWEST));
        assert_eq!(due.further_reads(NEWEST), None);
        let in_use = due.running(Some("v2"));
        assert_eq!(in_use.further_reads(IDLE), None, "nothing is deleted");
    }
}
