//! Settings as JSON: merging a patch, and one clear line for whatever is wrong in it.

use serde_json::{Map, Value};

use crate::settings::Settings;

/// Every setting with what it accepts, for errors and for the help text.
pub const ACCEPTED: &[(&str, &str)] = &[
    ("createAnswer", "wrapped | bare | versionId | id | empty | otherIds | oldestVersion"),
    ("createStatus", "200 | 201"),
    ("noDeployment", "dev | none"),
    ("deployAnswer", "empty | object | detail"),
    ("deployStatus", "200 | 201 | 202"),
    ("rollbackBody", "environment | none | {\"requires\": \"<property>\"}"),
    ("rollbackActs", "environment | workingCopy"),
    ("rollbackAvailable", "true | false"),
    ("rollbackMissingStatus", "404 | 405"),
    ("failuresAs", "http | ok"),
    ("listDelayMs", "milliseconds"),
    ("listLimit", "null | number of versions"),
    ("clockOffsetSeconds", "seconds"),
    ("deploymentsStatus", "allowed | forbidden | missing"),
    ("deleteLive", "refused | accepted"),
    ("descriptions", "asSent | missing | {\"cut\": characters} | oneLine"),
    ("entryWithoutId", "null | description"),
    ("times", "rfc3339 | millis | object"),
    ("versionNumbers", "strings | numbers"),
    ("deployedField", "shown | missing"),
    ("versionNumberField", "shown | missing"),
    ("contents", "{\"<version name>\": {modelId: any JSON or absent, stats: any JSON or absent}}"),
    ("unknownId", "notFound | badRequest | ok"),
    ("unknownChatbots", "accept | refuse"),
    ("chatbots", "[chatbot ids that are registered]"),
    ("latencyMs", "milliseconds"),
    ("rolloutMs", "milliseconds"),
    ("rollout", "succeeds | fails"),
    ("failingRollouts", "[version names or ids]"),
    ("failedRollout", "harmless | emptying"),
    (
        "throttle",
        "null | {answer: 429 | 403 | 503, retryAfter: none | seconds | date, \
         perSecond: number above 0 or absent, burst: at least 1}",
    ),
    ("throttleForMs", "milliseconds"),
    ("retryAfterSeconds", "seconds"),
    (
        "keys",
        "null | {\"<key>\": {account: \"<name>\", permissions: absent | \
         [chatbots.versions.list | .create | .delete | .deploy, chatbots.deployments.status]}}",
    ),
    ("denied", "{\"<chatbot>\": [permissions that every key lacks there]}"),
    ("refusedKey", "401 | 403"),
    (
        "faults",
        "[{operation: list | create | delete | deploy | rollback | status | any, \
         kind: error500 | error500After | html502 | html502After | html504After | cut | cutAfter | \
         garbage | hang | lateEffect | hangLate | refused, probability: 0 to 1, times: count or absent, \
         chatbot: id or absent, hangMs: milliseconds, lateMs: milliseconds}]",
    ),
    ("seed", "whole number"),
];

impl Settings {
    /// Settings from JSON; what is not named keeps its default.
    ///
    /// # Errors
    /// One line that names the key and what it accepts.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let patch = serde_json::from_str(text).map_err(|e| format!("settings are not JSON: {e}"))?;
        Self::default().merged(&patch)
    }

    /// These settings with the keys of a JSON object replaced.
    ///
    /// # Errors
    /// One line that names the key and what it accepts.
    pub fn merged(&self, patch: &Value) -> Result<Self, String> {
        let Value::Object(patch) = patch else {
            return Err("settings must be a JSON object".to_owned());
        };
        for (key, value) in patch {
            check_key(key, value)?;
        }
        let mut all = match serde_json::to_value(self) {
            Ok(Value::Object(all)) => all,
            _ => Map::new(),
        };
        all.extend(patch.clone());
        serde_json::from_value(Value::Object(all)).map_err(|e| e.to_string())
    }
}

// Each key is read on its own: so an error can name the key it belongs to.
fn check_key(key: &str, value: &Value) -> Result<(), String> {
    let Some((_, accepted)) = ACCEPTED.iter().find(|(known, _)| *known == key) else {
        let known: Vec<&str> = ACCEPTED.iter().map(|(known, _)| *known).collect();
        return Err(format!("unknown setting {key}; accepted: {}", known.join(", ")));
    };
    let alone = Map::from_iter([(key.to_owned(), value.clone())]);
    serde_json::from_value::<Settings>(Value::Object(alone))
        .map_err(|e| e.to_string())
        .and_then(|settings| check_ranges(&settings))
        .map_err(|e| format!("setting {key}: {e}; accepted: {accepted}"))
}

fn check_ranges(settings: &Settings) -> Result<(), String> {
    one_of(settings.create_status, &[200, 201])?;
    one_of(settings.deploy_status, &[200, 201, 202])?;
    one_of(settings.rollback_missing_status, &[404, 405])?;
    one_of(settings.refused_key, &[401, 403])?;
    if let Some(throttle) = &settings.throttle {
        one_of(throttle.answer, &[429, 403, 503])?;
        if throttle.per_second.is_some_and(|n| n <= 0.0) {
            return Err("perSecond is not above 0".to_owned());
        }
        if throttle.burst == 0 {
            return Err("burst is not at least 1".to_owned());
        }
    }
    for fault in &settings.faults {
        if !(0.0..=1.0).contains(&fault.probability) {
            return Err(format!("probability {} is not from 0 to 1", fault.probability));
        }
    }
    Ok(())
}

fn one_of(status: u16, accepted: &[u16]) -> Result<(), String> {
    if accepted.contains(&status) { Ok(()) } else { Err(format!("{status} is not accepted")) }
}
