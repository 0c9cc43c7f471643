//! What to do about one `ChatbotDeployment`: which version an environment should run, and how it gets there.
//!
//! # Rollout
//!
//! 1. **Intent.** [`Step::RecordIntent`] writes `status.currentOperation`: which call, on which version, since when,
//!    and when the list says that version was last deployed. The write carries the resourceVersion that was read, so of
//!    two processes one loses. Only the process that wrote the intent may send the call ([`Observation::may_call`]).
//! 2. **Call.** [`Step::StartRollout`] sends it once and records `callTime` and the result. A call that was provably not
//!    sent does not count: the intent stays, and the same process may still send it. An intent without a call whose process
//!    died is [`Rollout::OutcomeUnknown`] after the visibility grace, and a deploy of the same version follows: to deploy
//!    twice does no harm, only what is live counts.
//! 3. **Proof.** A rollout is done when the environment shows the version, not when the call returns
//!    ([`Observation::live`]):
//!    - the deployment status can be read: it names the version, by a number that only one listed version has, or by id;
//!    - only the list: the version's `deployed` time is another one than in the intent. After a call without a usable
//!      answer this counts only if no other environment has to do with the version;
//!    - neither: an accepted deploy counts once the visibility grace is over; a rollback never does.
//! 4. **Rollback.** A version that ran before the live one is reached by the rollback call, unless `spec.rollback.method` is
//!    Redeploy.
//!    Services differ in what that call does, so a rollback that is rejected, or shows nothing within the visibility
//!    grace, is [`Rollout::RollbackIneffective`], and a deploy of the same version follows.
//! 5. **Deadline.** `progressDeadline` counts from the accepted deploy, or from the first of several deploys without a
//!    usable answer. Then [`Step::FailRollout`] puts the version in `failedVersions`, until the generation changes or
//!    a reconcile is requested.
//! 6. **After a failure.** With `onFailure: Previous` the newest other version of `history` becomes the target, by the
//!    same steps. If that one fails too, or with `Never`, nothing more is called. A version that becomes live late is as
//!    good as one in time.
//!
//! # Drift
//!
//! `target.reachedTime` remembers that the environment ran the target; if it runs another version later, that one was
//! deployed outside the operator. Enforce deploys the target again, at most five times within an hour: two parties that each
//! enforce their own version would go on for ever. A reconcile request permits one more. Warn only reports. What cannot
//! be observed is no drift.
//!
//! # Late effects of our own calls
//!
//! A call without a usable answer may take effect after the spec has moved on. Therefore
//! - a target that is live is not reached while a call for another version may still replace it
//!   (`other_call_in_flight`), and that operation stays in status;
//! - a version that becomes live within the visibility grace of such a call is corrected, but is no drift
//!   ([`Drift::LateEffect`]);
//! - such a version counts as in use ([`possibly_live`]), for this object and for the others.
//!
//! # Deletions that are handed over
//!
//! A `ChatbotVersion` that is deleted while this object uses its version must not wait for git to move on: a
//! finalizer that waits for another object stops a sync from git. So this object takes the deletion over: it sets its own
//! finalizer, then writes the version to `pendingDeletions`; from then on the other object may go. The version is
//! deleted once no deployment uses it and it is proven to run nowhere ([`Observation::deletable`]); the entry is dropped when the list does not
//! show the version any more, or when another object holds it again; after the last one the finalizer goes. If this
//! object is deleted itself, it deletes the versions that can be deleted; each other one stays in the service, with an event.

mod changes;
mod drift;
#[cfg(test)]
mod fixtures;
mod freshness;
mod history;
mod live;
mod messages;
mod next;
mod observation;
mod pending_deletion;
mod promotion;
mod rollback_command;
mod rollout;
mod state;
mod status;
mod target;
mod windows;

pub use history::{CHANGE_CAUSE, writes_spec};
pub use live::possibly_live;
pub use next::{Step, Wait, next_step};
pub use observation::{Freeze, Observation};
pub use pending_deletion::VersionBeingDeleted;
pub use promotion::is_promotion_ring;
pub use rollback_command::may_be_commanded;
pub use state::{
    Deletion, Drift, Gate, Live, PendingDeletionState, Promotion, Rollout, RolloutMethod, State, TargetState,
    Unresolved,
};
pub use status::{Outcome, report};
pub use target::Desired;
