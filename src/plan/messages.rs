//! The sentences that both kinds share: what happened, why, what to do next.
//!
//! Plain, active, present English. No timestamps, durations or request ids: a message that changes with each reconcile
//! would be a write with each reconcile.

use crate::{chatcaptain::ApiCall, crd::annotation};

/// The service throttles the API key.
pub const THROTTLED: &str = "The service is throttling requests with this API key; retrying automatically.";

/// The service gives no usable answer.
#[must_use]
pub fn service_unavailable(detail: &str) -> String {
    format!("The service is unavailable ({detail}); retrying automatically.")
}

/// The service rejects the API key.
#[must_use]
pub fn authentication_failed(secret: &str, detail: &str) -> String {
    format!("The service rejects the API key in Secret {secret} ({detail}). Put a valid key into the Secret.")
}

/// The key lacks a permission. Where it may not even list, it may lack all: the service answers the same to a key that it
/// does not know.
#[must_use]
pub fn permission_denied(call: ApiCall, secret: &str, detail: &str) -> String {
    let permission = call.permission();
    let next = match call {
        ApiCall::List => {
            "Grant it in the service. If it is granted, the key may be wrong or belong to another account: check the key in \
             the Secret."
        }
        _ => "Grant it in the service.",
    };
    format!("The API key in Secret {secret} lacks the permission {permission} ({detail}). {next}")
}

/// The service does not list the chatbot's versions.
#[must_use]
pub fn chatbot_not_found(chatbot: &str, secret: &str, detail: &str) -> String {
    format!(
        "The service does not list the versions of chatbot {chatbot} ({detail}). Check spec.chatbotId, and that the API \
         key in Secret {secret} belongs to the chatbot's account."
    )
}

/// `spec.chatbotId` cannot be the id of a chatbot.
#[must_use]
pub fn invalid_chatbot_id(detail: &str) -> String {
    format!("spec.chatbotId is invalid: {detail}. Correct it.")
}

/// The service rejects a change.
#[must_use]
pub fn request_rejected(call: ApiCall, detail: &str) -> String {
    format!(
        "The service rejects the {} request ({detail}). Correct the cause; retrying slowly.",
        call.as_str()
    )
}

/// A change failed, or its outcome is unknown.
#[must_use]
pub fn request_failed(call: ApiCall, detail: &str) -> String {
    format!("The {} request failed ({detail}); retrying automatically.", call.as_str())
}

/// The Secret does not exist.
#[must_use]
pub fn secret_missing(namespace: &str, name: &str, key: &str) -> String {
    format!(
        "Secret {name} does not exist in namespace {namespace}. Create it with: kubectl -n {namespace} create secret \
         generic {name} --from-literal={key}=<API key>"
    )
}

/// The Secret exists, but the key in it is missing or unusable: it is patched, not created.
#[must_use]
pub fn secret_key_unusable(problem: &str, namespace: &str, name: &str, key: &str) -> String {
    format!(
        "{problem}. Set it with: kubectl -n {namespace} patch secret {name} -p '{{\"stringData\":{{\"{key}\":\"<API key>\"}}}}'"
    )
}

/// The Secret cannot be read.
#[must_use]
pub fn secret_unreadable(name: &str, detail: &str) -> String {
    format!("The operator cannot read Secret {name} ({detail}); retrying automatically.")
}

/// The operator's role does not allow reading the Secret.
pub const SECRET_FORBIDDEN: &str = "its role does not allow it; run: kubectl apply -k deploy";

/// The CRD cannot be read.
#[must_use]
pub fn crd_unreadable(name: &str, detail: &str) -> String {
    format!(
        "The operator cannot read whether the CRD {name} is being deleted ({detail}); retrying automatically."
    )
}

/// The namespace cannot be read.
#[must_use]
pub fn namespace_unreadable(name: &str, detail: &str) -> String {
    format!(
        "The operator cannot read the deletion policy of namespace {name} ({detail}); retrying automatically."
    )
}

/// The object does not fit its schema.
#[must_use]
pub fn unreadable_object(detail: &str) -> String {
    let detail = shortened(detail);
    format!(
        "The operator cannot use this object: {detail}. Correct it, or upgrade the CRDs and the operator together."
    )
}

/// The object does not fit its schema, and is being deleted.
#[must_use]
pub fn unreadable_deletion(detail: &str) -> String {
    let detail = shortened(detail);
    format!(
        "The operator cannot use this object: {detail}. Correct it, upgrade the CRDs and the operator together, or set the \
         annotation {}=true to remove the finalizer and keep the version in the service.",
        annotation::FORCE_ORPHAN
    )
}

/// The finalizer of an object that does not fit its schema is removed.
#[must_use]
pub fn unreadable_orphaned(ids: &[String]) -> String {
    format!(
        "Finalizer removed because of the force-orphan annotation, though the operator cannot read the object; version {} \
         may still exist in the service.",
        ids.join(", ")
    )
}

/// An annotation of our group that does not exist.
#[must_use]
pub fn unknown_annotation(name: &str) -> String {
    let known: Vec<&str> = annotation::ALL.iter().map(|(name, _)| *name).collect();
    format!("The annotation {name} has no effect. The operator knows: {}.", known.join(", "))
}

/// So much of an error that the next step after it fits into a condition.
fn shortened(detail: &str) -> String {
    detail.chars().take(200).collect()
}

/// Suspended before the first reconcile.
pub const SUSPENDED_NEW: &str = "Suspended before the first reconcile. Set spec.suspend to false to start.";

/// Suspended, and the spec names another version than the last verdict is about.
pub const SUSPENDED_CHANGED: &str =
    "Suspended: the current spec has not been reconciled. Set spec.suspend to false to reconcile it.";

/// The operator's part of the deletion is done.
pub const WAITING_FOR_OTHER_FINALIZERS: &str = "Cleanup complete; waiting for other finalizers.";
