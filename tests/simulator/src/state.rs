//! What the simulator tells about its chatbots from behind the API: the truth, unfiltered.

use serde::{Deserialize, Serialize};

use crate::model::{Bot, Deployed, Environment, Moment, Stage, Version};

/// A chatbot of one account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChatbotState {
    /// The account it belongs to.
    pub account: String,
    /// Its id.
    pub chatbot: String,
    /// Its versions, oldest first, listed by the API or not yet.
    pub versions: Vec<VersionState>,
    /// The test environment.
    pub test: EnvironmentState,
    /// Production.
    pub prod: EnvironmentState,
}

impl ChatbotState {
    /// The id of the version that is live in an environment.
    #[must_use]
    pub fn live(&self, environment: Environment) -> Option<&str> {
        let stage = match environment {
            Environment::Dev => return None,
            Environment::Test => &self.test,
            Environment::Prod => &self.prod,
        };
        stage.live.as_ref().map(|live| live.version.as_str())
    }

    pub(crate) fn of(account: &str, chatbot: &str, bot: &Bot) -> Self {
        Self {
            account: account.to_owned(),
            chatbot: chatbot.to_owned(),
            versions: bot.versions().map(VersionState::of).collect(),
            test: EnvironmentState::of(bot.stage(Environment::Test)),
            prod: EnvironmentState::of(bot.stage(Environment::Prod)),
        }
    }
}

/// A version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionState {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its description, as it was sent.
    pub description: Option<String>,
    /// Its version number.
    pub version_number: String,
    /// When it was created, RFC 3339.
    pub created: String,
    /// When it last became live, RFC 3339.
    pub deployed: Option<String>,
}

impl VersionState {
    fn of(version: &Version) -> Self {
        Self {
            id: version.id.clone(),
            name: version.name.clone(),
            description: version.description.clone(),
            version_number: version.number.clone(),
            created: version.created.text(),
            deployed: version.deployed.map(Moment::text),
        }
    }
}

/// An environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentState {
    /// What is live.
    pub live: Option<RolloutState>,
    /// What was accepted and is not live, or never will be.
    pub pending: Option<RolloutState>,
}

impl EnvironmentState {
    fn of(stage: Option<&Stage>) -> Self {
        let Some(stage) = stage else {
            return Self::default();
        };
        Self {
            live: stage.live.as_ref().map(RolloutState::of),
            pending: stage.pending.as_ref().map(|p| RolloutState::of(&p.what)),
        }
    }
}

/// A version in an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutState {
    /// The id of the deployment.
    pub deployment: String,
    /// The id of the version.
    pub version: String,
    /// The number of the version.
    pub version_number: String,
}

impl RolloutState {
    fn of(deployed: &Deployed) -> Self {
        Self {
            deployment: deployed.deployment.clone(),
            version: deployed.version.clone(),
            version_number: deployed.number.clone(),
        }
    }
}
