//! The JSON of the service, read leniently: unknown fields are ignored, every field but an id may be
//! missing, null or of another scalar type.
//!
//! Whatever comes, no more is kept than what is looked for: an answer must not grow in memory.

use std::{fmt, marker::PhantomData};

use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

use super::{
    error::{ApiCall, Failure, FailureClass, Refusal, mask_volatile_tokens},
    inventory::{Deployments, LiveVersion},
    types::{InvalidId, Version, VersionId},
};

/// What is kept of a value of any type: the text of a scalar, the `id` of an object.
#[derive(Default)]
struct Any {
    text: Option<Box<str>>,
    id: Option<Box<str>>,
    /// It is `true`, or a list or object that is not empty.
    filled: bool,
}

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything)
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Any;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_str<E>(self, text: &str) -> Result<Any, E> {
        Ok(Any { text: Some(text.into()), ..Any::default() })
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Any, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Any, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Any, E> {
        // {:?} keeps the ".0" of a version number that came as a JSON number
        self.visit_str(&format!("{number:?}"))
    }

    fn visit_bool<E>(self, filled: bool) -> Result<Any, E> {
        Ok(Any { filled, ..Any::default() })
    }

    fn visit_unit<E>(self) -> Result<Any, E> {
        Ok(Any::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Any, A::Error> {
        let mut filled = false;
        while list.next_element::<IgnoredAny>()?.is_some() {
            filled = true;
        }
        Ok(Any { filled, ..Any::default() })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Any, A::Error> {
        let (mut id, mut filled) = (None, false);
        while let Some(key) = map.next_key::<Any>()? {
            filled = true;
            match key.text.as_deref() {
                Some("id") => id = map.next_value::<Any>()?.text,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Any { text: None, id, filled })
    }
}

/// Any scalar as text; null, lists and objects as nothing.
#[derive(Default)]
struct Lenient(Option<Box<str>>);

impl<'de> Deserialize<'de> for Lenient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Any::deserialize(deserializer).map(|any| Self(any.text))
    }
}

/// What an `error` says. One that is no text is an error all the same: to take it for none would make a refused
/// look at what is live say that nothing is.
#[derive(Default)]
struct Complaint(Option<Box<str>>);

impl<'de> Deserialize<'de> for Complaint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let any = Any::deserialize(deserializer)?;
        let text = any.text.filter(|text| !text.trim().is_empty());
        Ok(Self(text.or_else(|| any.filled.then(|| "the service gave an error without words".into()))))
    }
}

/// The id of an object; of anything else nothing.
#[derive(Default)]
struct Nested(Option<Box<str>>);

impl<'de> Deserialize<'de> for Nested {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Any::deserialize(deserializer).map(|any| Self(any.id))
    }
}

impl Lenient {
    /// A time that an object can keep: RFC 3339 has four digits for the year.
    fn time(self) -> Option<Timestamp> {
        let text = self.0?;
        let number = || {
            // seconds, or milliseconds where seconds would lie beyond the year 5000
            let number: i64 = text.parse().ok()?;
            let seconds = if number.abs() < 100_000_000_000 { number } else { number / 1000 };
            Timestamp::from_second(seconds).ok()
        };
        let time: Timestamp = text.parse().ok().or_else(number)?;
        (0..253_402_300_800).contains(&time.as_second()).then_some(time)
    }

    fn filled(self) -> Option<Box<str>> {
        self.0.filter(|text| !text.trim().is_empty())
    }
}

/// A JSON object and nothing else: derived code alone would take a list for one, by the order of its fields.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Fields(PhantomData))
    }
}

fn read<T: DeserializeOwned>(call: ApiCall, body: &[u8]) -> Result<T, Failure> {
    let object: Object<T> = serde_json::from_slice(body).map_err(|error| {
        let why = error.to_string();
        // without the place, which is another one each time
        unreadable(call, why.split(" at line ").next().unwrap_or_default())
    })?;
    Ok(object.0)
}

/// Most versions of one chatbot. More in one answer would take more memory than the answer itself.
const MOST_VERSIONS: usize = 100_000;

/// The versions, or why the list cannot be used.
struct Versions(Result<Vec<Version>, String>);

impl<'de> Deserialize<'de> for Versions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Versions;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of versions")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Versions, A::Error> {
                let mut versions = Vec::new();
                while let Some(Object(wire)) = list.next_element::<Object<WireVersion>>()? {
                    let bad = match wire.version() {
                        Ok(_) if versions.len() == MOST_VERSIONS => {
                            format!("it lists more than {MOST_VERSIONS} versions")
                        }
                        Ok(version) => {
                            versions.push(version);
                            continue;
                        }
                        Err(bad) => bad.to_string(),
                    };
                    // to its end: what comes after it may say more
                    while list.next_element::<IgnoredAny>()?.is_some() {}
                    return Ok(Versions(Err(bad)));
                }
                Ok(Versions(Ok(versions)))
            }
        }
        deserializer.deserialize_seq(List)
    }
}

#[derive(Deserialize)]
struct ListAnswer {
    versions: Option<Versions>,
    #[serde(default)]
    error: Complaint,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireVersion {
    #[serde(default)]
    id: Lenient,
    #[serde(default)]
    name: Lenient,
    #[serde(default)]
    description: Lenient,
    #[serde(default)]
    version_number: Lenient,
    #[serde(default)]
    created: Lenient,
    #[serde(default)]
    deployed: Lenient,
}

impl WireVersion {
    fn version(self) -> Result<Version, InvalidId> {
        Ok(Version {
            id: VersionId::parse(self.id.0.as_deref().unwrap_or_default())?,
            name: self.name.0,
            description: self.description.0,
            number: self.version_number.filled().filter(|number| number.len() <= 64),
            created: self.created.time(),
            deployed: self.deployed.time(),
        })
    }
}

fn unreadable(call: ApiCall, why: &str) -> Failure {
    Failure::new(call, FailureClass::Unknown, &format!("the answer cannot be read: {why}"))
}

fn said(call: ApiCall, error: &str) -> Failure {
    Failure::new(call, FailureClass::Refused(Refusal::ErrorInBody), &mask_volatile_tokens(error))
}

/// Reads the list of versions.
///
/// # Errors
/// *refused* where the service says `error`; *unknown* where the answer is no list, or where an entry has no
/// usable id: a list that hides one version cannot prove that another is missing.
pub fn list(body: &[u8]) -> Result<Vec<Version>, Failure> {
    let answer: ListAnswer = read(ApiCall::List, body)?;
    // first: a list beside an error, above all an empty one, proves nothing
    if let Some(error) = answer.error.0 {
        return Err(said(ApiCall::List, &error));
    }
    let versions = answer.versions.ok_or_else(|| unreadable(ApiCall::List, "it has no versions"))?;
    versions.0.map_err(|bad| unreadable(ApiCall::List, &bad))
}

#[derive(Deserialize)]
struct StatusAnswer {
    test: Option<Object<WireDeployed>>,
    prod: Option<Object<WireDeployed>>,
    #[serde(default)]
    error: Complaint,
}

#[derive(Deserialize)]
struct WireDeployed {
    #[serde(default)]
    id: Lenient,
    #[serde(default)]
    version: Lenient,
}

/// Reads the deployment status.
///
/// # Errors
/// *refused* where the service says `error`, *unknown* where the answer cannot be read.
pub fn status(body: &[u8]) -> Result<Deployments, Failure> {
    let answer: StatusAnswer = read(ApiCall::Status, body)?;
    if let Some(error) = answer.error.0 {
        return Err(said(ApiCall::Status, &error));
    }
    let deployed = |wire: Option<Object<WireDeployed>>| {
        wire.map(|Object(wire)| LiveVersion { id: wire.id.filled(), number: wire.version.filled() })
            .filter(|deployed| deployed.id.is_some() || deployed.number.is_some())
    };
    Ok(Deployments { test: deployed(answer.test), prod: deployed(answer.prod) })
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WriteAnswer {
    id: Lenient,
    version_id: Lenient,
    version: Nested,
    deleted: Option<bool>,
    rolled_back: Option<bool>,
    error: Complaint,
}

/// Reads the answer of a successful write; of a create, the new version's id where the answer tells it.
///
/// # Errors
/// *refused* where the answer says so, *unknown* where it is neither empty nor a JSON object.
pub fn write(call: ApiCall, body: &[u8]) -> Result<Option<VersionId>, Failure> {
    if body.trim_ascii().is_empty() {
        return Ok(None);
    }
    let answer: WriteAnswer = read(call, body)?;
    let id = [answer.version.0.as_deref(), answer.version_id.0.as_deref(), answer.id.0.as_deref()]
        .into_iter()
        .flatten()
        .find_map(|text| VersionId::parse(text).ok());
    let refused = match call {
        ApiCall::Delete => answer.deleted == Some(false),
        ApiCall::Rollback => answer.rolled_back == Some(false),
        ApiCall::Create => id.is_none() && answer.error.0.is_some(),
        ApiCall::Deploy | ApiCall::List | ApiCall::Status => false,
    };
    match (refused, answer.error.0) {
        (_, Some(error)) if call != ApiCall::Create || id.is_none() => Err(said(call, &error)),
        (true, _) => Err(said(call, "the service answered that it was not done and gave no reason")),
        _ => Ok(id.filter(|_| call == ApiCall::Create)),
    }
}

/// What an answer says in words, as `error` or in the form of a `NestJS` error; `None` if it is no JSON object.
#[must_use]
pub fn message(body: &[u8]) -> Option<String> {
    let value: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(body).ok()?;
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Array(list) => {
            Some(list.iter().filter_map(serde_json::Value::as_str).collect::<Vec<_>>().join("; "))
        }
        _ => None,
    };
    let said = ["message", "error"].iter().find_map(|key| value.get(*key).and_then(text));
    Some(said.filter(|text| !text.is_empty()).unwrap_or_else(|| "no reason given".to_owned()))
}
