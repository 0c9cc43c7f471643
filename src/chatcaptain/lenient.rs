//! JSON values that are read whatever their type is: what has another one than expected is missing, not an error.
//!
//! Keeps only what is used, hence the visitors in place of `serde_json::Value`: an answer of many megabytes must not grow
//! further in memory.

use std::{fmt, marker::PhantomData};

use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

/// What is kept of a value of whatever type.
#[derive(Default)]
struct AnyValue {
    /// Of a string or number.
    text: Option<Box<str>>,
    /// Of an object.
    id: Option<Box<str>>,
    /// Of an object that is a time.
    time: Option<Timestamp>,
    /// `true`, or a list or object that is not empty.
    truthy: bool,
}

impl<'de> Deserialize<'de> for AnyValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyVisitor)
    }
}

struct AnyVisitor;

impl<'de> Visitor<'de> for AnyVisitor {
    type Value = AnyValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<AnyValue, E> {
        Ok(AnyValue { text: Some(text.into()), ..AnyValue::default() })
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<AnyValue, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<AnyValue, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<AnyValue, E> {
        // {:?} keeps the ".0" of a version number that came as a JSON number
        self.visit_str(&format!("{number:?}"))
    }

    fn visit_bool<E>(self, truthy: bool) -> Result<AnyValue, E> {
        Ok(AnyValue { truthy, ..AnyValue::default() })
    }

    fn visit_unit<E>(self) -> Result<AnyValue, E> {
        Ok(AnyValue::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<AnyValue, A::Error> {
        let mut truthy = false;
        while list.next_element::<IgnoredAny>()?.is_some() {
            truthy = true;
        }
        Ok(AnyValue { truthy, ..AnyValue::default() })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AnyValue, A::Error> {
        let mut value = AnyValue::default();
        let (mut seconds, mut nanoseconds) = (None, None);
        while let Some(key) = map.next_key::<AnyValue>()? {
            value.truthy = true;
            match key.text.as_deref() {
                Some("id") => value.id = map.next_value::<AnyValue>()?.text,
                Some("_seconds" | "seconds") => seconds = map.next_value::<AnyValue>()?.number(),
                Some("_nanoseconds" | "nanoseconds" | "nanos") => {
                    nanoseconds = map.next_value::<AnyValue>()?.number();
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let nanoseconds = nanoseconds.and_then(|number| number.try_into().ok()).unwrap_or_default();
        value.time = seconds.and_then(|seconds| Timestamp::new(seconds, nanoseconds).ok());
        Ok(value)
    }
}

impl AnyValue {
    fn number(&self) -> Option<i64> {
        self.text.as_deref()?.parse().ok()
    }
}

/// A string or number as text; everything else as nothing.
#[derive(Default)]
pub struct Scalar(pub Option<Box<str>>);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        AnyValue::deserialize(deserializer).map(|value| Self(value.text))
    }
}

/// The field `error`. One that is no text is an error all the same: otherwise a refused deployment status, which
/// names no version, would be read as "nothing is live".
#[derive(Default)]
pub struct ErrorField(pub Option<Box<str>>);

impl<'de> Deserialize<'de> for ErrorField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = AnyValue::deserialize(deserializer)?;
        let text = value.text.filter(|text| !text.trim().is_empty());
        Ok(Self(
            text.or_else(|| value.truthy.then(|| "the service reported an error without a message".into())),
        ))
    }
}

/// The `id` of an object; of anything else nothing.
#[derive(Default)]
pub struct NestedId(pub Option<Box<str>>);

impl<'de> Deserialize<'de> for NestedId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        AnyValue::deserialize(deserializer).map(|value| Self(value.id))
    }
}

/// A time: RFC 3339, a Unix time in seconds or milliseconds, or an object of seconds and nanoseconds.
#[derive(Default)]
pub struct TimeField(pub Option<Timestamp>);

impl<'de> Deserialize<'de> for TimeField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = AnyValue::deserialize(deserializer)?;
        let unix = || {
            let number = value.number()?;
            // seconds, or milliseconds where seconds would lie beyond the year 5000
            let is_seconds = number.abs() < 100_000_000_000;
            let time =
                if is_seconds { Timestamp::from_second(number) } else { Timestamp::from_millisecond(number) };
            time.ok()
        };
        let text = || value.text.as_deref()?.parse().ok();
        let time: Option<Timestamp> = value.time.or_else(text).or_else(unix);
        // only years of four digits, because a status cannot hold others: the end is the first second of the year 10000
        Ok(Self(time.filter(|time| (0..253_402_300_800).contains(&time.as_second()))))
    }
}

impl Scalar {
    pub fn non_blank(self) -> Option<Box<str>> {
        self.0.filter(|text| !text.trim().is_empty())
    }
}

/// A JSON object and nothing else: derived code alone would take a list for one, by the order of its fields.
pub struct Object<T>(pub T);

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
