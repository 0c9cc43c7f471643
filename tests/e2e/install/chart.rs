//! The Helm chart: it renders what `deploy/` has, and a real API server takes it.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Command, Output},
    sync::OnceLock,
};

use serde_json::{Value, json};
use support::{Cluster, generated::root, go_tool};

use super::clone;

/// Helm.
pub fn helm() -> &'static PathBuf {
    static HELM: OnceLock<PathBuf> = OnceLock::new();
    HELM.get_or_init(|| go_tool("helm", "helm.sh/helm/v4/cmd/helm"))
}

fn run(args: &[&str]) -> Output {
    Command::new(helm()).current_dir(root()).args(args).output().unwrap()
}

const NAME: &str = "chatcaptain-operator";

/// What the chart renders for a release, with the name of everything replaced by the one in `deploy/`.
fn template(release: &str, name: &str, settings: &[&str]) -> BTreeMap<String, Value> {
    let mut args = vec!["template", release, "deploy/chart", "--namespace=chatcaptain-system"];
    args.extend(["--no-hooks", "--set=ownerId=my-cluster"]);
    args.extend(settings);
    let output = run(&args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap().replace(name, NAME);
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    objects.into_iter().filter(|object| !object.is_null()).map(comparable).collect()
}

/// What kustomize renders.
fn kustomize(folders: &[&str]) -> BTreeMap<String, Value> {
    let texts = folders.iter().flat_map(|folder| Cluster::kustomize(folder));
    let objects = texts.map(|text| serde_saphyr::from_str::<Value>(&text).unwrap());
    // Helm makes the namespace itself, with --create-namespace
    objects.filter(|object| object["kind"] != "Namespace").map(comparable).collect()
}

/// An object by its kind and name, without what only one of both has: labels of Helm, and arguments that say the names.
fn comparable(mut object: Value) -> (String, Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let meta = &object["metadata"];
    let key = format!("{} {} {}", text(&object["kind"]), text(&meta["namespace"]), text(&meta["name"]));
    // kustomize writes 1 for 1.0
    numbers_as_floats(&mut object);
    if let Some(labels) = object.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.retain(|label, _| {
            !label.starts_with("helm.sh/") && !label.ends_with("/managed-by") && !label.ends_with("/version")
        });
    }
    if object["kind"] == "Deployment" {
        let args = object["spec"]["template"]["spec"]["containers"][0]["args"].as_array_mut().unwrap();
        let of_names = [json!("--owner-id=my-cluster"), json!("--lease-name=chatcaptain-operator")];
        args.retain(|arg| !of_names.contains(arg));
    }
    (key, object)
}

fn numbers_as_floats(value: &mut Value) {
    match value {
        Value::Number(number) => *value = json!(number.as_f64()),
        Value::Array(items) => items.iter_mut().for_each(numbers_as_floats),
        Value::Object(fields) => fields.values_mut().for_each(numbers_as_floats),
        _ => {}
    }
}

fn assert_same(chart: &BTreeMap<String, Value>, kustomize: &BTreeMap<String, Value>) {
    assert_eq!(chart.keys().collect::<Vec<_>>(), kustomize.keys().collect::<Vec<_>>());
    for (key, object) in chart {
        assert_eq!(object, &kustomize[key], "{key}: left the chart, right kustomize");
    }
}

#[test]
fn chart_renders_what_kustomize_does_but_for_names() {
    let installed = kustomize(&["crds", "deploy"]);
    assert!(installed.len() >= 17, "{:?}", installed.keys());
    assert_same(&template(NAME, NAME, &[]), &installed);
    assert_same(&template("blue", "blue-chatcaptain-operator", &[]), &installed);
    let namespaced = kustomize(&["crds", "deploy/namespaced"]);
    assert_same(&template(NAME, NAME, &["--set=namespaces={chatbots}"]), &namespaced);

    let folder = clone();
    let ours = folder.path().join("ours");
    fs::create_dir(&ours).unwrap();
    let text = json!({"resources": ["../deploy"], "components": ["../deploy/get-secrets-only"]});
    fs::write(ours.join("kustomization.yaml"), text.to_string()).unwrap();
    let unwatched = kustomize(&["crds", ours.to_str().unwrap()]);
    assert_same(&template(NAME, NAME, &["--set=watchSecrets=false"]), &unwatched);
}

#[test]
fn chart_asks_for_the_owner_id_and_refuses_what_it_does_not_know() {
    let lint = run(&["lint", "--strict", "deploy/chart", "--set=ownerId=my-cluster"]);
    assert!(lint.status.success(), "{}", String::from_utf8_lossy(&lint.stdout));
    for (setting, said) in [
        ("replicas=2", "set ownerId, the name of this installation"),
        ("ownerId=my cluster", "'/ownerId'"),
        ("ownerId=a,replica=3", "'replica'"),
        ("ownerId=a,namespaces={Chatbots}", "'/namespaces/0'"),
        ("ownerId=a,image.digest=abc", "'/image/digest'"),
    ] {
        let output = run(&["template", "deploy/chart", "--set", setting]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(said), "{setting}: {error}");
    }
}

/// Pods are what the namespace's standard applies to: each template is tried as one.
#[test]
fn pods_are_admitted_under_the_restricted_standard() {
    let cluster = Cluster::shared();
    let hooks = run(&["template", NAME, "deploy/chart", "--namespace=chatcaptain-system", "--set=ownerId=a"]);
    let texts = String::from_utf8(hooks.stdout).unwrap();
    let rendered: Vec<Value> = serde_saphyr::from_multiple(&texts).unwrap();
    let shipped = Cluster::kustomize("deploy/sharded").into_iter();
    let objects = shipped.map(|text| serde_saphyr::from_str(&text).unwrap()).chain(rendered);
    let mut tried = 0;
    for object in objects {
        let spec = match object["kind"].as_str() {
            Some("Deployment") => &object["spec"]["template"]["spec"],
            Some("Pod") => &object["spec"],
            _ => continue,
        };
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "tried"}, "spec": spec});
        let create = ["create", "--dry-run=server", "--namespace=chatcaptain-system", "-f", "-"];
        cluster.kubectl_ok(&create, &pod.to_string());
        let mut privileged = pod.clone();
        privileged["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
        let refused = cluster.kubectl(&create, &privileged.to_string());
        assert!(String::from_utf8_lossy(&refused.stderr).contains("restricted"), "the standard is enforced");
        tried += 1;
    }
    assert_eq!(tried, 4, "two shards, the chart's Deployment and its test");
}
