//! What one chatbot has: its versions and what is live, as of one moment.

use std::{collections::HashMap, time::Instant};

use jiff::Timestamp;

use super::types::{Marker, Version, VersionId};

/// The versions of one chatbot at one moment.
#[derive(Debug)]
pub struct Inventory {
    versions: Vec<Version>,
    by_id: HashMap<VersionId, usize>,
    by_marker: HashMap<Box<str>, Vec<usize>>,
    has_descriptions: bool,
    /// When the call that brought it was started: what happened before that shows in it,
    /// as far as the service is prompt.
    pub requested_at: Instant,
}

impl Inventory {
    /// Sorts a list's versions; of two with one id the first counts.
    #[must_use]
    pub fn new(list: Vec<Version>, at: Instant) -> Self {
        let mut versions: Vec<Version> = Vec::with_capacity(list.len());
        let mut by_id = HashMap::with_capacity(list.len());
        let mut by_marker: HashMap<Box<str>, Vec<usize>> = HashMap::new();
        for version in list {
            if by_id.contains_key(&version.id) {
                continue;
            }
            by_id.insert(version.id.clone(), versions.len());
            if let Some(marker) = version.marker() {
                by_marker.entry(marker.into()).or_default().push(versions.len());
            }
            versions.push(version);
        }
        let described = versions.iter().any(|v| v.description.as_deref().is_some_and(|d| !d.is_empty()));
        Self { versions, by_id, by_marker, has_descriptions: described, requested_at: at }
    }

    /// All versions.
    #[must_use]
    pub fn versions(&self) -> &[Version] {
        &self.versions
    }

    /// The version with this id.
    #[must_use]
    pub fn version(&self, id: &str) -> Option<&Version> {
        // an id that does not parse is in no list
        let id = VersionId::parse(id).ok()?;
        self.by_id.get(&id).map(|&index| &self.versions[index])
    }

    /// The versions whose description carries this marker.
    pub fn by_marker(&self, marker: &Marker) -> impl Iterator<Item = &Version> {
        self.by_marker.get(marker.as_str()).into_iter().flatten().map(|&index| &self.versions[index])
    }

    /// The versions with this name whose description does not tell whose they are, though it could be the
    /// start of `sent`, which is what would have been sent for ours.
    pub fn with_unreadable_marker<'a, 'b>(
        &'a self,
        name: &'b str,
        sent: &'b str,
    ) -> impl Iterator<Item = &'a Version> + use<'a, 'b> {
        let described = self.has_descriptions;
        self.versions.iter().filter(move |version| {
            version.name.as_deref() == Some(name)
                && match version.description.as_deref() {
                    // missing everywhere: the service does not return descriptions
                    None | Some("") => !described,
                    Some(text) => {
                        text.len() < sent.len() && sent.starts_with(text.trim_end_matches(['…', '.']))
                    }
                }
        })
    }

    /// The versions with this number.
    pub fn by_number<'a, 'b>(&'a self, number: &'b str) -> impl Iterator<Item = &'a Version> + use<'a, 'b> {
        self.versions.iter().filter(move |version| version.number.as_deref() == Some(number))
    }

    /// Whether any version carries a marker of this owner: the key is of the account we know.
    #[must_use]
    pub fn contains_owner(&self, owner: &str) -> bool {
        let start = format!("{}{owner}/", Marker::START);
        self.by_marker.keys().any(|marker| marker.starts_with(&start))
    }

    /// Whether the list returns descriptions at all.
    #[must_use]
    pub fn has_descriptions(&self) -> bool {
        self.has_descriptions
    }

    /// Whether the list returns numbers at all.
    #[must_use]
    pub fn has_version_numbers(&self) -> bool {
        self.versions.iter().any(|version| version.number.is_some())
    }

    /// Whether a version was last deployed no later than `since`, in whole seconds: what an environment has run
    /// from then on is not this version. Without any times of deployment nobody can tell.
    #[must_use]
    pub fn not_deployed_since(&self, version: &Version, since: Timestamp) -> bool {
        self.has_deploy_times() && version.deployed.is_none_or(|at| at.as_second() <= since.as_second())
    }

    /// Whether the list tells of any version when it was deployed.
    #[must_use]
    pub fn has_deploy_times(&self) -> bool {
        self.versions.iter().any(|version| version.deployed.is_some())
    }
}

/// What runs in an environment, as the deployment status says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveVersion {
    /// Some id; the reference does not say of what.
    pub id: Option<Box<str>>,
    /// Number of the version that is deployed.
    pub number: Option<Box<str>>,
}

/// The deployment status of one chatbot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deployments {
    /// What runs in test.
    pub test: Option<LiveVersion>,
    /// What runs in prod.
    pub prod: Option<LiveVersion>,
}

impl LiveVersion {
    /// The listed version that this is: the one with the number; where several have it, or none,
    /// the one with the id, should the id be a version's.
    #[must_use]
    pub fn resolve<'a>(&self, inventory: &'a Inventory) -> Option<&'a Version> {
        let numbered: Vec<&Version> =
            self.number.as_deref().map(|number| inventory.by_number(number).collect()).unwrap_or_default();
        match numbered.as_slice() {
            [one] => Some(one),
            _ => self.id.as_deref().and_then(|id| inventory.version(id)),
        }
    }
}

impl Deployments {
    /// What runs in `test` or `prod`.
    #[must_use]
    pub fn get(&self, environment: &str) -> Option<&LiveVersion> {
        match environment {
            "test" => self.test.as_ref(),
            "prod" => self.prod.as_ref(),
            _ => None,
        }
    }
}
