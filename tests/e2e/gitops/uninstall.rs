//! The operator is uninstalled as documented, and installed again: nothing changes in the service.

use chatcaptain_operator::crd::ChatbotVersion;
use simulator::{Environment, Operation, Settings};
use support::{
    Cluster, World, deployment,
    generated::{read, root},
    version,
};

const DOCUMENT: &str = "deploy/README.md";

/// The documented commands: a function, and how it is used.
fn commands() -> (String, String) {
    let document = read(DOCUMENT);
    let section = document.split("## Uninstall").nth(1).unwrap();
    let block = section.split("```").nth(1).unwrap();
    let (function, use_of_it) = block.split_at(block.find("\n}\n").unwrap() + 3);
    (function.to_owned(), use_of_it.to_owned())
}

/// `a` runs in test, `b` nowhere.
fn installed() -> (World, String) {
    let cluster = Cluster::installed();
    let kubeconfig = cluster.operator_kubeconfig();
    let world = World::on_cluster(cluster, kubeconfig, Settings::default(), &[]);
    world.start();
    let bot = &world.bot;
    let versions = version(bot, "a", &[]) + &version(bot, "b", &["deletionPolicy: Delete"]);
    let git = versions + &deployment(bot, "test", "test", &["versionRef: {name: a}"]);
    world.apply(&git);
    world.wait_until_version_ready("b");
    world.wait_until_deployment_ready("test");
    (world, git)
}

/// Asserts that the service is as it was, and that no change was requested since.
fn is_untouched(world: &World, before: &[String]) {
    assert_eq!(ids(world), before);
    assert_eq!(world.live_version(Environment::Test).as_deref(), Some("a"));
    let calls = |operation| world.service.counters().of(operation).calls;
    let changes = [Operation::Create, Operation::Delete, Operation::Deploy, Operation::Rollback].map(calls);
    assert_eq!(changes, [2, 0, 1, 0]);
}

/// The same manifests under a new installation.
fn reinstalled(world: &mut World, git: &str) {
    world.cluster.install();
    // its account is another one though it has the same name
    world.kubeconfig = world.cluster.kubeconfig_of("chatcaptain-operator");
    world.start();
    world.apply(git);
    world.wait_until_version_ready("a");
    world.wait_until_version_ready("b");
    world.wait_until_deployment_ready("test");
}

fn ids(world: &World) -> Vec<String> {
    world.state().unwrap().versions.into_iter().map(|version| version.id).collect()
}

#[test]
fn documented_uninstall_keeps_the_service_unchanged() {
    let (mut world, git) = installed();
    let before = ids(&world);
    let (function, use_of_it) = commands();
    world.cluster.shell(root(), &[function, use_of_it].concat());
    world.kill();
    is_untouched(&world, &before);
    reinstalled(&mut world, &git);
    is_untouched(&world, &before);
}

#[test]
fn stuck_objects_can_be_released() {
    let (mut world, git) = installed();
    let before = ids(&world);
    world.kill();
    // all at once, as a user does who has not read the documentation
    world
        .cluster
        .shell(root(), "kubectl delete -k crds --wait=false && kubectl delete -k deploy --wait=false");
    world.eventually("objects hang", || {
        let all = world.cluster.list::<ChatbotVersion>(&world.namespace);
        all.iter().any(|object| object.metadata.deletion_timestamp.is_some()).then_some(())
    });
    let remove_finalizers = r#"each '{"metadata":{"finalizers":null}}'"#;
    assert!(read(DOCUMENT).contains(remove_finalizers));
    world.cluster.shell(root(), &(commands().0 + remove_finalizers));
    // kubectl waits for what is left: CRDs and namespace
    world.cluster.shell(
        root(),
        "kubectl delete -k crds --ignore-not-found && kubectl delete -k deploy --ignore-not-found",
    );
    is_untouched(&world, &before);
    reinstalled(&mut world, &git);
    is_untouched(&world, &before);
}
