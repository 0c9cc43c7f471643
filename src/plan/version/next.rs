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
    /// Record the version that ran under this object's name as its own, listed or not.
    Reclaim,
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
    /// The marker of the version names another installation: it stays.
    ForeignMarker,
    /// The `force-orphan` annotation asks for it: the version may stay.
    ForceOrphaned,
    /// The version is or may be live, and no `ChatbotDeployment` can delete it later: it stays.
    LiveUnmanaged,
    /// No key could delete the version within `--deletion-timeout`: it stays.
    CredentialsTimeout,
    /// The version is not listed, and the service rejects its deletion: it may stay.
    Unconfirmed,
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
    /// The user: another object, or another installation, has the version.
    Conflict,
    /// The deletion of the version.
    Deleting,
    /// The finalizers of others: our part of the deletion is done.
    WaitingForOtherFinalizers,
}

/// Decides the next step by the state alone. During a backoff nothing is started that changes the service.
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

impl Deletion {
    /// Whether a `ChatbotDeployment` has recorded a deletion that is not wanted any more. It is waited for until
    /// `--deletion-timeout`.
    fn is_to_be_called_off(self, state: &State) -> bool {
        let version_stays = self.force_orphan || state.suspended || !self.delete_version;
        version_stays && self.live_state == LiveState::HandedOver && !self.timed_out
    }
}

fn next_step_active(state: &State) -> Step {
    // before the finalizer: for a suspended object nothing is changed, not even its metadata
    if state.suspended {
        return Step::Wait(Wait::Suspended);
    }
    // before the match: the service is not queried for an object whose version an older one holds
    if state.conflict {
        return Step::Wait(Wait::Conflict);
    }
    if !state.finalizer {
        return Step::AddFinalizer;
    }
    match state.matched {
        // only where a row above applies; should that change, nothing is created without a list
        Match::NotQueried => Step::Wait(Wait::BackingOff),
        Match::Unavailable(reason) => Step::Wait(Wait::Unavailable(reason)),

        Match::Present => Step::Wait(Wait::Available),
        Match::NotYetListed => Step::Wait(Wait::WaitingForVisibility),
        // the token alone permits a second snapshot, however long the list does not show the first
        Match::Missing if state.recreate_requested => Step::RecordIntent,
        Match::Missing => Step::Wait(Wait::VersionLost),

        // also with a permit in hand: the list may show what another object of this name had created
        Match::Single => Step::Adopt,
        Match::DeletionPending => Step::Wait(Wait::WaitingForDeletion),
        Match::Ambiguous => Step::Wait(Wait::AmbiguousVersion),
        Match::AdoptMissing => Step::Wait(Wait::VersionNotFound),
        Match::ForeignMarker | Match::AdoptConflict => Step::Wait(Wait::Conflict),

        // before every create: a snapshot is never taken again by itself
        Match::None | Match::Unmarked if state.ran_before && !state.recreate_requested => Step::Reclaim,
        // an intent that was not sent cannot have made the version, and a `recreate` token is the user's answer: both
        // go on
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
        // never straight to `Create`: a permit comes only with the write of a new intent
        CreateState::NotStarted | CreateState::SearchExpired | CreateState::Created => {
            if state.older_create_pending { Step::Wait(Wait::OlderCreatePending) } else { Step::RecordIntent }
        }
    }
}

/// The table in the documentation of the module, row by row: the order of the rows is the meaning, so it is one
/// function, however long.
fn next_step_deleting(state: &State, deletion: Deletion) -> Step {
    use CreateState::{Created, IntentRecorded, NotStarted, OutcomeUnknown, SearchExpired, Searching};
    let wait = Step::Wait(Wait::Deleting);
    match (state.create_state, state.matched) {
        // without our finalizer the object may disappear at any moment, so nothing is started for it
        _ if !state.finalizer => Step::Wait(Wait::WaitingForOtherFinalizers),
        // the version stays, so the deployment that has recorded its deletion drops the record first
        _ if deletion.is_to_be_called_off(state) => wait,
        // before every row that needs the service: it is the way out of all waits below
        _ if deletion.force_orphan => Step::RemoveFinalizer(FinalizerRemoval::ForceOrphaned),
        _ if state.suspended || !deletion.delete_version => Step::RemoveFinalizer(FinalizerRemoval::Retained),
        // the version is the older object's, so it must survive this one
        _ if state.conflict => Step::RemoveFinalizer(FinalizerRemoval::OwnedByOther),

        // the deployment has written the deletion to its status, so from here on no crash loses it
        (Created, _) if deletion.live_state == LiveState::HandedOver => {
            Step::RemoveFinalizer(FinalizerRemoval::HandedOver)
        }

        // a version that is not recorded is adopted first; if there is none, nothing was created
        (_, Match::Single) => Step::Adopt,
        (_, Match::DeletionPending) => wait,
        (NotStarted, Match::None | Match::Unmarked) if state.ran_before => Step::Reclaim,
        // nothing is recorded, but the list may show a version with this marker, or does so without its id
        (NotStarted, Match::Unavailable(reason)) if !reason.times_out() => wait,
        (NotStarted | IntentRecorded, Match::Ambiguous) => Step::Wait(Wait::AmbiguousVersion),
        // this process still holds the permit of a recorded intent, so its request was not sent
        (NotStarted | IntentRecorded, _) => Step::RemoveFinalizer(FinalizerRemoval::NeverCreated),

        // an outage never times out: it ends by itself, and then the version can be deleted
        (_, Match::Unavailable(reason)) if reason.times_out() && deletion.timed_out => {
            Step::RemoveFinalizer(FinalizerRemoval::CredentialsTimeout)
        }
        (_, Match::Unavailable(_) | Match::NotQueried) => wait,

        // a create of unknown outcome is searched for to the end; of several versions the user says which
        (OutcomeUnknown | Searching | SearchExpired, Match::Ambiguous) => Step::Wait(Wait::AmbiguousVersion),
        (OutcomeUnknown, _) => Step::StartSearch,
        (Searching, _) => wait,
        (SearchExpired, _) => Step::RemoveFinalizer(FinalizerRemoval::NeverCreated),

        (Created, Match::Present) => next_step_deleting_listed(deletion),
        (Created, Match::ForeignMarker) => Step::RemoveFinalizer(FinalizerRemoval::ForeignMarker),
        // created a moment ago: that the list does not show it proves nothing yet
        (Created, Match::NotYetListed) if !deletion.delete_pending => wait,
        // before the timeout: a version that is known to be gone is no orphan
        (Created, _) if deletion.delete_confirmed => Step::RemoveFinalizer(FinalizerRemoval::Deleted),
        (Created, _) if deletion.account_known => next_step_deleting_unlisted(deletion),
        (Created, _) if deletion.timed_out => Step::RemoveFinalizer(FinalizerRemoval::CredentialsTimeout),
        (Created, _) => wait,
    }
}

/// The recorded version is not listed, and its deletion not confirmed: a list that is cut may hide it.
fn next_step_deleting_unlisted(deletion: Deletion) -> Step {
    let rejected_to_the_end = deletion.delete_refused && deletion.timed_out;
    match deletion.live_state {
        LiveState::NotLive if rejected_to_the_end => Step::RemoveFinalizer(FinalizerRemoval::Unconfirmed),
        // also within the grace of an earlier delete: its answer is the proof
        LiveState::NotLive => Step::Delete,
        _ => next_step_deleting_listed(deletion),
    }
}

/// The recorded version is listed: it is deleted, unless it is live.
fn next_step_deleting_listed(deletion: Deletion) -> Step {
    match deletion.live_state {
        // never here: the table has a row for it
        LiveState::HandedOver => Step::RemoveFinalizer(FinalizerRemoval::HandedOver),
        LiveState::HandoverPending | LiveState::RolloutPending => Step::Wait(Wait::Deleting),
        // unknown counts as live: what may be live is never deleted
        LiveState::Unmanaged | LiveState::Unknown => Step::RemoveFinalizer(FinalizerRemoval::LiveUnmanaged),
        // one request for each grace: the list may show a deleted version a little longer
        LiveState::NotLive if deletion.delete_pending => Step::Wait(Wait::Deleting),
        LiveState::NotLive => Step::Delete,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: State = State {
        suspended: false,
        deleting: None,
        finalizer: true,
        conflict: false,
        older_create_pending: false,
        ran_before: false,
        recreate_requested: false,
        backing_off: false,
        create_state: CreateState::NotStarted,
        matched: Match::None,
    };
    const DELETION: Deletion = Deletion {
        delete_version: true,
        force_orphan: false,
        timed_out: false,
        delete_pending: false,
        delete_confirmed: false,
        delete_refused: false,
        account_known: false,
        live_state: LiveState::NotLive,
    };
    const CREATED: State = State {
        create_state: CreateState::Created,
        matched: Match::Present,
        deleting: Some(DELETION),
        ..NEW
    };

    fn active(create_state: CreateState, matched: Match) -> Step {
        next_step(&State { create_state, matched, ..NEW })
    }

    /// A recorded version that is listed, unless `matched` says otherwise, while its object is being deleted.
    fn deleting(matched: Match, deletion: Deletion) -> Step {
        next_step(&State { matched, deleting: Some(deletion), ..CREATED })
    }

    #[test]
    fn a_create_takes_finalizer_intent_and_request_in_this_order() {
        assert_eq!(next_step(&State { finalizer: false, ..NEW }), Step::AddFinalizer);
        assert_eq!(active(CreateState::NotStarted, Match::None), Step::RecordIntent);
        assert_eq!(active(CreateState::IntentRecorded, Match::None), Step::Create);
    }

    #[test]
    fn a_create_of_unknown_outcome_is_searched_for_before_another_is_recorded() {
        assert_eq!(active(CreateState::OutcomeUnknown, Match::None), Step::StartSearch);
        assert_eq!(active(CreateState::Searching, Match::None), Step::Wait(Wait::CreateUnconfirmed));
        assert_eq!(active(CreateState::SearchExpired, Match::None), Step::RecordIntent);
    }

    #[test]
    fn a_listed_version_of_the_object_is_adopted_in_every_state() {
        use CreateState::{IntentRecorded, NotStarted, OutcomeUnknown, SearchExpired, Searching};
        for create_state in [NotStarted, IntentRecorded, OutcomeUnknown, Searching, SearchExpired] {
            assert_eq!(active(create_state, Match::Single), Step::Adopt, "{create_state:?}");
        }
    }

    #[test]
    fn a_lost_version_is_created_again_only_if_requested() {
        assert_eq!(active(CreateState::Created, Match::Missing), Step::Wait(Wait::VersionLost));
        let lost = State { create_state: CreateState::Created, matched: Match::Missing, ..NEW };
        assert_eq!(next_step(&State { recreate_requested: true, ..lost }), Step::RecordIntent);
    }

    #[test]
    fn what_ran_under_the_name_is_never_created_again_by_itself() {
        for matched in [Match::None, Match::Unmarked] {
            let ran = State { ran_before: true, matched, ..NEW };
            assert_eq!(next_step(&ran), Step::Reclaim);
            assert_eq!(next_step(&State { recreate_requested: true, ..ran }), Step::RecordIntent);
            assert_eq!(next_step(&State { deleting: Some(DELETION), ..ran }), Step::Reclaim);
        }
        let marked = State { ran_before: true, matched: Match::Single, ..NEW };
        assert_eq!(next_step(&marked), Step::Adopt, "the marker decides");
    }

    #[test]
    fn a_version_that_may_be_the_objects_stops_the_create_until_the_user_decides() {
        assert_eq!(active(CreateState::NotStarted, Match::Unmarked), Step::Wait(Wait::AmbiguousVersion));
        let unmarked = State { matched: Match::Unmarked, ..NEW };
        assert_eq!(next_step(&State { recreate_requested: true, ..unmarked }), Step::RecordIntent);
        assert_eq!(active(CreateState::NotStarted, Match::Ambiguous), Step::Wait(Wait::AmbiguousVersion));
        assert_eq!(active(CreateState::NotStarted, Match::AdoptMissing), Step::Wait(Wait::VersionNotFound));
    }

    #[test]
    fn an_older_object_with_the_same_version_name_creates_first() {
        let younger = State { older_create_pending: true, ..NEW };
        assert_eq!(next_step(&younger), Step::Wait(Wait::OlderCreatePending));
        // an intent that is recorded goes on: its request may have been sent
        let begun = State { create_state: CreateState::OutcomeUnknown, ..younger };
        assert_eq!(next_step(&begun), Step::StartSearch);
    }

    #[test]
    fn nothing_is_done_while_suspended_or_in_conflict() {
        for finalizer in [false, true] {
            let state = State { finalizer, ..NEW };
            assert_eq!(next_step(&State { suspended: true, ..state }), Step::Wait(Wait::Suspended));
            assert_eq!(next_step(&State { conflict: true, ..state }), Step::Wait(Wait::Conflict));
        }
    }

    #[test]
    fn backoff_delays_changes_but_neither_search_nor_adoption() {
        let backing_off = State { backing_off: true, ..NEW };
        assert_eq!(next_step(&backing_off), Step::Wait(Wait::BackingOff));
        let delete = State { backing_off: true, ..CREATED };
        assert_eq!(next_step(&delete), Step::Wait(Wait::BackingOff));
        let search = State { create_state: CreateState::OutcomeUnknown, ..backing_off };
        assert_eq!(next_step(&search), Step::StartSearch);
        assert_eq!(next_step(&State { matched: Match::Single, ..backing_off }), Step::Adopt);
    }

    #[test]
    fn a_live_version_is_handed_over_or_left_but_never_deleted() {
        let live = |live_state| deleting(Match::Present, Deletion { live_state, ..DELETION });
        assert_eq!(live(LiveState::NotLive), Step::Delete);
        assert_eq!(live(LiveState::HandoverPending), Step::Wait(Wait::Deleting));
        assert_eq!(live(LiveState::RolloutPending), Step::Wait(Wait::Deleting));
        assert_eq!(live(LiveState::HandedOver), Step::RemoveFinalizer(FinalizerRemoval::HandedOver));
        for live_state in [LiveState::Unmanaged, LiveState::Unknown] {
            assert_eq!(live(live_state), Step::RemoveFinalizer(FinalizerRemoval::LiveUnmanaged));
        }
    }

    #[test]
    fn a_version_of_another_installation_is_left_alone() {
        assert_eq!(active(CreateState::Created, Match::ForeignMarker), Step::Wait(Wait::Conflict));
        let removed = Step::RemoveFinalizer(FinalizerRemoval::ForeignMarker);
        assert_eq!(deleting(Match::ForeignMarker, DELETION), removed);
    }

    #[test]
    fn a_deletion_ends_when_our_delete_is_confirmed() {
        let sent = Deletion { delete_pending: true, ..DELETION };
        assert_eq!(deleting(Match::Present, sent), Step::Wait(Wait::Deleting), "it is not sent twice");
        assert_eq!(deleting(Match::Missing, sent), Step::Wait(Wait::Deleting), "the key may be another's");
        let confirmed = Deletion { delete_confirmed: true, ..DELETION };
        let removed = Step::RemoveFinalizer(FinalizerRemoval::Deleted);
        assert_eq!(deleting(Match::Missing, confirmed), removed);
        // created a moment ago, and not deleted by us: it may still show up
        assert_eq!(deleting(Match::NotYetListed, confirmed), Step::Wait(Wait::Deleting));
        assert_eq!(deleting(Match::NotYetListed, Deletion { delete_pending: true, ..confirmed }), removed);
    }

    #[test]
    fn an_unlisted_version_is_deleted_unless_it_may_be_live() {
        let unlisted =
            |live_state| deleting(Match::Missing, Deletion { account_known: true, live_state, ..DELETION });
        assert_eq!(unlisted(LiveState::NotLive), Step::Delete);
        assert_eq!(unlisted(LiveState::HandoverPending), Step::Wait(Wait::Deleting));
        assert_eq!(unlisted(LiveState::HandedOver), Step::RemoveFinalizer(FinalizerRemoval::HandedOver));
        for live_state in [LiveState::Unmanaged, LiveState::Unknown] {
            assert_eq!(unlisted(live_state), Step::RemoveFinalizer(FinalizerRemoval::LiveUnmanaged));
        }
    }

    #[test]
    fn a_rejected_delete_of_an_unlisted_version_ends_with_the_timeout() {
        let refused = Deletion { account_known: true, delete_refused: true, ..DELETION };
        assert_eq!(deleting(Match::Missing, refused), Step::Delete);
        let late = Deletion { timed_out: true, ..refused };
        assert_eq!(deleting(Match::Missing, late), Step::RemoveFinalizer(FinalizerRemoval::Unconfirmed));
        let untried = Deletion { delete_refused: false, ..late };
        assert_eq!(deleting(Match::Missing, untried), Step::Delete, "no operator ran before");
        assert_eq!(deleting(Match::Present, late), Step::Delete, "what is listed is no orphan yet");
    }

    #[test]
    fn a_deletion_waits_for_valid_credentials_only_until_its_timeout() {
        let refused = Match::Unavailable(UnavailableReason::AuthenticationFailed);
        let away = Match::Unavailable(UnavailableReason::ServiceUnavailable);
        let late = Deletion { timed_out: true, ..DELETION };
        let removed = Step::RemoveFinalizer(FinalizerRemoval::CredentialsTimeout);
        assert_eq!(deleting(refused, DELETION), Step::Wait(Wait::Deleting));
        assert_eq!(deleting(refused, late), removed);
        assert_eq!(deleting(Match::Missing, late), removed, "the key of another account");
        assert_eq!(deleting(away, late), Step::Wait(Wait::Deleting), "an outage ends by itself");
    }

    #[test]
    fn a_deletion_searches_for_a_create_of_unknown_outcome() {
        let create = |create_state, matched| next_step(&State { create_state, matched, ..CREATED });
        let never = Step::RemoveFinalizer(FinalizerRemoval::NeverCreated);
        assert_eq!(create(CreateState::NotStarted, Match::None), never);
        assert_eq!(
            create(CreateState::IntentRecorded, Match::None),
            never,
            "the request is not sent any more"
        );
        assert_eq!(create(CreateState::OutcomeUnknown, Match::None), Step::StartSearch);
        assert_eq!(create(CreateState::Searching, Match::None), Step::Wait(Wait::Deleting));
        assert_eq!(create(CreateState::Searching, Match::Single), Step::Adopt);
        assert_eq!(create(CreateState::SearchExpired, Match::None), never);
        let ambiguous = Step::Wait(Wait::AmbiguousVersion);
        assert_eq!(create(CreateState::SearchExpired, Match::Ambiguous), ambiguous);
    }

    #[test]
    fn a_finalizer_goes_without_a_delete_where_the_version_stays() {
        use FinalizerRemoval::{ForceOrphaned, OwnedByOther, Retained};
        let removed = Step::RemoveFinalizer;
        let forced = Deletion { force_orphan: true, delete_version: false, ..DELETION };
        assert_eq!(deleting(Match::Present, forced), removed(ForceOrphaned));
        let retained = Deletion { delete_version: false, ..DELETION };
        assert_eq!(deleting(Match::Present, retained), removed(Retained));
        assert_eq!(next_step(&State { suspended: true, ..CREATED }), removed(Retained));
        assert_eq!(next_step(&State { conflict: true, ..CREATED }), removed(OwnedByOther));
        let gone = State { finalizer: false, ..CREATED };
        assert_eq!(next_step(&gone), Step::Wait(Wait::WaitingForOtherFinalizers));
    }

    #[test]
    fn a_hand_over_is_called_off_before_the_finalizer_goes_without_a_delete() {
        let handed_over = Deletion { live_state: LiveState::HandedOver, ..DELETION };
        let retained = Deletion { delete_version: false, ..handed_over };
        let forced = Deletion { force_orphan: true, ..handed_over };
        for deletion in [retained, forced] {
            assert_eq!(deleting(Match::NotQueried, deletion), Step::Wait(Wait::Deleting));
            let late = Deletion { timed_out: true, ..deletion };
            assert!(matches!(deleting(Match::NotQueried, late), Step::RemoveFinalizer(_)));
        }
        let suspended = State { suspended: true, deleting: Some(handed_over), ..CREATED };
        assert_eq!(next_step(&suspended), Step::Wait(Wait::Deleting));
    }

    #[test]
    fn what_is_handed_over_needs_no_answer_of_the_service() {
        let handed_over = Deletion { live_state: LiveState::HandedOver, ..DELETION };
        let away = Match::Unavailable(UnavailableReason::ServiceUnavailable);
        assert_eq!(deleting(away, handed_over), Step::RemoveFinalizer(FinalizerRemoval::HandedOver));
    }

    #[test]
    fn a_deletion_without_a_create_waits_only_where_a_version_may_exist() {
        let new = |matched| next_step(&State { create_state: CreateState::NotStarted, matched, ..CREATED });
        let never = Step::RemoveFinalizer(FinalizerRemoval::NeverCreated);
        // a version that an earlier object created may be listed in a moment, or is listed without its id
        for reason in [UnavailableReason::ServiceUnavailable, UnavailableReason::VersionUnidentified] {
            assert_eq!(new(Match::Unavailable(reason)), Step::Wait(Wait::Deleting), "{reason:?}");
        }
        assert_eq!(new(Match::Unavailable(UnavailableReason::ChatbotNotFound)), never);
        assert_eq!(new(Match::DeletionPending), Step::Wait(Wait::Deleting));
    }
}
