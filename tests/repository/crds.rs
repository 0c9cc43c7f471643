//! `crds/` is what the binary prints, and the schema keeps what tools rely on.

use chatcaptain_operator::crd;
use serde_json::Value;

use crate::hold;

#[test]
fn the_files_are_what_the_code_generates() {
    for definition in crd::all() {
        let path = format!("crds/{}.yaml", definition.spec.names.plural);
        hold(&path, &crd::yaml(&definition).unwrap());
    }
}

#[test]
fn nothing_below_spec_has_a_default() {
    for schema in schemas() {
        let spec = schema.pointer("/properties/spec").unwrap().to_string();
        assert!(!spec.contains("\"default\":"), "a default below spec would be a diff in git: {spec}");
    }
}

#[test]
fn a_newborn_is_not_taken_for_done() {
    for schema in schemas() {
        let default = schema.pointer("/properties/status/default").unwrap();
        assert_eq!(default, &serde_json::json!({"observedGeneration": -1}));
    }
}

#[test]
fn no_format_is_one_that_the_api_server_warns_of() {
    for schema in schemas() {
        assert!(!schema.to_string().contains("\"uint"), "unsigned formats are none of Kubernetes'");
    }
}

#[test]
fn every_string_and_list_below_spec_is_bounded() {
    fn unbounded(path: &str, schema: &Value, found: &mut Vec<String>) {
        let bounded = ["maxLength", "enum", "maxItems"].iter().any(|bound| schema.get(bound).is_some());
        if matches!(schema["type"].as_str(), Some("string" | "array")) && !bounded {
            found.push(path.to_owned());
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            unbounded(&format!("{path}.{name}"), property, found);
        }
    }
    for schema in schemas() {
        let mut found = Vec::new();
        unbounded("spec", &schema["properties"]["spec"], &mut found);
        assert!(found.is_empty(), "without a bound the API server may refuse the rules: {found:?}");
    }
}

fn schemas() -> Vec<Value> {
    let schema = |definition| {
        serde_json::to_value::<_>(definition).unwrap()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
            .clone()
    };
    crd::all().into_iter().map(schema).collect()
}
