//! The files and arguments of etcd, kube-apiserver and kube-controller-manager.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    binaries::Binaries,
    error::{Context, Error},
};

/// The user of the controller manager, whose writes the audit log leaves out.
pub(crate) const MANAGER: &str = "system:kube-controller-manager";

/// Writes of everybody but the control plane's own parts.
const AUDIT_POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: ["system:apiserver", "system:kube-controller-manager"]
# of these accounts reads, too
- level: Metadata
  userGroups: ["system:serviceaccounts:audited"]
- level: Metadata
  verbs: [create, update, patch, delete]
- level: None
"#;

/// What one control plane is made of; it stays the same when its API server is started again.
pub(crate) struct Settings {
    pub(crate) dir: PathBuf,
    pub(crate) etcd_port: u16,
    pub(crate) port: u16,
    pub(crate) admin_token: String,
    pub(crate) manager_token: String,
    pub(crate) audit: bool,
}

impl Settings {
    /// Makes the directory, unless it is there, chooses ports and tokens, and writes the files
    /// that kube-apiserver reads.
    pub(crate) fn write(dir: &Path, audit: bool) -> Result<Self, Error> {
        let what = format!("cannot make {}", dir.display());
        DirBuilder::new().recursive(true).mode(0o700).create(dir).context(&what)?;
        let etcd_port = free_port()?;
        let settings = Self {
            port: loop {
                let port = free_port()?;
                if port != etcd_port {
                    break port;
                }
            },
            etcd_port,
            admin_token: random_hex()?,
            manager_token: random_hex()?,
            audit,
            // the servers and kubectl may run elsewhere
            dir: dir.canonicalize().context(&what)?,
        };
        let tokens = format!(
            "{},admin,admin,\"system:masters\"\n{},{MANAGER},{MANAGER},\"system:masters\"\n",
            settings.admin_token, settings.manager_token
        );
        write_private(&settings.path("tokens.csv"), &tokens)?;
        write_private(&settings.path("audit-policy.yaml"), AUDIT_POLICY)?;
        // one of an earlier start, where the directory was named: no error if there is none
        let _ = fs::remove_file(settings.path("audit.log"));
        Ok(settings)
    }

    /// A file of this control plane.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The certificate that the API server makes for itself, and below it its authority.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.path("certs").join("apiserver.crt")
    }

    pub(crate) fn server(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    pub(crate) fn etcd(&self, binaries: &Binaries) -> Command {
        let url = format!("http://127.0.0.1:{}", self.etcd_port);
        let mut command = Command::new(&binaries.etcd);
        command
            .arg(flag("data-dir", self.path("etcd").display()))
            .args(["--unsafe-no-fsync", "--log-level=error"])
            .arg(flag("listen-client-urls", &url))
            .arg(flag("advertise-client-urls", &url))
            // a single member has no peers: any port does
            .arg("--listen-peer-urls=http://127.0.0.1:0");
        command
    }

    pub(crate) fn kube_apiserver(&self, binaries: &Binaries) -> Command {
        // the key of the certificate that it makes for itself signs service account tokens too
        let key = self.path("certs").join("apiserver.key");
        let mut command = Command::new(&binaries.kube_apiserver);
        command
            .arg(flag("etcd-servers", format_args!("http://127.0.0.1:{}", self.etcd_port)))
            .arg(flag("secure-port", self.port))
            .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
            .arg(flag("cert-dir", self.path("certs").display()))
            .arg(flag("service-account-key-file", key.display()))
            .arg(flag("service-account-signing-key-file", key.display()))
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(flag("token-auth-file", self.path("tokens.csv").display()))
            .arg("--authorization-mode=RBAC")
            .arg("--service-cluster-ip-range=10.0.0.0/24")
            // nothing here makes the default service accounts that this would ask for
            .arg("--disable-admission-plugins=ServiceAccount");
        if self.audit {
            command
                .arg(flag("audit-policy-file", self.path("audit-policy.yaml").display()))
                .arg(flag("audit-log-path", self.path("audit.log").display()))
                // in MB: the whole log stays in one file
                .arg("--audit-log-maxsize=10000");
        }
        command
    }
}

/// The namespace controller, and the one that makes the built-in roles view, edit and admin of their parts.
pub(crate) fn kube_controller_manager(program: &Path, kubeconfig: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .arg(flag("kubeconfig", kubeconfig.display()))
        .arg("--controllers=namespace-controller,clusterrole-aggregation-controller")
        .args(["--leader-elect=false", "--secure-port=0"]);
    command
}

fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}

/// A port that nobody listens on. It lies below those that the kernel hands out to clients, so
/// that none of them takes it while the API server is stopped.
fn free_port() -> Result<u16, Error> {
    for _ in 0..100 {
        let [high, low, ..] = random()?;
        let port = 10_000 + u16::from_be_bytes([high, low]) % 20_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Error::new("no free port on 127.0.0.1"))
}

fn random() -> Result<[u8; 16], Error> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("cannot read /dev/urandom")?;
    Ok(bytes)
}

fn random_hex() -> Result<String, Error> {
    Ok(format!("{:032x}", u128::from_be_bytes(random()?)))
}

/// Where the files of one control plane go when nobody names a place: not made yet.
pub(crate) fn temp_dir() -> Result<PathBuf, Error> {
    let name = format!("control-plane-{}", random_hex()?);
    Ok(std::env::temp_dir().join(name))
}

/// Writes a file that only this user can read.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), Error> {
    let what = format!("cannot write {}", path.display());
    // never one that was there, with whatever mode it has
    if path.exists() {
        fs::remove_file(path).context(&what)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(path).context(&what)?;
    file.write_all(text.as_bytes()).context(&what)
}
