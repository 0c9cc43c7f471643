//! Whether the recorded version is live, and who deletes it then.
//!
//! A live version is never deleted. Where the key may not read the deployment status, the deployments of this chatbot and the
//! deploy times in the list decide.

use std::{sync::Arc, time::Duration};

use super::{LiveState, Observation};
use crate::{
    chatcaptain::LiveVersion,
    crd::{
        ChatbotDeployment, ChatbotDeploymentStatus, ConditionType, Environment, LiveEnvironment, Operation,
        OperationRecord, OperationResult, Reason,
    },
    plan::{
        ServiceView,
        claims::{self, VersionNames, full_name},
        deploy_times::is_replaced_everywhere,
        elapsed,
    },
};

/// How long a version that was created for an environment may take to become live there.
// as long as a rollout that this process remembers: a slow service takes minutes, and a mistake here deletes what runs
const CREATE_ROLLOUT_TIME: Duration = Duration::from_mins(5);

impl Observation {
    pub(super) fn live_state(&self) -> LiveState {
        match self.current_live_state() {
            // with an event, in place of a wait without an end
            LiveState::HandoverPending | LiveState::RolloutPending if self.has_waited_to_the_end() => {
                LiveState::Unmanaged
            }
            state => state,
        }
    }

    fn current_live_state(&self) -> LiveState {
        let Some(id) = self.object.version_id() else {
            return LiveState::NotLive;
        };
        // whatever is live: the deployment that has recorded the deletion carries it out, or reports what it leaves behind
        if self.handed_over_to().is_some() {
            return LiveState::HandedOver;
        }
        let live_in = self.live_in();
        let environments = self.environments_using(id, live_in.as_deref());
        match &self.service {
            // before what else is pending: a deployment that uses the version can take its deletion over
            _ if !environments.is_empty() => self.handover_state(&environments),
            // the deployment object may be deleted by now, but its call makes the version live in a moment
            ServiceView::Available { rollout_pending: true, .. } => LiveState::RolloutPending,
            _ if self.create_may_deploy() => LiveState::RolloutPending,
            _ if live_in.is_some() || self.is_not_deployed() => LiveState::NotLive,
            _ => LiveState::Unknown,
        }
    }

    /// Whether our create, which also deploys, may make the version live in a moment. By the status: a process that was
    /// started since then does not know of the call.
    fn create_may_deploy(&self) -> bool {
        let Some(environment) = self.object.spec.environment.and_then(Environment::deploys_to) else {
            return false;
        };
        let owner = self.environment_owners.get(&environment);
        let owned_since = owner.and_then(|owner| owner.metadata.creation_timestamp.as_ref());
        // what was live once is not awaited any more
        let was_live = self.status().last_deploy_time.is_some()
            || !self.status().live_in.is_empty()
            || self.listed().is_some_and(|version| version.deployed.is_some());
        let may_deploy = |record: &OperationRecord| {
            record.operation == Operation::Create
                && record.result != OperationResult::Refused
                && elapsed(&record.completion_time, self.now) <= CREATE_ROLLOUT_TIME
                // for an environment that a deployment managed by then, the version was created for none
                && owned_since.is_none_or(|since| since.0 > record.completion_time.0)
        };
        !was_live && self.status().common.last_operations.iter().any(may_deploy)
    }

    /// Whether a deletion that was to be handed over, or a rollout, was waited for until `--deletion-timeout`.
    fn has_waited_to_the_end(&self) -> bool {
        let conditions = &self.status().common.conditions;
        let waiting = conditions.iter().find(|condition| {
            condition.type_ == ConditionType::Reconciling.as_str()
                && condition.reason == Reason::Deleting.as_str()
        });
        // also where no operator ran for that long: the deployment had no time to take it over then
        let waited = waiting.map(|condition| elapsed(&condition.last_transition_time, self.now));
        self.is_deletion_timed_out() && waited.is_some_and(|waited| waited > self.config.visibility_grace)
    }

    /// The environments that run the recorded version, as the service shows it; `None` if that cannot be read.
    pub(super) fn live_in(&self) -> Option<Vec<LiveEnvironment>> {
        let ServiceView::Available { inventory, deployment_status: Some(deployment_status), .. } =
            &self.service
        else {
            return None;
        };
        let id = self.object.version_id()?;
        let mut live_in = Vec::new();
        for environment in LiveEnvironment::ALL {
            let Some(deployed) = deployment_status.get(environment.as_str()) else {
                continue;
            };
            match deployed.resolve(inventory) {
                Some(version) if version.id.as_str() == id => live_in.push(environment),
                Some(_) => {}
                None if self.is_known_as_other(environment, deployed, id) => {}
                // what runs has no name in the list: it may be this version
                None => return None,
            }
        }
        Some(live_in)
    }

    /// A list that is cut does not show what runs, but the environment's deployment has recorded it: another version.
    fn is_known_as_other(&self, environment: LiveEnvironment, deployed: &LiveVersion, id: &str) -> bool {
        let owner = self.environment_owners.get(&environment).and_then(|owner| owner.status.as_ref());
        owner.and_then(|status| status.active.as_ref()).is_some_and(|active| {
            active.version_id != id
                && deployed.number.is_some()
                && deployed.number.as_deref() == active.version_number.as_deref()
        })
    }

    /// The environments that run the version, as the service shows, and those whose deployment uses it.
    fn environments_using(&self, id: &str, live_in: Option<&[LiveEnvironment]>) -> Vec<LiveEnvironment> {
        let is_used = |environment: &LiveEnvironment| {
            let owner = self.environment_owners.get(environment);
            let meta = &self.object.metadata;
            let version = VersionNames {
                id,
                namespace: meta.namespace.as_deref(),
                name: meta.name.as_deref().unwrap_or_default(),
                number: self.status().version_number.as_deref(),
                held_now: Some(id),
            };
            owner.is_some_and(|owner| {
                claims::in_use(owner, self.now, &self.config).contains(id) || claims::names(owner, &version)
            })
        };
        let is_shown =
            |environment: &LiveEnvironment| live_in.is_some_and(|live_in| live_in.contains(environment));
        LiveEnvironment::ALL.into_iter().filter(|e| is_shown(e) || is_used(e)).collect()
    }

    /// The deployment that has recorded the deletion, as `namespace/name`; also one that is being deleted itself.
    pub(super) fn handed_over_to(&self) -> Option<String> {
        let id = self.object.version_id()?;
        let is_recorded = |deployment: &&Arc<ChatbotDeployment>| {
            let mut entries = deployment.status.iter().flat_map(|status| &status.pending_deletions);
            entries.any(|entry| entry.version_id == id)
        };
        self.deployments.iter().find(is_recorded).map(|deployment| full_name(&deployment.metadata))
    }

    /// The deployments that may take the deletion over, as `namespace/name`.
    pub(super) fn handover_candidates(&self) -> Vec<String> {
        let id = self.object.version_id().unwrap_or_default();
        let environments = self.environments_using(id, self.live_in().as_deref());
        let owners = environments.iter().filter_map(|environment| self.environment_owners.get(environment));
        owners.map(|owner| full_name(&owner.metadata)).collect()
    }

    /// Whether the deployments that manage these environments can take over the deletion.
    fn handover_state(&self, environments: &[LiveEnvironment]) -> LiveState {
        let owners = environments.iter().map(|environment| self.environment_owners.get(environment));
        // one environment without a deployment is enough: no reconcile would learn when the version leaves that one
        let Some(owners) = owners.collect::<Option<Vec<_>>>() else {
            return LiveState::Unmanaged;
        };
        // a full list takes no more, and a finalizer must not wait for room that may never come
        let is_full = |owner: &&Arc<ChatbotDeployment>| {
            let entries = owner.status.as_ref().map_or(0, |status| status.pending_deletions.len());
            entries >= ChatbotDeploymentStatus::MAX_PENDING_DELETIONS
        };
        if owners.iter().all(is_full) { LiveState::Unmanaged } else { LiveState::HandoverPending }
    }

    /// Where the deployment status cannot be read: whether the list proves that no environment runs the version.
    fn is_not_deployed(&self) -> bool {
        let (ServiceView::Available { inventory, .. }, Some(version)) = (&self.service, self.listed()) else {
            return false;
        };
        let owners = LiveEnvironment::ALL
            .map(|environment| self.environment_owners.get(&environment).map(AsRef::as_ref));
        is_replaced_everywhere(inventory, version, &owners)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixtures::{OURS, seconds_ago, version};
    use super::*;
    use crate::chatcaptain::Version;

    /// The recorded version, listed as number 1.1.
    fn recorded() -> Observation {
        Observation::test().recorded("v1").listing(vec![version("v1", OURS), version("v2", "")])
    }

    fn pending_deletions(ids: &[String]) -> serde_json::Value {
        let entries = ids
            .iter()
            .map(|id| json!({"versionId": id, "name": "support", "requestTime": "2026-01-01T00:00:00Z"}));
        json!({"pendingDeletions": entries.collect::<Vec<_>>()})
    }

    #[test]
    fn the_service_shows_what_is_live() {
        assert_eq!(recorded().live_state(), LiveState::NotLive);
        assert_eq!(recorded().running("1.2").live_state(), LiveState::NotLive);
        assert_eq!(recorded().running("1.1").live_state(), LiveState::Unmanaged);
        // what runs is in no list, so it may be this version
        assert_eq!(recorded().running("7.7").live_state(), LiveState::Unknown);
    }

    #[test]
    fn a_version_that_a_cut_list_hides_is_known_by_the_deployment_that_runs_it() {
        let runs = |id: &str| json!({"active": {"versionId": id, "versionNumber": "7.7", "startTime": "2026-01-01T00:00:00Z"}});
        let live = |id: &str, number: &str| recorded().running(number).managed_by(&runs(id)).live_in();
        assert_eq!(live("v7", "7.7"), Some(vec![]));
        assert_eq!(live("v7", "8.8"), None, "somebody has deployed another one");
        assert_eq!(live("v1", "7.7"), None);
    }

    #[test]
    fn the_deployment_that_runs_the_version_takes_its_deletion_over() {
        let live =
            |ids: &[String]| recorded().running("1.1").managed_by(&pending_deletions(ids)).live_state();
        assert_eq!(live(&[]), LiveState::HandoverPending);
        assert_eq!(live(&["v1".to_owned()]), LiveState::HandedOver);
        let full: Vec<String> =
            (0..ChatbotDeploymentStatus::MAX_PENDING_DELETIONS).map(|n| format!("x{n}")).collect();
        assert_eq!(live(&full), LiveState::Unmanaged);
    }

    #[test]
    fn a_deployment_that_is_being_deleted_has_taken_over_what_it_has_recorded() {
        let mut handed_over = recorded().running("1.1").managed_by(&pending_deletions(&["v1".to_owned()]));
        handed_over.environment_owners.clear();
        assert_eq!(handed_over.live_state(), LiveState::HandedOver);
        assert_eq!(handed_over.handed_over_to().as_deref(), Some("chatbots/support-test"));
    }

    #[test]
    fn a_version_that_is_being_rolled_out_is_about_to_be_live() {
        let operation = json!({"currentOperation": {
            "operation": "Deploy", "versionId": "v1", "startTime": "2026-01-01T00:00:00Z",
        }});
        assert_eq!(recorded().managed_by(&operation).live_state(), LiveState::HandoverPending);
    }

    #[test]
    fn without_the_deployment_status_the_deployments_show_what_is_live() {
        let unreadable = || recorded().without_deployment_status();
        assert_eq!(unreadable().live_state(), LiveState::Unknown);
        let active = json!({"active": {"versionId": "v1", "startTime": "2026-01-01T00:00:00Z"}});
        assert_eq!(unreadable().managed_by(&active).live_state(), LiveState::HandoverPending);
    }

    #[test]
    fn a_version_stays_in_use_until_its_deployment_has_moved_on() {
        for status in [
            json!({"active": {"versionId": "v1", "startTime": "2026-01-01T00:00:00Z"}}),
            json!({"target": {"versionId": "v1", "cause": "RollbackCommand"}}),
        ] {
            assert_eq!(recorded().managed_by(&status).live_state(), LiveState::HandoverPending, "{status}");
        }
    }

    #[test]
    fn a_rollout_that_emptied_the_environment_keeps_the_way_back() {
        let ran = json!([{"versionId": "v1", "startTime": "2026-01-01T00:00:00Z"}]);
        let emptied = json!({"target": {"versionId": "v2", "cause": "Spec"}, "history": ran});
        assert_eq!(recorded().managed_by(&emptied).live_state(), LiveState::HandoverPending);
        let active = json!({"versionId": "v2", "startTime": "2026-01-01T00:00:00Z"});
        let arrived =
            json!({"target": {"versionId": "v2", "cause": "Spec"}, "history": ran, "active": active});
        assert_eq!(recorded().managed_by(&arrived).live_state(), LiveState::NotLive);
    }

    #[test]
    fn a_version_without_a_deploy_time_was_never_live() {
        let mut deployed = version("v2", "");
        deployed.deployed = Some(super::super::fixtures::seconds_ago(60).0);
        let never = recorded().listing(vec![version("v1", OURS), deployed]).without_deployment_status();
        assert_eq!(never.live_state(), LiveState::NotLive);
    }

    #[test]
    fn a_version_that_may_become_live_in_a_moment_is_not_deleted() {
        let mut pending = recorded();
        if let ServiceView::Available { rollout_pending, .. } = &mut pending.service {
            *rollout_pending = true;
        }
        assert_eq!(pending.live_state(), LiveState::RolloutPending);
        let lost = |id: &str| {
            let record = json!({
                "operation": "Deploy", "versionId": id, "result": "Unknown",
                "completionTime": super::super::fixtures::seconds_ago(5),
            });
            recorded().managed_by(&json!({"lastOperations": [record]})).live_state()
        };
        assert_eq!(lost("v1"), LiveState::HandoverPending);
        assert_eq!(lost("v2"), LiveState::NotLive);
    }

    #[test]
    fn a_version_that_was_created_for_an_environment_is_about_to_be_live() {
        let created = |seconds| {
            let recorded = recorded().after(Operation::Create, Some("v1"), seconds);
            recorded.with(|o| o.spec.environment = Some(Environment::Test))
        };
        assert_eq!(created(300).live_state(), LiveState::RolloutPending);
        assert_eq!(created(301).live_state(), LiveState::NotLive);
        let refused = created(1).with_status(|status| {
            status.common.last_operations[0].result = OperationResult::Refused;
        });
        assert_eq!(refused.live_state(), LiveState::NotLive);
        assert_eq!(created(1).running("1.1").live_state(), LiveState::Unmanaged, "it is live now");
        let moved_on = Version { deployed: Some(seconds_ago(1).0), ..version("v1", OURS) };
        assert_eq!(created(1).listing(vec![moved_on]).live_state(), LiveState::NotLive, "it was live before");
        assert_eq!(recorded().after(Operation::Create, Some("v1"), 1).live_state(), LiveState::NotLive);
        let managed = |seconds| {
            let mut managed = created(60).managed_by(&json!({}));
            let owner = managed.environment_owners.get_mut(&LiveEnvironment::Test).unwrap();
            std::sync::Arc::make_mut(owner).metadata.creation_timestamp = Some(seconds_ago(seconds));
            managed.live_state()
        };
        assert_eq!(managed(61), LiveState::NotLive, "it was created for no environment");
        assert_eq!(managed(59), LiveState::RolloutPending);
    }

    #[test]
    fn a_hand_over_that_does_not_come_ends_with_the_timeout() {
        let live = |seconds| recorded().running("1.1").managed_by(&json!({})).deleted(seconds);
        let report = live(901).report();
        assert_eq!(report.finalizer, None, "no operator ran before: the deployment has had no time");
        let waiting = |seconds, since| {
            live(seconds).with_status(|status| {
                status.common.conditions.clone_from(&report.status.common.conditions);
                for condition in &mut status.common.conditions {
                    condition.last_transition_time = seconds_ago(since);
                }
            })
        };
        assert_eq!(waiting(900, 900).live_state(), LiveState::HandoverPending);
        assert_eq!(waiting(901, 30).live_state(), LiveState::HandoverPending);
        assert_eq!(waiting(901, 31).live_state(), LiveState::Unmanaged);
        assert_eq!(waiting(901, 31).report().event_reasons(), ["Orphaned"]);
    }
}
