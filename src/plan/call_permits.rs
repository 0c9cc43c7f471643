//! Who may make a call that changes the service.
//!
//! The status records the intent before a create, deploy or rollback is called (write-ahead intent). The process that wrote
//! the intent gets the permit for that call, once. A reconcile that finds a pending call without its permit (after a crash,
//! as a second leader, beside another reconcile) does not know how the call ended and must find out before it makes
//! another. Permits exist in memory alone: they are meant to be lost with the process. A delete may be repeated and needs
//! no permit.
//!
//! `T` is a point in time: an instant in the controller, a count of steps in the model.

use std::collections::{HashMap, HashSet};

use crate::{
    chatcaptain::Failure,
    crd::{ChatbotDeploymentStatus, ChatbotVersionStatus},
    plan::{deployment, version},
};

impl version::Step {
    /// Whether the step calls the service to change it: then its outcome must be recorded, whatever happens.
    #[must_use]
    pub fn writes_to_service(self) -> bool {
        matches!(self, Self::Create | Self::Delete)
    }
}

impl deployment::Step {
    /// Whether the step calls the service to change it: then its outcome must be recorded, whatever happens.
    #[must_use]
    pub fn writes_to_service(self) -> bool {
        matches!(self, Self::StartRollout(_) | Self::DeleteVersion)
    }
}

/// A status that can hold the intent of a call.
pub trait HasPendingCall {
    /// The call whose intent is recorded and whose outcome is not.
    fn pending_call(&self) -> Option<String>;
}

impl HasPendingCall for ChatbotVersionStatus {
    fn pending_call(&self) -> Option<String> {
        let create = self.pending_create.as_ref()?;
        // once the search has begun the create counts as sent
        create.search_start_time.is_none().then(|| create.attempt_id.clone())
    }
}

impl HasPendingCall for ChatbotDeploymentStatus {
    fn pending_call(&self) -> Option<String> {
        let operation = self.current_operation.as_ref().filter(|operation| !operation.is_sent())?;
        // with the time: the intent for the same call may be recorded again, and needs a permit of its own
        Some(format!("{:?} {} {}", operation.operation, operation.version_id, operation.start_time.0))
    }
}

/// The permits of one process, by the object's uid.
#[derive(Clone, Debug)]
pub struct CallPermits<T> {
    granted: HashMap<String, (String, T)>,
}

impl<T> Default for CallPermits<T> {
    fn default() -> Self {
        Self { granted: HashMap::new() }
    }
}

impl<T: Copy> CallPermits<T> {
    /// A status was written at `at`. This process may make the call that is pending since that write. The report of a call
    /// grants nothing: what is pending in it is the call that was just made.
    pub fn after_write(
        &mut self,
        uid: &str,
        before: Option<&impl HasPendingCall>,
        after: &impl HasPendingCall,
        reports_call: bool,
        at: T,
    ) {
        if reports_call {
            return;
        }
        if let Some(call) = after.pending_call()
            // an intent that stood there before this write may be another process's, and its call may be on its way
            && before.and_then(HasPendingCall::pending_call).as_ref() != Some(&call)
        {
            self.granted.insert(uid.to_owned(), (call, at));
        }
    }

    /// When the intent of the pending call was written, if this process may still make it.
    #[must_use]
    pub fn granted_at(&self, uid: &str, status: Option<&impl HasPendingCall>) -> Option<T> {
        let call = status?.pending_call()?;
        self.granted.get(uid).filter(|(granted, _)| *granted == call).map(|(_, at)| *at)
    }

    /// Takes the permit for the pending call, once: of two reconciles at the same time one gets it.
    pub fn take(&mut self, uid: &str, status: Option<&impl HasPendingCall>) -> Option<CallPermit<T>> {
        // a permit for another call than the one that status shows stays where it is
        self.granted_at(uid, status)?;
        let (call, at) = self.granted.remove(uid)?;
        Some(CallPermit { uid: uid.to_owned(), call, at })
    }

    /// Returns a permit if the call was proven not to be sent, so that it can still be made.
    pub fn restore(&mut self, permit: CallPermit<T>, failure: &Failure) {
        if failure.was_not_sent() {
            self.granted.insert(permit.uid, (permit.call, permit.at));
        }
    }

    /// Forgets an object that no longer exists.
    pub fn forget(&mut self, uid: &str) {
        self.granted.remove(uid);
    }

    /// Forgets the objects that are not among these.
    pub fn retain(&mut self, uids: &HashSet<String>) {
        self.granted.retain(|uid, _| uids.contains(uid));
    }
}

/// The right to make one pending call.
#[derive(Debug)]
#[must_use = "a permit that is dropped is spent"]
pub struct CallPermit<T> {
    uid: String,
    call: String,
    at: T,
}

/// Since when this process searches the list for what a create of unknown outcome may have made, by the object's uid.
///
/// Times in the object cannot be used for that: clocks jump, those of two replicas differ, and a process that was just
/// started has not read the list at all.
#[derive(Clone, Debug)]
pub struct SearchTimers<T> {
    started: HashMap<String, (String, T)>,
}

impl<T> Default for SearchTimers<T> {
    fn default() -> Self {
        Self { started: HashMap::new() }
    }
}

impl<T: Copy> SearchTimers<T> {
    /// When the search for the status' unconfirmed create began in this process: `now` for one that begins. `None`, and
    /// forgotten, where nothing is searched for.
    pub fn start(&mut self, uid: &str, status: Option<&ChatbotVersionStatus>, now: T) -> Option<T> {
        let Some(attempt) = searched_attempt(status) else {
            self.started.remove(uid);
            return None;
        };
        // the start of this attempt stays, or every reconcile would begin the search again
        let started = self.started(uid, status).unwrap_or(now);
        self.started.insert(uid.to_owned(), (attempt.to_owned(), started));
        Some(started)
    }

    /// When the search for the status' unconfirmed create began in this process, if it has begun.
    #[must_use]
    pub fn started(&self, uid: &str, status: Option<&ChatbotVersionStatus>) -> Option<T> {
        let attempt = searched_attempt(status)?;
        self.started.get(uid).filter(|(searched, _)| searched == attempt).map(|(_, started)| *started)
    }

    /// Forgets an object that no longer exists.
    pub fn forget(&mut self, uid: &str) {
        self.started.remove(uid);
    }

    /// Forgets the objects that are not among these.
    pub fn retain(&mut self, uids: &HashSet<String>) {
        self.started.retain(|uid, _| uids.contains(uid));
    }
}

/// The attempt whose outcome the list is searched for.
fn searched_attempt(status: Option<&ChatbotVersionStatus>) -> Option<&str> {
    let create = status?.pending_create.as_ref()?;
    create.search_start_time.as_ref().map(|_| create.attempt_id.as_str())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;
    use crate::chatcaptain::{ApiCall, FailureClass};

    fn with_intent(attempt: &str) -> ChatbotVersionStatus {
        let create = json!({"attemptId": attempt, "startTime": "2026-01-01T00:00:00Z"});
        serde_json::from_value(json!({"pendingCreate": create})).unwrap()
    }

    fn searching(attempt: &str) -> ChatbotVersionStatus {
        let mut status = with_intent(attempt);
        let create = status.pending_create.as_mut().unwrap();
        create.search_start_time = Some(create.start_time.clone());
        status
    }

    fn granted() -> CallPermits<u32> {
        let mut permits = CallPermits::default();
        permits.after_write("u", None::<&ChatbotVersionStatus>, &with_intent("a"), false, 7);
        permits
    }

    #[test]
    fn permit_is_granted_to_the_process_that_wrote_the_intent() {
        assert_eq!(granted().granted_at("u", Some(&with_intent("a"))), Some(7));
        assert_eq!(granted().granted_at("u", Some(&with_intent("another process'"))), None);
        assert_eq!(granted().granted_at("u", Some(&searching("a"))), None, "it counts as sent");
    }

    #[test]
    fn permit_is_taken_once() {
        let (mut permits, status) = (granted(), with_intent("a"));
        assert!(permits.take("u", Some(&status)).is_some());
        assert!(permits.take("u", Some(&status)).is_none());
    }

    #[test]
    fn permit_comes_back_only_if_the_call_was_not_sent() {
        for (class, back) in [(FailureClass::Unsent, true), (FailureClass::Unknown, false)] {
            let (mut permits, status) = (granted(), with_intent("a"));
            let permit = permits.take("u", Some(&status)).unwrap();
            permits.restore(permit, &Failure::new(ApiCall::Create, class, "no answer"));
            assert_eq!(permits.granted_at("u", Some(&status)).is_some(), back, "{class:?}");
        }
    }

    #[test]
    fn report_of_a_call_grants_nothing() {
        let mut permits = CallPermits::default();
        permits.after_write("u", None::<&ChatbotVersionStatus>, &with_intent("a"), true, 7);
        assert_eq!(permits.granted_at("u", Some(&with_intent("a"))), None);
    }

    #[test]
    fn write_without_a_new_intent_grants_nothing() {
        let (mut permits, status) = (CallPermits::default(), with_intent("a"));
        permits.after_write("u", Some(&status), &status, false, 7);
        assert_eq!(permits.granted_at("u", Some(&status)), None, "another process wrote the intent");
    }

    #[test]
    fn search_lasts_from_the_first_read_of_this_process() {
        let (mut timers, status) = (SearchTimers::default(), searching("a"));
        assert_eq!(timers.start("u", Some(&status), 1), Some(1));
        assert_eq!(timers.start("u", Some(&status), 5), Some(1));
        assert_eq!(timers.start("u", Some(&searching("b")), 6), Some(6), "another attempt");
        assert_eq!(timers.start("u", Some(&with_intent("b")), 7), None);
        assert_eq!(timers.started("u", Some(&searching("b"))), None, "forgotten");
    }

    fn with_rollout_intent(call_time: Option<&str>) -> ChatbotDeploymentStatus {
        let operation = json!({
            "operation": "Deploy", "versionId": "v1", "startTime": "2026-01-01T00:00:00Z", "callTime": call_time,
        });
        serde_json::from_value(json!({"currentOperation": operation})).unwrap()
    }

    #[test]
    fn rollout_is_pending_until_its_call_is_recorded() {
        let mut permits = CallPermits::default();
        let status = with_rollout_intent(None);
        permits.after_write("u", None::<&ChatbotDeploymentStatus>, &status, false, 7);
        assert_eq!(permits.granted_at("u", Some(&status)), Some(7));
        let mut other = with_rollout_intent(None);
        other.current_operation.as_mut().unwrap().version_id = "v2".to_owned();
        assert_eq!(permits.granted_at("u", Some(&other)), None, "it is for another version");
        let sent = with_rollout_intent(Some("2026-01-01T00:00:01Z"));
        assert_eq!(permits.granted_at("u", Some(&sent)), None);
    }

    #[test]
    fn object_that_no_longer_exists_is_forgotten() {
        let mut permits = granted();
        permits.forget("u");
        assert_eq!(permits.granted_at("u", Some(&with_intent("a"))), None);
        let mut timers = SearchTimers::default();
        timers.start("u", Some(&searching("a")), 1);
        timers.forget("u");
        assert_eq!(timers.started("u", Some(&searching("a"))), None);
    }

    #[test]
    fn objects_that_a_new_list_no_longer_shows_are_forgotten() {
        let (mut permits, mut timers) = (granted(), SearchTimers::default());
        timers.start("u", Some(&searching("a")), 1);
        let listed = |uid: &str| HashSet::from([uid.to_owned()]);
        permits.retain(&listed("u"));
        timers.retain(&listed("u"));
        assert!(permits.granted_at("u", Some(&with_intent("a"))).is_some());
        assert!(timers.started("u", Some(&searching("a"))).is_some());
        permits.retain(&listed("v"));
        timers.retain(&listed("v"));
        assert!(permits.granted.is_empty() && timers.started.is_empty());
    }

    #[test]
    fn only_calls_that_change_the_service_are_recorded_whatever_happens() {
        use deployment::RolloutMethod::{Deploy, Rollback};
        assert!(version::Step::Create.writes_to_service());
        assert!(version::Step::Delete.writes_to_service());
        assert!(!version::Step::Adopt.writes_to_service());
        assert!(deployment::Step::StartRollout(Rollback).writes_to_service());
        assert!(deployment::Step::DeleteVersion.writes_to_service());
        assert!(!deployment::Step::RecordIntent(Deploy).writes_to_service());
    }
}
