//! Real networks: the service and the cluster behind a proxy, and certificates of a private CA.

use std::{fs, net::SocketAddr};

use chatcaptain_operator::crd::ChatbotVersion;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use simulator::Settings;
use support::{Authority, ConnectProxy, World, certificate_pem, operator_command};
use tempfile::TempDir;

/// The API server's certificate contains this name, which only the proxy resolves.
const API_SERVER: &str = "kubernetes.default.svc:443";
const PASSWORD: &str = "s3cret";
/// `user:s3cret`
const BASIC_AUTH: &str = "dXNlcjpzM2NyZXQ=";

/// A world in which all that the operator needs is behind one proxy, under names that it cannot resolve.
struct Network {
    world: World,
    proxy: ConnectProxy,
    /// The CA of the service, and that of the cluster.
    service_ca: String,
    cluster_ca: String,
    directory: TempDir,
}

impl Network {
    fn new() -> Self {
        let mut world =
            World::without_operator(Settings::default(), &[("api-url", "https://chatbots.example")]);
        let authority = Authority::new();
        let (kubeconfig, cluster_ca, api_server) = kubeconfig_with_a_name(&world);
        let runtime = world.cluster.runtime();
        let simulator = world.service.address();
        let serve = |name| authority.serve(runtime, name, simulator);
        let servers = [
            ("chatbots.example:443", serve("chatbots.example")),
            ("misnamed.example:443", serve("other.example")),
            (API_SERVER, api_server),
        ];
        let proxy = ConnectProxy::start(runtime, &servers, BASIC_AUTH);
        world.use_kubeconfig(&kubeconfig.to_string());
        Self { world, proxy, service_ca: authority.pem, cluster_ca, directory: TempDir::new().unwrap() }
    }

    /// Starts the operator behind the proxy, with these CA certificates.
    fn start(&self, trusted: &[&str]) {
        let file = self.directory.path().join("ca.pem");
        fs::write(&file, trusted.concat()).unwrap();
        let proxy = format!("http://user:{PASSWORD}@{}", self.proxy.address());
        self.world.start_with(&[("SSL_CERT_FILE", file.to_str().unwrap()), ("HTTPS_PROXY", &proxy)]);
    }

    /// Waits until the version says that the service is unavailable, and why.
    fn wait_for_message(&self, why: &str) -> String {
        self.world.eventually(why, || {
            let message = self.world.wait_for_reason::<ChatbotVersion>("a", "ServiceUnavailable");
            message.contains(why).then_some(message)
        })
    }
}

/// A kubeconfig without a CA, in which a name takes the place of the address; the CA; the address.
fn kubeconfig_with_a_name(world: &World) -> (Value, String, SocketAddr) {
    let text = fs::read_to_string(&world.kubeconfig).unwrap();
    let config = world.cluster.runtime().block_on(async {
        let parsed = Kubeconfig::from_yaml(&text).unwrap();
        kube::Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await.unwrap()
    });
    let address = config.cluster_url.authority().unwrap().as_str().parse().unwrap();
    let ca = config.root_cert.unwrap().iter().map(|der| certificate_pem(der)).collect();
    let mut kubeconfig: Value = serde_json::from_str(&text).unwrap();
    kubeconfig["clusters"][0]["cluster"] = json!({"server": format!("https://{API_SERVER}")});
    (kubeconfig, ca, address)
}

#[test]
fn service_and_cluster_behind_a_proxy_are_trusted_by_a_private_ca() {
    let mut network = Network::new();
    network.world.apply_version("a", &[]);

    network.start(&[&network.service_ca]);
    network.world.eventually("the API server is not trusted", || {
        let operator = network.world.operator();
        let (status, why) = operator.as_ref().unwrap().http_get("/readyz");
        let advice = "signed by an unknown authority; set SSL_CERT_FILE to a PEM file";
        (status == 503 && why.contains("the API server is not trusted") && why.contains(advice)).then_some(())
    });

    network.start(&[&network.cluster_ca, &Authority::new().pem]);
    let message = network.wait_for_message("signed by an unknown authority");
    assert!(message.contains("set SSL_CERT_FILE to a PEM file with the CA certificates"), "{message}");

    network.world.use_service("https://misnamed.example");
    network.start(&[&network.cluster_ca, &network.service_ca]);
    let message = network.wait_for_message("another host name");
    assert!(message.contains("use a URL with a name that the certificate contains"), "{message}");

    network.world.use_service("https://unknown.example");
    network.start(&[&network.cluster_ca, &network.service_ca]);
    network.wait_for_message("it cannot be reached through the proxy that HTTPS_PROXY names");
    assert_eq!(network.world.service.calls().len(), 0, "no key has left the operator");

    network.world.use_service("https://chatbots.example");
    network.start(&[&network.cluster_ca, &network.service_ca]);
    network.world.wait_until_version_ready("a");
    let asked = network.proxy.asked();
    for server in [API_SERVER, "chatbots.example:443"] {
        assert!(asked.iter().any(|other| other == server), "{asked:?}");
    }
    assert!(!network.world.log().contains(PASSWORD), "{}", network.world.log());
}

/// A proxy that cannot be reached is not asked for them: so a demo works where proxy variables are set.
#[test]
fn loopback_is_reached_without_the_proxy() {
    let world = World::without_operator(Settings::default(), &[]);
    let dead = "http://127.0.0.1:9";
    let variables = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY"];
    world.start_with(&variables.map(|name| (name, dead)));
    world.apply_version("a", &[]);
    world.wait_until_version_ready("a");
}

/// A start that fails prints the cause, to the innermost one, and what to do.
#[test]
fn failed_start_prints_the_whole_cause() {
    let directory = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let cluster = |more: &str| {
        format!(
            r#"{{"clusters": [{{"name": "c", "cluster": {{"server": "https://a.example"{more}}}}}], "users": [],
            "contexts": [{{"name": "x", "context": {{"cluster": "c", "user": "u"}}}}], "current-context": "x"}}"#
        )
    };
    let good = file("good", &cluster(""));
    let insecure = file("insecure", &cluster(r#", "insecure-skip-tls-verify": true"#));
    let empty = file("empty.pem", "");
    let socks = format!("socks5://u:{PASSWORD}@p:1");
    for (environment, parts) in [
        ([("KUBECONFIG", "/missing"), ("A", "")], ["/missing", "No such file or directory"]),
        ([("KUBECONFIG", &insecure), ("A", "")], ["insecure-skip-tls-verify", "set certificate-authority"]),
        (
            [("KUBECONFIG", &good), ("HTTPS_PROXY", &socks)],
            ["HTTPS_PROXY names no usable", "http://<host>:<port>"],
        ),
        ([("KUBECONFIG", &good), ("SSL_CERT_FILE", &empty)], ["No CA certificates", "SSL_CERT_FILE"]),
    ] {
        let output =
            operator_command().args(["run", "--listen=127.0.0.1:0"]).envs(environment).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        let line = error.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        assert!(parts.iter().all(|part| line.contains(part)), "{parts:?}: {error}");
        assert!(!error.contains(PASSWORD), "{error}");
    }
}
