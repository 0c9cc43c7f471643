//! Rollback: the bodies it takes, what it acts on, whether it exists.

use serde_json::json;

use crate::client::Service;

/// A service with `1.0` and then `1.1` live in prod, and the id of `1.0`.
fn moved_on() -> (Service, String) {
    let service = Service::friendly();
    let first = service.created("a");
    service.deploy(&first, "prod");
    service.create("b", "prod");
    assert_eq!(service.live("prod").as_deref(), Some("1.1"));
    (service, first)
}

#[test]
fn body_environment_takes_an_environment_or_none() {
    let (service, first) = moved_on();
    for wrong in [json!({"environment": "dev"}), json!({"reason": "x"})] {
        assert_eq!(service.rollback(&first, wrong).status, 400);
    }
    let answer = service.rollback(&first, json!({"environment": "prod"}));
    assert_eq!((answer.status, answer.json()), (200, json!({"rolledBack": true})));
    assert_eq!(service.live("prod").as_deref(), Some("1.0"));
    assert_eq!(service.live("test"), None);
}

#[test]
fn without_an_environment_it_acts_where_the_version_was_live() {
    let (service, first) = moved_on();
    service.create("c", "test");
    assert_eq!(service.rollback(&first, json!({})).status, 200);
    assert_eq!(service.live("prod").as_deref(), Some("1.0"));
    assert_eq!(service.live("test").as_deref(), Some("1.2"));
    let never = service.created("d");
    assert_eq!(service.rollback(&never, json!({})).status, 400);
}

#[test]
fn an_absent_body_is_an_empty_one() {
    let (service, first) = moved_on();
    let path = format!("/v1/chatbots/bot/versions/{first}/rollback");
    assert_eq!(service.call("POST", &path, None).status, 200);
    assert_eq!(service.live("prod").as_deref(), Some("1.0"));
}

#[test]
fn body_none_refuses_any_property() {
    let (service, first) = moved_on();
    service.patch(json!({"rollbackBody": "none"}));
    assert_eq!(service.rollback(&first, json!({"environment": "prod"})).status, 400);
    assert_eq!(service.live("prod").as_deref(), Some("1.1"));
    assert_eq!(service.rollback(&first, json!({})).status, 200);
    assert_eq!(service.live("prod").as_deref(), Some("1.0"));
}

#[test]
fn body_can_require_a_property() {
    let (service, first) = moved_on();
    service.patch(json!({"rollbackBody": {"requires": "reason"}}));
    let answer = service.rollback(&first, json!({"environment": "prod"}));
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["message"], json!(["reason should not be empty"]));
    let more = json!({"environment": "prod", "reason": "x", "other": 1});
    assert_eq!(service.rollback(&first, more).status, 400);
    let right = json!({"environment": "test", "reason": "x"});
    assert_eq!(service.rollback(&first, right).status, 200);
    assert_eq!(service.live("test").as_deref(), Some("1.0"));
}

#[test]
fn acting_on_the_working_copy_changes_nothing_live() {
    let (service, first) = moved_on();
    service.patch(json!({"rollbackActs": "workingCopy"}));
    let answer = service.rollback(&first, json!({"environment": "prod"}));
    assert_eq!(answer.json(), json!({"rolledBack": true}));
    assert_eq!(service.live("prod").as_deref(), Some("1.1"));
    let last = service.simulator.log().pop().unwrap();
    assert_eq!((last.version, last.environment), (first, None));
}

#[test]
fn the_route_can_be_missing() {
    let (service, first) = moved_on();
    service.patch(json!({"rollbackAvailable": false}));
    let body = json!({"environment": "prod"});
    let answer = service.rollback(&first, body.clone());
    assert_eq!((answer.status, &answer.json()["error"]), (404, &json!("Not Found")));
    service.patch(json!({"rollbackMissingStatus": 405}));
    assert_eq!(service.rollback(&first, body).status, 405);
    assert_eq!(service.live("prod").as_deref(), Some("1.1"));
}
