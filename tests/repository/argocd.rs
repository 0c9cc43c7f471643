//! The `ConfigMap` that users install in Argo CD is generated from the Lua files, laid out as upstream takes them.

use std::fmt::Write;

use support::generated::{hold, read, root};

const SCRIPTS: &str = "deploy/argocd/resource_customizations/chatcaptain.dev";

#[test]
fn argocd_config_map_matches_its_scripts() {
    hold("deploy/argocd/argocd-cm.yaml", &config_map());
}

#[test]
fn health_script_is_the_same_for_both_kinds() {
    let health = |kind: &str| read(format!("{SCRIPTS}/{kind}/health.lua"));
    assert_eq!(health("ChatbotVersion"), health("ChatbotDeployment"));
}

fn config_map() -> String {
    let mut text = String::from(
        "# Health checks and actions of both kinds for Argo CD. Generated from resource_customizations/. Install:\n\
         #   kubectl -n argocd patch configmap argocd-cm --patch-file deploy/argocd/argocd-cm.yaml\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: argocd-cm\n  namespace: argocd\n  labels:\n    \
         app.kubernetes.io/part-of: argocd\ndata:\n",
    );
    for kind in ["ChatbotDeployment", "ChatbotVersion"] {
        let health = block(4, &read(format!("{SCRIPTS}/{kind}/health.lua")));
        writeln!(text, "  resource.customizations.health.chatcaptain.dev_{kind}: |\n{health}").unwrap();
        let actions = block(4, &actions(kind));
        writeln!(text, "  resource.customizations.actions.chatcaptain.dev_{kind}: |\n{actions}").unwrap();
    }
    text
}

/// The actions of a kind as Argo CD wants them: one YAML document.
fn actions(kind: &str) -> String {
    let folder = format!("{SCRIPTS}/{kind}/actions");
    let discovery = block(2, &read(format!("{folder}/discovery.lua")));
    let mut text = format!("discovery.lua: |\n{discovery}\ndefinitions:\n");
    let mut names: Vec<_> = std::fs::read_dir(root().join(&folder))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    for name in names {
        let action = block(4, &read(format!("{folder}/{name}/action.lua")));
        writeln!(text, "- name: {name}\n  action.lua: |\n{action}").unwrap();
    }
    text
}

/// The lines of a YAML block, indented by so many spaces.
fn block(indent: usize, text: &str) -> String {
    let line = |line: &str| if line.is_empty() { String::new() } else { " ".repeat(indent) + line };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}
