//! Clients, the wait for the CRDs, wiring, signals and the order of shutdown. Decides nothing about objects.

use std::{sync::Arc, time::Duration};

use kube::{
    Api, Client,
    api::ListParams,
    core::PartialObjectMeta,
    runtime::events::{Recorder, Reporter},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{self, Probes, Readiness},
    args::RunArgs,
    backoff::Backoff,
    chatcaptain::{Accounts, AccountsConfig, ApiClient},
    cloud_events::{CloudEvents, CloudEventsConfig, Delivery},
    cluster,
    controller::{self, Context, ContextConfig, ObjectMetrics, Scope},
    crd::{ChatbotDeployment, ChatbotVersion},
    health::Liveness,
    lease::{Fence, LeaderElection, LeaderElectionConfig, identity},
    network,
    telemetry::{self, Metrics},
};

/// Why the process ends with a failure, as a sentence for standard error.
pub type Error = Box<dyn std::error::Error>;

/// Between two attempts to list the objects.
// short, so that the operator starts soon after the CRDs are there
const LIST_BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(15));
/// Added to the longest calls to the service, of which a reconcile makes three: how long a controller may take to finish
/// anything while all its reconciles wait for requests that time out.
const WEDGED_AFTER: Duration = Duration::from_mins(5);
/// Added to the longest call to the service: the time to record its outcome.
const RECORD_TIMEOUT: Duration = Duration::from_secs(5);
/// For the events that wait to be sent elsewhere when the process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs the operator until it receives SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start, and when it lost the Lease: the process must end then.
pub fn start(args: RunArgs) -> Result<(), Error> {
    // before any client: the HTTP client is built without a provider and panics where none is installed
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| "cannot install the TLS provider: another one is installed")?;
    // after the provider, which the exporter of spans needs
    telemetry::start_logging(args.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(run(args));
    // tasks that wait are dropped at once; the second is for one that computes
    runtime.shutdown_timeout(Duration::from_secs(1));
    telemetry::flush();
    result
}

async fn run(args: RunArgs) -> Result<(), Error> {
    let operator = Operator::wire(args).await?;
    match operator.run_as_leader().await {
        LeaderExit::Stopped => {
            operator.shut_down().await;
            Ok(())
        }
        // no orderly end: another replica may lead, and waiting for calls in flight would delay the new process
        LeaderExit::LostLease => Err("lost lease, shutting down so that only the new leader writes".into()),
    }
}

/// The parts of the process.
struct Operator {
    args: RunArgs,
    client: Client,
    metrics: Metrics,
    readiness: Readiness,
    election: LeaderElection,
    context: Arc<Context>,
    delivery: Option<Delivery>,
    stop: CancellationToken,
}

/// Why this replica no longer leads.
enum LeaderExit {
    /// It received SIGTERM or SIGINT, perhaps before it ever led.
    Stopped,
    /// Another replica may lead now.
    LostLease,
}

impl Operator {
    async fn wire(args: RunArgs) -> Result<Self, Error> {
        let liveness = Liveness::default();
        let (client, default_namespace) = cluster::client(&liveness).await?;
        let stop = on_signal()?;
        let election = start_election(&args, &client, default_namespace);
        let metrics = Metrics::default();
        let (cloud_events, delivery) = start_cloud_events(&args, &metrics)?.unzip();
        let config =
            context_config(&args, &client, &metrics, cloud_events, election.fence(), &stop, &liveness)?;
        let context = Arc::new(Context::new(config));
        let readiness = Readiness::waiting("starting");
        let lease = election.access();
        let probes = Probes {
            readiness: readiness.clone(),
            ready: Arc::new(move || lease.problem()),
            live: Arc::new(move || liveness.problem()),
        };
        let registry = metrics.registry(ObjectMetrics(context.clone()));
        admin::serve(args.listen, probes, registry).await.map_err(|error| {
            format!("cannot listen on {}: {error}; choose another address with --listen", args.listen)
        })?;
        Ok(Self { args, client, metrics, readiness, election, context, delivery, stop })
    }

    /// Waits for the CRDs and for the Lease, then runs the controllers.
    async fn run_as_leader(&self) -> LeaderExit {
        tokio::select! {
            () = wait_for_crds(&self.client, &self.args.namespace, &self.readiness) => {}
            () = self.stop.cancelled() => return LeaderExit::Stopped,
        }
        // a standby is ready, too: it is there to take over, and a rolling update waits for it
        self.readiness.set(None);
        tokio::select! {
            () = self.election.acquired() => {}
            () = self.stop.cancelled() => return LeaderExit::Stopped,
        }
        self.metrics.set_leader(true);
        tracing::info!("starting controllers");
        self.readiness
            .set(Some("waiting for the caches to sync; the log shows watches that fail".to_owned()));
        tokio::select! {
            () = controller::run(self.context.clone(), scope(&self.args), self.stop.clone()) => LeaderExit::Stopped,
            () = self.stopped_before_sync() => LeaderExit::Stopped,
            () = self.election.lost() => LeaderExit::LostLease,
        }
    }

    /// Becomes ready once the caches are in sync. Returns only if the process has to stop before that: no reconcile has begun
    /// then, and kube's controllers would wait for ever for caches that do not fill.
    async fn stopped_before_sync(&self) {
        self.context.wait_for_cache_sync().await;
        if self.context.has_synced() {
            self.readiness.set(None);
            std::future::pending::<()>().await;
        }
    }

    /// Calls in flight end and are recorded before the Lease is released and another replica leads.
    async fn shut_down(self) {
        self.context.tasks.close();
        if timeout(self.args.api_timeout + RECORD_TIMEOUT, self.context.tasks.wait()).await.is_err() {
            tracing::warn!(
                "shutdown timed out with a call in flight; the next leader finds its intent and searches the service"
            );
        }
        self.election.release().await;
        // after the Lease: another replica leads meanwhile
        if let Some(delivery) = self.delivery {
            delivery.finish(FLUSH_TIMEOUT).await;
        }
        tracing::info!("shutdown complete");
    }
}

fn start_election(args: &RunArgs, client: &Client, default_namespace: String) -> LeaderElection {
    if !args.leader_elect {
        return LeaderElection::disabled();
    }
    let config = LeaderElectionConfig {
        namespace: args.lease_namespace.clone().unwrap_or(default_namespace),
        name: args.lease_name.clone(),
        identity: identity(),
        lease_duration: args.lease_duration,
    };
    LeaderElection::start(client.clone(), config)
}

fn scope(args: &RunArgs) -> Scope {
    Scope {
        namespaces: args.namespace.clone(),
        selector: args.selector.clone(),
        concurrency: usize::from(args.concurrency),
    }
}

fn context_config(
    args: &RunArgs,
    client: &Client,
    metrics: &Metrics,
    cloud_events: Option<CloudEvents>,
    fence: Fence,
    stop: &CancellationToken,
    liveness: &Liveness,
) -> Result<ContextConfig, Error> {
    let (observer, may_write) = (metrics.clone(), fence.clone());
    let accounts = Accounts::new(AccountsConfig {
        client: service_client(args)?,
        limits: args.api_limits(),
        observer: Arc::new(move |event| observer.record_call(event)),
        may_write: Arc::new(move || may_write.allows_writes()),
    });
    let reporter = Reporter { controller: "chatcaptain-operator".to_owned(), instance: Some(identity()) };
    Ok(ContextConfig {
        client: client.clone(),
        accounts: Arc::new(accounts),
        config: args.plan_config(),
        metrics: metrics.clone(),
        events: Recorder::new(client.clone(), reporter),
        cloud_events,
        fence,
        concurrency: usize::from(args.concurrency),
        watch_secrets: args.watch_secrets,
        stop: stop.clone(),
        liveness: liveness.clone(),
        wedged_after: WEDGED_AFTER + 3 * args.api_timeout,
    })
}

fn service_client(args: &RunArgs) -> Result<ApiClient, Error> {
    let proxy = network::proxy_for(&args.api_url)?;
    if let Some(proxy) = &proxy {
        // without the URL, which may contain a password
        tracing::info!(variable = proxy.variable, "the service is reached through a proxy");
    }
    ApiClient::new(args.api_url.clone(), proxy, args.api_timeout).map_err(|error| tls_error(&error))
}

fn tls_error(error: &(dyn std::error::Error + 'static)) -> Error {
    format!(
        "cannot set up TLS ({}); install CA certificates, or set SSL_CERT_FILE to a PEM file that contains them",
        network::describe(error)
    )
    .into()
}

fn start_cloud_events(args: &RunArgs, metrics: &Metrics) -> Result<Option<(CloudEvents, Delivery)>, Error> {
    let Some(address) = args.events_address.clone() else { return Ok(None) };
    // the host alone: the rest of the URL may contain a password or a token
    tracing::info!(host = address.host_str(), "sending events");
    let config = CloudEventsConfig {
        proxy: network::proxy_for(&address)?,
        address,
        source: format!("/chatcaptain-operator/{}", args.owner_id),
        metrics: metrics.clone(),
    };
    CloudEvents::start(config).map(Some).map_err(|error| tls_error(&error))
}

/// A token that SIGTERM or SIGINT cancels.
fn on_signal() -> std::io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = stop.clone();
    tokio::spawn(async move {
        let received = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = received, "shutting down after calls in flight have ended");
        token.cancel();
    });
    Ok(stop)
}

/// Waits until both kinds can be listed; until then `/readyz` and the log say what to do.
async fn wait_for_crds(client: &Client, namespaces: &[String], readiness: &Readiness) {
    let (mut failures, mut reported) = (0, None);
    while let Err(error) = list_both_kinds(client, namespaces).await {
        let reason = not_listed_reason(error);
        if reported.as_ref() != Some(&reason) {
            tracing::warn!("not ready: {reason}");
        }
        readiness.set(Some(reason.clone()));
        reported = Some(reason);
        failures += 1;
        sleep(LIST_BACKOFF.delay(failures)).await;
    }
}

/// The reason for `/readyz` and the log, with the next step.
fn not_listed_reason(error: kube::Error) -> String {
    match error {
        // by its code: for a group that is not served the answer is plain text without a reason
        kube::Error::Api(status) if status.code == 404 => {
            "the CRDs are not installed; run: chatcaptain-operator crds | kubectl apply -f -".to_owned()
        }
        kube::Error::Api(status) if status.is_forbidden() => {
            format!(
                "the service account is not allowed to list the objects ({}); run: kubectl apply -k deploy",
                status.message
            )
        }
        kube::Error::Api(status) => {
            let (code, message) = (status.code, status.message);
            format!(
                "the API server answers {code} ({message}); check its health and the operator's credentials"
            )
        }
        error => match network::certificate_problem(&error) {
            Some(problem) => format!(
                "the API server is not trusted: {problem}, or certificate-authority in the kubeconfig to that file"
            ),
            None => format!(
                "cannot reach the API server ({}); check KUBECONFIG and the network",
                network::describe(&error)
            ),
        },
    }
}

async fn list_both_kinds(client: &Client, namespaces: &[String]) -> kube::Result<()> {
    // one object and its metadata: only whether the kind is served, and may be listed, matters
    let one = ListParams::default().limit(1);
    let scopes: Vec<Option<&String>> =
        if namespaces.is_empty() { vec![None] } else { namespaces.iter().map(Some).collect() };
    for namespace in scopes {
        let (versions, deployments): (
            Api<PartialObjectMeta<ChatbotVersion>>,
            Api<PartialObjectMeta<ChatbotDeployment>>,
        ) = match namespace {
            Some(namespace) => {
                (Api::namespaced(client.clone(), namespace), Api::namespaced(client.clone(), namespace))
            }
            None => (Api::all(client.clone()), Api::all(client.clone())),
        };
        versions.list_metadata(&one).await?;
        deployments.list_metadata(&one).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::{
        Router,
        http::{StatusCode, Uri},
        response::IntoResponse,
    };
    use serde_json::json;
    use tokio::time::Instant;

    use super::*;

    const FORBIDDEN: &str = r#"{"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "no list for you", "reason": "Forbidden", "code": 403}"#;

    /// An API server that refuses to list until everything is installed, and what was listed since.
    fn cluster(refusals: Vec<(u16, &'static str)>) -> (Client, Arc<AtomicUsize>) {
        let requests = Arc::new(AtomicUsize::new(0));
        let count = requests.clone();
        let answer = async move |uri: Uri| {
            let request = count.fetch_add(1, Ordering::SeqCst);
            if let Some((code, body)) = refusals.get(request) {
                return (StatusCode::from_u16(*code).unwrap(), *body).into_response();
            }
            assert!(uri.path().starts_with("/apis/chatcaptain.dev/"), "{uri}");
            json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "items": []})
                .to_string()
                .into_response()
        };
        (Client::new(Router::new().fallback(answer), "default"), requests)
    }

    #[tokio::test(start_paused = true)]
    async fn waits_until_both_kinds_can_be_listed_in_each_namespace() {
        let (client, requests) = cluster(vec![(404, "404 page not found"); 6]);
        let started = Instant::now();
        let namespaces = ["a", "b"].map(str::to_owned);
        wait_for_crds(&client, &namespaces, &Readiness::waiting("starting")).await;
        assert_eq!(requests.load(Ordering::SeqCst), 6 + 4);
        // the pause doubles, up to its bound
        assert_eq!(started.elapsed().as_secs(), 1 + 2 + 4 + 8 + 15 + 15);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_missing_is_named_with_the_next_step() {
        for (refusal, reason) in [
            (
                (404, "404 page not found"),
                "the CRDs are not installed; run: chatcaptain-operator crds | kubectl apply -f -",
            ),
            (
                (403, FORBIDDEN),
                "the service account is not allowed to list the objects (no list for you); run: kubectl apply -k deploy",
            ),
            (
                (500, "no etcd"),
                "the API server answers 500 (no etcd); check its health and the operator's credentials",
            ),
        ] {
            let (client, _) = cluster(vec![refusal]);
            let error = list_both_kinds(&client, &[]).await.unwrap_err();
            let text = not_listed_reason(error);
            assert!(text.starts_with(reason), "{text}");
        }
    }
}
