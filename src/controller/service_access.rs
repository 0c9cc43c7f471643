//! How one object reads and changes the service: with the API key that it refers to, and answers as new as it needs.

use std::{sync::Arc, time::Instant};

use super::Context;
use crate::{
    chatcaptain::{Account, ApiCall, ChatbotId, DeploymentStatus, Failure, FailureClass, Inventory},
    crd::CredentialsRef,
    plan::{Freshness, ServiceReads, ServiceView, Unavailable, UnavailableReason, messages, proves_account},
};

/// What to read from the service for one object.
pub struct ServiceQuery<'a> {
    /// Namespace of the object and of its Secret.
    pub namespace: &'a str,
    pub credentials: Option<&'a CredentialsRef>,
    pub chatbot: &'a str,
    /// The version that status names.
    pub version_id: Option<&'a str>,
    pub reads: ServiceReads,
    /// Reads although an earlier read was refused or failed: see [`retry_requested`](crate::plan::retry_requested).
    pub retry_now: bool,
    /// When the create intent was written, for `Freshness::AfterIntent`.
    pub intent_written: Option<Instant>,
    /// Accepts the last known key where the Secret is gone: see [`may_use_removed_key`](crate::plan::may_use_removed_key).
    pub allow_stale_key: bool,
}

impl ServiceQuery<'_> {
    fn secret(&self) -> String {
        self.credentials.cloned().unwrap_or_default().name().to_owned()
    }

    /// When the oldest answer that is new enough was requested.
    fn since(&self, freshness: Freshness) -> Instant {
        let now = Instant::now();
        match freshness {
            Freshness::Now => now,
            Freshness::AfterIntent => self.intent_written.unwrap_or(now),
            // a clock that began less than this ago has no such instant: then a new answer is read
            Freshness::Within(age) => now.checked_sub(age).unwrap_or(now),
        }
    }
}

impl Context {
    /// The account of the key that an object refers to.
    pub(super) async fn account(
        &self,
        namespace: &str,
        reference: Option<&CredentialsRef>,
        chatbot: &str,
        allow_stale_key: bool,
    ) -> Result<Arc<Account>, Unavailable> {
        let reference = reference.cloned().unwrap_or_default();
        let key = self.credentials.key(namespace, &reference, chatbot, allow_stale_key).await?;
        let account = self.accounts.get(&key);
        if !account.take_key_refused() {
            return Ok(account);
        }
        // the Secret may have another key by now, though no event says so
        self.credentials.invalidate(namespace, reference.name());
        let key = self.credentials.key(namespace, &reference, chatbot, allow_stale_key).await?;
        Ok(self.accounts.get(&key))
    }

    /// The account and chatbot for a call that changes the service. A failure here means that nothing was sent.
    ///
    /// The fence is asked first: a process that has lost its lease changes nothing.
    pub(super) async fn account_for_write(
        &self,
        call: ApiCall,
        namespace: &str,
        credentials: Option<&CredentialsRef>,
        chatbot: &str,
        allow_stale_key: bool,
    ) -> Result<(Arc<Account>, ChatbotId), Failure> {
        let unsent = |why: &str| Failure::new(call, FailureClass::Unsent, why);
        if !self.fence.allows_writes() {
            return Err(Failure::not_leading(call));
        }
        let account = self.account(namespace, credentials, chatbot, allow_stale_key).await;
        let account = account.map_err(|unavailable| unsent(&unavailable.message))?;
        Ok((account, ChatbotId::parse(chatbot).map_err(|invalid| unsent(&invalid.to_string()))?))
    }

    /// What the service shows of a chatbot, or why it cannot be read.
    pub(super) async fn query_service(&self, query: &ServiceQuery<'_>) -> ServiceView {
        self.try_query_service(query).await.unwrap_or_else(ServiceView::Unavailable)
    }

    async fn try_query_service(&self, query: &ServiceQuery<'_>) -> Result<ServiceView, Unavailable> {
        // before the first await: what is requested while the Secret is read is new enough
        let list_since = query.since(query.reads.list);
        let status_since = query.reads.deployment_status.map(|freshness| query.since(freshness));
        let account =
            self.account(query.namespace, query.credentials, query.chatbot, query.allow_stale_key).await?;
        let chatbot = ChatbotId::parse(query.chatbot).map_err(|invalid| Unavailable {
            reason: UnavailableReason::ChatbotNotFound,
            message: messages::invalid_chatbot_id(&invalid.to_string()),
            retry_after: None,
        })?;
        if query.retry_now {
            account.retry_now(&chatbot);
        }
        let status = async {
            match status_since {
                Some(since) => read_deployment_status(&account, &chatbot, since, query).await,
                None => Ok(None),
            }
        };
        // together: who deploys waits for both
        let (inventory, deployment_status) =
            tokio::join!(read_list(&account, &chatbot, list_since, query), status);
        let inventory = inventory?;
        if !account.is_authoritative(&chatbot)
            && proves_account(&inventory, query.version_id, &self.config.owner_id)
        {
            // for good: a list may lose all of our versions later, and then that is proof
            account.mark_authoritative(&chatbot);
        }
        let deployment_status = deployment_status?;
        record_live(&account, &chatbot, &inventory, deployment_status.as_deref());
        Ok(ServiceView::Available {
            authoritative: account.is_authoritative(&chatbot) && inventory.is_complete(),
            rollout_pending: query.version_id.is_some_and(|id| account.is_rollout_pending(&chatbot, id)),
            age: inventory.requested_at.elapsed(),
            inventory,
            deployment_status,
        })
    }
}

async fn read_list(
    account: &Account,
    chatbot: &ChatbotId,
    since: Instant,
    query: &ServiceQuery<'_>,
) -> Result<Arc<Inventory>, Unavailable> {
    let list = match query.reads.list {
        // all creates whose intents are written wait for it together
        Freshness::AfterIntent => account.inventory_for_create(chatbot, since).await,
        Freshness::Now | Freshness::Within(_) => account.inventory(chatbot, since).await,
    };
    list.map_err(|failure| Unavailable::new(&failure, &query.secret(), query.chatbot))
}

/// The deployment status; `None` where the key may not read it or the service has no such call: then only the list is known.
async fn read_deployment_status(
    account: &Account,
    chatbot: &ChatbotId,
    since: Instant,
    query: &ServiceQuery<'_>,
) -> Result<Option<Arc<DeploymentStatus>>, Unavailable> {
    match account.deployment_status(chatbot, since).await {
        Ok(deployment_status) => Ok(Some(deployment_status)),
        Err(failure) => match failure.class {
            FailureClass::Forbidden { whole_key: false } | FailureClass::Refused(_) => Ok(None),
            _ => Err(Unavailable::new(&failure, &query.secret(), query.chatbot)),
        },
    }
}

/// A rollout whose version is live is no longer pending.
fn record_live(
    account: &Account,
    chatbot: &ChatbotId,
    inventory: &Inventory,
    deployment_status: Option<&DeploymentStatus>,
) {
    account.record_live(chatbot, |environment, id| {
        let live = deployment_status.and_then(|deployment_status| deployment_status.get(environment));
        live.and_then(|live| live.resolve(inventory)).is_some_and(|version| version.id.as_str() == id)
    });
}
