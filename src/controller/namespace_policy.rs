//! Reads the deletion policy of a namespace from its annotation.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt};
use tokio::time::timeout;

use super::Context;
use crate::{
    crd::{ChatbotVersion, annotation},
    plan::{Unavailable, UnavailableReason, annotation_value, messages},
};

/// A read that hangs must not keep its reconcile permit for ever.
const READ_TIMEOUT: Duration = Duration::from_secs(15);

impl Context {
    /// The `deletion-policy` annotation of a version's namespace, where the version has no policy of its own. One that
    /// cannot be read is an error: it may be Retain.
    pub(super) async fn namespace_policy(
        &self,
        version: &ChatbotVersion,
    ) -> Result<Option<String>, Unavailable> {
        if version.spec.deletion_policy.is_some() {
            return Ok(None);
        }
        let name = version.namespace().unwrap_or_default();
        let unknown = |detail: &str| Unavailable {
            reason: UnavailableReason::ServiceUnavailable,
            message: messages::namespace_unreadable(&name, detail),
            retry_after: None,
        };
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        match timeout(READ_TIMEOUT, namespaces.get_opt(&name)).await {
            Ok(Ok(namespace)) => {
                let meta = namespace.map(|namespace| namespace.metadata).unwrap_or_default();
                Ok(annotation_value(&meta, annotation::DELETION_POLICY).map(str::to_owned))
            }
            Ok(Err(error)) => Err(unknown(&error.to_string())),
            Err(_) => Err(unknown("no answer within the timeout")),
        }
    }
}
