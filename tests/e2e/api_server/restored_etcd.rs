//! etcd is restored from a backup; the service is not.

use std::{path::Path, process::Command};

use chatcaptain_operator::crd::ChatbotVersion;
use simulator::{Environment, Operation, Settings};
use support::{Cluster, World, deployment, version};

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("--recursive").arg(from).arg(to).status().unwrap();
    assert!(copied.success(), "{}", from.display());
}

/// Two versions, one of them live, and a third that is not reconciled yet.
fn yesterday() -> World {
    let cluster = Cluster::installed();
    let kubeconfig = cluster.operator_kubeconfig();
    let world = World::on_cluster(cluster, kubeconfig, Settings::default(), &[]);
    world.start();
    for name in ["kept", "pruned"] {
        world.apply_version(name, &[]);
        world.wait_until_version_ready(name);
    }
    world.apply_deployment("test", "kept", &[]);
    world.wait_until_deployment_ready("test");
    world.stop();
    world.apply_version("newborn", &[]);
    world
}

/// What was created since the backup is found again, and what was deleted since stays deleted. The operator is not
/// restarted, and has seen resourceVersions that lie in the future now.
#[test]
fn restored_etcd_finds_every_version_again() {
    let world = yesterday();
    let directory = tempfile::tempdir().unwrap();
    let backup = directory.path().join("etcd");
    world.cluster.control_plane().while_stopped(|data| copy(data, &backup)).unwrap();

    world.start();
    world.wait_until_version_ready("newborn");
    world.apply_version("today", &[]);
    world.wait_until_version_ready("today");
    world.apply_deployment("test", "today", &[]);
    world.wait_until_deployment_ready("test");
    world.delete("cbv", "pruned");
    world.wait_until_deleted::<ChatbotVersion>("pruned");
    let ids = |world: &World| {
        ["kept", "newborn", "today"]
            .map(|name| world.wait_until_version_ready(name).version_id().unwrap().to_owned())
    };
    let before = ids(&world);

    let restore = |data: &Path| {
        std::fs::remove_dir_all(data).unwrap();
        copy(&backup, data);
    };
    world.cluster.control_plane().while_stopped(restore).unwrap();
    // as Argo CD or Flux does it
    let bot = &world.bot;
    let versions = ["kept", "newborn", "today"].map(|name| version(bot, name, &[])).concat();
    world.apply(&(versions + &deployment(bot, "test", "test", &["versionRef: {name: today}"])));
    assert_eq!(ids(&world), before);
    world.wait_until_deployment_ready("test");
    assert_eq!(world.live_version(Environment::Test).as_deref(), Some("today"));
    world.wait_for_reason::<ChatbotVersion>("pruned", "VersionLost");
    world.delete("cbv", "pruned");
    world.wait_until_deleted::<ChatbotVersion>("pruned");
    assert_eq!(world.service.counters().of(Operation::Create).calls, 4);
}
