//! An environment that left the version it had reached, and how often that is corrected.

use std::time::Duration;

use super::{Drift, Observation, possibly_live};
use crate::{
    crd::{DriftCorrections, DriftPolicy},
    plan::{elapsed, truncate_to_seconds},
};

/// Corrections within the window, after which the operator leaves the environment to whoever keeps deploying.
const MAX_CORRECTIONS: i32 = 5;
const WINDOW: Duration = Duration::from_hours(1);

impl Observation {
    /// Why the environment does not run `desired` any more, if it did.
    pub(super) fn drift(&self, desired: &str) -> Drift {
        let status = self.status();
        let target = status.target.as_ref().filter(|target| target.version_id == desired);
        if target.is_none_or(|target| target.reached_time.is_none()) || !self.live_is_observable() {
            return Drift::None;
        }
        if self.live().is_some_and(|live| possibly_live(status, self.now, &self.config).any(|id| id == live))
        {
            return Drift::LateEffect;
        }
        match self.object.spec.drift.unwrap_or(DriftPolicy::Enforce) {
            DriftPolicy::Warn => Drift::Warn,
            DriftPolicy::Enforce if self.limit_reached() && !self.is_reconcile_requested() => {
                Drift::LimitReached
            }
            DriftPolicy::Enforce => Drift::Enforce,
        }
    }

    fn limit_reached(&self) -> bool {
        let corrections = self.status().drift_corrections.as_ref();
        corrections.is_some_and(|corrections| {
            corrections.count >= MAX_CORRECTIONS
                && elapsed(&corrections.window_start_time, self.now) <= WINDOW
        })
    }

    /// The count with one more correction.
    pub(super) fn next_drift_corrections(&self) -> DriftCorrections {
        match &self.status().drift_corrections {
            Some(old) if elapsed(&old.window_start_time, self.now) <= WINDOW => DriftCorrections {
                count: old.count.saturating_add(1),
                window_start_time: old.window_start_time.clone(),
            },
            _ => DriftCorrections { count: 1, window_start_time: truncate_to_seconds(self.now) },
        }
    }
}
