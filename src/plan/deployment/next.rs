//! The next step: three tables, first match wins.

use super::{
    Deletion, Drift, Gate, Live, PendingDeletionState, Promotion, Rollout, RolloutMethod, State, TargetState,
    Unresolved,
};
use crate::{crd::Cause, plan::UnavailableReason};

/// What one reconcile does. Only `StartRollout` and `DeleteVersion` change the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Add the finalizer, before a deletion is taken over.
    AddFinalizer,
    /// Remove the finalizer: nothing is left to delete, or what is left stays, with an event for each version.
    RemoveFinalizer,
    /// Remove the annotation `rollback-to`, whose rollback has ended or which names no version.
    RemoveRollbackCommand,
    /// Record the intent: which call is about to be sent.
    RecordIntent(RolloutMethod),
    /// Send the call whose intent is recorded.
    StartRollout(RolloutMethod),
    /// Record that the version did not become live in time.
    FailRollout,
    /// Delete a version that runs nowhere any more and whose object is gone.
    DeleteVersion,
    /// Change nothing and report why.
    Wait(Wait),
}

/// What the object waits for; named as the reason of its condition where it has one of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wait {
    /// The environment runs the version that the spec names.
    Available,
    /// `spec.suspend` is true.
    Suspended,
    /// The backoff after a failed call for the target is not over.
    BackingOff,
    /// The spec does not name exactly one version, or something in it cannot be read.
    InvalidSpec,
    /// Another object manages the environment.
    Conflict,
    /// The environment runs a version of another installation.
    ForeignVersion,
    /// The service could not be read.
    Unavailable(UnavailableReason),
    /// The desired version is not known.
    Unresolved(Unresolved),
    /// This gate holds the version.
    Gate(Gate),
    /// `spec.promoteAfter` waits for a deployment whose target is another version, or that is Stalled.
    PromotionBlocked,
    /// A call was sent and may still take effect.
    Progressing(RolloutMethod),
    /// The desired version did not become live in time, and there is nothing to go back to.
    ProgressDeadlineExceeded,
    /// The environment runs an earlier version by command or after a failure.
    RolledBack,
    /// Another version was deployed outside the operator, and `spec.drift` is Warn.
    DriftTolerated,
    /// Another version was deployed outside the operator, and corrections have reached the limit.
    DriftCorrectionPaused,
    /// The object is being deleted, and first the versions in `pendingDeletions`.
    Deleting,
    /// The object is being deleted, and the operator has nothing left to do.
    WaitingForOtherFinalizers,
}

/// Decides the next step by the state alone. A rollout waits for its own backoff, never for that of a deletion.
#[must_use]
pub fn next_step(state: &State) -> Step {
    let step = match state.deleting {
        Some(deletion) => next_step_deleting(state, deletion),
        None => next_step_active(state),
    };
    match step {
        Step::RecordIntent(_) | Step::StartRollout(_) if state.backing_off => Step::Wait(Wait::BackingOff),
        step => step,
    }
}

fn next_step_active(state: &State) -> Step {
    // taking over a deletion changes nothing in the service, so it comes before every reason to do nothing
    match state.pending_deletion {
        // with the finalizer every status that is written from here on records the deletion, whatever its step
        PendingDeletionState::New if !state.finalizer => return Step::AddFinalizer,
        // it is there for these deletions alone: without one the object must go also where no operator runs
        PendingDeletionState::None if state.finalizer => return Step::RemoveFinalizer,
        _ => {}
    }
    if !state.spec_valid {
        return Step::Wait(Wait::InvalidSpec);
    }
    if state.suspended {
        return Step::Wait(Wait::Suspended);
    }
    if state.conflict {
        return Step::Wait(Wait::Conflict);
    }
    if let Some(reason) = state.unavailable {
        return Step::Wait(Wait::Unavailable(reason));
    }
    match next_step_of_target(state) {
        // last: the spec decides, whether the annotation can be removed or not
        Step::Wait(_) if state.command_ended => Step::RemoveRollbackCommand,
        step => step,
    }
}

fn next_step_of_target(state: &State) -> Step {
    match (state.target, state.live) {
        (TargetState::Unresolved(why), _) => Step::Wait(Wait::Unresolved(why)),
        (_, Live::Desired) if state.pending_deletion == PendingDeletionState::Ready => Step::DeleteVersion,
        (TargetState::Resolved(Cause::Spec) | TargetState::Failed, Live::Desired) => {
            Step::Wait(Wait::Available)
        }
        (TargetState::Resolved(Cause::RollbackCommand | Cause::AutomaticRollback), Live::Desired) => {
            Step::Wait(Wait::RolledBack)
        }
        (TargetState::Failed, Live::Other) => Step::Wait(Wait::ProgressDeadlineExceeded),
        (TargetState::Resolved(_), Live::Other) => next_rollout_step(state),
    }
}

/// The environment does not run the desired version.
fn next_rollout_step(state: &State) -> Step {
    let is_sent = matches!(state.rollout, Rollout::InProgress(_) | Rollout::DeadlineExceeded);
    if state.foreign_live && !is_sent {
        return Step::Wait(Wait::ForeignVersion);
    }
    match (state.rollout, state.drift) {
        (Rollout::IntentRecorded(method), _) => Step::StartRollout(method),
        (Rollout::InProgress(method), _) => Step::Wait(Wait::Progressing(method)),
        (Rollout::DeadlineExceeded, _) => Step::FailRollout,
        // to deploy the same version twice does no harm
        (Rollout::OutcomeUnknown | Rollout::RollbackIneffective, _) => {
            Step::RecordIntent(RolloutMethod::Deploy)
        }
        (Rollout::None, Drift::Warn) => Step::Wait(Wait::DriftTolerated),
        (Rollout::None, Drift::LimitReached) => Step::Wait(Wait::DriftCorrectionPaused),
        // before promotion: what ran here before was promoted then
        (Rollout::None, Drift::LateEffect | Drift::Enforce) => Step::RecordIntent(RolloutMethod::Deploy),
        (Rollout::None, Drift::None) => match state.promotion {
            Promotion::Waiting(gate) => Step::Wait(Wait::Gate(gate)),
            Promotion::Blocked => Step::Wait(Wait::PromotionBlocked),
            Promotion::Allowed if state.use_rollback => Step::RecordIntent(RolloutMethod::Rollback),
            Promotion::Allowed => Step::RecordIntent(RolloutMethod::Deploy),
        },
    }
}

/// The service has no undeploy, so what is live stays live; only deletions that were handed over are carried out.
fn next_step_deleting(state: &State, deletion: Deletion) -> Step {
    match (state.unavailable, state.pending_deletion) {
        _ if !state.finalizer => Step::Wait(Wait::WaitingForOtherFinalizers),
        // it ends at once, without the service: the record is all that the other object waits for
        (_, PendingDeletionState::HandingOver) if !deletion.timed_out => Step::Wait(Wait::Deleting),
        _ if deletion.force_orphan || deletion.uninstalling || state.suspended => Step::RemoveFinalizer,
        // a deletion that is not recorded here stays with the other object
        (_, PendingDeletionState::None | PendingDeletionState::New) => Step::RemoveFinalizer,
        (Some(reason), _) if reason.times_out() && deletion.timed_out => Step::RemoveFinalizer,
        (Some(_), _) | (None, PendingDeletionState::InFlight | PendingDeletionState::BackingOff) => {
            Step::Wait(Wait::Deleting)
        }
        (None, PendingDeletionState::Ready) => Step::DeleteVersion,
        // the service has no undeploy, so waiting for such a version would have no end
        (None, PendingDeletionState::InUse | PendingDeletionState::HandingOver) => Step::RemoveFinalizer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to_roll_out() -> State {
        State { live: Live::Other, ..State::test() }
    }

    #[test]
    fn intent_is_recorded_before_the_call_is_sent() {
        let decided = to_roll_out();
        assert_eq!(next_step(&decided), Step::RecordIntent(RolloutMethod::Deploy));
        let recorded = State { rollout: Rollout::IntentRecorded(RolloutMethod::Deploy), ..decided };
        assert_eq!(next_step(&recorded), Step::StartRollout(RolloutMethod::Deploy));
        let sent = State { rollout: Rollout::InProgress(RolloutMethod::Deploy), ..decided };
        assert_eq!(next_step(&sent), Step::Wait(Wait::Progressing(RolloutMethod::Deploy)));
    }

    #[test]
    fn rollback_is_tried_once_and_followed_by_deploy() {
        let back = State { use_rollback: true, ..to_roll_out() };
        assert_eq!(next_step(&back), Step::RecordIntent(RolloutMethod::Rollback));
        for rollout in [Rollout::RollbackIneffective, Rollout::OutcomeUnknown] {
            let step = next_step(&State { rollout, ..back });
            assert_eq!(step, Step::RecordIntent(RolloutMethod::Deploy), "{rollout:?}");
        }
    }

    #[test]
    fn promotion_delays_a_new_rollout_only() {
        let gates = Gate::ALL.map(|gate| (Promotion::Waiting(gate), Wait::Gate(gate)));
        for (promotion, wait) in gates.into_iter().chain([(Promotion::Blocked, Wait::PromotionBlocked)]) {
            let waiting = State { promotion, ..to_roll_out() };
            assert_eq!(next_step(&waiting), Step::Wait(wait));
            let corrected = State { drift: Drift::Enforce, ..waiting };
            assert_eq!(next_step(&corrected), Step::RecordIntent(RolloutMethod::Deploy));
            let sent = State { rollout: Rollout::OutcomeUnknown, ..waiting };
            assert_eq!(next_step(&sent), Step::RecordIntent(RolloutMethod::Deploy));
        }
    }

    #[test]
    fn drift_leads_to_a_deploy_or_a_wait() {
        for (drift, step) in [
            (Drift::LateEffect, Step::RecordIntent(RolloutMethod::Deploy)),
            (Drift::Enforce, Step::RecordIntent(RolloutMethod::Deploy)),
            (Drift::LimitReached, Step::Wait(Wait::DriftCorrectionPaused)),
            (Drift::Warn, Step::Wait(Wait::DriftTolerated)),
        ] {
            let state = State { drift, use_rollback: true, ..to_roll_out() };
            assert_eq!(next_step(&state), step, "{drift:?}");
        }
    }

    #[test]
    fn backoff_delays_the_rollout_and_nothing_else() {
        let backing_off = State { backing_off: true, ..State::test() };
        let not_started = State { live: Live::Other, ..backing_off };
        let recorded = State { rollout: Rollout::IntentRecorded(RolloutMethod::Rollback), ..not_started };
        for state in [not_started, recorded] {
            assert_eq!(next_step(&state), Step::Wait(Wait::BackingOff));
        }
        let delete = State { pending_deletion: PendingDeletionState::Ready, finalizer: true, ..backing_off };
        assert_eq!(next_step(&delete), Step::DeleteVersion, "a deletion has a backoff of its own");
        let retried = State { pending_deletion: PendingDeletionState::BackingOff, ..delete };
        assert_eq!(next_step(&retried), Step::Wait(Wait::Available), "what runs is what should run");
        let failed = State { rollout: Rollout::DeadlineExceeded, ..not_started };
        assert_eq!(next_step(&failed), Step::FailRollout);
    }

    #[test]
    fn deletion_is_taken_over_before_any_reason_to_do_nothing() {
        let new = State { pending_deletion: PendingDeletionState::New, ..State::test() };
        let unable = [
            State { suspended: true, ..new },
            State { conflict: true, ..new },
            State { spec_valid: false, ..new },
            State { unavailable: Some(UnavailableReason::Throttled), ..new },
        ];
        for state in unable {
            assert_eq!(next_step(&state), Step::AddFinalizer, "{state:?}");
            assert!(matches!(next_step(&State { finalizer: true, ..state }), Step::Wait(_)), "{state:?}");
        }
        let done = State { finalizer: true, ..State::test() };
        assert_eq!(next_step(&done), Step::RemoveFinalizer);
    }

    #[test]
    fn deleted_object_deletes_what_it_can_and_goes() {
        let deletion = Deletion { force_orphan: false, uninstalling: false, timed_out: true };
        let deleted = State { finalizer: true, deleting: Some(deletion), ..State::test() };
        for (pending_deletion, unavailable, step) in [
            (PendingDeletionState::None, None, Step::RemoveFinalizer),
            (PendingDeletionState::InUse, None, Step::RemoveFinalizer),
            (PendingDeletionState::Ready, None, Step::DeleteVersion),
            (PendingDeletionState::InFlight, None, Step::Wait(Wait::Deleting)),
            (
                PendingDeletionState::InUse,
                Some(UnavailableReason::ServiceUnavailable),
                Step::Wait(Wait::Deleting),
            ),
            (PendingDeletionState::InUse, Some(UnavailableReason::CredentialsMissing), Step::RemoveFinalizer),
        ] {
            let state = State { unavailable, pending_deletion, ..deleted };
            assert_eq!(next_step(&state), step, "{pending_deletion:?} {unavailable:?}");
        }
        let ready = State { pending_deletion: PendingDeletionState::Ready, ..deleted };
        let uninstalling = Some(Deletion { uninstalling: true, ..deletion });
        assert_eq!(next_step(&State { deleting: uninstalling, ..ready }), Step::RemoveFinalizer);
        let forced = Some(Deletion { force_orphan: true, ..deletion });
        assert_eq!(next_step(&State { deleting: forced, ..ready }), Step::RemoveFinalizer);
        assert_eq!(next_step(&State { suspended: true, ..ready }), Step::RemoveFinalizer);
        let released = State { finalizer: false, ..ready };
        assert_eq!(next_step(&released), Step::Wait(Wait::WaitingForOtherFinalizers));
    }
}
