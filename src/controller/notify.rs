//! What of a report is sent to `--events-address`, and as which data.

use kube::ResourceExt;
use serde::Serialize;

use super::{Context, Indexed, Reconciler};
use crate::{
    crd::{Cause, HistoryEntry, Operation},
    plan::{EventReason, NewEvent},
};

/// Characters of a message.
const MAX_MESSAGE: usize = 1000;

/// The `data` of an event.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    kind: &'static str,
    namespace: String,
    name: String,
    uid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    chatbot_id: Option<&'a str>,
    /// Of a deployment: `test` or `prod`.
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<&'static str>,
    reason: &'static str,
    /// `Normal` or `Warning`, as of the event in the cluster.
    r#type: &'static str,
    message: String,
    version_ids: &'a [String],
    #[serde(flatten)]
    rollout: Option<Rollout<'a>>,
}

/// How a version became live.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rollout<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    version_number: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<Operation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<Cause>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    change_cause: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spec_manager: Option<&'a str>,
}

impl<'a> From<&'a HistoryEntry> for Rollout<'a> {
    fn from(entry: &'a HistoryEntry) -> Self {
        Self {
            version_number: entry.version_number.as_deref(),
            version_name: entry.version_name.as_deref(),
            operation: entry.operation,
            cause: entry.cause,
            changes: entry.changes.as_deref(),
            change_cause: entry.change_cause.as_deref(),
            spec_manager: entry.spec_manager.as_deref(),
        }
    }
}

/// Queues an event of an object's report, if an address is set and the event is one of those that are sent.
pub fn notify<'a, K: Reconciler>(object: &'a K, event: &'a NewEvent, context: &Context) {
    send::<K, _>(object, event, context, |data| {
        let is_live = matches!(event.reason, EventReason::Deployed | EventReason::RolledBack);
        let id = event.version_ids.first();
        let history = object.history().iter().find(|entry| is_live && Some(&entry.version_id) == id);
        Data {
            chatbot_id: Some(object.chatbot()),
            environment: object.live_environment(),
            rollout: history.map(Rollout::from),
            ..data
        }
    });
}

/// The same of an object whose spec cannot be read.
pub fn notify_unreadable<K: Indexed>(object: &impl ResourceExt, event: &NewEvent, context: &Context) {
    send::<K, _>(object, event, context, |data| data);
}

/// Makes the data only where it is sent: most events are not, and usually no address is set.
fn send<'a, K: Indexed, O: ResourceExt>(
    object: &O,
    event: &'a NewEvent,
    context: &Context,
    complete: impl FnOnce(Data<'a>) -> Data<'a>,
) {
    let Some(events) = context.cloud_events.as_ref().filter(|_| event.reason.is_sent()) else { return };
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let subject = format!("namespaces/{namespace}/{}/{name}", K::plural(&()));
    let data = complete(Data {
        kind: K::KIND,
        namespace,
        name,
        uid: object.uid().unwrap_or_default(),
        chatbot_id: None,
        environment: None,
        reason: event.reason.as_str(),
        r#type: if event.warning { "Warning" } else { "Normal" },
        message: event.note.chars().take(MAX_MESSAGE).collect(),
        version_ids: &event.version_ids,
        rollout: None,
    });
    events.send(event.reason.as_str(), subject, data);
}
