//! The routes under `/_simulator/`: switches, record and hands, for people and test scripts.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::hand::HandError;
use crate::model::{Environment, Moment};
use crate::record::{CallEntry, Counters, LogEntry};
use crate::service::Service;
use crate::settings::Settings;
use crate::settings_json::ACCEPTED;
use crate::state::ChatbotState;

const HELP: &str = "\
The chatbot service, simulated. The API is under /v1/, this is everything else:

GET    /_simulator/settings                       the current settings
PATCH  /_simulator/settings                       JSON; the given keys replace the current ones
GET    /_simulator/log                            every change that took effect, in order
GET    /_simulator/counters                       calls, effects and answers per operation
GET    /_simulator/calls                          the last 10000 calls
GET    /_simulator/state                          versions, and what is live or pending where
POST   /_simulator/reset                          forget everything, settings as at the start
POST   /_simulator/reset?keepSettings=true        forget everything but the settings
POST   /_simulator/throttle                       {\"ms\": 5000} throttles every call for a while
POST   /_simulator/hand/{chatbot}/versions        {\"name\": …, \"description\": …}; as in the user interface
POST   /_simulator/hand/{chatbot}/deploy          {\"versionId\" or \"name\": …, \"environment\": …}
DELETE /_simulator/hand/{chatbot}/versions/{id}   as in the user interface

Settings and what they accept:

";

/// One line of text about what is wrong.
type Refused = (StatusCode, String);

pub fn routes() -> Router<Arc<Service>> {
    Router::new()
        .route("/_simulator", get(help))
        .route("/_simulator/", get(help))
        .route("/_simulator/settings", get(settings).patch(patch_settings))
        .route("/_simulator/log", get(log))
        .route("/_simulator/counters", get(counters))
        .route("/_simulator/calls", get(calls))
        .route("/_simulator/state", get(state))
        .route("/_simulator/reset", post(reset))
        .route("/_simulator/throttle", post(throttle))
        .route("/_simulator/hand/{chatbot}/versions", post(hand_create))
        .route("/_simulator/hand/{chatbot}/deploy", post(hand_deploy))
        .route("/_simulator/hand/{chatbot}/versions/{version}", delete(hand_delete))
}

async fn help() -> String {
    let mut text = HELP.to_owned();
    for (key, accepted) in ACCEPTED {
        let _ = writeln!(text, "{key:<22} {accepted}");
    }
    text
}

async fn settings(State(service): State<Arc<Service>>) -> Json<Settings> {
    Json(service.world().settings.clone())
}

async fn patch_settings(State(service): State<Arc<Service>>, body: Bytes) -> Result<Json<Settings>, Refused> {
    let patch = parse(&body)?;
    let mut world = service.world();
    let merged = world.settings.merged(&patch).map_err(bad_request)?;
    world.apply(merged);
    Ok(Json(world.settings.clone()))
}

async fn log(State(service): State<Arc<Service>>) -> Json<Vec<LogEntry>> {
    Json(service.world().record.log.clone())
}

async fn counters(State(service): State<Arc<Service>>) -> Json<Counters> {
    Json(service.world().record.counters.clone())
}

async fn calls(State(service): State<Arc<Service>>) -> Json<VecDeque<CallEntry>> {
    Json(service.world().record.calls.clone())
}

async fn state(State(service): State<Arc<Service>>) -> Json<Vec<ChatbotState>> {
    Json(service.world().state())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ResetQuery {
    #[serde(default)]
    keep_settings: bool,
}

async fn reset(State(service): State<Arc<Service>>, Query(query): Query<ResetQuery>) -> StatusCode {
    service.world().reset(query.keep_settings);
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ThrottleRequest {
    ms: u64,
}

async fn throttle(State(service): State<Arc<Service>>, body: Bytes) -> Result<StatusCode, Refused> {
    let request: ThrottleRequest = parse(&body)?;
    let mut world = service.world();
    world.buckets.throttle_all(request.ms, Moment::now());
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HandCreate {
    name: String,
    description: Option<String>,
}

async fn hand_create(
    State(service): State<Arc<Service>>,
    Path(chatbot): Path<String>,
    body: Bytes,
) -> Result<Json<LogEntry>, Refused> {
    let request: HandCreate = parse(&body)?;
    let description = request.description.as_deref();
    let done = service.world().hand_create(&chatbot, &request.name, description);
    done.map(Json).map_err(refused)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HandDeploy {
    version_id: Option<String>,
    name: Option<String>,
    environment: Environment,
}

async fn hand_deploy(
    State(service): State<Arc<Service>>,
    Path(chatbot): Path<String>,
    body: Bytes,
) -> Result<Json<LogEntry>, Refused> {
    let request: HandDeploy = parse(&body)?;
    let version = request.version_id.or(request.name);
    let version = version.ok_or_else(|| bad_request("versionId or name is needed".to_owned()))?;
    let done = service.world().hand_deploy(&chatbot, &version, request.environment);
    done.map(Json).map_err(refused)
}

async fn hand_delete(
    State(service): State<Arc<Service>>,
    Path((chatbot, version)): Path<(String, String)>,
) -> Response {
    let done = service.world().hand_delete(&chatbot, &version);
    done.map(Json).map_err(refused).into_response()
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|error| bad_request(error.to_string()))
}

fn bad_request(message: String) -> Refused {
    (StatusCode::BAD_REQUEST, message + "\n")
}

fn refused(error: HandError) -> Refused {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::BAD_REQUEST);
    (status, error.message + "\n")
}
