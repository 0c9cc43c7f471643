//! The result of a reconcile before it is published: status, events, counters, and when to reconcile again.

use std::time::Duration;

use crate::crd::{LiveEnvironment, Operation};

/// When to reconcile an object again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Requeue {
    /// At once, with the object as returned by the write.
    Immediately,
    /// After this time, or on the next change.
    After(Duration),
    /// On the next change.
    OnChange,
}

impl Requeue {
    /// The same, but after `delay` at the latest.
    #[must_use]
    pub fn at_latest(self, delay: Duration) -> Self {
        match self {
            Self::Immediately => Self::Immediately,
            Self::After(later) => Self::After(later.min(delay)),
            Self::OnChange => Self::After(delay),
        }
    }
}

/// An event for `kubectl describe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// Whether its type is `Warning` instead of `Normal`.
    pub warning: bool,
    /// A CamelCase word that scripts and alerts can match.
    pub reason: EventReason,
    /// What happened, why and, for a warning, what to do next.
    pub note: String,
    /// Ids of the versions that it is about, where it names them.
    pub version_ids: Vec<String>,
}

macro_rules! event_reasons {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// The reasons of events, a closed list. A test compares the reference table with it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum EventReason { $($(#[doc = $doc])+ $name,)+ }

        impl EventReason {
            /// All reasons, in the order of the reference table.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The `reason` of the event.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// What it means, for the reference table.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc,)+).trim_ascii(),)+ }
            }
        }
    };
}

event_reasons! {
    /// A version is created.
    Created,
    /// The object takes over a version that already exists in the service; nothing is created.
    Adopted,
    /// The result of a create request was unknown; its version is found and recorded.
    CreateRecovered,
    /// The environment runs the desired version after a deploy.
    Deployed,
    /// The environment runs an earlier version again.
    RolledBack,
    /// The annotation rollback-to is removed: its rollback has ended, or it names no version to go back to.
    RollbackCommandEnded,
    /// The service rejects a rollback, or it has no effect; the operator deploys the version instead.
    RollbackFallback,
    /// A version does not become live within spec.progressDeadline.
    RolloutFailed,
    /// Another version was deployed outside the operator.
    DriftDetected,
    /// A version is no longer in the service.
    VersionLost,
    /// The service has more versions with the object's marker; they are left alone and recorded.
    DuplicateFound,
    /// The ChatbotVersion of a version in use is deleted; the ChatbotDeployment that uses the version deletes it later.
    DeletionDelegated,
    /// The version of a deleted ChatbotVersion is no longer in the service.
    VersionDeleted,
    /// An annotation that starts with chatcaptain.dev/ does not exist, so it has no effect. After a restart only the log repeats this.
    UnknownAnnotation,
    /// An object's finalizer is removed while its version may still exist in the service.
    Orphaned,
}

impl EventReason {
    /// Whether it is also sent to `--events-address`: how a rollout ended, drift, and versions that may be left behind.
    #[must_use]
    pub fn is_sent(self) -> bool {
        matches!(
            self,
            Self::Deployed
                | Self::RolledBack
                | Self::RolloutFailed
                | Self::DriftDetected
                | Self::DuplicateFound
                | Self::Orphaned
        )
    }
}

/// A counter to increment once the report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterIncrement {
    /// A create of unknown outcome had made its version.
    CreateRecovered,
    /// A create of unknown outcome had made no version: another may be sent.
    CreateAbsent,
    /// The service has more versions of the object than one.
    DuplicateFound,
    /// Drift is corrected.
    DriftEnforced,
    /// Drift is reported only.
    DriftWarned,
    /// The version of a rollout is live.
    RolloutSucceeded {
        /// Where.
        environment: LiveEnvironment,
        /// By a deploy or a rollback.
        operation: Operation,
        /// From its snapshot until it was live, as far as the service shows both.
        lead_time: Option<Duration>,
    },
    /// The version of a rollout is not live by the deadline.
    RolloutFailed {
        /// Where.
        environment: LiveEnvironment,
        /// By a deploy or a rollback.
        operation: Operation,
    },
}

/// The result of a reconcile, before it is published.
#[derive(Clone, Debug)]
pub struct Report<S> {
    /// Written only if it differs from the object's status.
    pub status: S,
    /// Whether to add or remove the finalizer; the status is not written then.
    pub finalizer: Option<bool>,
    /// An annotation to remove; the status is not written then.
    pub annotation_to_remove: Option<&'static str>,
    /// When to reconcile again.
    pub requeue: Requeue,
    /// Emitted once the report is written.
    pub events: Vec<NewEvent>,
    /// Incremented once the report is written.
    pub counters: Vec<CounterIncrement>,
    /// Ids of versions that may be left behind in the service.
    pub orphans: Vec<String>,
}

impl<S> Report<S> {
    /// A report of `status` alone.
    #[must_use]
    pub fn new(status: S, requeue: Requeue) -> Self {
        Self {
            status,
            finalizer: None,
            annotation_to_remove: None,
            requeue,
            events: Vec::new(),
            counters: Vec::new(),
            orphans: Vec::new(),
        }
    }

    /// With one more event.
    #[must_use]
    pub fn event(mut self, warning: bool, reason: EventReason, note: impl Into<String>) -> Self {
        self.events.push(NewEvent { warning, reason, note: note.into(), version_ids: Vec::new() });
        self
    }

    /// With an event about versions that may be left behind in the service, each of them an orphan.
    #[must_use]
    pub fn orphaned(self, reason: EventReason, note: impl Into<String>, version_ids: Vec<String>) -> Self {
        let mut report = self.event(true, reason, note).about(&version_ids);
        report.orphans.extend(version_ids);
        report
    }

    /// The last event is about these versions.
    #[must_use]
    pub fn about<T: AsRef<str>>(mut self, version_ids: &[T]) -> Self {
        if let Some(event) = self.events.last_mut() {
            event.version_ids = version_ids.iter().map(|id| id.as_ref().to_owned()).collect();
        }
        self
    }

    /// With one more counter.
    #[must_use]
    pub fn count(mut self, counter: CounterIncrement) -> Self {
        self.counters.push(counter);
        self
    }
}
