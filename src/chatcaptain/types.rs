//! The types of the service: keys, ids, versions and the marker that names a version's owner.

use std::{fmt, hash::Hash};

use jiff::Timestamp;
use memchr::memmem;
use secrecy::{ExposeSecret, SecretString};

/// An API key. It cannot be printed and is wiped when dropped.
#[derive(Clone)]
pub struct ApiKey(SecretString);

impl ApiKey {
    /// Takes a key as it stands in a Secret; white space around it is a slip of the editor.
    ///
    /// # Errors
    /// When nothing is left, or when it cannot be sent as a header.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        match text {
            "" => Err("is empty"),
            _ if text.len() > 4096 => Err("is longer than 4096 bytes"),
            _ if !text.bytes().all(|b| b.is_ascii_graphic()) => Err("has characters that no API key has"),
            _ => Ok(Self(SecretString::from(text))),
        }
    }

    /// The key itself, for the request header alone.
    pub(super) fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// An answer without the key, should the service have echoed it.
    pub(super) fn redact(&self, body: Vec<u8>) -> Vec<u8> {
        let key = self.expose().as_bytes();
        let mut clean = Vec::new();
        let mut rest = 0;
        for at in memmem::find_iter(&body, key) {
            clean.extend_from_slice(&body[rest..at]);
            clean.extend_from_slice(b"<key>");
            rest = at + key.len();
        }
        if rest == 0 {
            return body;
        }
        clean.extend_from_slice(&body[rest..]);
        clean
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

impl PartialEq for ApiKey {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for ApiKey {}

impl Hash for ApiKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.expose().hash(state);
    }
}

/// An id that cannot be used in a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no id: {1}")]
pub struct InvalidId(String, &'static str);

/// Id of a chatbot: `^[A-Za-z0-9_-]{1,128}$`, so that it can be nothing but one path segment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChatbotId(Box<str>);

impl ChatbotId {
    /// Checks an id from a manifest.
    ///
    /// # Errors
    /// When it has other characters or another length.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let fits = (1..=128).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        if !fits {
            return Err(InvalidId(truncated(text), "expected 1 to 128 letters, digits, _ or -"));
        }
        Ok(Self(text.into()))
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Id of a version, as the service gave it. It is percent-encoded where it becomes a path segment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VersionId(Box<str>);

impl VersionId {
    /// Checks an id from the service or a manifest.
    ///
    /// # Errors
    /// When it is empty, too long, or would not stay one path segment.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        match text {
            "" | "." | ".." => Err(InvalidId(text.to_owned(), "it is no path segment")),
            _ if text.len() > 256 => Err(InvalidId(truncated(text), "it is longer than 256 bytes")),
            _ if text.chars().any(char::is_control) => {
                Err(InvalidId(truncated(text), "it has control characters"))
            }
            _ => Ok(Self(text.into())),
        }
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn truncated(text: &str) -> String {
    text.chars().take(40).collect()
}

/// One version as the list shows it. Every field but the id may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its id.
    pub id: VersionId,
    /// Its name.
    pub name: Option<Box<str>>,
    /// Its description, which the service may cut or leave out.
    pub description: Option<Box<str>>,
    /// Its number, such as `2.1`.
    pub number: Option<Box<str>>,
    /// When the snapshot was taken.
    pub created: Option<Timestamp>,
    /// When it was last deployed, in whichever environment.
    pub deployed: Option<Timestamp>,
}

impl Version {
    /// The owner that the description names, if it names one.
    #[must_use]
    pub fn marker(&self) -> Option<&str> {
        Marker::find(self.description.as_deref()?)
    }
}

/// Names the object that a version belongs to: the last line of the version's description.
///
/// It is what survives when the cluster does not: `[chatcaptain.dev <owner-id>/<namespace>/<name>]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Marker(String);

impl Marker {
    pub(super) const START: &str = "[chatcaptain.dev ";

    /// The marker of one object.
    #[must_use]
    pub fn new(owner: &str, namespace: &str, name: &str) -> Self {
        Self(format!("{}{owner}/{namespace}/{name}]", Self::START))
    }

    /// The marker in a description: its last line, if that is one.
    #[must_use]
    pub fn find(description: &str) -> Option<&str> {
        let last = description.trim_end().lines().next_back()?.trim();
        (last.starts_with(Self::START) && last.ends_with(']')).then_some(last)
    }

    /// The description to send: what the user wrote, and the marker as the last line.
    #[must_use]
    pub fn append_to(&self, description: Option<&str>) -> String {
        match description {
            Some(text) if !text.is_empty() => format!("{text}\n{}", self.0),
            _ => self.0.clone(),
        }
    }

    /// The line itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
