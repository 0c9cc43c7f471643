//! Somebody acts in the vendor's user interface, past the API and its keys.

use std::error::Error;
use std::fmt;

use crate::answers::Refusal;
use crate::model::{Environment, Moment};
use crate::record::{Actor, LogEntry, Operation};
use crate::service::World;

/// Why something could not be done by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandError {
    /// The HTTP status that says so.
    pub status: u16,
    /// One line.
    pub message: String,
}

impl fmt::Display for HandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for HandError {}

impl From<Refusal> for HandError {
    fn from(refusal: Refusal) -> Self {
        let (status, message) = match refusal {
            Refusal::Invalid(messages) => (400, messages.join("; ")),
            Refusal::Http(status, message) | Refusal::Refused(status, message) => (status, message),
            Refusal::UnknownVersion => (404, "Version not found".to_owned()),
        };
        Self { status, message }
    }
}

impl World {
    pub fn hand_create(
        &mut self,
        chatbot: &str,
        name: &str,
        description: Option<&str>,
    ) -> Result<LogEntry, HandError> {
        if name.is_empty() {
            return Err(Refusal::Refused(400, "name should not be empty".to_owned()).into());
        }
        let now = Moment::now();
        let account = self.account_by_hand(chatbot);
        let (name, description) = (name.to_owned(), description.map(str::to_owned));
        let mut entry = self.add((&account, chatbot), name, description, None, now)?;
        entry.by = Actor::Hand;
        Ok(self.record.log(entry, now))
    }

    /// Deploys the version with this id, or else the newest one with this name.
    pub fn hand_deploy(
        &mut self,
        chatbot: &str,
        version: &str,
        environment: Environment,
    ) -> Result<LogEntry, HandError> {
        if environment == Environment::Dev {
            return Err(Refusal::Refused(400, "nothing is deployed to dev".to_owned()).into());
        }
        let now = Moment::now();
        let account = self.account_by_hand(chatbot);
        let bot = self.bots.open(&self.settings, &account, chatbot, now)?;
        let found = bot.find(version).or_else(|| bot.named(version));
        let id = found.ok_or(Refusal::UnknownVersion)?.id.clone();
        let place = (account.as_str(), chatbot, id.as_str());
        let (_, entry) = self.roll_out(Operation::Deploy, place, environment, Actor::Hand, now)?;
        Ok(entry)
    }

    pub fn hand_delete(&mut self, chatbot: &str, version: &str) -> Result<LogEntry, HandError> {
        let now = Moment::now();
        let account = self.account_by_hand(chatbot);
        self.delete((&account, chatbot, version), Actor::Hand, now)?;
        self.record.log.last().cloned().ok_or(Refusal::UnknownVersion.into())
    }

    // The account that has the chatbot; for a new chatbot the first account there is.
    fn account_by_hand(&self, chatbot: &str) -> String {
        if let Some(account) = self.bots.account_of(chatbot) {
            return account.to_owned();
        }
        let first = self.settings.keys.iter().flatten().next();
        first.map_or_else(|| crate::admission::DEFAULT_ACCOUNT.to_owned(), |(_, key)| key.account.clone())
    }
}
