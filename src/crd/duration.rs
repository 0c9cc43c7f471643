//! The one duration type of both kinds: `1h30m15s`, the way manifests write it.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A duration in a manifest, the counterpart of `metav1.Duration`: hours, minutes and seconds, each at most once and in
/// this order, together more than zero.
///
/// [`MetaDuration::PATTERN`] in the CRD accepts exactly what this type parses, so that no value that the API server
/// accepted is ever replaced by a default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MetaDuration(Duration);

/// Units in their order, and how many seconds each has.
const UNITS: [(char, u64); 3] = [('h', 3600), ('m', 60), ('s', 1)];

impl MetaDuration {
    /// What the CRD accepts: RE2 has no look-ahead, so one alternative per unit that is not zero.
    pub const PATTERN: &str = "^([1-9][0-9]{0,4}h((0|[1-9][0-9]{0,4})m)?((0|[1-9][0-9]{0,4})s)?\
                               |((0|[1-9][0-9]{0,4})h)?[1-9][0-9]{0,4}m((0|[1-9][0-9]{0,4})s)?\
                               |((0|[1-9][0-9]{0,4})h)?((0|[1-9][0-9]{0,4})m)?[1-9][0-9]{0,4}s)$";

    /// As the standard library has it.
    #[must_use]
    pub fn get(self) -> Duration {
        self.0
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
        let (mut rest, mut seconds) = (text, 0);
        for (unit, length) in UNITS {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if rest[digits..].starts_with(unit) {
                seconds += amount(&rest[..digits]).ok_or_else(expected)? * length;
                rest = &rest[digits + 1..];
            }
        }
        if rest.is_empty() && seconds > 0 { Ok(Self(Duration::from_secs(seconds))) } else { Err(expected()) }
    }
}

/// One to five digits without a leading zero.
fn amount(digits: &str) -> Option<u64> {
    let well_formed = (1..=5).contains(&digits.len()) && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|_| well_formed)
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
        let mut rest = self.0.as_secs();
        for (unit, length) in UNITS {
            if rest >= length {
                write!(f, "{}{unit}", rest / length)?;
                rest %= length;
            }
        }
        Ok(())
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
        json_schema!({"type": "string", "maxLength": 18, "pattern": Self::PATTERN})
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn accepts_each_unit_once_in_order() {
        for (text, seconds) in [("30s", 30), ("5m", 300), ("1h30m15s", 5415), ("0h1m", 60), ("1h0s", 3600)] {
            assert_eq!(text.parse::<MetaDuration>().unwrap().get().as_secs(), seconds, "{text}");
        }
    }

    #[test]
    fn refuses_zero_repeats_other_orders_and_other_units() {
        for text in ["", "0s", "0h0m0s", "30m1h", "1h1h", "5", "5 m", "-5m", "1.5h", "05m", "100000s", "1d", "500ms", "s"] {
            let error = text.parse::<MetaDuration>().unwrap_err();
            assert!(error.contains("for example 30s, 5m or 1h30m"), "{text}: {error}");
        }
    }

    #[test]
    fn displays_the_shortest_form_that_parses_back() {
        for (text, shortest) in [("90s", "1m30s"), ("60m", "1h"), ("99999h99999m99999s", "101692h25m39s")] {
            let duration: MetaDuration = text.parse().unwrap();
            assert_eq!(duration.to_string(), shortest);
        }
    }
}
