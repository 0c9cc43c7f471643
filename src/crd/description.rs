//! Descriptions of the fields in the CRDs, as `kubectl explain` shows them.
//!
//! kube puts an enum's own description in place of that of the optional field it stands in, and drops what its variants
//! say. Both are still in the schema that schemars derives, so they are taken from there.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray,
};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;

/// Gives each field of `schema` its own doc comment, followed by those of the values it may have.
pub(super) fn describe<K: JsonSchema>(schema: &mut JSONSchemaProps) {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let derived = settings.into_generator().into_root_schema_for::<K>();
    describe_field(schema, derived.as_value());
}

fn describe_field(schema: &mut JSONSchemaProps, derived: &Value) {
    // an optional enum is `anyOf` of the enum and null
    let inner = derived.pointer("/anyOf/0").unwrap_or(derived);
    let own = derived["description"].as_str().or(inner["description"].as_str());
    schema.description = own.map(|own| join_lines(own) + &values(inner));
    for (name, property) in schema.properties.iter_mut().flatten() {
        describe_field(property, &inner["properties"][name]);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        describe_field(items, &inner["items"]);
        // kubectl would print it after that of the list
        items.description = None;
    }
}

/// What each value of an enum means, in the form of the API reference of Kubernetes.
fn values(derived: &Value) -> String {
    let mut text = String::new();
    for value in derived["oneOf"].as_array().into_iter().flatten() {
        if let (Some(name), Some(meaning)) = (value["const"].as_str(), value["description"].as_str()) {
            text = text + "\n- " + name + ": " + &join_lines(meaning);
        }
    }
    if text.is_empty() { text } else { format!("\n\nPossible enum values:{text}") }
}

/// A doc comment breaks its lines where the source file does, which means nothing elsewhere.
fn join_lines(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}
