//! Whether a kind is being uninstalled: its CRD is being deleted, and every object of the kind with it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Resource};
use tokio::time::timeout;

use super::{Context, READ_TIMEOUT};
use crate::plan::{Unavailable, UnavailableReason, messages};

impl Context {
    /// Whether the CRD of a kind is being deleted. One that cannot be read is an error: it may be.
    pub(super) async fn is_crd_being_deleted<K: Resource<DynamicType = ()>>(
        &self,
    ) -> Result<bool, Unavailable> {
        let name = format!("{}.{}", K::plural(&()), K::group(&()));
        let unknown = |detail: &str| Unavailable {
            reason: UnavailableReason::ServiceUnavailable,
            message: messages::crd_unreadable(&name, detail),
            retry_after: None,
        };
        let crds: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        match timeout(READ_TIMEOUT, crds.get_metadata_opt(&name)).await {
            // an object without its CRD is one whose last state the watch has not brought yet
            Ok(Ok(crd)) => Ok(crd.is_none_or(|crd| crd.metadata.deletion_timestamp.is_some())),
            // the role of an installation that is confined to namespaces may lack it, and its deletions must not wait for ever
            Ok(Err(kube::Error::Api(status))) if status.is_forbidden() => Ok(false),
            Ok(Err(error)) => Err(unknown(&error.to_string())),
            Err(_) => Err(unknown("no answer within the timeout")),
        }
    }
}
