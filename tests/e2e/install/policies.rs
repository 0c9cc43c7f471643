//! The sample policies of `deploy/policies`, and the permissions that the built-in roles get.

use std::sync::Arc;

use support::{Cluster, TIMEOUT, deployment, poll, version};

const NAMESPACE: &str = "team";

/// A cluster with the policies in force. `anna` is an admin of the namespace, `ed` has edit, `vera` view.
fn cluster() -> Arc<Cluster> {
    let cluster = Cluster::installed();
    cluster.create_namespace(NAMESPACE);
    for (user, role) in [("anna", "admin"), ("ed", "edit"), ("vera", "view")] {
        let (role, user) = (format!("--clusterrole={role}"), format!("--user={user}"));
        cluster
            .kubectl_ok(&["create", "rolebinding", &user[7..], &role, &user, "--namespace", NAMESPACE], "");
    }
    cluster.kubectl_ok(&["apply", "-f", "-"], &Cluster::kustomize("deploy/policies").join("\n---\n"));
    cluster
}

/// What a user is answered.
fn try_as(cluster: &Cluster, user: &str, args: &[&str], stdin: &str) -> Result<(), String> {
    let output = cluster.kubectl(&[&["--as", user, "--namespace", NAMESPACE], args].concat(), stdin);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(said) }
}

/// A policy is in force some moments after it is made, and so are the rules of the built-in roles.
fn wait_until_refused(cluster: &Cluster, user: &str, args: &[&str], stdin: &str) -> String {
    let mut last = Ok(());
    let refused = poll(TIMEOUT, || {
        last = try_as(cluster, user, args, stdin);
        last.clone().err().filter(|said| said.contains("ValidatingAdmissionPolicy"))
    });
    refused.unwrap_or_else(|| panic!("{user} {args:?}: {last:?}"))
}

#[test]
fn policies_decide_who_may_deploy_to_prod_approve_and_roll_back() {
    let cluster = cluster();
    let apply = ["apply", "-f", "-"];
    let prod =
        |version: &str| deployment("bot", "prod", "prod", &[&format!("versionRef: {{name: {version}}}")]);
    let test = deployment("bot", "test", "test", &["versionRef: {name: a}"]);
    let said = wait_until_refused(&cluster, "ed", &["create", "--dry-run=server", "-f", "-"], &prod("a"));
    assert!(
        said.contains("User ed may not change a ChatbotDeployment of prod")
            && said.contains("verb deploy-to-prod")
    );
    for manifest in [&test, &version("bot", "a", &[])] {
        try_as(&cluster, "ed", &apply, manifest).unwrap();
    }
    try_as(&cluster, "anna", &apply, &prod("a")).unwrap();
    wait_until_refused(&cluster, "ed", &apply, &prod("b"));
    // what is no move stays allowed
    try_as(&cluster, "ed", &["label", "cbd", "prod", "team=support"], "").unwrap();

    for (annotation, verb) in [("approved", "approve"), ("rollback-to", "roll-back")] {
        for name in ["test", "prod"] {
            let set = format!("chatcaptain.dev/{annotation}=previous");
            let annotate = ["annotate", "cbd", name, &set];
            let said = wait_until_refused(&cluster, "ed", &annotate, "");
            assert!(said.contains(&format!("verb {verb} on")), "{said}");
            try_as(&cluster, "anna", &annotate, "").unwrap();
            let remove = format!("chatcaptain.dev/{annotation}-");
            wait_until_refused(&cluster, "ed", &["annotate", "cbd", name, &remove], "");
            // the operator ends a rollback that the spec has overtaken
            let operator = "system:serviceaccount:chatcaptain-system:chatcaptain-operator";
            try_as(&cluster, operator, &["annotate", "cbd", name, &remove], "").unwrap();
        }
    }
    // other annotations need no more than edit
    try_as(&cluster, "ed", &["annotate", "cbd", "prod", "chatcaptain.dev/reconcile-requested-at=now"], "")
        .unwrap();
    assert_built_in_roles(&cluster);
}

fn assert_built_in_roles(cluster: &Cluster) {
    let may = |user: &str, verb: &str| {
        let allowed = |kind: &str| {
            let kind = format!("{kind}.chatcaptain.dev");
            try_as(cluster, user, &["auth", "can-i", verb, &kind], "").is_ok()
        };
        let (versions, deployments) = (allowed("chatbotversions"), allowed("chatbotdeployments"));
        assert_eq!(versions, deployments, "{user} {verb}");
        versions
    };
    for (user, verbs) in
        [("vera", [true, false, false]), ("ed", [true, true, false]), ("anna", [true, true, true])]
    {
        let allowed = ["list", "patch", "deletecollection"].map(|verb| may(user, verb));
        assert_eq!(allowed, verbs, "{user}");
    }
}

#[test]
fn policy_keeps_the_crds_until_an_annotation_says_that_their_deletion_is_meant() {
    let cluster = Cluster::installed();
    cluster.kubectl_ok(&["apply", "-f", "-"], &Cluster::kustomize("deploy/policies").join("\n---\n"));
    let crd = "chatbotversions.chatcaptain.dev";
    let said = wait_until_refused(
        &cluster,
        "system:admin",
        &["delete", "crd", crd, "--as-group=system:masters", "--dry-run=server"],
        "",
    );
    let command =
        said.split("run: kubectl ").nth(1).expect("the next step").lines().next().unwrap().to_owned();
    assert!(!cluster.kubectl(&["delete", "crd", crd], "").status.success());
    cluster.kubectl_ok(&command.split(' ').collect::<Vec<_>>(), "");
    cluster.kubectl_ok(&["delete", "crd", crd], "");
    // the other one, and CRDs of others, are not concerned
    assert!(!cluster.kubectl(&["delete", "crd", "chatbotdeployments.chatcaptain.dev"], "").status.success());
}
