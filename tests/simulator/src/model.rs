//! What a chatbot is to the service: its versions, what is live where, and rollouts under way.
//!
//! Nothing here knows HTTP or settings. Rollouts have no timers: whoever looks at a chatbot
//! first settles what has become live since.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Where a version can be meant to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Environment {
    /// The working copy: nothing is ever deployed here.
    Dev,
    /// The test environment.
    Test,
    /// Production.
    Prod,
}

impl Environment {
    /// The environments that something can be live in.
    pub(crate) const STAGES: [Self; 2] = [Self::Test, Self::Prod];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Test => "test",
            Self::Prod => "prod",
        }
    }

    const fn index(self) -> Option<usize> {
        match self {
            Self::Dev => None,
            Self::Test => Some(0),
            Self::Prod => Some(1),
        }
    }
}

/// One reading of both clocks: the steady one decides, the wall clock is shown.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    steady: Instant,
    wall: Timestamp,
}

impl Moment {
    pub fn now() -> Self {
        Self { steady: Instant::now(), wall: Timestamp::now() }
    }

    /// So much later, or `None` beyond what clocks can show, which is as good as never.
    pub fn after_ms(self, ms: u64) -> Option<Self> {
        Some(Self {
            steady: self.steady.checked_add(Duration::from_millis(ms))?,
            wall: self.wall.checked_add(SignedDuration::from_millis(i64::try_from(ms).ok()?)).ok()?,
        })
    }

    pub fn has_come(self, now: Self) -> bool {
        self.steady <= now.steady
    }

    pub fn since(self, earlier: Self) -> Duration {
        self.steady.saturating_duration_since(earlier.steady)
    }

    pub const fn wall(self) -> Timestamp {
        self.wall
    }

    /// As a clock shows it that is so many seconds ahead.
    pub fn ahead(self, seconds: i64) -> Self {
        let ahead = SignedDuration::from_secs(seconds);
        Self { wall: self.wall.saturating_add(ahead).unwrap_or(self.wall), ..self }
    }

    /// RFC 3339 with milliseconds.
    pub fn text(self) -> String {
        format!("{:.3}", self.wall)
    }
}

/// A version as the service keeps it.
#[derive(Debug)]
pub struct Version {
    pub id: String,
    pub name: String,
    pub description: Option<String>,
    pub created: Moment,
    pub deployed: Option<Moment>,
    pub number: String,
    /// The environments it has been live in at some time.
    pub was_live: Vec<Environment>,
    /// Its JSON as the API shows it, kept so that long lists cost little.
    pub shown: Option<String>,
}

/// A version together with the deployment that brings or brought it live.
#[derive(Debug, Clone)]
pub struct Deployed {
    pub deployment: String,
    pub version: String,
    pub number: String,
}

#[derive(Debug)]
pub struct Pending {
    pub what: Deployed,
    /// When it becomes live; `None` is never.
    pub due: Option<Moment>,
}

/// One environment of a chatbot.
#[derive(Debug, Default)]
pub struct Stage {
    pub live: Option<Deployed>,
    pub pending: Option<Pending>,
}

/// A chatbot of one account.
#[derive(Debug, Default)]
pub struct Bot {
    // by order of creation; the map of ids points into it
    versions: BTreeMap<u64, Version>,
    ids: HashMap<String, u64>,
    created: u64,
    stages: [Stage; 2],
}

impl Bot {
    /// Makes live what has become due.
    pub fn settle(&mut self, now: Moment) {
        for environment in Environment::STAGES {
            let stage = environment.index().map(|i| &mut self.stages[i]);
            let Some(stage) = stage else { continue };
            let Some(Pending { due: Some(due), .. }) = stage.pending else {
                continue;
            };
            if !due.has_come(now) {
                continue;
            }
            let what = stage.pending.take().map(|pending| pending.what);
            stage.live.clone_from(&what);
            let order = what.and_then(|what| self.ids.get(&what.version));
            if let Some(version) = order.and_then(|order| self.versions.get_mut(order)) {
                version.deployed = Some(due);
                version.shown = None;
                if !version.was_live.contains(&environment) {
                    version.was_live.push(environment);
                }
            }
        }
    }

    /// Adds a version. Its number counts on even when versions were deleted.
    pub fn add(&mut self, id: String, name: String, description: Option<String>, now: Moment) {
        let order = self.created;
        self.created += 1;
        self.ids.insert(id.clone(), order);
        let version = Version {
            id,
            name,
            description,
            created: now,
            deployed: None,
            number: format!("1.{order}"),
            was_live: Vec::new(),
            shown: None,
        };
        self.versions.insert(order, version);
    }

    /// Starts a rollout; one that is under way there is given up.
    pub fn start(&mut self, environment: Environment, pending: Pending, now: Moment) {
        if let Some(index) = environment.index() {
            self.stages[index].pending = Some(pending);
            self.settle(now);
        }
    }

    /// Nothing is live there any more.
    pub fn empty(&mut self, environment: Environment) {
        if let Some(index) = environment.index() {
            self.stages[index].live = None;
        }
    }

    pub fn find(&self, id: &str) -> Option<&Version> {
        self.versions.get(self.ids.get(id)?)
    }

    /// The newest version with this name.
    pub fn named(&self, name: &str) -> Option<&Version> {
        self.versions.values().rev().find(|v| v.name == name)
    }

    pub fn is_live(&self, id: &str) -> bool {
        let live = |stage: &Stage| stage.live.as_ref().is_some_and(|live| live.version == id);
        self.stages.iter().any(live)
    }

    /// Removes a version from the list and from wherever it was live or under way.
    pub fn remove(&mut self, id: &str) -> Option<Version> {
        let version = self.versions.remove(&self.ids.remove(id)?)?;
        for stage in &mut self.stages {
            stage.live.take_if(|live| live.version == id);
            stage.pending.take_if(|pending| pending.what.version == id);
        }
        Some(version)
    }

    /// The versions, oldest first.
    pub fn versions(&self) -> impl Iterator<Item = &Version> {
        self.versions.values()
    }

    pub fn versions_mut(&mut self) -> impl Iterator<Item = &mut Version> {
        self.versions.values_mut()
    }

    pub fn stage(&self, environment: Environment) -> Option<&Stage> {
        environment.index().map(|index| &self.stages[index])
    }
}
