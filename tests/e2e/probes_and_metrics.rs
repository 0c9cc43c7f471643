//! The HTTP paths that Kubernetes and Prometheus request.

use simulator::Settings;
use support::World;

#[test]
fn probes_and_metrics_are_served() {
    let world = World::new(Settings::default());
    world.apply_version("a", &[]);
    world.wait_until_version_ready("a");
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
}
