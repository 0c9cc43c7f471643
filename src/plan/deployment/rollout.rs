//! How far the current operation has come.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Desired, Observation, Rollout, RolloutMethod};
use crate::{
    crd::{Cause, CurrentOperation, HistoryEntry, Operation, OperationResult, RollbackMethod},
    plan::{elapsed, is_in_future},
};

impl RolloutMethod {
    /// The call as status names it.
    pub(super) fn operation(self) -> Operation {
        match self {
            Self::Deploy => Operation::Deploy,
            Self::Rollback => Operation::Rollback,
        }
    }

    fn of(operation: &CurrentOperation) -> Self {
        if operation.operation == Operation::Rollback { Self::Rollback } else { Self::Deploy }
    }
}

impl Observation {
    pub(super) fn rollout(&self, desired: &str) -> Rollout {
        match &self.status().current_operation {
            None => Rollout::None,
            Some(operation) if operation.version_id == desired => self.progress_of(operation),
            Some(operation) if self.other_call_in_flight(desired) => {
                Rollout::InProgress(RolloutMethod::of(operation))
            }
            Some(_) => Rollout::None,
        }
    }

    fn progress_of(&self, operation: &CurrentOperation) -> Rollout {
        let method = RolloutMethod::of(operation);
        let grace_is_over = |since: &Time| elapsed(since, self.now) > self.config.visibility_grace;
        let deadline_is_over = |since: &Time| elapsed(since, self.now) > self.progress_deadline();
        let Some(called_at) = &operation.call_time else {
            // without the permit its holder may be sending right now; only after the grace its silence means an
            // unknown outcome
            return if self.may_call {
                Rollout::IntentRecorded(method)
            } else if grace_is_over(&operation.start_time) || is_in_future(&operation.start_time, self.now) {
                Rollout::OutcomeUnknown
            } else {
                Rollout::InProgress(method)
            };
        };
        // a version is late only after everything was tried: the deploy in place of a rollback, and a second deploy in
        // place of one without a usable answer
        match (method, operation.result) {
            (RolloutMethod::Rollback, Some(OperationResult::Refused)) => Rollout::RollbackIneffective,
            // it did not happen: a new intent follows when the backoff is over
            (RolloutMethod::Deploy, Some(OperationResult::Refused)) => Rollout::None,
            (RolloutMethod::Rollback, _) if grace_is_over(called_at) => Rollout::RollbackIneffective,
            (RolloutMethod::Deploy, Some(OperationResult::Unknown)) if grace_is_over(called_at) => {
                // from the first call: each repetition has its own call time, and would move the deadline on for ever
                let repeated_too_long = operation.first_call_time.as_ref().is_some_and(deadline_is_over);
                if repeated_too_long { Rollout::DeadlineExceeded } else { Rollout::OutcomeUnknown }
            }
            // `callTime` is the end of the call, so a slow answer costs the version none of its time
            (RolloutMethod::Deploy, Some(OperationResult::Accepted)) if deadline_is_over(called_at) => {
                Rollout::DeadlineExceeded
            }
            _ => Rollout::InProgress(method),
        }
    }

    /// Whether a rollout of this version goes back: this environment ran it before it ran the live one for the first time. No
    /// promotion delays it then. To return to the later of the two is a release like the first one.
    pub(super) fn is_rollback(&self, desired: &str) -> bool {
        ran_before(&self.status().history, desired, self.live().as_deref())
    }

    /// The body of the rollback request: the environment, and what `spec.rollback.parameters` adds. A parameter cannot
    /// replace the environment: a user who may only write the object of test must not change prod.
    #[must_use]
    pub fn rollback_body(&self) -> serde_json::Value {
        let rollback = self.object.spec.rollback.as_ref();
        let parameters = rollback.and_then(|rollback| rollback.parameters.clone()).unwrap_or_default();
        let mut body: serde_json::Map<_, _> =
            parameters.into_iter().map(|(name, value)| (name, value.into())).collect();
        // last, so that it replaces a parameter of this name
        body.insert("environment".to_owned(), self.environment().into());
        body.into()
    }

    /// Whether the desired version is an earlier one.
    #[must_use]
    pub fn goes_back(&self) -> bool {
        self.desired().is_ok_and(|desired| self.goes_back_to(&desired))
    }

    /// After a failure, by command, or by git.
    pub(super) fn goes_back_to(&self, desired: &Desired) -> bool {
        let id = &desired.version_id;
        match desired.cause {
            Cause::AutomaticRollback => true,
            // it may name any version, and a release by command is a release
            Cause::RollbackCommand => !self.is_new_release(id),
            Cause::Spec => self.is_rollback(id) || self.is_earlier_snapshot(id),
        }
    }

    /// Where the history was lost with the cluster, the service's own times say which of two versions is the earlier one.
    fn is_earlier_snapshot(&self, desired: &str) -> bool {
        let is_lost = self.status().history.iter().all(|entry| entry.operation.is_none());
        is_lost && self.snapshot_times(desired).is_some_and(|(desired, live)| desired < live)
    }

    /// Never ran here, and is known to be a later snapshot than what runs.
    fn is_new_release(&self, desired: &str) -> bool {
        !self.has_run(desired) && self.snapshot_times(desired).is_some_and(|(desired, live)| desired > live)
    }

    /// When the version and the live one were created, by the service's clock.
    fn snapshot_times(&self, desired: &str) -> Option<(Timestamp, Timestamp)> {
        let created = |id: &str| self.listed(id).and_then(|version| version.created);
        created(desired).zip(self.live().and_then(|live| created(&live)))
    }

    /// Whether a rollback to the version uses the rollback call of the service.
    pub(super) fn use_rollback(&self, desired: &str) -> bool {
        self.object.spec.rollback_method() == RollbackMethod::Rollback && self.is_rollback(desired)
    }
}

/// Whether an environment with this history ran `id` before `other` for the first time; `None`: nothing that is known.
pub(super) fn ran_before(history: &[HistoryEntry], id: &str, other: Option<&str>) -> bool {
    // newest first
    let first_run = |id: &str| history.iter().rposition(|entry| entry.version_id == id);
    match (first_run(id), other.and_then(first_run)) {
        (Some(ran), Some(other)) => ran > other,
        (ran, None) => ran.is_some(),
        (None, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::fixtures::*, *};
    use crate::crd::annotation;

    #[test]
    fn rollback_body_cannot_name_another_environment() {
        let parameters =
            json!({"rollback": {"parameters": {"environment": "test", "reason": "bad answers"}}});
        let body = Observation::test().with_spec(&parameters).rollback_body();
        assert_eq!(body, json!({"environment": Observation::test().environment(), "reason": "bad answers"}));
    }

    #[test]
    fn operation_has_come_as_far_as_its_call() {
        use RolloutMethod::{Deploy, Rollback};
        let rollout = |method: RolloutMethod, called, result| {
            let method = format!("{method:?}");
            Observation::test().with_status(&operation(&method, "v1", called, result)).state().rollout
        };
        for (method, called, result, expected) in [
            (Deploy, None, None, Rollout::InProgress(Deploy)),
            (Deploy, Some(5), Some("Accepted"), Rollout::InProgress(Deploy)),
            (Deploy, Some(300), Some("Accepted"), Rollout::InProgress(Deploy)),
            (Deploy, Some(301), Some("Accepted"), Rollout::DeadlineExceeded),
            (Deploy, Some(5), Some("Unknown"), Rollout::InProgress(Deploy)),
            (Deploy, Some(31), Some("Unknown"), Rollout::OutcomeUnknown),
            (Deploy, Some(5), Some("Refused"), Rollout::None),
            (Rollback, Some(30), Some("Accepted"), Rollout::InProgress(Rollback)),
            (Rollback, Some(31), Some("Accepted"), Rollout::RollbackIneffective),
            (Rollback, Some(31), Some("Unknown"), Rollout::RollbackIneffective),
            (Rollback, Some(5), Some("Refused"), Rollout::RollbackIneffective),
        ] {
            assert_eq!(rollout(method, called, result), expected, "{method:?} {called:?} {result:?}");
        }
    }

    #[test]
    fn only_the_process_that_wrote_the_intent_sends_the_call() {
        let mut status = operation("Deploy", "v1", None, None);
        let fresh = Observation::test().with_status(&status);
        assert_eq!(fresh.state().rollout, Rollout::InProgress(RolloutMethod::Deploy));
        let ours = Observation { may_call: true, ..fresh };
        assert_eq!(ours.state().rollout, Rollout::IntentRecorded(RolloutMethod::Deploy));
        status["currentOperation"]["startTime"] = ago(31);
        let abandoned = Observation::test().with_status(&status);
        assert_eq!(abandoned.state().rollout, Rollout::OutcomeUnknown);
        status["currentOperation"]["startTime"] = ago(-3600);
        let by_a_fast_clock = Observation::test().with_status(&status);
        assert_eq!(by_a_fast_clock.state().rollout, Rollout::OutcomeUnknown);
    }

    #[test]
    fn deploys_without_an_answer_end_at_the_deadline_of_the_first() {
        let mut status = operation("Deploy", "v1", Some(31), Some("Unknown"));
        status["currentOperation"]["firstCallTime"] = ago(299);
        let repeated = Observation::test().with_status(&status);
        assert_eq!(repeated.state().rollout, Rollout::OutcomeUnknown);
        status["currentOperation"]["firstCallTime"] = ago(301);
        let late = Observation::test().with_status(&status);
        assert_eq!(late.state().rollout, Rollout::DeadlineExceeded);
    }

    #[test]
    fn revert_after_the_history_was_lost_goes_back_by_the_times_of_the_service() {
        let created = |id: &str, seconds: i64| crate::chatcaptain::Version {
            created: Some(at(-seconds)),
            ..version(id)
        };
        let goes_back = |desired, live| {
            let history = json!({"history": [{"versionId": "v2", "startTime": ago(5)}]});
            let rebuilt = Observation::test().with_status(&history);
            let rebuilt = rebuilt.listing([created("v1", desired), created("v2", live)]).running(Some("v2"));
            rebuilt.goes_back()
        };
        assert!(goes_back(200, 100));
        assert!(!goes_back(100, 200));
        let known = json!({"history": [{"versionId": "v2", "startTime": ago(5), "operation": "Deploy"}]});
        let known = Observation::test().with_status(&known);
        let known = known.listing([created("v1", 200), created("v2", 100)]).running(Some("v2"));
        assert!(!known.goes_back(), "v1 never ran here");
    }

    #[test]
    fn command_is_a_release_where_the_version_is_newer_and_never_ran() {
        let created = |id: &str, seconds: i64| crate::chatcaptain::Version {
            created: Some(at(-seconds)),
            ..version(id)
        };
        let commanded = |versions: [crate::chatcaptain::Version; 2]| {
            let environment = Observation::test().listing(versions).running(Some("v1"));
            environment.annotated(annotation::ROLLBACK_TO, "v2")
        };
        let newer = commanded([created("v1", 200), created("v2", 100)]);
        assert!(!newer.goes_back());
        let ran = json!({"history": [{"versionId": "v1", "startTime": ago(5)}, {"versionId": "v2", "startTime": ago(9)}]});
        assert!(newer.with_status(&ran).goes_back(), "it ran here");
        assert!(
            commanded([created("v1", 100), created("v2", 200)]).goes_back(),
            "it is the earlier snapshot"
        );
        assert!(
            commanded([version("v1"), version("v2")]).goes_back(),
            "what is not known holds nothing back"
        );
    }

    #[test]
    fn return_to_the_later_of_two_versions_is_no_rollback() {
        let history = |ids: &[&str]| {
            let entries = ids.iter().map(|id| json!({"versionId": id, "startTime": ago(1)}));
            serde_json::from_value::<Vec<HistoryEntry>>(entries.collect()).unwrap()
        };
        let back_and_forth = history(&["v1", "v2", "v1"]);
        assert!(!ran_before(&back_and_forth, "v2", Some("v1")), "forward again");
        assert!(ran_before(&history(&["v2", "v1", "v2", "v1"]), "v1", Some("v2")));
        assert!(ran_before(&back_and_forth, "v2", None), "nothing runs");
        assert!(
            ran_before(&back_and_forth, "v2", Some("v3")),
            "deployed outside the operator, not recorded yet"
        );
        assert!(!ran_before(&back_and_forth, "v3", Some("v1")));
    }

    #[test]
    fn version_of_history_is_reached_by_rollback_unless_redeploy_is_set() {
        let ran = json!({"history": [{"versionId": "v1", "startTime": ago(100)}]});
        assert!(!Observation::test().state().use_rollback);
        assert!(Observation::test().with_status(&ran).state().use_rollback);
        let redeploy = json!({"rollback": {"method": "Redeploy"}});
        assert!(!Observation::test().with_status(&ran).with_spec(&redeploy).state().use_rollback);
    }

    #[test]
    fn earlier_version_goes_back_by_whichever_call() {
        assert!(!Observation::test().goes_back());
        let ran = json!({"history": [{"versionId": "v1", "startTime": ago(100)}]});
        let redeploy = json!({"rollback": {"method": "Redeploy"}});
        assert!(Observation::test().with_status(&ran).with_spec(&redeploy).goes_back());
        let command = Observation::test().listing([version("v1"), version("v2")]);
        assert!(command.annotated(annotation::ROLLBACK_TO, "v2").goes_back());
    }
}
