//! The control routes: settings, record, state, reset and hands.

use serde_json::{Value, json};
use simulator::{Actor, Environment, HandError, Operation, Settings};

use crate::client::Service;

fn refused(service: &Service, patch: Value) -> String {
    let answer = service.call("PATCH", "/_simulator/settings", Some(patch));
    assert_eq!(answer.status, 400);
    assert_eq!(answer.body.trim_end().lines().count(), 1, "{}", answer.body);
    answer.body
}

#[test]
fn settings_are_merged_key_by_key() {
    let service = Service::friendly();
    service.patch(json!({"rolloutMs": 5}));
    service.patch(json!({"listDelayMs": 6, "createAnswer": "bare"}));
    let shown = service.get("/_simulator/settings").json();
    assert_eq!((&shown["rolloutMs"], &shown["listDelayMs"]), (&json!(5), &json!(6)));
    assert_eq!(shown["createAnswer"], "bare");
    assert_eq!(service.simulator.settings(|s| s.rollout_ms), 5);
    service.patch(shown.clone());
    assert_eq!(service.get("/_simulator/settings").json(), shown);
}

#[test]
fn wrong_settings_are_refused_with_what_is_accepted() {
    let service = Service::friendly();
    let before = service.get("/_simulator/settings").body;
    let wrong = [
        ("createAnswer", json!("naked"), "wrapped | bare"),
        ("createStatus", json!(204), "200 | 201"),
        ("deployStatus", json!(500), "200 | 201 | 202"),
        ("refusedKey", json!(404), "401 | 403"),
        ("rollbackMissingStatus", json!(400), "404 | 405"),
        ("rollbackBody", json!({"needs": "x"}), "requires"),
        ("descriptions", json!({"cut": -1}), "cut"),
        ("rolloutMs", json!("5s"), "milliseconds"),
        ("throttle", json!({"answer": 418}), "429 | 403 | 503"),
        ("throttle", json!({"perSecond": 0}), "above 0"),
        ("throttle", json!({"burst": 0}), "at least 1"),
        ("throttle", json!({"rate": 1}), "perSecond"),
        ("faults", json!([{"kind": "explode"}]), "lateEffect"),
        ("faults", json!([{"kind": "cut", "probability": 2}]), "0 to 1"),
        ("faults", json!([{"kind": "cut", "oftn": 2}]), "times"),
        ("keys", json!({"CCSB-x": {"account": "a", "permissions": ["all"]}}), "chatbots.versions.list"),
    ];
    for (key, value, accepted) in wrong {
        let line = refused(&service, json!({key: value}));
        assert!(line.contains(key) && line.contains(accepted), "{line}");
    }
    refused(&service, json!([]));
    assert_eq!(service.get("/_simulator/settings").body, before);
}

#[test]
fn an_unknown_setting_is_named_and_nothing_is_changed() {
    let service = Service::friendly();
    let line = refused(&service, json!({"createAnser": "bare", "rolloutMs": 3}));
    assert!(line.contains("createAnser;") && line.contains("createAnswer"), "{line}");
    assert_eq!(service.simulator.settings(|s| s.rollout_ms), 0);
}

#[test]
fn settings_from_json_start_at_the_defaults() {
    assert_eq!(Settings::from_json("{}"), Ok(Settings::default()));
    assert!(Settings::from_json("{").is_err());
    assert_eq!(Settings::from_json(r#"{"seed": 4}"#).unwrap().seed, 4);
}

#[test]
fn the_help_names_every_route_and_setting() {
    let service = Service::friendly();
    let settings = service.get("/_simulator/settings").json();
    let help = service.get("/_simulator/").body;
    assert_eq!(service.get("/_simulator").body, help);
    let keys = settings.as_object().unwrap().keys();
    for word in keys.map(String::as_str).chain(["log", "counters", "calls", "state", "reset"]) {
        assert!(help.contains(word), "{word}");
    }
}

#[test]
fn log_records_effects_in_order() {
    let service = Service::friendly();
    let id = service.created("a");
    service.create("", "dev");
    service.create("b", "test");
    service.deploy(&id, "prod");
    service.rollback(&id, json!({"environment": "test"}));
    let other = service.created("c");
    service.delete(&other);
    let log = service.get("/_simulator/log").json();
    let column = |name: &str| -> Vec<Value> {
        log.as_array().unwrap().iter().map(|entry| entry[name].clone()).collect()
    };
    assert_eq!(column("sequence"), [1, 2, 3, 4, 5, 6]);
    let operations = ["create", "create", "deploy", "rollback", "create", "delete"];
    assert_eq!(column("operation"), operations);
    let environments = json!(["dev", "test", "prod", "test", "dev", null]);
    assert_eq!(json!(column("environment")), environments);
    assert_eq!(column("versionNumber"), ["1.0", "1.1", "1.0", "1.0", "1.2", "1.2"]);
    assert_eq!(column("name"), ["a", "b", "a", "a", "c", "c"]);
    assert_eq!(
        (&log[2]["version"], &log[2]["chatbot"], &log[2]["by"]),
        (&json!(id), &json!("bot"), &json!("api"))
    );
    assert!(log[0]["at"].is_string());
    assert_eq!(log, serde_json::to_value(service.simulator.log()).unwrap());
}

#[test]
fn counters_and_calls_record_every_call() {
    let service = Service::friendly();
    let id = service.created("a");
    service.create("", "dev");
    service.versions();
    service.get("/v1/chatbots/other/versions");
    service.delete(&id);
    let counters = service.get("/_simulator/counters").json();
    let creates = json!({"calls": 2, "tookEffect": 1, "byStatus": {"200": 1, "400": 1}});
    assert_eq!(counters["create"], creates);
    assert_eq!(counters["list"]["calls"], 2);
    assert_eq!(counters["status"], json!({"calls": 0, "tookEffect": 0, "byStatus": {}}));
    assert_eq!(counters["listCallsByChatbot"], json!({"bot": 1, "other": 1}));
    assert_eq!(service.simulator.counters().total_calls(), 5);
    let calls = service.get("/_simulator/calls").json();
    let mut last = calls[4].clone();
    assert!(last.as_object_mut().unwrap().remove("at").is_some());
    let expected = json!({"operation": "delete", "chatbot": "bot", "version": id, "key": "0001",
        "status": "200", "tookEffect": true});
    assert_eq!(last, expected);
    assert_eq!(calls[1]["tookEffect"], false);
}

#[test]
fn state_ignores_the_settings_that_hide_it() {
    let hiding =
        json!({"descriptions": "missing", "versionNumberField": "missing", "deployedField": "missing"});
    let service = Service::with(hiding);
    let id = service.created("a");
    service.deploy(&id, "prod");
    let state = service.get("/_simulator/state").json();
    assert_eq!((&state[0]["chatbot"], &state[0]["account"]), (&json!("bot"), &json!("default")));
    let version = &state[0]["versions"][0];
    assert_eq!((&version["description"], &version["versionNumber"]), (&json!("as told"), &json!("1.0")));
    assert!(version["deployed"].is_string());
    assert_eq!(state[0]["prod"]["live"]["version"], id);
    assert_eq!(state[0]["test"], json!({"live": null, "pending": null}));
}

#[test]
fn reset_forgets_everything_and_settings_if_asked() {
    let service = Service::with(json!({"createStatus": 201}));
    service.created("a");
    assert_eq!(service.call("POST", "/_simulator/reset?keepSettings=true", None).status, 204);
    assert_eq!(service.simulator.counters().total_calls(), 0);
    assert!(service.simulator.log().is_empty() && service.simulator.calls().is_empty());
    assert!(service.versions().is_empty());
    assert_eq!(service.create("a", "dev").status, 201);
    assert_eq!(service.call("POST", "/_simulator/reset", None).status, 204);
    assert!(service.simulator.state().is_empty());
    assert_eq!(service.create("a", "dev").status, 200);
    service.simulator.reset_keeping_settings();
    assert!(service.simulator.log().is_empty());
}

#[test]
fn manual_changes_ignore_keys_throttles_and_faults() {
    let service = Service::with(json!({
        "throttleForMs": 60_000, "faults": [{"kind": "error500"}], "keys": {"CCSB-k": {"account": "mine"}},
    }));
    let body = json!({"name": "by hand", "description": "d"});
    let created = service.post("/_simulator/hand/bot/versions", body).json();
    let id = created["version"].as_str().unwrap();
    assert_eq!((&created["by"], &created["environment"]), (&json!("hand"), &json!(null)));
    let deploy = |body: Value| service.post("/_simulator/hand/bot/deploy", body).status;
    assert_eq!(deploy(json!({"versionId": id, "environment": "test"})), 200);
    assert_eq!(deploy(json!({"name": "by hand", "environment": "prod"})), 200);
    assert_eq!(deploy(json!({"name": "nobody", "environment": "prod"})), 404);
    assert_eq!(deploy(json!({"name": "by hand", "environment": "dev"})), 400);
    assert_eq!(deploy(json!({"environment": "prod"})), 400);
    let state = service.simulator.chatbot("bot").unwrap();
    assert_eq!((state.account.as_str(), state.live(Environment::Prod)), ("mine", Some(id)));
    let path = format!("/_simulator/hand/bot/versions/{id}");
    assert_eq!(service.call("DELETE", &path, None).status, 409);
    service.patch(json!({"deleteLive": "accepted"}));
    assert_eq!(service.call("DELETE", &path, None).status, 200);
    assert_eq!(service.call("DELETE", &path, None).status, 404);
    assert_eq!(service.effects(), ["create", "deploy", "deploy", "delete"]);
    let log = service.simulator.log();
    assert!(log.iter().all(|entry| entry.by == Actor::Hand));
}

#[test]
fn manual_changes_work_in_process() {
    let service = Service::friendly();
    let hand = &service.simulator;
    let id = hand.hand_create("bot", "a", Some("d")).unwrap().version;
    let entry = hand.hand_deploy("bot", "a", Environment::Prod).unwrap();
    assert_eq!((entry.operation, &entry.version), (Operation::Deploy, &id));
    assert_eq!(service.live("prod").as_deref(), Some("1.0"));
    let error: HandError = hand.hand_delete("bot", &id).unwrap_err();
    assert_eq!((error.status, error.to_string().is_empty()), (409, false));
    let second = hand.hand_create("bot", "b", None).unwrap().version;
    assert_eq!(hand.hand_delete("bot", &second).unwrap().operation, Operation::Delete);
    assert_eq!(service.versions().len(), 1);
    assert!(hand.hand_create("bot", "", None).is_err());
    assert!(hand.hand_deploy("bot", "a", Environment::Dev).is_err());
}
