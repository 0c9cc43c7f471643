//! Every value of `State`, and what the table of steps must hold for each of them by itself.

use chatcaptain_operator::{
    crd::Cause,
    plan::{
        UnavailableReason,
        deployment::{
            Deletion, Drift, Live, PendingDeletionState, Promotion, Rollout, RolloutMethod, State, Step,
            TargetState, Unresolved, Wait, next_step,
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
    TargetState::Unresolved(Unresolved::ReferenceMismatch),
    TargetState::Unresolved(Unresolved::VersionNotFound),
    TargetState::Unresolved(Unresolved::AmbiguousVersion),
    TargetState::Unresolved(Unresolved::RollbackTargetNotFound),
];
const OPERATIONS: [Rollout; 8] = [
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
const RETIRINGS: [PendingDeletionState; 5] = [
    PendingDeletionState::None,
    PendingDeletionState::New,
    PendingDeletionState::InUse,
    PendingDeletionState::Ready,
    PendingDeletionState::InFlight,
];

/// Holds the invariants for every value and counts them; in short only for those of an object that is not being deleted
/// and a service that answers.
pub fn every_state_alone(short: bool) -> usize {
    let mut deletions = vec![None];
    for bits in 0..4u8 {
        deletions.push(Some(Deletion { force_orphan: bits & 1 != 0, timed_out: bits & 2 != 0 }));
    }
    let mut blocks = vec![None];
    blocks.extend(UnavailableReason::ALL.map(Some));
    if short {
        deletions.truncate(1);
        blocks.truncate(1);
    }
    let mut count = 0;
    for &deleting in &deletions {
        for &blocked in &blocks {
            for target in TARGETS {
                for operation in OPERATIONS {
                    count += every_flag(deleting, blocked, target, operation);
                }
            }
        }
    }
    count
}

/// The values that differ in the rest.
fn every_flag(
    deleting: Option<Deletion>,
    blocked: Option<UnavailableReason>,
    target: TargetState,
    operation: Rollout,
) -> usize {
    let mut count = 0;
    for drift in DRIFTS {
        for retiring in RETIRINGS {
            for flags in 0..3 << 7 {
                let flag = |bit: u8| flags & (1 << bit) != 0;
                let seen = State {
                    spec_valid: flag(0),
                    suspended: flag(1),
                    finalizer: flag(2),
                    conflict: flag(3),
                    backing_off: flag(4),
                    use_rollback: flag(5),
                    live: if flag(6) { Live::Desired } else { Live::Other },
                    promotion: [Promotion::Allowed, Promotion::Waiting, Promotion::Blocked][flags >> 7],
                    deleting,
                    unavailable: blocked,
                    target,
                    rollout: operation,
                    drift,
                    pending_deletion: retiring,
                };
                count += 1;
                let step = next_step(&seen);
                if let Err(violation) = holds(&seen, step) {
                    panic!("{violation}: {seen:?} leads to {step:?}");
                }
            }
        }
    }
    count
}

/// What can be deleted is only known from a look, and without one nobody is report to be idle.
fn is_possible(seen: &State) -> bool {
    let looked = seen.unavailable.is_none() && !seen.suspended && !seen.conflict;
    looked || !matches!(seen.pending_deletion, PendingDeletionState::Ready | PendingDeletionState::InFlight)
}

fn holds(seen: &State, step: Step) -> Result<(), Violation> {
    if matches!(step, Step::RecordIntent(_) | Step::StartRollout(_) | Step::DeleteVersion)
        && is_possible(seen)
    {
        let prevented = seen.suspended || seen.conflict || seen.unavailable.is_some() || seen.backing_off;
        invariant!(!prevented, "a change while suspended, in conflict, held or without a look");
    }
    match step {
        Step::AddFinalizer => invariant!(
            !seen.finalizer && seen.pending_deletion == PendingDeletionState::New && seen.deleting.is_none(),
            "guarded for nothing"
        ),
        Step::RemoveFinalizer => invariant!(
            seen.finalizer
                && (seen.pending_deletion == PendingDeletionState::None || seen.deleting.is_some()),
            "the guard goes though deletions wait for it"
        ),
        Step::DeleteVersion => {
            invariant!(seen.pending_deletion == PendingDeletionState::Ready, "deleted though it is not due")
        }
        _ => {}
    }
    match seen.deleting {
        None => holds_in_life(seen, step),
        Some(_) => {
            invariant!(
                matches!(
                    step,
                    Step::RemoveFinalizer
                        | Step::DeleteVersion
                        | Step::Wait(Wait::WaitingForOtherFinalizers | Wait::Deleting | Wait::BackingOff)
                ),
                "something else than letting go"
            );
            Ok(())
        }
    }
}

fn holds_in_life(seen: &State, step: Step) -> Result<(), Violation> {
    let known = matches!(seen.target, TargetState::Resolved(_));
    match step {
        Step::StartRollout(call) => {
            invariant!(
                seen.rollout == Rollout::IntentRecorded(call),
                "a call that this process did not announce"
            );
            invariant!(known && seen.live == Live::Other && seen.spec_valid, "a call for nothing");
        }
        Step::RecordIntent(call) => {
            invariant!(known && seen.live == Live::Other && seen.spec_valid, "a change for nothing");
            holds_of_intent(seen, call)?;
        }
        Step::FailRollout => {
            invariant!(seen.rollout == Rollout::DeadlineExceeded, "failed before the deadline")
        }
        Step::Wait(Wait::Available) => invariant!(
            seen.live == Live::Desired
                && matches!(seen.target, TargetState::Resolved(Cause::Spec) | TargetState::Failed),
            "Ready without the wanted version"
        ),
        Step::Wait(Wait::RolledBack) => invariant!(
            seen.live == Live::Desired && known && seen.target != TargetState::Resolved(Cause::Spec),
            "rolled back, though it is not"
        ),
        Step::Wait(Wait::DriftTolerated) => {
            invariant!(seen.drift == Drift::Warn, "tolerated though nobody said so")
        }
        Step::Wait(Wait::Progressing(call)) => {
            invariant!(seen.rollout == Rollout::InProgress(call), "waits for a call that was not made");
        }
        _ => {}
    }
    Ok(())
}

/// When a change may begin, and by which call.
fn holds_of_intent(seen: &State, call: RolloutMethod) -> Result<(), Violation> {
    match (seen.rollout, seen.drift) {
        // nothing is under way: this is a decision
        (Rollout::None, Drift::None) => {
            invariant!(seen.promotion == Promotion::Allowed, "the gate is closed");
            invariant!(
                (call == RolloutMethod::Rollback) == seen.use_rollback,
                "not by the way that leads there"
            );
        }
        (Rollout::None, Drift::LateEffect | Drift::Enforce) => {
            invariant!(call == RolloutMethod::Deploy, "drift is reversed by a deploy")
        }
        (Rollout::None, _) => invariant!(false, "drift is reversed though it is to be left alone"),
        // what was tried is tried again by the call that always leads there
        (Rollout::OutcomeUnknown | Rollout::RollbackIneffective, _) => {
            invariant!(call == RolloutMethod::Deploy, "tried in vain twice")
        }
        _ => invariant!(false, "announced again though it is under way"),
    }
    Ok(())
}
