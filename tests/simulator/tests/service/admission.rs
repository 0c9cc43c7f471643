//! Keys, permissions, accounts and throttling.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use simulator::Settings;

use crate::client::{Service, eventually};

fn keyed(service: &mut Service, key: &str) {
    key.clone_into(&mut service.key);
}

#[test]
fn any_key_of_the_right_form_is_the_same_account() {
    let mut service = Service::friendly();
    service.created("a");
    keyed(&mut service, "CCSB-another");
    assert_eq!(service.versions().len(), 1);
    for wrong in ["", "nonsense"] {
        keyed(&mut service, wrong);
        let answer = service.get("/v1/chatbots/bot/versions");
        assert_eq!((answer.status, &answer.json()["error"]), (401, &json!("Unauthorized")));
    }
}

#[test]
fn refused_keys_can_be_forbidden_instead() {
    let mut service = Service::with(json!({"refusedKey": 403}));
    keyed(&mut service, "nonsense");
    assert_eq!(service.status().status, 403);
    service.patch(json!({"refusedKey": 401}));
    assert_eq!(service.status().status, 401);
}

#[test]
fn configured_keys_are_the_only_ones_and_accounts_are_apart() {
    let mut service = Service::with(json!({"keys": {
        "CCSB-one": {"account": "one"},
        "CCSB-two": {"account": "two"},
        "CCSB-too": {"account": "two"},
    }}));
    assert_eq!(service.get("/v1/chatbots/bot/versions").status, 401);
    keyed(&mut service, "CCSB-two");
    service.created("a");
    keyed(&mut service, "CCSB-too");
    assert_eq!(service.versions().len(), 1);
    keyed(&mut service, "CCSB-one");
    assert!(service.versions().is_empty());
    let accounts: Vec<String> = service.simulator.state().into_iter().map(|s| s.account).collect();
    assert_eq!(accounts, ["one", "two"]);
}

#[test]
fn every_operation_needs_its_permission() {
    let all = [
        ("list", "chatbots.versions.list"),
        ("create", "chatbots.versions.create"),
        ("delete", "chatbots.versions.delete"),
        ("deploy", "chatbots.versions.deploy"),
        ("rollback", "chatbots.versions.deploy"),
        ("status", "chatbots.deployments.status"),
    ];
    let mut service = Service::friendly();
    let id = service.created("a");
    keyed(&mut service, "CCSB-some");
    for (_, granted) in all {
        let key = json!({"account": "default", "permissions": [granted]});
        service.patch(json!({"keys": {"CCSB-some": key}}));
        let answers = [
            ("list", service.get("/v1/chatbots/bot/versions")),
            ("create", service.create("b", "dev")),
            ("deploy", service.deploy(&id, "prod")),
            ("rollback", service.rollback(&id, json!({"environment": "prod"}))),
            ("status", service.status()),
            ("delete", service.delete(&id)),
        ];
        for (operation, answer) in answers {
            let needed = all.iter().find(|(name, _)| *name == operation).unwrap().1;
            assert_eq!(answer.status == 403, needed != granted, "{operation} by {granted}");
        }
    }
}

#[test]
fn permissions_are_denied_by_chatbot() {
    let service = Service::with(json!({"denied": {"bot": ["chatbots.versions.create"]}}));
    let answer = service.create("a", "dev");
    assert_eq!((answer.status, &answer.json()["message"]), (403, &json!("Forbidden resource")));
    assert_eq!(service.get("/v1/chatbots/bot/versions").status, 200);
    let body = json!({"name": "a", "environment": "dev"});
    assert_eq!(service.post("/v1/chatbots/other/versions", body).status, 200);
}

#[test]
fn a_bucket_throttles_each_key_on_its_own() {
    let throttle = json!({"perSecond": 5.0, "burst": 3});
    let mut service = Service::with(json!({"throttle": throttle}));
    let start = Instant::now();
    let mut admitted = 0;
    while admitted < 1000 && service.status().status == 200 {
        admitted += 1;
    }
    assert!(admitted >= 3);
    let gained = start.elapsed().as_secs_f64() * 5.0;
    assert!(f64::from(admitted) <= 3.0 + gained + 1.0);
    keyed(&mut service, "CCSB-another");
    assert_eq!(service.status().status, 200);
    keyed(&mut service, "CCSB-test-0001");
    eventually("the bucket fills again", || service.status().status == 200);
}

#[test]
fn throttled_calls_do_nothing_and_are_counted() {
    let service = Service::with(json!({"throttle": {"perSecond": 0.0001, "burst": 1}}));
    assert_eq!(service.create("a", "dev").status, 200);
    let answer = service.create("b", "dev");
    assert_eq!((answer.status, &answer.json()["error"]), (429, &json!("Too Many Requests")));
    assert_eq!(service.effects(), ["create"]);
    let creates = service.simulator.counters().create;
    assert_eq!((creates.calls, creates.took_effect, creates.by_status["429"]), (2, 1, 1));
}

#[test]
fn throttled_answers_have_three_statuses() {
    let service = Service::friendly();
    for status in [429, 403, 503] {
        let throttle = json!({"answer": status, "perSecond": 0.0001, "burst": 1});
        service.patch(json!({"throttle": throttle}));
        assert_eq!(service.status().status, 200, "a full bucket");
        let answer = service.status();
        assert_eq!(answer.status, status);
        let message = answer.json()["message"].as_str().unwrap().to_lowercase();
        assert!(message.contains("too many requests"), "{message}");
    }
}

#[test]
fn retry_after_has_three_forms() {
    let service = Service::with(json!({"retryAfterSeconds": 90}));
    let answer = |form: &str| -> Option<String> {
        let throttle = json!({"retryAfter": form});
        service.patch(json!({"throttle": throttle, "throttleForMs": 60_000}));
        let answer = service.status();
        assert_eq!(answer.status, 429);
        answer.header("retry-after").map(str::to_owned)
    };
    assert_eq!(answer("none"), None);
    assert_eq!(answer("seconds").as_deref(), Some("90"));
    let date = answer("date").unwrap();
    assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
}

#[test]
fn everything_can_be_throttled_for_a_while() {
    let mut service = Service::friendly();
    let throttle = |service: &Service, ms: u64| {
        let answer = service.post("/_simulator/throttle", json!({"ms": ms}));
        assert_eq!(answer.status, 204);
    };
    throttle(&service, 60_000);
    assert_eq!(service.status().status, 429);
    keyed(&mut service, "CCSB-another");
    assert_eq!(service.status().status, 429);
    throttle(&service, 0);
    assert_eq!(service.status().status, 200);
    throttle(&service, 50);
    eventually("it is over", || service.status().status == 200);
    service.simulator.throttle_for(Duration::from_mins(1));
    assert_eq!(service.status().status, 429);
    service.simulator.throttle_for(Duration::ZERO);
    service.simulator.settings(|settings| settings.throttle_for_ms = 60_000);
    assert_eq!(service.status().status, 429);
    assert_eq!(service.simulator.settings(|settings| settings.throttle_for_ms), 0);
}

#[test]
fn an_unlimited_throttle_only_sets_the_form() {
    let service = Service::with(json!({"throttle": {"answer": 503, "retryAfter": "none"}}));
    for _ in 0..20 {
        assert_eq!(service.status().status, 200);
    }
    let body: Value = service.get("/_simulator/settings").json();
    assert_eq!(body["throttle"]["answer"], 503);
}

#[test]
fn latency_does_not_lose_the_call_of_a_client_that_gives_up() {
    let service = Service::with(json!({"latencyMs": 40}));
    let start = Instant::now();
    assert_eq!(service.status().status, 200);
    assert!(start.elapsed() >= Duration::from_millis(40));
    service.simulator.set(Settings { latency_ms: 200, ..Settings::default() });
    service.send_and_leave(&json!({"name": "a", "environment": "dev"}));
    assert!(service.effects().is_empty());
    eventually("it takes effect", || service.effects() == ["create"]);
}
