//! Spans over OTLP, if the standard variables of `OpenTelemetry` ask for them: from a reconcile to each of its requests.
//!
//! The SDK reads `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER` and `OTEL_BSP_…`, the exporter
//! `OTEL_EXPORTER_OTLP_…`. Without an endpoint nothing of this runs.

use std::{env, sync::OnceLock};

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

use crate::network::describe;

/// Exports what was collected when the process ends.
static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

const NAME: &str = "chatcaptain-operator";

/// The layer that exports spans; `None` unless an endpoint is set.
///
/// # Errors
/// When the variables ask for what is not supported, with what is.
pub fn layer<S>() -> Result<Option<impl Layer<S> + Send + Sync>, String>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    if !is_asked_for(|name| env::var(name).ok())? {
        return Ok(None);
    }
    let exporter =
        SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary).build().map_err(|error| {
            format!("cannot export spans ({}); check the OTEL_ variables", describe(&error))
        })?;
    let mut resource = Resource::builder();
    // the builder knows the variable, but has a name of its own where it is not set
    if env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name(NAME);
    }
    let provider =
        SdkTracerProvider::builder().with_resource(resource.build()).with_batch_exporter(exporter).build();
    let layer =
        tracing_opentelemetry::layer().with_tracer(provider.tracer(NAME)).with_filter(filter_fn(is_exported));
    // the first that starts is the only one of the process
    let _ = PROVIDER.set(provider);
    Ok(Some(layer))
}

/// Exports what is left. Waits for the collector, but not for long.
pub fn flush() {
    if let Some(provider) = PROVIDER.get()
        && let Err(error) = provider.shutdown()
    {
        tracing::debug!(%error, "cannot export the last spans");
    }
}

/// Our own spans, and that of each request of kube's client.
fn is_exported(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    metadata.is_span() && (target.starts_with("chatcaptain_operator") || metadata.name() == "HTTP")
}

fn is_asked_for(variable: impl Fn(&str) -> Option<String>) -> Result<bool, String> {
    let set = |name| variable(name).filter(|value| !value.trim().is_empty());
    let endpoint = set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| set("OTEL_EXPORTER_OTLP_ENDPOINT"));
    let is_disabled = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let exporter = set("OTEL_TRACES_EXPORTER").unwrap_or_else(|| "otlp".to_owned());
    if endpoint.is_none() || is_disabled || exporter == "none" {
        return Ok(false);
    }
    if exporter != "otlp" {
        return Err("OTEL_TRACES_EXPORTER must be otlp or none".to_owned());
    }
    let protocol = set("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL").or_else(|| set("OTEL_EXPORTER_OTLP_PROTOCOL"));
    match protocol.as_deref() {
        None | Some("http/protobuf") => Ok(true),
        Some(_) => {
            Err("OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf, whose port is usually 4318".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(environment: &[(&str, &str)]) -> Result<bool, String> {
        is_asked_for(|name| {
            environment.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
        })
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");

    #[test]
    fn spans_are_exported_only_to_an_endpoint_that_is_set() {
        assert_eq!(asked(&[]), Ok(false));
        assert_eq!(asked(&[("OTEL_SERVICE_NAME", "x"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), Ok(false));
        assert_eq!(asked(&[ENDPOINT]), Ok(true));
        assert_eq!(asked(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://a")]), Ok(true));
        assert_eq!(asked(&[ENDPOINT, ("OTEL_SDK_DISABLED", "True")]), Ok(false));
        assert_eq!(asked(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")]), Ok(false));
        assert_eq!(asked(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")]), Ok(true));
    }

    #[test]
    fn what_is_not_supported_is_an_error() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("OTEL_TRACES_EXPORTER", "zipkin"),
        ] {
            let error = asked(&[ENDPOINT, (name, value)]).expect_err(value);
            assert!(error.contains("must be"), "{error}");
        }
    }
}
