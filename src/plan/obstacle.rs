//! What stands in the way of a look or a change: its kinds, its words and its pauses.

use std::time::Duration;

use super::{Pace, status::Words};
use crate::{
    chatcaptain::{Call, Class, Failure},
    crd::Reason,
};

/// Why the service told nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blocked {
    /// The Secret or the key in it is missing.
    CredentialsMissing,
    /// The service refuses the key.
    KeyRefused,
    /// The key lacks a permission.
    PermissionDenied,
    /// The service does not know the chatbot.
    ChatbotNotFound,
    /// Calls pause.
    Throttled,
    /// The service cannot be reached or fails.
    Unavailable,
}

impl Blocked {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::CredentialsMissing,
        Self::KeyRefused,
        Self::PermissionDenied,
        Self::ChatbotNotFound,
        Self::Throttled,
        Self::Unavailable,
    ];

    /// The condition's reason.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::CredentialsMissing => Reason::CredentialsMissing,
            Self::KeyRefused => Reason::KeyRefused,
            Self::PermissionDenied => Reason::PermissionDenied,
            Self::ChatbotNotFound => Reason::ChatbotNotFound,
            Self::Throttled => Reason::Throttled,
            Self::Unavailable => Reason::ServiceUnavailable,
        }
    }

    /// It comes right without a human.
    #[must_use]
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Throttled | Self::Unavailable)
    }

    /// Nobody can authenticate: a deletion does not wait for this for ever.
    #[must_use]
    pub fn is_credentials(self) -> bool {
        matches!(self, Self::CredentialsMissing | Self::KeyRefused | Self::PermissionDenied)
    }

    /// What a failed look at the service means.
    #[must_use]
    pub fn from_failure(failure: &Failure) -> Self {
        match failure.class {
            Class::Refused(_) => Self::ChatbotNotFound,
            Class::Forbidden { whole_key: true } => Self::KeyRefused,
            Class::Forbidden { whole_key: false } => Self::PermissionDenied,
            Class::Throttled { .. } => Self::Throttled,
            Class::Unsent | Class::Unknown => Self::Unavailable,
        }
    }
}

/// Why the service told nothing, in words, and when to ask again.
#[derive(Clone, Debug)]
pub struct Obstacle {
    /// What stands in the way.
    pub blocked: Blocked,
    /// What it is and what to do next.
    pub message: String,
    /// How long the service asks to wait.
    pub pause: Option<Duration>,
}

impl Obstacle {
    /// What stands in the way after a failed call with the key from `secret`.
    #[must_use]
    pub fn new(failure: &Failure, secret: &str, chatbot: &str) -> Self {
        let blocked = Blocked::from_failure(failure);
        let said = &failure.message;
        let message = match blocked {
            Blocked::KeyRefused => {
                format!("The service refuses the API key in Secret {secret} ({said}); put a valid key there.")
            }
            Blocked::PermissionDenied => permission_message(failure.call, secret, said),
            Blocked::ChatbotNotFound => format!(
                "The service refuses to list the versions of chatbot {chatbot} ({said}); \
                 check spec.chatbotId and that the key in Secret {secret} belongs to its account."
            ),
            Blocked::Throttled => {
                "The service asks to slow down; the object is looked at again when the pause is over."
                    .to_owned()
            }
            Blocked::Unavailable | Blocked::CredentialsMissing => {
                format!(
                    "The service gives no usable answer ({said}); it is asked again, nothing needs to be done."
                )
            }
        };
        let pause = if let Class::Throttled { retry_after } = failure.class { retry_after } else { None };
        Self { blocked, message, pause }
    }
}

/// Names the permission that a key lacks and the next step.
fn permission_message(call: Call, secret: &str, said: &str) -> String {
    format!(
        "The API key in Secret {secret} lacks the permission for {} ({said}); grant it.",
        call.permission()
    )
}

/// What a refused change means, and how long the service asks to wait.
pub(super) fn change_refused(failure: &Failure, secret: &str) -> (Words, Option<Duration>) {
    let said = &failure.message;
    let words = match failure.class {
        Class::Refused(_) => Words::new(
            Reason::Refused,
            format!(
                "The service refused to {} ({said}); correct the cause, it is tried again slowly.",
                failure.call.as_str()
            ),
        ),
        Class::Forbidden { whole_key: true } => {
            let obstacle = Obstacle::new(failure, secret, "");
            Words::new(Reason::KeyRefused, obstacle.message)
        }
        Class::Forbidden { whole_key: false } => {
            Words::new(Reason::PermissionDenied, permission_message(failure.call, secret, said))
        }
        Class::Throttled { .. } => Words::new(Reason::Throttled, Obstacle::new(failure, secret, "").message),
        Class::Unsent | Class::Unknown => Words::new(
            Reason::Retrying,
            format!(
                "The call to {} failed ({said}); it is tried again, nothing needs to be done.",
                failure.call.as_str()
            ),
        ),
    };
    let pause = if let Class::Throttled { retry_after } = failure.class { retry_after } else { None };
    (words, pause)
}

/// When to look again although the service told nothing.
pub(super) fn pause(obstacle: &Obstacle, interval: Duration, jitter: f64) -> Pace {
    let base = match obstacle.blocked {
        Blocked::Throttled => obstacle.pause.unwrap_or(Duration::from_secs(5)),
        Blocked::Unavailable => Duration::from_secs(5),
        // the Secret's change wakes its objects; this is for what changes in the service
        _ => interval.min(Duration::from_mins(1)),
    };
    Pace::After(base + base.mul_f64(jitter / 4.0))
}
