//! The operations of the API on the model, by the settings.

use axum::body::Bytes;
use rand::RngExt;
use rand::distr::Alphanumeric;
use rand::rngs::StdRng;

use crate::answers::{self, Answer, Refusal};
use crate::model::{Bot, Deployed, Environment, Moment, Pending, Version};
use crate::record::{Actor, LogEntry, Operation};
use crate::requests;
use crate::service::{Call, World};
use crate::settings::{DeleteLive, DeploymentsStatus, FailedRollout, RollbackActs, Rollout, Settings};

/// An answer, and whether anything changed.
type Done = Result<(Answer, bool), Refusal>;

impl World {
    /// Does what a call asks for.
    pub fn perform(&mut self, call: &Call, account: &str, now: Moment) -> (Answer, bool) {
        let chatbot = call.chatbot.as_str();
        let version = call.version.as_deref().unwrap_or_default();
        let place = (account, chatbot, version);
        let done = match call.operation {
            Operation::List => self.list(account, chatbot, now),
            Operation::Status => self.status(account, chatbot, now),
            Operation::Create => self.create(account, chatbot, &call.body, now),
            Operation::Delete => self.delete(place, Actor::Api, now),
            Operation::Deploy => self.deploy(place, &call.body, now),
            Operation::Rollback => self.rollback(place, &call.body, now),
        };
        done.unwrap_or_else(|refusal| {
            let answer = answers::refusal(&self.settings, call.operation, refusal);
            (answer, false)
        })
    }

    fn list(&mut self, account: &str, chatbot: &str, now: Moment) -> Done {
        let bot = self.bots.open(&self.settings, account, chatbot, now)?;
        Ok((answers::list(&self.settings, bot, now), false))
    }

    fn status(&mut self, account: &str, chatbot: &str, now: Moment) -> Done {
        match self.settings.deployments_status {
            DeploymentsStatus::Allowed => {}
            DeploymentsStatus::Forbidden => {
                return Err(Refusal::Http(403, "Insufficient permissions".to_owned()));
            }
            DeploymentsStatus::Missing => {
                let path = format!("/v1/chatbots/{chatbot}/deployments/status");
                return Err(Refusal::Http(404, format!("Cannot GET {path}")));
            }
        }
        let bot = self.bots.open(&self.settings, account, chatbot, now)?;
        Ok((answers::status(&self.settings, bot), false))
    }

    fn create(&mut self, account: &str, chatbot: &str, body: &Bytes, now: Moment) -> Done {
        let request = requests::create(body, self.settings.no_deployment).map_err(Refusal::Invalid)?;
        let (name, description) = (request.name, request.description);
        let place = (account, chatbot);
        let entry = self.add(place, name, description, Some(request.environment), now)?;
        self.record.log(entry.clone(), now);
        let bot = self.bots.open(&self.settings, account, chatbot, now)?;
        let version = bot.find(&entry.version).ok_or(Refusal::UnknownVersion)?;
        let shown = answers::version(&self.settings, version);
        let oldest = bot.versions().next().map_or("", |oldest| oldest.id.as_str());
        let answer = answers::created(&self.settings, &version.id, oldest, &shown);
        Ok((answer, true))
    }

    /// Adds a version, and starts its rollout where it is for an environment.
    pub fn add(
        &mut self,
        (account, chatbot): (&str, &str),
        name: String,
        description: Option<String>,
        environment: Option<Environment>,
        now: Moment,
    ) -> Result<LogEntry, Refusal> {
        let bot = self.bots.open(&self.settings, account, chatbot, now)?;
        let id = loop {
            let id = new_id("vrs", &mut self.rng);
            if bot.find(&id).is_none() {
                break id;
            }
        };
        bot.add(id.clone(), name, description, now);
        if let Some(environment) = environment {
            let rng = &mut self.rng;
            start(&self.settings, bot, &id, environment, rng, now)?;
        }
        let version = bot.find(&id).ok_or(Refusal::UnknownVersion)?;
        Ok(entry(Operation::Create, chatbot, version, environment, Actor::Api))
    }

    /// Deletes a version, whoever asks for it.
    pub fn delete(&mut self, (account, chatbot, id): (&str, &str, &str), by: Actor, now: Moment) -> Done {
        let bot = self.bots.open(&self.settings, account, chatbot, now)?;
        if self.settings.delete_live == DeleteLive::Refused && bot.is_live(id) {
            let why = "Version is deployed and cannot be deleted";
            return Err(Refusal::Refused(409, why.to_owned()));
        }
        let version = bot.remove(id).ok_or(Refusal::UnknownVersion)?;
        let entry = entry(Operation::Delete, chatbot, &version, None, by);
        self.record.log(entry, now);
        let answer = Answer::json(200, &serde_json::json!({"deleted": true}));
        Ok((answer, true))
    }

    fn deploy(&mut self, place: (&str, &str, &str), body: &Bytes, now: Moment) -> Done {
        let environment = requests::deploy(body).map_err(Refusal::Invalid)?;
        let (deployed, _) = self.roll_out(Operation::Deploy, place, environment, Actor::Api, now)?;
        let (deployment, number) = (&deployed.deployment, &deployed.number);
        let answer = answers::deployed(&self.settings, deployment, number, environment);
        Ok((answer, true))
    }

    /// Accepts that a version becomes live, and logs it.
    pub fn roll_out(
        &mut self,
        operation: Operation,
        (account, chatbot, id): (&str, &str, &str),
        environment: Environment,
        by: Actor,
        now: Moment,
    ) -> Result<(Deployed, LogEntry), Refusal> {
        let bot = self.bots.open(&self.settings, account, chatbot, now)?;
        let rng = &mut self.rng;
        let deployed = start(&self.settings, bot, id, environment, rng, now)?;
        let version = bot.find(id).ok_or(Refusal::UnknownVersion)?;
        let entry = entry(operation, chatbot, version, Some(environment), by);
        Ok((deployed, self.record.log(entry, now)))
    }

    fn rollback(&mut self, place: (&str, &str, &str), body: &Bytes, now: Moment) -> Done {
        let (account, chatbot, id) = place;
        if !self.settings.rollback_available {
            let path = format!("/v1/chatbots/{chatbot}/versions/{id}/rollback");
            let status = self.settings.rollback_missing_status;
            return Err(Refusal::Http(status, format!("Cannot POST {path}")));
        }
        let accepted = &self.settings.rollback_body;
        let named = requests::rollback(body, accepted).map_err(Refusal::Invalid)?;
        let bot = self.bots.open(&self.settings, account, chatbot, now)?;
        let version = bot.find(id).ok_or(Refusal::UnknownVersion)?;
        let done = Answer::json(200, &serde_json::json!({"rolledBack": true}));
        if self.settings.rollback_acts == RollbackActs::WorkingCopy {
            let entry = entry(Operation::Rollback, chatbot, version, None, Actor::Api);
            self.record.log(entry, now);
            return Ok((done, true));
        }
        let targets = named.map_or_else(|| version.was_live.clone(), |named| vec![named]);
        if targets.is_empty() {
            let why = "Version was never deployed";
            return Err(Refusal::Refused(400, why.to_owned()));
        }
        for target in targets {
            self.roll_out(Operation::Rollback, place, target, Actor::Api, now)?;
        }
        Ok((done, true))
    }
}

// Starts a rollout by the settings. For dev there is nothing to start.
fn start(
    settings: &Settings,
    bot: &mut Bot,
    id: &str,
    environment: Environment,
    rng: &mut StdRng,
    now: Moment,
) -> Result<Deployed, Refusal> {
    let version = bot.find(id).ok_or(Refusal::UnknownVersion)?;
    let doomed = |failing: &String| *failing == version.name || *failing == version.id;
    let fails = settings.rollout == Rollout::Fails || settings.failing_rollouts.iter().any(doomed);
    let due = if fails { None } else { now.after_ms(settings.rollout_ms) };
    let what = Deployed {
        deployment: new_id("dpl", rng),
        version: version.id.clone(),
        number: version.number.clone(),
    };
    let pending = Pending { what: what.clone(), due };
    bot.start(environment, pending, now);
    if fails && settings.failed_rollout == FailedRollout::Emptying {
        bot.empty(environment);
    }
    Ok(what)
}

fn entry(
    operation: Operation,
    chatbot: &str,
    version: &Version,
    environment: Option<Environment>,
    by: Actor,
) -> LogEntry {
    LogEntry {
        // both are given when it is logged
        sequence: 0,
        at: String::new(),
        operation,
        chatbot: chatbot.to_owned(),
        version: version.id.clone(),
        name: version.name.clone(),
        version_number: version.number.clone(),
        environment,
        by,
    }
}

fn new_id(prefix: &str, rng: &mut StdRng) -> String {
    let random = rng.sample_iter(Alphanumeric).take(10).map(char::from);
    prefix.chars().chain(random).collect()
}
