//! Installing: the documented commands on a fresh cluster, two operators side by side, exactly the permissions that are used,
//! and the sample policies.

mod chart;
mod documented;
mod permissions;
mod policies;
mod runbook;
mod shards;

use std::{fs, path::Path};

use serde_json::Value;
use support::{Cluster, Operator, generated::root};
use tempfile::TempDir;

/// The operator as the Deployment of this name says: its arguments, its environment and its service account. There are no
/// nodes that could run it; `more` are the variables that lead it to the simulator, and to loopback.
fn start_as_shipped(cluster: &Cluster, deployment: &str, more: &[(&str, &str)], log: &Path) -> Operator {
    let get = ["get", "deployment", deployment, "--namespace=chatcaptain-system", "--output=json"];
    let deployment: Value = serde_json::from_str(&cluster.kubectl_ok(&get, "")).unwrap();
    let pod = &deployment["spec"]["template"]["spec"];
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let container = &pod["containers"][0];
    let args: Vec<String> = container["args"].as_array().unwrap().iter().map(text).collect();
    assert_eq!(args[0], "run");
    let kubeconfig = cluster.kubeconfig_of(pod["serviceAccountName"].as_str().unwrap());
    let name = format!("{}-0", text(&deployment["metadata"]["name"]));
    let mut env = vec![
        ("KUBECONFIG".to_owned(), kubeconfig.to_str().unwrap().to_owned()),
        ("CHATCAPTAIN_LISTEN".to_owned(), "127.0.0.1:0".to_owned()),
    ];
    for variable in container["env"].as_array().unwrap() {
        let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some("metadata.name") => name.clone(),
            None => text(&variable["value"]),
            Some(other) => panic!("what is {other} of a pod?"),
        };
        env.push((text(&variable["name"]), value));
    }
    env.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Operator::start(&args[1..], &env, log)
}

/// What the Deployment controller does once its pods are ready.
fn report_available(cluster: &Cluster, deployment: &str) {
    let status = r#"{"status": {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2}}"#;
    let patch = ["patch", "deployment", deployment, "--namespace=chatcaptain-system", "--subresource=status"];
    cluster.kubectl_ok(&[&patch[..], &["--type=merge", "--patch", status]].concat(), "");
}

/// A clean clone, as far as an installation reads it.
fn clone() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for part in ["crds", "deploy"] {
        copy(&root().join(part), &folder.path().join(part));
    }
    folder
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}
