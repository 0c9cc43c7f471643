//! What went wrong, as what may be done next. Decided here, once, and nowhere else.

use std::time::Duration;

use jiff::Timestamp;

use super::wire;

/// A call of the service's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ApiCall {
    /// List of a chatbot's versions.
    List,
    /// Deployment status of a chatbot.
    Status,
    /// Create a version.
    Create,
    /// Delete a version.
    Delete,
    /// Deploy a version.
    Deploy,
    /// Roll back to a version.
    Rollback,
}

impl ApiCall {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::List, Self::Status, Self::Create, Self::Delete, Self::Deploy, Self::Rollback];

    /// The metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Status => "status",
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Deploy => "deploy",
            Self::Rollback => "rollback",
        }
    }

    /// The permission that the key needs, as the service's reference names it (for rollback it names none).
    #[must_use]
    pub fn permission(self) -> &'static str {
        match self {
            Self::List => "chatbots.versions.list",
            Self::Status => "chatbots.deployments.status",
            Self::Create => "chatbots.versions.create",
            Self::Delete => "chatbots.versions.delete",
            Self::Deploy => "chatbots.versions.deploy",
            Self::Rollback => "rolling back versions",
        }
    }
}

/// Why the service refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// 404: the chatbot or version is not known.
    NotFound,
    /// 405: there is no such call.
    Unsupported,
    /// 409: it cannot be done now.
    Conflict,
    /// 400, 422 and the other parsed 4xx: the request is wrong.
    Invalid,
    /// 200 with `error`, `deleted: false` or `rolledBack: false`.
    ErrorInBody,
}

/// The classes of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureClass {
    /// The service says no: it did not happen.
    Refused(Refusal),
    /// 401, or 403 that is no throttle: the key may not do this.
    Forbidden {
        /// The key as a whole is refused (401), not just for this call.
        whole_key: bool,
    },
    /// Too many calls.
    Throttled {
        /// How long the service asks to wait.
        retry_after: Option<Duration>,
    },
    /// Proven never to have left this machine.
    Unsent,
    /// Timeout, reset, 5xx, unreadable answer: it may have happened.
    Unknown,
}

impl FailureClass {
    /// The metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Forbidden { .. } => "forbidden",
            Self::Throttled { .. } => "throttled",
            Self::Unsent => "unsent",
            Self::Unknown => "unknown",
        }
    }
}

/// A failed call. The message is safe to show: bounded, one line, without the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", call.as_str())]
pub struct Failure {
    /// What was called.
    pub call: ApiCall,
    /// What it means.
    pub class: FailureClass,
    /// The call may have taken effect all the same.
    pub may_have_happened: bool,
    /// What the service or the transport said.
    pub message: String,
}

impl Failure {
    /// A failure of `class`; only an unknown one may have happened, unless set otherwise.
    #[must_use]
    pub fn new(call: ApiCall, class: FailureClass, message: &str) -> Self {
        Self {
            call,
            class,
            may_have_happened: class == FailureClass::Unknown,
            message: to_single_line(message),
        }
    }

    /// The call was held back or never left this machine: it is still to be made.
    #[must_use]
    pub fn was_not_sent(&self) -> bool {
        !self.may_have_happened && matches!(self.class, FailureClass::Throttled { .. } | FailureClass::Unsent)
    }
}

/// Longest time that is waited because the service said so.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// Classes an answer that is no success.
///
/// `retry_after` and `date` are the headers of that name. A 4xx counts as refused only with a JSON body:
/// anything else comes from something in between, which does not know what the service did.
#[must_use]
pub fn classify(
    call: ApiCall,
    status: u16,
    retry_after: Option<&str>,
    date: Option<&str>,
    body: &[u8],
) -> Failure {
    let said = wire::message(body).map(|said| mask_volatile_tokens(&said));
    let text = said.clone().unwrap_or_else(|| format!("HTTP {status} with a body that is no JSON"));
    let pause = retry_after.and_then(|value| parse_retry_after(value, date));
    let throttling = pause.is_some() || mentions_throttling(body);
    let shown = if said.is_some() { format!("HTTP {status}: {text}") } else { text };
    let (class, may_have_happened) = match status {
        429 => (FailureClass::Throttled { retry_after: pause }, false),
        403 if throttling => (FailureClass::Throttled { retry_after: pause }, false),
        // a gateway may say this after the service did its work
        503 if throttling => (FailureClass::Throttled { retry_after: pause }, true),
        401 => (FailureClass::Forbidden { whole_key: true }, false),
        403 => (FailureClass::Forbidden { whole_key: false }, false),
        408 => (FailureClass::Unknown, true),
        // a read changes nothing, so whoever refused it may be believed
        400..=499 if said.is_some() || matches!(call, ApiCall::List | ApiCall::Status) => {
            (FailureClass::Refused(refusal(status)), false)
        }
        _ => (FailureClass::Unknown, !matches!(call, ApiCall::List | ApiCall::Status)),
    };
    Failure { call, class, may_have_happened, message: to_single_line(&shown) }
}

fn refusal(status: u16) -> Refusal {
    match status {
        404 | 410 => Refusal::NotFound,
        405 => Refusal::Unsupported,
        409 => Refusal::Conflict,
        _ => Refusal::Invalid,
    }
}

/// `Retry-After` as RFC 9110, 10.2.3 has it: seconds or a date. The date counts from the server's own
/// clock where it tells it, so that ours may be wrong.
fn parse_retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
    }
    let time = |text: &str| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok();
    let now = date.and_then(time).unwrap_or_else(Timestamp::now);
    let pause = Duration::try_from(time(value)?.duration_since(now)).unwrap_or_default();
    Some(pause.min(MAX_RETRY_AFTER))
}

fn mentions_throttling(body: &[u8]) -> bool {
    let start = &body[..body.len().min(4096)];
    let text = String::from_utf8_lossy(start).to_lowercase();
    ["throttl", "rate limit", "rate-limit", "ratelimit", "too many requests", "slow down"]
        .iter()
        .any(|wording| text.contains(wording))
}

/// Without what differs from answer to answer, such as the id of a request or the time: each such answer would
/// be a write of the status.
pub fn mask_volatile_tokens(text: &str) -> String {
    let words = text.split_whitespace().map(|word| if is_volatile(word) { "…" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// One line of at most 200 characters: it becomes part of a condition.
fn to_single_line(text: &str) -> String {
    let mut line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(201)
        .collect::<String>()
        .trim()
        .to_owned();
    if line.chars().count() > 200 {
        line = line.chars().take(199).chain(['…']).collect();
    }
    if line.is_empty() { "no reason given".to_owned() } else { line }
}

/// A word with many digits, or a bare number with or without a unit: an id, a time, something that counts.
fn is_volatile(word: &str) -> bool {
    let word = word.trim_matches(|c: char| !c.is_alphanumeric());
    let digits = word.chars().filter(char::is_ascii_digit).count();
    let number = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let bare = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit());
    bare || digits >= 5 || digits >= 2 && word.len() >= 16
}
