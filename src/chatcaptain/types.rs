//! The types of the service: keys, ids, versions and the marker that names a version's owner.
//!
//! Parsed once, where they enter the operator: a value of these types needs no further check before it is sent.
//! No I/O here.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use super::{contents::Contents, redact::redact};

/// An API key. It cannot be printed and is wiped when dropped.
#[derive(Clone)]
pub struct ApiKey(SecretString);

impl ApiKey {
    /// Parses a key from a Secret. White space around it is dropped: editors and `echo` leave a line break behind.
    ///
    /// # Errors
    /// When nothing is left, or when it cannot be sent as a header. The reason continues "Key … of Secret …".
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        match text {
            "" => Err("is empty"),
            // no key is that short, and its masking would mask other words
            _ if text.len() < 8 => Err("is shorter than 8 characters"),
            // servers refuse a header of more than about 8 KiB
            _ if text.len() > 4096 => Err("is longer than 4096 bytes"),
            _ if !text.bytes().all(|b| b.is_ascii_graphic()) => {
                Err("contains spaces, control characters or characters outside ASCII")
            }
            _ => Ok(Self(SecretString::from(text))),
        }
    }

    /// For the request header only. Nothing else in the crate may read the key, hence `pub(super)`.
    pub(super) fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Replaces each echo of the key: parts of answers become conditions, events and log lines.
    pub(super) fn redact(&self, text: &str) -> String {
        redact(text, self.expose())
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

impl PartialEq for ApiKey {
    fn eq(&self, other: &Self) -> bool {
        // not in constant time: both keys are from Secrets, none from a stranger
        self.expose() == other.expose()
    }
}

impl Eq for ApiKey {}

impl Hash for ApiKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.expose().hash(state);
    }
}

/// An id that cannot be used in a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid id {id:?}: {rule}")]
pub struct InvalidId {
    /// Shortened: it may be as long as an answer.
    id: String,
    rule: &'static str,
}

impl InvalidId {
    fn new(id: &str, rule: &'static str) -> Self {
        Self { id: id.chars().take(40).collect(), rule }
    }
}

/// Id of a chatbot: `^[A-Za-z0-9_-]{1,128}$`, the pattern of the CRD. It can be nothing but one path segment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChatbotId(Box<str>);

impl ChatbotId {
    /// Parses an id from a manifest, also where the API server did not validate it against the CRD.
    ///
    /// # Errors
    /// When it does not match the pattern.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let fits = (1..=128).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        if !fits {
            return Err(InvalidId::new(text, "must be 1 to 128 letters, digits, _ or -"));
        }
        Ok(Self(text.into()))
    }

    /// The id as it stands in the manifest.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Id of a version. The service's reference does not define a format, so any text is accepted that stays one path segment
/// once it is percent-encoded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VersionId(Box<str>);

impl VersionId {
    /// Parses an id from the service or a manifest.
    ///
    /// # Errors
    /// When it is empty, too long for a status, or would not stay one path segment: `DELETE …/versions/..` must not
    /// delete anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        match text {
            "" => Err(InvalidId::new(text, "must not be empty")),
            // percent-encoding leaves dots as they are, and servers resolve these two
            "." | ".." => Err(InvalidId::new(text, "must not be . or ..")),
            _ if text.len() > 256 => Err(InvalidId::new(text, "must be at most 256 bytes")),
            _ if text.chars().any(char::is_control) => {
                Err(InvalidId::new(text, "must not contain control characters"))
            }
            _ => Ok(Self(text.into())),
        }
    }

    /// The id as the service gave it, not yet percent-encoded.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One version as the list shows it. Only the id is certain: the service promises no other field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// What every request about the version names.
    pub id: VersionId,
    /// As sent with the create; not unique.
    pub name: Option<Box<str>>,
    /// As sent with the create, marker included, unless the service cuts or leaves it out.
    pub description: Option<Box<str>>,
    /// Given by the service, such as `2.1`; two versions may have the same.
    pub number: Option<Box<str>>,
    /// When the snapshot was taken, by the service's clock.
    pub created: Option<Timestamp>,
    /// When it was last deployed, to whichever environment, by the service's clock.
    pub deployed: Option<Timestamp>,
    /// Model and figures; shared with the versions of the list that have the same.
    pub contents: Option<Arc<Contents>>,
}

/// An entry of the list without a usable id: a version that can be neither deployed nor deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnidentifiedVersion {
    /// As sent with the create.
    pub name: Option<Box<str>>,
    /// As sent with the create.
    pub description: Option<Box<str>>,
}

impl Version {
    /// The marker in the description, also that of another owner.
    #[must_use]
    pub fn marker(&self) -> Option<String> {
        Marker::find(self.description.as_deref()?)
    }
}

/// Names the object that a version belongs to: `[chatcaptain.dev <owner-id>/<namespace>/<name>]`, sent as the last line of
/// the version's description.
///
/// The create has no idempotency key, so this is how a version is found again after a lost answer, a crash or the loss
/// of the whole cluster. It has no UID in it: the same manifests in a new cluster adopt what they made in the old one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Marker(String);

impl Marker {
    pub(super) const PREFIX: &str = "[chatcaptain.dev ";

    /// The marker of one object; `owner` is the installation's `--owner-id`.
    #[must_use]
    pub fn new(owner: &str, namespace: &str, name: &str) -> Self {
        Self(format!("{}{owner}/{namespace}/{name}]", Self::PREFIX))
    }

    /// The marker in a description, wherever the service has moved it and whatever it made of blanks and line breaks. The
    /// last one counts, because the operator appends it: text before it is the user's.
    #[must_use]
    pub fn find(description: &str) -> Option<String> {
        let (prefix, _) = Self::PREFIX.split_at(Self::PREFIX.len() - 1);
        let (_, marker) = description.rsplit_once(prefix)?;
        let (object, _) = marker.split_once(']')?;
        let is_separated = object.starts_with(char::is_whitespace);
        let object = object.trim();
        let is_one_word = !object.is_empty() && !object.contains(char::is_whitespace);
        (is_separated && is_one_word).then(|| format!("{}{object}]", Self::PREFIX))
    }

    /// The description to send: the user's text, then the marker on a line of its own.
    #[must_use]
    pub fn append_to(&self, description: Option<&str>) -> String {
        match description {
            Some(text) if !text.is_empty() => format!("{text}\n{}", self.0),
            _ => self.0.clone(),
        }
    }

    /// The line, brackets included.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> ApiKey {
        ApiKey::parse(text).unwrap()
    }

    #[test]
    fn api_key_is_trimmed_and_must_fit_in_a_header() {
        assert!(key(" CCSB-key\r\n") == key("CCSB-key"));
        for (text, reason) in [
            (" \n", "is empty"),
            ("CCSB-ke", "is shorter than 8 characters"),
            ("CCSB key", "contains spaces"),
            ("CCSB-key\u{7f}", "contains spaces"),
            ("schlüssel", "characters outside ASCII"),
            (&"k".repeat(4097), "is longer than 4096 bytes"),
        ] {
            let error = ApiKey::parse(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert!(ApiKey::parse(&"k".repeat(4096)).is_ok());
    }

    #[test]
    fn api_key_is_not_printed() {
        assert!(!format!("{:?}", key("CCSB-key")).contains("CCSB"));
    }

    #[test]
    fn chatbot_id_is_one_plain_path_segment() {
        for id in ["bot59aBv7wzR9", "a_b-c", &"b".repeat(128)] {
            assert_eq!(ChatbotId::parse(id).unwrap().as_str(), id);
        }
        for id in ["", "a/b", "..", "a b", "ü", &"b".repeat(129)] {
            let error = ChatbotId::parse(id).expect_err(id).to_string();
            assert!(error.ends_with("must be 1 to 128 letters, digits, _ or -"), "{error}");
            assert!(error.len() < 100, "{error}");
        }
    }

    #[test]
    fn version_id_is_any_text_that_stays_one_path_segment() {
        for id in ["vrsKq8BxZaJd2", "a/b?c#d", "版本", "...", &"v".repeat(256)] {
            assert_eq!(VersionId::parse(id).unwrap().as_str(), id);
        }
        for (id, rule) in [
            ("", "must not be empty"),
            (".", "must not be . or .."),
            ("..", "must not be . or .."),
            ("a\nb", "must not contain control characters"),
            (&"v".repeat(257), "must be at most 256 bytes"),
        ] {
            let error = VersionId::parse(id).expect_err(id).to_string();
            assert!(error.ends_with(rule), "{error}");
        }
    }

    #[test]
    fn marker_is_found_where_it_was_appended() {
        let marker = Marker::new("default", "chatbots", "support-q4");
        assert_eq!(marker.as_str(), "[chatcaptain.dev default/chatbots/support-q4]");
        for description in [None, Some(""), Some("Release for Q4"), Some("two\nlines\n")] {
            let sent = marker.append_to(description);
            assert!(sent.starts_with(description.unwrap_or_default()), "{sent}");
            assert_eq!(Marker::find(&sent).as_deref(), Some(marker.as_str()), "{sent}");
        }
    }

    #[test]
    fn marker_is_found_wherever_the_service_has_moved_it() {
        let marker = Marker::new("default", "chatbots", "a");
        let line = marker.as_str();
        for description in [
            format!("two lines {line}"),
            format!("  {line} \r\n\n"),
            format!("{line}\nedited"),
            line.replace(' ', "\u{a0}"),
            line.replace(' ', " \n "),
        ] {
            assert_eq!(Marker::find(&description).as_deref(), Some(line), "{description}");
        }
        for description in ["", "text", &line[..line.len() - 1], &line.replace(' ', ""), "[chatcaptain.dev ]"]
        {
            assert_eq!(Marker::find(description), None, "{description}");
        }
    }

    #[test]
    fn marker_that_the_operator_appended_counts() {
        let (ours, users) = (Marker::new("default", "chatbots", "a"), Marker::new("other", "chatbots", "a"));
        let sent = ours.append_to(Some(users.as_str()));
        for description in [sent.clone(), sent.replace('\n', " ")] {
            assert_eq!(Marker::find(&description).as_deref(), Some(ours.as_str()), "{description}");
        }
        assert_eq!(Marker::find(&sent[..sent.len() - 1]), None, "ours is cut, and the other is not ours");
    }
}
