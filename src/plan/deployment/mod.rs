//! What to do about one `ChatbotDeployment`: the states, the steps, and the table that joins them.

mod freshness;
mod history;
mod messages;
mod observation;
mod status;

use std::fmt;

pub use observation::{Desired, Observation, VersionBeingDeleted, possibly_live};
pub use status::{Outcome, report};

use super::UnavailableReason;
use crate::crd::Cause;

/// What matters of everything that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The spec names exactly one version.
    pub valid: bool,
    /// `spec.suspend`.
    pub suspended: bool,
    /// The object is being deleted, and how.
    pub deleting: Option<Deletion>,
    /// Our finalizer is there.
    pub finalizer: bool,
    /// An older object decides this environment.
    pub conflict: bool,
    /// Backoff: nothing is changed in the service yet.
    pub backing_off: bool,
    /// What stands in the way of looking.
    pub unavailable: Option<UnavailableReason>,
    /// The version that should run.
    pub target: Target,
    /// What runs.
    pub live: Live,
    /// The change under way.
    pub rollout: Rollout,
    /// The version ran here before, and going back is by rollback.
    pub use_rollback: bool,
    /// Whether another deployment comes first.
    pub promotion: Promotion,
    /// Somebody moved the environment by hand.
    pub drift: Drift,
    /// Versions to delete once they are free.
    pub pending_deletion: PendingDeletionState,
}

/// The version that should run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// It is known, and who says so.
    Resolved(Cause),
    /// It is known, and failed for this generation with nothing to go back to.
    Failed,
    /// It is not.
    Unresolved(Unresolved),
}

/// Why the wanted version is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unresolved {
    /// The `ChatbotVersion` is not there or not ready yet.
    WaitingForVersion,
    /// It belongs to another chatbot.
    ReferenceMismatch,
    /// No such version in the service.
    VersionNotFound,
    /// More than one version of that number.
    AmbiguousVersion,
    /// `rollback-to` names nothing.
    RollbackTargetNotFound,
}

/// What runs, compared with what should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Live {
    /// The wanted version.
    Desired,
    /// Another one, or none.
    Other,
}

/// The change under way to the wanted version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rollout {
    /// There is none.
    None,
    /// Decided and written by this process; not called yet.
    IntentRecorded(RolloutMethod),
    /// Decided; whether it was called is not known.
    OutcomeUnknown,
    /// Called, and it may still show.
    InProgress(RolloutMethod),
    /// A rollback that was refused or shows no effect within the grace.
    RollbackIneffective,
    /// The deadline is over.
    DeadlineExceeded,
}

/// The two calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RolloutMethod {
    /// Deploy.
    Deploy,
    /// Roll back.
    Rollback,
}

/// Whether another deployment comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Promotion {
    /// It has run the version for long enough, or there is no gate.
    Allowed,
    /// It may come to that.
    Waiting,
    /// It does not go there: nothing will happen by itself.
    Blocked,
}

/// What is known of changes by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Drift {
    /// None.
    None,
    /// An earlier call of our own took effect late; nobody is to blame.
    LateEffect,
    /// To be reversed.
    Enforce,
    /// Reversed too often already.
    LimitReached,
    /// To be reported.
    Warn,
}

/// How an object is being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Deletion {
    /// `force-orphan`.
    pub force_orphan: bool,
    /// The deletion timeout is over.
    pub timed_out: bool,
}

/// Versions whose deletion was taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PendingDeletionState {
    /// None.
    None,
    /// Some are about to be taken over.
    New,
    /// All still run.
    InUse,
    /// One can be deleted.
    Ready,
    /// A delete was accepted; the list has not caught up.
    InFlight,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Set the finalizer, before a deletion is taken over.
    AddFinalizer,
    /// Remove the finalizer.
    RemoveFinalizer,
    /// Write what is about to be called.
    RecordIntent(RolloutMethod),
    /// Call it.
    StartRollout(RolloutMethod),
    /// Note that the version did not become live in time.
    FailRollout,
    /// Delete a version that runs here no more.
    DeleteVersion,
    /// Nothing; say how it is.
    Wait(Wait),
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wait {
    /// The environment runs what git wants.
    Available,
    /// Suspended.
    Suspended,
    /// Backing off.
    BackingOff,
    /// The spec breaks a rule.
    InvalidSpec,
    /// An older object decides this environment.
    Conflict,
    /// The service tells nothing.
    Unavailable(UnavailableReason),
    /// The wanted version is not known.
    Unresolved(Unresolved),
    /// The gate is closed.
    WaitingForPromotion,
    /// The gate is shut.
    PromotionBlocked,
    /// A call was made and may still show.
    Progressing(RolloutMethod),
    /// The wanted version did not become live.
    ProgressDeadlineExceeded,
    /// An earlier version runs, and this is meant.
    RolledBack,
    /// Somebody deployed by hand, and is left alone.
    DriftTolerated,
    /// Somebody keeps deploying by hand.
    DriftCorrectionPaused,
    /// A version that is to be deleted is not gone yet.
    Deleting,
    /// The object is on its way out.
    WaitingForOtherFinalizers,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AddFinalizer => "set the finalizer",
            Self::RemoveFinalizer => "remove the finalizer",
            Self::RecordIntent(RolloutMethod::Deploy) => "announce a deploy",
            Self::RecordIntent(RolloutMethod::Rollback) => "announce a rollback",
            Self::StartRollout(RolloutMethod::Deploy) => "deploy",
            Self::StartRollout(RolloutMethod::Rollback) => "roll back",
            Self::FailRollout => "give up a rollout",
            Self::DeleteVersion => "delete a version that no longer runs",
            Self::Wait(_) => "say how it is",
        })
    }
}

/// The next step.
#[must_use]
pub fn next_step(seen: &State) -> Step {
    let step = match seen.deleting {
        Some(deletion) => next_step_deleting(seen, deletion),
        None => next_step_active(seen),
    };
    match step {
        Step::RecordIntent(_) | Step::StartRollout(_) | Step::DeleteVersion if seen.backing_off => {
            Step::Wait(Wait::BackingOff)
        }
        step => step,
    }
}

fn next_step_active(seen: &State) -> Step {
    // taking over a deletion changes nothing in the service, so it comes before every reason to do nothing
    match seen.pending_deletion {
        PendingDeletionState::New if !seen.finalizer => return Step::AddFinalizer,
        PendingDeletionState::None if seen.finalizer => return Step::RemoveFinalizer,
        _ => {}
    }
    if !seen.valid {
        return Step::Wait(Wait::InvalidSpec);
    }
    if seen.suspended {
        return Step::Wait(Wait::Suspended);
    }
    if seen.conflict {
        return Step::Wait(Wait::Conflict);
    }
    if let Some(blocked) = seen.unavailable {
        return Step::Wait(Wait::Unavailable(blocked));
    }
    match (seen.target, seen.live) {
        (Target::Unresolved(why), _) => Step::Wait(Wait::Unresolved(why)),
        // while that backs off, the environment is told to be as it is
        (_, Live::Desired) if seen.pending_deletion == PendingDeletionState::Ready && !seen.backing_off => {
            Step::DeleteVersion
        }
        (Target::Resolved(Cause::Spec) | Target::Failed, Live::Desired) => Step::Wait(Wait::Available),
        (Target::Resolved(Cause::RollbackCommand | Cause::AutomaticRollback), Live::Desired) => {
            Step::Wait(Wait::RolledBack)
        }
        (Target::Failed, Live::Other) => Step::Wait(Wait::ProgressDeadlineExceeded),
        (Target::Resolved(_), Live::Other) => next_rollout_step(seen),
    }
}

/// The environment runs something else than it should.
fn next_rollout_step(seen: &State) -> Step {
    match (seen.rollout, seen.drift) {
        (Rollout::IntentRecorded(call), _) => Step::StartRollout(call),
        (Rollout::InProgress(call), _) => Step::Wait(Wait::Progressing(call)),
        (Rollout::DeadlineExceeded, _) => Step::FailRollout,
        // deploying the same version again is safe; only what is live counts
        (Rollout::OutcomeUnknown | Rollout::RollbackIneffective, _) => {
            Step::RecordIntent(RolloutMethod::Deploy)
        }
        (Rollout::None, Drift::Warn) => Step::Wait(Wait::DriftTolerated),
        (Rollout::None, Drift::LimitReached) => Step::Wait(Wait::DriftCorrectionPaused),
        (Rollout::None, Drift::LateEffect | Drift::Enforce) => Step::RecordIntent(RolloutMethod::Deploy),
        (Rollout::None, Drift::None) if seen.promotion == Promotion::Waiting => {
            Step::Wait(Wait::WaitingForPromotion)
        }
        (Rollout::None, Drift::None) if seen.promotion == Promotion::Blocked => {
            Step::Wait(Wait::PromotionBlocked)
        }
        (Rollout::None, Drift::None) if seen.use_rollback => Step::RecordIntent(RolloutMethod::Rollback),
        (Rollout::None, Drift::None) => Step::RecordIntent(RolloutMethod::Deploy),
    }
}

/// What is live stays live: a deployment's deletion changes nothing in the service, but deletions that it
/// took over are carried out where they can be.
fn next_step_deleting(seen: &State, deletion: Deletion) -> Step {
    match (seen.unavailable, seen.pending_deletion) {
        _ if !seen.finalizer => Step::Wait(Wait::WaitingForOtherFinalizers),
        _ if deletion.force_orphan || seen.suspended => Step::RemoveFinalizer,
        (_, PendingDeletionState::None | PendingDeletionState::New) => Step::RemoveFinalizer,
        (Some(blocked), _) if blocked.is_credentials_problem() && deletion.timed_out => Step::RemoveFinalizer,
        (Some(_), _) | (None, PendingDeletionState::InFlight) => Step::Wait(Wait::Deleting),
        (None, PendingDeletionState::Ready) => Step::DeleteVersion,
        (None, PendingDeletionState::InUse) => Step::RemoveFinalizer,
    }
}
