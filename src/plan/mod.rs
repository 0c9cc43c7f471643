//! Decisions: what is seen becomes one step, and what came of the step becomes a status.
//!
//! Everything here is pure: no clock, no client, no randomness; the caller hands those in. That is why tests
//! can walk every state.

pub mod deployment;
mod service_view;
pub mod status;
pub mod version;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

pub use service_view::{Unavailable, UnavailableReason};

use crate::{
    chatcaptain::{Deployments, Inventory},
    crd::{DeletionPolicy, MetaDuration, Operation, OperationRecord, OperationResult, annotation},
};

/// What the operator's flags decide.
#[derive(Clone, Debug)]
pub struct PlanConfig {
    /// Names this installation in markers; the same for every cluster that is rebuilt from the same git.
    pub owner_id: String,
    /// How often the service is looked at.
    pub interval: Duration,
    /// The shortest interval an object may ask for.
    pub min_interval: Duration,
    /// How long the service may take to list what it has created.
    pub visibility_grace: Duration,
    /// What deletion means where neither object nor namespace says so.
    pub deletion_policy: DeletionPolicy,
    /// How long a deletion waits for credentials.
    pub deletion_timeout: Duration,
}

impl PlanConfig {
    /// The interval of an object.
    #[must_use]
    pub fn interval(&self, asked: Option<MetaDuration>) -> Duration {
        asked.map_or(self.interval, MetaDuration::get).max(self.min_interval)
    }
}

/// What the service told.
#[derive(Clone)]
pub enum ServiceView {
    /// It was not asked: there is nothing to know.
    NotQueried,
    /// It told nothing.
    Unavailable(Unavailable),
    /// It told.
    Available {
        /// The bot's versions.
        inventory: Arc<Inventory>,
        /// What is live, where the key may read it.
        deployments: Option<Arc<Deployments>>,
        /// What this key does not list is gone.
        authoritative: bool,
        /// The version in question was called for and may be live in a moment.
        rollout_pending: bool,
        /// How long ago the list was asked for.
        age: Duration,
    },
}

impl ServiceView {
    /// When to look again at an object that is as it should be: when this look is older than the interval.
    #[must_use]
    pub fn requeue_when_stale(&self, interval: Duration, jitter: f64) -> Requeue {
        let age = if let Self::Available { age, .. } = self { *age } else { Duration::ZERO };
        let rest = interval.saturating_sub(age).max(Duration::from_secs(1));
        // spread a little, so that not everything wakes in one instant
        Requeue::After(rest + rest.mul_f64(jitter / 50.0))
    }
}

/// When to look at an object again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Requeue {
    /// At once, with the object as it was just written.
    Immediately,
    /// After this time, or when something happens.
    After(Duration),
    /// When something happens.
    OnChange,
}

/// An event to be shown in `kubectl describe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// A human should look at it.
    pub warning: bool,
    /// What, in one word; listed in the README.
    pub reason: EventReason,
    /// What happened and the next step.
    pub note: String,
}

macro_rules! event_reasons {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// What events tell. The README's table is held to this list by a test.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum EventReason { $($(#[doc = $doc])+ $name,)+ }

        impl EventReason {
            /// All of them, in the order of the README's table.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The event's `reason`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// What it means, for the README's table.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc,)+).trim_ascii(),)+ }
            }
        }
    };
}

event_reasons! {
    /// A version that existed already was taken over; nothing was created.
    Adopted,
    /// A create without a usable answer had made its version; it was found and recorded.
    CreateRecovered,
    /// The environment runs the wanted version after a deploy.
    Deployed,
    /// The environment went back to an earlier version.
    RolledBack,
    /// A rollback was refused or showed no effect; the version is deployed instead.
    RollbackFallback,
    /// A version did not become live in time.
    RolloutFailed,
    /// Somebody deployed another version by hand.
    DriftDetected,
    /// A version is no longer in the service.
    VersionLost,
    /// Other versions with the object's marker are in the service; they are left alone, on record.
    DuplicateFound,
    /// The deletion of a live version was handed over to the ChatbotDeployment that runs it.
    DeletionDelegated,
    /// A version whose deletion was handed over is gone.
    VersionDeleted,
    /// An object was let go while its version may still be in the service.
    Orphaned,
}

/// What is counted, beside events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterIncrement {
    /// A create without a usable answer turned out to have made its version.
    CreateRecovered,
    /// It turned out to have made none: another may be sent.
    CreateAbsent,
    /// A change by hand is reversed.
    DriftEnforced,
    /// A change by hand is reported.
    DriftWarned,
}

/// What a pass has to say.
#[derive(Clone, Debug)]
pub struct Report<S> {
    /// The status to publish, if it says something new.
    pub status: S,
    /// The finalizer is to be set or removed; nothing else is written then.
    pub finalizer: Option<bool>,
    /// When to look again.
    pub requeue: Requeue,
    /// What to tell as events.
    pub events: Vec<NewEvent>,
    /// What to count.
    pub counters: Vec<CounterIncrement>,
    /// Ids that may be left behind in the service.
    pub orphans: Vec<String>,
}

impl<S> Report<S> {
    /// A status and when to look again.
    #[must_use]
    pub fn new(status: S, pace: Requeue) -> Self {
        Self {
            status,
            finalizer: None,
            requeue: pace,
            events: Vec::new(),
            counters: Vec::new(),
            orphans: Vec::new(),
        }
    }

    /// With one more event.
    #[must_use]
    pub fn event(mut self, warning: bool, reason: EventReason, note: impl Into<String>) -> Self {
        self.events.push(NewEvent { warning, reason, note: note.into() });
        self
    }

    /// Counted once more.
    #[must_use]
    pub fn count(mut self, tally: CounterIncrement) -> Self {
        self.counters.push(tally);
        self
    }
}

/// The value of an annotation.
#[must_use]
pub fn annotation_value<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// A `reconcile-requested-at` token that was not acted on yet.
#[must_use]
pub fn reconcile_requested(meta: &ObjectMeta, handled: Option<&str>) -> bool {
    annotation_value(meta, annotation::RECONCILE_REQUESTED_AT).is_some_and(|token| handled != Some(token))
}

/// A time as objects keep it: in whole seconds.
#[must_use]
pub fn truncate_to_seconds(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

/// Time from `since` to `now`; zero if the clock went back.
#[must_use]
pub fn elapsed(since: &Time, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since.0)).unwrap_or_default()
}

/// A delete that was not refused and may still take effect.
fn is_pending_delete(record: &OperationRecord, now: Timestamp, grace: Duration) -> bool {
    record.operation == Operation::Delete
        && record.result != OperationResult::Refused
        && elapsed(&record.completion_time, now) <= grace
}

/// Of two objects with one claim, whether `a` was there first.
#[must_use]
pub fn is_older(a: &ObjectMeta, b: &ObjectMeta) -> bool {
    let key = |meta: &ObjectMeta| (meta.creation_timestamp.as_ref().map(|t| t.0), meta.uid.clone());
    key(a) < key(b)
}
