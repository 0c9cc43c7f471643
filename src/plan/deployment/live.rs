//! What runs in the environment, and what may run in a moment.

use jiff::Timestamp;

use super::Observation;
use crate::{
    chatcaptain::{Inventory, LiveVersion},
    crd::{ChatbotDeployment, CurrentOperation, Operation, OperationResult},
    plan::{MarkerOwner, PlanConfig, ServiceView, elapsed, is_in_future, marker_owner},
};

impl Observation {
    /// The environment runs this version, and no call of ours is about to replace it.
    pub(super) fn is_live(&self, id: &str) -> bool {
        self.live().as_deref() == Some(id) && !self.other_call_in_flight(id)
    }

    /// Whether the service shows what is live: the key may read the deployment status, and what that names can be
    /// found in the list.
    #[must_use]
    pub fn live_is_observable(&self) -> bool {
        let ServiceView::Available { inventory, deployment_status: Some(deployment_status), .. } =
            &self.service
        else {
            return false;
        };
        deployment_status.get(self.environment()).is_none_or(|deployed| {
            deployed.resolve(inventory).is_some() || named_by(deployed, inventory) == NamedBy::NoListedVersion
        })
    }

    /// The owner id of the other installation to which the live version belongs, by its marker.
    pub(super) fn live_owner(&self) -> Option<String> {
        if !self.live_is_observable() {
            return None;
        }
        let live = self.live()?;
        let namespace = self.object.metadata.namespace.as_deref().unwrap_or_default();
        match marker_owner(self.listed(&live)?, &self.config.owner_id, namespace, "") {
            MarkerOwner::OtherOwner(owner) => Some(owner),
            _ => None,
        }
    }

    /// The deployment status says that nothing runs.
    pub(super) fn nothing_is_live(&self) -> bool {
        let ServiceView::Available { deployment_status: Some(deployment_status), .. } = &self.service else {
            return false;
        };
        deployment_status.get(self.environment()).is_none()
    }

    /// Id of the version that runs: from the deployment status, else from what the list shows of our own call, else
    /// as last confirmed. `None`: nothing runs, or nothing that has a name.
    #[must_use]
    pub fn live(&self) -> Option<String> {
        let ServiceView::Available { inventory, deployment_status, .. } = &self.service else {
            return self.status().active.as_ref().map(|active| active.version_id.clone());
        };
        let Some(deployment_status) = deployment_status else {
            return self.live_by_list(inventory);
        };
        let deployed = deployment_status.get(self.environment())?;
        if let Some(version) = deployed.resolve(inventory) {
            return Some(version.id.as_str().to_owned());
        }
        match named_by(deployed, inventory) {
            // another version runs, whatever deploy times suggest: one that a cut list hides, or none that has a name
            NamedBy::NoListedVersion => {
                self.live_by_recorded_number(deployed).filter(|id| inventory.version(id).is_none())
            }
            NamedBy::SeveralVersions => self
                .live_by_list(inventory)
                .filter(|id| inventory.version(id).is_some_and(|version| version.number == deployed.number)),
            NamedBy::Nothing => {
                self.live_by_recorded_number(deployed).or_else(|| self.live_by_list(inventory))
            }
        }
    }

    /// The list may show no numbers, or not the version; then the number that status has recorded for it decides.
    fn live_by_recorded_number(&self, deployed: &LiveVersion) -> Option<String> {
        let number = deployed.number.as_deref()?;
        let status = self.status();
        let target = status.target.as_ref().map(|target| (&target.version_id, &target.version_number));
        let active = status.active.as_ref().map(|active| (&active.version_id, &active.version_number));
        let history = status.history.iter().map(|entry| (&entry.version_id, &entry.version_number));
        let mut recorded = target.into_iter().chain(active).chain(history);
        recorded.find(|(_, recorded)| recorded.as_deref() == Some(number)).map(|(id, _)| id.clone())
    }

    fn live_by_list(&self, inventory: &Inventory) -> Option<String> {
        let status = self.status();
        match &status.current_operation {
            Some(operation) if self.took_effect(operation, inventory) => Some(operation.version_id.clone()),
            // since a version was last confirmed another call may have taken effect
            Some(_) => None,
            None => status.active.as_ref().map(|active| active.version_id.clone()),
        }
    }

    /// Whether the list proves that our call took effect.
    fn took_effect(&self, operation: &CurrentOperation, inventory: &Inventory) -> bool {
        let Some(called_at) = &operation.call_time else {
            return false;
        };
        if inventory.has_deploy_times() {
            // after a call without a usable answer, the time may have moved for another environment's deploy
            let ours = operation.result == Some(OperationResult::Accepted)
                || !self.in_use_elsewhere.contains(&operation.version_id);
            let before = operation.previous_deploy_time.as_ref().map_or(0, |time| time.0.as_microsecond());
            let deployed = inventory.version(&operation.version_id).and_then(|version| version.deployed);
            // `!=`, not later: the service's clock may be put back, so only a change of its own value counts
            return ours && deployed.is_some_and(|at| at.as_microsecond() != before);
        }
        // the service shows nothing of deployments: an accepted deploy is the last that can be known
        operation.operation == Operation::Deploy
            && operation.result == Some(OperationResult::Accepted)
            && elapsed(called_at, self.now) > self.config.visibility_grace
    }

    /// The desired version runs, but a call for another one, which the spec named meanwhile, may still replace it.
    pub(super) fn other_call_in_flight(&self, desired: &str) -> bool {
        let in_flight = self.status().current_operation.as_ref().is_some_and(|operation| {
            operation.version_id != desired
                // without a record of the call, only the process that may still send it knows that it did not
                && (operation.call_time.is_some() || !self.may_call)
                && operation.result != Some(OperationResult::Refused)
                // from the intent, because the call may be on its way before it is recorded; and only until the
                // deadline, so that an answer that never comes holds up nothing, nor a clock that went back
                && elapsed(&operation.start_time, self.now) <= self.progress_deadline()
                && !is_in_future(&operation.start_time, self.now)
        });
        in_flight && self.live_is_observable() && self.live().as_deref() == Some(desired)
    }
}

/// What the number in the deployment status names where it is not exactly one version.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NamedBy {
    /// One of several listed versions with this number: it decides between none of them.
    SeveralVersions,
    /// A version that is not listed.
    NoListedVersion,
    /// There is no number to compare, here or in the list.
    Nothing,
}

fn named_by(deployed: &LiveVersion, inventory: &Inventory) -> NamedBy {
    let Some(number) = deployed.number.as_deref().filter(|_| inventory.has_version_numbers()) else {
        return NamedBy::Nothing;
    };
    let is_listed = inventory.by_number(number).next().is_some();
    if is_listed { NamedBy::SeveralVersions } else { NamedBy::NoListedVersion }
}

/// Versions that may become live though no operation is current: a call for them was not rejected within the last
/// `progressDeadline`, and they have not been live since. The target may have changed before the service had finished.
pub fn possibly_live<'a>(
    deployment: &'a ChatbotDeployment,
    now: Timestamp,
    config: &PlanConfig,
) -> impl Iterator<Item = &'a str> {
    let longest = deployment.spec.progress_deadline().max(config.visibility_grace);
    let status = deployment.status.as_ref();
    let records =
        status.into_iter().flat_map(|status| status.common.last_operations.iter().map(move |r| (status, r)));
    records.filter_map(move |(status, record)| {
        let id = record.version_id.as_deref()?;
        // a call has one effect: what runs again after that was deployed by somebody else
        let became_live = status
            .history
            .iter()
            .any(|entry| entry.version_id == id && entry.start_time.0 >= record.completion_time.0);
        let pending = matches!(record.operation, Operation::Deploy | Operation::Rollback)
            && record.result != OperationResult::Refused
            && elapsed(&record.completion_time, now) <= longest;
        (pending && !became_live).then_some(id)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::fixtures::*, *};
    use crate::{
        chatcaptain::Version,
        plan::deployment::{Live, Rollout, RolloutMethod, Step, Wait},
    };

    #[test]
    fn version_that_a_cut_list_hides_is_live_by_its_recorded_number() {
        let ran = json!({"history": [{"versionId": "v1", "versionNumber": "1.1", "startTime": ago(9)}]});
        let cut = |live: &str| {
            Observation::test().with_status(&ran).listing([version("v2")]).running(Some(live)).live()
        };
        assert_eq!(cut("v1").as_deref(), Some("v1"));
        assert_eq!(cut("v2").as_deref(), Some("v2"));
        assert_eq!(cut("v9"), None, "another version");
    }

    fn with_active(id: &str) -> Observation {
        let active = json!({"versionId": id, "versionNumber": id.replace('v', "1."), "startTime": ago(100)});
        Observation::test().with_status(&json!({"active": active}))
    }

    #[test]
    fn deployment_status_comes_before_what_was_confirmed() {
        assert_eq!(with_active("v2").running(Some("v1")).live().as_deref(), Some("v1"));
        assert_eq!(with_active("v2").running(None).live(), None);
        assert_eq!(with_active("v2").running(Some("v9")).live(), None, "no listed version has this number");
        let numberless = ["v1", "v2"].map(|id| Version { number: None, ..version(id) });
        let incomparable = with_active("v2").listing(numberless).running(Some("v9"));
        assert_eq!(incomparable.live().as_deref(), Some("v2"), "no number shows that it is another");
        let unreadable = with_active("v2").listing([version("v1"), version("v2")]);
        assert_eq!(unreadable.live().as_deref(), Some("v2"));
    }

    #[test]
    fn version_of_another_installation_is_not_replaced() {
        let theirs = Version { description: Some("[chatcaptain.dev other/ns/b]".into()), ..version("v2") };
        let foreign = Observation::test().listing([version("v1"), theirs]).running(Some("v2"));
        assert_eq!(foreign.next_step(), Step::Wait(Wait::ForeignVersion));
        let report = foreign.report();
        assert_eq!(condition(&report, "Stalled"), Some(("True", "Conflict")));
        let called = operation("Deploy", "v1", Some(5), Some("Accepted"));
        let progressing = foreign.clone().with_status(&called);
        assert_eq!(progressing.next_step(), Step::Wait(Wait::Progressing(RolloutMethod::Deploy)));
        let recorded = Observation {
            may_call: true,
            ..foreign.clone().with_status(&operation("Deploy", "v1", None, None))
        };
        assert_eq!(recorded.next_step(), Step::Wait(Wait::ForeignVersion), "the call is not sent any more");
        let named = foreign.with_spec(&json!({"versionRef": null, "versionId": "v2"}));
        assert_eq!(named.next_step(), Step::Wait(Wait::Available), "the spec names it");
    }

    #[test]
    fn number_of_two_versions_decides_nothing() {
        let twins = || [version("v1"), Version { number: Some("1.1".into()), ..version("v2") }];
        let target = json!({"target": {"versionId": "v1", "versionNumber": "1.1", "cause": "Spec"}});
        let twin = with_active("v2").with_status(&target).listing(twins()).running(Some("v1"));
        assert_eq!(twin.live().as_deref(), Some("v2"), "as last confirmed, not the target without a call");
        assert!(!twin.live_is_observable());
        assert_eq!(twin.next_step(), Step::RecordIntent(RolloutMethod::Deploy));
        let mut called = operation("Deploy", "v1", Some(5), Some("Accepted"));
        called["currentOperation"]["previousDeployTime"] = ago(500);
        let shown = |seconds: i64| {
            let list = twins().map(|v| Version { deployed: Some(at(-seconds)), ..v });
            twin.clone().with_status(&called).listing(list).running(Some("v1")).live()
        };
        assert_eq!(shown(500), None);
        assert_eq!(shown(4).as_deref(), Some("v1"), "its deploy time has moved");
        let other = twin.listing(twins()).running(Some("v3"));
        assert_eq!(other.live(), None, "neither has this number");
    }

    #[test]
    fn recorded_number_decides_where_the_list_has_none() {
        let numberless = ["v1", "v2"].map(|id| Version { number: None, ..version(id) });
        let target = json!({"versionId": "v1", "versionNumber": "1.1", "cause": "Spec"});
        let observation = with_active("v2").with_status(&json!({"target": target})).listing(numberless);
        let observation = observation.running(Some("v1"));
        assert_eq!(observation.live().as_deref(), Some("v1"), "not what was confirmed last");
        assert!(!observation.live_is_observable());
    }

    #[test]
    fn moved_deploy_time_proves_our_call_only() {
        let called = |result| {
            let mut status = operation("Deploy", "v1", Some(5), Some(result));
            status["currentOperation"]["previousDeployTime"] = ago(500);
            Observation::test().with_status(&status)
        };
        let moved = called("Accepted").listing([deployed("v1", 4)]);
        assert_eq!(moved.live().as_deref(), Some("v1"));
        let unmoved = called("Accepted").listing([deployed("v1", 500)]);
        assert_eq!(unmoved.live(), None);
        let unknown = called("Unknown").listing([deployed("v1", 4)]);
        assert_eq!(unknown.live().as_deref(), Some("v1"));
        let in_use_elsewhere = ["v1".to_owned()].into();
        let elsewhere = Observation { in_use_elsewhere, ..unknown };
        assert_eq!(elsewhere.live(), None, "the other environment may have moved the time");
    }

    #[test]
    fn accepted_deploy_counts_after_the_grace_where_nothing_is_shown() {
        let called = |method, seconds, result| {
            let status = operation(method, "v1", Some(seconds), Some(result));
            Observation::test().with_status(&status).listing([version("v1")]).live()
        };
        assert_eq!(called("Deploy", 30, "Accepted"), None);
        assert_eq!(called("Deploy", 31, "Accepted").as_deref(), Some("v1"));
        assert_eq!(called("Deploy", 31, "Unknown"), None);
        assert_eq!(called("Rollback", 31, "Accepted"), None);
    }

    #[test]
    fn live_version_is_not_reached_while_another_call_may_replace_it() {
        let called = |seconds, result| {
            let status = operation("Deploy", "v2", Some(seconds), Some(result));
            Observation::test().with_status(&status).running(Some("v1")).state()
        };
        let in_flight = called(10, "Accepted");
        assert_eq!(in_flight.live, Live::Other);
        assert_eq!(in_flight.rollout, Rollout::InProgress(RolloutMethod::Deploy));
        assert_eq!(called(301, "Accepted").live, Live::Desired, "after progressDeadline it counts no more");
        assert_eq!(called(10, "Refused").live, Live::Desired);
    }

    #[test]
    fn call_that_was_not_rejected_keeps_a_version_possibly_live_until_it_was_live() {
        let lost = |operation: &str, seconds, result: &str| {
            let record = json!({
                "operation": operation, "versionId": "v2", "completionTime": ago(seconds), "result": result,
            });
            Observation::test().with_status(&json!({"lastOperations": [record]}))
        };
        let ids = |observation: &Observation| {
            let (object, config) = (&observation.object, &observation.config);
            possibly_live(object, observation.now, config).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(ids(&lost("Deploy", 10, "Unknown")), ["v2"]);
        assert_eq!(ids(&lost("Rollback", 300, "Accepted")), ["v2"], "another target has taken its place");
        let became = |id: &str| json!({"history": [{"versionId": id, "startTime": ago(5)}]});
        assert_eq!(ids(&lost("Deploy", 10, "Unknown").with_status(&became("v1"))), ["v2"]);
        let became_live = became("v2");
        for observation in [
            lost("Deploy", 301, "Unknown"),
            lost("Deploy", 10, "Refused"),
            lost("Delete", 10, "Unknown"),
            lost("Deploy", 10, "Unknown").with_status(&became_live),
        ] {
            assert!(ids(&observation).is_empty(), "{:?}", observation.status());
        }
    }

    #[test]
    fn what_runs_is_observable_where_numbers_can_be_compared() {
        assert!(Observation::test().running(Some("v9")).live_is_observable(), "it is none of the listed");
        let numberless = Observation::test().listing([Version { number: None, ..version("v1") }]);
        assert!(!numberless.running(Some("v1")).live_is_observable());
    }

    #[test]
    fn call_with_an_intent_may_be_in_flight_unless_this_process_still_has_to_send_it() {
        let pending =
            Observation::test().with_status(&operation("Deploy", "v2", None, None)).running(Some("v1"));
        assert_eq!(pending.state().live, Live::Other);
        let ours = Observation { may_call: true, ..pending };
        assert_eq!(ours.state().live, Live::Desired);
    }
}
