//! The RBAC rules of `deploy/namespaced` suffice for one namespace, and grant nothing in others.

use chatcaptain_operator::crd::ChatbotVersion;
use simulator::Settings;
use support::{Cluster, World};

/// A separate service account: that of the other tests has the rights of `deploy/`.
const ACCOUNT: &str = "one-namespace";

#[test]
fn namespaced_role_is_sufficient_and_confined() {
    let cluster = Cluster::shared();
    let account = ["create", "serviceaccount", ACCOUNT, "--namespace=chatcaptain-system"];
    cluster.kubectl_ok(&account, "");
    let kubeconfig = cluster.kubeconfig_of(ACCOUNT);
    let world = World::on_cluster(cluster, kubeconfig, Settings::default(), &[]);

    let shipped = Cluster::kustomize("deploy/namespaced");
    let ours = |text: &&String| text.contains("kind: RoleBinding") && text.contains("namespace: chatbots");
    let binding = shipped.iter().find(ours).expect("a RoleBinding for chatbots");
    let binding = binding.replace("namespace: chatbots", &format!("namespace: {}", world.namespace));
    let (role, subjects) = binding.split_once("subjects:").unwrap();
    let subjects = subjects.replace("name: chatcaptain-operator", &format!("name: {ACCOUNT}"));
    world.apply(&format!("{role}subjects:{subjects}"));

    world.start();
    world.apply_version("a", &[]);
    world.wait_until_version_ready("a");
    world.apply_version("b", &[]);
    world.wait_until_version_ready("b");
    world.apply_deployment("test", "a", &[]);
    world.wait_until_deployment_ready("test");
    world.wait_for_event("test", "Deployed");
    // the namespace itself is read for its policy
    let retain = ["annotate", "namespace", &world.namespace, "chatcaptain.dev/deletion-policy=Retain"];
    world.kubectl(&retain, "");
    world.delete("chatbotversion", "b");
    world.wait_until_deleted::<ChatbotVersion>("b");
    assert_eq!(world.effects(), ["create a dev", "create b dev", "deploy a test"]);

    let user = format!("--as=system:serviceaccount:chatcaptain-system:{ACCOUNT}");
    for namespace in ["default", "chatcaptain-system"] {
        let may = ["auth", "can-i", "get", "secrets", "--namespace", namespace, &user];
        let answer = world.cluster.kubectl(&may, "");
        assert!(!answer.status.success(), "it may read the Secrets of {namespace}");
    }
}
