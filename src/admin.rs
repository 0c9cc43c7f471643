//! The HTTP server of `/livez`, `/readyz` and `/metrics`. Knows no object and decides nothing.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::{sync::lock, telemetry::scrape};

/// What `/readyz` answers. Clones share one state.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Mutex<Option<String>>>);

impl Readiness {
    /// Not ready; `/readyz` answers 503 with `reason`.
    #[must_use]
    pub fn waiting(reason: &str) -> Self {
        Self(Arc::new(Mutex::new(Some(reason.to_owned()))))
    }

    /// Ready with `None`, otherwise not ready: `/readyz` answers 503 with the reason.
    pub fn set(&self, reason: Option<String>) {
        *lock(&self.0) = reason;
    }

    fn get(&self) -> Option<String> {
        lock(&self.0).clone()
    }
}

#[derive(Clone)]
struct Shared {
    readiness: Readiness,
    registry: Arc<Registry>,
}

/// Serves in a task of its own until the process ends.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(listen: SocketAddr, readiness: Readiness, registry: Registry) -> std::io::Result<()> {
    // here and not in the task: a port that is taken must end the process
    let listener = TcpListener::bind(listen).await?;
    tracing::info!(address = %listener.local_addr()?, "serving /livez, /readyz and /metrics");
    tokio::spawn(async move { axum::serve(listener, routes(readiness, registry)).await });
    Ok(())
}

fn routes(readiness: Readiness, registry: Registry) -> Router {
    Router::new()
        // independent of the cluster and the service: a restart repairs neither
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Shared { readiness, registry: Arc::new(registry) })
}

async fn readyz(State(shared): State<Shared>) -> Response {
    match shared.readiness.get() {
        None => "ok".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason).into_response(),
    }
}

async fn metrics(State(shared): State<Shared>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match scrape(&shared.registry) {
        Ok(text) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use axum::http::Request;
    use kube::client::{Body, Client};

    use super::*;

    async fn page(client: &Client, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = client.send(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect_bytes().await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readyz_is_503_with_the_reason_until_ready() {
        let readiness = Readiness::waiting("starting");
        let client = Client::new(routes(readiness.clone(), Registry::default()), "default");
        assert_eq!(page(&client, "/readyz").await, (503, "starting".to_owned()));
        readiness.set(Some("the CRDs are not installed".to_owned()));
        assert_eq!(page(&client, "/readyz").await, (503, "the CRDs are not installed".to_owned()));
        assert_eq!(page(&client, "/livez").await, (200, "ok".to_owned()));
        readiness.set(None);
        assert_eq!(page(&client, "/readyz").await, (200, "ok".to_owned()));
    }

    #[tokio::test]
    async fn metrics_are_open_metrics_text() {
        let client = Client::new(routes(Readiness::waiting("starting"), Registry::default()), "default");
        assert_eq!(page(&client, "/metrics").await, (200, "# EOF\n".to_owned()));
    }
}
