//! Reads the bodies of requests as strictly as the service does: a property too many is an error.

use serde_json::{Map, Value};

use crate::model::Environment;
use crate::settings::{NoDeployment, RollbackBody};

/// What is wrong with a body, one line each.
pub type Complaints = Vec<String>;

/// The body of a create.
pub struct CreateRequest {
    pub name: String,
    pub description: Option<String>,
    pub environment: Environment,
}

pub fn create(body: &[u8], no_deployment: NoDeployment) -> Result<CreateRequest, Complaints> {
    let fields = object(body)?;
    let mut wrong = strangers(&fields, &["name", "description", "environment"]);
    let name = fields.get("name").and_then(Value::as_str).unwrap_or("");
    if name.is_empty() {
        wrong.push("name should not be empty".to_owned());
    }
    if !fields.get("name").is_some_and(Value::is_string) {
        wrong.push("name must be a string".to_owned());
    }
    let description = fields.get("description").filter(|d| !d.is_null());
    if description.is_some_and(|d| !d.is_string()) {
        wrong.push("description must be a string".to_owned());
    }
    let dev = match no_deployment {
        NoDeployment::Dev => "dev",
        NoDeployment::None => "none",
    };
    let stages = Environment::STAGES.map(named);
    let environment = one_of(&fields, &[&[(dev, Environment::Dev)], &stages[..]].concat(), &mut wrong);
    match environment {
        Some(environment) if wrong.is_empty() => Ok(CreateRequest {
            name: name.to_owned(),
            description: description.and_then(Value::as_str).map(str::to_owned),
            environment,
        }),
        _ => Err(wrong),
    }
}

pub fn deploy(body: &[u8]) -> Result<Environment, Complaints> {
    let fields = object(body)?;
    let mut wrong = strangers(&fields, &["environment"]);
    let environment = one_of(&fields, &Environment::STAGES.map(named), &mut wrong);
    environment.filter(|_| wrong.is_empty()).ok_or(wrong)
}

pub fn rollback(body: &[u8], accepted: &RollbackBody) -> Result<Option<Environment>, Complaints> {
    let fields = object(body)?;
    let known: &[&str] = match accepted {
        RollbackBody::Environment => &["environment"],
        RollbackBody::None => &[],
        RollbackBody::Requires(property) => &["environment", property],
    };
    let mut wrong = strangers(&fields, known);
    if let RollbackBody::Requires(property) = accepted
        && fields.get(property).is_none_or(Value::is_null)
    {
        wrong.push(format!("{property} should not be empty"));
    }
    let mut environment = None;
    if known.contains(&"environment") && fields.get("environment").is_some_and(|e| !e.is_null()) {
        environment = one_of(&fields, &Environment::STAGES.map(named), &mut wrong);
    }
    if wrong.is_empty() { Ok(environment) } else { Err(wrong) }
}

// No body at all reads as an empty object.
fn object(body: &[u8]) -> Result<Map<String, Value>, Complaints> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(vec!["the body must be an object".to_owned()]),
        Err(error) => Err(vec![format!("the body is not JSON: {error}")]),
    }
}

fn strangers(fields: &Map<String, Value>, known: &[&str]) -> Complaints {
    let strange = fields.keys().filter(|key| !known.contains(&key.as_str()));
    strange.map(|key| format!("property {key} should not exist")).collect()
}

const fn named(environment: Environment) -> (&'static str, Environment) {
    (environment.name(), environment)
}

fn one_of(
    fields: &Map<String, Value>,
    accepted: &[(&str, Environment)],
    wrong: &mut Complaints,
) -> Option<Environment> {
    let given = fields.get("environment").and_then(Value::as_str);
    let found = accepted.iter().find(|(name, _)| Some(*name) == given);
    if found.is_none() {
        let names: Vec<&str> = accepted.iter().map(|(name, _)| *name).collect();
        wrong.push(format!("environment must be one of the following values: {}", names.join(", ")));
    }
    found.map(|(_, environment)| *environment)
}
