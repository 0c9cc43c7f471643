//! What a move of the environment changes: the model and the figures of the version that runs, against those of the one
//! that ran before it.

use std::fmt::Write;

use super::Observation;
use crate::chatcaptain::Contents;

/// Bytes of the text in `history`, which the size of an object bounds.
const MAX_CHANGES: usize = 256;
/// Room for the words that say how many changes are left out.
const ROOM_FOR_COUNT: usize = 16;

impl Observation {
    /// What differs in a version that runs, or comes to run now. Of one that runs already it is what was recorded then:
    /// figures that count on would change the message with each reconcile.
    pub(super) fn changes(&self, id: &str) -> Option<String> {
        let status = self.status();
        if status.active.as_ref().is_some_and(|active| active.version_id == id) {
            let entry = status.history.iter().find(|entry| entry.version_id == id)?;
            return entry.changes.clone();
        }
        let former = status.active.as_ref().or(status.previous.as_ref())?;
        let contents = |id| self.listed(id)?.contents.as_deref();
        changes(contents(&former.version_id)?, contents(id)?)
    }
}

/// As `model 3 -> 4, intents 120 -> 131`; `None` where nothing differs that both versions show.
fn changes(from: &Contents, to: &Contents) -> Option<String> {
    let mut all: Vec<String> = Vec::new();
    if let Some((from, to)) = from.model_id().zip(to.model_id()).filter(|(from, to)| from != to) {
        all.push(format!("model {from} -> {to}"));
    }
    for (name, after) in to.stats() {
        match from.stats().find(|(other, _)| *other == name) {
            Some((_, before)) if before.total_cmp(&after).is_ne() => {
                all.push(format!("{name} {before} -> {after}"));
            }
            _ => {}
        }
    }
    (!all.is_empty()).then(|| joined(&all))
}

/// As many as fit, and how many do not.
fn joined(all: &[String]) -> String {
    let mut text = String::new();
    for (index, change) in all.iter().enumerate() {
        if text.len() + change.len() + ROOM_FOR_COUNT > MAX_CHANGES {
            // writing to a string cannot fail
            let _ = write!(text, ", {} more", all.len() - index);
            break;
        }
        if index > 0 {
            text.push_str(", ");
        }
        text.push_str(change);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::super::fixtures::*;
    use super::*;
    use crate::chatcaptain::Version;

    /// A version with these contents.
    fn made_of(id: &str, model: &str, stats: &Value) -> Version {
        let contents = Contents::of(model, &stats.to_string());
        Version { contents: contents.map(Arc::new), ..version(id) }
    }

    /// `v1` was deployed where `v2` ran, and became live now.
    fn promoted(from: Version, to: Version) -> Observation {
        let called = operation("Deploy", "v1", Some(5), Some("Accepted"));
        let active = json!({"active": {"versionId": "v2", "startTime": ago(100)}});
        let observation = Observation::test().with_status(&called).with_status(&active);
        observation.listing([to, from]).running(Some("v1"))
    }

    fn texts(observation: &Observation) -> (Option<String>, String, String) {
        let report = observation.report();
        let [(_, note)] = events(&report)[..] else { panic!("{:?}", report.events) };
        let message = report.status.common.conditions[0].message.clone();
        (report.status.history[0].changes.clone(), note.to_owned(), message)
    }

    #[test]
    fn promotion_reports_what_changes() {
        let from = made_of("v2", "3", &json!({"intents": 120, "entities": 7, "flows": 2}));
        let to = made_of("v1", "4", &json!({"intents": 131, "entities": 7, "steps": 9}));
        let (changes, note, message) = texts(&promoted(from, to));
        let expected = "model 3 -> 4, intents 120 -> 131";
        assert_eq!(changes.as_deref(), Some(expected));
        let live = "prod runs version 1.1 (v1)";
        assert_eq!(note, format!("{live} instead of version 1.2 (v2). Changes: {expected}."));
        assert_eq!(message, format!("{live}. Changes: {expected}."));
    }

    #[test]
    fn what_is_recorded_does_not_change_with_the_figures() {
        let pair = |sessions: i32| {
            let from = made_of("v2", "3", &json!({"sessions": 900}));
            (from, made_of("v1", "3", &json!({ "sessions": sessions })))
        };
        let (from, to) = pair(1);
        let report = promoted(from, to).report();
        let live = promoted(pair(1).0, pair(1).1).after(report.clone());
        let (from, to) = pair(2);
        let later = live.listing([to, from]).running(Some("v1")).report();
        assert_eq!(later.status, report.status);
        assert!(later.events.is_empty(), "{:?}", later.events);
    }

    #[test]
    fn nothing_is_reported_where_nothing_differs_or_nothing_is_known() {
        let same = || json!({"intents": 120});
        let plain = |from, to| texts(&promoted(from, to));
        for (from, to) in [
            (made_of("v2", "3", &same()), made_of("v1", "3", &same())),
            (version("v2"), made_of("v1", "3", &same())),
            (made_of("v2", "3", &same()), version("v1")),
        ] {
            let (changes, note, message) = plain(from, to);
            assert_eq!((changes, message.as_str()), (None, "prod runs version 1.1 (v1)."));
            assert!(note.ends_with("instead of version 1.2 (v2)."), "{note}");
        }
    }

    #[test]
    fn text_is_bounded_and_says_how_much_is_left_out() {
        let stats = |offset: i32| {
            let all = (0..16).map(|n| (format!("{n:02}{}", "x".repeat(60)), json!(n + offset)));
            Value::Object(all.collect())
        };
        let (changes, ..) = texts(&promoted(made_of("v2", "3", &stats(0)), made_of("v1", "4", &stats(1))));
        let changes = changes.unwrap();
        assert!(changes.len() <= MAX_CHANGES && changes.ends_with(", 13 more"), "{changes}");
    }
}
