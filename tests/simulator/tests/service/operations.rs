//! What the operations do when nothing is in the way, and what they refuse as malformed.

use serde_json::{Value, json};

use crate::client::{Service, eventually, request};

#[test]
fn create_for_dev_deploys_nothing() {
    let service = Service::friendly();
    let answer = service.create("a", "dev");
    assert_eq!(answer.json()["version"].get("deployed"), None);
    assert_eq!(service.status().json(), json!({}));
}

#[test]
fn create_for_an_environment_deploys_there_only() {
    let service = Service::friendly();
    service.create("a", "test");
    service.create("b", "prod");
    let status = service.status().json();
    assert_eq!(status["test"]["version"], "1.0");
    assert_eq!(status["prod"]["version"], "1.1");
    assert!(status["prod"]["id"].as_str().unwrap().starts_with("dpl"));
    assert_eq!(service.effects(), ["create", "create"]);
}

#[test]
fn version_numbers_count_per_chatbot_and_are_never_used_again() {
    let service = Service::friendly();
    service.created("a");
    let second = service.created("b");
    assert_eq!(service.delete(&second).json(), json!({"deleted": true}));
    service.created("c");
    let numbers: Vec<Value> =
        service.versions().iter().map(|version| version["versionNumber"].clone()).collect();
    assert_eq!(numbers, ["1.0", "1.2"]);
    let body = json!({"name": "a", "environment": "dev"});
    let other = service.post("/v1/chatbots/other/versions", body).json();
    assert_eq!(other["version"]["versionNumber"], "1.0");
}

#[test]
fn deploy_makes_live_and_moves_the_time_of_deployment() {
    let service = Service::friendly();
    let (first, second) = (service.created("a"), service.created("b"));
    service.deploy(&first, "prod");
    assert_eq!(service.live("prod").as_deref(), Some("1.0"));
    let deployed = service.versions()[0]["deployed"].clone();
    service.deploy(&second, "prod");
    assert_eq!(service.live("prod").as_deref(), Some("1.1"));
    assert_eq!(service.live("test"), None);
    eventually("a later time of deployment", || {
        service.deploy(&first, "prod");
        service.versions()[0]["deployed"] != deployed
    });
}

#[test]
fn create_says_everything_that_is_wrong() {
    let service = Service::friendly();
    let messages = |body: Value| {
        let answer = service.post("/v1/chatbots/bot/versions", body);
        let error = answer.json();
        assert_eq!(answer.status, 400);
        assert_eq!((&error["statusCode"], &error["error"]), (&json!(400), &json!("Bad Request")));
        error["message"].as_array().unwrap().len()
    };
    assert_eq!(messages(json!({"name": "", "environment": "dev"})), 1);
    assert_eq!(messages(json!({"name": 5, "environment": "dev"})), 2);
    assert_eq!(messages(json!({"name": "a", "environment": "live"})), 1);
    assert_eq!(messages(json!({"name": "a", "environment": "dev", "description": 1})), 1);
    assert_eq!(messages(json!({})), 3);
    assert_eq!(messages(json!([])), 1);
    assert!(service.effects().is_empty());
}

#[test]
fn unknown_properties_are_refused() {
    let service = Service::friendly();
    let body = json!({"name": "a", "environment": "dev", "externalId": "x"});
    let answer = service.post("/v1/chatbots/bot/versions", body);
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["message"], json!(["property externalId should not exist"]));
    let id = service.created("a");
    let path = format!("/v1/chatbots/bot/versions/{id}/deploy");
    let answer = service.post(&path, json!({"environment": "prod", "force": true}));
    assert_eq!(answer.json()["message"], json!(["property force should not exist"]));
    assert_eq!(service.live("prod"), None);
}

#[test]
fn deploy_takes_test_and_prod_only() {
    let service = Service::friendly();
    let id = service.created("a");
    for environment in ["dev", "live", ""] {
        assert_eq!(service.deploy(&id, environment).status, 400);
    }
    assert_eq!(service.effects(), ["create"]);
}

#[test]
fn a_body_that_is_not_json_is_refused() {
    let service = Service::friendly();
    let (address, path) = (service.simulator.address(), "/v1/chatbots/bot/versions");
    let answer = request(address, &service.key, "POST", path, "{name: a").unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 400 "));
    assert!(service.effects().is_empty());
}

#[test]
fn other_routes_and_methods_are_404_as_the_framework_says_it() {
    let service = Service::friendly();
    for (method, path) in [("GET", "/v2/x"), ("PUT", "/v1/chatbots/bot/versions")] {
        let answer = service.call(method, path, None);
        assert_eq!(answer.status, 404);
        assert_eq!(answer.json()["message"], format!("Cannot {method} {path}"));
    }
}

#[test]
fn list_delay_hides_new_versions_from_the_list_alone() {
    let service = Service::with(json!({"listDelayMs": 3_600_000}));
    let id = service.created("a");
    assert!(service.versions().is_empty());
    assert_eq!(service.deploy(&id, "prod").status, 200);
    assert_eq!(service.simulator.state()[0].versions.len(), 1);
    service.patch(json!({"listDelayMs": 0}));
    assert_eq!(service.versions().len(), 1);
    service.patch(json!({"listDelayMs": 30}));
    service.created("b");
    eventually("the list shows the version", || service.versions().len() == 2);
}
