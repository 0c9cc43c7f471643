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

use crate::crd::{Operation, OperationRecord, OperationResult, annotation};

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
