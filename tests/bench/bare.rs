//! The bare loop: what it takes at least. For each object the same three writes, the same create and event, and as many
//! lists in all, with as many at a time, and nothing decided.

use std::sync::Arc;

use chatcaptain_operator::crd::ChatbotVersion;
use futures::{StreamExt, stream};
use k8s_openapi::api::events::v1::Event;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use support::KEY;

use crate::stage::CONCURRENCY;

/// Brings all objects to Ready; `lists` calls of the list are spread over them.
pub async fn run(api: &Api<ChatbotVersion>, objects: Vec<ChatbotVersion>, service: &str, lists: usize) {
    let http = reqwest::Client::new();
    let count = objects.len();
    let lists_before = Arc::new(move |index: usize| index * lists / count);
    stream::iter(objects.into_iter().enumerate())
        .for_each_concurrent(CONCURRENCY, |(index, object)| {
            let (api, http, lists_before) = (api.clone(), http.clone(), lists_before.clone());
            let events: Api<Event> = Api::namespaced(api.clone().into_client(), &object.namespace().unwrap_or_default());
            let url = format!("{service}/v1/chatbots/{}/versions", object.spec.chatbot_id);
            async move {
                let name = object.name_any();
                let finalizer = json!({"metadata": {"resourceVersion": object.resource_version(), "finalizers": ["chatcaptain.dev/finalizer"]}});
                let object = api.patch(&name, &PatchParams::default(), &Patch::Merge(&finalizer)).await.expect("guarded");
                let object = write(&api, &object, intent()).await;
                for _ in lists_before(index)..lists_before(index + 1) {
                    get(&http, &url).await;
                }
                let namespace = object.namespace().unwrap_or_default();
                let description = format!("[chatcaptain.dev default/{namespace}/{name}]");
                let body = json!({"name": name, "description": description, "environment": "dev"}).to_string();
                let request = http.post(&url).header("x-chatcaptain-key", KEY).header("content-type", "application/json");
                let answer = request.body(body).send().await.expect("created").bytes().await.expect("an answer");
                let answer: Value = serde_json::from_slice(&answer).expect("JSON");
                let id = answer["version"]["id"].as_str().expect("an id").to_owned();
                let object = write(&api, &object, record(&id, &name)).await;
                events.create(&PostParams::default(), &event(&object)).await.expect("an event");
            }
        })
        .await;
}

async fn get(http: &reqwest::Client, url: &str) {
    let answer = http.get(url).header("x-chatcaptain-key", KEY).send().await.expect("listed");
    let body = answer.bytes().await.expect("a list");
    let _: Value = serde_json::from_slice(&body).expect("JSON");
}

async fn write(api: &Api<ChatbotVersion>, object: &ChatbotVersion, status: Value) -> ChatbotVersion {
    let patch = json!({
        "apiVersion": "chatcaptain.dev/v1alpha1", "kind": "ChatbotVersion",
        "metadata": {"name": object.name_any(), "resourceVersion": object.resource_version()}, "status": status,
    });
    let params = PatchParams::apply("bare-loop").force();
    api.patch_status(&object.name_any(), &params, &Patch::Apply(&patch)).await.expect("written")
}

fn event(object: &ChatbotVersion) -> Event {
    let event = json!({
        "metadata": {"name": format!("{}.1", object.name_any()), "namespace": object.namespace()},
        "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal", "reason": "Created", "action": "Created",
        "note": "Created version vrsKq8BxZaJd2.", "regarding": object.object_ref(&()),
        "reportingController": "bare-loop", "reportingInstance": "bare-loop",
    });
    serde_json::from_value(event).expect("an event")
}

const THEN: &str = "2026-01-01T00:00:00Z";

fn condition(kind: &str, status: &str, reason: &str) -> Value {
    let message = "A message about as long as the ones that the operator writes.";
    json!({"type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": 1, "lastTransitionTime": THEN})
}

fn intent() -> Value {
    let conditions = [condition("Ready", "False", "Creating"), condition("Reconciling", "True", "Creating")];
    json!({"observedGeneration": 1, "conditions": conditions, "pendingCreate": {"attemptId": "0123456789abcdef0123456789abcdef", "startTime": THEN}})
}

fn record(id: &str, name: &str) -> Value {
    let operation =
        json!({"operation": "Create", "versionId": id, "completionTime": THEN, "result": "Accepted"});
    json!({
        "observedGeneration": 1, "conditions": [condition("Ready", "True", "Available")], "lastOperations": [operation],
        "versionId": id, "versionNumber": "1.0", "name": name, "creationTime": THEN,
    })
}
