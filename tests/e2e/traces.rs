//! Spans over OTLP, from a reconcile to its requests.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message;
use simulator::Settings;
use support::{KEY, World};

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Bytes>>>);

impl Collector {
    fn serve(&self, world: &World) -> SocketAddr {
        let runtime = world.cluster.runtime();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let take = async |State(collector): State<Self>, body: Bytes| collector.0.lock().unwrap().push(body);
        let routes = Router::new().route("/v1/traces", post(take)).with_state(self.clone());
        runtime.spawn(async move { axum::serve(listener, routes).await });
        address
    }

    fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        let bodies = self.0.lock().unwrap();
        bodies.iter().map(|body| ExportTraceServiceRequest::decode(body.clone()).unwrap()).collect()
    }

    fn spans(&self) -> Vec<Span> {
        let resources = self.requests().into_iter().flat_map(|request| request.resource_spans);
        resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    }

    /// All spans and that of a create, once its ancestors have ended and are here, too.
    fn create(&self) -> Option<(Vec<Span>, Span)> {
        let spans = self.spans();
        let create = spans.iter().find(|span| {
            let is = |name, value: &str| attribute(&span.attributes, name).as_deref() == Some(value);
            span.name == "request" && is("operation", "create") && is("outcome", "ok")
        })?;
        let create = create.clone();
        let is_complete = spans.iter().any(|span| span.name == "object" && span.trace_id == create.trace_id);
        is_complete.then_some((spans, create))
    }
}

fn attribute(attributes: &[KeyValue], name: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == name)?;
    match found.value.clone()?.value? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

#[test]
fn requests_are_traced_to_the_reconcile_of_an_object() {
    let world = World::without_operator(Settings::default(), &[]);
    let collector = Collector::default();
    let endpoint = format!("http://{}", collector.serve(&world));
    world.start_with(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=e2e"),
    ]);
    world.apply_version("a", &[]);
    let uid = world.wait_until_version_ready("a").metadata.uid.unwrap();
    let (spans, create) = world.eventually("the create is exported", || collector.create());
    let parent =
        |child: &Span| spans.iter().find(|span| span.span_id == child.parent_span_id).unwrap().clone();
    assert!(attribute(&create.attributes, "path").unwrap().starts_with(&world.bot));
    let reconcile = parent(&create);
    assert_eq!((reconcile.name.as_str(), attribute(&reconcile.attributes, "uid")), ("reconcile", Some(uid)));
    assert!(attribute(&reconcile.attributes, "step").unwrap().contains("create"));
    let object = parent(&reconcile);
    assert_eq!(object.name, "object");
    assert_eq!(attribute(&object.attributes, "name").as_deref(), Some("a"));
    assert!(object.parent_span_id.is_empty());
    assert!(
        spans.iter().any(|span| span.name == "HTTP" || span.attributes.iter().any(|a| a.key == "http.url"))
    );

    let resource = collector.requests().remove(0).resource_spans.remove(0).resource.unwrap();
    assert_eq!(attribute(&resource.attributes, "service.name").as_deref(), Some("chatcaptain-operator"));
    assert_eq!(attribute(&resource.attributes, "deployment.environment").as_deref(), Some("e2e"));
    let key = KEY.as_bytes();
    let leaks =
        collector.0.lock().unwrap().iter().any(|body| body.windows(key.len()).any(|part| part == key));
    assert!(!leaks, "the API key is in a span");
}
