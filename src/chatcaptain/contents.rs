//! What a version consists of, as the list shows it: the model, and figures such as the number of intents.
//!
//! The service's reference says no more than that `stats` is an object. So each figure that is a number is kept, whatever
//! its name, and everything else is ignored.

use std::{collections::BTreeMap, fmt, fmt::Write};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::lenient::Scalar;

/// Figures of one version that are kept: the first by name.
const MAX_STATS: usize = 16;
/// Bytes of a name or a model id that is kept. It goes into statuses, which are bounded.
const MAX_NAME: usize = 64;
/// Beyond this a number of JSON is not exact any more.
const LARGEST: f64 = 9_007_199_254_740_992.0;

/// What a version consists of. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Contents {
    model_id: Option<Box<str>>,
    /// `name=value` lines in the order of their names: one text takes a fraction of the memory of a map, and hundreds of
    /// chatbots may have thousands of versions each.
    stats: Box<str>,
}

impl Contents {
    /// `None` where nothing is known.
    pub(super) fn new(model_id: Option<Box<str>>, stats: &Stats) -> Option<Self> {
        let model_id = model_id.filter(|id| id.len() <= MAX_NAME && !id.chars().any(char::is_control));
        let mut lines = String::new();
        for (name, value) in &stats.0 {
            // writing to a string cannot fail
            let _ = writeln!(lines, "{name}={value}");
        }
        let contents = Self { model_id, stats: lines.into() };
        (contents.model_id.is_some() || !contents.stats.is_empty()).then_some(contents)
    }

    /// From the text of the field `stats`, for tests of what is made of it.
    #[cfg(test)]
    pub(crate) fn of(model_id: &str, stats: &str) -> Option<Self> {
        Self::new(Some(model_id.into()), &serde_json::from_str(stats).ok()?)
    }

    /// The id of the model that the version was made of.
    #[must_use]
    pub fn model_id(&self) -> Option<&str> {
        self.model_id.as_deref()
    }

    /// The figures, in the order of their names.
    pub fn stats(&self) -> impl Iterator<Item = (&str, f64)> {
        self.stats.lines().filter_map(|line| {
            let (name, value) = line.split_once('=')?;
            Some((name, value.parse().ok()?))
        })
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.model_id.as_deref().map_or(0, str::len) + self.stats.len() + 48
    }
}

/// The field `stats`: what of it can be kept.
#[derive(Debug, Default, PartialEq)]
pub struct Stats(BTreeMap<Box<str>, f64>);

impl Stats {
    fn insert(&mut self, name: Box<str>, value: f64) {
        let is_word =
            !name.is_empty() && name.len() <= MAX_NAME && !name.chars().any(|c| c == '=' || c.is_control());
        if !is_word || value.is_nan() || value.abs() > LARGEST {
            return;
        }
        // a zero below zero is no other figure
        self.0.insert(name, if value == 0.0 { 0.0 } else { value });
        if self.0.len() > MAX_STATS {
            self.0.pop_last();
        }
    }
}

impl<'de> Deserialize<'de> for Stats {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StatsVisitor)
    }
}

struct StatsVisitor;

impl<'de> Visitor<'de> for StatsVisitor {
    type Value = Stats;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Stats, A::Error> {
        let mut stats = Stats::default();
        while let Some(Scalar(name)) = map.next_key()? {
            let Scalar(value) = map.next_value()?;
            let value = value.and_then(|value| value.parse().ok());
            if let Some((name, value)) = name.zip(value) {
                stats.insert(name, value);
            }
        }
        Ok(stats)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Stats, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Stats::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<Stats, E> {
        Ok(Stats::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Stats, E> {
        Ok(Stats::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Stats, E> {
        Ok(Stats::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Stats, E> {
        Ok(Stats::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Stats, E> {
        Ok(Stats::default())
    }

    fn visit_unit<E>(self) -> Result<Stats, E> {
        Ok(Stats::default())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn stats(json: &str) -> Vec<(String, f64)> {
        let stats: Stats = serde_json::from_str(json).unwrap();
        let contents = Contents::new(None, &stats);
        contents.iter().flat_map(Contents::stats).map(|(name, value)| (name.to_owned(), value)).collect()
    }

    #[test]
    fn figures_are_kept_and_everything_else_is_ignored() {
        let json = r#"{"intents": 120, "quality": 0.5, "entities": "34", "loss": -1.5, "languages": ["de"],
            "author": {"id": 1}, "ready": true, "note": "many", "none": null, "": 1, "a=b": 1, "c\nd": 1}"#;
        let kept = [("entities", 34.0), ("intents", 120.0), ("loss", -1.5), ("quality", 0.5)];
        assert_eq!(stats(json), kept.map(|(name, value)| (name.to_owned(), value)));
        for other in ["null", "[]", "[{\"intents\": 1}]", "\"120\"", "120", "-1", "1.5", "true", "{}"] {
            assert_eq!(stats(other), [], "{other}");
        }
    }

    #[test]
    fn figures_are_bounded() {
        let many: Vec<String> = (0..1000).rev().map(|n| format!("\"s{n:03}\": {n}")).collect();
        let kept = stats(&format!("{{{}}}", many.join(",")));
        assert_eq!((kept.len(), kept[0].0.as_str()), (MAX_STATS, "s000"), "whatever their order");
        assert_eq!(stats(&format!("{{\"{}\": 1}}", "x".repeat(65))), []);
        assert_eq!(stats(r#"{"a": 1e300, "b": "NaN", "c": "inf", "d": -1e16}"#), []);
        assert_eq!(stats(r#"{"a": -0.0}"#)[0].1.to_string(), "0");
    }

    #[test]
    fn nothing_known_takes_no_memory() {
        assert_eq!(Contents::new(None, &Stats::default()), None);
        assert_eq!(Contents::new(Some("m".repeat(65).into()), &Stats::default()), None);
        let model = Contents::new(Some("m".into()), &Stats::default()).unwrap();
        assert_eq!((model.model_id(), model.stats().count()), (Some("m"), 0));
    }
}
