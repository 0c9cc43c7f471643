//! One test's world: a namespace, a chatbot, a service and an operator.

use std::{
    fmt::Write,
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use chatcaptain_operator::crd::{ChatbotDeployment, ChatbotVersion};
use control_plane::AuditWrite;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use kube::{Api, ResourceExt, api::PostParams};
use serde_json::json;
use simulator::{Actor, ChatbotState, Environment, Operation, Settings, Simulator};
use tempfile::TempDir;

use crate::{
    Cluster, Object, Operator, TIMEOUT, condition, is_ready, manifests,
    objects::assert_consistent_conditions, poll,
};

/// The API key that every world starts with.
pub const KEY: &str = "CCSB-e2e-test";

/// Flags of the operator, as `name value` pairs.
pub type Flags<'a> = &'a [(&'a str, &'a str)];

/// Any free port, and no leader election: the shipped role grants one Lease only, which the tests in `leader` use.
const ALONE: Flags = &[("listen", "127.0.0.1:0"), ("leader-elect", "false")];
/// What most tests want: short intervals and no rate limit.
const QUICK: Flags = &[
    ("interval", "2s"),
    ("min-interval", "1s"),
    ("visibility-grace", "2s"),
    ("api-rate", "500"),
    ("api-burst", "500"),
];

/// One test's world.
pub struct World {
    /// Where its objects are.
    pub cluster: Arc<Cluster>,
    /// The namespace that its operator watches.
    pub namespace: String,
    /// The chatbot of its objects.
    pub bot: String,
    /// The chatbot service, for tests to disturb and inspect.
    pub service: Simulator,
    /// The kubeconfig of the operators that are started from now on.
    pub kubeconfig: PathBuf,
    args: Vec<String>,
    operator: Arc<Mutex<Option<Operator>>>,
    /// How many operators were started so far.
    started: AtomicU32,
    directory: TempDir,
}

impl World {
    /// A world whose operator runs.
    pub fn new(settings: Settings) -> Self {
        Self::with_flags(settings, &[])
    }

    /// The same with flags that replace or join the usual ones.
    pub fn with_flags(settings: Settings, flags: Flags) -> Self {
        let world = Self::without_operator(settings, flags);
        world.start();
        world
    }

    /// A world whose operator is not started yet.
    pub fn without_operator(settings: Settings, flags: Flags) -> Self {
        let cluster = Cluster::shared();
        let kubeconfig = cluster.operator_kubeconfig();
        Self::on_cluster(cluster, kubeconfig, settings, flags)
    }

    /// The same with the operator's own defaults besides `flags`.
    pub fn with_shipped_flags(settings: Settings, flags: Flags) -> Self {
        let cluster = Cluster::shared();
        let kubeconfig = cluster.operator_kubeconfig();
        Self::build(cluster, kubeconfig, settings, ALONE, flags)
    }

    /// The same on any cluster.
    pub fn on_cluster(cluster: Arc<Cluster>, kubeconfig: PathBuf, settings: Settings, flags: Flags) -> Self {
        Self::build(cluster, kubeconfig, settings, &[ALONE, QUICK].concat(), flags)
    }

    fn build(
        cluster: Arc<Cluster>,
        kubeconfig: PathBuf,
        settings: Settings,
        defaults: Flags,
        flags: Flags,
    ) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("e2e-{number}");
        let service = Simulator::start_on_thread(settings).unwrap();
        let mut args = Vec::new();
        let replaced = |name: &str| flags.iter().any(|(other, _)| *other == name);
        let usual = defaults.iter().filter(|(name, _)| !replaced(name));
        for (name, value) in usual.chain(flags) {
            args.push(format!("--{name}={value}"));
        }
        if !replaced("api-url") {
            args.push(format!("--api-url={}", service.url()));
        }
        args.push(format!("--namespace={namespace}"));
        cluster.create_namespace(&namespace);
        let world = Self {
            cluster,
            bot: format!("bot{number}"),
            namespace,
            service,
            kubeconfig,
            args,
            operator: Arc::default(),
            started: AtomicU32::default(),
            directory: TempDir::new().unwrap(),
        };
        world.set_key(KEY);
        world
    }

    // ---- the operator

    /// From the next start on the operator uses this kubeconfig.
    pub fn use_kubeconfig(&mut self, kubeconfig: &str) {
        self.kubeconfig = self.directory.path().join("kubeconfig");
        fs::write(&self.kubeconfig, kubeconfig).unwrap();
    }

    /// From the next start on the operator finds the service here.
    pub fn use_service(&mut self, url: &str) {
        self.args.retain(|arg| !arg.starts_with("--api-url="));
        self.args.push(format!("--api-url={url}"));
    }

    /// Starts the operator.
    pub fn start(&self) {
        self.start_with(&[]);
    }

    /// Starts it with a further environment.
    pub fn start_with(&self, env: &[(&str, &str)]) {
        let mut operator = self.operator();
        // never two at a time
        drop(operator.take());
        *operator = Some(self.replica(&[], env));
    }

    /// One more operator with further flags, which the caller keeps.
    pub fn replica(&self, flags: &[&str], env: &[(&str, &str)]) -> Operator {
        let kubeconfig = self.kubeconfig.to_str().unwrap();
        let env: Vec<_> = [("KUBECONFIG", kubeconfig)].into_iter().chain(env.iter().copied()).collect();
        let mut args = self.args.clone();
        args.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        Operator::start(&args, &env, &self.log_file(number))
    }

    /// Kills it with SIGKILL.
    pub fn kill(&self) {
        drop(self.operator().take());
    }

    /// A function that kills the operator, for use on any thread.
    pub fn kill_handle(&self) -> impl Fn() + Send + Sync + 'static {
        let operator = self.operator.clone();
        move || drop(operator.lock().unwrap().take())
    }

    /// Stops it with SIGTERM; it must exit with 0.
    pub fn stop(&self) {
        let mut operator = self.operator().take().expect("an operator that runs");
        operator.signal("TERM");
        let status = operator.wait_for_exit(TIMEOUT).expect("it ends");
        assert!(status.success(), "{status}:\n{}", operator.log());
    }

    /// The operator that runs, if any. While the guard is held, no other thread can start or stop it.
    pub fn operator(&self) -> MutexGuard<'_, Option<Operator>> {
        // a test that failed with it in hand leaves nothing half done
        self.operator.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A metric of the operator that runs.
    pub fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let operator = self.operator();
        operator.as_ref().expect("an operator that runs").metric(name, labels)
    }

    /// Waits until a metric has this value. The operator counts a write once its response has arrived; others can see
    /// the write before that.
    pub fn wait_for_metric(&self, name: &str, labels: &[&str], expected: u64) {
        self.eventually(&format!("{name} {labels:?} is {expected}"), || {
            (self.metric(name, labels) == expected).then_some(())
        });
    }

    /// The logs of all operators of this world, in the order of their starts.
    pub fn log(&self) -> String {
        let logs = (0..self.started.load(Ordering::Relaxed)).map(|number| self.log_file(number));
        let logs = logs.map(|log| fs::read(log).unwrap_or_default());
        logs.map(|log| String::from_utf8_lossy(&log).into_owned()).collect()
    }

    fn log_file(&self, number: u32) -> PathBuf {
        self.directory.path().join(format!("operator-{number}.log"))
    }

    // ---- the cluster

    /// `kubectl apply -f -`, as git would.
    pub fn apply(&self, manifests: &str) {
        self.kubectl(&["apply", "-f", "-"], manifests);
    }

    /// Runs kubectl in this namespace; returns its standard output.
    pub fn kubectl(&self, args: &[&str], stdin: &str) -> String {
        let namespace = ["--namespace", self.namespace.as_str()];
        let args: Vec<&str> = namespace.into_iter().chain(args.iter().copied()).collect();
        self.cluster.kubectl_ok(&args, stdin)
    }

    /// Puts an API key into the Secret that objects refer to by default.
    pub fn set_key(&self, key: &str) {
        self.cluster.set_secret(&self.namespace, "chatcaptain", "apiKey", key);
    }

    /// Applies a version; `more` are further lines of its spec.
    pub fn apply_version(&self, name: &str, more: &[&str]) {
        self.apply(&manifests::version(&self.bot, name, more));
    }

    /// Creates `count` versions, `at_once` at a time, each for the chatbot that `bot` returns for its number.
    pub fn create_versions(&self, count: usize, at_once: usize, bot: impl Fn(usize) -> String) {
        let api: Api<ChatbotVersion> = Api::namespaced(self.cluster.client(), &self.namespace);
        let create = |number| {
            let manifest = json!({
                "apiVersion": "chatcaptain.dev/v1alpha1", "kind": "ChatbotVersion",
                "metadata": {"name": format!("v{number:05}")}, "spec": {"chatbotId": bot(number)},
            });
            let (api, version) = (&api, serde_json::from_value(manifest).unwrap());
            async move { drop(api.create(&PostParams::default(), &version).await.unwrap()) }
        };
        self.cluster.runtime().block_on(stream::iter(0..count).for_each_concurrent(at_once, create));
    }

    /// Applies a deployment, named as its environment, that wants `version`.
    pub fn apply_deployment(&self, environment: &str, version: &str, more: &[&str]) {
        let reference = format!("versionRef: {{name: {version}}}");
        let more: Vec<&str> = [reference.as_str()].into_iter().chain(more.iter().copied()).collect();
        self.apply(&manifests::deployment(&self.bot, environment, environment, &more));
    }

    /// Deletes an object as git would: without waiting for its finalizer.
    pub fn delete(&self, kind: &str, name: &str) {
        self.kubectl(&["delete", kind, name, "--wait=false"], "");
    }

    /// An object, if it exists. Its conditions must not contradict each other.
    pub fn get<K: Object>(&self, name: &str) -> Option<K> {
        let object = self.cluster.get::<K>(&self.namespace, name);
        object.iter().for_each(assert_consistent_conditions);
        object
    }

    /// A version that exists.
    pub fn version(&self, name: &str) -> ChatbotVersion {
        self.get(name).expect("the version exists")
    }

    /// A deployment that exists.
    pub fn deployment(&self, name: &str) -> ChatbotDeployment {
        self.get(name).expect("the deployment exists")
    }

    /// Events of an object: reason and note.
    pub fn events(&self, name: &str) -> Vec<(String, String)> {
        let events = self.cluster.list::<Event>(&self.namespace);
        let about = |event: &Event| {
            let regarding = event.regarding.as_ref();
            regarding.and_then(|object| object.name.as_deref()) == Some(name)
        };
        let events = events.into_iter().filter(about);
        events.map(|event| (event.reason.unwrap_or_default(), event.note.unwrap_or_default())).collect()
    }

    /// What the operator has written to objects of this plural name, oldest first.
    pub fn writes(&self, resource: &str) -> Vec<AuditWrite> {
        let mut writes = self.cluster.writes(&self.namespace);
        writes.retain(|write| write.resource == resource);
        writes
    }

    // ---- waiting

    /// Waits until `probe` returns a value. On a timeout the panic shows effects, objects and log.
    pub fn eventually<T>(&self, what: &str, probe: impl FnMut() -> Option<T>) -> T {
        self.eventually_within(TIMEOUT, what, probe)
    }

    /// The same with another limit.
    pub fn eventually_within<T>(&self, limit: Duration, what: &str, probe: impl FnMut() -> Option<T>) -> T {
        match poll(limit, probe) {
            Some(answer) => answer,
            None => panic!("{what}: not within {limit:?}\n{}", self.diagnostics()),
        }
    }

    /// Waits until the namespace has this many versions that are Ready.
    pub fn wait_until_versions_ready(&self, count: usize) {
        self.wait_until_versions_ready_within(TIMEOUT, count);
    }

    /// The same with another limit.
    pub fn wait_until_versions_ready_within(&self, limit: Duration, count: usize) {
        self.eventually_within(limit, &format!("{count} versions are Ready"), || {
            let versions = self.cluster.list::<ChatbotVersion>(&self.namespace);
            (versions.iter().filter(|version| is_ready(*version)).count() == count).then_some(())
        });
    }

    /// Waits until `Ready` is true for the current generation.
    pub fn wait_until_ready<K: Object>(&self, name: &str) -> K {
        self.eventually(&format!("{name} is Ready"), || self.get(name).filter(is_ready))
    }

    /// The same for a version.
    pub fn wait_until_version_ready(&self, name: &str) -> ChatbotVersion {
        self.wait_until_ready(name)
    }

    /// The same for a deployment.
    pub fn wait_until_deployment_ready(&self, name: &str) -> ChatbotDeployment {
        self.wait_until_ready(name)
    }

    /// Waits until `Ready` has this reason for the current generation; returns the message.
    pub fn wait_for_reason<K: Object>(&self, name: &str, reason: &str) -> String {
        self.eventually(&format!("{name} says {reason}"), || {
            let object = self.get::<K>(name)?;
            let ready = condition(&object, "Ready")?;
            let now = ready.observed_generation == object.meta().generation;
            (ready.reason == reason && now).then(|| ready.message.clone())
        })
    }

    /// Waits until a new object gets a later creation timestamp than this one: the API keeps whole seconds.
    pub fn wait_for_later_timestamp<K: Object>(&self, name: &str) {
        let object = self.get::<K>(name).expect("the object exists");
        let created = object.creation_timestamp().expect("the API server says").0;
        self.eventually("a second has passed", || {
            (Timestamp::now().as_second() > created.as_second()).then_some(())
        });
    }

    /// Waits until the object does not exist.
    pub fn wait_until_deleted<K: Object>(&self, name: &str) {
        self.eventually(&format!("{name} is gone"), || self.get::<K>(name).is_none().then_some(()));
    }

    /// Waits for an event with this reason about an object; returns its note.
    pub fn wait_for_event(&self, name: &str, reason: &str) -> String {
        self.eventually(&format!("event {reason} on {name}"), || {
            let mut events = self.events(name).into_iter();
            events.find(|(other, _)| other == reason).map(|(_, note)| note)
        })
    }

    // ---- the service

    /// The state of the chatbot in the service.
    pub fn state(&self) -> Option<ChatbotState> {
        self.service.chatbot(&self.bot)
    }

    /// The name of the version that runs in an environment.
    pub fn live_version(&self, environment: Environment) -> Option<String> {
        let state = self.state()?;
        let id = state.live(environment)?;
        let version = state.versions.iter().find(|version| version.id == id)?;
        Some(version.name.clone())
    }

    /// What took effect through the API, not through the vendor's user interface, such as `create a dev` and `deploy a test`.
    pub fn effects(&self) -> Vec<String> {
        let log = self.service.log().into_iter();
        let ours = log.filter(|entry| entry.by == Actor::Api && entry.chatbot == self.bot);
        ours.map(|entry| {
            let operation = format!("{:?}", entry.operation).to_lowercase();
            let environment = entry.environment;
            let environment = environment.map_or(String::new(), |e| format!(" {e:?}").to_lowercase());
            format!("{operation} {}{environment}", entry.name)
        })
        .collect()
    }

    /// The same without creates.
    pub fn effects_besides_creates(&self) -> Vec<String> {
        let mut effects = self.effects();
        effects.retain(|effect| !effect.starts_with("create "));
        effects
    }

    /// How many creates took effect.
    pub fn creates(&self) -> u64 {
        self.service.counters().of(Operation::Create).took_effect
    }

    /// How many deploys and rollbacks were requested, whatever their outcome.
    pub fn rollout_calls(&self) -> u64 {
        let counters = self.service.counters();
        [Operation::Deploy, Operation::Rollback].iter().map(|operation| counters.of(*operation).calls).sum()
    }

    /// Waits until the operator has polled the service twice from now on.
    pub fn wait_for_two_polls(&self) {
        let polls = || self.service.counters().of(Operation::List).calls;
        let before = polls();
        self.eventually("two more polls", || (polls() >= before + 2).then_some(()));
    }

    /// What a user would inspect next.
    fn diagnostics(&self) -> String {
        let mut report = String::new();
        let _ = writeln!(report, "--- the service: {:#?}", self.effects());
        let args = ["get", "-n", &self.namespace, "cbv,cbd", "-o", "yaml"];
        let objects = self.cluster.kubectl(&args, "").stdout;
        let objects = String::from_utf8_lossy(&objects);
        let tail = |text: &str, lines: usize| {
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        };
        let _ = writeln!(report, "--- the objects:\n{}", tail(&objects, 250));
        let _ = writeln!(report, "--- the operator:\n{}", tail(&self.log(), 60));
        report
    }
}
