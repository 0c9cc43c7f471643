//! Who may make a call that changes the service.
//!
//! The status announces a call before it is made (write-ahead intent). The process that wrote the announcement holds
//! the permit for it, once. Whoever finds an announced call without a permit (after a crash, as a second leader, in a
//! second pass) does not know how that call ended and must find out before another is made. Permits live in memory
//! alone: they are meant to be lost with the process.
//!
//! `T` is a point in time: an instant in the controller, a count of looks in the model.

use std::collections::HashMap;

use crate::{
    chatcaptain::Failure,
    crd::{ChatbotDeploymentStatus, ChatbotVersionStatus},
    plan::{deployment, version},
};

impl version::Step {
    /// Whether the step changes the service: its outcome is recorded whatever happens.
    #[must_use]
    pub fn writes_to_service(self) -> bool {
        matches!(self, Self::Create | Self::Delete)
    }
}

impl deployment::Step {
    /// Whether the step changes the service: its outcome is recorded whatever happens.
    #[must_use]
    pub fn writes_to_service(self) -> bool {
        matches!(self, Self::StartRollout(_) | Self::DeleteVersion)
    }
}

/// A status that can announce a call.
pub trait AnnouncesCall {
    /// Names the announced call that nobody has reported on yet.
    fn pending_call(&self) -> Option<String>;
}

impl AnnouncesCall for ChatbotVersionStatus {
    fn pending_call(&self) -> Option<String> {
        let create = self.pending_create.as_ref()?;
        // once the search has begun its create is sent, as far as anybody may assume
        create.search_start_time.is_none().then(|| create.attempt_id.clone())
    }
}

impl AnnouncesCall for ChatbotDeploymentStatus {
    fn pending_call(&self) -> Option<String> {
        let operation = self.current_operation.as_ref().filter(|operation| !operation.is_sent())?;
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
    /// A status was written at `at`. A call that it newly announces may be made by this process. A report of a call
    /// grants nothing: what it announces is what that call left open.
    pub fn after_write(
        &mut self,
        uid: &str,
        before: Option<&impl AnnouncesCall>,
        after: &impl AnnouncesCall,
        reports_call: bool,
        at: T,
    ) {
        if reports_call {
            return;
        }
        if let Some(call) = after.pending_call()
            && before.and_then(AnnouncesCall::pending_call).as_ref() != Some(&call)
        {
            self.granted.insert(uid.to_owned(), (call, at));
        }
    }

    /// When the announced call was written, if this process may still make it.
    #[must_use]
    pub fn granted_at(&self, uid: &str, status: Option<&impl AnnouncesCall>) -> Option<T> {
        let call = status?.pending_call()?;
        self.granted.get(uid).filter(|(granted, _)| *granted == call).map(|(_, at)| *at)
    }

    /// Takes the permit for the announced call, once: of two passes at a time one gets it.
    pub fn take(&mut self, uid: &str, status: Option<&impl AnnouncesCall>) -> Option<CallPermit<T>> {
        self.granted_at(uid, status)?;
        let (call, at) = self.granted.remove(uid)?;
        Some(CallPermit { uid: uid.to_owned(), call, at })
    }

    /// Gives a permit back if the call was proven not to be sent: it is still to be made.
    pub fn restore(&mut self, permit: CallPermit<T>, failure: &Failure) {
        if failure.was_not_sent() {
            self.granted.insert(permit.uid, (permit.call, permit.at));
        }
    }

    /// Forgets an object that is gone.
    pub fn forget(&mut self, uid: &str) {
        self.granted.remove(uid);
    }
}

/// The right to make one announced call.
#[derive(Debug)]
#[must_use = "a permit that is dropped is spent"]
pub struct CallPermit<T> {
    uid: String,
    call: String,
    at: T,
}

/// Since when this process searches the list for what a create of unknown outcome may have made, by the object's uid.
///
/// Times in the object are no measure for that: clocks jump, those of two replicas differ, and a process that was just
/// started has not looked at all.
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
    pub fn started(&mut self, uid: &str, status: Option<&ChatbotVersionStatus>, now: T) -> Option<T> {
        let create = status.and_then(|status| status.pending_create.as_ref());
        let Some(create) = create.filter(|create| create.search_start_time.is_some()) else {
            self.started.remove(uid);
            return None;
        };
        if let Some((attempt, started)) = self.started.get(uid)
            && *attempt == create.attempt_id
        {
            return Some(*started);
        }
        self.started.insert(uid.to_owned(), (create.attempt_id.clone(), now));
        Some(now)
    }

    /// Forgets an object that is gone.
    pub fn forget(&mut self, uid: &str) {
        self.started.remove(uid);
    }
}
