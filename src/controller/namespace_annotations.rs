//! Reads what the annotations of a namespace say: its deletion policy, and whether it is frozen.

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt};
use tokio::time::timeout;

use super::{Context, READ_TIMEOUT};
use crate::{
    crd::{ChatbotVersion, annotation},
    plan::{Unavailable, UnavailableReason, annotation_value, deployment::Freeze, messages},
};

/// Characters of the reason for a freeze that a message has room for.
const MAX_REASON: usize = 200;

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
        let policy = self.namespace_annotation(&name, annotation::DELETION_POLICY).await;
        policy.map_err(|detail| unknown(&detail))
    }

    /// Whether the `freeze` annotation of a namespace holds what moves forward in it.
    pub(super) async fn freeze(&self, namespace: &str) -> Freeze {
        match self.namespace_annotation(namespace, annotation::FREEZE).await {
            Ok(None) => Freeze::Off,
            Ok(Some(why)) => Freeze::On(why.chars().take(MAX_REASON).collect()),
            Err(detail) => Freeze::Unknown(detail),
        }
    }

    /// An annotation of a namespace, or why it cannot be read.
    async fn namespace_annotation(&self, name: &str, annotation: &str) -> Result<Option<String>, String> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        match timeout(READ_TIMEOUT, namespaces.get_metadata_opt(name)).await {
            Ok(Ok(namespace)) => {
                let meta = namespace.map(|namespace| namespace.metadata).unwrap_or_default();
                Ok(annotation_value(&meta, annotation).map(str::to_owned))
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer within the timeout".to_owned()),
        }
    }
}
