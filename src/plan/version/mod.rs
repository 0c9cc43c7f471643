//! What to do about one `ChatbotVersion`: the states, the steps, and the two tables that join them.

mod facts;
mod tell;

use std::fmt;

pub use facts::Facts;
pub use tell::{Outcome, tell};

/// What matters of it all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    /// `spec.suspend`.
    pub suspended: bool,
    /// The object is being deleted, and how.
    pub deleting: Option<Deletion>,
    /// Our finalizer is there.
    pub finalizer: bool,
    /// An older object holds the same version.
    pub conflict: bool,
    /// An older object of that name is being created.
    pub rival: bool,
    /// A `recreate` token that was not acted on.
    pub recreate: bool,
    /// Backoff: nothing is changed in the service yet.
    pub held: bool,
    /// What status knows.
    pub record: Record,
    /// What the service shows.
    pub sight: Sight,
}

/// What status knows of the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Record {
    /// Nothing: no create was ever decided.
    Nothing,
    /// An intent that this process wrote; the create is not sent.
    Fresh,
    /// An intent whose end nobody knows.
    Open,
    /// The same, and the list is being watched within the grace.
    Searching,
    /// The same, and the grace is over.
    Searched,
    /// The id.
    Known,
}

/// What the service shows of the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sight {
    /// It was not asked.
    NotAsked,
    /// It told nothing.
    Blocked(super::Blocked),
    /// The known version is listed.
    Present,
    /// The known version is not listed, but it is young.
    Young,
    /// The known version is not listed.
    Absent,
    /// No version that could be ours.
    Nobody,
    /// One version that is ours.
    One,
    /// A version that is ours and may be gone in a moment: its deletion was called for.
    Going,
    /// More than one.
    Many,
    /// Versions of that name that were there before and do not tell whose they are.
    Unclear,
    /// The id to adopt is not listed.
    AdoptMissing,
    /// The id to adopt belongs to another object.
    AdoptForeign,
}

/// How an object is being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Deletion {
    /// The version is to be deleted too.
    pub delete: bool,
    /// `force-orphan`.
    pub forced: bool,
    /// The deletion timeout is over.
    pub overdue: bool,
    /// A delete was accepted within the grace.
    pub sent: bool,
    /// A missing version is proven to be gone.
    pub trusted: bool,
    /// Whether it is live.
    pub live: Liveness,
}

/// Whether a version is live somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Liveness {
    /// It is not.
    Idle,
    /// It is or will be, and the deployment that runs it has not noted the deletion yet.
    Offered,
    /// The deployment that runs it has noted the deletion.
    Taken,
    /// It is, and no deployment is in charge.
    Alone,
    /// It cannot be known.
    Unknowable,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Set the finalizer.
    Guard,
    /// Write the intent of a create.
    Intend,
    /// Note that the end of a create is not known, and watch the list.
    Search,
    /// Create.
    Create,
    /// Take over the version that is ours.
    Adopt,
    /// Delete.
    Delete,
    /// Remove the finalizer.
    Release(Release),
    /// Nothing; say how it is.
    Rest(Rest),
}

/// Why an object may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Release {
    /// The version is gone.
    Proven,
    /// Nothing was ever created.
    NeverCreated,
    /// Policy, or the object was suspended.
    Retained,
    /// The deployment that runs the version deletes it later.
    HandedOver,
    /// The version belongs to an older object.
    NotOurs,
    /// `force-orphan`.
    Forced,
    /// The version is live and nobody is there to take it over.
    LeftLive,
    /// Credentials are gone for too long.
    LeftBehind,
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rest {
    /// As wanted.
    Ready,
    /// Suspended.
    Suspended,
    /// Backing off.
    Held,
    /// The service tells nothing.
    Blocked(super::Blocked),
    /// Waiting for an older object of the same name.
    Queued,
    /// Waiting for what becomes of a version whose deletion was called for.
    Going,
    /// The list is being watched.
    Searching,
    /// The new version is not listed yet.
    Young,
    /// The version is lost.
    Lost,
    /// Which version is meant is not clear.
    Ambiguous,
    /// The id to adopt is not listed.
    AdoptMissing,
    /// Another object holds the version.
    Conflict,
    /// A deletion waits.
    Deleting,
    /// The object is on its way out.
    Gone,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Guard => f.write_str("set the finalizer"),
            Self::Intend => f.write_str("announce a create"),
            Self::Search => f.write_str("watch the list for what a create made"),
            Self::Create => f.write_str("create the version"),
            Self::Adopt => f.write_str("take over the version"),
            Self::Delete => f.write_str("delete the version"),
            Self::Release(why) => write!(f, "let the object go: {why}"),
            Self::Rest(_) => f.write_str("say how it is"),
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Proven => "its version is gone",
            Self::NeverCreated => "nothing was ever created",
            Self::Retained => "its version is kept",
            Self::HandedOver => "a ChatbotDeployment deletes its version later",
            Self::NotOurs => "its version belongs to an older object",
            Self::Forced => "force-orphan asks for it",
            Self::LeftLive => "its version is live and nobody is in charge of it",
            Self::LeftBehind => "nobody could authenticate in time",
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
        // a search or an adoption changes nothing in the service
        Step::Intend | Step::Create | Step::Delete if seen.held => Step::Rest(Rest::Held),
        step => step,
    }
}

fn next_of_life(seen: &Seen) -> Step {
    if seen.suspended {
        return Step::Rest(Rest::Suspended);
    }
    if seen.conflict {
        return Step::Rest(Rest::Conflict);
    }
    if !seen.finalizer {
        return Step::Guard;
    }
    match (seen.sight, seen.record) {
        (Sight::NotAsked, _) => Step::Rest(Rest::Held),
        (Sight::Blocked(blocked), _) => Step::Rest(Rest::Blocked(blocked)),

        (Sight::Present, _) => Step::Rest(Rest::Ready),
        (Sight::Young, _) => Step::Rest(Rest::Young),
        (Sight::Absent, _) if seen.recreate => Step::Intend,
        (Sight::Absent, _) => Step::Rest(Rest::Lost),

        (Sight::One, _) => Step::Adopt,
        (Sight::Going, _) => Step::Rest(Rest::Going),
        (Sight::Many, _) => Step::Rest(Rest::Ambiguous),
        (Sight::AdoptMissing, _) => Step::Rest(Rest::AdoptMissing),
        (Sight::AdoptForeign, _) => Step::Rest(Rest::Conflict),

        (Sight::Unclear, Record::Nothing) if !seen.recreate => Step::Rest(Rest::Ambiguous),
        (Sight::Nobody | Sight::Unclear, record) => match record {
            Record::Nothing | Record::Searched | Record::Known if seen.rival => Step::Rest(Rest::Queued),
            Record::Nothing | Record::Searched | Record::Known => Step::Intend,
            Record::Fresh => Step::Create,
            Record::Open => Step::Search,
            Record::Searching => Step::Rest(Rest::Searching),
        },
    }
}

/// The truth table of deletion, first match wins.
fn next_of_deletion(seen: &Seen, deletion: Deletion) -> Step {
    use Record::{Fresh, Known, Nothing, Open, Searched, Searching};
    let wait = Step::Rest(Rest::Deleting);
    match (seen.record, seen.sight) {
        _ if !seen.finalizer => Step::Rest(Rest::Gone),
        _ if deletion.forced => Step::Release(Release::Forced),
        _ if seen.suspended || !deletion.delete => Step::Release(Release::Retained),
        _ if seen.conflict => Step::Release(Release::NotOurs),

        // not recorded: ours if it is there, and nothing was created if not
        (_, Sight::One) => Step::Adopt,
        (_, Sight::Going) => wait,
        (Nothing, Sight::Blocked(blocked)) if blocked.is_transient() => wait,
        (Nothing | Fresh, Sight::Many) => Step::Rest(Rest::Ambiguous),
        (Nothing | Fresh, _) => Step::Release(Release::NeverCreated),

        (_, Sight::Blocked(blocked)) if !blocked.is_transient() && deletion.overdue => {
            Step::Release(Release::LeftBehind)
        }
        (_, Sight::Blocked(_) | Sight::NotAsked) => wait,

        // an attempt whose end is unknown is watched to its end; of two a human must say which
        (Open | Searching | Searched, Sight::Many) => Step::Rest(Rest::Ambiguous),
        (Open, _) => Step::Search,
        (Searching, _) => wait,
        (Searched, _) => Step::Release(Release::NeverCreated),

        (Known, Sight::Present) => match deletion.live {
            Liveness::Taken => Step::Release(Release::HandedOver),
            Liveness::Offered => wait,
            Liveness::Alone | Liveness::Unknowable => Step::Release(Release::LeftLive),
            Liveness::Idle if deletion.sent => wait,
            Liveness::Idle => Step::Delete,
        },
        // created a moment ago: that the list does not show it proves nothing yet
        (Known, Sight::Young) if !deletion.sent => wait,
        (Known, _) if deletion.trusted => Step::Release(Release::Proven),
        (Known, _) if deletion.overdue => Step::Release(Release::LeftBehind),
        (Known, _) => wait,
    }
}
