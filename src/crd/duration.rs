//! The one duration type of both kinds: `1h30m15s`, the way manifests write it.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A duration in a manifest, the counterpart of `metav1.Duration`: hours, minutes and seconds, each at most once and in
/// this order, together more than zero. The units stay as they were read: `90s` does not become `1m30s`.
///
/// The CRD accepts exactly what this type parses, so that no value that the API server accepted is ever replaced by a
/// default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MetaDuration([Option<u32>; 3]);

/// Units in their order, and how many seconds each has.
const UNITS: [(char, u64); 3] = [('h', 3600), ('m', 60), ('s', 1)];

impl MetaDuration {
    /// What the CRD accepts, together with [`MetaDuration::NOT_ZERO`]. The API server shows it to users, so it is short.
    pub const PATTERN: &str = "^([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,5}s)?$";

    /// Found in a duration that is not zero. A rule of its own: RE2 has no look-ahead, so a pattern that says both is long.
    pub const NOT_ZERO: &str = "[1-9]";

    /// The length of the longest: three amounts of five digits, each with its unit.
    const MAX_LENGTH: usize = 18;

    /// The duration as a type of the standard library.
    #[must_use]
    pub fn get(self) -> Duration {
        let seconds = self.parts().map(|(amount, (_, length))| u64::from(amount) * length).sum();
        Duration::from_secs(seconds)
    }

    /// The units that are given, each with its amount.
    fn parts(self) -> impl Iterator<Item = (u32, (char, u64))> {
        self.0.into_iter().zip(UNITS).filter_map(|(amount, unit)| Some((amount?, unit)))
    }
}

impl FromStr for MetaDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            format!(
                "{:?} is not a duration: expected hours, minutes and seconds in this order and more than zero, for example 30s, 5m or 1h30m",
                text.chars().take(40).collect::<String>()
            )
        };
        let (mut remaining, mut amounts) = (text, [None; 3]);
        for (parsed, (unit, _)) in amounts.iter_mut().zip(UNITS) {
            let digits = remaining.bytes().take_while(u8::is_ascii_digit).count();
            if remaining[digits..].starts_with(unit) {
                *parsed = Some(amount(&remaining[..digits]).ok_or_else(expected)?);
                remaining = &remaining[digits + 1..];
            }
        }
        let is_zero = amounts.iter().flatten().all(|amount| *amount == 0);
        if remaining.is_empty() && !is_zero { Ok(Self(amounts)) } else { Err(expected()) }
    }
}

/// One to five digits.
fn amount(digits: &str) -> Option<u32> {
    digits.parse().ok().filter(|_| (1..=5).contains(&digits.len()))
}

impl TryFrom<String> for MetaDuration {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<MetaDuration> for String {
    fn from(duration: MetaDuration) -> Self {
        duration.to_string()
    }
}

impl fmt::Display for MetaDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts().try_for_each(|(amount, (unit, _))| write!(f, "{amount}{unit}"))
    }
}

impl JsonSchema for MetaDuration {
    fn schema_name() -> Cow<'static, str> {
        "MetaDuration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": Self::MAX_LENGTH,
            "pattern": Self::PATTERN,
            "x-kubernetes-validations": [{
                "rule": format!("self.matches('{}')", Self::NOT_ZERO),
                "message": "must be greater than zero, for example 30s, 5m or 1h30m",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn accepts_each_unit_once_in_order() {
        for (text, seconds) in
            [("30s", 30), ("5m", 300), ("1h30m15s", 5415), ("0h1m", 60), ("1h0s", 3600), ("05m", 300)]
        {
            assert_eq!(text.parse::<MetaDuration>().unwrap().get().as_secs(), seconds, "{text}");
        }
    }

    #[test]
    fn refuses_zero_repeats_other_orders_and_other_units() {
        for text in
            ["", "0s", "0h0m0s", "30m1h", "1h1h", "5", "5 m", "-5m", "1.5h", "100000s", "1d", "500ms", "s"]
        {
            let error = text.parse::<MetaDuration>().unwrap_err();
            assert!(error.contains("for example 30s, 5m or 1h30m"), "{text}: {error}");
        }
    }

    #[test]
    fn keeps_its_units_when_it_is_written() {
        for text in ["90s", "60m", "0h1m0s", "99999h99999m99999s"] {
            let duration: MetaDuration = serde_json::from_value(text.into()).unwrap();
            assert_eq!(serde_json::to_value(duration).unwrap(), text);
        }
    }

    /// Every string of up to six of these characters, and every choice of long amounts and units.
    #[test]
    fn the_crd_accepts_what_is_parsed_and_nothing_else() {
        let pattern = regex::Regex::new(MetaDuration::PATTERN).unwrap();
        let not_zero = regex::Regex::new(MetaDuration::NOT_ZERO).unwrap();
        let mut texts = strings(&[&["", "0", "1", "h", "m", "s"][..]; 6]);
        let amounts = ["", "0", "05", "99999", "100000"];
        let units = ["", "h", "m", "s", "d", "\n"];
        texts.extend(strings(&[&amounts[..], &units, &amounts, &units, &amounts, &units]));
        let mut accepted = 0;
        for text in &texts {
            let parses = text.parse::<MetaDuration>().is_ok();
            assert_eq!(pattern.is_match(text) && not_zero.is_match(text), parses, "{text:?}");
            assert!(!parses || text.len() <= MetaDuration::MAX_LENGTH, "{text:?}");
            accepted += usize::from(parses);
        }
        assert!((200..texts.len() / 2).contains(&accepted), "{accepted} of {} were accepted", texts.len());
    }

    /// Every string of one part of each list.
    fn strings(lists: &[&[&str]]) -> std::collections::BTreeSet<String> {
        lists.iter().fold([String::new()].into(), |texts, parts| {
            texts.iter().flat_map(|text| parts.iter().map(move |part| format!("{text}{part}"))).collect()
        })
    }
}
