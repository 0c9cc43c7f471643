//! Arguments, wiring and the exit code.

use std::{process::ExitCode, sync::Arc, time::Duration};

use chatcaptain_operator::{
    admin::{self, Readiness},
    args::{Cli, Command, RunArgs, format_usage_error},
    chatcaptain::{Accounts, Service, Settings},
    controller::{self, Context, Objects, Parts, Scope},
    crd,
    lease::{Fence, LeaderElection, LeaderElectionConfig, identity},
    telemetry::{Metrics, start_logging},
};
use clap::Parser;
use kube::{
    Api, Client,
    api::ListParams,
    core::PartialObjectMeta,
    runtime::events::{Recorder, Reporter},
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Wrong arguments.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            eprintln!("{}", format_usage_error(&error));
            return ExitCode::from(USAGE);
        }
        Err(help) => {
            print!("{help}");
            return ExitCode::SUCCESS;
        }
    };
    let result = match cli.command {
        Command::Crds => print_crds(),
        Command::Run(flags) => {
            start_logging(flags.log_format);
            start(*flags)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

type Failed = Box<dyn std::error::Error>;

fn print_crds() -> Result<(), Failed> {
    for crd in crd::all() {
        print!("{}", crd::yaml(&crd)?);
    }
    Ok(())
}

fn start(flags: RunArgs) -> Result<(), Failed> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| "a TLS provider is installed already")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(operate(flags));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Runs until SIGTERM or until the lease is lost.
async fn operate(flags: RunArgs) -> Result<(), Failed> {
    let mut config = kube::Config::infer().await.map_err(|error| {
        format!("no cluster is configured ({error}); set KUBECONFIG, or run in a pod with a service account")
    })?;
    // a write is never repeated behind our back; passes begin anew instead
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    let namespace = flags.lease_namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config)?;
    let stop = on_signal()?;
    let election = start_election(&flags, &client, namespace);
    let metrics = Metrics::default();
    let context = Arc::new(Context::new(parts(&flags, &client, &metrics, election.fence(), &stop)?));
    let readiness = Readiness::waiting("starting");
    let registry = metrics.registry(Objects(context.clone()));
    admin::serve(flags.listen, readiness.clone(), registry).await.map_err(|error| {
        format!("cannot listen on {}: {error}; choose another with --listen", flags.listen)
    })?;
    if lead(&flags, &client, &context, &readiness, &metrics, &election, &stop).await == Led::Lost {
        return Err(
            "the lease was lost; the process ends so that it cannot write beside the new leader".into()
        );
    }
    // calls under way end and are put on record before somebody else leads
    context.tasks.close();
    if tokio::time::timeout(flags.api_timeout + Duration::from_secs(5), context.tasks.wait()).await.is_err() {
        tracing::warn!("a call is still under way; its intent tells the next leader");
    }
    election.release().await;
    tracing::info!("stopped");
    Ok(())
}

fn parts(
    flags: &RunArgs,
    client: &Client,
    metrics: &Metrics,
    fence: Fence,
    stop: &CancellationToken,
) -> Result<Parts, Failed> {
    let observer = metrics.clone();
    let accounts = Accounts::new(Settings {
        service: Service::new(flags.api_url.clone(), flags.api_timeout)?,
        limits: flags.api_limits(),
        observer: Arc::new(move |report| observer.api(report)),
    });
    let reporter = Reporter { controller: "chatcaptain-operator".to_owned(), instance: Some(identity()) };
    Ok(Parts {
        client: client.clone(),
        accounts: Arc::new(accounts),
        rules: flags.plan_config(),
        metrics: metrics.clone(),
        events: Recorder::new(client.clone(), reporter),
        fence,
        concurrency: usize::from(flags.concurrency),
        stop: stop.clone(),
    })
}

/// How it ended.
#[derive(PartialEq, Eq)]
enum Led {
    /// We were told to stop.
    Stopped,
    /// Somebody else may lead now.
    Lost,
}

/// Waits for the CRDs and for the lease, then runs the controllers.
async fn lead(
    flags: &RunArgs,
    client: &Client,
    context: &Arc<Context>,
    readiness: &Readiness,
    metrics: &Metrics,
    election: &LeaderElection,
    stop: &CancellationToken,
) -> Led {
    tokio::select! {
        () = await_crds(client, &flags.namespace, readiness) => {}
        () = stop.cancelled() => return Led::Stopped,
    }
    // a standby is ready, too: it is there to take over
    readiness.set(None);
    tokio::select! {
        () = election.acquired() => {}
        () = stop.cancelled() => return Led::Stopped,
    }
    metrics.leading(true);
    tracing::info!("leading");
    let scope = Scope {
        namespaces: flags.namespace.clone(),
        selector: flags.selector.clone(),
        concurrency: usize::from(flags.concurrency),
    };
    readiness.set(Some("the caches are not full yet; the log tells if a watch breaks".to_owned()));
    tokio::select! {
        () = controller::run(context.clone(), scope, stop.clone()) => Led::Stopped,
        () = stopped_while_filling(context, readiness) => Led::Stopped,
        () = election.lost() => Led::Lost,
    }
}

/// Ready once the caches are full. Ends only if they are not when we are told to stop: no pass has begun then, and
/// kube's controllers would wait for them for ever.
async fn stopped_while_filling(context: &Context, readiness: &Readiness) {
    context.ready().await;
    if context.are_caches_full() {
        readiness.set(None);
        std::future::pending::<()>().await;
    }
}

fn start_election(flags: &RunArgs, client: &Client, namespace: String) -> LeaderElection {
    if !flags.leader_elect {
        return LeaderElection::disabled();
    }
    let config = LeaderElectionConfig {
        namespace,
        name: flags.lease_name.clone(),
        identity: identity(),
        lease_duration: flags.lease_duration,
    };
    LeaderElection::start(client.clone(), config)
}

fn on_signal() -> std::io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = stop.clone();
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
        tracing::info!("stopping: calls under way end first");
        token.cancel();
    });
    Ok(stop)
}

/// Waits until both kinds can be listed, and says what is missing.
async fn await_crds(client: &Client, namespaces: &[String], readiness: &Readiness) {
    let mut pause = Duration::from_secs(1);
    let mut told = None;
    while let Err(error) = list_both(client, namespaces).await {
        let waiting_for = match error {
            // by its code: for a group that nobody serves the answer is plain text without a reason
            kube::Error::Api(status) if status.code == 404 => {
                "the CRDs are not installed; run: chatcaptain-operator crds | kubectl apply -f -".to_owned()
            }
            kube::Error::Api(status) if status.is_forbidden() => {
                format!(
                    "the service account may not list the objects ({}); run: kubectl apply -k deploy",
                    status.message
                )
            }
            error => format!("the API server cannot be reached ({error}); check KUBECONFIG or the network"),
        };
        if told.as_ref() != Some(&waiting_for) {
            tracing::warn!("not ready: {waiting_for}");
        }
        readiness.set(Some(waiting_for.clone()));
        told = Some(waiting_for);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(15));
    }
}

async fn list_both(client: &Client, namespaces: &[String]) -> kube::Result<()> {
    let one = ListParams::default().limit(1);
    let scopes: Vec<Option<&String>> =
        if namespaces.is_empty() { vec![None] } else { namespaces.iter().map(Some).collect() };
    for namespace in scopes {
        let (versions, deployments): (
            Api<PartialObjectMeta<crd::ChatbotVersion>>,
            Api<PartialObjectMeta<crd::ChatbotDeployment>>,
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
