//! Two operators, each for a part of the objects, as `deploy/sharded` installs them.

use chatcaptain_operator::crd::ChatbotVersion;
use simulator::Settings;
use support::{Cluster, World, is_ready, version};

use super::start_as_shipped;

#[test]
fn two_shards_share_the_objects_and_each_has_its_lease() {
    let cluster = Cluster::empty();
    cluster.install();
    let apply = |manifests: &[String]| cluster.kubectl_ok(&["apply", "-f", "-"], &manifests.join("\n---\n"));
    apply(&Cluster::kustomize("deploy/sharded"));
    let world = World::on_cluster(cluster.clone(), cluster.operator_kubeconfig(), Settings::default(), &[]);
    let folder = tempfile::tempdir().unwrap();
    let url = world.service.url();
    let start = |name: &str| {
        start_as_shipped(&cluster, name, &[("CHATCAPTAIN_API_URL", &url)], &folder.path().join(name))
    };
    let labelled = |name: &str, shard: &str| {
        let labels = format!("name: {name}\n  labels: {{chatcaptain.dev/shard: {shard}}}");
        version(&world.bot, name, &[]).replace(&format!("name: {name}"), &labels)
    };
    let is_done = |name: &str| is_ready(&world.version(name));

    let first = start("chatcaptain-operator");
    world
        .apply(&[labelled("of-b", "b"), labelled("of-c", "c"), version(&world.bot, "of-none", &[])].concat());
    for name in ["of-c", "of-none"] {
        world.eventually("the first operator reconciles it", || is_done(name).then_some(()));
    }
    let untouched = world.version("of-b").status.unwrap();
    assert!(untouched.common.conditions.is_empty(), "{untouched:?}");

    let _second = start("chatcaptain-operator-b");
    world.eventually("the second operator reconciles it", || is_done("of-b").then_some(()));
    assert_eq!(world.creates(), 3);
    assert_each_holds_its_lease(&cluster);

    // it changes sides, and keeps its version
    world.kubectl(&["label", "cbv", "of-c", "--overwrite", "chatcaptain.dev/shard=b"], "");
    drop(first);
    world.kubectl(&["annotate", "cbv", "of-c", "chatcaptain.dev/reconcile-requested-at=now"], "");
    world.eventually("the second operator has it", || {
        let status = world.get::<ChatbotVersion>("of-c")?.status?;
        (status.common.last_handled_reconcile_at.as_deref() == Some("now")).then_some(())
    });
    assert_eq!(world.creates(), 3);
}

fn assert_each_holds_its_lease(cluster: &Cluster) {
    let holder = "jsonpath={range .items[*]}{.metadata.name} {.spec.holderIdentity}{\"\\n\"}{end}";
    let leases = ["get", "leases", "--namespace=chatcaptain-system", "--output", holder];
    let leases = cluster.kubectl_ok(&leases, "");
    for name in ["chatcaptain-operator", "chatcaptain-operator-b"] {
        assert!(leases.contains(&format!("{name} {name}-0-")), "{leases}");
    }
}
