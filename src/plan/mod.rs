//! Decisions: an observation becomes one step, and the outcome of the step becomes a report.
//!
//! Everything here is pure: no clock, no client, no randomness; the caller hands those in. That is why the model in
//! `tests/model` can check every state of the code that ships.
//!
//! Each kind has the same files: `observation` (everything a decision can depend on), `state` (the same, reduced to a few
//! enums), `next` (state to step), `status` (outcome to report), `messages` (every sentence that a user sees) and
//! `freshness` (how new the service's answers have to be).

pub mod call_permits;
pub mod claims;
mod config;
mod deploy_times;
pub mod deployment;
mod freshness;
mod marker_owner;
pub mod messages;
mod recorded_times;
mod report;
mod service_view;
pub mod status;
pub mod version;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

pub use config::PlanConfig;
pub use freshness::{Freshness, ServiceReads, proves_account};
pub use marker_owner::{MarkerOwner, marker_owner};
pub use recorded_times::{RecordedTimes, is_in_future};
pub use report::{CounterIncrement, EventReason, NewEvent, Report, Requeue};
pub use service_view::{ServiceView, Unavailable, UnavailableReason};

use crate::crd::{CommonStatus, Operation, OperationRecord, OperationResult, annotation};

/// Characters of a `reconcile-requested-at` token that count.
const MAX_TOKEN: usize = 256;

/// The value of an annotation; `None` where the object does not have it.
#[must_use]
pub fn annotation_value<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The token of `reconcile-requested-at`: its first 256 characters, because status echoes it and the size of an object is
/// bounded.
#[must_use]
pub fn reconcile_token(meta: &ObjectMeta) -> Option<&str> {
    let token = annotation_value(meta, annotation::RECONCILE_REQUESTED_AT)?;
    let end = token.char_indices().nth(MAX_TOKEN).map_or(token.len(), |(end, _)| end);
    Some(&token[..end])
}

/// Whether a `reconcile-requested-at` token waits to be handled; `handled` is the one that status echoes.
#[must_use]
pub fn reconcile_requested(meta: &ObjectMeta, handled: Option<&str>) -> bool {
    reconcile_token(meta).is_some_and(|token| handled != Some(token))
}

/// Whether the user wants the service to be asked now, whatever it refused before: by a `reconcile-requested-at` token, or by
/// a change of the spec, which may refer to another key.
#[must_use]
pub fn retry_requested(meta: &ObjectMeta, status: &CommonStatus) -> bool {
    // the first reconcile of an object is no change of it: a thousand new objects request nothing
    let is_changed = status.observed_generation != meta.generation
        && status.observed_generation.is_some_and(|observed| observed > 0);
    is_changed || reconcile_requested(meta, status.last_handled_reconcile_at.as_deref())
}

/// Whether the last known key may be used where its Secret is gone: for a deletion, because a namespace that is deleted may
/// lose its Secret first, and not for ever, because who removes a key means it.
#[must_use]
pub fn may_use_removed_key(meta: &ObjectMeta, deletion_timeout: Duration, now: Timestamp) -> bool {
    meta.deletion_timestamp.as_ref().is_some_and(|since| elapsed(since, now) <= deletion_timeout)
}

/// A time the way objects keep it: in whole seconds.
#[must_use]
pub fn truncate_to_seconds(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

/// Time from `since` to `now`; zero if the clock went back.
#[must_use]
pub fn elapsed(since: &Time, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since.0)).unwrap_or_default()
}

/// Whether a recorded delete was not refused and may still take effect.
fn is_pending_delete(record: &OperationRecord, now: Timestamp, grace: Duration) -> bool {
    // an unknown outcome counts: the service may still carry it out
    record.operation == Operation::Delete
        && record.result != OperationResult::Refused
        && elapsed(&record.completion_time, now) <= grace
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn removed_key_is_used_for_a_deletion_until_its_timeout() {
        let now = Timestamp::from_second(1000).unwrap();
        let deleted = |ago: i64| ObjectMeta {
            deletion_timestamp: Some(Time(Timestamp::from_second(1000 - ago).unwrap())),
            ..ObjectMeta::default()
        };
        let may_use = |meta: &ObjectMeta| may_use_removed_key(meta, Duration::from_mins(1), now);
        assert!(!may_use(&ObjectMeta::default()));
        assert!(may_use(&deleted(60)));
        assert!(!may_use(&deleted(61)));
    }

    #[test]
    fn retry_is_requested_by_a_token_or_a_changed_spec() {
        let meta = |token: Option<&str>| {
            let annotations =
                token.map(|token| [(annotation::RECONCILE_REQUESTED_AT.to_owned(), token.to_owned())].into());
            ObjectMeta { generation: Some(2), annotations, ..ObjectMeta::default() }
        };
        let observed =
            |generation| CommonStatus { observed_generation: generation, ..CommonStatus::default() };
        assert!(!retry_requested(&meta(None), &observed(Some(2))));
        assert!(retry_requested(&meta(None), &observed(Some(1))));
        assert!(retry_requested(&meta(Some("now")), &observed(Some(2))));
        for new in [None, Some(-1)] {
            assert!(!retry_requested(&meta(None), &observed(new)), "{new:?}");
        }
    }
}
