//! Words that have a standard one in their place: in Kubernetes' API conventions, client-go, controller-runtime, Flux, Argo CD
//! or plain English. A newcomer knows those already.

use std::path::{Path, PathBuf};

use crate::{files_below, read, root};

/// A word or phrase, and what to say instead.
type Words = &'static [(&'static str, &'static str)];

/// Nowhere: neither in the code nor in what users read.
const EVERYWHERE: Words = &[
    ("announce, announces, announced, announcing, announcement", "record an intent; pending call"),
    ("becomes of", "what happens to it"),
    ("by hand", "manually, outside the operator"),
    ("fact, facts", "observation"),
    ("fought", "drift correction"),
    ("git want, git wants", "the spec names, desired"),
    ("held back", "not sent, paused"),
    ("hostile", "invalid, malformed"),
    ("intended", "intent recorded"),
    ("law, laws", "invariant"),
    ("leaving", "being deleted"),
    ("let go, lets go, letting go", "remove the finalizer"),
    ("nobody, anybody", "name what is missing or unknown"),
    ("noun, nouns", "type"),
    ("on record", "recorded, reported by an event"),
    ("overdue", "timed out, after the deadline"),
    ("retire, retires, retired, retiring", "delete, pending deletion"),
    ("rival, rivals", "older object, other object"),
    ("seen to", "reconciled"),
    ("sight, sights", "match"),
    ("told", "reported, notified"),
    ("unguard", "remove the finalizer"),
    ("vain", "without effect"),
    ("wake, wakes, waker, woken, wake up", "enqueue"),
    ("walk, walks, walked", "explore"),
    ("young", "not yet listed"),
];

/// Not in the code of the operator.
const IN_SOURCE: Words = &[
    ("at rest", "idle, steady state"),
    ("claimed", "held, managed"),
    ("going", "pending, being deleted, rolling back"),
    ("guard, guards", "finalizer, protect"),
    ("look, looks, looked, looking", "read, query, reconcile"),
    ("pass, passes", "reconcile"),
    ("rest", "remaining; wait, idle"),
    ("seen", "observed, read"),
    ("slot, slots", "environment"),
    ("tell, tells", "show, report, distinguish"),
    ("turn, turns", "permit; convert"),
    ("whoever", "name who it is"),
];

/// What is meant literally, and why.
const ALLOWED: &[(&str, &str)] = &[
    ("rest of", "plain English for what remains of something"),
    ("look ahead", "a term of regular expressions"),
    ("deserialize guard", "a type of kube"),
    ("mutex guard", "a type of the standard library"),
    ("rw lock read guard", "a type of the standard library"),
    ("rw lock write guard", "a type of the standard library"),
];

/// Outside the rule, and why.
const EXEMPT: [&str; 4] = [
    // names the words
    "tests/repository/words.rs",
    // stand for the service and the cluster, and are documented by themselves
    "tests/simulator",
    "tests/control-plane",
    // recorded answers
    "tests/robustness/corpus",
];

#[test]
fn words_with_a_standard_one_in_their_place_are_not_used() {
    let mut found = Vec::new();
    let mut checked = 0;
    for path in texts() {
        let text = read(&path);
        let in_source = path.starts_with("src");
        for (number, line) in text.lines().enumerate() {
            let rules = EVERYWHERE.iter().chain(if in_source { IN_SOURCE } else { &[] });
            for (word, better) in misused(line, rules) {
                found.push(format!("{}:{}: {word}; say {better}", path.display(), number + 1));
            }
        }
        checked += 1;
    }
    assert!(checked > 150, "only {checked} files found");
    assert!(found.is_empty(), "{} words:\n{}", found.len(), found.join("\n"));
}

#[test]
fn words_are_found_in_names_and_phrases() {
    let in_source =
        |line| misused(line, EVERYWHERE.iter().chain(IN_SOURCE)).map(|(word, _)| word).collect::<Vec<_>>();
    assert_eq!(in_source("fn is_told() -> AnnouncesCall"), ["announces", "told"]);
    assert_eq!(in_source("/// It is left ON RECORD."), ["on record"]);
    assert_eq!(in_source("the rest of it, by its MutexGuard"), [""; 0]);
    assert_eq!(in_source("let rest = retold;"), ["rest"]);
}

/// The words of a line that the rules replace, with what to say instead.
fn misused<'a>(
    line: &str,
    rules: impl Iterator<Item = &'a (&'a str, &'a str)>,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let mut text = format!(" {} ", split_words(line).join(" "));
    for (phrase, _) in ALLOWED {
        text = text.replace(&format!(" {phrase} "), " . ");
    }
    rules.flat_map(move |(forms, better)| {
        let used = |form: &&str| text.contains(&format!(" {form} "));
        forms.split(", ").filter(used).map(|form| (form, *better)).collect::<Vec<_>>()
    })
}

/// The words of a line in lower case; those of a name, too: `is_told` and `AnnouncesCall` are two words each.
fn split_words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for letter in line.chars() {
        let starts_word = !letter.is_alphabetic() || letter.is_uppercase() && before.is_lowercase();
        if starts_word {
            words.push(String::new());
        }
        if letter.is_alphabetic() {
            words.last_mut().unwrap().extend(letter.to_lowercase());
        }
        before = letter;
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The files that people read, relative to the root.
fn texts() -> Vec<PathBuf> {
    let mut texts = vec![PathBuf::from("README.md")];
    for folder in ["src", "tests", "deploy", "crds", ".github"] {
        for extension in ["rs", "md", "sh", "go", "lua", "yaml"] {
            texts.extend(files_below(folder, extension).iter().map(|path| relative(path)));
        }
    }
    texts.retain(|path| !EXEMPT.iter().any(|exempt| path.starts_with(exempt)));
    texts
}

fn relative(path: &Path) -> PathBuf {
    path.strip_prefix(root()).unwrap().to_owned()
}
