//! The JSON of the service, read leniently: unknown fields are ignored, every field but an id may be
//! missing, null or of another scalar type.

use std::fmt;

use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{
    error::{Call, Class, Failure, Refusal, without_ids},
    inventory::{Deployed, Deployments},
    nouns::{Version, VersionId},
};

/// Any scalar as text; null, lists and objects as nothing.
#[derive(Default)]
struct Lenient(Option<Box<str>>);

impl<'de> Deserialize<'de> for Lenient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyScalar;
        impl<'de> Visitor<'de> for AnyScalar {
            type Value = Lenient;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_str<E>(self, text: &str) -> Result<Lenient, E> {
                Ok(Lenient(Some(text.into())))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Lenient, E> {
                Ok(Lenient(Some(number.to_string().into())))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Lenient, E> {
                Ok(Lenient(Some(number.to_string().into())))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Lenient, E> {
                // {:?} keeps the ".0" of a version number that came as a JSON number
                Ok(Lenient(Some(format!("{number:?}").into())))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Lenient, E> {
                Ok(Lenient(None))
            }
            fn visit_unit<E>(self) -> Result<Lenient, E> {
                Ok(Lenient(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Lenient, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Lenient(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Lenient, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Lenient(None))
            }
        }
        deserializer.deserialize_any(AnyScalar)
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

#[derive(Deserialize)]
struct ListAnswer {
    versions: Option<Vec<WireVersion>>,
    #[serde(default)]
    error: Lenient,
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

fn unreadable(call: Call, why: &str) -> Failure {
    Failure::new(call, Class::Unknown, &format!("the answer cannot be read: {why}"))
}

fn said(call: Call, error: &str) -> Failure {
    Failure::new(call, Class::Refused(Refusal::Said), &without_ids(error))
}

/// Reads the list of versions.
///
/// # Errors
/// *refused* where the service says `error`; *unknown* where the answer is no list, or where an entry has no
/// usable id: a list that hides one version cannot prove that another is missing.
pub fn list(body: &[u8]) -> Result<Vec<Version>, Failure> {
    let answer: ListAnswer =
        serde_json::from_slice(body).map_err(|e| unreadable(Call::List, &e.to_string()))?;
    // first: a list beside an error, above all an empty one, proves nothing
    if let Some(error) = answer.error.filled() {
        return Err(said(Call::List, &error));
    }
    let versions = answer.versions.ok_or_else(|| unreadable(Call::List, "it has no versions"))?;
    versions
        .into_iter()
        .map(|wire| {
            let id = VersionId::parse(wire.id.0.as_deref().unwrap_or_default())
                .map_err(|bad| unreadable(Call::List, &bad.to_string()))?;
            Ok(Version {
                id,
                name: wire.name.0,
                description: wire.description.0,
                number: wire.version_number.filled().filter(|number| number.len() <= 64),
                created: wire.created.time(),
                deployed: wire.deployed.time(),
            })
        })
        .collect()
}

#[derive(Deserialize)]
struct StatusAnswer {
    test: Option<WireDeployed>,
    prod: Option<WireDeployed>,
    #[serde(default)]
    error: Lenient,
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
    let answer: StatusAnswer =
        serde_json::from_slice(body).map_err(|e| unreadable(Call::Status, &e.to_string()))?;
    if let Some(error) = answer.error.filled() {
        return Err(said(Call::Status, &error));
    }
    let deployed = |wire: Option<WireDeployed>| {
        wire.map(|wire| Deployed { id: wire.id.filled(), number: wire.version.filled() })
            .filter(|deployed| deployed.id.is_some() || deployed.number.is_some())
    };
    Ok(Deployments { test: deployed(answer.test), prod: deployed(answer.prod) })
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WriteAnswer {
    id: Lenient,
    version_id: Lenient,
    version: Option<serde_json::Value>,
    deleted: Option<bool>,
    rolled_back: Option<bool>,
    error: Lenient,
}

/// Reads the answer of a successful write; of a create, the new version's id where the answer tells it.
///
/// # Errors
/// *refused* where the answer says so, *unknown* where it is neither empty nor a JSON object.
pub fn write(call: Call, body: &[u8]) -> Result<Option<VersionId>, Failure> {
    if body.trim_ascii().is_empty() {
        return Ok(None);
    }
    let answer: WriteAnswer = serde_json::from_slice(body).map_err(|e| unreadable(call, &e.to_string()))?;
    let nested = answer.version.as_ref().and_then(|v| v.get("id")).and_then(|id| id.as_str());
    let id = [nested, answer.version_id.0.as_deref(), answer.id.0.as_deref()]
        .into_iter()
        .flatten()
        .find_map(|text| VersionId::parse(text).ok());
    let refused = match call {
        Call::Delete => answer.deleted == Some(false),
        Call::Rollback => answer.rolled_back == Some(false),
        Call::Create => id.is_none() && answer.error.0.is_some(),
        Call::Deploy | Call::List | Call::Status => false,
    };
    match (refused, answer.error.filled()) {
        (_, Some(error)) if call != Call::Create || id.is_none() => Err(said(call, &error)),
        (true, _) => Err(said(call, "the service answered that it was not done and gave no reason")),
        _ => Ok(id.filter(|_| call == Call::Create)),
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
