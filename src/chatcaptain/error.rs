//! What went wrong, in classes that say what may be done next. Decided here, once, and nowhere else.
//!
//! Pure, apart from the clock that a `Retry-After` date without a `Date` is counted from.

use std::time::Duration;

use jiff::Timestamp;

use super::{types::ApiKey, wire};

/// A call of the service's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ApiCall {
    /// `GET …/versions`
    List,
    /// `GET …/deployments/status`
    Status,
    /// `POST …/versions`: takes a snapshot; not idempotent.
    Create,
    /// `DELETE …/versions/<id>`
    Delete,
    /// `POST …/versions/<id>/deploy`
    Deploy,
    /// `POST …/versions/<id>/rollback`
    Rollback,
}

impl ApiCall {
    /// In the order of the metrics.
    pub const ALL: [Self; 6] =
        [Self::List, Self::Status, Self::Create, Self::Delete, Self::Deploy, Self::Rollback];

    /// The label in metrics, and the verb in messages.
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

    /// The permission that the key needs for the chatbot, as the service's reference names it.
    #[must_use]
    pub fn permission(self) -> &'static str {
        match self {
            Self::List => "chatbots.versions.list",
            Self::Status => "chatbots.deployments.status",
            Self::Create => "chatbots.versions.create",
            Self::Delete => "chatbots.versions.delete",
            Self::Deploy | Self::Rollback => "chatbots.versions.deploy",
        }
    }

    pub(super) fn is_read(self) -> bool {
        matches!(self, Self::List | Self::Status)
    }
}

/// Why the service refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// 404 or 410: the chatbot or version does not exist, or not for this key.
    NotFound,
    /// 405: the service does not have this call.
    Unsupported,
    /// 409: not now, for example because the version is live.
    Conflict,
    /// 400 to a create, naming `environment`: the service may have another word for no deployment. Nothing was created.
    UnknownEnvironment,
    /// 400, 422 and the other 4xx: the request is wrong, and stays wrong when it is repeated.
    Invalid,
    /// A success with `error`, `deleted: false` or `rolledBack: false`.
    ErrorInBody,
}

/// What a failure means for the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureClass {
    /// The service refuses this request: the user has to change something.
    Refused(Refusal),
    /// 401, or 403 that is no throttle: the user has to change the key or its permissions.
    Forbidden {
        /// The key as a whole is refused (401), not only this permission for this chatbot.
        whole_key: bool,
    },
    /// Too many calls: wait, with every call of this key.
    Throttled {
        /// How long the service asks to wait, at most an hour; `None` where it does not say.
        retry_after: Option<Duration>,
    },
    /// Proven never to have left this machine: may be repeated.
    Unsent,
    /// Timeout, reset, 5xx, unreadable answer: read the list before the call is repeated.
    Unknown,
}

impl FailureClass {
    /// The label in metrics.
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

/// A failed call. The message of one that the client returns is safe to show: bounded, one line, without the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", call.as_str())]
pub struct Failure {
    /// The call that failed.
    pub call: ApiCall,
    /// What it means for the next call.
    pub class: FailureClass,
    /// A write may have taken effect although it failed. Says nothing of a read.
    ///
    /// Beside the class, because a gateway may throttle (503) after the service did the work: that is both to be waited
    /// out and to be searched for.
    pub may_have_happened: bool,
    /// The call left this machine. If not, `class` is that of the earlier answer because of which it was not sent.
    pub sent: bool,
    /// For how much longer calls like this are not sent, where the answer pauses them.
    pub paused_for: Option<Duration>,
    /// The message of the service or the transport.
    pub message: String,
}

impl Failure {
    /// A failure of `class`, of which only an unknown one may have happened.
    #[must_use]
    pub fn new(call: ApiCall, class: FailureClass, message: &str) -> Self {
        let (may_have_happened, sent) = (class == FailureClass::Unknown, class != FailureClass::Unsent);
        Self {
            call,
            class,
            may_have_happened,
            sent,
            paused_for: None,
            message: to_single_line(message, MAX_TEXT),
        }
    }

    /// Masks the key, and shortens the message after that: half a key would not be recognised.
    pub(super) fn redacted(self, key: &ApiKey) -> Self {
        Self { message: to_single_line(&key.redact(&self.message), MAX_MESSAGE), ..self }
    }

    /// The same failure for a call that is not sent because of it.
    pub(super) fn paused(self, call: ApiCall, pause: Duration) -> Self {
        Self { call, may_have_happened: false, sent: false, paused_for: Some(pause), ..self }
    }

    /// The failure of a call that is not sent because this replica may not write any more.
    #[must_use]
    pub fn not_leading(call: ApiCall) -> Self {
        Self::new(call, FailureClass::Unsent, "this replica is no longer the leader")
    }

    /// The call was not sent, or a throttle rejected it: it counts neither as an attempt nor as a failure of the
    /// operation.
    #[must_use]
    pub fn was_not_sent(&self) -> bool {
        !self.may_have_happened && (!self.sent || matches!(self.class, FailureClass::Throttled { .. }))
    }
}

/// Classes an answer that is no success; `retry_after` and `date` are the headers of that name.
///
/// A request counts as refused only with a JSON body: anything else comes from a gateway, which knows neither what the
/// service did with a write nor what it would answer to a read.
#[must_use]
pub fn classify(
    call: ApiCall,
    status: u16,
    retry_after: Option<&str>,
    date: Option<&str>,
    body: &[u8],
) -> Failure {
    let message = wire::message(body).map(|message| mask_volatile_tokens(&message));
    let retry_after = retry_after.and_then(|value| parse_retry_after(value, date));
    let throttled = retry_after.is_some() || mentions_throttling(body);
    let (class, may_have_happened) = match status {
        429 => (FailureClass::Throttled { retry_after }, false),
        // some gateways throttle so; as a refusal it would send users after a permission that the key has
        403 if throttled => (FailureClass::Throttled { retry_after }, false),
        // a gateway may say this after the service did the work
        503 if throttled => (FailureClass::Throttled { retry_after }, true),
        401 => (FailureClass::Forbidden { whole_key: true }, false),
        403 => (FailureClass::Forbidden { whole_key: false }, false),
        // a 4xx that is no refusal: a gateway or the service gave up waiting
        408 => (FailureClass::Unknown, true),
        400 if call == ApiCall::Create && names_environment(message.as_deref()) => {
            (FailureClass::Refused(Refusal::UnknownEnvironment), false)
        }
        400..=499 if message.is_some() => (FailureClass::Refused(refusal(status)), false),
        _ => (FailureClass::Unknown, true),
    };
    let text = match message {
        Some(message) => format!("HTTP {status}: {message}"),
        None => format!("HTTP {status} without a JSON message"),
    };
    Failure { may_have_happened, ..Failure::new(call, class, &text) }
}

fn names_environment(message: Option<&str>) -> bool {
    message.is_some_and(|message| message.to_lowercase().contains("environment"))
}

fn refusal(status: u16) -> Refusal {
    match status {
        404 | 410 => Refusal::NotFound,
        405 => Refusal::Unsupported,
        409 => Refusal::Conflict,
        _ => Refusal::Invalid,
    }
}

/// Longest wait that is accepted from a header: a typing error in a gateway must not pause a key for days.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// `Retry-After` by RFC 9110, 10.2.3: seconds or a date. A date is counted from the server's `Date`, because either
/// clock may be hours off, and from ours only where there is none.
fn parse_retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
    }
    let parse = |text: &str| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok();
    let now = date.and_then(parse).unwrap_or_else(Timestamp::now);
    // a date that is past means now
    let wait = Duration::try_from(parse(value)?.duration_since(now)).unwrap_or_default();
    Some(wait.min(MAX_RETRY_AFTER))
}

/// The whole body is searched, not only a JSON message: gateways throttle in HTML, and words stand at the start.
fn mentions_throttling(body: &[u8]) -> bool {
    let start = &body[..body.len().min(4096)];
    let text = String::from_utf8_lossy(start).to_lowercase();
    ["throttl", "rate limit", "rate-limit", "ratelimit", "too many requests", "slow down"]
        .iter()
        .any(|wording| text.contains(wording))
}

/// Replaces what differs from answer to answer, such as a request id or a time: messages become conditions, and each
/// new wording would be another write of the status.
pub fn mask_volatile_tokens(text: &str) -> String {
    let words = text.split_whitespace().map(|word| if is_volatile(word) { "…" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// A word with many digits, or a bare number with or without a unit: an id, a time, a counter.
fn is_volatile(word: &str) -> bool {
    let word = word.trim_matches(|c: char| !c.is_alphanumeric());
    let digits = word.chars().filter(char::is_ascii_digit).count();
    let number = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let bare = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit());
    // so that versions of protocols, names and short numbers within a word stay readable
    bare || digits >= 5 || digits >= 2 && word.len() >= 16
}

/// In characters. A condition's message holds this and a sentence around it.
const MAX_MESSAGE: usize = 200;
/// Before the key is masked: enough that no part of one at its end is within the message.
const MAX_TEXT: usize = 64 << 10;

/// One line of at most `max` characters, never empty.
fn to_single_line(text: &str, max: usize) -> String {
    let start = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(max + 1);
    let line = start.collect::<String>().trim().to_owned();
    match line.chars().count() {
        0 => "no reason given".to_owned(),
        length if length > max => line.chars().take(max - 1).chain(['…']).collect(),
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &[u8] = br#"{"statusCode": 400, "message": "Forbidden resource"}"#;
    const ENVIRONMENT: &[u8] = br#"{"message": ["environment must be one of: none, test, prod"]}"#;
    const HTML: &[u8] = b"<html>Bad Gateway</html>";
    const THROTTLE: &[u8] = b"<html>Rate limit exceeded</html>";

    const THROTTLED: FailureClass = FailureClass::Throttled { retry_after: None };
    const FORBIDDEN: FailureClass = FailureClass::Forbidden { whole_key: false };
    const UNKNOWN: FailureClass = FailureClass::Unknown;
    const INVALID: FailureClass = FailureClass::Refused(Refusal::Invalid);

    #[test]
    fn classify_says_what_may_be_done_next() {
        let retry_after = FailureClass::Throttled { retry_after: Some(Duration::from_secs(7)) };
        let create = ApiCall::Create;
        let table = [
            (create, 400, None, JSON, INVALID, false),
            (create, 422, None, JSON, INVALID, false),
            (create, 400, None, ENVIRONMENT, FailureClass::Refused(Refusal::UnknownEnvironment), false),
            (create, 422, None, ENVIRONMENT, INVALID, false),
            (ApiCall::Deploy, 400, None, ENVIRONMENT, INVALID, false),
            (create, 404, None, JSON, FailureClass::Refused(Refusal::NotFound), false),
            (create, 410, None, JSON, FailureClass::Refused(Refusal::NotFound), false),
            (create, 405, None, JSON, FailureClass::Refused(Refusal::Unsupported), false),
            (create, 409, None, JSON, FailureClass::Refused(Refusal::Conflict), false),
            // without JSON it was a gateway that spoke, which knows nothing of the chatbot
            (create, 400, None, HTML, UNKNOWN, true),
            (ApiCall::List, 404, None, HTML, UNKNOWN, true),
            (ApiCall::List, 404, None, JSON, FailureClass::Refused(Refusal::NotFound), false),
            (ApiCall::Status, 404, None, JSON, FailureClass::Refused(Refusal::NotFound), false),
            (create, 408, None, JSON, UNKNOWN, true),
            (create, 302, None, HTML, UNKNOWN, true),
            (create, 500, None, JSON, UNKNOWN, true),
            (create, 502, None, HTML, UNKNOWN, true),
            (create, 401, None, HTML, FailureClass::Forbidden { whole_key: true }, false),
            (create, 403, None, JSON, FORBIDDEN, false),
            (create, 403, None, THROTTLE, THROTTLED, false),
            (create, 403, Some("7"), JSON, retry_after, false),
            (create, 429, None, b"", THROTTLED, false),
            (create, 429, Some("7"), JSON, retry_after, false),
            (create, 429, Some("soon"), JSON, THROTTLED, false),
            (create, 503, None, HTML, UNKNOWN, true),
            // waited out and searched for: the class alone does not say so
            (create, 503, Some("7"), HTML, retry_after, true),
            (create, 503, None, THROTTLE, THROTTLED, true),
        ];
        for (call, status, retry_after, body, class, may_have_happened) in table {
            let failure = classify(call, status, retry_after, None, body);
            let context = format!("{call:?} {status} {}", String::from_utf8_lossy(body));
            assert_eq!((failure.class, failure.may_have_happened), (class, may_have_happened), "{context}");
        }
    }

    #[test]
    fn message_says_status_and_reason() {
        let message = |body| classify(ApiCall::Create, 400, None, None, body).message;
        assert_eq!(
            message(br#"{"message": ["name is empty", "environment is missing"], "error": "Bad Request"}"#),
            { "HTTP 400: name is empty; environment is missing" }
        );
        assert_eq!(message(br#"{"error": "Quota reached"}"#), "HTTP 400: Quota reached");
        assert_eq!(message(b"{}"), "HTTP 400: no reason given");
        assert_eq!(message(HTML), "HTTP 400 without a JSON message");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_by_the_servers_clock() {
        const DATE: Option<&str> = Some("Wed, 21 Oct 2015 07:28:00 GMT");
        let seconds = |value, date| parse_retry_after(value, date).map(|wait| wait.as_secs());
        assert_eq!(seconds(" 120 ", None), Some(120));
        assert_eq!(seconds("Wed, 21 Oct 2015 07:30:00 GMT", DATE), Some(120));
        assert_eq!(seconds("Wed, 21 Oct 2015 07:27:00 GMT", DATE), Some(0), "past");
        assert_eq!(seconds("Wed, 21 Oct 2015 07:30:00 GMT", None), Some(0), "long past by our clock");
        assert_eq!(
            seconds("Thu, 31 Dec 2099 07:30:00 GMT", Some("no date")),
            Some(3600),
            "far off by our clock"
        );
        for value in ["", "-1", "1.5", "soon"] {
            assert_eq!(seconds(value, DATE), None, "{value}");
        }
    }

    #[test]
    fn retry_after_is_at_most_an_hour() {
        assert_eq!(parse_retry_after("86400", None), Some(MAX_RETRY_AFTER));
        let tomorrow =
            parse_retry_after("Thu, 22 Oct 2015 07:28:00 GMT", Some("Wed, 21 Oct 2015 07:28:00 GMT"));
        assert_eq!(tomorrow, Some(MAX_RETRY_AFTER));
    }

    #[test]
    fn throttling_is_recognised_by_its_usual_wordings() {
        for text in [
            "ThrottlerException: Too Many Requests",
            "API rate limit exceeded",
            "rate-limited",
            "RateLimit",
            "Please slow down",
        ] {
            assert!(mentions_throttling(text.as_bytes()), "{text}");
        }
        for text in ["Forbidden resource", "the limit of versions is reached", ""] {
            assert!(!mentions_throttling(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_changes_from_answer_to_answer_is_masked() {
        for (text, masked) in [
            ("request 7f3a9c2e-41d0-4c55-9e1b-0a8f6b2d3c4e failed", "request … failed"),
            ("at 2026-01-01T00:00:00Z, retry in 12s", "at … retry in …"),
            ("trace a1b2c3d4e5, key 4f7Qa", "trace … key 4f7Qa"),
            ("only 3 of 10 left (id: 58213)", "only … of … left (id: …"),
            ("version 2.1 of bot59aBv7wzR9 is live", "version 2.1 of bot59aBv7wzR9 is live"),
            ("two\nlines", "two lines"),
        ] {
            assert_eq!(mask_volatile_tokens(text), masked);
        }
    }

    #[test]
    fn message_is_one_line_of_bounded_length_and_never_empty() {
        assert_eq!(to_single_line("a\r\nb\u{0} ", 9), "a  b");
        assert_eq!(to_single_line(" \n ", 9), "no reason given");
        assert_eq!(to_single_line("äää", 3), "äää");
        assert_eq!(to_single_line("ääää", 3), "ää…");
    }

    #[test]
    fn key_is_masked_before_the_message_is_shortened() {
        let key = ApiKey::parse("CCSB-canary").unwrap();
        let message = format!("{}CCSB-canary", "x".repeat(MAX_MESSAGE - 8));
        let failure = Failure::new(ApiCall::List, UNKNOWN, &message).redacted(&key);
        assert!(failure.message.ends_with("xx<key>"), "{}", failure.message);
        let failure = Failure::new(ApiCall::List, UNKNOWN, &"x".repeat(MAX_MESSAGE + 1)).redacted(&key);
        assert_eq!(failure.message.chars().count(), MAX_MESSAGE);
    }

    #[test]
    fn only_a_call_that_did_nothing_counts_as_not_sent() {
        let failure = |class| Failure::new(ApiCall::Create, class, "");
        assert!(failure(FailureClass::Unsent).was_not_sent());
        assert!(failure(THROTTLED).was_not_sent());
        assert!(!Failure { may_have_happened: true, ..failure(THROTTLED) }.was_not_sent());
        for class in [UNKNOWN, FORBIDDEN, INVALID] {
            assert!(!failure(class).was_not_sent(), "{class:?}");
            assert!(failure(class).paused(ApiCall::Create, Duration::ZERO).was_not_sent(), "{class:?}");
        }
    }
}
