//! An environment that left the version it had reached, and how often that is corrected.

use std::time::Duration;

use super::{Drift, Observation, possibly_live};
use crate::{
    crd::{DriftCorrections, DriftPolicy},
    plan::{elapsed, truncate_to_seconds},
};

/// Corrections within the window, after which the operator corrects no more until the window ends.
// enough to undo a few manual deploys, few enough to end a conflict with another automation
const MAX_CORRECTIONS: i32 = 5;
/// Corrections are counted from the first one on for this long.
// a conflict that goes on costs at most 120 deploys a day
const WINDOW: Duration = Duration::from_hours(1);

impl Observation {
    /// Why the environment does not run `desired` any more, if it did.
    pub(super) fn drift(&self, desired: &str) -> Drift {
        let status = self.status();
        let target = status.target.as_ref().filter(|target| target.version_id == desired);
        // a target that was never reached is a rollout; and what is only concluded from our own calls shows no other writer
        if target.is_none_or(|target| target.reached_time.is_none()) || !self.live_is_observable() {
            return Drift::None;
        }
        // before the policy: our own call is no drift, and is corrected by `Warn`, too
        if self
            .live()
            .is_some_and(|live| possibly_live(&self.object, self.now, &self.config).any(|id| id == live))
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
            // `>=`: a requested correction counts, too, and may lift the count above the limit
            corrections.count >= MAX_CORRECTIONS
                && elapsed(&corrections.window_start_time, self.now) <= WINDOW
        })
    }

    /// The count with one more correction.
    pub(super) fn next_drift_corrections(&self) -> DriftCorrections {
        match &self.status().drift_corrections {
            // the window does not move: moved by each correction, a few spread over a day would count as within one
            // hour
            Some(old) if elapsed(&old.window_start_time, self.now) <= WINDOW => DriftCorrections {
                count: old.count.saturating_add(1),
                window_start_time: old.window_start_time.clone(),
            },
            _ => DriftCorrections { count: 1, window_start_time: truncate_to_seconds(self.now) },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::fixtures::*, *};
    use crate::crd::annotation;

    /// The environment ran v1, and runs v2.
    fn drifted() -> Observation {
        Observation::test().with_status(&reached_target("v1")).running(Some("v2"))
    }

    fn corrected(count: i32, seconds: i64) -> Observation {
        drifted().with_status(&json!({"driftCorrections": {"count": count, "windowStartTime": ago(seconds)}}))
    }

    #[test]
    fn drift_is_corrected_or_reported() {
        assert_eq!(drifted().state().drift, Drift::Enforce);
        assert_eq!(drifted().with_spec(&json!({"drift": "Warn"})).state().drift, Drift::Warn);
    }

    #[test]
    fn only_a_reached_and_observable_environment_drifts() {
        let unreached = Observation::test().running(Some("v2"));
        assert_eq!(unreached.state().drift, Drift::None);
        let unobservable = drifted().listing([version("v1"), version("v2")]);
        assert_eq!(unobservable.state().drift, Drift::None);
        assert_eq!(drifted().running(Some("v1")).state().drift, Drift::None);
    }

    #[test]
    fn drift_correction_pauses_after_the_limit() {
        assert_eq!(corrected(4, 100).state().drift, Drift::Enforce);
        assert_eq!(corrected(5, 100).state().drift, Drift::LimitReached);
        assert_eq!(corrected(5, 3601).state().drift, Drift::Enforce);
        let requested = corrected(5, 100).annotated(annotation::RECONCILE_REQUESTED_AT, "once more");
        assert_eq!(requested.state().drift, Drift::Enforce);
    }

    #[test]
    fn drift_corrections_are_counted_within_an_hour() {
        let next = |observation: &Observation| {
            let corrections = observation.next_drift_corrections();
            (corrections.count, corrections.window_start_time.0)
        };
        assert_eq!(next(&drifted()), (1, at(0)));
        assert_eq!(next(&corrected(4, 100)), (5, at(-100)));
        assert_eq!(next(&corrected(5, 3601)), (1, at(0)));
    }

    #[test]
    fn late_effect_of_our_own_call_is_nobodys_drift() {
        let lost = json!({"lastOperations": [
            {"operation": "Deploy", "versionId": "v2", "completionTime": ago(10), "result": "Unknown"},
        ]});
        assert_eq!(drifted().with_status(&lost).state().drift, Drift::LateEffect);
        assert_eq!(drifted().with_status(&lost).running(Some("v3")).state().drift, Drift::Enforce);
    }
}
