//! Random answers: generated from parts of real ones, and corrupted.

use chatcaptain_operator::chatcaptain::{ApiCall, FailureClass};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::Value;

use crate::{Answer, Came, Client, corpus, is_write};

const ANSWERS: usize = 4_000;
const STATUS: [u16; 12] = [200, 200, 200, 200, 201, 204, 400, 403, 404, 429, 500, 503];
const NAMES: [&str; 16] = [
    "versions",
    "version",
    "versionId",
    "id",
    "name",
    "description",
    "versionNumber",
    "created",
    "deployed",
    "error",
    "message",
    "deleted",
    "rolledBack",
    "test",
    "prod",
    "statusCode",
];
const TEXTS: [&str; 14] = [
    "",
    " ",
    "a",
    "2.10",
    "vrs1",
    "..",
    "../../admin",
    "a\nb",
    "\u{0}",
    "\u{202e}drow",
    "2026-01-01T00:00:00Z",
    "[chatcaptain.dev default/chatbots/a]",
    "x\n[chatcaptain.dev other/chatbots/a]",
    "too many requests",
];

fn value(random: &mut StdRng, depth: usize) -> Value {
    let text = |random: &mut StdRng| (*TEXTS.choose(random).unwrap()).to_owned();
    match random.random_range(0..if depth == 0 { 6 } else { 9 }) {
        0 => Value::Null,
        1 => random.random_bool(0.5).into(),
        2 => random.random::<i64>().into(),
        3 => random.random::<f64>().into(),
        4 | 5 => text(random).into(),
        6 => (0..random.random_range(0..4)).map(|_| value(random, depth - 1)).collect(),
        _ => object(random, depth - 1),
    }
}

fn object(random: &mut StdRng, depth: usize) -> Value {
    let fields = (0..random.random_range(0..6))
        .map(|_| ((*NAMES.choose(random).unwrap()).to_owned(), value(random, depth)));
    Value::Object(fields.collect())
}

/// A body: generated, or one of the corpus, and often corrupted.
fn body(random: &mut StdRng, corpus: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut body = if random.random_bool(0.5) {
        object(random, 4).to_string().into_bytes()
    } else {
        corpus.choose(random).unwrap().1.clone()
    };
    for _ in 0..random.random_range(0..3) {
        if body.is_empty() {
            break;
        }
        let at = random.random_range(0..body.len());
        match random.random_range(0..4) {
            0 => body[at] = random.random(),
            1 => body.truncate(at),
            2 => {
                let end = random.random_range(at..body.len());
                let part = body[at..end].to_vec();
                body.splice(at..at, part);
            }
            _ => drop(body.remove(at)),
        }
    }
    body
}

#[test]
fn every_generated_answer_has_a_sound_class() {
    let seed = std::env::var("SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("seed {seed}; the same again: SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let client = Client::new();
    let corpus = corpus::files();
    let mut outcomes = std::collections::BTreeMap::new();
    for _ in 0..ANSWERS {
        let call = *ApiCall::ALL.choose(&mut random).unwrap();
        let status = *STATUS.choose(&mut random).unwrap();
        let body = body(&mut random, &corpus);
        let came = client.ask(call, Answer::Body(status, body.clone()));
        *outcomes.entry(came.outcome()).or_insert(0) += 1;
        let details =
            || format!("seed {seed}: {call:?} {status} {:?}\n{came:?}", String::from_utf8_lossy(&body));
        // 204 has no body, whatever is sent after it
        let body: &[u8] = if status == 204 { b"" } else { &body };
        assert!(is_sound(call, status, body, &came), "{}", details());
    }
    println!("{outcomes:?}");
    assert!(outcomes.len() >= 5, "{outcomes:?}");
}

/// What must hold between any answer and its outcome.
fn is_sound(call: ApiCall, status: u16, body: &[u8], came: &Came) -> bool {
    // what is skipped is not held to UTF-8
    let text = String::from_utf8_lossy(body);
    let object = serde_json::from_str::<serde_json::Map<String, Value>>(&text).ok();
    let says_no = object.as_ref().map(|object| {
        let error = object.get("error").is_some_and(complains);
        let undone = |field: &str| object.get(field) == Some(&Value::Bool(false));
        error
            || call == ApiCall::Delete && undone("deleted")
            || call == ApiCall::Rollback && undone("rolledBack")
    });
    let success = (200..300).contains(&status);
    let Came::Failed(failure) = came else {
        // only what can be read and says no `no` is a yes; a create that names an id is one in any case
        let starts_as_object = text.trim_start().starts_with('{') && text.trim_end().ends_with('}');
        let readable = starts_as_object || is_write(call) && body.trim_ascii().is_empty();
        let made = matches!(came, Came::Written(Some(_)));
        return success && readable && (says_no != Some(true) || made);
    };
    match failure.class {
        // an answer that denies the effect must be readable
        FailureClass::Refused(_) if success => says_no != Some(false) && !failure.may_have_happened,
        FailureClass::Refused(_) => {
            (400..500).contains(&status)
                && (object.is_some() || !is_write(call))
                && !failure.may_have_happened
        }
        FailureClass::Unknown => !is_write(call) || failure.may_have_happened,
        FailureClass::Throttled { .. } => matches!(status, 403 | 429 | 503),
        FailureClass::Forbidden { .. } => matches!(status, 401 | 403),
        FailureClass::Unsent => false,
    }
}

/// An `error` that is more than an empty field.
fn complains(error: &Value) -> bool {
    match error {
        Value::Null => false,
        Value::Bool(error) => *error,
        Value::Number(_) => true,
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}
