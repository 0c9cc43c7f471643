//! The shipped role grants exactly the verbs that the code uses.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{read, rust_files};

/// Resource and verb, and the code that needs it.
const USED: [(&str, &str); 19] = [
    ("chatbotversions", "get"),
    ("chatbotversions", "list"),
    ("chatbotversions", "watch"),
    ("chatbotversions", "patch"),
    ("chatbotversions/status", "update"),
    ("chatbotdeployments", "get"),
    ("chatbotdeployments", "list"),
    ("chatbotdeployments", "watch"),
    ("chatbotdeployments", "patch"),
    ("chatbotdeployments/status", "update"),
    ("secrets", "get"),
    ("secrets", "list"),
    ("secrets", "watch"),
    ("namespaces", "get"),
    ("customresourcedefinitions", "get"),
    ("events", "create"),
    ("events", "patch"),
    ("leases", "get"),
    ("leases", "create"),
];

#[test]
fn role_grants_exactly_the_used_verbs() {
    let mut used: BTreeSet<(String, String)> =
        USED.iter().map(|(resource, verb)| ((*resource).to_owned(), (*verb).to_owned())).collect();
    used.insert(("leases".to_owned(), "update".to_owned()));
    assert_eq!(granted(), used);
}

fn granted() -> BTreeSet<(String, String)> {
    let mut granted = BTreeSet::new();
    for file in ["deploy/base/rbac.yaml", "deploy/role/role.yaml"] {
        let text = read(file);
        for document in text.split("\n---").filter(|text| text.contains("\nrules:")) {
            let value: Value = serde_saphyr::from_str(document).unwrap();
            for rule in value["rules"].as_array().unwrap() {
                let list = |key: &str| -> Vec<String> {
                    rule[key].as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect()
                };
                for resource in list("resources") {
                    for verb in list("verbs") {
                        granted.insert((resource.clone(), verb));
                    }
                }
            }
        }
    }
    granted
}

#[test]
fn only_the_client_reads_the_api_key() {
    for path in rust_files("src") {
        let text = std::fs::read_to_string(&path).unwrap();
        let inside = path.ends_with("chatcaptain/types.rs") || path.ends_with("chatcaptain/client.rs");
        assert!(inside || !text.contains("expose"), "{} reads the API key out of its type", path.display());
    }
}
