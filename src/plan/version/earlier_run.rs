//! An object that comes back: its name is in the history of a `ChatbotDeployment`, so it had a version that ran.
//!
//! Applied again, the object must not take another snapshot under that name. The version of the history becomes its own,
//! listed or not: one that is gone is then reported as lost, like any other.

use super::Observation;
use crate::crd::{HistoryEntry, LiveEnvironment};

/// A version that ran and belonged to an object of this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EarlierRun<'a> {
    pub version_id: &'a str,
    pub environment: LiveEnvironment,
}

impl Observation {
    /// The version that ran last and belonged to an object of this name, in this namespace and of this chatbot.
    pub(super) fn earlier_run(&self) -> Option<EarlierRun<'_>> {
        let (meta, chatbot) = (&self.object.metadata, &self.object.spec.chatbot_id);
        let of_this_name = |entry: &&HistoryEntry| entry.version_name == meta.name && meta.name.is_some();
        let beside = self
            .deployments
            .iter()
            .filter(|d| d.metadata.namespace == meta.namespace && d.spec.chatbot_id == *chatbot);
        let runs = beside.flat_map(|deployment| {
            let history = deployment.status.iter().flat_map(|status| &status.history).filter(of_this_name);
            history.map(|entry| (entry, deployment.spec.environment))
        });
        let (entry, environment) = runs.max_by_key(|(entry, _)| entry.start_time.0)?;
        Some(EarlierRun { version_id: &entry.version_id, environment })
    }

    /// The same, for an object that has neither a version nor a create of its own yet.
    pub(super) fn reclaimable(&self) -> Option<EarlierRun<'_>> {
        let status = self.status();
        let is_new = status.version_id.is_none()
            && status.pending_create.is_none()
            // its `recreate` was recorded, and the request was rejected: the user has decided
            && status.last_handled_recreate.is_none();
        self.earlier_run().filter(|_| is_new)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn entry(id: &str, name: &str, second: u8) -> Value {
        json!({"versionId": id, "versionName": name, "startTime": format!("2026-01-01T00:00:0{second}Z")})
    }

    fn reclaimable(observation: &Observation) -> Option<&str> {
        observation.reclaimable().map(|run| run.version_id)
    }

    #[test]
    fn the_newest_run_of_the_name_counts() {
        let history = [entry("v3", "other", 3), entry("v2", "support", 2), entry("v1", "support", 1)];
        let ran = Observation::test().managed_by(&json!({"history": history}));
        assert_eq!(reclaimable(&ran), Some("v2"));
        assert_eq!(ran.earlier_run().map(|run| run.environment), Some(LiveEnvironment::Test));
        let nameless = json!({"history": [{"versionId": "v1", "startTime": "2026-01-01T00:00:00Z"}]});
        assert_eq!(reclaimable(&Observation::test().managed_by(&nameless)), None);
    }

    #[test]
    fn only_deployments_beside_the_object_and_of_its_chatbot_count() {
        let ran = Observation::test().managed_by(&json!({"history": [entry("v1", "support", 1)]}));
        assert_eq!(reclaimable(&ran), Some("v1"));
        assert_eq!(reclaimable(&ran.clone().with(|o| o.spec.chatbot_id = "other".to_owned())), None);
        let elsewhere = ran.with(|o| o.metadata.namespace = Some("elsewhere".to_owned()));
        assert_eq!(reclaimable(&elsewhere), None);
    }

    #[test]
    fn an_object_with_a_create_of_its_own_takes_nothing_from_the_history() {
        let ran = || Observation::test().managed_by(&json!({"history": [entry("v1", "support", 1)]}));
        assert_eq!(reclaimable(&ran().recorded("v2")), None);
        assert_eq!(reclaimable(&ran().may_create()), None);
        let rejected = ran().with_status(|status| status.last_handled_recreate = Some("1".to_owned()));
        assert_eq!(reclaimable(&rejected), None, "its create was rejected");
    }
}
