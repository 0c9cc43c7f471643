//! Every value of `Seen`, and what the table of steps must hold for each of them by itself.

use chatcaptain_operator::{
    crd::Cause,
    plan::{
        Blocked,
        deployment::{
            Call, Deletion, Drift, Gate, Live, Operation, Rest, Retiring, Seen, Step, Target, Unresolved,
            next,
        },
    },
};

use crate::explore::{Broken, law};

const TARGETS: [Target; 9] = [
    Target::Known(Cause::Git),
    Target::Known(Cause::Command),
    Target::Known(Cause::Failure),
    Target::Failed,
    Target::Unresolved(Unresolved::Waiting),
    Target::Unresolved(Unresolved::Mismatch),
    Target::Unresolved(Unresolved::NotFound),
    Target::Unresolved(Unresolved::Ambiguous),
    Target::Unresolved(Unresolved::Command),
];
const OPERATIONS: [Operation; 8] = [
    Operation::None,
    Operation::Fresh(Call::Deploy),
    Operation::Fresh(Call::Rollback),
    Operation::Unsure,
    Operation::Called(Call::Deploy),
    Operation::Called(Call::Rollback),
    Operation::Vain,
    Operation::Overdue,
];
const DRIFTS: [Drift; 5] = [Drift::None, Drift::Late, Drift::Enforce, Drift::Exhausted, Drift::Warn];
const RETIRINGS: [Retiring; 5] =
    [Retiring::None, Retiring::Arriving, Retiring::Live, Retiring::Due, Retiring::Sent];

/// Holds the laws for every value and counts them.
pub fn every_seen() -> usize {
    let mut deletions = vec![None];
    for bits in 0..4u8 {
        deletions.push(Some(Deletion { forced: bits & 1 != 0, overdue: bits & 2 != 0 }));
    }
    let mut blocks = vec![None];
    blocks.extend(Blocked::ALL.map(Some));
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
    blocked: Option<Blocked>,
    target: Target,
    operation: Operation,
) -> usize {
    let mut count = 0;
    for drift in DRIFTS {
        for retiring in RETIRINGS {
            for flags in 0..3 << 7 {
                let flag = |bit: u8| flags & (1 << bit) != 0;
                let seen = Seen {
                    valid: flag(0),
                    suspended: flag(1),
                    finalizer: flag(2),
                    conflict: flag(3),
                    held: flag(4),
                    back: flag(5),
                    live: if flag(6) { Live::Wanted } else { Live::Other },
                    gate: [Gate::Open, Gate::Closed, Gate::Shut][flags >> 7],
                    deleting,
                    blocked,
                    target,
                    operation,
                    drift,
                    retiring,
                };
                count += 1;
                let step = next(&seen);
                if let Err(broken) = holds(&seen, step) {
                    panic!("{broken}: {seen:?} leads to {step:?}");
                }
            }
        }
    }
    count
}

/// What can be deleted is only known from a look, and without one nobody is told to be idle.
fn is_possible(seen: &Seen) -> bool {
    let looked = seen.blocked.is_none() && !seen.suspended && !seen.conflict;
    looked || !matches!(seen.retiring, Retiring::Due | Retiring::Sent)
}

fn holds(seen: &Seen, step: Step) -> Result<(), Broken> {
    if matches!(step, Step::Intend(_) | Step::Call(_) | Step::Retire) && is_possible(seen) {
        let prevented = seen.suspended || seen.conflict || seen.blocked.is_some() || seen.held;
        law!(!prevented, "a change while suspended, in conflict, held or without a look");
    }
    match step {
        Step::Guard => law!(
            !seen.finalizer && seen.retiring == Retiring::Arriving && seen.deleting.is_none(),
            "guarded for nothing"
        ),
        Step::Unguard => law!(
            seen.finalizer && (seen.retiring == Retiring::None || seen.deleting.is_some()),
            "the guard goes though deletions wait for it"
        ),
        Step::Retire => law!(seen.retiring == Retiring::Due, "deleted though it is not due"),
        _ => {}
    }
    match seen.deleting {
        None => holds_in_life(seen, step),
        Some(_) => {
            law!(
                matches!(
                    step,
                    Step::Unguard | Step::Retire | Step::Rest(Rest::Gone | Rest::Deleting | Rest::Held)
                ),
                "something else than letting go"
            );
            Ok(())
        }
    }
}

fn holds_in_life(seen: &Seen, step: Step) -> Result<(), Broken> {
    let known = matches!(seen.target, Target::Known(_));
    match step {
        Step::Call(call) => {
            law!(seen.operation == Operation::Fresh(call), "a call that this process did not announce");
            law!(known && seen.live == Live::Other && seen.valid, "a call for nothing");
        }
        Step::Intend(call) => {
            law!(known && seen.live == Live::Other && seen.valid, "a change for nothing");
            holds_of_intent(seen, call)?;
        }
        Step::Fail => law!(seen.operation == Operation::Overdue, "failed before the deadline"),
        Step::Rest(Rest::Ready) => law!(
            seen.live == Live::Wanted && matches!(seen.target, Target::Known(Cause::Git) | Target::Failed),
            "Ready without the wanted version"
        ),
        Step::Rest(Rest::RolledBack) => law!(
            seen.live == Live::Wanted && known && seen.target != Target::Known(Cause::Git),
            "rolled back, though it is not"
        ),
        Step::Rest(Rest::Tolerated) => law!(seen.drift == Drift::Warn, "tolerated though nobody said so"),
        Step::Rest(Rest::Progressing(call)) => {
            law!(seen.operation == Operation::Called(call), "waits for a call that was not made");
        }
        _ => {}
    }
    Ok(())
}

/// When a change may begin, and by which call.
fn holds_of_intent(seen: &Seen, call: Call) -> Result<(), Broken> {
    match (seen.operation, seen.drift) {
        // nothing is under way: this is a decision
        (Operation::None, Drift::None) => {
            law!(seen.gate == Gate::Open, "the gate is closed");
            law!((call == Call::Rollback) == seen.back, "not by the way that leads there");
        }
        (Operation::None, Drift::Late | Drift::Enforce) => {
            law!(call == Call::Deploy, "drift is reversed by a deploy")
        }
        (Operation::None, _) => law!(false, "drift is reversed though it is to be left alone"),
        // what was tried is tried again by the call that always leads there
        (Operation::Unsure | Operation::Vain, _) => law!(call == Call::Deploy, "tried in vain twice"),
        _ => law!(false, "announced again though it is under way"),
    }
    Ok(())
}
