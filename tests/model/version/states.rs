//! Every value of `State`, and what the table of steps must hold for each of them by itself.

use chatcaptain_operator::plan::{
    UnavailableReason,
    version::{CreateState, Deletion, FinalizerRemoval, LiveState, Match, State, Step, Wait, next_step},
};

use crate::explore::{Violation, invariant};

const YES_NO: [bool; 2] = [false, true];

/// Holds the invariants for every value and counts them.
pub fn every_state_alone() -> usize {
    let (deletions, matches) = (deletions(), matches());
    let mut count = 0;
    for &deleting in &deletions {
        for &matched in &matches {
            for create_state in CREATE_STATES {
                for flags in 0..128u8 {
                    let flag = |bit: u8| flags & (1 << bit) != 0;
                    let state = State {
                        suspended: flag(0),
                        finalizer: flag(1),
                        conflict: flag(2),
                        older_create_pending: flag(3),
                        recreate_requested: flag(4),
                        backing_off: flag(5),
                        ran_before: flag(6),
                        deleting,
                        create_state,
                        matched,
                    };
                    count += 1;
                    if let Err(violation) = holds(&state) {
                        panic!("{violation}: {state:?} leads to {:?}", next_step(&state));
                    }
                }
            }
        }
    }
    count
}

const CREATE_STATES: [CreateState; 6] = [
    CreateState::NotStarted,
    CreateState::IntentRecorded,
    CreateState::OutcomeUnknown,
    CreateState::Searching,
    CreateState::SearchExpired,
    CreateState::Created,
];

fn matches() -> Vec<Match> {
    let mut matches = vec![
        Match::NotQueried,
        Match::Present,
        Match::ForeignMarker,
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
    matches.extend(UnavailableReason::ALL.map(Match::Unavailable));
    matches
}

fn deletions() -> Vec<Option<Deletion>> {
    let mut deletions = vec![None];
    for live_state in [
        LiveState::NotLive,
        LiveState::HandoverPending,
        LiveState::HandedOver,
        LiveState::RolloutPending,
        LiveState::Unmanaged,
        LiveState::Unknown,
    ] {
        for delete_version in YES_NO {
            for force_orphan in YES_NO {
                for (timed_out, account_known) in [(false, false), (false, true), (true, false), (true, true)]
                {
                    for (delete_pending, delete_confirmed, delete_refused) in DELETES {
                        deletions.push(Some(Deletion {
                            delete_version,
                            force_orphan,
                            timed_out,
                            delete_pending,
                            delete_confirmed,
                            delete_refused,
                            account_known,
                            live_state,
                        }));
                    }
                }
            }
        }
    }
    deletions
}

/// Whether the last delete is pending, confirmed, refused.
const DELETES: [(bool, bool, bool); 5] = [
    (false, false, false),
    (true, false, false),
    (true, true, false),
    (false, true, false),
    (false, false, true),
];

/// Whether the parts of a state can occur together: only a recorded version is present or missing, and only while none is
/// recorded are there candidates.
fn is_possible(state: &State) -> bool {
    match state.matched {
        Match::NotQueried | Match::Unavailable(_) => true,
        Match::Present | Match::ForeignMarker | Match::NotYetListed | Match::Missing => {
            state.create_state == CreateState::Created
        }
        Match::DeletionPending | Match::Single => true,
        _ => state.create_state != CreateState::Created,
    }
}

fn holds(state: &State) -> Result<(), Violation> {
    let step = next_step(state);
    let changes = matches!(step, Step::Create | Step::Delete);
    let decides =
        changes || matches!(step, Step::RecordIntent | Step::StartSearch | Step::Adopt | Step::Reclaim);
    let unread = matches!(state.matched, Match::NotQueried | Match::Unavailable(_));
    invariant!(!decides || state.finalizer, "something is decided without the finalizer");
    invariant!(
        !decides || !(state.suspended || state.conflict || unread),
        "something is decided while suspended, in conflict or without an answer of the service"
    );
    invariant!(
        !state.backing_off || !(changes || step == Step::RecordIntent),
        "a change begins within the backoff"
    );
    invariant!(next_step(state) == step, "the step is not a function of the state");
    match state.deleting {
        None => holds_while_active(state, step),
        Some(deletion) => holds_while_deleting(state, deletion, step),
    }
}

fn holds_while_active(state: &State, step: Step) -> Result<(), Violation> {
    invariant!(
        !matches!(step, Step::Delete | Step::RemoveFinalizer(_)),
        "a version is deleted or the finalizer removed though the object is not being deleted"
    );
    match step {
        Step::Create => invariant!(
            state.create_state == CreateState::IntentRecorded
                && matches!(state.matched, Match::None | Match::Unmarked),
            "a create without an intent of this process, or though a version matches"
        ),
        Step::RecordIntent if is_possible(state) => invariant!(
            matches!(state.create_state, CreateState::NotStarted | CreateState::SearchExpired)
                && matches!(state.matched, Match::None | Match::Unmarked)
                || state.matched == Match::Missing && state.recreate_requested,
            "an intent though a version is known or a create may be out"
        ),
        Step::Reclaim => invariant!(
            state.ran_before && matches!(state.matched, Match::None | Match::Unmarked),
            "a version of the history is recorded though another matches"
        ),
        Step::StartSearch => {
            invariant!(state.create_state == CreateState::OutcomeUnknown, "a search without an open intent")
        }
        Step::Adopt => invariant!(state.matched == Match::Single, "not one version is adopted"),
        Step::AddFinalizer => invariant!(!state.finalizer, "the finalizer is there already"),
        Step::Wait(Wait::Available) => {
            invariant!(state.matched == Match::Present, "Ready without the version");
        }
        _ => {}
    }
    Ok(())
}

fn holds_while_deleting(state: &State, deletion: Deletion, step: Step) -> Result<(), Violation> {
    invariant!(
        !matches!(step, Step::Create | Step::RecordIntent | Step::AddFinalizer),
        "something begins though the object is being deleted"
    );
    invariant!(!matches!(step, Step::Wait(Wait::Available)), "Ready while being deleted");
    match step {
        Step::Delete => invariant!(
            state.create_state == CreateState::Created
                && deletion.live_state == LiveState::NotLive
                && deletion.delete_version
                && !deletion.force_orphan
                && match state.matched {
                    Match::Present => !deletion.delete_pending,
                    _ => deletion.account_known && !deletion.delete_confirmed,
                },
            "deleted though it is live, retained, forced, another account's or deleted already"
        ),
        Step::RemoveFinalizer(why) => {
            invariant!(state.finalizer, "the finalizer is removed twice");
            let allowed = match why {
                FinalizerRemoval::ForceOrphaned => deletion.force_orphan,
                FinalizerRemoval::Retained => state.suspended || !deletion.delete_version,
                FinalizerRemoval::OwnedByOther => state.conflict,
                FinalizerRemoval::ForeignMarker => state.matched == Match::ForeignMarker,
                FinalizerRemoval::Deleted => {
                    deletion.delete_confirmed
                        && !matches!(
                            state.matched,
                            Match::Present | Match::ForeignMarker | Match::Unavailable(_)
                        )
                        && (state.matched != Match::NotYetListed || deletion.delete_pending)
                }
                FinalizerRemoval::NeverCreated => {
                    matches!(
                        state.create_state,
                        CreateState::NotStarted | CreateState::IntentRecorded | CreateState::SearchExpired
                    )
                }
                FinalizerRemoval::HandedOver => deletion.live_state == LiveState::HandedOver,
                FinalizerRemoval::LiveUnmanaged => {
                    matches!(deletion.live_state, LiveState::Unmanaged | LiveState::Unknown)
                }
                FinalizerRemoval::Unconfirmed => {
                    deletion.timed_out && deletion.delete_refused && state.matched != Match::Present
                }
                FinalizerRemoval::CredentialsTimeout => {
                    deletion.timed_out && !matches!(state.matched, Match::Present | Match::ForeignMarker)
                }
            };
            invariant!(allowed, "the finalizer is removed without cause");
        }
        _ => {}
    }
    Ok(())
}
