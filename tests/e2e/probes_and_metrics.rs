//! The pages that Kubernetes and Prometheus ask for.

use simulator::Settings;
use support::World;

#[test]
fn it_serves_its_pages() {
    let world = World::new(Settings::default());
    world.apply_version("a", &[]);
    world.ready_version("a");
    let creates = [r#"operation="create""#, r#"outcome="ok""#];
    world.counted("chatcaptain_api_requests_total", &creates, 1);
    let ready = [r#"kind="ChatbotVersion""#, r#"name="a""#, r#"type="Ready""#];
    world.counted("chatcaptain_condition", &ready, 1);
    let operator = world.operator();
    let operator = operator.as_ref().unwrap();
    assert_eq!(operator.page("/livez"), (200, "ok".to_owned()));
    assert_eq!(operator.page("/readyz"), (200, "ok".to_owned()));
    assert_eq!(operator.page("/else").0, 404);
    // its own replica leads where nobody is elected
    assert_eq!(operator.metric("chatcaptain_leader", &[]), 1);
}
