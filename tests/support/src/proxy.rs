//! Stands between the operator and a server, and can kill the operator at a chosen request.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use reqwest::{Certificate, Client};
use serde_json::{Value, json};

use crate::World;

/// On which side of a request's effect the operator dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The request never arrives.
    Before,
    /// It takes effect; its answer never arrives.
    After,
}

/// Counts requests once it is enabled, and kills the operator at one of them.
pub struct Failpoint {
    trigger: Option<(usize, Side)>,
    kill: Box<dyn Fn() + Send + Sync>,
    armed: AtomicBool,
    seen: Mutex<Vec<String>>,
}

impl Failpoint {
    /// Counts only, or calls `kill` at that request, counted from 1.
    pub fn new(trigger: Option<(usize, Side)>, kill: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { trigger, kill: Box::new(kill), armed: AtomicBool::default(), seen: Mutex::default() })
    }

    /// From now on requests count.
    pub fn enable(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    /// The requests that were counted, in order.
    pub fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// Whether the request has arrived: the operator is dead or about to be.
    pub fn has_triggered(&self) -> bool {
        self.trigger.is_some_and(|(at, _)| self.seen.lock().unwrap().len() >= at)
    }

    /// Counts a request; returns on which side of it to kill the operator, if at all.
    fn count(&self, request: String) -> Option<Side> {
        if !self.armed.load(Ordering::SeqCst) {
            return None;
        }
        let mut seen = self.seen.lock().unwrap();
        seen.push(request);
        self.trigger.filter(|(at, _)| *at == seen.len()).map(|(_, side)| side)
    }
}

/// Which requests the proxy treats badly.
pub type Matcher = fn(&Method, &Uri) -> bool;

/// What goes wrong between the operator and a server, until it is ended.
#[derive(Default)]
pub struct Disturbance {
    hanging: Mutex<Option<Matcher>>,
    silent: Mutex<Option<Matcher>>,
}

impl Disturbance {
    /// These requests get no answer.
    pub fn hang(&self, requests: Matcher) {
        *self.hanging.lock().unwrap() = Some(requests);
    }

    /// These requests, also those that are open, are answered, but nothing of their answer's body arrives.
    pub fn silence(&self, requests: Matcher) {
        *self.silent.lock().unwrap() = Some(requests);
    }

    /// From now on all is well.
    pub fn end(&self) {
        *self.hanging.lock().unwrap() = None;
        *self.silent.lock().unwrap() = None;
    }

    fn concerns(matcher: &Mutex<Option<Matcher>>, method: &Method, uri: &Uri) -> bool {
        matcher.lock().unwrap().is_some_and(|matches| matches(method, uri))
    }

    async fn wait_until_over(&self, matcher: &Mutex<Option<Matcher>>, method: &Method, uri: &Uri) {
        while Self::concerns(matcher, method, uri) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// One server behind a proxy.
struct Proxy {
    client: Client,
    target: String,
    failpoint: Arc<Failpoint>,
    disturbance: Arc<Disturbance>,
}

/// The address of a proxy for the world's service.
pub fn proxy_to_service(world: &World, failpoint: Arc<Failpoint>) -> String {
    let client = Client::builder().no_proxy();
    let client = client.tls_certs_only([]).build().unwrap();
    let proxy = Proxy { client, target: world.service.url(), failpoint, disturbance: Arc::default() };
    format!("http://{}", proxy.serve(world))
}

/// A kubeconfig that leads through a proxy to the world's cluster.
pub fn proxy_to_cluster(world: &World, failpoint: Arc<Failpoint>) -> Value {
    through_proxy(world, failpoint, Arc::default())
}

/// The same, with what may go wrong on the way.
pub fn disturbed_cluster(world: &World) -> (Value, Arc<Disturbance>) {
    let disturbance = Arc::<Disturbance>::default();
    (through_proxy(world, Failpoint::new(None, || {}), disturbance.clone()), disturbance)
}

fn through_proxy(world: &World, failpoint: Arc<Failpoint>, disturbance: Arc<Disturbance>) -> Value {
    let text = std::fs::read_to_string(&world.kubeconfig).unwrap();
    let mut kubeconfig: Value = serde_json::from_str(&text).unwrap();
    let config = world.cluster.runtime().block_on(async {
        let direct = Kubeconfig::from_yaml(&text).unwrap();
        let options = KubeConfigOptions::default();
        kube::Config::from_custom_kubeconfig(direct, &options).await.unwrap()
    });
    let authorities = config.root_cert.into_iter().flatten();
    let authorities = authorities.map(|der| Certificate::from_der(&der).unwrap());
    let client = Client::builder().no_proxy();
    let proxy = Proxy {
        client: client.tls_certs_only(authorities).build().unwrap(),
        target: config.cluster_url.to_string().trim_end_matches('/').to_owned(),
        failpoint,
        disturbance,
    };
    let address = proxy.serve(world);
    kubeconfig["clusters"][0]["cluster"] = json!({"server": format!("http://{address}")});
    kubeconfig
}

impl Proxy {
    /// Serves until the cluster's runtime ends.
    fn serve(self, world: &World) -> SocketAddr {
        let runtime = world.cluster.runtime();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0");
        let listener = runtime.block_on(listener).unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().fallback(pass).with_state(Arc::new(self));
        runtime.spawn(async move { axum::serve(listener, routes).await });
        address
    }

    /// The server's response, its body not yet read.
    async fn forward(
        &self,
        method: Method,
        uri: &Uri,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> reqwest::Result<reqwest::Response> {
        headers.remove(header::HOST);
        headers.remove(header::CONTENT_LENGTH);
        let url = format!("{}{uri}", self.target);
        let request = self.client.request(method, url).headers(headers);
        request.body(body).send().await
    }
}

async fn pass(State(proxy): State<Arc<Proxy>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let disturbance = proxy.disturbance.clone();
    disturbance.wait_until_over(&disturbance.hanging, &head.method, &head.uri).await;
    let step = step(&head.method, head.uri.path());
    let side = step.and_then(|step| proxy.failpoint.count(step));
    if side == Some(Side::Before) {
        return proxy.trigger().await;
    }
    let answer = proxy.forward(head.method.clone(), &head.uri, head.headers, body).await;
    let Ok(answer) = answer else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    if side == Some(Side::After) {
        // the whole answer: the effect is done and committed
        let _ = answer.bytes().await;
        return proxy.trigger().await;
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = answer.status();
    *response.headers_mut() = answer.headers().clone();
    response.headers_mut().remove(header::TRANSFER_ENCODING);
    // chunk by chunk: a watch never ends
    let request = (disturbance, head.method, head.uri);
    let chunks = futures::stream::unfold((answer, request), |(mut answer, request)| async {
        let chunk = answer.chunk().await;
        let (disturbance, method, uri) = &request;
        disturbance.wait_until_over(&disturbance.silent, method, uri).await;
        Some((Ok::<_, Infallible>(chunk.ok()??), (answer, request)))
    });
    *response.body_mut() = Body::from_stream(chunks);
    response
}

impl Proxy {
    async fn trigger(self: Arc<Self>) -> Response {
        let killed = tokio::task::spawn_blocking(move || (self.failpoint.kill)()).await;
        killed.unwrap();
        // the operator is dead and reads nothing
        StatusCode::BAD_GATEWAY.into_response()
    }
}

/// The request as a step of the operator's work, if it is one: a write of an object, or a call of the service.
fn step(method: &Method, path: &str) -> Option<String> {
    let object = path.contains("/chatbotversions/") || path.contains("/chatbotdeployments/");
    let write = *method != Method::GET;
    let call = path.starts_with("/v1/chatbots/");
    let shown = path.split('/').skip_while(|part| !part.starts_with("chatbot"));
    let shown = shown.collect::<Vec<_>>().join("/");
    ((object && write) || call).then(|| format!("{method} {shown}"))
}
