//! What every row needs: the cluster, and operators that can be started, asked and stopped.

use std::{
    fs::File,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use chatcaptain_operator::crd::{self, ChatbotVersion, ConditionType};
use control_plane::ControlPlane;
use futures::{StreamExt, stream};
use k8s_openapi::{
    ByteString,
    api::core::v1::{Namespace, Secret},
};
use kube::{
    Api, Client, Config,
    api::{ListParams, ObjectMeta, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use simulator::{Settings, Simulator};

/// Counts the looks at objects.
pub const PASSES: &str = "chatcaptain_reconcile_total";
pub const KEY: &str = "CCSB-bench-0123456789";
/// As many at a time as the operator works on.
pub const CONCURRENCY: usize = 16;

/// The cluster.
pub struct Stage {
    pub cluster: &'static ControlPlane,
    pub client: Client,
}

impl Stage {
    pub async fn build() -> Self {
        eprintln!("starting etcd and kube-apiserver");
        let cluster = tokio::task::spawn_blocking(control_plane::shared).await.expect("a control plane");
        let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig()).expect("a kubeconfig");
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .expect("a config");
        let client = Client::try_from(config).expect("a client");
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy");
        let applied =
            cluster.kubectl().args(["apply", "-k", root]).stdout(Stdio::null()).status().expect("kubectl");
        assert!(applied.success(), "deploy/ was not accepted");
        for crd in crd::all() {
            let name = format!("crd/{}", crd.metadata.name.unwrap_or_default());
            let wait = ["wait", "--for=condition=Established", "--timeout=30s", &name];
            assert!(cluster.kubectl().args(wait).stdout(Stdio::null()).status().expect("kubectl").success());
        }
        Self { cluster, client }
    }

    /// A namespace with the Secret in it.
    pub async fn namespace(&self, name: &str) {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let namespace = Namespace { metadata, ..Namespace::default() };
        namespaces.create(&PostParams::default(), &namespace).await.expect("a namespace");
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), name);
        let metadata = ObjectMeta { name: Some("chatcaptain".to_owned()), ..ObjectMeta::default() };
        let data = [("apiKey".to_owned(), ByteString(KEY.as_bytes().to_vec()))].into();
        let secret = Secret { metadata, data: Some(data), ..Secret::default() };
        secrets.create(&PostParams::default(), &secret).await.expect("a Secret");
    }

    pub fn versions(&self, namespace: &str) -> Api<ChatbotVersion> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Creates `count` versions, spread over `bots` chatbots.
    pub async fn create_versions(&self, namespace: &str, count: usize, bots: usize) {
        let api = self.versions(namespace);
        stream::iter(0..count)
            .for_each_concurrent(CONCURRENCY, |index| {
                let api = api.clone();
                let bot = format!("{namespace}-{}", index % bots);
                async move {
                    let manifest = serde_json::json!({
                        "apiVersion": "chatcaptain.dev/v1alpha1", "kind": "ChatbotVersion",
                        "metadata": {"name": format!("v{index:05}")}, "spec": {"chatbotId": bot},
                    });
                    let version = serde_json::from_value(manifest).expect("a version");
                    api.create(&PostParams::default(), &version).await.expect("created");
                }
            })
            .await;
    }

    /// Waits until `count` versions are Ready.
    pub async fn all_ready(&self, namespace: &str, count: usize, within: Duration) {
        let api = self.versions(namespace);
        let started = Instant::now();
        loop {
            let list = api.list(&ListParams::default().match_any()).await.expect("listed");
            let ready = list.items.iter().filter(|version| is_ready(version)).count();
            if ready == count {
                return;
            }
            assert!(started.elapsed() < within, "{ready} of {count} Ready in {namespace} after {within:?}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// How often the operator wrote objects of ours in this namespace.
    pub fn writes(&self, namespace: &str) -> Vec<control_plane::AuditWrite> {
        let mut writes = self.cluster.audit().expect("an audit log");
        writes.retain(|write| write.namespace == namespace && write.user.contains("chatcaptain-operator"));
        writes.retain(|write| write.resource.starts_with("chatbot") && write.code < 300);
        writes
    }

    /// Starts an operator for one namespace under the shipped role.
    pub fn operator(&self, namespace: &str, simulator: &Simulator, flags: &[&str]) -> Operator {
        let kubeconfig =
            self.cluster.kubeconfig_for("chatcaptain-system", "chatcaptain-operator").expect("a kubeconfig");
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr()).expect("a port");
        let log = self.cluster.dir().join(format!("{namespace}-{}.log", free.port()));
        let child = Command::new(env!("CARGO_BIN_EXE_chatcaptain-operator"))
            .args([
                "run",
                "--namespace",
                namespace,
                "--lease-name",
                namespace,
                "--lease-namespace",
                "chatcaptain-system",
            ])
            .args(["--api-url", &simulator.url(), "--listen", &free.to_string()])
            .args(["--api-rate", "100000", "--api-burst", "100000", "--leader-elect=false"])
            .args(flags)
            .env("KUBECONFIG", kubeconfig)
            .env("RUST_LOG", "warn,chatcaptain_operator::controller::context=info")
            .stderr(File::create(&log).expect("a log"))
            .spawn()
            .expect("the operator");
        Operator { child, listen: free.to_string(), log }
    }
}

pub fn is_ready(version: &ChatbotVersion) -> bool {
    version.status.as_ref().is_some_and(|status| status.common.is_true(ConditionType::Ready))
}

/// A simulator with a known latency.
pub fn service(settings: Settings) -> Simulator {
    Simulator::start_on_thread(settings).expect("a simulator")
}

/// A running operator; it ends with this value.
pub struct Operator {
    child: Child,
    listen: String,
    log: PathBuf,
}

impl Operator {
    /// Resident memory in MiB.
    pub fn memory(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a process");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        let kib: f64 = line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a number");
        kib / 1024.0
    }

    /// The sum of a metric's series.
    pub async fn metric(&self, name: &str) -> f64 {
        let url = format!("http://{}/metrics", self.listen);
        let Ok(response) = reqwest::get(&url).await else {
            return 0.0;
        };
        let text = response.text().await.unwrap_or_default();
        let series = text.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Waits until `count` versions have become Ready, as the operator counts it.
    pub async fn made_ready(&self, count: usize, within: Duration) {
        let started = Instant::now();
        // a scrape tells of every object, and shall not be what is measured
        let pause = Duration::from_millis(if count > 2_000 { 1_000 } else { 250 });
        #[allow(clippy::cast_precision_loss)]
        while self.metric("chatcaptain_time_to_ready_seconds_count").await < count as f64 {
            assert!(started.elapsed() < within, "not all of {count} Ready after {within:?}");
            tokio::time::sleep(pause).await;
        }
    }

    /// Waits until there were so many passes since its start; how long that took.
    pub async fn passed(&self, count: f64) -> Duration {
        let started = Instant::now();
        while self.metric(PASSES).await < count {
            assert!(started.elapsed() < Duration::from_mins(2), "not every object was looked at");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        started.elapsed()
    }

    /// Waits until the log says that the caches are full.
    pub async fn caches_full(&self) {
        let started = Instant::now();
        while !std::fs::read_to_string(&self.log).unwrap_or_default().contains("caches are full") {
            assert!(started.elapsed() < Duration::from_mins(1), "the caches did not fill");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until an interval of rest has passed.
    pub async fn rest(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
