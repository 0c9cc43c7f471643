//! How new the service's answers have to be for a decision. Each kind decides it in its own `freshness` file; the
//! controller converts it to instants, the model to steps.

use std::time::Duration;

use super::ServiceView;

/// How new one answer has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Requested from now on: the decision depends on the state at this moment.
    Now,
    /// Requested after this process wrote the create intent. Every create that was decided meanwhile can share it.
    AfterIntent,
    /// Requested at most this long ago.
    Within(Duration),
}

/// What to read from the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceReads {
    /// How new the list of versions has to be.
    pub list: Freshness,
    /// How new the deployment status has to be; `None` where nothing of the object can be live.
    pub deployment_status: Option<Freshness>,
}

/// Whether a list proves that the key belongs to the account that holds our versions: it shows the version that status
/// names, or any with this installation's marker. Only such a key is believed when it does not show a version; a key
/// of another account shows an empty or foreign list.
#[must_use]
pub fn proves_account(
    inventory: &crate::chatcaptain::Inventory,
    version_id: Option<&str>,
    owner_id: &str,
) -> bool {
    version_id.is_some_and(|id| inventory.version(id).is_some()) || inventory.contains_owner(owner_id)
}

impl ServiceView {
    /// Whether the list shows `id`; `None` without a list.
    pub(super) fn lists(&self, id: &str) -> Option<bool> {
        if let Self::Available { inventory, .. } = self {
            Some(inventory.version(id).is_some())
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::time::Instant;

    use super::*;
    use crate::chatcaptain::{Inventory, Version, VersionId};

    #[test]
    fn key_of_our_account_lists_our_version_or_our_marker() {
        let inventory = |description: &str| {
            let version = Version {
                id: VersionId::parse("v1").unwrap(),
                name: None,
                description: Some(description.into()),
                number: None,
                created: None,
                deployed: None,
                contents: None,
            };
            Inventory::new(vec![version], Instant::now())
        };
        let foreign = inventory("created manually");
        assert!(proves_account(&foreign, Some("v1"), "default"));
        assert!(!proves_account(&foreign, Some("v2"), "default"));
        assert!(!proves_account(&foreign, None, "default"));
        let marked = inventory("[chatcaptain.dev default/ns/a]");
        assert!(proves_account(&marked, Some("v2"), "default"));
        assert!(!proves_account(&marked, Some("v2"), "other"));
    }
}
