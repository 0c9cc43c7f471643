//! Every value of `State`, and what the table of steps must hold for each of them by itself.

use chatcaptain_operator::{
    crd::Cause,
    plan::{
        UnavailableReason,
        deployment::{
            Deletion, Drift, Gate, Live, PendingDeletionState, Promotion, Rollout, RolloutMethod, State,
            Step, TargetState, Unresolved, Wait, next_step,
        },
    },
};

use crate::explore::{Violation, invariant};

const TARGETS: [TargetState; 9] = [
    TargetState::Resolved(Cause::Spec),
    TargetState::Resolved(Cause::RollbackCommand),
    TargetState::Resolved(Cause::AutomaticRollback),
    TargetState::Failed,
    TargetState::Unresolved(Unresolved::WaitingForVersion),
    TargetState::Unresolved(Unresolved::VersionTimedOut),
    TargetState::Unresolved(Unresolved::ReferenceMismatch),
    TargetState::Unresolved(Unresolved::VersionNotFound),
    TargetState::Unresolved(Unresolved::AmbiguousVersion),
];
const ROLLOUTS: [Rollout; 8] = [
    Rollout::None,
    Rollout::IntentRecorded(RolloutMethod::Deploy),
    Rollout::IntentRecorded(RolloutMethod::Rollback),
    Rollout::OutcomeUnknown,
    Rollout::InProgress(RolloutMethod::Deploy),
    Rollout::InProgress(RolloutMethod::Rollback),
    Rollout::RollbackIneffective,
    Rollout::DeadlineExceeded,
];
const DRIFTS: [Drift; 5] = [Drift::None, Drift::LateEffect, Drift::Enforce, Drift::LimitReached, Drift::Warn];
const PROMOTIONS: [Promotion; 7] = [
    Promotion::Allowed,
    Promotion::Waiting(Gate::Promotion),
    Promotion::Waiting(Gate::Verification),
    Promotion::Waiting(Gate::Approval),
    Promotion::Waiting(Gate::Window),
    Promotion::Waiting(Gate::Freeze),
    Promotion::Blocked,
];
const PENDING_DELETIONS: [PendingDeletionState; 7] = [
    PendingDeletionState::None,
    PendingDeletionState::New,
    PendingDeletionState::InUse,
    PendingDeletionState::Ready,
    PendingDeletionState::BackingOff,
    PendingDeletionState::InFlight,
    PendingDeletionState::HandingOver,
];

/// Holds the invariants for every value and counts them; in short only for those of an object that is not being deleted
/// and a service that answers.
pub fn every_state_alone(short: bool) -> usize {
    let mut deletions = vec![None];
    for bits in 0..8u8 {
        deletions.push(Some(Deletion {
            force_orphan: bits & 1 != 0,
            uninstalling: bits & 4 != 0,
            timed_out: bits & 2 != 0,
        }));
    }
    let mut reasons = vec![None];
    reasons.extend(UnavailableReason::ALL.map(Some));
    if short {
        deletions.truncate(1);
        reasons.truncate(1);
    }
    let mut count = 0;
    for &deleting in &deletions {
        for &unavailable in &reasons {
            for target in TARGETS {
                for rollout in ROLLOUTS {
                    count += every_flag(deleting, unavailable, target, rollout);
                }
            }
        }
    }
    count
}

/// The values that differ in everything else.
fn every_flag(
    deleting: Option<Deletion>,
    unavailable: Option<UnavailableReason>,
    target: TargetState,
    rollout: Rollout,
) -> usize {
    let mut count = 0;
    for drift in DRIFTS {
        for pending_deletion in PENDING_DELETIONS {
            for flags in 0..PROMOTIONS.len() << 9 {
                let flag = |bit: u8| flags & (1 << bit) != 0;
                let state = State {
                    spec_valid: flag(0),
                    suspended: flag(1),
                    finalizer: flag(2),
                    conflict: flag(3),
                    backing_off: flag(4),
                    use_rollback: flag(5),
                    live: if flag(6) { Live::Desired } else { Live::Other },
                    command_ended: flag(7),
                    foreign_live: flag(8),
                    promotion: PROMOTIONS[flags >> 9],
                    deleting,
                    unavailable,
                    target,
                    rollout,
                    drift,
                    pending_deletion,
                };
                count += 1;
                let step = next_step(&state);
                if let Err(violation) = holds(&state, step) {
                    panic!("{violation}: {state:?} leads to {step:?}");
                }
            }
        }
    }
    count
}

/// Whether a state can occur: what can be deleted is known only where the service was read.
fn is_possible(state: &State) -> bool {
    let is_read = state.unavailable.is_none() && !state.suspended && !state.conflict;
    is_read || !matches!(state.pending_deletion, PendingDeletionState::Ready | PendingDeletionState::InFlight)
}

fn holds(state: &State, step: Step) -> Result<(), Violation> {
    let is_rollout = matches!(step, Step::RecordIntent(_) | Step::StartRollout(_));
    if (is_rollout || step == Step::DeleteVersion) && is_possible(state) {
        let uninstalling = state.deleting.is_some_and(|deletion| deletion.uninstalling);
        invariant!(!uninstalling, "a change while the CRD is being deleted");
        let prevented = state.suspended || state.conflict || state.unavailable.is_some();
        invariant!(!prevented, "a change while suspended, in conflict or without an answer of the service");
    }
    invariant!(!(is_rollout && state.backing_off), "a rollout within its backoff");
    invariant!(!(is_rollout && state.foreign_live), "a version of another installation is replaced");
    let waits = matches!(step, Step::Wait(Wait::BackingOff));
    invariant!(!waits || state.backing_off, "something waits for the backoff of something else");
    match step {
        Step::AddFinalizer => invariant!(
            !state.finalizer
                && state.pending_deletion == PendingDeletionState::New
                && state.deleting.is_none(),
            "a finalizer without a deletion to take over"
        ),
        Step::RemoveFinalizer => invariant!(
            state.finalizer
                && (state.pending_deletion == PendingDeletionState::None || state.deleting.is_some()),
            "the finalizer is removed though deletions are pending"
        ),
        Step::DeleteVersion => {
            invariant!(
                state.pending_deletion == PendingDeletionState::Ready,
                "deleted though no version is deletable"
            )
        }
        _ => {}
    }
    match state.deleting {
        None => holds_while_active(state, step),
        Some(_) => {
            invariant!(
                matches!(
                    step,
                    Step::RemoveFinalizer
                        | Step::DeleteVersion
                        | Step::Wait(Wait::WaitingForOtherFinalizers | Wait::Deleting | Wait::BackingOff)
                ),
                "a deleted object does something else than delete versions and go"
            );
            Ok(())
        }
    }
}

fn holds_while_active(state: &State, step: Step) -> Result<(), Violation> {
    let known = matches!(state.target, TargetState::Resolved(_));
    match step {
        Step::StartRollout(call) => {
            invariant!(
                state.rollout == Rollout::IntentRecorded(call),
                "a call without an intent of this process"
            );
            invariant!(known && state.live == Live::Other && state.spec_valid, "a call for nothing");
        }
        Step::RecordIntent(call) => {
            invariant!(known && state.live == Live::Other && state.spec_valid, "a change for nothing");
            holds_of_intent(state, call)?;
        }
        Step::RemoveRollbackCommand => {
            let waits = state.suspended || state.conflict || state.unavailable.is_some();
            invariant!(state.command_ended && !waits, "a command is removed that holds, or too early")
        }
        Step::FailRollout => {
            invariant!(state.rollout == Rollout::DeadlineExceeded, "failed before the deadline")
        }
        Step::Wait(Wait::Available) => invariant!(
            state.live == Live::Desired
                && matches!(state.target, TargetState::Resolved(Cause::Spec) | TargetState::Failed),
            "Ready without the desired version"
        ),
        Step::Wait(Wait::RolledBack) => invariant!(
            state.live == Live::Desired && known && state.target != TargetState::Resolved(Cause::Spec),
            "rolled back, though it is not"
        ),
        Step::Wait(Wait::DriftTolerated) => {
            invariant!(state.drift == Drift::Warn, "tolerated though drift is not Warn")
        }
        Step::Wait(Wait::Progressing(call)) => {
            invariant!(state.rollout == Rollout::InProgress(call), "waits for a call that was not made");
        }
        _ => {}
    }
    Ok(())
}

/// When a change may begin, and by which call.
fn holds_of_intent(state: &State, call: RolloutMethod) -> Result<(), Violation> {
    match (state.rollout, state.drift) {
        // nothing is in flight: this is a new decision
        (Rollout::None, Drift::None) => {
            invariant!(state.promotion == Promotion::Allowed, "the promotion is not allowed");
            invariant!(
                (call == RolloutMethod::Rollback) == state.use_rollback,
                "not by the call that leads there"
            );
        }
        (Rollout::None, Drift::LateEffect | Drift::Enforce) => {
            invariant!(call == RolloutMethod::Deploy, "drift is corrected by a deploy")
        }
        (Rollout::None, _) => invariant!(false, "drift is corrected though it must not be"),
        // what was tried is tried again by the call that always leads there
        (Rollout::OutcomeUnknown | Rollout::RollbackIneffective, _) => {
            invariant!(call == RolloutMethod::Deploy, "a rollback is tried twice")
        }
        _ => invariant!(false, "an intent though a call is in flight"),
    }
    Ok(())
}
