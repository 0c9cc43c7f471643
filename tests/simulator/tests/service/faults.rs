//! Faults: what the client sees, and whether the effect happened.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Service, eventually};

fn faulty(kind: &str) -> Service {
    Service::with(json!({"faults": [{"operation": "create", "kind": kind, "times": 1}]}))
}

fn create_body() -> Value {
    json!({"name": "a", "environment": "dev"})
}

#[test]
fn errors_before_the_effect() {
    for (kind, status) in [("error500", 500), ("html502", 502)] {
        let service = faulty(kind);
        let answer = service.create("a", "dev");
        assert_eq!(answer.status, status);
        assert!(service.effects().is_empty(), "{kind}");
        assert_eq!(service.create("a", "dev").status, 200);
    }
}

#[test]
fn a_refusal_comes_in_either_form_before_the_effect() {
    for (form, status) in [("http", 409), ("ok", 200)] {
        let service = faulty("refused");
        service.patch(json!({"failuresAs": form}));
        let answer = service.create("a", "dev");
        assert_eq!(answer.status, status);
        assert!(answer.body.contains("Quota reached"), "{}", answer.body);
        assert!(service.effects().is_empty(), "{form}");
        assert_eq!(service.create("a", "dev").status, 200);
    }
}

#[test]
fn errors_after_the_effect() {
    for (kind, status) in [("error500After", 500), ("html502After", 502), ("html504After", 504)] {
        let service = faulty(kind);
        let answer = service.create("a", "dev");
        assert_eq!(answer.status, status);
        assert_eq!(service.effects(), ["create"], "{kind}");
        let call = service.simulator.calls().pop().unwrap();
        assert!(call.took_effect && call.status == status.to_string());
    }
}

#[test]
fn a_gateway_answers_html_and_the_service_json() {
    let answer = faulty("html502").create("a", "dev");
    assert_eq!(answer.header("content-type"), Some("text/html"));
    assert!(answer.body.starts_with("<html>"));
    let answer = faulty("error500").create("a", "dev");
    assert_eq!(answer.json(), json!({"statusCode": 500, "message": "Internal server error"}));
}

#[test]
fn a_cut_ends_the_connection_before_the_effect() {
    let service = faulty("cut");
    let bytes = service.bytes("POST", "/v1/chatbots/bot/versions", Some(create_body()));
    assert!(bytes.is_empty(), "{}", String::from_utf8_lossy(&bytes));
    assert!(service.effects().is_empty());
    let creates = service.simulator.counters().create;
    assert_eq!((creates.calls, creates.took_effect, creates.by_status["cut"]), (1, 0, 1));
    assert_eq!(service.create("a", "dev").status, 200);
}

#[test]
fn a_cut_ends_the_connection_after_the_effect() {
    let service = faulty("cutAfter");
    let bytes = service.bytes("POST", "/v1/chatbots/bot/versions", Some(create_body()));
    assert!(bytes.is_empty(), "{}", String::from_utf8_lossy(&bytes));
    assert_eq!(service.effects(), ["create"]);
    let call = service.simulator.calls().pop().unwrap();
    assert!(call.took_effect && call.status == "cut");
}

#[test]
fn a_late_effect_happens_after_the_cut() {
    let fault = json!({"operation": "create", "kind": "lateEffect", "times": 1, "lateMs": 150});
    let service = Service::with(json!({"faults": [fault]}));
    let start = Instant::now();
    let bytes = service.bytes("POST", "/v1/chatbots/bot/versions", Some(create_body()));
    let early = service.effects().is_empty();
    // on a machine that stalls here, when it happened cannot be told
    assert!(early || start.elapsed() >= Duration::from_millis(150));
    assert!(bytes.is_empty());
    eventually("the effect", || service.effects() == ["create"]);
    assert!(start.elapsed() >= Duration::from_millis(150));
    let call = service.simulator.calls().pop().unwrap();
    assert!(call.took_effect && call.status == "cut");
    assert_eq!(service.simulator.counters().create.took_effect, 1);
}

#[test]
fn an_effect_may_come_after_a_client_that_waited_has_given_up() {
    let fault = json!({"operation": "create", "kind": "hangLate", "times": 1, "hangMs": 100, "lateMs": 300});
    let service = Service::with(json!({"faults": [fault]}));
    let start = Instant::now();
    let bytes = service.bytes("POST", "/v1/chatbots/bot/versions", Some(create_body()));
    assert!(start.elapsed() >= Duration::from_millis(100));
    let early = service.effects().is_empty();
    assert!(early || start.elapsed() >= Duration::from_millis(300));
    assert!(bytes.is_empty());
    eventually("the effect", || service.effects() == ["create"]);
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_eq!(service.simulator.counters().create.took_effect, 1);
}

#[test]
fn a_late_effect_does_not_survive_a_reset() {
    let fault = json!({"operation": "create", "kind": "lateEffect", "times": 1, "lateMs": 100});
    let service = Service::with(json!({"faults": [fault]}));
    let late = Instant::now() + Duration::from_millis(100);
    service.bytes("POST", "/v1/chatbots/bot/versions", Some(create_body()));
    service.simulator.reset();
    // a second late effect, sent after the first, shows that the first one's time has come
    service.patch(json!({"faults": [fault]}));
    service.bytes("POST", "/v1/chatbots/bot/versions", Some(create_body()));
    eventually("the second effect", || !service.effects().is_empty());
    assert!(Instant::now() >= late);
    assert_eq!(service.effects(), ["create"]);
}

#[test]
fn garbage_is_a_200_that_cannot_be_read() {
    let service = faulty("garbage");
    let answer = service.create("a", "dev");
    assert_eq!(answer.status, 200);
    assert!(serde_json::from_str::<Value>(&answer.body).is_err());
    assert_eq!(service.effects(), ["create"]);
}

#[test]
fn a_hang_answers_long_after_the_effect() {
    let fault = json!({"operation": "create", "kind": "hang", "hangMs": 60, "times": 1});
    let service = Service::with(json!({"faults": [fault]}));
    let start = Instant::now();
    assert_eq!(service.create("a", "dev").status, 200);
    assert!(start.elapsed() >= Duration::from_millis(60));
    let fault = json!({"operation": "create", "kind": "hang", "hangMs": 3_600_000});
    service.patch(json!({"faults": [fault]}));
    service.send_and_leave(&create_body());
    eventually("the effect, with no answer", || service.effects().len() == 2);
}

#[test]
fn a_fault_strikes_its_operation_only() {
    type Call = fn(&Service) -> u16;
    let calls: [(&str, Call); 6] = [
        ("list", |s| s.get("/v1/chatbots/bot/versions").status),
        ("create", |s| s.create("a", "dev").status),
        ("deploy", |s| s.deploy("vrsNone", "prod").status),
        ("rollback", |s| s.rollback("vrsNone", json!({})).status),
        ("delete", |s| s.delete("vrsNone").status),
        ("status", |s| s.status().status),
    ];
    let service = Service::friendly();
    for (struck, _) in calls {
        service.patch(json!({"faults": [{"operation": struck, "kind": "html502"}]}));
        for (operation, call) in calls {
            assert_eq!(call(&service) == 502, operation == struck, "{operation}, {struck}");
        }
    }
    service.patch(json!({"faults": [{"operation": "any", "kind": "html502"}]}));
    assert!(calls.iter().all(|(_, call)| call(&service) == 502));
}

#[test]
fn a_fault_can_be_for_one_chatbot_and_count_down() {
    let fault = json!({"kind": "error500", "chatbot": "bot", "times": 2});
    let service = Service::with(json!({"faults": [fault]}));
    assert_eq!(service.get("/v1/chatbots/other/versions").status, 200);
    assert_eq!(service.status().status, 500);
    assert_eq!(service.get("/_simulator/settings").json()["faults"][0]["times"], 1);
    assert_eq!(service.status().status, 500);
    assert_eq!(service.status().status, 200);
}

#[test]
fn probabilities_and_ids_follow_the_seed() {
    let run = |seed: u64| -> (Vec<u16>, Vec<Value>) {
        let service = Service::with(json!({
            "seed": seed,
            "faults": [{"kind": "error500", "operation": "status", "probability": 0.5}],
        }));
        let statuses = (0..40).map(|_| service.status().status).collect();
        service.created("a");
        let ids = service.versions().iter().map(|v| v["id"].clone()).collect();
        (statuses, ids)
    };
    let (statuses, ids) = run(7);
    let failed = statuses.iter().filter(|status| **status == 500).count();
    assert!((5..=35).contains(&failed), "{failed} of 40");
    assert_eq!(run(7), (statuses.clone(), ids.clone()));
    let other = run(8);
    assert!(other.0 != statuses && other.1 != ids);
    let never = json!([{"kind": "error500", "probability": 0}]);
    assert_eq!(Service::with(json!({"faults": never})).status().status, 200);
}
