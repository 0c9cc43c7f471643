//! The calls over HTTP. One request each: nothing here retries, because only the caller knows whether that is safe.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::{
    Method, Response,
    header::{DATE, HeaderValue, RETRY_AFTER},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::Instrument;
use url::Url;

use crate::network::{Proxy, certificate_problem, http_client};

use super::{
    error::{ApiCall, Failure, FailureClass, classify},
    inventory::{DeploymentStatus, Inventory},
    types::{ApiKey, ChatbotId, VersionId},
    wire,
};

/// Largest answer that is read, in bytes: about 50,000 versions.
const MAX_ANSWER_BYTES: usize = 32 << 20;
/// An answer that is larger is read and parsed while few others of its kind are, in bytes: about 1,500 versions.
const LARGE_ANSWER_BYTES: usize = 1 << 20;
/// So many large answers are read at the same time, of whatever chatbots and keys.
// with what is parsed of it one takes up to 80 MiB of the pod's 256, and dozens may come at once
const MAX_LARGE_ANSWERS: usize = 1;
/// What all large lists that are kept may take, in KiB: some 300,000 versions.
const MAX_LARGE_LISTS_KIB: usize = 96 << 10;
/// Why a list is not kept.
const NO_ROOM: &str = "the lists of all chatbots with very many versions take more memory than the operator has for them; \
    delete old versions, or run several operators with --selector";
/// How much is read of an answer that is no success, in bytes: it holds a message and no data.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// How long a connection is kept that is not in use. Shorter than a node server keeps it (5 s): a create that meets the
/// closing of its connection has an unknown outcome, and costs a search.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// The body of a create.
#[derive(Clone, Debug)]
pub struct NewVersion {
    /// Display name in the service; not unique.
    pub name: String,
    /// Marker included: without it the version cannot be found again.
    pub description: String,
    /// `test` or `prod` deploy the version, too; `dev` (or `none`, whichever word the service knows) deploys nothing.
    pub environment: &'static str,
}

/// The service at one URL. Every call fails with a [`Failure`] whose class says what may be done next.
#[derive(Clone, Debug)]
pub struct ApiClient {
    http: reqwest::Client,
    base_url: Url,
    timeout: Duration,
    large_answers: Arc<Semaphore>,
    /// A permit for each KiB of the large lists that are kept.
    large_lists: Arc<Semaphore>,
    /// The variable that names the proxy, if there is one.
    proxy: Option<&'static str>,
}

/// The body of an answer. A large one holds a permit until it is parsed.
struct Answer {
    body: Vec<u8>,
    _large: Option<OwnedSemaphorePermit>,
}

impl ApiClient {
    /// A client for `base_url`, which `proxy` leads to, if any; `timeout` bounds each call as a whole, its answer's body
    /// included.
    ///
    /// # Errors
    /// When there is no TLS provider or no certificate store.
    pub fn new(base_url: Url, proxy: Option<Proxy>, timeout: Duration) -> Result<Self, reqwest::Error> {
        let variable = proxy.as_ref().map(|proxy| proxy.variable);
        let http = http_client(proxy, timeout)?.pool_idle_timeout(IDLE_TIMEOUT);
        let [large_answers, large_lists] =
            [MAX_LARGE_ANSWERS, MAX_LARGE_LISTS_KIB].map(|permits| Arc::new(Semaphore::new(permits)));
        Ok(Self { http: http.build()?, base_url, proxy: variable, timeout, large_answers, large_lists })
    }

    /// Lists the versions of a chatbot.
    ///
    /// # Errors
    /// Also when the answer has no list: see `wire::list`.
    pub async fn list(&self, key: &ApiKey, chatbot: &ChatbotId) -> Result<Inventory, Failure> {
        // before the request: what happens during it may be missing in the answer
        let requested_at = Instant::now();
        let path = [chatbot.as_str(), "versions"];
        let list = self.call(ApiCall::List, Method::GET, key, &path, None, wire::list).await?;
        let wire::List { versions, unidentified } = list;
        self.keep(Inventory::new(versions, requested_at).with_unidentified(unidentified))
    }

    /// The list, if there is room for it. Only large ones count, so that those of other chatbots are always read.
    fn keep(&self, inventory: Inventory) -> Result<Inventory, Failure> {
        let bytes = inventory.bytes();
        if bytes <= LARGE_ANSWER_BYTES {
            return Ok(inventory);
        }
        let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
        match self.large_lists.clone().try_acquire_many_owned(kib) {
            Ok(permit) => Ok(inventory.with_permit(permit)),
            Err(_) => Err(Failure::new(ApiCall::List, FailureClass::Unknown, NO_ROOM)),
        }
    }

    /// Reads the deployment status of a chatbot: what is live in each environment.
    ///
    /// # Errors
    /// *Forbidden* is common: the operator also works with keys that lack this permission.
    pub async fn status(&self, key: &ApiKey, chatbot: &ChatbotId) -> Result<DeploymentStatus, Failure> {
        let path = [chatbot.as_str(), "deployments", "status"];
        self.call(ApiCall::Status, Method::GET, key, &path, None, wire::status).await
    }

    /// Creates a version. Returns its id where the answer contains one.
    ///
    /// # Errors
    /// After `may_have_happened` another create may make a second version: search the list first.
    pub async fn create(
        &self,
        key: &ApiKey,
        chatbot: &ChatbotId,
        new: &NewVersion,
    ) -> Result<Option<VersionId>, Failure> {
        let body = serde_json::json!({
            "name": new.name, "description": new.description, "environment": new.environment,
        });
        self.write(ApiCall::Create, key, &[chatbot.as_str(), "versions"], Some(&body)).await
    }

    /// Deletes a version, for ever.
    ///
    /// # Errors
    /// *Not found* is as good as a success; a refusal often means that the version is live.
    pub async fn delete(
        &self,
        key: &ApiKey,
        chatbot: &ChatbotId,
        version: &VersionId,
    ) -> Result<(), Failure> {
        let path = [chatbot.as_str(), "versions", version.as_str()];
        self.write(ApiCall::Delete, key, &path, None).await.map(drop)
    }

    /// Starts to deploy a version to `environment`. It is live when the deployment status says so, not when this returns.
    ///
    /// # Errors
    /// After `may_have_happened` the version may still become live.
    pub async fn deploy(
        &self,
        key: &ApiKey,
        chatbot: &ChatbotId,
        version: &VersionId,
        environment: &str,
    ) -> Result<(), Failure> {
        let path = [chatbot.as_str(), "versions", version.as_str(), "deploy"];
        self.write(ApiCall::Deploy, key, &path, Some(&serde_json::json!({"environment": environment})))
            .await
            .map(drop)
    }

    /// Starts to roll back to a version. The reference does not show the fields of `body`, so users supply them.
    ///
    /// # Errors
    /// A refusal may mean that the service does not take this body. After `may_have_happened` the version may still
    /// become live.
    pub async fn rollback(
        &self,
        key: &ApiKey,
        chatbot: &ChatbotId,
        version: &VersionId,
        body: &serde_json::Value,
    ) -> Result<(), Failure> {
        let path = [chatbot.as_str(), "versions", version.as_str(), "rollback"];
        self.write(ApiCall::Rollback, key, &path, Some(body)).await.map(drop)
    }

    async fn write(
        &self,
        call: ApiCall,
        key: &ApiKey,
        path: &[&str],
        body: Option<&serde_json::Value>,
    ) -> Result<Option<VersionId>, Failure> {
        let method = if call == ApiCall::Delete { Method::DELETE } else { Method::POST };
        self.call(call, method, key, path, body, |answer| wire::write(call, answer)).await
    }

    /// The only way to an answer: no failure leaves it with the key in its message.
    async fn call<T>(
        &self,
        call: ApiCall,
        method: Method,
        key: &ApiKey,
        path: &[&str],
        body: Option<&serde_json::Value>,
        read: impl FnOnce(&[u8]) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        // the ids that the path names: those of chatbot and version
        let span = tracing::debug_span!(
            "request",
            otel.kind = "client",
            operation = call.as_str(),
            path = path.join("/"),
            outcome = tracing::field::Empty,
        );
        // on the heap: what waits for it would hold it several times
        let answer = Box::pin(self.send(call, method, key, path, body)).instrument(span.clone()).await;
        let result = answer.and_then(|answer| read(&answer.body)).map_err(|failure| failure.redacted(key));
        span.record("outcome", result.as_ref().map_or_else(|failure| failure.class.as_str(), |_| "ok"));
        result
    }

    async fn send(
        &self,
        call: ApiCall,
        method: Method,
        key: &ApiKey,
        path: &[&str],
        body: Option<&serde_json::Value>,
    ) -> Result<Answer, Failure> {
        let unsent = |why: &str| Failure::new(call, FailureClass::Unsent, why);
        // as segments: each is percent-encoded, so no id can lead to another path
        let mut url = self.base_url.clone();
        url.path_segments_mut()
            .map_err(|()| unsent("the URL of the service is no HTTP URL"))?
            // the base URL may end with a slash
            .pop_if_empty()
            .extend(["v1", "chatbots"])
            .extend(path);
        let mut header = HeaderValue::from_str(key.expose())
            .map_err(|_| unsent("the API key cannot be sent as an HTTP header"))?;
        // keeps the key out of debug output
        header.set_sensitive(true);
        let mut request = self.http.request(method, url).header("x-chatcaptain-key", header);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.map_err(|error| self.transport_failure(call, &error))?;
        self.read_answer(call, response).await
    }

    /// Reads a whole answer; classes it where it is no success.
    async fn read_answer(&self, call: ApiCall, mut response: Response) -> Result<Answer, Failure> {
        let status = response.status();
        let header =
            |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (retry_after, date) = (header(RETRY_AFTER), header(DATE));
        let failed = |error| self.transport_failure(call, &error);
        let mut answer = Answer { body: Vec::new(), _large: None };
        let Answer { body, _large: large } = &mut answer;
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            let length = body.len() + chunk.len();
            if !status.is_success() && length > MAX_ERROR_BYTES {
                body.extend_from_slice(&chunk[..MAX_ERROR_BYTES - body.len()]);
                break;
            }
            if length > MAX_ANSWER_BYTES {
                return Err(Failure::new(call, FailureClass::Unknown, "the answer is larger than 32 MiB"));
            }
            if length > LARGE_ANSWER_BYTES && large.is_none() {
                *large = Some(self.large_answer(call).await?);
                // at once: each time it grows, it would be there twice. What is not written takes no memory
                body.reserve_exact(MAX_ANSWER_BYTES - body.len());
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return Ok(answer);
        }
        Err(classify(call, status.as_u16(), retry_after.as_deref(), date.as_deref(), body))
    }

    /// Waits until few other large answers are held; meanwhile the rest of this one stays with the service.
    async fn large_answer(&self, call: ApiCall) -> Result<OwnedSemaphorePermit, Failure> {
        let permit = self.large_answers.clone().acquire_owned();
        match tokio::time::timeout(self.timeout, permit).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Failure::new(
                call,
                FailureClass::Unknown,
                "other large answers took longer than the timeout",
            )),
        }
    }

    /// A failure without a whole answer. Only a connection that was never established proves that nothing was sent.
    fn transport_failure(&self, call: ApiCall, error: &reqwest::Error) -> Failure {
        if let Some(problem) = certificate_problem(error) {
            return Failure::new(call, FailureClass::Unsent, &problem);
        }
        // the innermost error says why; those around it repeat the URL
        let cause = std::iter::successors(std::error::Error::source(error), |e| e.source()).last();
        let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
        match (self.proxy, error) {
            (Some(variable), e) if e.is_connect() => {
                let message = format!("it cannot be reached through the proxy that {variable} names{cause}");
                Failure::new(call, FailureClass::Unsent, &message)
            }
            (None, e) if e.is_connect() => {
                Failure::new(call, FailureClass::Unsent, &format!("the service cannot be reached{cause}"))
            }
            (_, e) if e.is_timeout() => {
                let message = format!("no answer within the timeout{cause}");
                Failure::new(call, FailureClass::Unknown, &message)
            }
            _ => {
                let message = format!("the connection ended before the answer was complete{cause}");
                Failure::new(call, FailureClass::Unknown, &message)
            }
        }
    }
}
