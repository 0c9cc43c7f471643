//! What `deploy/monitoring` holds, judged by Prometheus' own tool, and compared with the metrics that the operator has.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
};

use chatcaptain_operator::telemetry::METRICS;
use serde_json::Value;
use support::{
    generated::{read, root},
    promtool,
};
use tempfile::TempDir;

fn alerts() -> Value {
    serde_saphyr::from_str(&read("deploy/monitoring/alerts.yaml")).unwrap()
}

fn rules(alerts: &Value) -> Vec<&Value> {
    let groups = alerts["spec"]["groups"].as_array().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect()
}

/// Runs the unit tests on each of these rules; what promtool says of each. All in one run, as its start takes the longest.
fn test_alerts(variants: &[Value]) -> Vec<String> {
    let directory = TempDir::new().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    let tests = read("deploy/monitoring/alerts_test.yaml");
    let mut files = Vec::new();
    for (number, alerts) in variants.iter().enumerate() {
        // JSON is YAML
        write(&format!("rules-{number}.yaml"), &alerts["spec"].to_string());
        let file = format!("test-{number}.yaml");
        write(&file, &tests.replace("rules.yaml", &format!("rules-{number}.yaml")));
        files.push(file);
    }
    let args: Vec<&str> = ["test", "rules"].into_iter().chain(files.iter().map(String::as_str)).collect();
    let (_, said) = promtool(directory.path(), &args, "");
    let parts: Vec<String> = said.split("Processing test file: ").skip(1).map(str::to_owned).collect();
    assert!(parts.iter().zip(&files).all(|(part, file)| part.starts_with(file.as_str())), "{said}");
    assert_eq!(parts.len(), variants.len(), "{said}");
    parts
}

#[test]
fn alerts_fire_when_they_should_and_at_no_other_time() {
    let said = test_alerts(&[alerts()]).remove(0);
    assert!(said.contains("SUCCESS"), "{said}");
}

/// Each condition and each wait matters to a unit test.
#[test]
fn alert_that_is_changed_fails_its_unit_test() {
    let original = alerts();
    let (mut changed, mut variants) = (Vec::new(), Vec::new());
    let mut change = |number: usize, what: &str, field: &str, value: String| {
        let mut alerts = original.clone();
        let rule = &mut alerts["spec"]["groups"][0]["rules"][number];
        changed.push(format!("{} {what}", rule["alert"].as_str().unwrap()));
        rule[field] = value.into();
        variants.push(alerts);
    };
    for (number, rule) in rules(&original).into_iter().enumerate() {
        let never = format!("({}) and on () vector(1) == 0", rule["expr"].as_str().unwrap());
        change(number, "never fires", "expr", never);
        if rule.get("for").is_some() {
            change(number, "does not wait", "for", "0s".to_owned());
        }
    }
    assert!(changed.len() > 20, "{changed:?}");
    for (what, said) in changed.iter().zip(test_alerts(&variants)) {
        assert!(!said.contains("SUCCESS"), "{what}, and no unit test notices: {said}");
    }
}

#[test]
fn each_alert_has_a_section_in_the_runbook() {
    let page = read("deploy/monitoring/README.md");
    let headings: BTreeSet<&str> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let alerts = alerts();
    let names: BTreeSet<&str> = rules(&alerts).iter().map(|rule| rule["alert"].as_str().unwrap()).collect();
    assert_eq!(headings, names);
    for rule in rules(&alerts) {
        let name = rule["alert"].as_str().unwrap();
        let anchor = format!("deploy/monitoring/README.md#{}", name.to_lowercase());
        assert_eq!(rule["annotations"]["runbook"], anchor, "{name}");
        assert!(matches!(rule["labels"]["severity"].as_str(), Some("warning" | "critical")), "{name}");
    }
}

/// The queries of the dashboard, with values for Grafana's variables.
fn queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read("deploy/monitoring/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    targets
        .map(|target| {
            let query = target["expr"].as_str().unwrap();
            query.replace("$__rate_interval", "5m").replace("$__range", "1d").replace("$namespace", ".*")
        })
        .collect()
}

#[test]
fn queries_of_the_dashboard_are_valid() {
    let queries = queries();
    assert!(queries.len() > 15, "{queries:?}");
    let mut rules = String::from("groups:\n- name: dashboard\n  rules:\n");
    for (number, query) in queries.iter().enumerate() {
        writeln!(rules, "  - {{record: 'dashboard:{number}', expr: {}}}", Value::from(query.as_str()))
            .unwrap();
    }
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("rules.yaml"), rules).unwrap();
    let (ok, said) = promtool(directory.path(), &["check", "rules", "rules.yaml"], "");
    assert!(ok, "{said}");
}

/// A metric or label that is renamed shows here.
#[test]
fn queries_name_only_metrics_and_labels_that_exist() {
    let labels: BTreeMap<&str, &[&str]> = METRICS.iter().map(|metric| (metric.name, metric.labels)).collect();
    // of every target
    let common = ["job", "pod", "le"];
    let alerts = alerts();
    let alerts = rules(&alerts).into_iter().map(|rule| rule["expr"].as_str().unwrap().to_owned());
    let mut used = BTreeSet::new();
    for query in queries().into_iter().chain(alerts) {
        let metrics = words(&without_strings(&query))
            .into_iter()
            .filter(|word| word.starts_with("chatcaptain_") || word.starts_with("process_"))
            .collect::<Vec<_>>();
        assert!(!metrics.is_empty(), "{query}");
        let mut known: BTreeSet<&str> = common.into();
        for name in &metrics {
            let name = name.trim_end_matches("_bucket");
            let of_metric = labels.get(name).unwrap_or_else(|| panic!("no metric {name}: {query}"));
            known.extend(of_metric.iter());
            used.insert(name.to_owned());
        }
        for label in named_labels(&query) {
            assert!(known.contains(label.as_str()), "no label {label}: {query}");
        }
    }
    assert!(used.len() > 15, "{used:?}");
}

/// What is between braces and what follows `by` and `on`.
fn named_labels(query: &str) -> Vec<String> {
    let query = without_strings(query);
    let mut labels = Vec::new();
    for (open, close) in [("{", '}'), ("by (", ')'), ("on (", ')')] {
        for rest in query.split(open).skip(1) {
            labels.extend(words(rest.split(close).next().unwrap()));
        }
    }
    labels
}

fn without_strings(query: &str) -> String {
    query.split('"').step_by(2).collect::<Vec<_>>().join(" ")
}

fn words(text: &str) -> Vec<String> {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    text.split(|c| !in_word(c)).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[test]
fn monitors_scrape_the_port_of_the_shipped_objects() {
    let service = read("deploy/operator/service.yaml");
    assert!(service.contains("- name: http\n"), "{service}");
    for file in ["servicemonitor", "podmonitor"] {
        let monitor: Value = serde_saphyr::from_str(&read(format!("deploy/monitoring/{file}.yaml"))).unwrap();
        let spec = &monitor["spec"];
        let endpoints = spec.get("endpoints").or(spec.get("podMetricsEndpoints")).unwrap();
        assert_eq!((&endpoints[0]["port"], &endpoints[0]["honorLabels"]), (&"http".into(), &true.into()));
        assert_eq!(spec["selector"]["matchLabels"]["app.kubernetes.io/name"], "chatcaptain-operator");
    }
    assert!(root().join("deploy/monitoring/kustomization.yaml").exists());
}
