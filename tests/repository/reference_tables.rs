//! The reference tables in `crds/README.md` and `deploy/README.md` match the code.

use std::fmt::Write;

use chatcaptain_operator::{
    args::Cli,
    crd::{self, ConditionType, Reason, annotation},
    plan::EventReason,
    telemetry::METRICS,
};
use clap::CommandFactory;
use serde_json::Value;

use support::generated::{hold_section, table};

#[test]
fn reference_tables_match_the_code() {
    let tables = [
        ("crds/README.md", "fields", fields()),
        ("crds/README.md", "conditions", conditions()),
        ("crds/README.md", "reasons", reasons()),
        ("crds/README.md", "annotations", annotations()),
        ("crds/README.md", "events", events()),
        ("deploy/README.md", "cloud-events", cloud_events()),
        ("deploy/README.md", "metrics", metrics()),
        ("deploy/README.md", "flags", flags()),
    ];
    for (file, name, table) in tables {
        hold_section(file, name, &table);
    }
}

/// The table of every field of both kinds.
pub fn fields() -> String {
    let mut text = String::new();
    for definition in crd::all() {
        let kind = definition.spec.names.kind.clone();
        let value = serde_json::to_value(definition).unwrap();
        let schema = &value["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
        let mut rows = Vec::new();
        collect("spec", &schema["spec"], &mut rows);
        collect("status", &schema["status"], &mut rows);
        rows.retain(|row| !row[0].starts_with("`status.conditions[]"));
        write!(text, "\n**{kind}**\n\n{}", table(["field", "type", "meaning"], rows)).unwrap();
    }
    text + "\n"
}

fn collect(path: &str, schema: &Value, rows: &mut Vec<[String; 3]>) {
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let mut kind = match property["enum"].as_array() {
            Some(values) => values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
            None => property["type"].as_str().unwrap_or("object").to_owned(),
        };
        if path.starts_with("spec.") && required.contains(&name.as_str()) {
            kind += ", required";
        }
        let meaning = property["description"].as_str().unwrap_or_default();
        rows.push([format!("`{path}`"), kind, meaning.replace("\n\n", " ").replace('\n', "<br>")]);
        collect(&path, property, rows);
        collect(&format!("{path}[]"), &property["items"], rows);
    }
}

fn conditions() -> String {
    let row = |kind: &ConditionType| [format!("`{}`", kind.as_str()), kind.meaning().to_owned()];
    table(["condition", "meaning"], ConditionType::ALL.iter().map(row))
}

fn reasons() -> String {
    let row = |reason: &Reason| {
        [format!("`{}`", reason.as_str()), format!("{:?}", reason.verdict()), reason.meaning().to_owned()]
    };
    table(["reason", "verdict", "meaning"], Reason::ALL.iter().map(row))
}

fn annotations() -> String {
    let row = |(name, meaning): &(&str, &str)| [format!("`{name}`"), meaning.trim().to_owned()];
    table(["annotation", "meaning"], annotation::ALL.iter().map(row))
}

fn events() -> String {
    let row = |reason: &EventReason| [format!("`{}`", reason.as_str()), reason.meaning().to_owned()];
    table(["event", "meaning"], EventReason::ALL.iter().map(row))
}

fn cloud_events() -> String {
    let sent = EventReason::ALL.iter().filter(|reason| reason.is_sent());
    let row = |reason: &EventReason| {
        [format!("`dev.chatcaptain.{}`", reason.as_str()), reason.meaning().to_owned()]
    };
    table(["type", "meaning"], sent.map(row))
}

fn metrics() -> String {
    let row = |metric: &chatcaptain_operator::telemetry::Metric| {
        [
            format!("`{}`", metric.name),
            metric.kind.to_owned(),
            metric.labels.join(", "),
            metric.help.to_owned(),
        ]
    };
    table(["metric", "type", "labels", "meaning"], METRICS.iter().map(row))
}

fn flags() -> String {
    let command = Cli::command();
    let run = command.find_subcommand("run").unwrap();
    let flags = run.get_arguments().filter(|argument| argument.get_long().is_some_and(|long| long != "help"));
    let rows = flags.map(|flag| {
        let defaults: Vec<_> =
            flag.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        [
            format!("`--{}`", flag.get_long().unwrap()),
            format!("`{}`", flag.get_env().unwrap().to_string_lossy()),
            defaults.join(", "),
            flag.get_help().map(ToString::to_string).unwrap_or_default(),
        ]
    });
    table(["flag", "environment", "default", "meaning"], rows)
}
