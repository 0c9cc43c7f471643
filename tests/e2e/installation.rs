//! Missing parts of the installation, and CRDs whose schema accepts anything.

use chatcaptain_operator::crd::ChatbotVersion;
use simulator::Settings;
use support::{Cluster, World, operator_command, version};

/// A schema that accepts anything, as a newer release's may seem to an older operator.
pub const LOOSE: &str = r#"[
    {"op": "remove", "path": "/spec/versions/0/selectableFields"},
    {"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema",
     "value": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}
]"#;

/// Waits until `/readyz` says this.
fn wait_for_not_ready_because(world: &World, what: &str) {
    world.eventually(what, || {
        let operator = world.operator();
        let operator = operator.as_ref().unwrap();
        let (status, body) = operator.http_get("/readyz");
        assert_eq!(operator.http_get("/livez").0, 200);
        (status == 503 && body.contains(what)).then_some(())
    });
    let lines = world.log().lines().filter(|line| line.contains(what)).count();
    assert_eq!(lines, 1, "one line, however often it is tried:\n{}", world.log());
}

#[test]
fn missing_installation_parts_are_reported_and_awaited() {
    let cluster = Cluster::empty();
    let shipped = Cluster::kustomize("deploy");
    let install = |kinds: &[&str]| {
        let wanted = |text: &&String| kinds.iter().any(|kind| text.contains(&format!("\nkind: {kind}\n")));
        let some: Vec<&str> = shipped.iter().filter(wanted).map(String::as_str).collect();
        cluster.kubectl_ok(&["apply", "-f", "-"], &some.join("\n---\n"));
    };
    install(&["Namespace"]);
    install(&["ServiceAccount"]);
    let kubeconfig = cluster.operator_kubeconfig();
    let world = World::on_cluster(cluster.clone(), kubeconfig, Settings::default(), &[]);
    world.start();
    wait_for_not_ready_because(&world, "is not allowed to list the objects");
    wait_for_not_ready_because(&world, "kubectl apply -k deploy");

    install(&["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]);
    wait_for_not_ready_because(&world, "chatcaptain-operator crds | kubectl apply -f -");

    let crds = operator_command().arg("crds").output().unwrap();
    assert!(crds.status.success());
    cluster.kubectl_ok(&["apply", "-f", "-"], &String::from_utf8(crds.stdout).unwrap());
    cluster.wait_for_crds();
    world.eventually("ready", || {
        let operator = world.operator();
        (operator.as_ref().unwrap().http_get("/readyz").0 == 200).then_some(())
    });
    world.apply_version("a", &[]);
    world.wait_until_version_ready("a");

    let loosen = ["patch", "crd", "chatbotversions.chatcaptain.dev", "--type=json", "-p", LOOSE];
    cluster.kubectl_ok(&loosen, "");
    assert_unreadable_object_stops_no_other(&world);
}

fn assert_unreadable_object_stops_no_other(world: &World) {
    // no chatbot's id is a list
    world.eventually("the schema lets it in", || {
        let bad = version("[1, 2]", "bad", &[]);
        let args = ["--namespace", &world.namespace, "apply", "-f", "-"];
        world.cluster.kubectl(&args, &bad).status.success().then_some(())
    });
    world.apply_version("good", &[]);
    world.wait_until_version_ready("good");
    let says = |path: &str| {
        let path = format!("jsonpath={{.status.conditions[?(@.type==\"{path}\")].message}}");
        world.kubectl(&["get", "cbv", "bad", "-o", &path], "")
    };
    world.eventually("it is said on the object", || {
        let (ready, stalled) = (says("Ready"), says("Stalled"));
        (ready.contains("cannot use this object") && ready == stalled).then_some(())
    });
    assert!(says("Ready").contains("Correct it"), "{}", says("Ready"));
    let log = world.log();
    let line = log.lines().find(|line| line.contains("cannot use object"));
    assert!(line.is_some_and(|line| line.contains("bad")), "{log}");

    // once it can be read, it is an object like any other
    world.apply_version("bad", &[]);
    world.wait_until_version_ready("bad");
    assert_eq!(says("Stalled"), "");
    assert!(world.get::<ChatbotVersion>("good").is_some());
    // a restart, with the unreadable object in the first list
    world.apply(&version("[1, 2]", "worse", &[]));
    world.stop();
    world.start();
    world.apply_version("last", &[]);
    world.wait_until_version_ready("last");
}

/// No call is in flight then: the shutdown need not wait for caches that never fill.
#[test]
fn operator_with_unfilled_caches_is_not_ready_and_stops_on_sigterm() {
    let world = World::with_flags(Settings::default(), &[("selector", "a=b=c")]);
    world
        .eventually("the watch breaks", || world.log().contains("watch failed; listing again").then_some(()));
    let (status, why) = world.operator().as_ref().unwrap().http_get("/readyz");
    assert!(status != 200 && why.contains("caches"), "{status} {why}");
    world.stop();
}
