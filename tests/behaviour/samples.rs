//! Every sample is taken by a real API server, with the rules of the shipped CRDs.

use std::{collections::BTreeSet, fs, path::Path};

use crate::harness::Cluster;

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/samples");

/// The folders that kustomize renders, the outermost first: it holds the namespace that most of them are for. A base
/// is no sample: it is not complete by itself.
fn kustomizations(folder: &Path, found: &mut Vec<String>) {
    if folder.join("kustomization.yaml").exists() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        found.push(folder.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
    }
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "base") {
            kustomizations(&path, found);
        }
    }
}

#[test]
fn every_sample_is_accepted() {
    let cluster = Cluster::shared();
    let mut samples = Vec::new();
    kustomizations(Path::new(SAMPLES), &mut samples);
    assert!(samples.len() >= 7, "{samples:?}");
    let mut kinds = BTreeSet::new();
    for sample in &samples {
        // a namespace first: what is in it is only tried
        let (namespaces, others): (Vec<_>, Vec<_>) =
            Cluster::shipped(sample).into_iter().partition(|manifest| manifest.contains("kind: Namespace"));
        namespaces.iter().for_each(|manifest| {
            cluster.kubectl_ok(&["apply", "-f", "-"], manifest);
        });
        for manifest in others {
            let said = cluster.kubectl_ok(&["apply", "--dry-run=server", "-o", "name", "-f", "-"], &manifest);
            kinds.insert(said.split('/').next().unwrap().to_owned());
        }
    }
    let expected = ["chatbotdeployment.chatcaptain.dev", "chatbotversion.chatcaptain.dev", "secret"];
    assert_eq!(kinds.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}
