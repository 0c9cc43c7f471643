//! How the service answers: versions as the settings show them, and errors in their two forms.

use std::borrow::Cow;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::model::{Bot, Environment, Moment, Version};
use crate::record::Operation;
use crate::settings::{
    Contents, CreateAnswer, DeployAnswer, Descriptions, FailuresAs, FieldShown, Settings, Times, UnknownId,
    VersionNumbers,
};

/// What the client gets.
#[derive(Debug, Clone)]
pub enum Reply {
    /// An HTTP answer.
    Answer(Answer),
    /// The end of the connection.
    Cut,
}

/// An HTTP answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub body: Body,
    pub retry_after: Option<String>,
}

/// The body of an answer.
#[derive(Debug, Clone)]
pub enum Body {
    Empty,
    Json(Vec<u8>),
    Html(&'static str),
}

/// Why the service did not do what was asked.
#[derive(Debug)]
pub enum Refusal {
    /// The body is wrong: always 400.
    Invalid(Vec<String>),
    /// Guards and routing: always this HTTP error.
    Http(u16, String),
    /// The operation itself was refused: HTTP error or 200, by `failuresAs`.
    Refused(u16, String),
    /// There is no such version.
    UnknownVersion,
}

impl Answer {
    pub fn json(status: u16, value: &Value) -> Self {
        Self::raw(status, value.to_string().into_bytes())
    }

    pub const fn raw(status: u16, body: Vec<u8>) -> Self {
        Self::new(status, Body::Json(body))
    }

    pub const fn new(status: u16, body: Body) -> Self {
        Self { status, body, retry_after: None }
    }

    /// An error in the form the framework gives it.
    pub fn error(status: u16, message: impl Into<Value>) -> Self {
        let mut error = json!({"statusCode": status, "message": message.into()});
        let named = axum::http::StatusCode::from_u16(status).ok();
        if let Some(name) = named.and_then(|status| status.canonical_reason()) {
            error["error"] = name.into();
        }
        Self::json(status, &error)
    }
}

/// The answer to an operation that was refused.
pub fn refusal(settings: &Settings, operation: Operation, refusal: Refusal) -> Answer {
    let as_ok = settings.failures_as == FailuresAs::Ok;
    match refusal {
        Refusal::Invalid(messages) => Answer::error(400, messages),
        Refusal::Refused(_, message) if as_ok => failure_as_ok(operation, &message),
        Refusal::Http(status, message) | Refusal::Refused(status, message) => Answer::error(status, message),
        Refusal::UnknownVersion => match settings.unknown_id {
            _ if as_ok => failure_as_ok(operation, "Version not found"),
            UnknownId::Ok => failure_as_ok(operation, "Version not found"),
            UnknownId::NotFound => Answer::error(404, "Version not found"),
            UnknownId::BadRequest => Answer::error(400, "Invalid version id"),
        },
    }
}

fn failure_as_ok(operation: Operation, message: &str) -> Answer {
    let body = match operation {
        // an empty list beside an error: whoever overlooks the error believes all is gone
        Operation::List => json!({"versions": [], "error": message}),
        Operation::Delete => json!({"deleted": false, "error": message}),
        Operation::Rollback => json!({"rolledBack": false, "error": message}),
        Operation::Create | Operation::Deploy | Operation::Status => json!({"error": message}),
    };
    Answer::json(200, &body)
}

/// A version as the API shows it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    id: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<Cow<'a, str>>,
    created: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    deployed: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_id: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_number: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<Value>,
}

/// The JSON of a version.
pub fn version(settings: &Settings, version: &Version) -> String {
    let time = |at: Moment| time(settings.times, at.ahead(settings.clock_offset_seconds));
    let deployed = version.deployed.map(time);
    let usual = || Contents { model_id: Some("model-1".into()), stats: Some(json!({})) };
    let contents = settings.contents.get(&version.name).cloned().unwrap_or_else(usual);
    let shown = Shown {
        id: &version.id,
        name: &version.name,
        description: description(settings.descriptions, version.description.as_deref()),
        created: time(version.created),
        deployed: deployed.filter(|_| settings.deployed_field == FieldShown::Shown),
        model_id: contents.model_id,
        version_number: Some(number(settings.version_numbers, &version.number))
            .filter(|_| settings.version_number_field == FieldShown::Shown),
        stats: contents.stats,
    };
    serde_json::to_string(&shown).unwrap_or_default()
}

fn description(how: Descriptions, text: Option<&str>) -> Option<Cow<'_, str>> {
    let text = text?;
    match how {
        Descriptions::AsSent => Some(text.into()),
        Descriptions::Missing => None,
        Descriptions::Cut(length) => {
            let end = text.char_indices().nth(length);
            Some(end.map_or(text, |(end, _)| &text[..end]).into())
        }
        Descriptions::OneLine => Some(text.trim().replace(['\r', '\n'], " ").into()),
    }
}

fn time(form: Times, at: Moment) -> Value {
    match form {
        Times::Rfc3339 => at.text().into(),
        Times::Millis => at.wall().as_millisecond().into(),
        Times::Object => {
            json!({"_seconds": at.wall().as_second(), "_nanoseconds": at.wall().subsec_nanosecond()})
        }
    }
}

fn number(form: VersionNumbers, number: &str) -> Value {
    match (form, number.parse::<f64>()) {
        (VersionNumbers::Numbers, Ok(number)) => number.into(),
        _ => number.into(),
    }
}

/// The list of versions. Each version keeps its JSON, so a list is little more than a copy.
pub fn list(settings: &Settings, bot: &mut Bot, now: Moment) -> Answer {
    let mut body = Vec::with_capacity(4096);
    body.extend_from_slice(b"{\"versions\":[");
    let start = body.len();
    let delay = Duration::from_millis(settings.list_delay_ms);
    let cut = settings.list_limit.map_or(0, |limit| bot.versions().count().saturating_sub(limit));
    for one in bot.versions_mut().skip(cut) {
        if now.since(one.created) < delay {
            continue;
        }
        if body.len() > start {
            body.push(b',');
        }
        if one.shown.is_none() {
            one.shown = Some(version(settings, one));
        }
        body.extend_from_slice(one.shown.as_deref().unwrap_or_default().as_bytes());
    }
    if let Some(description) = &settings.entry_without_id {
        let separator = if body.len() > start { "," } else { "" };
        let entry = json!({"name": "without an id", "description": description});
        body.extend_from_slice(format!("{separator}{entry}").as_bytes());
    }
    body.extend_from_slice(b"]}");
    Answer::raw(200, body)
}

/// `oldest` is the id of the chatbot's oldest version.
pub fn created(settings: &Settings, id: &str, oldest: &str, shown: &str) -> Answer {
    let text = match settings.create_answer {
        CreateAnswer::Wrapped => format!("{{\"version\":{shown}}}"),
        CreateAnswer::Bare => shown.to_owned(),
        CreateAnswer::VersionId => json!({"versionId": id}).to_string(),
        CreateAnswer::Id => json!({"id": id}).to_string(),
        CreateAnswer::OtherIds => json!({
            "id": "mdl-1", "model": {"id": "mdl-1", "name": "a model"}, "createdBy": {"id": "usr-1"},
        })
        .to_string(),
        CreateAnswer::OldestVersion => json!({"version": {"id": oldest}}).to_string(),
        CreateAnswer::Empty => return Answer::new(settings.create_status, Body::Empty),
    };
    Answer::raw(settings.create_status, text.into_bytes())
}

pub fn deployed(settings: &Settings, deployment: &str, number: &str, environment: Environment) -> Answer {
    let status = settings.deploy_status;
    match settings.deploy_answer {
        DeployAnswer::Empty => Answer::new(status, Body::Empty),
        DeployAnswer::Object => Answer::json(status, &json!({})),
        DeployAnswer::Detail => {
            let detail = json!({
                "id": deployment,
                "version": number,
                "environment": environment.name(),
                "status": "pending",
            });
            Answer::json(status, &json!({"deployment": detail}))
        }
    }
}

pub fn status(settings: &Settings, bot: &Bot) -> Answer {
    let live = Environment::STAGES.into_iter().filter_map(|environment| {
        let live = bot.stage(environment)?.live.as_ref()?;
        let number = number(settings.version_numbers, &live.number);
        let shown = json!({"id": live.deployment, "version": number});
        Some((environment.name().to_owned(), shown))
    });
    Answer::json(200, &Value::Object(live.collect()))
}
