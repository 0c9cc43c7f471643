//! Deploying is asynchronous: what is live when, and what never becomes live.

use serde_json::json;
use simulator::Environment;

use crate::client::{Service, eventually};

#[test]
fn a_rollout_takes_its_time() {
    let service = Service::with(json!({"rolloutMs": 3_600_000}));
    let id = service.created("a");
    assert_eq!(service.deploy(&id, "prod").status, 200);
    assert_eq!(service.live("prod"), None);
    assert_eq!(service.versions()[0].get("deployed"), None);
    let state = service.simulator.chatbot("bot").unwrap();
    assert_eq!(state.prod.pending.unwrap().version, id);
    service.patch(json!({"rolloutMs": 30}));
    service.deploy(&id, "prod");
    eventually("it is live", || service.live("prod").is_some());
    assert!(service.versions()[0]["deployed"].is_string());
    let state = service.simulator.chatbot("bot").unwrap();
    assert_eq!(state.live(Environment::Prod), Some(id.as_str()));
    assert_eq!(state.prod.pending, None);
}

#[test]
fn a_newer_rollout_replaces_the_one_under_way() {
    let service = Service::with(json!({"rolloutMs": 3_600_000}));
    let (first, second) = (service.created("a"), service.created("b"));
    service.deploy(&first, "prod");
    service.patch(json!({"rolloutMs": 0}));
    service.deploy(&second, "prod");
    let state = service.simulator.chatbot("bot").unwrap();
    assert_eq!(state.live(Environment::Prod), Some(second.as_str()));
    assert_eq!(state.prod.pending, None);
}

#[test]
fn a_rollback_is_a_rollout_too() {
    let service = Service::friendly();
    let id = service.created("a");
    service.deploy(&id, "prod");
    service.create("b", "prod");
    service.patch(json!({"rolloutMs": 3_600_000}));
    assert_eq!(service.rollback(&id, json!({})).status, 200);
    assert_eq!(service.live("prod").as_deref(), Some("1.1"));
}

#[test]
fn rollouts_can_fail() {
    let service = Service::with(json!({"rollout": "fails"}));
    let id = service.created("a");
    assert_eq!(service.deploy(&id, "prod").status, 200);
    service.patch(json!({"rollout": "succeeds"}));
    assert_eq!(service.live("prod"), None);
    service.deploy(&id, "prod");
    assert_eq!(service.live("prod").as_deref(), Some("1.0"));
}

#[test]
fn a_rollout_that_fails_can_leave_nothing_live() {
    let service = Service::friendly();
    let (good, bad) = (service.created("good"), service.created("bad"));
    service.deploy(&good, "test");
    service.deploy(&good, "prod");
    service.patch(json!({"failingRollouts": ["bad"], "failedRollout": "emptying"}));
    assert_eq!(service.deploy(&bad, "prod").status, 200);
    assert_eq!(service.live("prod"), None);
    assert_eq!(service.live("test").as_deref(), Some("1.0"), "the other environment is as it was");
    // it counts as having been live there: a rollback needs no environment
    assert_eq!(service.rollback(&good, json!({})).status, 200);
    assert_eq!(service.live("prod").as_deref(), Some("1.0"));
}

#[test]
fn single_versions_can_fail_by_name_or_id() {
    let service = Service::friendly();
    let (good, by_id) = (service.created("good"), service.created("by id"));
    service.patch(json!({"failingRollouts": ["bad", by_id]}));
    service.create("bad", "prod");
    service.deploy(&by_id, "prod");
    assert_eq!(service.live("prod"), None);
    service.deploy(&good, "prod");
    assert_eq!(service.live("prod").as_deref(), Some("1.0"));
}
