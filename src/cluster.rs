//! The client of the cluster: where it finds the API server, and by which way.

mod requests;

use std::time::Duration;

use kube::{Client, Config, client::ClientBuilder, config::Kubeconfig};
use url::Url;

use crate::{
    health::Liveness,
    network::{describe, proxy_for},
};
use requests::Supervised;

/// Half of the renew deadline of the default Lease: one try that hangs leaves time for another.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The client, and the namespace that it is configured for.
///
/// # Errors
/// When there is no usable configuration, as a sentence with the next step.
pub async fn client(liveness: &Liveness) -> Result<(Client, String), String> {
    let mut config = Config::infer().await.map_err(|error| {
        let cause = describe(&error);
        format!(
            "cannot load the cluster configuration ({cause}); set KUBECONFIG, or run in a pod with a service account"
        )
    })?;
    if config.accept_invalid_certs {
        return Err("the kubeconfig sets insecure-skip-tls-verify, but certificates are always checked; remove it, and \
             set certificate-authority or SSL_CERT_FILE to the CA of the API server"
            .to_owned());
    }
    config.proxy_url = match proxy(&config)? {
        Some(url) => Some(url.as_str().parse().map_err(|_| unusable_proxy())?),
        None => None,
    };
    // a write whose answer was lost must not be repeated unseen: the next reconcile reads first and decides anew
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    let default_namespace = config.default_namespace.clone();
    let builder = ClientBuilder::try_from(config).map_err(|error| match error {
        // these show the URL, with its password
        kube::Error::ProxyProtocolUnsupported { .. } | kube::Error::ProxyProtocolDisabled { .. } => unusable_proxy(),
        error => format!(
            "cannot set up the client of the cluster ({}); check KUBECONFIG, the CA certificates and SSL_CERT_FILE",
            describe(&error)
        ),
    })?;
    let client = builder.with_layer(&Supervised(liveness.clone())).build();
    Ok((client, default_namespace))
}

/// The proxy that the kubeconfig names, else that of the environment: kube compares `NO_PROXY` with the proxy instead of the
/// API server. In a pod the API server is in the same cluster and reached directly.
fn proxy(config: &Config) -> Result<Option<Url>, String> {
    let Ok(kubeconfig) = Kubeconfig::read() else { return Ok(None) };
    if let Some(url) = named_proxy(&kubeconfig) {
        return Url::parse(&url).map(Some).map_err(|_| unusable_proxy());
    }
    let server = Url::parse(&config.cluster_url.to_string())
        .map_err(|error| format!("the kubeconfig names no usable server ({error}); correct its URL"))?;
    Ok(proxy_for(&server)?.map(|proxy| proxy.url))
}

/// `proxy-url` of the cluster of the current context.
fn named_proxy(kubeconfig: &Kubeconfig) -> Option<String> {
    let current = kubeconfig.current_context.as_ref()?;
    let context = kubeconfig.contexts.iter().find(|context| context.name == *current)?.context.as_ref()?;
    let cluster = kubeconfig.clusters.iter().find(|cluster| cluster.name == context.cluster)?;
    cluster.cluster.as_ref()?.proxy_url.clone().filter(|url| !url.is_empty())
}

fn unusable_proxy() -> String {
    "proxy-url in the kubeconfig names no usable proxy; set it to http://<host>:<port> or https://<host>:<port>"
        .to_owned()
}
