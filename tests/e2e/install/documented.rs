//! The commands of the documents, as they stand there, on a cluster that has nothing yet.

use std::{sync::Arc, thread};

use simulator::{Settings, Simulator};
use support::{Cluster, TIMEOUT, generated::read, poll};
use tempfile::TempDir;

use super::{chart::helm, clone, report_available, start_as_shipped};

/// The fenced blocks of a section of a document.
fn blocks(document: &str, heading: &str) -> Vec<String> {
    let text = read(document);
    let (_, section) = text.split_once(&format!("\n{heading}\n")).expect("the section");
    let section = section.split("\n## ").next().unwrap();
    let inside = section.split("```").skip(1).step_by(2);
    inside.map(|block| block.split_once('\n').unwrap().1.to_owned()).collect()
}

/// The one block of a section that has this text.
fn block(document: &str, heading: &str, with: &str) -> String {
    let found: Vec<String> = blocks(document, heading).into_iter().filter(|b| b.contains(with)).collect();
    assert_eq!(found.len(), 1, "{document}, {heading}: blocks with {with:?}");
    found.into_iter().next().unwrap()
}

/// Runs the commands, and beside them what a cluster with nodes would do: the operator starts as the Deployment says, and
/// is reported available once it is ready. Then the first release is made as the README shows it.
fn install_and_release(commands: &str, owner: &str, image: &str) -> (Arc<Cluster>, TempDir) {
    let (cluster, folder) = (Cluster::empty(), clone());
    let service = Simulator::start_on_thread(Settings::default()).unwrap();
    let log = folder.path().join("operator.log");
    let exists = || {
        let get = ["get", "deployment", "chatcaptain-operator", "--namespace=chatcaptain-system", "--output"];
        let image = "jsonpath={.spec.template.spec.containers[0].image}";
        let output = cluster.kubectl(&[&get[..], &[image]].concat(), "");
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    };
    let operator = thread::scope(|scope| {
        scope.spawn(|| cluster.shell(folder.path(), &format!("set -e\n{commands}")));
        let deployed = poll(TIMEOUT, exists).expect("the commands make a Deployment");
        assert_eq!(deployed, image);
        let operator = start_as_shipped(
            &cluster,
            "chatcaptain-operator",
            &[("CHATCAPTAIN_API_URL", &service.url())],
            &log,
        );
        let ready = poll(TIMEOUT, || (operator.http_get("/readyz").0 == 200).then_some(()));
        assert!(ready.is_some(), "{}", operator.log());
        report_available(&cluster, "chatcaptain-operator");
        operator
    });
    let manifests = block("README.md", "## First release", "kind: ChatbotVersion");
    cluster.kubectl_ok(&["apply", "-f", "-"], &manifests);
    let shown = block("README.md", "## First release", "kubectl -n chatbots wait");
    for command in shown.lines().filter_map(|line| line.strip_prefix("$ ")) {
        cluster.shell(folder.path(), command);
    }
    let versions = service.chatbot("bot59aBv7wzR9").expect("the chatbot").versions;
    let made: Vec<&str> = versions.iter().filter_map(|version| version.description.as_deref()).collect();
    let marker = format!("[chatcaptain.dev {owner}/chatbots/support-q4]");
    assert!(matches!(made[..], [only] if only.ends_with(&marker)), "{made:?}");
    assert_eq!(operator.metric("chatcaptain_leader", &[]), 1, "by the Lease that its role grants");
    (cluster, folder)
}

const IMAGE: &str = "registry.example.com/chatcaptain-operator:0.1.0";

#[test]
fn readme_installs_on_a_fresh_cluster_with_kubectl_alone() {
    let commands = block("README.md", "## Install", "kubectl apply -k crds");
    install_and_release(&commands, "my-cluster", IMAGE);
}

#[test]
fn readme_installs_for_one_namespace() {
    let commands = block("README.md", "## Install", "kubectl apply -k crds");
    let readme = read("README.md").replace('\n', " ");
    assert!(readme.contains("write `../deploy/namespaced` in place of `../deploy`"));
    let commands = commands.replace("[../deploy]", "[../deploy/namespaced]");
    assert!(commands.contains("/namespaced"), "{commands}");
    install_and_release(&commands, "my-cluster", IMAGE);
}

#[test]
fn helm_installs_on_a_fresh_cluster_and_uninstalls_without_the_crds() {
    helm();
    let commands = block("deploy/README.md", "## Helm", "helm install");
    let (cluster, folder) = install_and_release(&commands, "my-cluster", IMAGE);
    cluster.shell(folder.path(), "helm uninstall chatcaptain-operator -n chatcaptain-system");
    let left = cluster.kubectl_ok(&["get", "crds,cbv,cbd,deployments", "-A", "-o", "name"], "");
    let expected = [
        "customresourcedefinition.apiextensions.k8s.io/chatbotdeployments.chatcaptain.dev",
        "customresourcedefinition.apiextensions.k8s.io/chatbotversions.chatcaptain.dev",
        "chatbotversion.chatcaptain.dev/support-q4",
        "chatbotdeployment.chatcaptain.dev/support-prod",
    ];
    assert_eq!(left.lines().collect::<Vec<_>>(), expected);
    // it takes over what it left
    let install = commands.split("\nkubectl ").next().unwrap();
    cluster.shell(folder.path(), install);
}
