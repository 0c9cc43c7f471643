//! What stands in the way of a look or a change: its kinds, its words and its pauses.

use std::time::Duration;

use super::{Requeue, status::ReadyCondition};
use crate::{
    chatcaptain::{ApiCall, Failure, FailureClass},
    crd::Reason,
};

/// Why the service told nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnavailableReason {
    /// The Secret or the key in it is missing.
    CredentialsMissing,
    /// The service refuses the key.
    AuthenticationFailed,
    /// The key lacks a permission.
    PermissionDenied,
    /// The service does not know the chatbot.
    ChatbotNotFound,
    /// Calls pause.
    Throttled,
    /// The service cannot be reached or fails.
    ServiceUnavailable,
}

impl UnavailableReason {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::CredentialsMissing,
        Self::AuthenticationFailed,
        Self::PermissionDenied,
        Self::ChatbotNotFound,
        Self::Throttled,
        Self::ServiceUnavailable,
    ];

    /// The condition's reason.
    #[must_use]
    pub fn condition_reason(self) -> Reason {
        match self {
            Self::CredentialsMissing => Reason::CredentialsMissing,
            Self::AuthenticationFailed => Reason::AuthenticationFailed,
            Self::PermissionDenied => Reason::PermissionDenied,
            Self::ChatbotNotFound => Reason::ChatbotNotFound,
            Self::Throttled => Reason::Throttled,
            Self::ServiceUnavailable => Reason::ServiceUnavailable,
        }
    }

    /// It comes right without a human.
    #[must_use]
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Throttled | Self::ServiceUnavailable)
    }

    /// Nobody can authenticate: a deletion does not wait for this for ever.
    #[must_use]
    pub fn is_credentials_problem(self) -> bool {
        matches!(self, Self::CredentialsMissing | Self::AuthenticationFailed | Self::PermissionDenied)
    }

    /// What a failed look at the service means.
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

/// Why the service told nothing, in words, and when to ask again.
#[derive(Clone, Debug)]
pub struct Unavailable {
    /// What stands in the way.
    pub reason: UnavailableReason,
    /// What it is and what to do next.
    pub message: String,
    /// How long the service asks to wait.
    pub retry_after: Option<Duration>,
}

impl Unavailable {
    /// What stands in the way after a failed call with the key from `secret`.
    #[must_use]
    pub fn new(failure: &Failure, secret: &str, chatbot: &str) -> Self {
        let blocked = UnavailableReason::from_failure(failure);
        let said = &failure.message;
        let message = match blocked {
            UnavailableReason::AuthenticationFailed => {
                format!("The service refuses the API key in Secret {secret} ({said}); put a valid key there.")
            }
            UnavailableReason::PermissionDenied => permission_message(failure.call, secret, said),
            UnavailableReason::ChatbotNotFound => format!(
                "The service refuses to list the versions of chatbot {chatbot} ({said}); \
                 check spec.chatbotId and that the key in Secret {secret} belongs to its account."
            ),
            UnavailableReason::Throttled => {
                "The service asks to slow down; the object is looked at again when the pause is over."
                    .to_owned()
            }
            UnavailableReason::ServiceUnavailable | UnavailableReason::CredentialsMissing => {
                format!(
                    "The service gives no usable answer ({said}); it is asked again, nothing needs to be done."
                )
            }
        };
        let pause =
            if let FailureClass::Throttled { retry_after } = failure.class { retry_after } else { None };
        Self { reason: blocked, message, retry_after: pause }
    }
}

/// Names the permission that a key lacks and the next step.
fn permission_message(call: ApiCall, secret: &str, said: &str) -> String {
    format!(
        "The API key in Secret {secret} lacks the permission for {} ({said}); grant it.",
        call.permission()
    )
}

/// What a refused change means, and how long the service asks to wait.
pub(super) fn write_failure_condition(failure: &Failure, secret: &str) -> (ReadyCondition, Option<Duration>) {
    let said = &failure.message;
    let words = match failure.class {
        FailureClass::Refused(_) => ReadyCondition::new(
            Reason::RequestRejected,
            format!(
                "The service refused to {} ({said}); correct the cause, it is tried again slowly.",
                failure.call.as_str()
            ),
        ),
        FailureClass::Forbidden { whole_key: true } => {
            let obstacle = Unavailable::new(failure, secret, "");
            ReadyCondition::new(Reason::AuthenticationFailed, obstacle.message)
        }
        FailureClass::Forbidden { whole_key: false } => {
            ReadyCondition::new(Reason::PermissionDenied, permission_message(failure.call, secret, said))
        }
        FailureClass::Throttled { .. } => {
            ReadyCondition::new(Reason::Throttled, Unavailable::new(failure, secret, "").message)
        }
        FailureClass::Unsent | FailureClass::Unknown => ReadyCondition::new(
            Reason::Retrying,
            format!(
                "The call to {} failed ({said}); it is tried again, nothing needs to be done.",
                failure.call.as_str()
            ),
        ),
    };
    let pause = if let FailureClass::Throttled { retry_after } = failure.class { retry_after } else { None };
    (words, pause)
}

/// When to look again although the service told nothing.
pub(super) fn requeue_unavailable(obstacle: &Unavailable, interval: Duration, jitter: f64) -> Requeue {
    let base = match obstacle.reason {
        UnavailableReason::Throttled => obstacle.retry_after.unwrap_or(Duration::from_secs(5)),
        UnavailableReason::ServiceUnavailable => Duration::from_secs(5),
        // the Secret's change wakes its objects; this is for what changes in the service
        _ => interval.min(Duration::from_mins(1)),
    };
    Requeue::After(base + base.mul_f64(jitter / 4.0))
}
