//! The audit log: who has written what.

use std::{fs, path::Path};

use serde::Deserialize;

use crate::error::{Context, Error};

/// One write request that the API server has answered, refused ones included. Of service accounts in the namespace
/// `audited` there are reads as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditWrite {
    /// The name of the user, `system:serviceaccount:<namespace>:<name>` for service accounts.
    pub user: String,
    /// `create`, `update`, `patch` or `delete`; of a read `get`, `list` or `watch`.
    pub verb: String,
    /// The plural name of the resource, such as `secrets`.
    pub resource: String,
    /// Such as `status`; empty for the resource itself.
    pub subresource: String,
    /// Empty for resources of the whole cluster.
    pub namespace: String,
    /// Empty when the server was to choose the name.
    pub name: String,
    /// The HTTP status of the answer.
    pub code: u16,
}

/// A write and its times, RFC 3339.
#[derive(Debug, Clone)]
pub struct TimedWrite {
    /// When the API server received the request.
    pub received: String,
    /// When it had answered.
    pub answered: String,
    /// The write.
    pub write: AuditWrite,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuditEvent {
    stage: String,
    #[serde(default)]
    request_received_timestamp: String,
    #[serde(default)]
    stage_timestamp: String,
    verb: String,
    user: User,
    #[serde(default)]
    object_ref: Object,
    #[serde(default)]
    response_status: Status,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Object {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    code: u16,
}

impl From<AuditEvent> for AuditWrite {
    fn from(event: AuditEvent) -> Self {
        Self {
            user: event.user.username,
            verb: event.verb,
            resource: event.object_ref.resource,
            subresource: event.object_ref.subresource,
            namespace: event.object_ref.namespace,
            name: event.object_ref.name,
            code: event.response_status.code,
        }
    }
}

impl From<AuditEvent> for TimedWrite {
    fn from(event: AuditEvent) -> Self {
        Self {
            received: event.request_received_timestamp.clone(),
            answered: event.stage_timestamp.clone(),
            write: event.into(),
        }
    }
}

/// All writes of an audit log, oldest first: with their times or without.
pub(crate) fn read<T: From<AuditEvent>>(log: &Path) -> Result<Vec<T>, Error> {
    // the file comes with the first event
    if !log.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(log).context(format_args!("cannot read {}", log.display()))?;
    parse(&text)
}

fn parse<T: From<AuditEvent>>(text: &str) -> Result<Vec<T>, Error> {
    // the server may be in the middle of its last line
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut writes = Vec::new();
    for line in complete.lines() {
        let event: AuditEvent = serde_json::from_str(line).context("an event of the audit log")?;
        if event.stage == "ResponseComplete" {
            writes.push(event.into());
        }
    }
    Ok(writes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LINE: &str = r#"{"kind":"Event","level":"Metadata","stage":"STAGE","verb":"patch",
        "user":{"username":"admin","groups":["system:masters"]},"objectRef":{"resource":"secrets",
        "namespace":"a","name":"b","subresource":"status"},"responseStatus":{"code":200}}"#;

    fn line(stage: &str) -> String {
        LINE.replace('\n', "").replace("STAGE", stage)
    }

    #[test]
    fn only_answered_and_complete_events_count() {
        let log =
            format!("{}\n{}\n{}", line("Panic"), line("ResponseComplete"), &line("ResponseComplete")[..40]);
        let writes = parse::<AuditWrite>(&log).unwrap();
        assert_eq!(
            writes,
            [AuditWrite {
                user: "admin".into(),
                verb: "patch".into(),
                resource: "secrets".into(),
                subresource: "status".into(),
                namespace: "a".into(),
                name: "b".into(),
                code: 200,
            }]
        );
        assert_eq!(parse::<AuditWrite>("").unwrap(), []);
    }

    #[test]
    fn line_without_an_event_is_an_error() {
        let error = parse::<AuditWrite>("{}\n").unwrap_err().to_string();
        assert!(error.starts_with("an event of the audit log: "), "{error}");
    }
}
