//! Known answers, each with its expected outcome.

use std::{fs, path::Path};

use chatcaptain_operator::chatcaptain::{ApiCall, Inventory, Marker};

use crate::{Answer, Came, Client};

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/robustness/corpus"))
}

/// The files, with their names.
pub fn files() -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn every_corpus_answer_has_the_outcome_in_its_name() {
    let client = Client::new();
    let files = files();
    assert!(files.len() > 30, "{}", files.len());
    for (name, body) in files {
        let parts: Vec<&str> = name.split('.').collect();
        let [call, status, outcome, ..] = parts[..] else {
            panic!("{name}: <call>.<status>.<outcome>.<what>")
        };
        let calls: Vec<ApiCall> = match call {
            "any" => ApiCall::ALL.to_vec(),
            "write" => vec![ApiCall::Create, ApiCall::Delete, ApiCall::Deploy, ApiCall::Rollback],
            one => vec![*ApiCall::ALL.iter().find(|call| call.as_str() == one).expect("a call")],
        };
        for call in calls {
            let came = client.ask(call, Answer::Body(status.parse().unwrap(), body.clone()));
            assert_eq!(came.outcome(), outcome, "{name}, {call:?}: {came:?}");
        }
    }
}

#[test]
fn invalid_http_may_have_taken_effect() {
    let client = Client::new();
    let raw: [&[u8]; 5] = [
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"id\": \"v",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n",
    ];
    for bytes in raw {
        for call in ApiCall::ALL {
            let Came::Failed(failure) = client.ask(call, Answer::Raw(bytes.to_vec())) else {
                panic!("{call:?} took {bytes:?} for an answer")
            };
            assert_eq!(failure.class.as_str(), "unknown", "{failure:?}");
            assert!(failure.may_have_happened);
        }
    }
}

/// The key is removed before a message is truncated, in valid and in invalid UTF-8.
#[test]
fn echoed_key_is_redacted() {
    let client = Client::new();
    let echo = format!(r#"{{"message": "{}{} is no key, {}"}}"#, "x".repeat(190), crate::KEY, crate::KEY);
    let mut broken = echo.clone().into_bytes();
    broken.push(0xff);
    let escaped = crate::KEY.bytes().map(|byte| format!("\\u{byte:04x}")).collect::<Vec<_>>().concat();
    let escaped = format!(r#"{{"message": "the key {escaped} is wrong", "versions": "{escaped}"}}"#);
    for body in [echo.into_bytes(), broken, escaped.into_bytes()] {
        for status in [200, 400, 403, 500] {
            // `ask` searches for the key, this for a part of it
            for call in [ApiCall::Create, ApiCall::List] {
                let came = client.ask(call, Answer::Body(status, body.clone()));
                assert!(!format!("{came:?}").contains(&crate::KEY[..12]), "{came:?}");
            }
        }
    }
}

fn list(body: &str) -> Inventory {
    match Client::new().ask(ApiCall::List, Answer::Body(200, body.as_bytes().to_vec())) {
        Came::List(inventory) => inventory,
        other => panic!("{other:?}"),
    }
}

/// The last marker of a description names the owner, wherever it stands: not a name, not a marker before it.
#[test]
fn last_marker_of_a_description_counts() {
    let ours = Marker::new("default", "chatbots", "a");
    let text = ours.as_str();
    let entry = |id: &str, name: &str, description: &str| serde_json::json!({"id": id, "name": name, "description": description});
    let versions = [
        entry("in-the-name", text, "x"),
        entry("name-with-lines", &format!("x\n{text}\n"), "x"),
        entry("another-owner-after-it", "a", &format!("{text}\n[chatcaptain.dev other/chatbots/a]")),
        entry("cut-marker-after-it", "a", &format!("{text}\n[chatcaptain.dev other/")),
        entry("nearly", "a", "[chatcaptain.dev default/chatbots/a/b]"),
        entry("edited", "a", &format!("{text}\nedited later")),
        entry("in-one-line", "a", &format!("anything {text}")),
        entry("null-in-it", "a", &format!("x\n{text}\u{0}")),
        entry("as-sent", "a", &format!("anything\r\n{text}\n\n")),
    ];
    let inventory = list(&serde_json::json!({"versions": versions}).to_string());
    assert_eq!(inventory.versions().len(), versions.len());
    let marked: Vec<&str> = inventory.by_marker(&ours).map(|version| version.id.as_str()).collect();
    assert_eq!(marked, ["edited", "in-one-line", "null-in-it", "as-sent"]);
}

/// Of two entries with one id the first counts, and no version is found twice.
#[test]
fn repeated_id_is_one_version() {
    let ours = Marker::new("default", "chatbots", "a");
    let entry = serde_json::json!({"id": "one", "description": ours.as_str()});
    let inventory = list(&serde_json::json!({"versions": [entry, entry, entry]}).to_string());
    assert_eq!((inventory.versions().len(), inventory.by_marker(&ours).count()), (1, 1));
}
