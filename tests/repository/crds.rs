//! `crds/` is what the binary prints, and the schema keeps what tools rely on.

use std::collections::BTreeMap;

use chatcaptain_operator::crd;
use serde_json::Value;

use crate::{hold, rust_files};

#[test]
fn the_files_are_what_the_code_generates() {
    for definition in crd::all() {
        let path = format!("crds/{}.yaml", definition.spec.names.plural);
        let yaml = crd::yaml(&definition).unwrap();
        hold(&path, &yaml);
        // Helm reads nothing outside of the chart
        hold(&path.replace("crds/", "deploy/chart/files/"), &yaml);
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

/// `kubectl explain` shows a field as its own doc comment describes it, and what each value of an enum does. The
/// expectation is read from the source text: the generator of the schema has no say in it.
#[test]
fn descriptions_are_the_doc_comments_of_the_fields() {
    let items = documented_items();
    for (schema, kind) in schemas().iter().zip(["ChatbotVersion", "ChatbotDeployment"]) {
        for part in ["Spec", "Status"] {
            let property = &schema["properties"][part.to_lowercase()];
            let name = format!("{kind}{part}");
            assert_eq!(property["description"], items[&name].doc, "{name}");
            compare_descriptions(&items, &name, property);
        }
    }
}

/// A struct or an enum: its doc comment, and the JSON name, doc comment and Rust type of each field or value.
struct DocumentedItem {
    doc: String,
    is_enum: bool,
    members: Vec<(String, String, String)>,
}

type DocumentedItems = BTreeMap<String, DocumentedItem>;

fn compare_descriptions(items: &DocumentedItems, name: &str, schema: &Value) {
    for (field, property) in schema["properties"].as_object().unwrap() {
        let (_, doc, kind) = find_field(items, name, field);
        let inner = kind.trim_start_matches("Option<").trim_start_matches("Vec<").trim_end_matches('>');
        let expected = match items.get(inner).filter(|item| item.is_enum && !kind.starts_with("Vec")) {
            Some(values) => {
                values.members.iter().fold(format!("{doc}\n\nPossible enum values:"), |text, value| {
                    format!("{text}\n- {}: {}", value.0, value.1)
                })
            }
            None => doc.clone(),
        };
        assert_eq!(property["description"], expected, "{name}.{field}");
        assert!(property["items"]["description"].is_null(), "kubectl explain {name}.{field} would show two");
        if items.get(inner).is_some_and(|item| !item.is_enum) {
            let nested = if property["items"].is_object() { &property["items"] } else { property };
            compare_descriptions(items, inner, nested);
        }
    }
}

/// The field of a struct, or of one that is flattened into it.
fn find_field<'a>(items: &'a DocumentedItems, name: &str, field: &str) -> &'a (String, String, String) {
    let members = &items[name].members;
    members.iter().find(|member| member.0 == field).unwrap_or_else(|| {
        let common = members.iter().find(|member| member.0 == "common");
        let common = common.unwrap_or_else(|| panic!("{name} has no field {field}"));
        find_field(items, &common.2, field)
    })
}

/// Every public struct and enum of `src/crd`, with the `///` lines above it and above its members.
fn documented_items() -> DocumentedItems {
    let mut items = BTreeMap::new();
    for path in rust_files("src/crd") {
        let text = std::fs::read_to_string(path).unwrap();
        let (mut doc, mut lowercase, mut open) = (Vec::new(), false, None);
        for line in text.lines().map(str::trim) {
            let words: Vec<&str> = line.split([' ', '<', ':', ',']).filter(|word| !word.is_empty()).collect();
            match words[..] {
                ["///", ..] => doc.push(line[3..].trim()),
                ["pub", keyword @ ("struct" | "enum"), name, .., "{"] => {
                    let is_enum = keyword == "enum";
                    let item = DocumentedItem { doc: paragraph(&mut doc), is_enum, members: Vec::new() };
                    items.insert(name.to_owned(), item);
                    open = Some((name.to_owned(), std::mem::take(&mut lowercase)));
                }
                ["pub", field, ..] if line.ends_with(',') && line.contains(": ") => {
                    let kind = line.split_once(": ").unwrap().1.trim_end_matches(',');
                    add_member(&mut items, open.as_ref(), camel_case(field), &mut doc, kind);
                }
                [variant] if line.ends_with(',') && open.is_some() => {
                    let lower = open.as_ref().is_some_and(|(_, lowercase)| *lowercase);
                    let name = if lower { variant.to_lowercase() } else { variant.to_owned() };
                    add_member(&mut items, open.as_ref(), name, &mut doc, "");
                }
                [] => doc.clear(),
                ["}"] => open = None,
                _ => lowercase |= line.contains("rename_all = \"lowercase\""),
            }
        }
    }
    items
}

fn add_member(
    items: &mut DocumentedItems,
    open: Option<&(String, bool)>,
    name: String,
    doc: &mut Vec<&str>,
    kind: &str,
) {
    let doc = paragraph(doc);
    if let Some((item, _)) = open {
        items.get_mut(item).unwrap().members.push((name, doc, kind.to_owned()));
    }
}

/// The lines of a doc comment as one line: where they break means nothing.
fn paragraph(lines: &mut Vec<&str>) -> String {
    std::mem::take(lines).join(" ")
}

fn camel_case(field: &str) -> String {
    let mut words = field.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |text, word| text + &word[..1].to_uppercase() + &word[1..])
}
