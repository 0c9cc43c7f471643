//! The HTTP server of `/livez`, `/readyz` and `/metrics`, and of `/log-level`, which changes what is logged. Knows no object
//! and decides nothing.
//!
//! Everybody who reaches the port may connect, so connections, their headers and their lives are bounded, and one scrape is
//! answered at a time: the answer for thousands of objects takes megabytes.

use std::{
    convert::Infallible,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Extension, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, State},
    http::{
        HeaderMap, StatusCode,
        header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
    routing::{get, put},
};
use futures::{StreamExt, stream};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use prometheus_client::registry::Registry;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};

use crate::{
    sync::lock,
    telemetry::{Format, scrape, set_log_filter},
};

/// Probes and scrapes need a handful.
const MAX_CONNECTIONS: usize = 32;
/// From the begin of a request, or the end of the one before, to the end of its headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(20);
/// Prometheus and kubelet send a few hundred. hyper takes no less.
const MAX_HEADER_BYTES: usize = 8 << 10;
/// A log filter.
const MAX_BODY_BYTES: usize = 4 << 10;
/// A connection takes no more requests after this, and is closed.
const CONNECTION_LIFETIME: Duration = Duration::from_mins(1);
/// For the answer that is being sent then.
const CONNECTION_GRACE: Duration = Duration::from_secs(10);
/// How long a scrape waits for another one.
const SCRAPE_WAIT: Duration = Duration::from_secs(5);

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

/// Asked at each probe: what is wrong, if anything.
pub type Check = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// What the probes answer.
#[derive(Clone)]
pub struct Probes {
    /// What the start waits for.
    pub readiness: Readiness,
    /// Why the process is not ready, once it has started.
    pub ready: Check,
    /// Why the process must be restarted.
    pub live: Check,
}

/// Who sends a request.
#[derive(Clone, Copy)]
struct Client {
    is_local: bool,
}

#[derive(Clone)]
struct Shared {
    probes: Probes,
    /// What the log said of `/livez` last.
    reported: Arc<Mutex<Option<String>>>,
    registry: Arc<Registry>,
    /// The permit of the one scrape that is answered.
    scrapes: Arc<Semaphore>,
}

/// Serves in a task of its own until the process ends.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(listen: SocketAddr, probes: Probes, registry: Registry) -> std::io::Result<()> {
    // here and not in the task: a port that is taken must end the process
    let listener = bind(listen).await?;
    tracing::info!(address = %listener.local_addr()?, "serving /livez, /readyz and /metrics");
    tokio::spawn(accept(listener, routes(probes, registry)));
    Ok(())
}

async fn accept(listener: TcpListener, routes: Router) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // the next one waits in the backlog of the socket, as long as all are taken
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, address)) => {
                let client = Client { is_local: address.ip().to_canonical().is_loopback() };
                let connection = serve_connection(stream, routes.clone().layer(Extension(client)));
                tokio::spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            // such as too many open files; without a pause this would be a busy loop
            Err(error) => {
                tracing::debug!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// A client that is slow, in sending or in reading, is disconnected.
async fn serve_connection(stream: TcpStream, routes: Router) {
    let service = TowerToHyperService::new(routes);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    if timeout(CONNECTION_LIFETIME, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        // an error is the client's
        let _ = timeout(CONNECTION_GRACE, connection).await;
    }
}

/// `[::]` takes connections of both protocols; on a node without IPv6 those of IPv4, as in Go.
async fn bind(listen: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(listen).await {
        Err(error)
            if listen.is_ipv6() && listen.ip().is_unspecified() && error.kind() != ErrorKind::AddrInUse =>
        {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, listen.port())).await.map_err(|_| error)
        }
        bound => bound,
    }
}

fn routes(probes: Probes, registry: Registry) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/log-level", put(log_level))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(Shared {
            probes,
            reported: Arc::default(),
            registry: Arc::new(registry),
            scrapes: Arc::new(Semaphore::new(1)),
        })
}

async fn livez(State(shared): State<Shared>) -> Response {
    let problem = (shared.probes.live)();
    let reported = std::mem::replace(&mut *lock(&shared.reported), problem.clone());
    if problem.is_some() && problem != reported {
        // the probe's own answer is gone with the container
        tracing::error!(problem, "not live");
    }
    answer(problem)
}

/// Changes what is logged until the process ends. For clients of the pod itself only, which `kubectl port-forward` is: the
/// port is open to everybody who may scrape it.
async fn log_level(Extension(client): Extension<Client>, filter: String) -> Response {
    if !client.is_local {
        return (StatusCode::FORBIDDEN, "only from the pod itself; use kubectl port-forward").into_response();
    }
    match set_log_filter(filter.trim()) {
        Ok(filter) => {
            tracing::info!(%filter, "log level changed");
            filter.into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, error).into_response(),
    }
}

async fn readyz(State(shared): State<Shared>) -> Response {
    answer(shared.probes.readiness.get().or_else(|| (shared.probes.ready)()))
}

fn answer(problem: Option<String>) -> Response {
    match problem {
        None => "ok".into_response(),
        Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, problem).into_response(),
    }
}

async fn metrics(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let Ok(Ok(permit)) = timeout(SCRAPE_WAIT, shared.scrapes.clone().acquire_owned()).await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "another scrape is being answered; try again")
            .into_response();
    };
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let format = Format::accepted(accept);
    match scrape(&shared.registry, format) {
        Ok(text) => {
            let headers =
                [(CONTENT_TYPE, format.content_type().to_owned()), (CONTENT_LENGTH, text.len().to_string())];
            // the permit goes with the text, which is freed once it is sent or the connection is closed
            let text = stream::once(async move { Ok::<_, Infallible>(Bytes::from(text)) });
            let end = stream::once(async move {
                drop(permit);
                Ok(Bytes::new())
            });
            (headers, Body::from_stream(text.chain(end))).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use axum::http::Request;
    use kube::client::Body;
    use prometheus_client::metrics::{family::Family, gauge::Gauge};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn page(client: &kube::Client, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = client.send(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect_bytes().await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn probes(readiness: &Readiness) -> Probes {
        Probes { readiness: readiness.clone(), ready: Arc::new(|| None), live: Arc::new(|| None) }
    }

    #[tokio::test]
    async fn checks_answer_once_the_start_is_over() {
        let readiness = Readiness::waiting("starting");
        let probes = Probes {
            ready: Arc::new(|| Some("no Lease".to_owned())),
            live: Arc::new(|| Some("wedged".to_owned())),
            ..probes(&readiness)
        };
        let client = kube::Client::new(routes(probes, Registry::default()), "default");
        assert_eq!(page(&client, "/readyz").await, (503, "starting".to_owned()));
        assert_eq!(page(&client, "/livez").await, (503, "wedged".to_owned()));
        readiness.set(None);
        assert_eq!(page(&client, "/readyz").await, (503, "no Lease".to_owned()));
    }

    #[tokio::test]
    async fn readyz_is_503_with_the_reason_until_ready() {
        let readiness = Readiness::waiting("starting");
        let client = kube::Client::new(routes(probes(&readiness), Registry::default()), "default");
        assert_eq!(page(&client, "/readyz").await, (503, "starting".to_owned()));
        readiness.set(Some("the CRDs are not installed".to_owned()));
        assert_eq!(page(&client, "/readyz").await, (503, "the CRDs are not installed".to_owned()));
        assert_eq!(page(&client, "/livez").await, (200, "ok".to_owned()));
        readiness.set(None);
        assert_eq!(page(&client, "/readyz").await, (200, "ok".to_owned()));
    }

    #[tokio::test]
    async fn metrics_are_text_of_either_format() {
        let client = kube::Client::new(
            routes(probes(&Readiness::waiting("starting")), Registry::default()),
            "default",
        );
        assert_eq!(page(&client, "/metrics").await, (200, String::new()));
        let request = Request::get("/metrics").header(ACCEPT, "application/openmetrics-text; version=1.0.0");
        let response = client.send(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.into_body().collect_bytes().await.unwrap(), "# EOF\n");
    }

    /// The address of a server that answers as the operator does.
    async fn serve_registry(registry: Registry) -> SocketAddr {
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(accept(listener, routes(probes(&Readiness::waiting("starting")), registry)));
        address
    }

    async fn connect() -> TcpStream {
        TcpStream::connect(serve_registry(Registry::default()).await).await.unwrap()
    }

    async fn answer_to(request: &str) -> String {
        let mut connection = connect().await;
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // a reset after the answer is as good as an end
        let _ = connection.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn large_headers_and_bodies_are_refused() {
        let long = "a".repeat(MAX_HEADER_BYTES);
        let answer = answer_to(&format!("GET /livez HTTP/1.1\r\nHost: x\r\nA: {long}\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        let head = format!(
            "PUT /log-level HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            8192
        );
        let answer = answer_to(&(head + &long)).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn slow_client_is_disconnected() {
        let mut connection = connect().await;
        connection.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
        let started = tokio::time::Instant::now();
        let mut answer = Vec::new();
        let _ = connection.read_to_end(&mut answer).await;
        assert!(started.elapsed() <= CONNECTION_LIFETIME + CONNECTION_GRACE, "{:?}", started.elapsed());
    }

    /// More than the buffers of a connection hold.
    fn large_registry() -> Registry {
        let family = Family::<Vec<(&'static str, String)>, Gauge>::default();
        for number in 0..20_000 {
            family.get_or_create(&vec![("label", format!("{number}{}", "a".repeat(1_000)))]).set(1);
        }
        let mut registry = Registry::default();
        registry.register("large", "Large", family);
        registry
    }

    #[tokio::test(start_paused = true)]
    async fn scrape_waits_for_another_one_and_is_refused_in_the_end() {
        let address = serve_registry(large_registry()).await;
        let scrape = async || {
            let mut connection = TcpStream::connect(address).await.unwrap();
            connection.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            let mut head = [0; 12];
            connection.read_exact(&mut head).await.unwrap();
            (connection, head)
        };
        // its answer is not read
        let (first, head) = scrape().await;
        assert_eq!(&head, b"HTTP/1.1 200");
        assert_eq!(&scrape().await.1, b"HTTP/1.1 503");
        drop(first);
        assert_eq!(&scrape().await.1, b"HTTP/1.1 200");
    }

    #[tokio::test]
    async fn log_level_is_for_the_pod_itself() {
        for (is_local, status) in [(false, 403), (true, 400)] {
            let routes = routes(probes(&Readiness::waiting("starting")), Registry::default());
            let client = kube::Client::new(routes.layer(Extension(Client { is_local })), "default");
            let request = Request::put("/log-level").body(Body::from(b"no=such=level".to_vec())).unwrap();
            assert_eq!(client.send(request).await.unwrap().status().as_u16(), status);
        }
    }
}
