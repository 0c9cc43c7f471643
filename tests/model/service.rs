//! A model of the chatbot service: what it keeps, what it shows of it and when.
//!
//! It is as helpful or as awkward as its `Behavior` says; what is not known of the real one is a behavior.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
    time::{Duration, Instant},
};

use chatcaptain_operator::{
    chatcaptain::{DeploymentStatus, Inventory, LiveVersion, Version, VersionId},
    crd::LiveEnvironment,
    plan::ServiceView,
};
use jiff::Timestamp;

use crate::invariants::at;

/// Seconds that a late list lags behind; the visibility grace of the model is as long.
pub const LATE: i64 = 2;

/// What the list returns of descriptions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Descriptions {
    /// As they were sent.
    Returned,
    /// The first characters.
    Cut,
    /// Left out.
    Missing,
}

/// How the service behaves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Behavior {
    /// What the list returns of descriptions.
    pub descriptions: Descriptions,
    /// The list shows changes late.
    pub late: bool,
    /// The list shows the newest two versions alone. One alone would hide a new version before any search can find it.
    pub cut: bool,
    /// The answer to a create names the id of something else.
    pub misleading: bool,
    /// The key may read the deployment status.
    pub readable: bool,
    /// The list says when a version was deployed.
    pub dated: bool,
    /// The list returns numbers.
    pub numbered: bool,
    /// Every version has the same number.
    pub same_number: bool,
    /// Seconds from a deploy until it is live.
    pub rollout: i64,
    /// A version that never becomes live.
    pub broken: Option<u8>,
    /// While it is tried nothing is live.
    pub empties: bool,
}

impl Behavior {
    /// Everything is shown, and at once.
    pub const IDEAL: Self = Self {
        descriptions: Descriptions::Returned,
        late: false,
        cut: false,
        misleading: false,
        readable: true,
        dated: true,
        numbered: true,
        same_number: false,
        rollout: 0,
        broken: None,
        empties: false,
    };

    /// The number of a version.
    pub fn number(self, id: u8) -> String {
        format!("1.{}", if self.same_number { 1 } else { id })
    }
}

/// Who created a version.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Creator {
    /// The operator, for the object of this model.
    Operator,
    /// The operator of an earlier cluster, for the same manifest.
    Earlier,
    /// Somebody outside the operator.
    Somebody,
}

/// One version.
#[derive(Clone, Debug)]
pub struct StoredVersion {
    /// The number in its id: `v1` has 1.
    pub id: u8,
    /// Who created it.
    pub creator: Creator,
    /// When it was last deployed.
    pub deployed: Option<Timestamp>,
    name: &'static str,
    description: String,
    born: i64,
    died: Option<i64>,
}

/// What the service keeps of one chatbot.
#[derive(Clone, Debug)]
pub struct Service {
    /// What is shown, and when.
    pub behavior: Behavior,
    stored: Vec<StoredVersion>,
    live: [Option<u8>; 2],
    /// What becomes live when.
    coming: Vec<(i64, LiveEnvironment, u8)>,
    next: u8,
    /// No two times of deployment are the same.
    stamp: i64,
}

/// One line of the list.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Line {
    id: u8,
    name: &'static str,
    description: Option<String>,
    deployed: Option<Timestamp>,
    numbered: bool,
}

/// What the service showed at one moment.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct View {
    list: Vec<Line>,
    live: Option<[Option<u8>; 2]>,
    behavior: Behavior,
}

/// An answer of the service that may serve later reads, too.
#[derive(Clone)]
pub struct Snapshot {
    /// What it showed.
    pub view: View,
    /// When.
    pub at: i64,
    /// Which read it was.
    pub read: u32,
}

/// The id as the service writes it.
pub fn id_of(id: u8) -> VersionId {
    VersionId::parse(&format!("v{id}")).unwrap()
}

impl Service {
    /// Without any version.
    pub fn new(behavior: Behavior) -> Self {
        Self { behavior, stored: Vec::new(), live: [None; 2], coming: Vec::new(), next: 1, stamp: 0 }
    }

    /// A create takes effect.
    pub fn create(&mut self, creator: Creator, name: &'static str, description: &str, now: i64) -> u8 {
        let id = self.next;
        self.next += 1;
        let description = description.to_owned();
        self.stored.push(StoredVersion {
            id,
            creator,
            name,
            description,
            born: now,
            died: None,
            deployed: None,
        });
        id
    }

    /// A delete takes effect.
    pub fn delete(&mut self, id: &str, now: i64) {
        if let Some(stored) = self.stored.iter_mut().find(|stored| id_of(stored.id).as_str() == id) {
            stored.died.get_or_insert(now);
        }
    }

    /// A deploy is accepted.
    pub fn deploy(&mut self, environment: LiveEnvironment, id: u8, now: i64) {
        if self.behavior.broken != Some(id) {
            self.coming.push((now + self.behavior.rollout, environment, id));
            self.pass_time(now);
        } else if self.behavior.empties {
            self.live[environment as usize] = None;
        }
    }

    /// What was to become live by now is.
    pub fn pass_time(&mut self, now: i64) {
        for (_, environment, id) in self.coming.extract_if(.., |(when, ..)| *when <= now) {
            self.live[environment as usize] = Some(id);
            self.stamp += 1;
            if let Some(stored) = self.stored.iter_mut().find(|stored| stored.id == id) {
                // the service's clock is hours behind
                let clock = at(now - 7200);
                stored.deployed = Some(clock + jiff::SignedDuration::from_micros(self.stamp));
            }
        }
    }

    /// The versions that are there, whether the list shows them yet or not.
    pub fn there(&self) -> impl Iterator<Item = &StoredVersion> {
        self.stored.iter().filter(|stored| stored.died.is_none())
    }

    /// Everything that ever was there.
    pub fn ever(&self) -> &[StoredVersion] {
        &self.stored
    }

    /// A version that is there.
    pub fn find(&self, id: &str) -> Option<&StoredVersion> {
        self.there().find(|stored| id_of(stored.id).as_str() == id)
    }

    /// What runs in an environment.
    pub fn runs(&self, environment: LiveEnvironment) -> Option<u8> {
        self.live[environment as usize]
    }

    /// Whether a version runs anywhere.
    pub fn is_live(&self, id: &str) -> bool {
        self.live.iter().flatten().any(|&live| id_of(live).as_str() == id)
    }

    /// Whether a version is about to run anywhere.
    pub fn is_coming(&self, id: &str) -> bool {
        self.coming.iter().any(|(.., coming)| id_of(*coming).as_str() == id)
    }

    /// What it shows now.
    pub fn view(&self, now: i64) -> View {
        let lag = if self.behavior.late { LATE } else { 0 };
        let shown = self
            .stored
            .iter()
            .filter(|stored| stored.born + lag <= now && stored.died.is_none_or(|died| now < died + lag));
        let line = |stored: &StoredVersion| Line {
            id: stored.id,
            name: stored.name,
            description: match self.behavior.descriptions {
                Descriptions::Returned => Some(stored.description.clone()),
                Descriptions::Cut => Some(stored.description.chars().take(12).collect()),
                Descriptions::Missing => None,
            },
            deployed: stored.deployed.filter(|_| self.behavior.dated),
            numbered: self.behavior.numbered,
        };
        let mut list: Vec<Line> = shown.map(line).collect();
        if self.behavior.cut {
            list.drain(..list.len().saturating_sub(2));
        }
        let live = self.behavior.readable.then_some(self.live);
        View { list, live, behavior: self.behavior }
    }

    /// Hashes what can make a difference.
    pub fn hash(&self, now: i64, hasher: &mut impl Hasher) {
        for stored in &self.stored {
            let ages = [Some(stored.born), stored.died].map(|time| time.map(|time| (now - time).min(LATE)));
            (stored.id, stored.creator, ages, stored.deployed.is_some()).hash(hasher);
        }
        for (when, environment, id) in &self.coming {
            (when - now, environment, id).hash(hasher);
        }
        self.live.hash(hasher);
    }
}

impl View {
    /// As the operator reads it, `age` seconds later.
    pub fn to_service_view(&self, age: i64, authoritative: bool) -> ServiceView {
        let deployed = |live: Option<u8>| {
            live.map(|id| LiveVersion { id: None, number: Some(self.behavior.number(id).into()) })
        };
        ServiceView::Available {
            inventory: Arc::new(self.inventory(age)),
            deployment_status: self.live.map(|[test, prod]| {
                Arc::new(DeploymentStatus { test: deployed(test), prod: deployed(prod) })
            }),
            authoritative,
            rollout_pending: false,
            age: Duration::from_secs(age.unsigned_abs()),
        }
    }

    /// The list alone, `age` seconds later.
    pub fn inventory(&self, age: i64) -> Inventory {
        let taken = Instant::now().checked_sub(Duration::from_secs(age.unsigned_abs())).unwrap();
        let version = |line: &Line| Version {
            id: id_of(line.id),
            name: Some(line.name.into()),
            description: line.description.as_deref().map(Into::into),
            number: line.numbered.then(|| self.behavior.number(line.id).into()),
            created: None,
            deployed: line.deployed,
            contents: None,
        };
        Inventory::new(self.list.iter().map(version).collect(), taken)
    }

    /// Whether it shows what runs, by versions that the list shows as well.
    pub fn shows_what_is_live(&self) -> bool {
        let shows = |id: &u8| self.list.iter().any(|line| line.id == *id);
        self.live.is_some_and(|live| live.iter().flatten().all(shows))
    }

    /// Whether the list shows a version.
    pub fn shows(&self, id: &str) -> bool {
        self.list.iter().any(|line| id_of(line.id).as_str() == id)
    }

    /// Whether it shows that a version runs in an environment; `None` if it shows nothing of that.
    pub fn runs(&self, environment: LiveEnvironment, id: &str) -> Option<bool> {
        let live = self.live?[environment as usize];
        Some(live.is_some_and(|live| id_of(live).as_str() == id))
    }
}
