//! What decides the next step: a few small enums, so that the tests can go through every combination.

use std::time::Duration;

use super::{Desired, Observation};
use crate::{
    crd::{Cause, FINALIZER, Reason, annotation},
    plan::{ServiceView, UnavailableReason, annotation_value, elapsed, status::is_backing_off},
};

/// Everything that [`next_step`](super::next_step) knows of an [`Observation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The spec names exactly one version, and what else it says can be read.
    pub spec_valid: bool,
    /// `spec.suspend` is true.
    pub suspended: bool,
    /// Set while the object is being deleted.
    pub deleting: Option<Deletion>,
    /// The object carries the operator's finalizer.
    pub finalizer: bool,
    /// An older object manages the same environment of the same chatbot.
    pub conflict: bool,
    /// The annotation `rollback-to` leads nowhere, or no longer.
    pub command_ended: bool,
    /// The last call for this target failed a moment ago: none is made for it until the backoff ends.
    pub backing_off: bool,
    /// Why the service could not be read, if it could not.
    pub unavailable: Option<UnavailableReason>,
    /// The version that should run.
    pub target: TargetState,
    /// What runs.
    pub live: Live,
    /// The environment runs a version of another installation.
    pub foreign_live: bool,
    /// How far the current operation has come.
    pub rollout: Rollout,
    /// The desired version ran here before the live one, and `spec.rollback.method` allows the rollback call.
    pub use_rollback: bool,
    /// Whether the rollout may begin.
    pub promotion: Promotion,
    /// Whether the environment left the version that it had reached.
    pub drift: Drift,
    /// How far the deletions have come that this object took over.
    pub pending_deletion: PendingDeletionState,
}

/// The version that should run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TargetState {
    /// A known version, and what decided that it should run.
    Resolved(Cause),
    /// A known version that did not become live in time in this generation, and no version to go back to.
    Failed,
    /// The spec or the command does not lead to one version.
    Unresolved(Unresolved),
}

/// Why the desired version is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unresolved {
    /// The `ChatbotVersion` does not exist, has no version yet, or is being deleted.
    WaitingForVersion,
    /// The same, for longer than `progressDeadline`.
    VersionTimedOut,
    /// The `ChatbotVersion` belongs to another chatbot.
    ReferenceMismatch,
    /// The service lists no version with this id or number.
    VersionNotFound,
    /// The service lists several versions with this number.
    AmbiguousVersion,
}

/// What runs, compared with what should run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Live {
    /// The desired version, and no call for another one is in flight.
    Desired,
    /// Another version, none, or one that the list does not identify.
    Other,
}

/// How far the current operation has come. Only an operation on the desired version counts, or one that may still
/// replace it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rollout {
    /// There is no operation, or its deploy was rejected.
    None,
    /// This process wrote the intent and has not sent the call.
    IntentRecorded(RolloutMethod),
    /// It is unknown whether the call was sent or took effect, and the visibility grace is over.
    OutcomeUnknown,
    /// The call may still take effect.
    InProgress(RolloutMethod),
    /// The rollback was rejected, or showed no effect within the visibility grace.
    RollbackIneffective,
    /// The version did not become live within `progressDeadline`.
    DeadlineExceeded,
}

/// The call that makes a version live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RolloutMethod {
    /// Deploy: leads to any version, and may be repeated.
    Deploy,
    /// Roll back: leads to a version that ran here before, where the service supports it.
    Rollback,
}

/// Whether the rollout may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Promotion {
    /// Nothing stands before the version, or it goes back.
    Allowed,
    /// The version has not passed this gate yet.
    Waiting(Gate),
    /// The other deployment does not get there by itself: it waits for this one, is suspended, or, once `progressDeadline`
    /// is over, is Stalled or has another version as its target.
    Blocked,
}

/// What holds a move forward, in the order in which they are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gate {
    /// Another deployment has to be Ready on the version, and for the soak time.
    Promotion,
    /// The version has to be verified.
    Verification,
    /// The version has to be approved.
    Approval,
    /// No window is open.
    Window,
    /// The namespace is frozen.
    Freeze,
}

impl Gate {
    /// All gates.
    pub const ALL: [Self; 5] =
        [Self::Promotion, Self::Verification, Self::Approval, Self::Window, Self::Freeze];

    /// The reason of an object that waits for it.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::Freeze => Reason::Frozen,
            Self::Promotion => Reason::WaitingForPromotion,
            Self::Verification => Reason::WaitingForVerification,
            Self::Approval => Reason::WaitingForApproval,
            Self::Window => Reason::WaitingForWindow,
        }
    }
}

/// Whether the environment left the version that it had reached, and what is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Drift {
    /// It did not, or what runs cannot be observed.
    None,
    /// An earlier call of the operator, whose outcome was unknown, took effect after all.
    LateEffect,
    /// Another version was deployed outside the operator: the desired one is deployed again.
    Enforce,
    /// Another version was deployed outside the operator, and corrections have reached the limit.
    LimitReached,
    /// Another version was deployed outside the operator, and `spec.drift` is Warn.
    Warn,
}

/// How the object is being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Deletion {
    /// The annotation `force-orphan` is set.
    pub force_orphan: bool,
    /// The CRD is being deleted: uninstalling deletes no version.
    pub uninstalling: bool,
    /// `--deletion-timeout` is over.
    pub timed_out: bool,
}

/// How far the deletions have come that this object took over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PendingDeletionState {
    /// There are none.
    None,
    /// A version that runs here lost its object: the deletion is to be taken over.
    New,
    /// No version can be deleted: each is in use, or may be.
    InUse,
    /// A version can be deleted.
    Ready,
    /// The versions that can be deleted wait for their backoff.
    BackingOff,
    /// A delete was sent, and the list may still show the version.
    InFlight,
    /// This object is being deleted, and an object whose deletion it took over has not observed that yet.
    HandingOver,
}

impl Observation {
    /// What decides the next step.
    #[must_use]
    pub fn state(&self) -> State {
        let meta = &self.object.metadata;
        let desired = self.desired();
        let id = desired.as_ref().ok().map(|desired| desired.version_id.as_str());
        let live = if id.is_some_and(|id| self.is_live(id)) { Live::Desired } else { Live::Other };
        State {
            spec_valid: self.invalid_spec().is_none(),
            suspended: self.object.spec.suspend == Some(true),
            deleting: self.deletion(),
            finalizer: meta.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER),
            conflict: self.older_claim.is_some(),
            command_ended: self.command_to_remove().is_some(),
            backing_off: desired.as_ref().is_ok_and(|desired| self.is_backing_off(desired)),
            unavailable: self.unavailable_reason(),
            target: self.target_state(&desired, live),
            live,
            foreign_live: self.live_owner().is_some(),
            rollout: id.map_or(Rollout::None, |id| self.rollout(id)),
            use_rollback: id.is_some_and(|id| self.use_rollback(id)),
            promotion: desired.as_ref().map_or(Promotion::Allowed, |desired| self.promotion(desired)),
            drift: match id {
                Some(id) if live == Live::Other => self.drift(id),
                _ => Drift::None,
            },
            pending_deletion: self.pending_deletion_state(),
        }
    }

    fn deletion(&self) -> Option<Deletion> {
        let meta = &self.object.metadata;
        meta.deletion_timestamp.as_ref().map(|since| Deletion {
            force_orphan: annotation_value(meta, annotation::FORCE_ORPHAN).is_some(),
            uninstalling: self.crd_is_being_deleted,
            timed_out: elapsed(since, self.now) > self.config.deletion_timeout,
        })
    }

    /// The backoff belongs to the rollout that failed: not to another version, nor to the same one for another cause.
    fn is_backing_off(&self, desired: &Desired) -> bool {
        let (status, meta) = (self.status(), &self.object.metadata);
        let failed = status.target.as_ref().is_some_and(|target| desired.is(target));
        failed && is_backing_off(&status.common, meta, self.now)
    }

    fn unavailable_reason(&self) -> Option<UnavailableReason> {
        if let ServiceView::Unavailable(unavailable) = &self.service {
            Some(unavailable.reason)
        } else {
            None
        }
    }

    fn target_state(&self, desired: &Result<Desired, Unresolved>, live: Live) -> TargetState {
        match desired {
            Err(Unresolved::WaitingForVersion) if self.time_for_version() == Some(Duration::ZERO) => {
                TargetState::Unresolved(Unresolved::VersionTimedOut)
            }
            Err(why) => TargetState::Unresolved(*why),
            // only while another version runs: one that becomes live late is as good as one in time
            Ok(desired) if live == Live::Other && self.has_failed(&desired.version_id) => TargetState::Failed,
            Ok(desired) => TargetState::Resolved(desired.cause),
        }
    }
}
