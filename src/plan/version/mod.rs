//! What to do about one `ChatbotVersion`: one object, one version in the service.
//!
//! An [`Observation`] is what one reconcile has read, [`State`] the few values of it that matter, [`next_step`] decides
//! by them alone, and [`report`] converts the step and its outcome into a status.
//!
//! # Creating
//!
//! The service's create is not idempotent: the same request sent twice makes two versions, and a lost answer does not
//! show whether it made one. So a create takes several reconciles:
//!
//! 1. `AddFinalizer`: from now on the object cannot disappear while a version is being created for it.
//! 2. `RecordIntent`: `status.pendingCreate` names an attempt, and the ids that already have the version's name. It is
//!    written with the resourceVersion that was read, so that of two leaders, or with a stale cache, one write fails.
//! 3. The list is read again, requested after that write. A version with this object's marker is adopted instead.
//! 4. `Create`: the request, with the marker as the last line of the description.
//! 5. The id is recorded and `pendingCreate` removed: the id that the list shows under the marker. An id in the answer is a
//!    hint, because it may be that of another object in the answer.
//!
//! **Why an intent is written ahead.** A process can die between the request and its record. Without the intent the next
//! one would find an object without an id and create a second version; with it, it knows that a request may be out.
//!
//! **Who may send the request.** The process that wrote the intent, once. The right to do so is a permit in its memory
//! (`plan::call_permits`), which one reconcile takes and which is meant to be lost with the process. A reconcile that finds
//! an intent without its permit does not know whether a request was sent.
//!
//! **What the answer means.**
//!
//! | answer | what is recorded | then |
//! |---|---|---|
//! | accepted, the list shows our marker | the id with the marker, whatever the answer says | Ready |
//! | accepted, no marker can be read | the answer's id, if it is new and has the name | Ready |
//! | accepted, neither is listed | the hint; the search begins | `WaitingForVisibility`, then `AmbiguousVersion`: there is one somewhere |
//! | refused, forbidden | the intent is removed | backoff, then a new intent |
//! | not sent (throttled, no connection) | the intent stays, and its permit | backoff, then the same attempt |
//! | timeout, reset, 5xx, unreadable | the search begins | `CreateUnconfirmed` |
//!
//! **Unknown** means that the request may have been sent and may have taken effect, now or in a moment. `StartSearch`
//! sets `pendingCreate.searchStartTime`, and the list is read until a version shows up or the visibility grace is over.
//! One match is adopted, none permits another attempt, several stop with `AmbiguousVersion` and their ids. The search
//! runs by the monotonic clock of the process that searches, never by `searchStartTime`: clocks jump, those of two
//! replicas differ, and a process that was just started has not read the list at all. A restart begins the search again.
//!
//! **What a crash leaves.**
//!
//! | crash after | what is left | what the next process does |
//! |---|---|---|
//! | the finalizer | nothing to create from | starts with the list |
//! | the intent | an intent, no permit | searches for the whole grace, though nothing was sent |
//! | the request | the same, and perhaps a version | searches, finds it by its marker and adopts it (`CreateRecovered`) |
//! | the start of the search | `searchStartTime` | searches for the whole grace |
//! | the record | the id | nothing |
//!
//! **Whose version it is.** The marker names owner, namespace and object. One of another owner is another installation's,
//! also where a status names it (a restored backup, a changed `--owner-id`): it is a `Conflict`, and never deleted. Where the service does not return descriptions,
//! the new ids with the right name take its place: not those that `pendingCreate` lists as existing, and none at all
//! before a request may have been sent (`Unmarked`: the user decides). Then only the oldest of the objects with the same
//! version name creates at a time.
//!
//! **Coming back.** An object that is applied again, or to a rebuilt cluster, adopts the version with its marker, also
//! one whose deletion is pending: should that take effect, the version is lost. Where no version has the marker, but a
//! `ChatbotDeployment` beside the object has its name in its history, the version that ran is recorded (`Reclaim`), listed
//! or not. A recorded version that is no longer listed is `VersionLost`: a snapshot is never taken again without a new
//! `recreate` token. `adopt-id` names the version where the marker cannot.
//!
//! # Deleting
//!
//! The finalizer goes when the first of these rows holds; every removal that may leave a version behind is an event.
//!
//! | what is so | what happens |
//! |---|---|
//! | one of the next two rows, but a `ChatbotDeployment` has recorded the deletion | it drops the record first, until `--deletion-timeout` |
//! | `force-orphan` is set | the finalizer goes at once; the version may stay |
//! | the policy is Retain, or the object is suspended | the finalizer goes; the version stays |
//! | an older object holds the version | the finalizer goes; the version stays with that object |
//! | the marker of the version names another owner | the finalizer goes; the version stays |
//! | a `ChatbotDeployment` has recorded the deletion | the finalizer goes; it deletes the version once it is not in use |
//! | no id is recorded, and one version is this object's | it is adopted, and the rows below decide |
//! | its deletion was requested elsewhere | wait until that has taken effect, or has not |
//! | nothing was sent, and no version is this object's | the finalizer goes; nothing was created |
//! | no valid credentials for `--deletion-timeout` | the finalizer goes; the version stays |
//! | the outcome of a create is unknown | search to the end; found: adopt it; nothing: the finalizer goes |
//! | several versions can be this object's | wait for `adopt-id` or `force-orphan` |
//! | listed, and live or about to be | wait until the `ChatbotDeployment` that runs it has recorded the deletion |
//! | listed and live, and no `ChatbotDeployment` can take over, or does until `--deletion-timeout` | the finalizer goes; the version stays |
//! | listed and not live | delete it, and wait until the list does not show it |
//! | not listed, created within the visibility grace | wait: it is not listed *yet* |
//! | not listed, and our delete was answered as done or not found | the finalizer goes; the version is deleted |
//! | not listed, and the key has listed versions of ours | as if it were listed: it is deleted, unless it may be live |
//! | the same, and the delete is rejected for `--deletion-timeout` | the finalizer goes; the version may stay |
//!
//! A list without the version proves nothing by itself: a long list may be cut to the newest versions. Nor does a delete
//! that is not found, where the key belongs to another account: that lists nothing of ours, so no delete is sent with it.
//!
//! A version that was created for an environment is about to be live, also for a process that has not sent the request:
//! the status has the record of the create.
//!
//! A live version is handed over because a finalizer must not wait for another object in git: Argo CD would not go on to
//! the next sync wave, in which that object changes. The deployment deletes the version once it has switched to another.

mod calls;
mod deletion;
mod earlier_run;
#[cfg(test)]
mod fixtures;
mod freshness;
mod left_behind;
mod live;
mod matching;
mod messages;
mod next;
mod observation;
mod state;
mod status;

pub use calls::Outcome;
pub use left_behind::left_behind;
pub use next::{FinalizerRemoval, Step, Wait, next_step};
pub use observation::Observation;
pub use state::{CreateState, Deletion, LiveState, Match, State};
pub use status::report;
