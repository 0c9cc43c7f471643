//! Which module may import which, read from the `use` lines and from paths in the code.

use std::collections::BTreeSet;

use crate::{read, root, rust_files};

/// Each layer, the modules it may import, and words that must not occur in it.
const LAYERS: [(&str, &[&str], &[&str]); 9] = [
    ("src/crd", &[], &["async ", ".await", "Client", "now()"]),
    ("src/chatcaptain", &[], &["kube::", "k8s_openapi", "kube_"]),
    (
        "src/plan",
        &["crd", "chatcaptain"],
        &["async ", ".await", "Client", "Api<", "tokio", "tracing", "now()", ".elapsed()", "rand::"],
    ),
    ("src/controller", &["crd", "chatcaptain", "plan", "telemetry", "lease", "cloud_events"], &["reqwest"]),
    ("src/lease.rs", &["sync"], &["hatbot"]),
    ("src/cloud_events.rs", &["telemetry"], &["hatbot", "kube::"]),
    ("src/admin.rs", &["sync", "telemetry"], &["hatbot"]),
    ("src/telemetry.rs", &[], &["kube::"]),
    ("src/telemetry", &["chatcaptain"], &["kube::"]),
];

/// Leaves that every layer may know.
const SHARED: [&str; 4] = ["backoff", "health", "network", "sync"];

/// What `plan` may take from `chatcaptain`: types, never calls.
const PLAN_TYPES: [&str; 13] = [
    "Contents",
    "ApiCall",
    "FailureClass",
    "LiveVersion",
    "DeploymentStatus",
    "Failure",
    "Inventory",
    "Marker",
    "NewVersion",
    "Refusal",
    "Version",
    "VersionId",
    "ChatbotId",
];

#[test]
fn layers_import_only_allowed_modules() {
    for (layer, allowed, forbidden) in LAYERS {
        let own = layer.trim_start_matches("src/").trim_end_matches(".rs");
        for file in files(layer) {
            let code = code(&file);
            for known in modules(&code) {
                let known = known.as_str();
                assert!(
                    known == own || allowed.contains(&known) || SHARED.contains(&known),
                    "{file} must not import {known}"
                );
            }
            for word in forbidden {
                assert!(!code.contains(word), "{file} must not contain {word:?}");
            }
        }
    }
}

#[test]
fn plan_imports_only_types_of_the_client() {
    for file in files("src/plan") {
        let code = code(&file);
        for list in code.split("chatcaptain::").skip(1) {
            let list = if let Some(list) = list.strip_prefix('{') {
                &list[..list.find('}').unwrap()]
            } else {
                &list[..list.find([';', ',', ':', ' ', ')', '>', '}']).unwrap_or(list.len())]
            };
            for item in list.split(',').map(str::trim).filter(|item| !item.is_empty()) {
                assert!(PLAN_TYPES.contains(&item), "{file} must not import chatcaptain::{item}");
            }
        }
    }
}

#[test]
fn every_file_starts_with_its_purpose() {
    for folder in ["src", "tests"] {
        for path in rust_files(folder) {
            let text = std::fs::read_to_string(&path).unwrap();
            let includes_a_page = text.starts_with("#![doc = include_str!(");
            assert!(
                text.starts_with("//! ") || includes_a_page,
                "{} does not start with a //! line that says its purpose",
                path.display()
            );
        }
    }
}

#[test]
fn no_source_file_exceeds_600_lines() {
    let long = |lines: usize| lines > 600;
    for path in rust_files("src") {
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(!long(lines), "{} has {lines} lines; split it by subject", path.display());
    }
}

fn files(layer: &str) -> Vec<String> {
    if root().join(layer).is_file() {
        return vec![layer.to_owned()];
    }
    let relative = |path: &std::path::PathBuf| path.strip_prefix(root()).unwrap().display().to_string();
    let is_shipped = |file: &String| !file.ends_with("/fixtures.rs") && !file.ends_with("/tests.rs");
    rust_files(layer).iter().map(relative).filter(is_shipped).collect()
}

/// The file without comments and without the unit tests at its end, which may read a clock.
fn code(file: &str) -> String {
    let text = read(file);
    let shipped = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
    shipped.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The modules of this crate that the code names, `use crate::{a, b::c}` included.
fn modules(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        if !rest.starts_with('{') {
            found.insert(identifier(rest));
            continue;
        }
        let mut depth = 0;
        let mut start = true;
        for (at, sign) in rest.char_indices() {
            match sign {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => start = true,
                _ if depth == 1 && start && sign.is_alphabetic() => {
                    found.insert(identifier(&rest[at..]));
                    start = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}
