//! The calls over HTTP. One request each: nothing here tries again.

use std::time::{Duration, Instant};

use reqwest::{
    Method, Response,
    header::{DATE, HeaderValue, RETRY_AFTER},
};
use url::Url;

use super::{
    error::{ApiCall, Failure, FailureClass, classify},
    inventory::{Deployments, Inventory},
    types::{ApiKey, ChatbotId, VersionId},
    wire,
};

/// Largest answer that is read, in bytes: about 50,000 versions.
const MAX_ANSWER_BYTES: usize = 32 << 20;
/// As much of an answer that is no success as is read, in bytes: it is only words.
const MAX_ERROR_BYTES: usize = 64 << 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a create sends.
#[derive(Clone, Debug)]
pub struct NewVersion {
    /// Name of the version.
    pub name: String,
    /// Description, marker included.
    pub description: String,
    /// `dev`, `test` or `prod`.
    pub environment: &'static str,
}

/// The service at one address.
#[derive(Clone, Debug)]
pub struct ApiClient {
    http: reqwest::Client,
    base: Url,
}

impl ApiClient {
    /// A client for `base`; `timeout` bounds each call as a whole, its answer's body included.
    ///
    /// Redirects are not followed: the key would go along.
    ///
    /// # Errors
    /// When no TLS provider or certificate store can be had.
    pub fn new(base: Url, timeout: Duration) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .tcp_nodelay(true)
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, base })
    }

    /// The versions of a chatbot.
    ///
    /// # Errors
    /// The class of the failure.
    pub async fn list(&self, key: &ApiKey, bot: &ChatbotId) -> Result<Inventory, Failure> {
        let at = Instant::now();
        let body = self.call(ApiCall::List, Method::GET, key, &[bot.as_str(), "versions"], None).await?;
        Ok(Inventory::new(wire::list(&body)?, at))
    }

    /// What is live.
    ///
    /// # Errors
    /// The class of the failure.
    pub async fn status(&self, key: &ApiKey, bot: &ChatbotId) -> Result<Deployments, Failure> {
        let path = [bot.as_str(), "deployments", "status"];
        let body = self.call(ApiCall::Status, Method::GET, key, &path, None).await?;
        wire::status(&body)
    }

    /// Creates a version; the answer is its id where the service tells it.
    ///
    /// # Errors
    /// The class of the failure.
    pub async fn create(
        &self,
        key: &ApiKey,
        bot: &ChatbotId,
        new: &NewVersion,
    ) -> Result<Option<VersionId>, Failure> {
        let body = serde_json::json!({
            "name": new.name, "description": new.description, "environment": new.environment,
        });
        self.write(ApiCall::Create, key, &[bot.as_str(), "versions"], Some(&body)).await
    }

    /// Deletes a version.
    ///
    /// # Errors
    /// The class of the failure.
    pub async fn delete(&self, key: &ApiKey, bot: &ChatbotId, version: &VersionId) -> Result<(), Failure> {
        let path = [bot.as_str(), "versions", version.as_str()];
        self.write(ApiCall::Delete, key, &path, None).await.map(drop)
    }

    /// Deploys a version to `environment`.
    ///
    /// # Errors
    /// The class of the failure.
    pub async fn deploy(
        &self,
        key: &ApiKey,
        bot: &ChatbotId,
        version: &VersionId,
        environment: &str,
    ) -> Result<(), Failure> {
        let path = [bot.as_str(), "versions", version.as_str(), "deploy"];
        self.write(ApiCall::Deploy, key, &path, Some(&serde_json::json!({"environment": environment})))
            .await
            .map(drop)
    }

    /// Rolls back to a version with this body.
    ///
    /// # Errors
    /// The class of the failure.
    pub async fn rollback(
        &self,
        key: &ApiKey,
        bot: &ChatbotId,
        version: &VersionId,
        body: &serde_json::Value,
    ) -> Result<(), Failure> {
        let path = [bot.as_str(), "versions", version.as_str(), "rollback"];
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
        let answer = self.call(call, method, key, path, body).await?;
        wire::write(call, &answer)
    }

    async fn call(
        &self,
        call: ApiCall,
        method: Method,
        key: &ApiKey,
        path: &[&str],
        body: Option<&serde_json::Value>,
    ) -> Result<Vec<u8>, Failure> {
        let unsent = |why: &str| Failure::new(call, FailureClass::Unsent, why);
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| unsent("the service's address cannot have a path"))?
            .pop_if_empty()
            .extend(["v1", "chatbots"])
            .extend(path);
        let mut header =
            HeaderValue::from_str(key.expose()).map_err(|_| unsent("the API key is no header value"))?;
        header.set_sensitive(true);
        let mut request = self.http.request(method, url).header("x-chatcaptain-key", header);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.map_err(|error| transport_failure(call, &error))?;
        read_answer(call, key, response).await
    }
}

/// Reads a whole answer, or classes it where it is no success.
async fn read_answer(call: ApiCall, key: &ApiKey, mut response: Response) -> Result<Vec<u8>, Failure> {
    let status = response.status();
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (retry_after, date) = (header(RETRY_AFTER), header(DATE));
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| transport_failure(call, &error))? {
        if !status.is_success() && body.len() + chunk.len() > MAX_ERROR_BYTES {
            body.extend_from_slice(&chunk[..MAX_ERROR_BYTES - body.len()]);
            break;
        }
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(Failure::new(call, FailureClass::Unknown, "the answer is larger than 32 MiB"));
        }
        body.extend_from_slice(&chunk);
    }
    // before anything is cut out of it: a part of the key would not be known again
    let body = key.redact(body);
    if status.is_success() {
        return Ok(body);
    }
    Err(classify(call, status.as_u16(), retry_after.as_deref(), date.as_deref(), &body))
}

/// A failure without an answer. Only a connection that never stood proves that nothing was sent.
fn transport_failure(call: ApiCall, error: &reqwest::Error) -> Failure {
    let (class, what) = match error {
        e if e.is_connect() => (FailureClass::Unsent, "the service cannot be reached"),
        e if e.is_timeout() => (FailureClass::Unknown, "no answer in time"),
        _ => (FailureClass::Unknown, "the connection broke"),
    };
    let cause = std::iter::successors(std::error::Error::source(error), |e| e.source()).last();
    let message = cause.map_or_else(|| what.to_owned(), |cause| format!("{what}: {cause}"));
    Failure::new(call, class, &message)
}
