//! The versions of one chatbot and what is live, as of one moment.
//!
//! Answers questions and decides nothing. The service may leave out any field, so each answer says what it proves:
//! a field that every version lacks proves nothing, one that only some versions lack is empty there.

use std::{
    collections::{BTreeSet, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Instant,
};

use tokio::sync::OwnedSemaphorePermit;

use super::types::{Marker, UnidentifiedVersion, Version};

/// The versions of one chatbot at one moment.
#[derive(Debug)]
pub struct Inventory {
    versions: Vec<Version>,
    // positions and hashes, no copies of the texts: hundreds of chatbots may have thousands of versions each
    /// Sorted by id.
    by_id: Box<[usize]>,
    /// Sorted: the hash of a marker, and which version carries it.
    by_marker: Box<[(u64, usize)]>,
    /// Whose markers the versions carry.
    owners: BTreeSet<Box<str>>,
    has_descriptions: bool,
    unidentified: Vec<UnidentifiedVersion>,
    /// The right to take so much memory, given back with the list.
    _memory: Option<OwnedSemaphorePermit>,
    /// When the request was sent: what happened before that shows in the list, as far as the service is prompt; what
    /// happened later may be missing.
    pub requested_at: Instant,
}

impl Inventory {
    /// Indexes a list. Of two entries with one id the first counts: counted twice, one version under a marker would
    /// be taken for the two of a create that was sent twice.
    #[must_use]
    pub fn new(list: Vec<Version>, requested_at: Instant) -> Self {
        let mut versions = list;
        let mut ids = HashSet::with_capacity(versions.len());
        versions.retain(|version| ids.insert(version.id.clone()));
        versions.shrink_to_fit();
        let mut by_id: Box<[usize]> = (0..versions.len()).collect();
        by_id.sort_unstable_by_key(|index| &versions[*index].id);
        let (mut by_marker, mut owners) = (Vec::new(), BTreeSet::new());
        for (index, marker) in versions.iter().enumerate().filter_map(|(i, v)| Some((i, v.marker()?))) {
            by_marker.push((hash(&marker), index));
            let object = marker.strip_prefix(Marker::PREFIX).unwrap_or_default();
            if let Some((owner, _)) = object.split_once('/').filter(|(owner, _)| !owners.contains(*owner)) {
                owners.insert(owner.into());
            }
        }
        by_marker.sort_unstable();
        let has_descriptions =
            versions.iter().any(|v| v.description.as_deref().is_some_and(|d| !d.is_empty()));
        Self {
            versions,
            by_id,
            by_marker: by_marker.into_boxed_slice(),
            owners,
            has_descriptions,
            unidentified: Vec::new(),
            _memory: None,
            requested_at,
        }
    }

    /// The same with the entries of the list that have no usable id.
    #[must_use]
    pub fn with_unidentified(self, unidentified: Vec<UnidentifiedVersion>) -> Self {
        Self { unidentified, ..self }
    }

    /// The same with a permit that it holds as long as it is kept.
    pub(super) fn with_permit(self, permit: OwnedSemaphorePermit) -> Self {
        Self { _memory: Some(permit), ..self }
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        // an allocation of its own for each text
        let text = |text: Option<&str>| text.map_or(0, |text| text.len().next_multiple_of(16) + 16);
        let texts = |version: &Version| {
            let texts = [version.name.as_deref(), version.description.as_deref(), version.number.as_deref()];
            let contents = version.contents.as_ref();
            // each version that shares them has its part
            let contents = contents.map_or(0, |shared| shared.bytes() / Arc::strong_count(shared) + 1);
            text(Some(version.id.as_str())) + texts.into_iter().map(text).sum::<usize>() + contents
        };
        let entry =
            |entry: &UnidentifiedVersion| text(entry.name.as_deref()) + text(entry.description.as_deref());
        self.versions.iter().map(texts).sum::<usize>()
            + self.unidentified.iter().map(entry).sum::<usize>()
            + self.versions.len() * (size_of::<Version>() + size_of::<(u64, usize)>() + size_of::<usize>())
            + self.unidentified.len() * size_of::<UnidentifiedVersion>()
    }

    /// Whether every listed version has an id. If not, one that is not listed by its id may exist all the same.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.unidentified.is_empty()
    }

    /// Whether a version is listed without an id that carries this marker, or that may be the one with this name and the
    /// description `sent`, of which no marker can be read.
    #[must_use]
    pub fn has_unidentified(&self, marker: &Marker, name: &str, sent: &str) -> bool {
        let sent = single_spaced(sent);
        self.unidentified.iter().any(|entry| {
            let description = entry.description.as_deref();
            let found = description.and_then(Marker::find);
            found.is_some_and(|found| found == marker.as_str())
                || entry.name.as_deref() == Some(name) && self.may_have_been_sent(description, &sent)
        })
    }

    /// All versions, in the order of the list.
    #[must_use]
    pub fn versions(&self) -> &[Version] {
        &self.versions
    }

    /// The version with this id.
    #[must_use]
    pub fn version(&self, id: &str) -> Option<&Version> {
        let found = self.by_id.binary_search_by(|index| self.versions[*index].id.as_str().cmp(id)).ok()?;
        Some(&self.versions[self.by_id[found]])
    }

    /// The versions whose description carries this marker.
    pub fn by_marker<'a>(&'a self, marker: &Marker) -> impl Iterator<Item = &'a Version> + use<'a> {
        let marker = marker.as_str().to_owned();
        let hash = hash(&marker);
        let start = self.by_marker.partition_point(|(other, _)| *other < hash);
        let same_hash = self.by_marker[start..].iter().take_while(move |(other, _)| *other == hash);
        let versions = same_hash.map(|(_, index)| &self.versions[*index]);
        // others may have the hash, too
        versions.filter(move |version| version.marker().as_ref() == Some(&marker))
    }

    /// The versions with this name that may be ours although no marker can be read: the service returns no descriptions,
    /// or this one could be the start of `sent`, the description that our create sends.
    pub fn with_unreadable_marker<'a>(
        &'a self,
        name: &str,
        sent: &str,
    ) -> impl Iterator<Item = &'a Version> + use<'a> {
        let (name, sent) = (name.to_owned(), single_spaced(sent));
        self.versions.iter().filter(move |version| {
            version.name.as_deref() == Some(&name)
                && self.may_have_been_sent(version.description.as_deref(), &sent)
        })
    }

    /// Whether a description, as listed, may be what remains of `sent`, which is single-spaced.
    fn may_have_been_sent(&self, description: Option<&str>, sent: &str) -> bool {
        match description {
            // only this one has no description, so it is not ours
            None | Some("") => !self.has_descriptions,
            Some(text) => {
                // a service that cuts a text may add dots
                let text = single_spaced(text.trim_end().trim_end_matches(['…', '.']));
                text.len() < sent.len() && sent.starts_with(&text)
            }
        }
    }

    /// The versions with this number; a number may be given again after a deletion.
    pub fn by_number<'a, 'b>(&'a self, number: &'b str) -> impl Iterator<Item = &'a Version> + use<'a, 'b> {
        self.versions.iter().filter(move |version| version.number.as_deref() == Some(number))
    }

    /// Whether any version carries a marker of this owner. It proves that the key belongs to the account that
    /// holds our versions; a key of another account shows an empty or foreign list.
    #[must_use]
    pub fn contains_owner(&self, owner: &str) -> bool {
        self.owners.contains(owner)
    }

    /// Whether the list returns descriptions at all, and so can show a marker.
    #[must_use]
    pub fn has_descriptions(&self) -> bool {
        self.has_descriptions
    }

    /// Whether the list returns numbers at all, so that one of the deployment status can be compared.
    #[must_use]
    pub fn has_version_numbers(&self) -> bool {
        self.versions.iter().any(|version| version.number.is_some())
    }

    /// Whether the list returns times of deployment at all.
    #[must_use]
    pub fn has_deploy_times(&self) -> bool {
        self.versions.iter().any(|version| version.deployed.is_some())
    }
}

/// The same for the whole process, and in no other.
fn hash(marker: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    marker.hash(&mut hasher);
    hasher.finish()
}

/// As a service may return a description: line breaks become blanks, and several become one.
fn single_spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The deployment status of one chatbot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeploymentStatus {
    /// `None`: nothing is live in test.
    pub test: Option<LiveVersion>,
    /// `None`: nothing is live in prod.
    pub prod: Option<LiveVersion>,
}

impl DeploymentStatus {
    /// What is live in `test` or `prod`.
    #[must_use]
    pub fn get(&self, environment: &str) -> Option<&LiveVersion> {
        match environment {
            "test" => self.test.as_ref(),
            "prod" => self.prod.as_ref(),
            _ => None,
        }
    }
}

/// What is live in an environment, as the deployment status says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveVersion {
    /// The id of a version or of something else: the service's reference does not say which.
    pub id: Option<Box<str>>,
    /// The number of the live version.
    pub number: Option<Box<str>>,
}

impl LiveVersion {
    /// The listed version that this is. The number decides where exactly one version has it, because the service's reference
    /// says what it is; otherwise the id does, where it is a version's.
    #[must_use]
    pub fn resolve<'a>(&self, inventory: &'a Inventory) -> Option<&'a Version> {
        let mut numbered = self.number.as_deref().into_iter().flat_map(|number| inventory.by_number(number));
        match (numbered.next(), numbered.next()) {
            (Some(only), None) => Some(only),
            _ => self.id.as_deref().and_then(|id| inventory.version(id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chatcaptain::VersionId;

    fn version(id: &str) -> Version {
        Version {
            id: VersionId::parse(id).unwrap(),
            name: None,
            description: None,
            number: None,
            created: None,
            deployed: None,
            contents: None,
        }
    }

    fn described(id: &str, description: &str) -> Version {
        Version { name: Some("a".into()), description: Some(description.into()), ..version(id) }
    }

    fn numbered(id: &str, number: &str) -> Version {
        Version { number: Some(number.into()), ..version(id) }
    }

    fn inventory(list: impl Into<Vec<Version>>) -> Inventory {
        Inventory::new(list.into(), Instant::now())
    }

    fn ids<'a>(versions: impl Iterator<Item = &'a Version>) -> Vec<&'a str> {
        versions.map(|version| version.id.as_str()).collect()
    }

    #[test]
    fn by_marker_finds_each_version_of_an_object_once() {
        let marker = Marker::new("default", "chatbots", "a");
        let other = Marker::new("default", "chatbots", "ab");
        let inventory = inventory([
            described("v1", &marker.append_to(Some("text"))),
            described("v1", &marker.append_to(None)),
            described("v2", &other.append_to(None)),
            described("v3", &marker.append_to(None)),
            described("v4", "text"),
        ]);
        assert_eq!(ids(inventory.by_marker(&marker)), ["v1", "v3"]);
        assert_eq!(ids(inventory.versions().iter()), ["v1", "v2", "v3", "v4"]);
        assert_eq!(
            inventory.version("v1").unwrap().description.as_deref(),
            Some(&*marker.append_to(Some("text")))
        );
        assert!(inventory.version("v5").is_none() && inventory.version("..").is_none());
    }

    #[test]
    fn contains_owner_compares_the_whole_owner() {
        let inventory = inventory([described("v1", Marker::new("blue-2", "chatbots", "a").as_str())]);
        assert!(inventory.contains_owner("blue-2"));
        assert!(!inventory.contains_owner("blue"));
    }

    #[test]
    fn marker_is_unreadable_where_the_description_is_cut() {
        let sent = Marker::new("default", "chatbots", "a").append_to(Some("Release for Q4"));
        let inventory = inventory([
            described("cut", "Release for"),
            described("cut-with-dots", "Release for Q4\n[chat…"),
            described("cut-in-one-line", "Release  for Q4 [chatcaptain.dev default/c…"),
            described("whole", &sent),
            described("other-text", "Release for Q3"),
            described("blank", ""),
            version("other-name"),
        ]);
        assert_eq!(
            ids(inventory.with_unreadable_marker("a", &sent)),
            ["cut", "cut-with-dots", "cut-in-one-line"]
        );
        assert_eq!(ids(inventory.with_unreadable_marker("b", &sent)), [""; 0]);
    }

    #[test]
    fn marker_is_unreadable_where_no_description_is_listed() {
        let named = |id| Version { name: Some("a".into()), ..version(id) };
        let inventory = inventory([named("v1"), described("v2", ""), version("other-name")]);
        assert!(!inventory.has_descriptions());
        assert_eq!(ids(inventory.with_unreadable_marker("a", "sent")), ["v1", "v2"]);
    }

    #[test]
    fn version_without_an_id_is_of_the_object_whose_marker_it_carries_or_may_have_carried() {
        let marker = Marker::new("default", "chatbots", "a");
        let sent = marker.append_to(Some("Release"));
        let of_a = |name: &str, description: Option<&str>, listed: Vec<Version>| {
            let entry =
                UnidentifiedVersion { name: Some(name.into()), description: description.map(Into::into) };
            let inventory = inventory(listed).with_unidentified(vec![entry]);
            assert!(!inventory.is_complete());
            inventory.has_unidentified(&marker, "a", &sent)
        };
        let listed = || vec![described("v1", "text")];
        assert!(of_a("renamed", Some(&sent), listed()));
        assert!(of_a("a", Some("Rele…"), listed()));
        assert!(of_a("a", None, vec![]), "the service returns no descriptions");
        assert!(!of_a("a", None, listed()));
        assert!(!of_a("b", Some("Rele…"), listed()));
        assert!(!of_a("a", Some("[chatcaptain.dev default/chatbots/b]"), listed()));
        assert!(inventory([]).is_complete());
    }

    #[test]
    fn live_version_is_the_one_with_the_number_else_the_one_with_the_id() {
        let inventory = inventory([numbered("v1", "1.0"), numbered("v2", "2.0"), numbered("v3", "2.0")]);
        let resolve = |id: Option<&str>, number: Option<&str>| {
            let live = LiveVersion { id: id.map(Into::into), number: number.map(Into::into) };
            live.resolve(&inventory).map(|version| version.id.as_str())
        };
        assert_eq!(resolve(Some("v2"), Some("1.0")), Some("v1"), "the number decides");
        assert_eq!(resolve(Some("v3"), Some("2.0")), Some("v3"), "two versions have the number");
        assert_eq!(resolve(None, Some("2.0")), None, "either may be live");
        assert_eq!(resolve(Some("v2"), Some("9.9")), Some("v2"), "no version has the number");
        assert_eq!(resolve(Some("v2"), None), Some("v2"));
        assert_eq!(resolve(Some("deployment-7"), None), None, "the id is not a version's");
    }
}
