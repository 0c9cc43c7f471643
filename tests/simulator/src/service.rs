//! The service behind the API: takes one call through admission, faults and the operation itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::admission::Buckets;
use crate::answers::{Refusal, Reply};
use crate::faults;
use crate::model::{Bot, Moment};
use crate::record::{CallEntry, CallNumber, Operation, Record};
use crate::settings::{Settings, UnknownChatbots};
use crate::state::ChatbotState;

/// One call to the API.
#[derive(Debug, Clone)]
pub struct Call {
    pub operation: Operation,
    pub chatbot: String,
    pub version: Option<String>,
    pub key: String,
    pub body: Bytes,
}

/// The service, shared by the server and whoever looks inside.
#[derive(Debug)]
pub struct Service {
    world: Mutex<World>,
}

/// Everything that changes, behind one lock that is never held across a wait.
#[derive(Debug)]
pub struct World {
    pub settings: Settings,
    initial: Settings,
    pub bots: Bots,
    pub record: Record,
    pub rng: StdRng,
    pub buckets: Buckets,
    // counts resets, so that an effect from before one does not happen after it
    era: u64,
}

/// The chatbots by id and account.
#[derive(Debug, Default)]
pub struct Bots(BTreeMap<(String, String), Bot>);

impl Service {
    pub fn new(settings: Settings) -> Arc<Self> {
        let mut world = World {
            rng: StdRng::seed_from_u64(settings.seed),
            settings: Settings::default(),
            initial: settings.clone(),
            bots: Bots::default(),
            record: Record::default(),
            buckets: Buckets::default(),
            era: 0,
        };
        world.apply(settings);
        Arc::new(Self { world: Mutex::new(world) })
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a call, after whatever waiting the settings ask for.
    pub async fn answer(self: &Arc<Self>, call: Call) -> Reply {
        let latency = {
            let mut world = self.world();
            world.record.arrived(call.operation, &call.chatbot);
            world.settings.latency_ms
        };
        let (reply, hold) = if latency == 0 {
            self.decide(&call)
        } else {
            // a task of its own: a client that gives up does not stop the service
            let service = Arc::clone(self);
            let decided = tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(latency)).await;
                service.decide(&call)
            });
            decided.await.unwrap_or((Reply::Cut, Duration::ZERO))
        };
        if !hold.is_zero() {
            tokio::time::sleep(hold).await;
        }
        reply
    }

    // The reply, and how long it is held back.
    fn decide(self: &Arc<Self>, call: &Call) -> (Reply, Duration) {
        let mut world = self.world();
        let now = Moment::now();
        let account = match world.admit(call, now) {
            Ok(account) => account,
            Err(answer) => {
                let reply = Reply::Answer(answer);
                world.keep(call, &reply, false, now);
                return (reply, Duration::ZERO);
            }
        };
        let fault = world.draw_fault(call.operation, &call.chatbot);
        let kind = fault.as_ref().map(|fault| fault.kind);
        let hold = fault.as_ref().filter(|fault| fault.kind.hangs()).map_or(0, |fault| fault.hang_ms);
        let hold = Duration::from_millis(hold);
        let before = |kind| faults::before(kind, &world.settings, call.operation);
        if let Some(reply) = kind.and_then(before) {
            let number = world.keep(call, &reply, false, now);
            if let Some(fault) = fault.filter(|fault| fault.kind.is_late()) {
                let era = world.era;
                self.perform_later(call.clone(), account, number, era, fault.late_ms);
            }
            return (reply, hold);
        }
        let (answer, took_effect) = world.perform(call, &account, now);
        let reply = match kind {
            Some(kind) => faults::after(kind, answer),
            None => Reply::Answer(answer),
        };
        world.keep(call, &reply, took_effect, now);
        (reply, hold)
    }

    fn perform_later(
        self: &Arc<Self>,
        call: Call,
        account: String,
        number: CallNumber,
        era: u64,
        late_ms: u64,
    ) {
        let service = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(late_ms)).await;
            let mut world = service.world();
            if world.era == era && world.perform(&call, &account, Moment::now()).1 {
                world.record.took_effect_late(call.operation, number);
            }
        });
    }
}

impl World {
    /// Puts settings in force.
    pub fn apply(&mut self, mut settings: Settings) {
        let throttled_for = std::mem::take(&mut settings.throttle_for_ms);
        if throttled_for > 0 {
            self.buckets.throttle_all(throttled_for, Moment::now());
        }
        if settings.seed != self.settings.seed {
            self.rng = StdRng::seed_from_u64(settings.seed);
        }
        if settings.throttle != self.settings.throttle {
            self.buckets.refill();
        }
        self.settings = settings;
        // versions may look different now
        for version in self.bots.0.values_mut().flat_map(Bot::versions_mut) {
            version.shown = None;
        }
    }

    /// Forgets everything; the settings go back to those of the start unless they are kept.
    pub fn reset(&mut self, keep_settings: bool) {
        self.bots = Bots::default();
        self.record = Record::default();
        self.buckets = Buckets::default();
        self.era += 1;
        if !keep_settings {
            self.apply(self.initial.clone());
        }
    }

    /// The truth about every chatbot.
    pub fn state(&mut self) -> Vec<ChatbotState> {
        let now = Moment::now();
        let state = |((chatbot, account), bot): (&(String, String), &mut Bot)| {
            bot.settle(now);
            ChatbotState::of(account, chatbot, bot)
        };
        self.bots.0.iter_mut().map(state).collect()
    }

    fn keep(&mut self, call: &Call, reply: &Reply, took_effect: bool, now: Moment) -> CallNumber {
        let shown_from = call.key.char_indices().nth_back(3).map_or(0, |(at, _)| at);
        self.record.answered(CallEntry {
            at: now.text(),
            operation: call.operation,
            chatbot: call.chatbot.clone(),
            version: call.version.clone(),
            key: call.key[shown_from..].to_owned(),
            status: match reply {
                Reply::Answer(answer) => answer.status.to_string(),
                Reply::Cut => "cut".to_owned(),
            },
            took_effect,
        })
    }
}

impl Bots {
    /// The chatbot, with everything that has become live since the last look.
    pub fn open(
        &mut self,
        settings: &Settings,
        account: &str,
        chatbot: &str,
        now: Moment,
    ) -> Result<&mut Bot, Refusal> {
        let key = (chatbot.to_owned(), account.to_owned());
        let refuses = settings.unknown_chatbots == UnknownChatbots::Refuse;
        if refuses && !self.0.contains_key(&key) && !settings.chatbots.contains(&key.0) {
            return Err(Refusal::Refused(404, "Chatbot not found".to_owned()));
        }
        let bot = self.0.entry(key).or_default();
        bot.settle(now);
        Ok(bot)
    }

    /// The account that has this chatbot.
    pub fn account_of(&self, chatbot: &str) -> Option<&str> {
        let first = (chatbot.to_owned(), String::new());
        let (key, _) = self.0.range(first..).next()?;
        (key.0 == chatbot).then_some(key.1.as_str())
    }
}
