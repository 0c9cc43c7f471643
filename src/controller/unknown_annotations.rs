//! Annotations of our group that the operator does not know: most likely a typing error, and the command has no effect.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::Mutex,
};

use kube::{Resource, ResourceExt, runtime::watcher};

use super::{Context, Indexed, after_write::emit, unreadable::Guarded};
use crate::{
    crd::{GROUP, annotation},
    plan::{EventReason, messages},
    sync::lock,
};

/// Names, and a hash of each value: the value may be long, or what no log should have.
type Annotations = BTreeMap<String, u64>;

/// The unknown annotations that are reported already, by the object's uid.
#[derive(Default)]
pub struct UnknownAnnotations(Mutex<HashMap<String, Annotations>>);

impl UnknownAnnotations {
    /// Remembers the unknown annotations of an object, and returns the names of those with a new value.
    fn update(&self, uid: &str, unknown: Annotations) -> Vec<String> {
        let mut reported = lock(&self.0);
        let before = reported.remove(uid).unwrap_or_default();
        let new = unknown.iter().filter(|(name, hash)| before.get(*name) != Some(*hash));
        let new = new.map(|(name, _)| name.clone()).collect();
        if !unknown.is_empty() {
            reported.insert(uid.to_owned(), unknown);
        }
        new
    }

    /// Forgets the objects that are not among these.
    pub fn retain(&self, uids: &HashSet<String>) {
        lock(&self.0).retain(|uid, _| uids.contains(uid));
    }
}

/// The annotations of our group that do not exist.
fn unknown<'a>(annotations: impl IntoIterator<Item = (&'a String, &'a String)>) -> Annotations {
    let is_ours = |name: &str| name.split_once('/').is_some_and(|(prefix, _)| prefix == GROUP);
    let is_known = |name: &str| annotation::ALL.iter().any(|(known, _)| *known == name);
    let hash = |value: &String| BuildHasherDefault::<DefaultHasher>::default().hash_one(value);
    let unknown = annotations.into_iter().filter(|(name, _)| is_ours(name) && !is_known(name));
    unknown.map(|(name, value)| (name.clone(), hash(value))).collect()
}

/// Reports the unknown annotations of the object of an event: by an event of its own, and after a start only in the log.
pub fn report_unknown_annotations<K: Indexed>(
    event: &watcher::Event<Guarded<K>>,
    is_first_list: bool,
    context: &Context,
) {
    let (object, unknown) = match event {
        watcher::Event::Apply(object) | watcher::Event::InitApply(object) => {
            (object, unknown(object.annotations()))
        }
        watcher::Event::Delete(object) => (object, Annotations::new()),
        watcher::Event::Init | watcher::Event::InitDone => return,
    };
    for name in context.unknown_annotations.update(&object.uid().unwrap_or_default(), unknown) {
        let note = messages::unknown_annotation(&name);
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        tracing::warn!(kind = K::KIND, namespace, name, "{note}");
        if !is_first_list {
            emit(object.object_ref(&()), true, EventReason::UnknownAnnotation.as_str(), &note, context);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn only_annotations_of_our_group_count() {
        let named = annotations(&[
            (annotation::ROLLBACK_TO, "v2"),
            ("chatcaptain.dev/rolback-to", "v2"),
            ("example.com/rolback-to", "v2"),
        ]);
        assert_eq!(unknown(&named).into_keys().collect::<Vec<_>>(), ["chatcaptain.dev/rolback-to"]);
    }

    #[test]
    fn each_value_is_reported_once_and_nothing_is_kept_of_a_corrected_or_deleted_object() {
        let (reported, a, b) = (UnknownAnnotations::default(), "chatcaptain.dev/a", "chatcaptain.dev/b");
        let update = |entries: &[(&str, &str)]| reported.update("u", unknown(&annotations(entries)));
        assert_eq!(update(&[(a, "1")]), [a]);
        assert_eq!(update(&[(a, "1"), (b, "1")]), [b]);
        assert_eq!(update(&[(a, "2")]), [a]);
        assert!(update(&[]).is_empty());
        assert!(lock(&reported.0).is_empty());
        update(&[(a, "1")]);
        reported.retain(&HashSet::new());
        assert!(lock(&reported.0).is_empty());
    }
}
