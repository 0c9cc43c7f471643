//! The next step: two tables, first match wins.

use super::{CreateState, Deletion, LiveState, Match, State};
use crate::plan::UnavailableReason;

/// What one reconcile does. Only `Create` and `Delete` change the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Add the finalizer.
    AddFinalizer,
    /// Record the intent to create a version.
    RecordIntent,
    /// Record that the outcome of a create is unknown, and search the list from now on.
    StartSearch,
    /// Send the create request.
    Create,
    /// Record a listed version as this object's.
    Adopt,
    /// Send the delete request.
    Delete,
    /// Remove the finalizer.
    RemoveFinalizer(FinalizerRemoval),
    /// Report the state in the status; nothing else can be done now.
    Wait(Wait),
}

/// Why the finalizer is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FinalizerRemoval {
    /// The version is deleted.
    Deleted,
    /// No create took effect.
    NeverCreated,
    /// The policy is Retain, or the object is suspended: the version stays.
    Retained,
    /// A `ChatbotDeployment` runs the version and deletes it later.
    HandedOver,
    /// An older object holds the version.
    OwnedByOther,
    /// The `force-orphan` annotation asks for it: the version may stay.
    ForceOrphaned,
    /// The version is or may be live, and nobody is there to delete it later: it stays.
    LiveUnmanaged,
    /// No key could delete the version within `--deletion-timeout`: it stays.
    CredentialsTimeout,
}

/// What the object waits for; named as the reason of its condition where it has one of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wait {
    /// Nothing: the version exists.
    Available,
    /// `spec.suspend` becoming false.
    Suspended,
    /// The end of the backoff.
    BackingOff,
    /// An answer of the service.
    Unavailable(UnavailableReason),
    /// The create of an older object with the same version name.
    OlderCreatePending,
    /// The end of a deletion that was requested for the version before the object was applied again.
    WaitingForDeletion,
    /// The version of a create whose outcome is unknown, or the end of the search for it.
    CreateUnconfirmed,
    /// The new version being listed.
    WaitingForVisibility,
    /// The user: the version is gone.
    VersionLost,
    /// The user: several versions can be meant.
    AmbiguousVersion,
    /// The user: the version named by `adopt-id` does not exist.
    VersionNotFound,
    /// The user: another object holds the version.
    Conflict,
    /// The deletion of the version.
    Deleting,
    /// The finalizers of others: our part of the deletion is done.
    WaitingForOtherFinalizers,
}

/// The next step.
#[must_use]
pub fn next_step(state: &State) -> Step {
    let step = match state.deleting {
        Some(deletion) => next_step_deleting(state, deletion),
        None => next_step_active(state),
    };
    match step {
        // a search or an adoption changes nothing in the service, so it need not wait
        Step::RecordIntent | Step::Create | Step::Delete if state.backing_off => Step::Wait(Wait::BackingOff),
        step => step,
    }
}

fn next_step_active(state: &State) -> Step {
    if state.suspended {
        return Step::Wait(Wait::Suspended);
    }
    if state.conflict {
        return Step::Wait(Wait::Conflict);
    }
    if !state.finalizer {
        return Step::AddFinalizer;
    }
    match state.matched {
        Match::NotQueried => Step::Wait(Wait::BackingOff),
        Match::Unavailable(reason) => Step::Wait(Wait::Unavailable(reason)),

        Match::Present => Step::Wait(Wait::Available),
        Match::NotYetListed => Step::Wait(Wait::WaitingForVisibility),
        Match::Missing if state.recreate_requested => Step::RecordIntent,
        Match::Missing => Step::Wait(Wait::VersionLost),

        Match::Single => Step::Adopt,
        Match::DeletionPending => Step::Wait(Wait::WaitingForDeletion),
        Match::Ambiguous => Step::Wait(Wait::AmbiguousVersion),
        Match::AdoptMissing => Step::Wait(Wait::VersionNotFound),
        Match::AdoptConflict => Step::Wait(Wait::Conflict),

        Match::Unmarked if state.create_state == CreateState::NotStarted && !state.recreate_requested => {
            Step::Wait(Wait::AmbiguousVersion)
        }
        Match::None | Match::Unmarked => next_create_step(state),
    }
}

/// No listed version is this object's: the create goes on from where the status says it is.
fn next_create_step(state: &State) -> Step {
    match state.create_state {
        CreateState::IntentRecorded => Step::Create,
        CreateState::OutcomeUnknown => Step::StartSearch,
        CreateState::Searching => Step::Wait(Wait::CreateUnconfirmed),
        CreateState::NotStarted | CreateState::SearchExpired | CreateState::Created => {
            if state.older_create_pending { Step::Wait(Wait::OlderCreatePending) } else { Step::RecordIntent }
        }
    }
}

/// The truth table of the deletion; the module says it in words.
fn next_step_deleting(state: &State, deletion: Deletion) -> Step {
    use CreateState::{Created, IntentRecorded, NotStarted, OutcomeUnknown, SearchExpired, Searching};
    let wait = Step::Wait(Wait::Deleting);
    match (state.create_state, state.matched) {
        _ if !state.finalizer => Step::Wait(Wait::WaitingForOtherFinalizers),
        _ if deletion.force_orphan => Step::RemoveFinalizer(FinalizerRemoval::ForceOrphaned),
        _ if state.suspended || !deletion.delete_version => Step::RemoveFinalizer(FinalizerRemoval::Retained),
        _ if state.conflict => Step::RemoveFinalizer(FinalizerRemoval::OwnedByOther),

        // a version that is not recorded is adopted first; if there is none, nothing was created
        (_, Match::Single) => Step::Adopt,
        (_, Match::DeletionPending) => wait,
        (NotStarted, Match::Unavailable(reason)) if reason.is_transient() => wait,
        (NotStarted | IntentRecorded, Match::Ambiguous) => Step::Wait(Wait::AmbiguousVersion),
        (NotStarted | IntentRecorded, _) => Step::RemoveFinalizer(FinalizerRemoval::NeverCreated),

        (_, Match::Unavailable(reason)) if !reason.is_transient() && deletion.timed_out => {
            Step::RemoveFinalizer(FinalizerRemoval::CredentialsTimeout)
        }
        (_, Match::Unavailable(_) | Match::NotQueried) => wait,

        // a create of unknown outcome is searched for to the end; of several versions the user says which
        (OutcomeUnknown | Searching | SearchExpired, Match::Ambiguous) => Step::Wait(Wait::AmbiguousVersion),
        (OutcomeUnknown, _) => Step::StartSearch,
        (Searching, _) => wait,
        (SearchExpired, _) => Step::RemoveFinalizer(FinalizerRemoval::NeverCreated),

        (Created, Match::Present) => match deletion.live_state {
            LiveState::HandedOver => Step::RemoveFinalizer(FinalizerRemoval::HandedOver),
            LiveState::HandoverPending => wait,
            LiveState::Unmanaged | LiveState::Unknown => {
                Step::RemoveFinalizer(FinalizerRemoval::LiveUnmanaged)
            }
            LiveState::NotLive if deletion.delete_pending => wait,
            LiveState::NotLive => Step::Delete,
        },
        // created a moment ago: that the list does not show it proves nothing yet
        (Created, Match::NotYetListed) if !deletion.delete_pending => wait,
        (Created, _) if deletion.absence_proven => Step::RemoveFinalizer(FinalizerRemoval::Deleted),
        (Created, _) if deletion.timed_out => Step::RemoveFinalizer(FinalizerRemoval::CredentialsTimeout),
        (Created, _) => wait,
    }
}
