//! What to do about one `ChatbotVersion`: the states, the steps, and the two tables that join them.

mod freshness;
mod observation;
mod status;

use std::fmt;

pub use observation::Observation;
pub use status::{Outcome, report};

/// What matters of it all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// `spec.suspend`.
    pub suspended: bool,
    /// The object is being deleted, and how.
    pub deleting: Option<Deletion>,
    /// Our finalizer is there.
    pub finalizer: bool,
    /// An older object holds the same version.
    pub conflict: bool,
    /// An older object of that name is being created.
    pub older_create_pending: bool,
    /// A `recreate` token that was not acted on.
    pub recreate: bool,
    /// Backoff: nothing is changed in the service yet.
    pub backing_off: bool,
    /// What status knows.
    pub create_state: CreateState,
    /// What the service shows.
    pub matched: Match,
}

/// What status knows of the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CreateState {
    /// Nothing: no create was ever decided.
    NotStarted,
    /// An intent that this process wrote; the create is not sent.
    IntentRecorded,
    /// An intent whose end nobody knows.
    OutcomeUnknown,
    /// The same, and the list is being watched within the grace.
    Searching,
    /// The same, and the grace is over.
    SearchExpired,
    /// The id.
    Created,
}

/// What the service shows of the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Match {
    /// It was not asked.
    NotQueried,
    /// It told nothing.
    Unavailable(super::UnavailableReason),
    /// The known version is listed.
    Present,
    /// The known version is not listed, but it is young.
    NotYetListed,
    /// The known version is not listed.
    Missing,
    /// No version that could be ours.
    None,
    /// One version that is ours.
    Single,
    /// A version that is ours and may be gone in a moment: its deletion was called for.
    DeletionPending,
    /// More than one.
    Multiple,
    /// Versions of that name that were there before and do not tell whose they are.
    Unmarked,
    /// The id to adopt is not listed.
    AdoptMissing,
    /// The id to adopt belongs to another object.
    AdoptConflict,
}

/// How an object is being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Deletion {
    /// The version is to be deleted too.
    pub delete_version: bool,
    /// `force-orphan`.
    pub force_orphan: bool,
    /// The deletion timeout is over.
    pub timed_out: bool,
    /// A delete was accepted within the grace.
    pub delete_pending: bool,
    /// A missing version is proven to be gone.
    pub absence_proven: bool,
    /// Whether it is live.
    pub live_state: LiveState,
}

/// Whether a version is live somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LiveState {
    /// It is not.
    NotLive,
    /// It is or will be, and the deployment that runs it has not noted the deletion yet.
    HandoverPending,
    /// The deployment that runs it has noted the deletion.
    HandedOver,
    /// It is, and no deployment is in charge.
    Unmanaged,
    /// It cannot be known.
    Unknown,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Set the finalizer.
    AddFinalizer,
    /// Write the intent of a create.
    RecordIntent,
    /// Note that the end of a create is not known, and watch the list.
    StartSearch,
    /// Create.
    Create,
    /// Take over the version that is ours.
    Adopt,
    /// Delete.
    Delete,
    /// Remove the finalizer.
    RemoveFinalizer(FinalizerRemoval),
    /// Nothing; say how it is.
    Wait(Wait),
}

/// Why an object may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FinalizerRemoval {
    /// The version is gone.
    Deleted,
    /// Nothing was ever created.
    NeverCreated,
    /// Policy, or the object was suspended.
    Retained,
    /// The deployment that runs the version deletes it later.
    HandedOver,
    /// The version belongs to an older object.
    OwnedByOther,
    /// `force-orphan`.
    ForceOrphaned,
    /// The version is live and nobody is there to take it over.
    LiveUnmanaged,
    /// Credentials are gone for too long.
    CredentialsTimeout,
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wait {
    /// As wanted.
    Available,
    /// Suspended.
    Suspended,
    /// Backing off.
    BackingOff,
    /// The service tells nothing.
    Unavailable(super::UnavailableReason),
    /// Waiting for an older object of the same name.
    OlderCreatePending,
    /// Waiting for what becomes of a version whose deletion was called for.
    WaitingForDeletion,
    /// The list is being watched.
    CreateUnconfirmed,
    /// The new version is not listed yet.
    WaitingForVisibility,
    /// The version is lost.
    VersionLost,
    /// Which version is meant is not clear.
    AmbiguousVersion,
    /// The id to adopt is not listed.
    AdoptMissing,
    /// Another object holds the version.
    Conflict,
    /// A deletion waits.
    Deleting,
    /// The object is on its way out.
    WaitingForOtherFinalizers,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddFinalizer => f.write_str("set the finalizer"),
            Self::RecordIntent => f.write_str("announce a create"),
            Self::StartSearch => f.write_str("watch the list for what a create made"),
            Self::Create => f.write_str("create the version"),
            Self::Adopt => f.write_str("take over the version"),
            Self::Delete => f.write_str("delete the version"),
            Self::RemoveFinalizer(why) => write!(f, "let the object go: {why}"),
            Self::Wait(_) => f.write_str("say how it is"),
        }
    }
}

impl fmt::Display for FinalizerRemoval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deleted => "its version is gone",
            Self::NeverCreated => "nothing was ever created",
            Self::Retained => "its version is kept",
            Self::HandedOver => "a ChatbotDeployment deletes its version later",
            Self::OwnedByOther => "its version belongs to an older object",
            Self::ForceOrphaned => "force-orphan asks for it",
            Self::LiveUnmanaged => "its version is live and nobody is in charge of it",
            Self::CredentialsTimeout => "nobody could authenticate in time",
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
        // a search or an adoption changes nothing in the service
        Step::RecordIntent | Step::Create | Step::Delete if seen.backing_off => Step::Wait(Wait::BackingOff),
        step => step,
    }
}

fn next_step_active(seen: &State) -> Step {
    if seen.suspended {
        return Step::Wait(Wait::Suspended);
    }
    if seen.conflict {
        return Step::Wait(Wait::Conflict);
    }
    if !seen.finalizer {
        return Step::AddFinalizer;
    }
    match (seen.matched, seen.create_state) {
        (Match::NotQueried, _) => Step::Wait(Wait::BackingOff),
        (Match::Unavailable(blocked), _) => Step::Wait(Wait::Unavailable(blocked)),

        (Match::Present, _) => Step::Wait(Wait::Available),
        (Match::NotYetListed, _) => Step::Wait(Wait::WaitingForVisibility),
        (Match::Missing, _) if seen.recreate => Step::RecordIntent,
        (Match::Missing, _) => Step::Wait(Wait::VersionLost),

        (Match::Single, _) => Step::Adopt,
        (Match::DeletionPending, _) => Step::Wait(Wait::WaitingForDeletion),
        (Match::Multiple, _) => Step::Wait(Wait::AmbiguousVersion),
        (Match::AdoptMissing, _) => Step::Wait(Wait::AdoptMissing),
        (Match::AdoptConflict, _) => Step::Wait(Wait::Conflict),

        (Match::Unmarked, CreateState::NotStarted) if !seen.recreate => Step::Wait(Wait::AmbiguousVersion),
        (Match::None | Match::Unmarked, record) => match record {
            CreateState::NotStarted | CreateState::SearchExpired | CreateState::Created
                if seen.older_create_pending =>
            {
                Step::Wait(Wait::OlderCreatePending)
            }
            CreateState::NotStarted | CreateState::SearchExpired | CreateState::Created => Step::RecordIntent,
            CreateState::IntentRecorded => Step::Create,
            CreateState::OutcomeUnknown => Step::StartSearch,
            CreateState::Searching => Step::Wait(Wait::CreateUnconfirmed),
        },
    }
}

/// The truth table of deletion, first match wins.
fn next_step_deleting(seen: &State, deletion: Deletion) -> Step {
    use CreateState::{Created, IntentRecorded, NotStarted, OutcomeUnknown, SearchExpired, Searching};
    let wait = Step::Wait(Wait::Deleting);
    match (seen.create_state, seen.matched) {
        _ if !seen.finalizer => Step::Wait(Wait::WaitingForOtherFinalizers),
        _ if deletion.force_orphan => Step::RemoveFinalizer(FinalizerRemoval::ForceOrphaned),
        _ if seen.suspended || !deletion.delete_version => Step::RemoveFinalizer(FinalizerRemoval::Retained),
        _ if seen.conflict => Step::RemoveFinalizer(FinalizerRemoval::OwnedByOther),

        // not recorded: ours if it is there, and nothing was created if not
        (_, Match::Single) => Step::Adopt,
        (_, Match::DeletionPending) => wait,
        (NotStarted, Match::Unavailable(blocked)) if blocked.is_transient() => wait,
        (NotStarted | IntentRecorded, Match::Multiple) => Step::Wait(Wait::AmbiguousVersion),
        (NotStarted | IntentRecorded, _) => Step::RemoveFinalizer(FinalizerRemoval::NeverCreated),

        (_, Match::Unavailable(blocked)) if !blocked.is_transient() && deletion.timed_out => {
            Step::RemoveFinalizer(FinalizerRemoval::CredentialsTimeout)
        }
        (_, Match::Unavailable(_) | Match::NotQueried) => wait,

        // an attempt whose end is unknown is watched to its end; of two a human must say which
        (OutcomeUnknown | Searching | SearchExpired, Match::Multiple) => Step::Wait(Wait::AmbiguousVersion),
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
