//! The operator's flags that plans depend on. Pure data; `args` parses them.

use std::time::Duration;

use crate::crd::{DeletionPolicy, MetaDuration};

/// The flags that plans depend on.
#[derive(Clone, Debug)]
pub struct PlanConfig {
    /// Names this installation in markers; the same for every cluster that is rebuilt from the same git.
    pub owner_id: String,
    /// How old an answer of the service may be, where the object does not say.
    pub interval: Duration,
    /// The shortest interval that an object may ask for: the service's rate limit is shared.
    pub min_interval: Duration,
    /// How long the service may take to list what it has created, or to show what was deployed.
    pub visibility_grace: Duration,
    /// What deleting a ChatbotVersion means where neither the object nor its namespace says so.
    pub deletion_policy: DeletionPolicy,
    /// How long a deletion waits for valid credentials.
    pub deletion_timeout: Duration,
}

impl PlanConfig {
    /// The interval of an object that asks for `requested`.
    #[must_use]
    pub fn interval(&self, requested: Option<MetaDuration>) -> Duration {
        requested.map_or(self.interval, MetaDuration::get).max(self.min_interval)
    }
}
