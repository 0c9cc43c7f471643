//! Each request to the API server: none but a watch lasts for ever, and what a watch hears is noted.

use std::{
    future::ready,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, BodyDataStream, Bytes},
    http::{Request, Response, Uri},
};
use futures::{Stream, StreamExt, stream};
use kube::client::DynBody;
use tokio::time::{Instant, timeout_at};
use tower::{BoxError, Layer, Service};

use crate::health::Liveness;

/// From a request to the end of its answer. Longer than the API server itself takes at most.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(65);

/// Wraps the client's transport.
pub struct Supervised(pub Liveness);

impl<S> Layer<S> for Supervised {
    type Service = SupervisedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SupervisedService { inner, liveness: self.0.clone() }
    }
}

/// The transport with limits.
pub struct SupervisedService<S> {
    inner: S,
    liveness: Liveness,
}

type Answer = Response<Box<DynBody>>;
type Pending = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

impl<S, B> Service<Request<B>> for SupervisedService<S>
where
    S: Service<Request<B>, Response = Answer, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pending;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Pending {
        let path = request.uri().path().to_owned();
        let is_watch = is_watch(request.uri());
        if is_watch && let Some(kind) = kind(&path) {
            self.liveness.watch_begins(&path, kind);
        }
        let liveness = self.liveness.clone();
        let answer = self.inner.call(request);
        if is_watch {
            Box::pin(watch(answer, liveness, path))
        } else {
            Box::pin(within(Instant::now() + ANSWER_TIMEOUT, answer, liveness, path))
        }
    }
}

/// The answer to a request that is no watch, or an error at `deadline`.
async fn within(
    deadline: Instant,
    answer: impl Future<Output = Result<Answer, BoxError>>,
    liveness: Liveness,
    path: String,
) -> Result<Response<Body>, BoxError> {
    let Ok(answer) = timeout_at(deadline, answer).await else { return Err(no_answer()) };
    let answer = answer.inspect_err(|_| liveness.watch_heard(&path))?;
    if !answer.status().is_success() {
        liveness.watch_heard(&path);
    }
    Ok(answer.map(|body| Body::from_stream(until(deadline, Body::new(body).into_data_stream()))))
}

/// The data, or an error at `deadline`.
fn until(
    deadline: Instant,
    data: BodyDataStream,
) -> impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static {
    stream::unfold(Some(data), move |data| async move {
        let mut data = data?;
        match timeout_at(deadline, data.next()).await {
            Ok(chunk) => Some((chunk?.map_err(BoxError::from), Some(data))),
            Err(_) => Some((Err(no_answer()), None)),
        }
    })
}

/// The answer to a watch. How long it may be silent is the watcher's concern.
async fn watch(
    answer: impl Future<Output = Result<Answer, BoxError>>,
    liveness: Liveness,
    path: String,
) -> Result<Response<Body>, BoxError> {
    let answer = answer.await.inspect_err(|_| liveness.watch_heard(&path))?;
    if !answer.status().is_success() {
        liveness.watch_heard(&path);
    }
    Ok(answer.map(|body| {
        let (event, end) = (liveness.clone(), path.clone());
        let noted = Body::new(body).into_data_stream().inspect(move |chunk| match chunk {
            // blanks between two events keep a connection open, and say nothing
            Ok(data) if is_blank(data) => {}
            Ok(_) => event.watch_event(&path),
            Err(_) => event.watch_heard(&path),
        });
        let ended = stream::once(async move { liveness.watch_heard(&end) }).filter_map(|()| ready(None));
        Body::from_stream(noted.chain(ended))
    }))
}

fn no_answer() -> BoxError {
    format!("no answer from the API server within {} s", ANSWER_TIMEOUT.as_secs()).into()
}

fn is_blank(data: &Bytes) -> bool {
    data.trim_ascii().is_empty()
}

fn is_watch(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true" || pair == "watch=1"))
}

/// The kind that a path lists and watches.
fn kind(path: &str) -> Option<&'static str> {
    match path.rsplit('/').next()? {
        "chatbotversions" => Some("ChatbotVersion"),
        "chatbotdeployments" => Some("ChatbotDeployment"),
        "secrets" => Some("Secret"),
        _ => None,
    }
}
