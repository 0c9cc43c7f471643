//! What a decision about one `ChatbotVersion` depends on: a few small enums, so that tests can try every combination.

use crate::plan::UnavailableReason;

/// The object, the service and this process, as far as they matter for the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// `spec.suspend` is true.
    pub suspended: bool,
    /// How the object is being deleted; `None` while it is not.
    pub deleting: Option<Deletion>,
    /// The object has our finalizer.
    pub finalizer: bool,
    /// An older object holds the recorded version: nothing is done for this one.
    pub conflict: bool,
    /// An older object is creating a version with the same name, and the service does not return the descriptions by
    /// which the two could be distinguished.
    pub older_create_pending: bool,
    /// The object is new, and an environment ran a version of an object of its name: no other snapshot is taken by itself.
    pub ran_before: bool,
    /// The `recreate` annotation has a token that was not acted on yet.
    pub recreate_requested: bool,
    /// A change failed a short while ago: none is started before the backoff is over.
    pub backing_off: bool,
    /// How far the create has come.
    pub create_state: CreateState,
    /// Which listed version is this object's.
    pub matched: Match,
}

/// How far the create has come. The status shows it, except for which process wrote the intent and how long the search has
/// taken: only this process knows that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CreateState {
    /// No version and no intent is recorded.
    NotStarted,
    /// This process has recorded the intent and holds the permit: the request is not sent, and may be sent.
    IntentRecorded,
    /// An intent without a permit: a request may have been sent, and its outcome is unknown.
    OutcomeUnknown,
    /// The list is searched for what that request may have created.
    Searching,
    /// The search has lasted longer than the visibility grace.
    SearchExpired,
    /// The id of the version is recorded.
    Created,
}

/// Which listed version is this object's.
///
/// `Present`, `ForeignMarker`, `NotYetListed` and `Missing` speak of the recorded version; the others of the candidates for it while none
/// is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Match {
    /// The service was not queried.
    NotQueried,
    /// The service gives no usable answer.
    Unavailable(UnavailableReason),
    /// The recorded version is listed.
    Present,
    /// The recorded version is listed, and its marker names another installation.
    ForeignMarker,
    /// The recorded version is not listed, which proves nothing: it was created within the visibility grace.
    NotYetListed,
    /// The recorded version is not listed.
    Missing,
    /// No listed version can be this object's.
    None,
    /// One listed version is this object's.
    Single,
    /// The recorded version or a candidate is listed, but its deletion was requested within the visibility grace: it may
    /// disappear.
    DeletionPending,
    /// Several listed versions can be this object's, or the service accepted the create and lists none.
    Ambiguous,
    /// Versions with the right name existed before any create of this object, and nothing shows which object they belong to.
    Unmarked,
    /// The version named by `adopt-id` is not listed.
    AdoptMissing,
    /// The version named by `adopt-id` belongs to another object or installation.
    AdoptConflict,
}

/// How an object is being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Deletion {
    /// The deletion policy asks for the version to be deleted, too.
    pub delete_version: bool,
    /// The `force-orphan` annotation is set.
    pub force_orphan: bool,
    /// More than `--deletion-timeout` ago, the deletion of the object was requested.
    pub timed_out: bool,
    /// A delete request, not refused, was sent within the visibility grace: the version may still be listed.
    pub delete_pending: bool,
    /// The service answered our delete as done or not found: the version is gone once it is not listed.
    pub delete_confirmed: bool,
    /// The service rejected our last delete.
    pub delete_refused: bool,
    /// The key is known to list our versions, so it belongs to their account.
    pub account_known: bool,
    /// Whether the version is live, and who deletes it then.
    pub live_state: LiveState,
}

/// Whether the recorded version is live, or about to be, and who deletes it then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LiveState {
    /// No environment runs it.
    NotLive,
    /// It is live or about to be, and no `ChatbotDeployment` has recorded the deletion yet.
    HandoverPending,
    /// A `ChatbotDeployment` has recorded the deletion in its status.
    HandedOver,
    /// A call of ours may make it live in a moment.
    RolloutPending,
    /// It is or may be live in an environment that no `ChatbotDeployment` manages, or none takes its deletion over.
    Unmanaged,
    /// The key may not read the deployment status, and nothing else shows what is live.
    Unknown,
}
