//! How answers look: bodies and statuses of writes, fields of versions.

use serde_json::json;

use crate::client::Service;

#[test]
fn a_version_carries_every_field() {
    let service = Service::friendly();
    let answer = service.create("Version 1.2.4", "test");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    let version = answer.json()["version"].clone();
    assert_eq!(service.versions(), std::slice::from_ref(&version));
    let id = version["id"].as_str().unwrap();
    assert!(id.starts_with("vrs") && id.len() == 13, "{id}");
    assert_eq!(version["name"], "Version 1.2.4");
    assert_eq!(version["description"], "as told");
    assert_eq!(version["versionNumber"], "1.0");
    assert_eq!(version["stats"], json!({}));
    assert!(version["modelId"].is_string());
    for field in ["created", "deployed"] {
        let time = version[field].as_str().unwrap();
        assert!(time.len() == 24 && time.ends_with('Z'), "{field}: {time}");
    }
}

#[test]
fn contents_are_those_of_the_version_s_name() {
    let service = Service::friendly();
    drop((service.create("a", "dev"), service.create("b", "dev")));
    service.patch(json!({"contents": {"a": {"modelId": 3, "stats": {"intents": 120}}, "b": {}}}));
    let [a, b] = &service.versions()[..] else { panic!("two versions") };
    assert_eq!((&a["modelId"], &a["stats"]), (&json!(3), &json!({"intents": 120})));
    assert_eq!((b.get("modelId"), b.get("stats")), (None, None));
}

#[test]
fn create_answer_has_five_forms() {
    let service = Service::friendly();
    let create = |form: &str| {
        service.patch(json!({"createAnswer": form}));
        let answer = service.create(form, "dev");
        let newest = service.versions().pop().unwrap();
        (answer, newest)
    };
    let (answer, newest) = create("wrapped");
    assert_eq!(answer.json(), json!({"version": newest}));
    let (answer, newest) = create("bare");
    assert_eq!(answer.json(), newest);
    let (answer, newest) = create("versionId");
    assert_eq!(answer.json(), json!({"versionId": newest["id"]}));
    let (answer, newest) = create("id");
    assert_eq!(answer.json(), json!({"id": newest["id"]}));
    let (answer, newest) = create("empty");
    assert_eq!((answer.body.as_str(), &newest["name"]), ("", &json!("empty")));
}

#[test]
fn create_status_is_200_or_201() {
    let service = Service::friendly();
    assert_eq!(service.create("a", "dev").status, 200);
    for status in [201, 200] {
        service.patch(json!({"createStatus": status}));
        assert_eq!(service.create("a", "dev").status, status);
    }
    service.patch(json!({"createStatus": 201, "createAnswer": "empty"}));
    assert_eq!(service.create("a", "dev").status, 201);
}

#[test]
fn deploy_answer_has_three_forms() {
    let service = Service::friendly();
    let id = service.created("a");
    let deploy = |form: &str| {
        service.patch(json!({"deployAnswer": form}));
        service.deploy(&id, "prod")
    };
    assert_eq!(deploy("empty").body, "");
    assert_eq!(deploy("object").json(), json!({}));
    let detail = deploy("detail").json();
    assert_eq!(detail["deployment"]["version"], "1.0");
    assert_eq!(detail["deployment"]["environment"], "prod");
}

#[test]
fn deploy_status_is_200_201_or_202() {
    let service = Service::friendly();
    let id = service.created("a");
    assert_eq!(service.deploy(&id, "prod").status, 200);
    for status in [201, 202, 200] {
        service.patch(json!({"deployStatus": status}));
        assert_eq!(service.deploy(&id, "prod").status, status);
    }
}

#[test]
fn descriptions_are_as_sent_missing_or_cut() {
    let service = Service::friendly();
    let body = json!({"name": "a", "description": "größer\n[marker]", "environment": "dev"});
    service.post("/v1/chatbots/bot/versions", body);
    let shown = |how| {
        service.patch(json!({"descriptions": how}));
        service.versions()[0].get("description").cloned()
    };
    assert_eq!(shown(json!("missing")), None);
    assert_eq!(shown(json!({"cut": 3})), Some(json!("grö")));
    assert_eq!(shown(json!({"cut": 100})), Some(json!("größer\n[marker]")));
    assert_eq!(shown(json!("asSent")), Some(json!("größer\n[marker]")));
    service.patch(json!({"descriptions": "missing"}));
    let created = service.create("b", "dev").json();
    assert_eq!(created["version"].get("description"), None);
}

#[test]
fn deployed_field_can_be_missing() {
    let service = Service::friendly();
    service.create("never live", "dev");
    service.create("live", "prod");
    let versions = service.versions();
    assert_eq!(versions[0].get("deployed"), None);
    assert!(versions[1]["deployed"].is_string());
    service.patch(json!({"deployedField": "missing"}));
    assert_eq!(service.versions()[1].get("deployed"), None);
    service.patch(json!({"deployedField": "shown"}));
    assert_eq!(service.versions(), versions);
}

#[test]
fn version_number_field_can_be_missing() {
    let service = Service::with(json!({"versionNumberField": "missing"}));
    let created = service.create("a", "dev").json();
    assert_eq!(created["version"].get("versionNumber"), None);
    assert_eq!(service.versions()[0].get("versionNumber"), None);
    service.patch(json!({"versionNumberField": "shown"}));
    assert_eq!(service.versions()[0]["versionNumber"], "1.0");
}

#[test]
fn times_and_numbers_have_other_types() {
    let service = Service::with(json!({"times": "object", "versionNumbers": "numbers"}));
    service.created("a");
    let version = service.versions().remove(0);
    assert!(version["created"]["_seconds"].is_i64() && version["created"]["_nanoseconds"].is_i64());
    assert_eq!(version["versionNumber"], json!(1.0));
    service.patch(json!({"times": "millis"}));
    assert!(service.versions()[0]["created"].as_i64().unwrap() > 1_000_000_000_000);
    service.deploy(version["id"].as_str().unwrap(), "test");
    assert_eq!(service.status().json()["test"]["version"], json!(1.0));
}

#[test]
fn lists_end_with_an_entry_without_an_id() {
    let service = Service::with(json!({"entryWithoutId": "of the past"}));
    let alone = service.versions();
    assert_eq!(alone, [json!({"name": "without an id", "description": "of the past"})]);
    service.created("a");
    assert_eq!(service.versions()[1..], alone);
}

#[test]
fn descriptions_come_in_one_line() {
    let service = Service::with(json!({"descriptions": "oneLine"}));
    let body = json!({"name": "a", "description": " two\nlines \n", "environment": "dev"});
    service.post("/v1/chatbots/bot/versions", body);
    assert_eq!(service.versions()[0]["description"], "two lines");
}

#[test]
fn no_deployment_has_one_word() {
    let service = Service::with(json!({"noDeployment": "none"}));
    let answer = service.create("a", "dev");
    assert_eq!(answer.status, 400);
    assert!(answer.json()["message"][0].as_str().unwrap().starts_with("environment must be one of"));
    assert_eq!(service.create("a", "none").status, 200);
}
