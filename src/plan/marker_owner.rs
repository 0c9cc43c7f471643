//! Whose version it is, by the marker in its description. Adoption, deletion and deploys all ask here.

use crate::chatcaptain::{Marker, Version};

/// Whom the marker of a version names, compared with one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MarkerOwner {
    /// No marker can be read.
    Unmarked,
    /// The object itself.
    ThisObject,
    /// Another object of this installation, as `namespace/name`.
    OtherObject(String),
    /// Another installation, by its owner id: its version is never adopted, deployed over or deleted.
    OtherOwner(String),
}

/// Whom the marker of `version` names, compared with the object `namespace/name` of the installation `owner_id`.
#[must_use]
pub fn marker_owner(version: &Version, owner_id: &str, namespace: &str, name: &str) -> MarkerOwner {
    let Some(marker) = version.marker() else {
        return MarkerOwner::Unmarked;
    };
    if marker == Marker::new(owner_id, namespace, name).as_str() {
        return MarkerOwner::ThisObject;
    }
    // an owner id has no slash
    let named = marker.trim_end_matches(']').split_once(' ').and_then(|(_, named)| named.split_once('/'));
    match named {
        Some((owner, object)) if owner == owner_id => MarkerOwner::OtherObject(object.to_owned()),
        Some((owner, _)) => MarkerOwner::OtherOwner(owner.to_owned()),
        // no installation writes one without its parts
        None => MarkerOwner::Unmarked,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::chatcaptain::VersionId;

    #[test]
    fn marker_names_this_object_another_one_or_another_installation() {
        let owner = |description: &str| {
            let version = Version {
                id: VersionId::parse("v1").unwrap(),
                name: None,
                description: Some(description.into()),
                number: None,
                created: None,
                deployed: None,
                contents: None,
            };
            marker_owner(&version, "team-a", "ns", "q4")
        };
        assert_eq!(owner("created manually"), MarkerOwner::Unmarked);
        assert_eq!(owner("[chatcaptain.dev team-a]"), MarkerOwner::Unmarked);
        assert_eq!(owner("text\n[chatcaptain.dev team-a/ns/q4]"), MarkerOwner::ThisObject);
        let other = |object: &str| MarkerOwner::OtherObject(object.to_owned());
        assert_eq!(owner("[chatcaptain.dev team-a/ns/q3]"), other("ns/q3"));
        assert_eq!(owner("[chatcaptain.dev team-a/other/q4]"), other("other/q4"));
        // the whole owner id counts
        for id in ["team", "team-ab", "default"] {
            let marker = format!("[chatcaptain.dev {id}/ns/q4]");
            assert_eq!(owner(&marker), MarkerOwner::OtherOwner(id.to_owned()));
        }
    }
}
