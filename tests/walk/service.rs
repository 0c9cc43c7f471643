//! A model of the chatbot service: what it keeps, what it shows of it and when.
//!
//! It is as helpful or as awkward as its `Manner` says; what is not known of the real one is a manner.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chatcaptain_operator::{
    chatcaptain::{Deployed, Deployments, Inventory, Version, VersionId},
    crd::LiveEnvironment,
    plan::Look,
};

use crate::laws::at;

/// Seconds that a late list lags behind; the walks' visibility grace is as long.
pub const LATE: i64 = 2;

/// What becomes of descriptions in the list.
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
pub struct Manner {
    /// What becomes of descriptions.
    pub descriptions: Descriptions,
    /// The list shows changes late.
    pub late: bool,
    /// The key may read the deployment status.
    pub readable: bool,
    /// The list says when a version was deployed.
    pub dated: bool,
}

/// Who made a version.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Maker {
    /// The operator, for the object of this walk.
    Operator,
    /// The operator of an earlier cluster, for the same manifest.
    Earlier,
    /// Somebody else.
    Somebody,
}

/// One version.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Kept {
    /// Its id.
    pub id: u8,
    /// Who made it.
    pub maker: Maker,
    /// As sent.
    pub name: &'static str,
    /// As sent.
    pub description: String,
    born: i64,
    died: Option<i64>,
    /// When it was last deployed.
    pub deployed: Option<i64>,
}

/// What the service keeps of one bot.
#[derive(Clone, Debug)]
pub struct Service {
    /// How it behaves.
    pub manner: Manner,
    kept: Vec<Kept>,
    live: [Option<u8>; 2],
    next: u8,
}

/// What the service showed at one moment.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct View {
    versions: Vec<(u8, &'static str, Option<String>, Option<i64>)>,
    live: Option<[Option<u8>; 2]>,
}

/// The id as the service writes it.
pub fn id_of(id: u8) -> VersionId {
    VersionId::parse(&format!("v{id}")).unwrap()
}

impl Service {
    /// Without any version.
    pub fn new(manner: Manner) -> Self {
        Self { manner, kept: Vec::new(), live: [None; 2], next: 1 }
    }

    /// A create takes effect.
    pub fn create(&mut self, maker: Maker, name: &'static str, description: &str, now: i64) -> u8 {
        let id = self.next;
        self.next += 1;
        self.kept.push(Kept {
            id,
            maker,
            name,
            description: description.to_owned(),
            born: now,
            died: None,
            deployed: None,
        });
        id
    }

    /// A delete takes effect.
    pub fn delete(&mut self, id: &str, now: i64) {
        if let Some(kept) = self.kept.iter_mut().find(|kept| id_of(kept.id).as_str() == id) {
            kept.died.get_or_insert(now);
        }
    }

    /// A version becomes live.
    pub fn deploy(&mut self, environment: LiveEnvironment, id: u8, now: i64) {
        self.live[environment as usize] = Some(id);
        if let Some(kept) = self.kept.iter_mut().find(|kept| kept.id == id) {
            kept.deployed = Some(now);
        }
    }

    /// The versions that are there, whether the list shows them yet or not.
    pub fn there(&self) -> impl Iterator<Item = &Kept> {
        self.kept.iter().filter(|kept| kept.died.is_none())
    }

    /// Everything that ever was there.
    pub fn ever(&self) -> &[Kept] {
        &self.kept
    }

    /// A version that is there.
    pub fn find(&self, id: &str) -> Option<&Kept> {
        self.there().find(|kept| id_of(kept.id).as_str() == id)
    }

    /// What runs in an environment.
    pub fn runs(&self, environment: LiveEnvironment) -> Option<u8> {
        self.live[environment as usize]
    }

    /// Whether a version runs anywhere.
    pub fn is_live(&self, id: &str) -> bool {
        self.live.iter().flatten().any(|&live| id_of(live).as_str() == id)
    }

    /// What it shows now.
    pub fn view(&self, now: i64) -> View {
        let lag = if self.manner.late { LATE } else { 0 };
        let shown = self
            .kept
            .iter()
            .filter(|kept| kept.born + lag <= now && kept.died.is_none_or(|died| now < died + lag));
        View {
            versions: shown
                .map(|kept| {
                    let description = match self.manner.descriptions {
                        Descriptions::Returned => Some(kept.description.clone()),
                        Descriptions::Cut => Some(kept.description.chars().take(12).collect()),
                        Descriptions::Missing => None,
                    };
                    let deployed = kept.deployed.filter(|_| self.manner.dated);
                    (kept.id, kept.name, description, deployed)
                })
                .collect(),
            live: self.manner.readable.then_some(self.live),
        }
    }

    /// What can make a difference.
    pub fn hash(&self, now: i64, hasher: &mut impl std::hash::Hasher) {
        use std::hash::Hash;
        for kept in &self.kept {
            let ages = [Some(kept.born), kept.died].map(|time| time.map(|time| (now - time).min(LATE)));
            (kept.id, kept.maker, kept.name, &kept.description, ages, kept.deployed.is_some()).hash(hasher);
        }
        (self.manner, self.live).hash(hasher);
    }
}

impl View {
    /// As the operator sees it, `age` seconds later.
    pub fn look(&self, age: i64, trusted: bool) -> Look {
        let deployed =
            |live: Option<u8>| live.map(|id| Deployed { id: None, number: Some(format!("1.{id}").into()) });
        Look::Shown {
            inventory: Arc::new(self.inventory(age)),
            deployments: self
                .live
                .map(|[test, prod]| Arc::new(Deployments { test: deployed(test), prod: deployed(prod) })),
            trusted,
        }
    }

    /// The list alone, `age` seconds later.
    pub fn inventory(&self, age: i64) -> Inventory {
        let taken = Instant::now().checked_sub(Duration::from_secs(age.unsigned_abs())).unwrap();
        let version = |(id, name, description, deployed): &(u8, &str, Option<String>, Option<i64>)| Version {
            id: id_of(*id),
            name: Some((*name).into()),
            description: description.as_deref().map(Into::into),
            number: Some(format!("1.{id}").into()),
            created: None,
            deployed: deployed.map(at),
        };
        Inventory::new(self.versions.iter().map(version).collect(), taken)
    }

    /// Whether it shows what runs, by versions that the list shows, too.
    pub fn tells_what_is_live(&self) -> bool {
        let shows = |id: &u8| self.versions.iter().any(|(shown, ..)| shown == id);
        self.live.is_some_and(|live| live.iter().flatten().all(shows))
    }

    /// Whether the list shows a version.
    pub fn shows(&self, id: &str) -> bool {
        self.versions.iter().any(|(shown, ..)| id_of(*shown).as_str() == id)
    }
}
