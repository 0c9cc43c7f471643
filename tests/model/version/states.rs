//! Every value of `State`, and what the table of steps must hold for each of them by itself.

use chatcaptain_operator::plan::{
    UnavailableReason,
    version::{CreateState, Deletion, FinalizerRemoval, LiveState, Match, State, Step, Wait, next_step},
};

use crate::explore::{Violation, invariant};

const YES_NO: [bool; 2] = [false, true];

/// Holds the invariants for every value and counts them.
pub fn every_state_alone() -> usize {
    let (deletions, sights) = (deletions(), sights());
    let mut count = 0;
    for &deleting in &deletions {
        for &sight in &sights {
            for record in RECORDS {
                for flags in 0..64u8 {
                    let flag = |bit: u8| flags & (1 << bit) != 0;
                    let seen = State {
                        suspended: flag(0),
                        finalizer: flag(1),
                        conflict: flag(2),
                        older_create_pending: flag(3),
                        recreate_requested: flag(4),
                        backing_off: flag(5),
                        deleting,
                        create_state: record,
                        matched: sight,
                    };
                    count += 1;
                    if let Err(violation) = holds(&seen) {
                        panic!("{violation}: {seen:?} leads to {:?}", next_step(&seen));
                    }
                }
            }
        }
    }
    count
}

const RECORDS: [CreateState; 6] = [
    CreateState::NotStarted,
    CreateState::IntentRecorded,
    CreateState::OutcomeUnknown,
    CreateState::Searching,
    CreateState::SearchExpired,
    CreateState::Created,
];

fn sights() -> Vec<Match> {
    let mut sights = vec![
        Match::NotQueried,
        Match::Present,
        Match::NotYetListed,
        Match::Missing,
        Match::None,
        Match::Single,
        Match::DeletionPending,
        Match::Ambiguous,
        Match::Unmarked,
        Match::AdoptMissing,
        Match::AdoptConflict,
    ];
    sights.extend(UnavailableReason::ALL.map(Match::Unavailable));
    sights
}

fn deletions() -> Vec<Option<Deletion>> {
    let mut deletions = vec![None];
    for live in [
        LiveState::NotLive,
        LiveState::HandoverPending,
        LiveState::HandedOver,
        LiveState::Unmanaged,
        LiveState::Unknown,
    ] {
        for delete in YES_NO {
            for forced in YES_NO {
                for (overdue, sent, authoritative) in triples() {
                    deletions.push(Some(Deletion {
                        delete_version: delete,
                        force_orphan: forced,
                        timed_out: overdue,
                        delete_pending: sent,
                        absence_proven: authoritative,
                        live_state: live,
                    }));
                }
            }
        }
    }
    deletions
}

fn triples() -> impl Iterator<Item = (bool, bool, bool)> {
    (0..8u8).map(|bits| (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0))
}

/// Whether record and sight can be seen together: only a known version is present, young or absent, and
/// only an unknown one is looked for.
fn is_possible(seen: &State) -> bool {
    match seen.matched {
        Match::NotQueried | Match::Unavailable(_) => true,
        Match::Present | Match::NotYetListed | Match::Missing => seen.create_state == CreateState::Created,
        _ => seen.create_state != CreateState::Created,
    }
}

fn holds(seen: &State) -> Result<(), Violation> {
    let step = next_step(seen);
    let changes = matches!(step, Step::Create | Step::Delete);
    let decides = changes || matches!(step, Step::RecordIntent | Step::StartSearch | Step::Adopt);
    let blind = matches!(seen.matched, Match::NotQueried | Match::Unavailable(_));
    invariant!(!decides || seen.finalizer, "something is decided without the finalizer");
    invariant!(
        !decides || !(seen.suspended || seen.conflict || blind),
        "something is decided while suspended, in conflict or without a look"
    );
    invariant!(!seen.backing_off || !(changes || step == Step::RecordIntent), "a change begins while held");
    invariant!(next_step(seen) == step, "the step is not a function of what is seen");
    match seen.deleting {
        None => holds_in_life(seen, step),
        Some(deletion) => holds_in_deletion(seen, deletion, step),
    }
}

fn holds_in_life(seen: &State, step: Step) -> Result<(), Violation> {
    invariant!(
        !matches!(step, Step::Delete | Step::RemoveFinalizer(_)),
        "deleted or let go though nobody asked"
    );
    match step {
        Step::Create => invariant!(
            seen.create_state == CreateState::IntentRecorded
                && matches!(seen.matched, Match::None | Match::Unmarked),
            "a create without a fresh intent or without having found nobody"
        ),
        Step::RecordIntent if is_possible(seen) => invariant!(
            matches!(seen.create_state, CreateState::NotStarted | CreateState::SearchExpired)
                && matches!(seen.matched, Match::None | Match::Unmarked)
                || seen.matched == Match::Missing && seen.recreate_requested,
            "an intent though a version is known or a create may be out"
        ),
        Step::StartSearch => {
            invariant!(seen.create_state == CreateState::OutcomeUnknown, "a search without an open intent")
        }
        Step::Adopt => invariant!(seen.matched == Match::Single, "not one version is adopted"),
        Step::AddFinalizer => invariant!(!seen.finalizer, "the finalizer is there already"),
        Step::Wait(Wait::Available) => {
            invariant!(seen.matched == Match::Present, "Ready without the version");
        }
        _ => {}
    }
    Ok(())
}

fn holds_in_deletion(seen: &State, deletion: Deletion, step: Step) -> Result<(), Violation> {
    invariant!(
        !matches!(step, Step::Create | Step::RecordIntent | Step::AddFinalizer),
        "something begins though the object is being deleted"
    );
    invariant!(!matches!(step, Step::Wait(Wait::Available)), "Ready while being deleted");
    match step {
        Step::Delete => invariant!(
            seen.create_state == CreateState::Created
                && seen.matched == Match::Present
                && deletion.live_state == LiveState::NotLive
                && deletion.delete_version
                && !deletion.force_orphan
                && !deletion.delete_pending,
            "deleted though it is not there, live, retained, forced or deleted already"
        ),
        Step::RemoveFinalizer(why) => {
            invariant!(seen.finalizer, "let go twice");
            let allowed = match why {
                FinalizerRemoval::ForceOrphaned => deletion.force_orphan,
                FinalizerRemoval::Retained => seen.suspended || !deletion.delete_version,
                FinalizerRemoval::OwnedByOther => seen.conflict,
                FinalizerRemoval::Deleted => {
                    deletion.absence_proven
                        && !matches!(seen.matched, Match::Present | Match::Unavailable(_))
                        && (seen.matched != Match::NotYetListed || deletion.delete_pending)
                }
                FinalizerRemoval::NeverCreated => {
                    matches!(
                        seen.create_state,
                        CreateState::NotStarted | CreateState::IntentRecorded | CreateState::SearchExpired
                    )
                }
                FinalizerRemoval::HandedOver => deletion.live_state == LiveState::HandedOver,
                FinalizerRemoval::LiveUnmanaged => {
                    matches!(deletion.live_state, LiveState::Unmanaged | LiveState::Unknown)
                }
                FinalizerRemoval::CredentialsTimeout => deletion.timed_out && seen.matched != Match::Present,
            };
            invariant!(allowed, "let go without cause");
        }
        _ => {}
    }
    Ok(())
}
