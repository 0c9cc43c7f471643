//! The routes of the service: HTTP into a call, a reply into HTTP.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};

use crate::answers::{Answer, Body, Reply};
use crate::connection::Scissors;
use crate::record::Operation;
use crate::service::{Call, Service};

const KEY_HEADER: &str = "x-chatcaptain-key";

pub fn routes() -> Router<Arc<Service>> {
    Router::new()
        .route("/v1/chatbots/{chatbot}/versions", get(list).post(create))
        .route("/v1/chatbots/{chatbot}/versions/{version}", delete(remove))
        .route("/v1/chatbots/{chatbot}/versions/{version}/deploy", post(deploy))
        .route("/v1/chatbots/{chatbot}/versions/{version}/rollback", post(rollback))
        .route("/v1/chatbots/{chatbot}/deployments/status", get(status))
        .fallback(nothing_here)
        .method_not_allowed_fallback(nothing_here)
}

/// What every call brings: its key, and the connection it came on.
struct Door {
    service: Arc<Service>,
    connection: Scissors,
    key: String,
}

impl FromRequestParts<Arc<Service>> for Door {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, service: &Arc<Service>) -> Result<Self, Self::Rejection> {
        let key = parts.headers.get(KEY_HEADER).and_then(|key| key.to_str().ok());
        let connection = parts.extensions.get::<ConnectInfo<Scissors>>();
        Ok(Self {
            service: Arc::clone(service),
            connection: connection.map(|c| c.0.clone()).unwrap_or_default(),
            key: key.unwrap_or_default().to_owned(),
        })
    }
}

impl Door {
    async fn call(
        self,
        operation: Operation,
        chatbot: String,
        version: Option<String>,
        body: Bytes,
    ) -> Response {
        let call = Call { operation, chatbot, version, key: self.key, body };
        match self.service.answer(call).await {
            Reply::Answer(answer) => answer.into_response(),
            Reply::Cut => {
                self.connection.cut();
                // never sent: its first byte meets the cut
                StatusCode::OK.into_response()
            }
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::OK);
        let mut response = match self.body {
            Body::Empty => status.into_response(),
            Body::Json(json) => typed(status, "application/json; charset=utf-8", json),
            Body::Html(html) => typed(status, "text/html", html),
        };
        let retry_after = self.retry_after.and_then(|value| value.parse().ok());
        if let Some(value) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        response
    }
}

fn typed(status: StatusCode, content: &'static str, body: impl IntoResponse) -> Response {
    let headers: [(HeaderName, &str); 1] = [(header::CONTENT_TYPE, content)];
    (status, headers, body).into_response()
}

async fn list(door: Door, Path(chatbot): Path<String>) -> Response {
    door.call(Operation::List, chatbot, None, Bytes::new()).await
}

async fn create(door: Door, Path(chatbot): Path<String>, body: Bytes) -> Response {
    door.call(Operation::Create, chatbot, None, body).await
}

async fn remove(door: Door, Path((chatbot, id)): Path<(String, String)>) -> Response {
    door.call(Operation::Delete, chatbot, Some(id), Bytes::new()).await
}

async fn deploy(door: Door, Path((chatbot, id)): Path<(String, String)>, body: Bytes) -> Response {
    door.call(Operation::Deploy, chatbot, Some(id), body).await
}

async fn rollback(door: Door, Path((chatbot, id)): Path<(String, String)>, body: Bytes) -> Response {
    door.call(Operation::Rollback, chatbot, Some(id), body).await
}

async fn status(door: Door, Path(chatbot): Path<String>) -> Response {
    door.call(Operation::Status, chatbot, None, Bytes::new()).await
}

async fn nothing_here(State(_): State<Arc<Service>>, method: Method, uri: Uri) -> Response {
    Answer::error(404, format!("Cannot {method} {}", uri.path())).into_response()
}
