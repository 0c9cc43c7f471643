//! Finds objects in the caches by what they claim. `plan::claims` decides whose claim wins.

use std::{collections::BTreeMap, sync::Arc};

use super::{Context, cache::IndexKey};
use crate::{
    crd::{ChatbotDeployment, ChatbotVersion, LiveEnvironment},
    plan::claims,
};

impl Context {
    /// The deployment that manages each environment of a chatbot.
    pub(super) fn environment_owners(
        &self,
        chatbot: &str,
    ) -> BTreeMap<LiveEnvironment, Arc<ChatbotDeployment>> {
        let owner = |environment| Some((environment, self.environment_owner(chatbot, environment)?));
        LiveEnvironment::ALL.into_iter().filter_map(owner).collect()
    }

    /// Every deployment of a chatbot.
    pub(super) fn deployments_of(&self, chatbot: &str) -> Vec<Arc<ChatbotDeployment>> {
        let mut found = self.deployments.find(IndexKey::chatbot(chatbot));
        // an index key is a hash: others may have it, too
        found.retain(|deployment| deployment.spec.chatbot_id == chatbot);
        found
    }

    /// The deployment that manages one environment.
    pub(super) fn environment_owner(
        &self,
        chatbot: &str,
        environment: LiveEnvironment,
    ) -> Option<Arc<ChatbotDeployment>> {
        let claimants = self.deployments.find(IndexKey::environment(chatbot, environment.as_str()));
        claims::environment_owner(claimants, chatbot, environment)
    }

    /// The objects that hold a version id.
    pub(super) fn version_holders(&self, chatbot: &str, id: &str) -> Vec<Arc<ChatbotVersion>> {
        let mut found = self.versions.find(IndexKey::version(chatbot, id));
        // an index key is a hash: others may have it, too
        found.retain(|version| claims::holds(version, chatbot, id));
        found
    }
}
