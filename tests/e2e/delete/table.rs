//! The table of deletion: when the object goes, whether its version stays, and what is reported.

use chatcaptain_operator::crd::{ChatbotDeployment, ChatbotVersion};
use simulator::{Environment, FailuresAs, Fault, FaultKind, FaultOperation, Operation, Settings, UnknownId};
use support::{Flags, World, run_concurrently};

use super::waiting::{key_refused, may_not_delete, permission_granted_later, refused_then_done, secret_gone};

struct Row {
    name: &'static str,
    flags: Flags<'static>,
    settings: fn() -> Settings,
    /// Creates the object `a` and deletes it.
    run: fn(&World),
    /// Whether its version is still in the service once the object is gone.
    stays: bool,
    /// How many versions are reported as left behind.
    orphans: u64,
    /// The event that reports it.
    event: Option<&'static str>,
}

const ROW: Row = Row {
    name: "",
    flags: &[],
    settings: Settings::default,
    run: |_| {},
    stays: false,
    orphans: 0,
    event: None,
};
const SHORT: Flags = &[("deletion-timeout", "3s")];
const LEFT: Row = Row { stays: true, orphans: 1, event: Some("Orphaned"), ..ROW };

const ROWS: [Row; 21] = [
    Row { name: "never created: nothing happens", run: never_created, ..ROW },
    Row { name: "idle: deleted, and proven", run: |world| create_and_delete(world, &[]), ..ROW },
    Row {
        name: "idle, the answer is cut off: deleted, and proven by the list",
        run: |world| disturbed(world, FaultKind::CutAfter),
        ..ROW
    },
    Row {
        name: "idle, the answer cannot be read: deleted, and proven by the list",
        run: |world| disturbed(world, FaultKind::Garbage),
        ..ROW
    },
    Row {
        name: "idle, the call is lost: tried again",
        run: |world| disturbed(world, FaultKind::Html502),
        ..ROW
    },
    Row {
        name: "deleted in the service: goes at once",
        flags: &[("interval", "1h")],
        run: deleted_in_service,
        ..ROW
    },
    Row {
        name: "deleted in the service, which rejects the id: goes after the timeout, as an orphan",
        settings: || Settings { unknown_id: UnknownId::BadRequest, ..Settings::default() },
        flags: SHORT,
        run: deleted_in_service,
        stays: false,
        ..LEFT
    },
    Row { name: "object says Retain: stays", run: retained_by_object, stays: true, ..ROW },
    Row { name: "namespace says Retain: stays", run: retained_by_namespace, stays: true, ..ROW },
    Row {
        name: "flag says Retain: stays",
        flags: &[("deletion-policy", "Retain")],
        run: |world| create_and_delete(world, &[]),
        stays: true,
        ..ROW
    },
    Row {
        name: "object says Delete, namespace and flag Retain: deleted",
        flags: &[("deletion-policy", "Retain")],
        run: object_before_namespace,
        ..ROW
    },
    Row {
        name: "namespace says Delete, flag Retain: deleted",
        flags: &[("deletion-policy", "Retain")],
        run: namespace_before_flag,
        ..ROW
    },
    Row { name: "suspended: stays", run: suspended, stays: true, ..ROW },
    Row {
        name: "live, handed over, operator dies in between: deleted all the same",
        run: handed_over_across_restarts,
        ..ROW
    },
    Row {
        name: "live, handed over, then the deployment is deleted: stays as an orphan",
        run: deployment_deleted_meanwhile,
        event: None,
        ..LEFT
    },
    Row { name: "live, no deployment: stays as an orphan", run: live_alone, ..LEFT },
    Row { name: "force-orphan: at once, as an orphan", run: forced, ..LEFT },
    Row {
        name: "key refused: waits for the timeout, stays as an orphan",
        flags: SHORT,
        run: key_refused,
        ..LEFT
    },
    Row {
        name: "Secret gone, and a restart: waits for the timeout, stays as an orphan",
        flags: SHORT,
        run: secret_gone,
        ..LEFT
    },
    Row {
        name: "key may not delete: waits, names the permission, and goes once it is granted",
        settings: may_not_delete,
        run: permission_granted_later,
        ..ROW
    },
    Row {
        name: "delete refused with 200: waits, shows why, and goes once it is done",
        settings: || Settings { failures_as: FailuresAs::Ok, ..Settings::default() },
        run: refused_then_done,
        ..ROW
    },
];

#[test]
fn every_row_of_the_deletion_table_holds() {
    run_concurrently(4, &ROWS, |row| {
        let world = World::without_operator((row.settings)(), row.flags);
        if row.name.starts_with("never") {
            world.kubectl(&["delete", "secret", "chatcaptain"], "");
        }
        world.start();
        (row.run)(&world);
        world.wait_until_deleted::<ChatbotVersion>("a");
        world.eventually(row.name, || (is_in_service(&world) == row.stays).then_some(()));
        world.eventually(row.name, || (orphans(&world) == row.orphans).then_some(()));
        if let Some(event) = row.event {
            world.wait_for_event("a", event);
        }
        let recorded = world.log().contains("may be left in the service");
        assert_eq!(recorded, row.orphans > 0, "{}: a line for what is left behind", row.name);
        println!(
            "{:<75} version {}, {} orphans",
            row.name,
            if row.stays { "stays" } else { "gone " },
            row.orphans
        );
    });
}

pub(super) fn is_in_service(world: &World) -> bool {
    let versions = world.state().map(|state| state.versions).unwrap_or_default();
    versions.iter().any(|version| version.name == "a")
}

fn orphans(world: &World) -> u64 {
    world.metric("chatcaptain_orphans_total", &[])
}

pub(super) fn create_ready(world: &World, more: &[&str]) {
    world.apply_version("a", more);
    world.wait_until_version_ready("a");
    // a second one, so that a list without `a` is not empty
    world.apply_version("other", &["deletionPolicy: Retain"]);
    world.wait_until_version_ready("other");
}

pub(super) fn delete(world: &World) {
    world.delete("chatbotversion", "a");
}

pub(super) fn create_and_delete(world: &World, more: &[&str]) {
    create_ready(world, more);
    delete(world);
}

fn annotate_namespace(world: &World, policy: &str) {
    let annotation = format!("chatcaptain.dev/deletion-policy={policy}");
    world.kubectl(&["annotate", "namespace", &world.namespace, &annotation], "");
}

fn never_created(world: &World) {
    world.apply_version("a", &[]);
    world.wait_for_reason::<ChatbotVersion>("a", "CredentialsMissing");
    delete(world);
    world.wait_until_deleted::<ChatbotVersion>("a");
    assert_eq!(world.service.counters().total_calls(), 0);
}

/// The list decides, whatever the response of the call.
fn disturbed(world: &World, kind: FaultKind) {
    create_ready(world, &[]);
    let fault = Fault::new(FaultOperation::Delete, kind).times(1);
    world.service.settings(|settings| settings.faults = vec![fault]);
    delete(world);
}

fn deleted_in_service(world: &World) {
    create_ready(world, &[]);
    let id = world.version("a").version_id().unwrap().to_owned();
    world.service.hand_delete(&world.bot, &id).unwrap();
    delete(world);
}

fn retained_by_object(world: &World) {
    annotate_namespace(world, "Delete");
    create_and_delete(world, &["deletionPolicy: Retain"]);
}

fn retained_by_namespace(world: &World) {
    annotate_namespace(world, "Retain");
    create_and_delete(world, &[]);
}

fn object_before_namespace(world: &World) {
    annotate_namespace(world, "Retain");
    create_and_delete(world, &["deletionPolicy: Delete"]);
}

fn namespace_before_flag(world: &World) {
    annotate_namespace(world, "Delete");
    create_and_delete(world, &[]);
}

fn suspended(world: &World) {
    create_ready(world, &[]);
    world.apply_version("a", &["suspend: true"]);
    delete(world);
}

fn run_in_test(world: &World) {
    create_ready(world, &[]);
    world.apply_deployment("test", "a", &["revisionHistoryLimit: 0"]);
    world.wait_until_deployment_ready("test");
}

fn handed_over_across_restarts(world: &World) {
    run_in_test(world);
    delete(world);
    world.kill();
    world.start();
    world.wait_until_deleted::<ChatbotVersion>("a");
    world.kill();
    world.apply_deployment("test", "other", &["revisionHistoryLimit: 0"]);
    world.start();
    world.eventually("the move", || (world.effects_besides_creates().len() > 1).then_some(()));
    world.kill();
    world.start();
}

fn deployment_deleted_meanwhile(world: &World) {
    run_in_test(world);
    delete(world);
    world.wait_until_deleted::<ChatbotVersion>("a");
    world.delete("chatbotdeployment", "test");
    world.wait_until_deleted::<ChatbotDeployment>("test");
}

fn live_alone(world: &World) {
    create_and_delete(world, &["environment: prod"]);
    let note = world.wait_for_event("a", "Orphaned");
    assert!(note.contains("live"), "{note}");
    assert_eq!(world.live_version(Environment::Prod).as_deref(), Some("a"));
    assert_eq!(world.service.counters().of(Operation::Delete).calls, 0);
}

fn forced(world: &World) {
    create_ready(world, &[]);
    let broken = Fault::new(FaultOperation::Any, FaultKind::Html502);
    world.service.settings(|settings| settings.faults = vec![broken]);
    let id = world.version("a").version_id().unwrap().to_owned();
    delete(world);
    world.kubectl(&["annotate", "cbv", "a", "chatcaptain.dev/force-orphan=yes"], "");
    world.wait_for_event("a", "Orphaned");
    // one line has both the event's reason and the id, so that a search for either finds it
    let (log, words) = (world.log(), ["Orphaned", "may be left in the service", &id]);
    assert!(log.lines().any(|line| words.iter().all(|word| line.contains(word))), "{log}");
}
