//! What the service answers, or why it gives no usable answer; and what a failed call means for the object.

use std::{sync::Arc, time::Duration};

use super::{Requeue, messages, status::ReadyCondition};
use crate::{
    chatcaptain::{DeploymentStatus, Failure, FailureClass, Inventory},
    crd::Reason,
};

/// How long to wait for a service that is throttling or unavailable, where it does not say.
// cheap: while the service is away the shared read backs off by itself and answers from memory
const TRANSIENT_RETRY: Duration = Duration::from_secs(5);
/// The longest time between two reads while the user has to repair something in the service. (A changed Secret queues the
/// object at once.)
const USER_ACTION_RETRY: Duration = Duration::from_mins(1);

/// What the service answers.
#[derive(Clone)]
pub enum ServiceView {
    /// The service was not queried, because the decision does not depend on its answer.
    NotQueried,
    /// The service gives no usable answer.
    Unavailable(Unavailable),
    /// The service answers.
    Available {
        /// The versions of the chatbot, as listed.
        inventory: Arc<Inventory>,
        /// What is live; `None` where the key may not read it.
        deployment_status: Option<Arc<DeploymentStatus>>,
        /// A version that this key does not list is gone.
        authoritative: bool,
        /// This process has deployed the version in question, and it may become live in a moment.
        rollout_pending: bool,
        /// How long ago the list was requested.
        age: Duration,
    },
}

impl ServiceView {
    /// When to reconcile an object for which nothing is left to do: when this view is older than the interval.
    #[must_use]
    pub fn requeue_when_stale(&self, interval: Duration, jitter: f64) -> Requeue {
        let age = if let Self::Available { age, .. } = self { *age } else { Duration::ZERO };
        // at least a second: an answer that is just too old would make this a busy loop
        let remaining = interval.saturating_sub(age).max(Duration::from_secs(1));
        // spread by up to 2 %, so that objects that were applied together are not read together for ever
        Requeue::After(remaining + remaining.mul_f64(jitter / 50.0))
    }
}

/// Why the service gives no usable answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnavailableReason {
    /// The Secret, or the key in it, is missing or unusable.
    CredentialsMissing,
    /// The service rejects the API key.
    AuthenticationFailed,
    /// The API key lacks a permission.
    PermissionDenied,
    /// The service does not know the chatbot.
    ChatbotNotFound,
    /// The service lists the object's version without an id.
    VersionUnidentified,
    /// The service throttles the API key.
    Throttled,
    /// The service cannot be reached, or fails.
    ServiceUnavailable,
}

impl UnavailableReason {
    /// Every reason, for tests that try each.
    pub const ALL: [Self; 7] = [
        Self::CredentialsMissing,
        Self::AuthenticationFailed,
        Self::PermissionDenied,
        Self::ChatbotNotFound,
        Self::VersionUnidentified,
        Self::Throttled,
        Self::ServiceUnavailable,
    ];

    /// The reason of the condition.
    #[must_use]
    pub fn condition_reason(self) -> Reason {
        match self {
            Self::CredentialsMissing => Reason::CredentialsMissing,
            Self::AuthenticationFailed => Reason::AuthenticationFailed,
            Self::PermissionDenied => Reason::PermissionDenied,
            Self::ChatbotNotFound => Reason::ChatbotNotFound,
            Self::VersionUnidentified => Reason::VersionUnidentified,
            Self::Throttled => Reason::Throttled,
            Self::ServiceUnavailable => Reason::ServiceUnavailable,
        }
    }

    /// Whether it ends without user action.
    #[must_use]
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Throttled | Self::ServiceUnavailable)
    }

    /// Whether a deletion waits for this only until `--deletion-timeout`. Not for what ends by itself, nor for a version that
    /// is known to exist.
    #[must_use]
    pub fn times_out(self) -> bool {
        !self.is_transient() && self != Self::VersionUnidentified
    }

    /// What a failed read means.
    #[must_use]
    pub fn from_failure(failure: &Failure) -> Self {
        match failure.class {
            FailureClass::Refused(_) => Self::ChatbotNotFound,
            FailureClass::Forbidden { whole_key: true } => Self::AuthenticationFailed,
            FailureClass::Forbidden { whole_key: false } => Self::PermissionDenied,
            FailureClass::Throttled { .. } => Self::Throttled,
            FailureClass::Unsent | FailureClass::Unknown => Self::ServiceUnavailable,
        }
    }
}

/// Why the service gives no usable answer, with the message for the user, and when to read again.
#[derive(Clone, Debug)]
pub struct Unavailable {
    /// Decides the condition and the time of the next read.
    pub reason: UnavailableReason,
    /// What is wrong and what to do next.
    pub message: String,
    /// How long the service asks to wait, or until a refused read is tried again.
    pub retry_after: Option<Duration>,
}

impl Unavailable {
    /// What a failed read means that used the key from Secret `secret`.
    #[must_use]
    pub fn new(failure: &Failure, secret: &str, chatbot: &str) -> Self {
        let reason = UnavailableReason::from_failure(failure);
        let detail = &failure.message;
        let message = match reason {
            UnavailableReason::AuthenticationFailed => messages::authentication_failed(secret, detail),
            UnavailableReason::PermissionDenied => messages::permission_denied(failure.call, secret, detail),
            UnavailableReason::ChatbotNotFound => messages::chatbot_not_found(chatbot, secret, detail),
            UnavailableReason::Throttled => messages::THROTTLED.to_owned(),
            UnavailableReason::ServiceUnavailable
            | UnavailableReason::CredentialsMissing
            | UnavailableReason::VersionUnidentified => messages::service_unavailable(detail),
        };
        Self { reason, message, retry_after: retry_after(failure) }
    }
}

fn retry_after(failure: &Failure) -> Option<Duration> {
    let advised =
        if let FailureClass::Throttled { retry_after } = failure.class { retry_after } else { None };
    failure.paused_for.or(advised)
}

/// How long a change waits after a failure that says nothing about it: of another call, or of all calls with the key. It
/// does not count as a failure of the change.
pub(super) fn pause(failure: &Failure) -> Option<Duration> {
    let is_of_others = !failure.sent || matches!(failure.class, FailureClass::Throttled { .. });
    retry_after(failure).filter(|_| is_of_others)
}

/// The condition after a failed change, and how long its [`pause`] is.
pub(super) fn write_failure_condition(failure: &Failure, secret: &str) -> (ReadyCondition, Option<Duration>) {
    let detail = &failure.message;
    let (reason, message) = match failure.class {
        FailureClass::Refused(_) => {
            (Reason::RequestRejected, messages::request_rejected(failure.call, detail))
        }
        FailureClass::Forbidden { whole_key: true } => {
            (Reason::AuthenticationFailed, messages::authentication_failed(secret, detail))
        }
        FailureClass::Forbidden { whole_key: false } => {
            (Reason::PermissionDenied, messages::permission_denied(failure.call, secret, detail))
        }
        FailureClass::Throttled { .. } => (Reason::Throttled, messages::THROTTLED.to_owned()),
        FailureClass::Unsent | FailureClass::Unknown => {
            (Reason::Retrying, messages::request_failed(failure.call, detail))
        }
    };
    (ReadyCondition::new(reason, message), pause(failure))
}

/// When to reconcile again while the service gives no usable answer.
pub(super) fn requeue_unavailable(unavailable: &Unavailable, interval: Duration, jitter: f64) -> Requeue {
    let base = match unavailable.reason {
        UnavailableReason::Throttled => unavailable.retry_after.unwrap_or(TRANSIENT_RETRY),
        UnavailableReason::ServiceUnavailable => TRANSIENT_RETRY,
        _ => unavailable.retry_after.unwrap_or(USER_ACTION_RETRY).min(interval).min(USER_ACTION_RETRY),
    };
    // up to a quarter later, so that not all objects come back in the moment in which the service does
    Requeue::After(base + base.mul_f64(jitter / 4.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chatcaptain::ApiCall;

    const INTERVAL: Duration = Duration::from_mins(5);

    #[test]
    fn requeues_are_spread() {
        assert_eq!(ServiceView::NotQueried.requeue_when_stale(INTERVAL, 0.0), Requeue::After(INTERVAL));
        let latest = Requeue::After(INTERVAL + Duration::from_secs(6));
        assert_eq!(ServiceView::NotQueried.requeue_when_stale(INTERVAL, 1.0), latest);
    }

    #[test]
    fn only_a_failure_of_the_change_itself_counts() {
        let (forbidden, delay) = (FailureClass::Forbidden { whole_key: false }, Duration::from_secs(7));
        let failure = |class| Failure::new(ApiCall::Create, class, "no");
        let answered = Failure { paused_for: Some(delay), ..failure(forbidden) };
        assert_eq!(pause(&answered), None);
        assert_eq!(pause(&Failure { sent: false, ..answered }), Some(delay));
        assert_eq!(pause(&failure(FailureClass::Throttled { retry_after: Some(delay) })), Some(delay));
        assert_eq!(pause(&failure(FailureClass::Unsent)), None);
    }

    #[test]
    fn service_is_asked_again_when_it_says_or_soon_or_slowly() {
        let requeue = |reason, retry_after, interval, jitter| {
            requeue_unavailable(
                &Unavailable { reason, message: String::new(), retry_after },
                interval,
                jitter,
            )
        };
        let seconds = Duration::from_secs;
        for (reason, retry_after, expected) in [
            (UnavailableReason::Throttled, Some(seconds(7)), seconds(7)),
            (UnavailableReason::Throttled, None, TRANSIENT_RETRY),
            (UnavailableReason::ServiceUnavailable, None, TRANSIENT_RETRY),
            (UnavailableReason::ChatbotNotFound, None, USER_ACTION_RETRY),
            (UnavailableReason::PermissionDenied, Some(seconds(7)), seconds(7)),
            (UnavailableReason::PermissionDenied, Some(seconds(700)), USER_ACTION_RETRY),
        ] {
            assert_eq!(requeue(reason, retry_after, INTERVAL, 0.0), Requeue::After(expected), "{reason:?}");
        }
        let often = requeue(UnavailableReason::ChatbotNotFound, None, seconds(20), 0.0);
        assert_eq!(often, Requeue::After(seconds(20)), "not less often than the object asks for");
        let spread = requeue(UnavailableReason::ServiceUnavailable, None, INTERVAL, 1.0);
        assert_eq!(spread, Requeue::After(Duration::from_millis(6250)));
    }
}
