//! What is refused and in which form: errors, `false` with 200, unknown ids and chatbots.

use serde_json::{Value, json};

use crate::client::Service;

#[test]
fn a_live_version_is_not_deleted() {
    let service = Service::friendly();
    let id = service.created("a");
    service.deploy(&id, "prod");
    let answer = service.delete(&id);
    assert_eq!((answer.status, &answer.json()["error"]), (409, &json!("Conflict")));
    assert_eq!(service.versions().len(), 1);
    service.patch(json!({"failuresAs": "ok"}));
    let answer = service.delete(&id);
    assert_eq!((answer.status, &answer.json()["deleted"]), (200, &json!(false)));
    assert!(answer.json()["error"].is_string());
    assert_eq!(service.versions().len(), 1);
    assert_eq!(service.effects(), ["create", "deploy"]);
}

#[test]
fn deleting_a_live_version_can_be_accepted() {
    let service = Service::with(json!({"deleteLive": "accepted"}));
    let id = service.created("a");
    service.deploy(&id, "prod");
    assert_eq!(service.delete(&id).json(), json!({"deleted": true}));
    assert!(service.versions().is_empty());
    assert_eq!(service.live("prod"), None);
}

#[test]
fn failures_come_as_errors_or_as_ok() {
    let service = Service::friendly();
    service.created("a");
    let all = || -> [Value; 3] {
        let answers = [
            service.delete("vrsNone"),
            service.deploy("vrsNone", "prod"),
            service.rollback("vrsNone", json!({})),
        ];
        answers.map(|answer| {
            let mut body = answer.json();
            body["status"] = answer.status.into();
            body
        })
    };
    for answer in all() {
        assert_eq!((&answer["status"], &answer["error"]), (&json!(404), &json!("Not Found")));
    }
    service.patch(json!({"failuresAs": "ok"}));
    let [deleted, deployed, rolled_back] = all();
    for answer in [&deleted, &deployed, &rolled_back] {
        assert_eq!((&answer["status"], &answer["error"]), (&json!(200), &json!("Version not found")));
    }
    assert_eq!(deleted["deleted"], false);
    assert_eq!(rolled_back["rolledBack"], false);
    let never = service.created("never live");
    let answer = service.rollback(&never, json!({}));
    assert_eq!((answer.status, &answer.json()["rolledBack"]), (200, &json!(false)));
}

#[test]
fn unknown_ids_have_three_forms() {
    let service = Service::friendly();
    for (form, status) in [("badRequest", 400), ("ok", 200), ("notFound", 404)] {
        service.patch(json!({"unknownId": form}));
        let answer = service.delete("vrsNone");
        assert_eq!(answer.status, status);
        assert!(answer.json()["error"].is_string());
        assert_eq!(answer.json()["deleted"] == false, form == "ok");
    }
}

#[test]
fn unknown_chatbots_can_be_refused() {
    let service = Service::friendly();
    service.created("a");
    service.patch(json!({"unknownChatbots": "refuse", "chatbots": ["registered"]}));
    let list = |bot: &str| service.get(&format!("/v1/chatbots/{bot}/versions"));
    assert_eq!(list("bot").status, 200);
    assert_eq!(list("registered").status, 200);
    assert_eq!(list("stranger").status, 404);
    let body = json!({"name": "a", "environment": "dev"});
    assert_eq!(service.post("/v1/chatbots/stranger/versions", body).status, 404);
    service.patch(json!({"failuresAs": "ok"}));
    let empty = list("stranger");
    assert_eq!((empty.status, &empty.json()["versions"]), (200, &json!([])));
    assert!(empty.json()["error"].is_string());
    service.patch(json!({"unknownChatbots": "accept"}));
    assert_eq!(list("stranger").json(), json!({"versions": []}));
}

#[test]
fn the_deployment_status_can_be_forbidden_or_missing() {
    let service = Service::friendly();
    for (form, status) in [("forbidden", 403), ("missing", 404), ("allowed", 200)] {
        service.patch(json!({"deploymentsStatus": form}));
        assert_eq!(service.status().status, status);
    }
}
