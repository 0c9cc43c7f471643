//! A control plane with the operator installed from `deploy/`, and access to it.

use std::{
    env,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Arc, LazyLock, OnceLock},
};

use control_plane::{AuditWrite, ControlPlane, Options, TimedWrite};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Client, Config,
    api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::{Object, generated::root};

const NAMESPACE: &str = "chatcaptain-system";
const SERVICE_ACCOUNT: &str = "chatcaptain-operator";

/// A control plane.
pub struct Cluster {
    plane: Plane,
    runtime: Runtime,
    client: Client,
    operator: OnceLock<PathBuf>,
}

enum Plane {
    Shared(&'static ControlPlane),
    Own(Box<ControlPlane>),
}

impl Cluster {
    /// The one that all tests of the process share, with `deploy/` applied.
    pub fn shared() -> Arc<Self> {
        static SHARED: LazyLock<Arc<Cluster>> = LazyLock::new(|| {
            let cluster = Cluster::of(Plane::Shared(control_plane::shared()));
            cluster.install();
            Arc::new(cluster)
        });
        SHARED.clone()
    }

    /// A separate one with `deploy/` applied, whose API server may be stopped.
    pub fn installed() -> Arc<Self> {
        let cluster = Self::empty();
        cluster.install();
        cluster
    }

    /// A separate one without anything installed.
    pub fn empty() -> Arc<Self> {
        let options = Options { audit: true, controller_manager: true, dir: None };
        Arc::new(Self::of(Plane::Own(Box::new(ControlPlane::start(options).expect("a control plane")))))
    }

    fn of(plane: Plane) -> Self {
        // another test was first, and has installed the same
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = Runtime::new().unwrap();
        let client = runtime.block_on(async {
            let path = plane.get().kubeconfig();
            let kubeconfig = Kubeconfig::read_from(path).unwrap();
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
            let mut config = config.unwrap();
            // whatever proxy the environment names: it is on loopback
            config.proxy_url = None;
            Client::try_from(config).unwrap()
        });
        Self { plane, runtime, client, operator: OnceLock::new() }
    }

    /// Installs the operator with `kubectl apply -k`, and waits until both kinds are served.
    pub fn install(&self) {
        for directory in ["crds", "deploy"] {
            self.kubectl_ok(&["apply", "-k", &path_of(directory)], "");
        }
        self.wait_for_crds();
    }

    /// Waits until both kinds are served.
    pub fn wait_for_crds(&self) {
        let wait = [
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "crd/chatbotversions.chatcaptain.dev",
            "crd/chatbotdeployments.chatcaptain.dev",
        ];
        self.kubectl_ok(&wait, "");
    }

    /// The kubeconfig of the operator: its own service account, with the rights that `deploy/` gives.
    pub fn operator_kubeconfig(&self) -> PathBuf {
        self.operator.get_or_init(|| self.kubeconfig_of(SERVICE_ACCOUNT)).clone()
    }

    /// The kubeconfig of a service account in the operator's namespace.
    pub fn kubeconfig_of(&self, service_account: &str) -> PathBuf {
        self.plane.get().kubeconfig_for(NAMESPACE, service_account).expect("a kubeconfig")
    }

    /// Makes a namespace.
    pub fn create_namespace(&self, name: &str) {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        let params = PostParams::default();
        self.wait_for(api.create(&params, &namespace)).expect("a new namespace");
    }

    /// Makes or replaces a Secret with one key.
    pub fn set_secret(&self, namespace: &str, name: &str, key: &str, value: &str) {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = Patch::Apply(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {key: value},
        }));
        let params = PatchParams::apply("test").force();
        self.wait_for(api.patch(name, &params, &secret)).expect("a Secret");
    }

    /// The manifests that `kubectl kustomize` renders from a directory of the repository, one by one.
    pub fn kustomize(directory: &str) -> Vec<String> {
        let render = ["kustomize", &path_of(directory)];
        let all = Self::shared().kubectl_ok(&render, "");
        all.split("\n---\n").map(str::to_owned).collect()
    }

    /// Runs kubectl as the administrator.
    pub fn kubectl(&self, args: &[&str], stdin: &str) -> Output {
        run(self.plane.get().kubectl().args(args), stdin)
    }

    /// Runs kubectl as the administrator, which must succeed; returns its standard output.
    pub fn kubectl_ok(&self, args: &[&str], stdin: &str) -> String {
        let output = self.kubectl(args, stdin);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {args:?}: {stderr}\n{stdin}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs commands in bash in a folder, with kubectl and the tools in `target/tools` in the PATH. The last one must succeed.
    pub fn shell(&self, folder: &Path, commands: &str) {
        let plane = self.plane.get();
        let usual = env::var_os("PATH").unwrap();
        let tools = root().join("target/tools/bin");
        let path = [plane.binaries().dir().to_owned(), tools].into_iter().chain(env::split_paths(&usual));
        let mut bash = Command::new("bash");
        bash.args(["-c", commands])
            .env("PATH", env::join_paths(path).unwrap())
            .env("KUBECONFIG", plane.kubeconfig())
            .current_dir(folder);
        let output = run(&mut bash, "");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{commands}\n{stderr}");
    }

    /// One object.
    pub fn get<K: Object>(&self, namespace: &str, name: &str) -> Option<K> {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        self.wait_for(api.get_opt(name)).expect("the API server")
    }

    /// All objects of a namespace.
    pub fn list<K: Object>(&self, namespace: &str) -> Vec<K> {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let all = ListParams::default();
        self.wait_for(api.list(&all)).expect("the API server").items
    }

    /// What the operator has written in a namespace, oldest first.
    pub fn writes(&self, namespace: &str) -> Vec<AuditWrite> {
        let operator = format!("system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}");
        let mut writes = self.plane.get().audit().expect("the audit log");
        writes.retain(|write| write.user == operator && write.namespace == namespace);
        writes
    }

    /// The same with their times.
    pub fn timed_writes(&self, namespace: &str) -> Vec<TimedWrite> {
        let mut writes = self.plane.get().timed_audit().expect("the audit log");
        writes.retain(|timed| timed.write.namespace == namespace);
        writes
    }

    /// The control plane, to stop and start it.
    pub fn control_plane(&self) -> &ControlPlane {
        self.plane.get()
    }

    /// The administrator's client; for use on this cluster's runtime.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The runtime that keeps this cluster's connections.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    fn wait_for<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }
}

impl Plane {
    fn get(&self) -> &ControlPlane {
        match self {
            Self::Shared(plane) => plane,
            Self::Own(plane) => plane,
        }
    }
}

/// The path of a directory of the repository, as a command-line argument.
fn path_of(directory: &str) -> String {
    root().join(directory).display().to_string()
}

/// Runs a command to its end.
fn run(command: &mut Command, stdin: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let text = stdin.to_owned();
    // a thread of its own: kubectl answers while it still reads
    let writer = std::thread::spawn(move || {
        // a command that ends early reports why itself
        let _ = pipe.write_all(text.as_bytes());
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}
