//! Finds objects in the caches by what they claim. `plan::claims` decides whose claim wins.

use std::{collections::BTreeMap, sync::Arc};

use kube::ResourceExt;

use super::{Context, cache::IndexKey};
use crate::{
    crd::{ChatbotDeployment, ChatbotVersion, LiveEnvironment},
    plan::{
        claims::{self, VersionNames},
        deployment::may_be_commanded,
    },
};

/// A version that is about to be deleted.
pub struct VersionToDelete {
    pub chatbot: String,
    pub id: String,
    /// Namespace and name of the object that it was made for.
    pub namespace: String,
    pub name: String,
    /// By which a spec may name it, where it is known.
    pub number: Option<String>,
    /// The deployment that deletes it, as the decision saw it.
    pub decided_on: Option<Arc<ChatbotDeployment>>,
}

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

    /// Whether an object needs the version: one that stays holds it or will adopt it, or the deployment of an environment uses
    /// it, names it, or has a command that may lead to it. Asked right before the delete is sent.
    pub(super) fn is_needed(&self, version: &VersionToDelete) -> bool {
        let VersionToDelete { chatbot, id, namespace, name, number, .. } = version;
        let stays = |object: &ChatbotVersion| object.metadata.deletion_timestamp.is_none();
        let now = Self::now();
        let object = self.versions.get(namespace, name);
        let names = VersionNames {
            id,
            namespace: Some(namespace),
            name,
            number: number.as_deref(),
            held_now: object.as_ref().and_then(|object| object.version_id()),
        };
        let uses = |owner: &ChatbotDeployment| {
            claims::in_use(owner, now, &self.config).contains(id.as_str())
                || claims::names(owner, &names)
                || may_be_commanded(owner, id, namespace, name)
        };
        self.version_holders(chatbot, id).iter().any(|object| stays(object))
            || object.as_ref().is_some_and(|object| claims::is_returning(object, chatbot))
            || self
                .environment_owners(chatbot)
                .into_values()
                .any(|owner| uses(self.newer_of(&owner, version.decided_on.as_ref())))
    }

    /// The cached copy of a deployment, or the one that a write of ours has replaced it by.
    fn newer_of<'a>(
        &self,
        cached: &'a Arc<ChatbotDeployment>,
        written: Option<&'a Arc<ChatbotDeployment>>,
    ) -> &'a ChatbotDeployment {
        let is_stale = |written: &&Arc<ChatbotDeployment>| {
            written.metadata.uid == cached.metadata.uid
                && self
                    .stale_reads
                    .is_stale(&cached.uid().unwrap_or_default(), cached.metadata.resource_version.as_deref())
        };
        written.filter(is_stale).unwrap_or(cached)
    }
}
