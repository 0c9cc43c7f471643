//! What to do about one `ChatbotDeployment`: the states, the steps, and the table that joins them.

mod facts;
mod history;
mod tell;
mod words;

use std::fmt;

pub use facts::{Facts, Leaving, Wanted, coming};
pub use tell::{Outcome, tell};

use super::Blocked;
use crate::crd::Cause;

/// What matters of everything that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
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
    pub held: bool,
    /// What stands in the way of looking.
    pub blocked: Option<Blocked>,
    /// The version that should run.
    pub target: Target,
    /// What runs.
    pub live: Live,
    /// The change under way.
    pub operation: Operation,
    /// The version ran here before, and going back is by rollback.
    pub back: bool,
    /// Whether another deployment comes first.
    pub gate: Gate,
    /// Somebody moved the environment by hand.
    pub drift: Drift,
    /// Versions to delete once they are free.
    pub retiring: Retiring,
}

/// The version that should run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// It is known, and who says so.
    Known(Cause),
    /// It is known, and failed for this generation with nothing to go back to.
    Failed,
    /// It is not.
    Unresolved(Unresolved),
}

/// Why the wanted version is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unresolved {
    /// The `ChatbotVersion` is not there or not ready yet.
    Waiting,
    /// It belongs to another chatbot.
    Mismatch,
    /// No such version in the service.
    NotFound,
    /// More than one version of that number.
    Ambiguous,
    /// `rollback-to` names nothing.
    Command,
}

/// What runs, compared with what should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Live {
    /// The wanted version.
    Wanted,
    /// Another one, or none.
    Other,
}

/// The change under way to the wanted version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// There is none.
    None,
    /// Decided and written by this process; not called yet.
    Fresh(Call),
    /// Decided; whether it was called is not known.
    Unsure,
    /// Called, and it may still show.
    Called(Call),
    /// A rollback that was refused or shows no effect within the grace.
    Vain,
    /// The deadline is over.
    Overdue,
}

/// The two calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// Deploy.
    Deploy,
    /// Roll back.
    Rollback,
}

/// Whether another deployment comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gate {
    /// It has run the version for long enough, or there is no gate.
    Open,
    /// It may come to that.
    Closed,
    /// It does not go there: nothing will happen by itself.
    Shut,
}

/// What is known of changes by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Drift {
    /// None.
    None,
    /// An earlier call of our own took effect late; nobody is to blame.
    Late,
    /// To be reversed.
    Enforce,
    /// Reversed too often already.
    Exhausted,
    /// To be reported.
    Warn,
}

/// How an object is being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Deletion {
    /// `force-orphan`.
    pub forced: bool,
    /// The deletion timeout is over.
    pub overdue: bool,
}

/// Versions whose deletion was taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retiring {
    /// None.
    None,
    /// Some are about to be taken over.
    Arriving,
    /// All still run.
    Live,
    /// One can be deleted.
    Due,
    /// A delete was accepted; the list has not caught up.
    Sent,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Set the finalizer, before a deletion is taken over.
    Guard,
    /// Remove the finalizer.
    Unguard,
    /// Write what is about to be called.
    Intend(Call),
    /// Call it.
    Call(Call),
    /// Note that the version did not become live in time.
    Fail,
    /// Delete a version that runs here no more.
    Retire,
    /// Nothing; say how it is.
    Rest(Rest),
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rest {
    /// The environment runs what git wants.
    Ready,
    /// Suspended.
    Suspended,
    /// Backing off.
    Held,
    /// The spec breaks a rule.
    Invalid,
    /// An older object decides this environment.
    Conflict,
    /// The service tells nothing.
    Blocked(Blocked),
    /// The wanted version is not known.
    Unresolved(Unresolved),
    /// The gate is closed.
    Gated,
    /// The gate is shut.
    Shut,
    /// A call was made and may still show.
    Progressing(Call),
    /// The wanted version did not become live.
    Failed,
    /// An earlier version runs, and this is meant.
    RolledBack,
    /// Somebody deployed by hand, and is left alone.
    Tolerated,
    /// Somebody keeps deploying by hand.
    Fought,
    /// A version that is to be deleted is not gone yet.
    Deleting,
    /// The object is on its way out.
    Gone,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Guard => "set the finalizer",
            Self::Unguard => "remove the finalizer",
            Self::Intend(Call::Deploy) => "announce a deploy",
            Self::Intend(Call::Rollback) => "announce a rollback",
            Self::Call(Call::Deploy) => "deploy",
            Self::Call(Call::Rollback) => "roll back",
            Self::Fail => "give up a rollout",
            Self::Retire => "delete a version that no longer runs",
            Self::Rest(_) => "say how it is",
        })
    }
}

/// The next step.
#[must_use]
pub fn next(seen: &Seen) -> Step {
    let step = match seen.deleting {
        Some(deletion) => next_of_deletion(seen, deletion),
        None => next_of_life(seen),
    };
    match step {
        Step::Intend(_) | Step::Call(_) | Step::Retire if seen.held => Step::Rest(Rest::Held),
        step => step,
    }
}

fn next_of_life(seen: &Seen) -> Step {
    // taking over a deletion changes nothing in the service, so it comes before every reason to do nothing
    match seen.retiring {
        Retiring::Arriving if !seen.finalizer => return Step::Guard,
        Retiring::None if seen.finalizer => return Step::Unguard,
        _ => {}
    }
    if !seen.valid {
        return Step::Rest(Rest::Invalid);
    }
    if seen.suspended {
        return Step::Rest(Rest::Suspended);
    }
    if seen.conflict {
        return Step::Rest(Rest::Conflict);
    }
    if let Some(blocked) = seen.blocked {
        return Step::Rest(Rest::Blocked(blocked));
    }
    match (seen.target, seen.live) {
        (Target::Unresolved(why), _) => Step::Rest(Rest::Unresolved(why)),
        // while that backs off, the environment is told to be as it is
        (_, Live::Wanted) if seen.retiring == Retiring::Due && !seen.held => Step::Retire,
        (Target::Known(Cause::Git) | Target::Failed, Live::Wanted) => Step::Rest(Rest::Ready),
        (Target::Known(Cause::Command | Cause::Failure), Live::Wanted) => Step::Rest(Rest::RolledBack),
        (Target::Failed, Live::Other) => Step::Rest(Rest::Failed),
        (Target::Known(_), Live::Other) => next_of_change(seen),
    }
}

/// The environment runs something else than it should.
fn next_of_change(seen: &Seen) -> Step {
    match (seen.operation, seen.drift) {
        (Operation::Fresh(call), _) => Step::Call(call),
        (Operation::Called(call), _) => Step::Rest(Rest::Progressing(call)),
        (Operation::Overdue, _) => Step::Fail,
        // deploying the same version again is safe; only what is live counts
        (Operation::Unsure | Operation::Vain, _) => Step::Intend(Call::Deploy),
        (Operation::None, Drift::Warn) => Step::Rest(Rest::Tolerated),
        (Operation::None, Drift::Exhausted) => Step::Rest(Rest::Fought),
        (Operation::None, Drift::Late | Drift::Enforce) => Step::Intend(Call::Deploy),
        (Operation::None, Drift::None) if seen.gate == Gate::Closed => Step::Rest(Rest::Gated),
        (Operation::None, Drift::None) if seen.gate == Gate::Shut => Step::Rest(Rest::Shut),
        (Operation::None, Drift::None) if seen.back => Step::Intend(Call::Rollback),
        (Operation::None, Drift::None) => Step::Intend(Call::Deploy),
    }
}

/// What is live stays live: a deployment's deletion changes nothing in the service, but deletions that it
/// took over are carried out where they can be.
fn next_of_deletion(seen: &Seen, deletion: Deletion) -> Step {
    match (seen.blocked, seen.retiring) {
        _ if !seen.finalizer => Step::Rest(Rest::Gone),
        _ if deletion.forced || seen.suspended => Step::Unguard,
        (_, Retiring::None | Retiring::Arriving) => Step::Unguard,
        (Some(blocked), _) if blocked.is_credentials() && deletion.overdue => Step::Unguard,
        (Some(_), _) | (None, Retiring::Sent) => Step::Rest(Rest::Deleting),
        (None, Retiring::Due) => Step::Retire,
        (None, Retiring::Live) => Step::Unguard,
    }
}
