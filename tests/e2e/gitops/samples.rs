//! A real API server with the shipped CRDs accepts every sample.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::{Value, json};
use support::{Cluster, generated::root};

/// The folders that kustomize renders, the outermost first: it holds the namespace that most of them are for. A base
/// is no sample: it is not complete by itself.
fn kustomizations(folder: &Path, found: &mut Vec<String>) {
    if folder.join("kustomization.yaml").exists() {
        found.push(folder.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
    }
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "base") {
            kustomizations(&path, found);
        }
    }
}

#[test]
fn monitoring_renders_with_its_dashboard() {
    let rendered = Cluster::kustomize("deploy/monitoring");
    let kinds: BTreeSet<String> = rendered
        .iter()
        .map(|manifest| {
            let object: Value = serde_saphyr::from_str(manifest).unwrap();
            assert_eq!(object["metadata"]["namespace"], "chatcaptain-system", "{manifest}");
            object["kind"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(kinds, ["ConfigMap", "PrometheusRule", "ServiceMonitor"].map(str::to_owned).into());
    let dashboard = rendered.iter().find(|manifest| manifest.contains("kind: ConfigMap")).unwrap();
    // Grafana's sidecar looks for it
    assert!(
        dashboard.contains("grafana_dashboard: \"1\"") && dashboard.contains("dashboard.json: "),
        "{dashboard}"
    );
}

#[test]
fn every_sample_is_accepted_by_the_api_server() {
    let cluster = Cluster::shared();
    let mut samples = Vec::new();
    kustomizations(&root().join("deploy/samples"), &mut samples);
    assert!(samples.len() >= 7, "{samples:?}");
    let mut kinds = BTreeSet::new();
    for sample in &samples {
        // a namespace first: what is in it is only tried
        let (namespaces, others): (Vec<_>, Vec<_>) =
            Cluster::kustomize(sample).into_iter().partition(|manifest| manifest.contains("kind: Namespace"));
        for manifest in namespaces {
            cluster.kubectl_ok(&["apply", "-f", "-"], &manifest);
        }
        for manifest in others {
            let said = cluster.kubectl_ok(&["apply", "--dry-run=server", "-o", "name", "-f", "-"], &manifest);
            kinds.insert(said.split('/').next().unwrap().to_owned());
        }
    }
    let expected = ["chatbotdeployment.chatcaptain.dev", "chatbotversion.chatcaptain.dev", "secret"];
    assert_eq!(kinds.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[test]
fn sample_application_has_sync_waves() {
    let text = fs::read_to_string(root().join("deploy/argocd/application.yaml")).unwrap();
    let application: Value = serde_saphyr::from_str(&text).unwrap();
    let source = &application["spec"]["source"];
    // as Argo CD does: a kustomization over the one in git
    let folder = tempfile::tempdir_in(root().join("deploy")).unwrap();
    let over = json!({
        "resources": [format!("../../{}", source["path"].as_str().unwrap())],
        "patches": source["kustomize"]["patches"],
    });
    fs::write(folder.path().join("kustomization.yaml"), over.to_string()).unwrap();
    let rendered = Cluster::kustomize(folder.path().strip_prefix(root()).unwrap().to_str().unwrap());
    let waves: BTreeMap<String, String> = rendered.iter().map(|manifest| wave(manifest)).collect();
    let expected = [("support-prod", "2"), ("support-q4", "0"), ("support-test", "1")];
    assert_eq!(waves, expected.map(|(name, wave)| (name.to_owned(), wave.to_owned())).into());
}

/// Name and wave of an object.
fn wave(manifest: &str) -> (String, String) {
    let object: Value = serde_saphyr::from_str(manifest).unwrap();
    let meta = &object["metadata"];
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    (text(&meta["name"]), text(&meta["annotations"]["argocd.argoproj.io/sync-wave"]))
}

#[test]
fn flux_sample_paths_exist() {
    let text = fs::read_to_string(root().join("deploy/flux/chatbots.yaml")).unwrap();
    let kustomizations: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    assert_eq!(kustomizations.len(), 3);
    for kustomization in kustomizations {
        let path = kustomization["spec"]["path"].as_str().unwrap();
        assert!(root().join(path).join("kustomization.yaml").exists(), "{path}");
        assert_eq!(kustomization["spec"]["wait"], true, "{path}");
    }
}
