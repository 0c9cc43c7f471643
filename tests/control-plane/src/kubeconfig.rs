//! Kubeconfigs: of the administrator, the controller manager and any service account.
//!
//! They are written as JSON, which is YAML.

use std::{path::Path, process::Command};

use serde_json::{Value, json};

use crate::{
    command::output,
    error::{Context, Error},
};

/// A kubeconfig of one user; `cluster` is the `cluster` part of its only cluster.
pub(crate) fn config(cluster: &Value, user: &str, token: &str, namespace: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "control-plane", "cluster": cluster}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": user, "context": {
            "cluster": "control-plane",
            "user": user,
            "namespace": namespace,
        }}],
        "current-context": user,
    })
}

/// The cluster that a kubectl command talks to, its certificates included.
pub(crate) fn cluster(kubectl: &mut Command) -> Result<Value, Error> {
    let view = ["config", "view", "--raw", "--minify", "--flatten", "--output=json"];
    let text = output(kubectl.args(view))?;
    let mut view: Value = serde_json::from_str(&text).context("kubectl config view")?;
    Ok(view["clusters"][0]["cluster"].take())
}

/// The certificate authority of an API server's own certificate: the last one of its file.
pub(crate) fn authority(certificates: &str) -> Option<&str> {
    let start = certificates.rfind("-----BEGIN CERTIFICATE-----")?;
    Some(&certificates[start..])
}

/// Makes a token of a service account that is good for a day, and returns a kubeconfig with it
/// and the account's namespace. `kubectl` makes a command that talks to the cluster as somebody
/// who may create tokens, such as [`ControlPlane::kubectl`](crate::ControlPlane::kubectl).
///
/// # Errors
///
/// When kubectl fails, for example as the service account does not exist.
pub fn service_account_kubeconfig(
    kubectl: impl Fn() -> Command,
    namespace: &str,
    service_account: &str,
) -> Result<String, Error> {
    let cluster = cluster(&mut kubectl())?;
    let mut create = kubectl();
    create
        .args(["create", "token", service_account, "--duration=24h"])
        .arg(format!("--namespace={namespace}"));
    let token = output(&mut create)?;
    let user = format!("{namespace}-{service_account}");
    Ok(config(&cluster, &user, token.trim(), namespace).to_string())
}

/// Runs kubectl with a kubeconfig, and with its caches beside it instead of in the home directory.
pub(crate) fn kubectl(program: &Path, kubeconfig: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("KUBECONFIG", kubeconfig).env("KUBECACHEDIR", kubeconfig.with_file_name("kubectl-cache"));
    command
}
