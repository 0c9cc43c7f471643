//! The operator, the CRDs, or both are removed in every order, and installed again: nothing changes in the service.

use chatcaptain_operator::crd::{ChatbotDeployment, ChatbotVersion};
use simulator::{Environment, Operation, Settings};
use support::{
    Cluster, World, deployment,
    generated::{read, root},
    version,
};

/// The commands that the document has for these words; `deploy` is the installation.
fn commands(words: &str) -> String {
    let document = read("deploy/README.md");
    let section = document.split("## Uninstall").nth(1).unwrap();
    let (_, after) = section.split_once(words).expect("the words");
    after.split("```").nth(1).unwrap().replace("my-installation", "deploy")
}

const OPERATOR: &str = "**The operator alone.**";
const EVERYTHING: &str = "**Everything.**";
const HANGING: &str = "**If objects hang in deletion**";

/// `a` ran in test and is kept for a rollback though its object is gone, `b` runs there, `c` nowhere.
fn installed() -> (World, String) {
    let cluster = Cluster::installed();
    let kubeconfig = cluster.operator_kubeconfig();
    let world = World::on_cluster(cluster, kubeconfig, Settings::default(), &[]);
    world.start();
    let bot = &world.bot;
    let test =
        |version: &str| deployment(bot, "test", "test", &[&format!("versionRef: {{name: {version}}}")]);
    let git = version(bot, "b", &[]) + &version(bot, "c", &["deletionPolicy: Delete"]) + &test("b");
    world.apply(&(version(bot, "a", &[]) + &test("a")));
    world.wait_until_deployment_ready("test");
    world.apply(&git);
    world.wait_until_version_ready("c");
    world.wait_until_deployment_ready("test");
    world.delete("cbv", "a");
    world.wait_until_deleted::<ChatbotVersion>("a");
    (world, git)
}

/// Asserts that no change was requested since.
fn is_untouched(world: &World, before: &[String]) {
    assert_eq!(ids(world), before);
    assert_eq!(world.live_version(Environment::Test).as_deref(), Some("b"));
    let calls = |operation| world.service.counters().of(operation).calls;
    let changes = [Operation::Create, Operation::Delete, Operation::Deploy, Operation::Rollback].map(calls);
    assert_eq!(changes, [3, 0, 2, 0]);
}

/// The same manifests under a new installation.
fn reinstalled(world: &mut World, git: &str) {
    world.cluster.install();
    // its account is another one though it has the same name
    world.kubeconfig = world.cluster.kubeconfig_of("chatcaptain-operator");
    world.start();
    world.apply(git);
    world.wait_until_version_ready("b");
    world.wait_until_version_ready("c");
    world.wait_until_deployment_ready("test");
}

fn ids(world: &World) -> Vec<String> {
    world.state().unwrap().versions.into_iter().map(|version| version.id).collect()
}

/// No object is left. The commands have waited for that, too.
fn is_removed(world: &World) {
    let crds = world.cluster.kubectl_ok(&["get", "crds", "-o", "name"], "");
    assert_eq!(crds, "");
}

#[test]
fn removing_the_operator_keeps_crds_and_objects() {
    let (mut world, git) = installed();
    let before = ids(&world);
    let uid = world.version("b").metadata.uid;
    world.cluster.shell(root(), &commands(OPERATOR));
    world.kill();
    let _: ChatbotDeployment = world.deployment("test");
    is_untouched(&world, &before);
    reinstalled(&mut world, &git);
    assert_eq!(world.version("b").metadata.uid, uid, "it was there all the time");
    is_untouched(&world, &before);
}

#[test]
fn documented_uninstall_keeps_the_service_unchanged() {
    let (mut world, git) = installed();
    let before = ids(&world);
    // a version without its object is about to be deleted once nothing needs it: it stays, and that is reported
    world.cluster.shell(root(), &commands(EVERYTHING));
    world.eventually("what is left is logged", || {
        let line = "reason=\"Orphaned\"";
        world.log().contains(line).then_some(())
    });
    world.kill();
    is_removed(&world);
    is_untouched(&world, &before);
    reinstalled(&mut world, &git);
    is_untouched(&world, &before);
}

#[test]
fn stuck_objects_can_be_released() {
    let (mut world, git) = installed();
    let before = ids(&world);
    world.kill();
    // the operator first, as a user does who has not read the documentation
    world.cluster.shell(root(), "kubectl delete -k deploy && kubectl delete -k crds --wait=false");
    world.eventually("objects hang", || {
        let all = world.cluster.list::<ChatbotVersion>(&world.namespace);
        all.iter().any(|object| object.metadata.deletion_timestamp.is_some()).then_some(())
    });
    world.cluster.shell(root(), &commands(HANGING));
    // waits for what is left
    world.cluster.shell(root(), "kubectl delete -k crds --ignore-not-found");
    is_removed(&world);
    is_untouched(&world, &before);
    reinstalled(&mut world, &git);
    is_untouched(&world, &before);
}

/// The operator is down when the CRDs are deleted, and comes back while that waits for the objects.
#[test]
fn operator_that_comes_back_during_the_uninstall_deletes_nothing() {
    let (mut world, git) = installed();
    let before = ids(&world);
    world.kill();
    world.cluster.shell(root(), "kubectl delete -k crds --wait=false");
    world.eventually("objects hang", || {
        let all = world.cluster.list::<ChatbotVersion>(&world.namespace);
        all.iter().all(|object| object.metadata.deletion_timestamp.is_some()).then_some(())
    });
    world.start();
    world.cluster.shell(root(), "kubectl delete -k crds --ignore-not-found");
    is_removed(&world);
    world.kill();
    is_untouched(&world, &before);
    reinstalled(&mut world, &git);
    is_untouched(&world, &before);
}
