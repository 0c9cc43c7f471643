//! The HTTP paths that Kubernetes and Prometheus request.

use std::path::Path;

use chatcaptain_operator::telemetry::METRICS;
use simulator::Settings;
use support::{World, promtool};

#[test]
fn probes_and_metrics_are_served() {
    let world = World::new(Settings::default());
    world.apply_version("a", &[]);
    world.wait_until_version_ready("a");
    world.apply_deployment("test", "a", &[]);
    world.wait_until_deployment_ready("test");
    world.wait_for_metric("chatcaptain_lead_time_seconds_count", &[r#"environment="test""#], 1);
    let creates = [r#"operation="create""#, r#"outcome="ok""#];
    world.wait_for_metric("chatcaptain_api_requests_total", &creates, 1);
    let ready = [r#"kind="ChatbotVersion""#, r#"name="a""#, r#"type="Ready""#];
    world.wait_for_metric("chatcaptain_condition", &ready, 1);
    let operator = world.operator();
    let operator = operator.as_ref().unwrap();
    assert_eq!(operator.http_get("/livez"), (200, "ok".to_owned()));
    assert_eq!(operator.http_get("/readyz"), (200, "ok".to_owned()));
    assert_eq!(operator.http_get("/else").0, 404);
    // its own replica leads without election
    assert_eq!(operator.metric("chatcaptain_leader", &[]), 1);

    let (_, text) = operator.http_get("/metrics");
    let (ok, said) = promtool(Path::new("/"), &["check", "metrics"], &text);
    assert!(ok && said.is_empty(), "{said}");
    for metric in METRICS {
        let described = format!("# TYPE {} {}\n", metric.name, metric.kind);
        assert!(text.contains(&described), "{described} is missing: {text}");
    }
}

#[test]
fn log_level_changes_while_the_operator_runs() {
    let world = World::new(Settings::default());
    let set = |filter: &str| {
        let operator = world.operator();
        operator.as_ref().unwrap().http("PUT", "/log-level", filter)
    };
    let (status, error) = set("loud");
    assert!(status == 400 && error.contains("expected error, warn, info, debug"), "{status} {error}");
    assert_eq!(set("error").0, 200);
    world.apply_version("a", &[]);
    world.wait_until_version_ready("a");
    assert!(!world.log().contains("Created version"), "{}", world.log());
    assert_eq!(set("info").0, 200);
    world.apply_version("b", &[]);
    world.wait_until_version_ready("b");
    world.eventually("it logs again", || world.log().contains("Created version").then_some(()));
}

/// Its series are gone with the object, and say of an object that is being deleted that it is.
#[test]
fn series_vanish_with_their_object() {
    let world = World::new(Settings::default());
    world.apply_version("gone", &[]);
    world.apply_deployment("test", "gone", &[]);
    world.wait_until_deployment_ready("test");
    let series = || {
        let operator = world.operator();
        let (_, text) = operator.as_ref().unwrap().http_get("/metrics");
        text.lines().filter(|line| line.contains(r#"name="gone""#) || line.contains(r#"name="test""#)).count()
    };
    world.eventually("both have their series", || (series() == 3).then_some(()));
    world.wait_for_metric(
        "chatcaptain_rollouts_total",
        &[r#"operation="deploy""#, r#"result="succeeded""#],
        1,
    );
    world.wait_for_metric("chatcaptain_lead_time_seconds_count", &[r#"environment="test""#], 1);
    world.kubectl(
        &[
            "patch",
            "cbv",
            "gone",
            "--type=merge",
            "-p",
            r#"{"metadata":{"finalizers":["example.com/wait","chatcaptain.dev/finalizer"]}}"#,
        ],
        "",
    );
    world.delete("cbd", "test");
    world.delete("cbv", "gone");
    world.wait_for_metric("chatcaptain_condition", &[r#"name="gone""#, r#"type="Deleting""#], 1);
    world.kubectl(&["patch", "cbv", "gone", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#], "");
    world.eventually("no series is left", || (series() == 0).then_some(()));
}
