//! Metrics that are read from the caches at each scrape, so that a series vanishes with its object.

use std::{fmt, sync::Arc};

use kube::ResourceExt;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder},
    metrics::{MetricType, gauge::ConstGauge},
};

use super::{Context, Reconciler, cache::Cache};
use crate::{
    crd::{ChatbotDeployment, ConditionType},
    telemetry::help,
};

/// The metrics that are read from a context's caches.
pub struct ObjectMetrics(pub Arc<Context>);

impl fmt::Debug for ObjectMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ObjectMetrics")
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ConditionLabels {
    kind: &'static str,
    namespace: String,
    name: String,
    r#type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DeploymentLabels {
    namespace: String,
    name: String,
    chatbot_id: String,
    environment: &'static str,
    version_number: String,
}

impl Collector for ObjectMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let open = ConstGauge::new(i64::try_from(self.0.accounts.open_breakers()).unwrap_or(i64::MAX));
        let name = "chatcaptain_breaker_open";
        let metric = encoder.encode_descriptor(name, help(name), None, MetricType::Gauge)?;
        open.encode(metric)?;

        let name = "chatcaptain_watch_last_event_timestamp_seconds";
        let mut metric = encoder.encode_descriptor(name, help(name), None, MetricType::Gauge)?;
        for (kind, last) in self.0.liveness.last_watch_events() {
            let seconds = last.as_duration().as_secs_f64();
            ConstGauge::new(seconds).encode(metric.encode_family(&KindLabel { kind })?)?;
        }

        let name = "chatcaptain_condition";
        let mut metric = encoder.encode_descriptor(name, help(name), None, MetricType::Gauge)?;
        conditions(&self.0.versions, &mut metric)?;
        conditions(&self.0.deployments, &mut metric)?;

        let name = "chatcaptain_deployment_info";
        let mut metric = encoder.encode_descriptor(name, help(name), None, MetricType::Gauge)?;
        deployments(&self.0.deployments, &mut metric)
    }
}

fn deployments(cache: &Cache<ChatbotDeployment>, metric: &mut MetricEncoder<'_>) -> fmt::Result {
    for store in cache.stores() {
        for object in store.state() {
            let Some(object) = object.claimant() else { continue };
            let active = object.status.as_ref().and_then(|status| status.active.as_ref());
            let labels = DeploymentLabels {
                namespace: object.namespace().unwrap_or_default(),
                name: object.name_any(),
                chatbot_id: object.spec.chatbot_id.clone(),
                environment: object.spec.environment.as_str(),
                version_number: active.and_then(|a| a.version_number.clone()).unwrap_or_default(),
            };
            ConstGauge::new(1i64).encode(metric.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn conditions<K: Reconciler>(cache: &Cache<K>, metric: &mut MetricEncoder<'_>) -> fmt::Result {
    for store in cache.stores() {
        for object in store.state() {
            let Some(object) = object.claimant() else { continue };
            let is_true = |kind| object.status().is_some_and(|status| K::common(status).is_true(kind));
            let conditions = ConditionType::ALL.iter().map(|kind| (kind.as_str(), is_true(*kind)));
            let deleting = ("Deleting", object.meta().deletion_timestamp.is_some());
            for (r#type, is_true) in conditions.chain([deleting]) {
                // with thousands of objects the conditions that are not there would be most of the series
                if !is_true && r#type != ConditionType::Ready.as_str() {
                    continue;
                }
                let labels = ConditionLabels {
                    kind: K::KIND,
                    namespace: object.namespace().unwrap_or_default(),
                    name: object.name_any(),
                    r#type,
                };
                ConstGauge::new(i64::from(is_true)).encode(metric.encode_family(&labels)?)?;
            }
        }
    }
    Ok(())
}
