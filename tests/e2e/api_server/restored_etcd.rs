//! The cluster is put back to an earlier state, as by a backup of etcd; the service is not.

use std::{path::Path, process::Command};

use chatcaptain_operator::crd::ChatbotVersion;
use simulator::{Environment, Operation, Settings};
use support::{Cluster, World, deployment, version};

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("--recursive").arg(from).arg(to).status().unwrap();
    assert!(copied.success(), "{}", from.display());
}

/// Two versions, one of which runs, and a third that nobody has seen to yet.
fn yesterday() -> World {
    let cluster = Cluster::installed();
    let kubeconfig = cluster.operator_kubeconfig();
    let world = World::on(cluster, kubeconfig, Settings::default(), &[]);
    world.start();
    for name in ["kept", "pruned"] {
        world.apply_version(name, &[]);
        world.ready_version(name);
    }
    world.point("test", "kept", &[]);
    world.ready_deployment("test");
    world.stop();
    world.apply_version("newborn", &[]);
    world
}

/// What was created since is found again, what was deleted since stays so, and the operator, which nobody restarts,
/// notices: the versions of objects that it has seen lie in the future now.
#[test]
fn an_etcd_restored_to_yesterday() {
    let world = yesterday();
    let directory = tempfile::tempdir().unwrap();
    let backup = directory.path().join("etcd");
    world.cluster.plane().while_stopped(|data| copy(data, &backup)).unwrap();

    world.start();
    world.ready_version("newborn");
    world.apply_version("today", &[]);
    world.ready_version("today");
    world.point("test", "today", &[]);
    world.ready_deployment("test");
    world.delete("cbv", "pruned");
    world.gone::<ChatbotVersion>("pruned");
    let ids = |world: &World| {
        ["kept", "newborn", "today"].map(|name| world.ready_version(name).version_id().unwrap().to_owned())
    };
    let before = ids(&world);

    let restore = |data: &Path| {
        std::fs::remove_dir_all(data).unwrap();
        copy(&backup, data);
    };
    world.cluster.plane().while_stopped(restore).unwrap();
    // as Argo CD or Flux does it
    let bot = &world.bot;
    let versions = ["kept", "newborn", "today"].map(|name| version(bot, name, &[])).concat();
    world.apply(&(versions + &deployment(bot, "test", "test", &["versionRef: {name: today}"])));
    assert_eq!(ids(&world), before);
    world.ready_deployment("test");
    assert_eq!(world.live(Environment::Test).as_deref(), Some("today"));
    world.told::<ChatbotVersion>("pruned", "VersionLost");
    world.delete("cbv", "pruned");
    world.gone::<ChatbotVersion>("pruned");
    assert_eq!(world.service.counters().of(Operation::Create).calls, 4);
}
