//! The API key appears nowhere but in requests to the service.

use chatcaptain_operator::crd::{ChatbotDeployment, ChatbotVersion};
use k8s_openapi::{ByteString, api::events::v1::Event};
use simulator::Settings;
use support::World;

const CANARY: &str = "CCSB-canary-Jq7ZtUx3MvKd";
/// Another one, which the service refuses.
const REFUSED: &str = "canary-Wb5RfNy8HgLs";

#[test]
fn api_key_is_in_no_log_status_event_or_metric() {
    let world = World::without_operator(Settings::default(), &[]);
    world.set_key(CANARY);
    world.start_with(&[("RUST_LOG", "trace")]);
    world.apply_version("a", &[]);
    world.apply_version("b", &[]);
    world.apply_deployment("test", "a", &[]);
    world.wait_until_deployment_ready("test");
    world.apply_deployment("test", "b", &[]);
    world.wait_until_deployment_ready("test");
    world.set_key(REFUSED);
    world.apply_version("c", &[]);
    world.wait_for_reason::<ChatbotVersion>("c", "AuthenticationFailed");
    world.set_key(CANARY);
    world.delete("chatbotversion", "a");
    world.wait_until_deleted::<ChatbotVersion>("a");
    world.wait_until_version_ready("c");

    let log = world.log();
    assert!(log.contains("TRACE"), "the log level is in effect");
    let (status, metrics) = world.operator().as_ref().unwrap().http_get("/metrics");
    assert_eq!(status, 200);
    let outputs = [
        log,
        metrics,
        format!("{:?}", world.cluster.list::<ChatbotVersion>(&world.namespace)),
        format!("{:?}", world.cluster.list::<ChatbotDeployment>(&world.namespace)),
        format!("{:?}", world.cluster.list::<Event>(&world.namespace)),
    ];
    for key in [CANARY, REFUSED] {
        // as in the data of a Secret
        let encoded = serde_json::to_string(&ByteString(key.into())).unwrap();
        for text in &outputs {
            for needle in [key, encoded.trim_matches('"')] {
                let line = text.lines().find(|line| line.contains(needle));
                assert!(line.is_none(), "{needle}: {}", line.unwrap());
            }
        }
    }
}
