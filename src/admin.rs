//! `/livez`, `/readyz` and `/metrics`.

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

/// What the process waits for before it is ready.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Mutex<Option<String>>>);

impl Readiness {
    /// Not ready, and why.
    #[must_use]
    pub fn waiting(why: &str) -> Self {
        Self(Arc::new(Mutex::new(Some(why.to_owned()))))
    }

    /// `None`: ready; otherwise what is waited for.
    pub fn set(&self, waiting_for: Option<String>) {
        *lock(&self.0) = waiting_for;
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

/// Serves until the process ends.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(listen: SocketAddr, readiness: Readiness, registry: Registry) -> std::io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    tracing::info!(address = %listener.local_addr()?, "serving /livez, /readyz and /metrics");
    let routes = Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Shared { readiness, registry: Arc::new(registry) });
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(())
}

async fn readyz(State(shared): State<Shared>) -> Response {
    match shared.readiness.get() {
        None => "ok".into_response(),
        Some(waiting_for) => (StatusCode::SERVICE_UNAVAILABLE, waiting_for).into_response(),
    }
}

async fn metrics(State(shared): State<Shared>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match scrape(&shared.registry) {
        Ok(text) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
