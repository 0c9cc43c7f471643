//! The bare loop: what it takes at least. For each object the same three writes, the same create and event, and as many
//! lists in all, with as many at a time, and nothing decided.

use std::sync::{Arc, LazyLock};

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
    let count = objects.len();
    let lists_before = Arc::new(move |index: usize| index * lists / count);
    stream::iter(objects.into_iter().enumerate())
        .for_each_concurrent(CONCURRENCY, |(index, object)| {
            let (api, lists_before) = (api.clone(), lists_before.clone());
            let events: Api<Event> =
                Api::namespaced(api.clone().into_client(), &object.namespace().unwrap_or_default());
            let bare = Bare::new(service, &object.spec.chatbot_id);
            async move {
                let lists = lists_before(index + 1) - lists_before(index);
                let (object, _) = bare.bring_to_ready(&api, object, lists, 0).await;
                events.create(&PostParams::default(), &event(&object)).await.expect("an event");
            }
        })
        .await;
}

/// Makes calls and decides nothing. All share their connections.
pub struct Bare {
    http: reqwest::Client,
    /// Of the chatbot.
    url: String,
}

impl Bare {
    pub fn new(service: &str, chatbot: &str) -> Self {
        static HTTP: LazyLock<reqwest::Client> = LazyLock::new(reqwest::Client::new);
        Self { http: HTTP.clone(), url: format!("{service}/v1/chatbots/{chatbot}") }
    }

    /// The writes and the create of one object, with so many lists before the create and after it. Returns the object and the
    /// id of its version.
    pub async fn bring_to_ready(
        &self,
        api: &Api<ChatbotVersion>,
        object: ChatbotVersion,
        lists_before: usize,
        lists_after: usize,
    ) -> (ChatbotVersion, String) {
        let name = object.name_any();
        let finalizer = json!({"metadata": {"resourceVersion": object.resource_version(), "finalizers": ["chatcaptain.dev/finalizer"]}});
        let object =
            api.patch(&name, &PatchParams::default(), &Patch::Merge(&finalizer)).await.expect("guarded");
        let object = write(api, &object, intent()).await;
        for _ in 0..lists_before {
            self.list().await;
        }
        let namespace = object.namespace().unwrap_or_default();
        let description = format!("[chatcaptain.dev default/{namespace}/{name}]");
        let body = json!({"name": name, "description": description, "environment": "dev"});
        let answer = self.post("versions", &body).await;
        let id = answer["version"]["id"].as_str().expect("an id").to_owned();
        for _ in 0..lists_after {
            self.list().await;
        }
        (write(api, &object, record(&id, &name)).await, id)
    }

    pub async fn list(&self) {
        self.get("versions").await;
    }

    pub async fn status(&self) {
        self.get("deployments/status").await;
    }

    /// `deploy` or `rollback`, in prod.
    pub async fn roll_out(&self, id: &str, how: &str) {
        self.post(&format!("versions/{id}/{how}"), &json!({"environment": "prod"})).await;
    }

    async fn get(&self, path: &str) -> Value {
        self.send(self.http.get(format!("{}/{path}", self.url))).await
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let request =
            self.http.post(format!("{}/{path}", self.url)).header("content-type", "application/json");
        self.send(request.body(body.to_string())).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Value {
        let answer = request.header("x-chatcaptain-key", KEY).send().await.expect("answered");
        serde_json::from_slice(&answer.bytes().await.expect("an answer")).expect("JSON")
    }
}

pub fn manifest(chatbot: &str, name: &str) -> ChatbotVersion {
    let manifest = json!({
        "apiVersion": "chatcaptain.dev/v1alpha1", "kind": "ChatbotVersion",
        "metadata": {"name": name}, "spec": {"chatbotId": chatbot},
    });
    serde_json::from_value(manifest).expect("a version")
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

pub fn condition(kind: &str, status: &str, reason: &str) -> Value {
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
