//! The truth table of deletion, row by row: when the object goes, what becomes of its version, and what is on record.

use std::collections::BTreeMap;

use chatcaptain_operator::crd::{ChatbotDeployment, ChatbotVersion};
use simulator::{FailuresAs, Fault, FaultKind, FaultOperation, Key, Operation, Permission, Settings};
use support::{Flags, KEY, World, side_by_side};

/// One that may do everything.
const GRANTED: &str = "CCSB-granted";

struct Row {
    name: &'static str,
    flags: Flags<'static>,
    settings: fn() -> Settings,
    /// Makes the object `a` and deletes it, the test's way.
    run: fn(&World),
    /// Whether its version is still in the service once the object is gone.
    stays: bool,
    /// How many versions are on record as left behind.
    orphans: u64,
    /// The event that tells of it.
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

const ROWS: [Row; 17] = [
    Row { name: "never created: nothing happens", run: never_created, ..ROW },
    Row { name: "idle: deleted, and proven", run: |world| remove(world, &[]), ..ROW },
    Row { name: "gone by hand: goes at once", run: gone_by_hand, ..ROW },
    Row { name: "object says Retain: stays", run: retained_by_object, stays: true, ..ROW },
    Row { name: "namespace says Retain: stays", run: retained_by_namespace, stays: true, ..ROW },
    Row {
        name: "flag says Retain: stays",
        flags: &[("deletion-policy", "Retain")],
        run: |world| remove(world, &[]),
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
    Row { name: "live, deployment in charge: handed over, deleted after the move", run: handed_over, ..ROW },
    Row {
        name: "live, handed over, operator dies in between: deleted all the same",
        run: handed_over_across_restarts,
        ..ROW
    },
    Row {
        name: "live, handed over, then the deployment is deleted: stays, on record",
        run: deployment_deleted_meanwhile,
        event: None,
        ..LEFT
    },
    Row { name: "live, nobody in charge: stays, on record", run: live_alone, ..LEFT },
    Row { name: "force-orphan: at once, on record", run: forced, ..LEFT },
    Row {
        name: "key refused: waits for the timeout, stays, on record",
        flags: SHORT,
        run: key_refused,
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
fn every_row_of_the_deletion_table() {
    side_by_side(4, &ROWS, |row| {
        let world = World::asleep((row.settings)(), row.flags);
        if row.name.starts_with("never") {
            world.kubectl(&["delete", "secret", "chatcaptain"], "");
        }
        world.start();
        (row.run)(&world);
        world.gone::<ChatbotVersion>("a");
        world.eventually(row.name, || (left(&world) == row.stays).then_some(()));
        world.eventually(row.name, || (orphans(&world) == row.orphans).then_some(()));
        if let Some(event) = row.event {
            world.event("a", event);
        }
        let recorded = world.log().contains("may be left in the service");
        assert_eq!(recorded, row.orphans > 0, "{}: a line for what is left behind", row.name);
        println!(
            "{:<75} version {}, {} on record",
            row.name,
            if row.stays { "stays" } else { "gone " },
            row.orphans
        );
    });
}

fn left(world: &World) -> bool {
    let versions = world.state().map(|state| state.versions).unwrap_or_default();
    versions.iter().any(|version| version.name == "a")
}

fn orphans(world: &World) -> u64 {
    world.metric("chatcaptain_orphans_total", &[])
}

fn make(world: &World, more: &[&str]) {
    world.apply_version("a", more);
    world.ready_version("a");
    // another one, so that a list without `a` is not an empty one
    world.apply_version("other", &["deletionPolicy: Retain"]);
    world.ready_version("other");
}

fn delete(world: &World) {
    world.delete("chatbotversion", "a");
}

fn remove(world: &World, more: &[&str]) {
    make(world, more);
    delete(world);
}

fn annotate_namespace(world: &World, policy: &str) {
    let annotation = format!("chatcaptain.dev/deletion-policy={policy}");
    world.kubectl(&["annotate", "namespace", &world.namespace, &annotation], "");
}

fn never_created(world: &World) {
    world.apply_version("a", &[]);
    world.told::<ChatbotVersion>("a", "CredentialsMissing");
    delete(world);
}

fn gone_by_hand(world: &World) {
    make(world, &[]);
    let id = world.version("a").version_id().unwrap().to_owned();
    world.service.hand_delete(&world.bot, &id).unwrap();
    delete(world);
}

fn retained_by_object(world: &World) {
    annotate_namespace(world, "Delete");
    remove(world, &["deletionPolicy: Retain"]);
}

fn retained_by_namespace(world: &World) {
    annotate_namespace(world, "Retain");
    remove(world, &[]);
}

fn object_before_namespace(world: &World) {
    annotate_namespace(world, "Retain");
    remove(world, &["deletionPolicy: Delete"]);
}

fn namespace_before_flag(world: &World) {
    annotate_namespace(world, "Delete");
    remove(world, &[]);
}

fn suspended(world: &World) {
    make(world, &[]);
    world.apply_version("a", &["suspend: true"]);
    delete(world);
}

fn run_in_test(world: &World) {
    make(world, &[]);
    world.point("test", "a", &[]);
    world.ready_deployment("test");
}

/// Two waves: the version is pruned before its deployment moves.
fn handed_over(world: &World) {
    run_in_test(world);
    delete(world);
    world.gone::<ChatbotVersion>("a");
    assert!(left(world), "it is live");
    world.event("a", "HandedOver");
    world.point("test", "other", &[]);
    world.event("test", "Retired");
}

fn handed_over_across_restarts(world: &World) {
    run_in_test(world);
    delete(world);
    world.kill();
    world.start();
    world.gone::<ChatbotVersion>("a");
    world.kill();
    world.point("test", "other", &[]);
    world.start();
    world.eventually("the move", || (world.moves().len() > 1).then_some(()));
    world.kill();
    world.start();
}

fn deployment_deleted_meanwhile(world: &World) {
    run_in_test(world);
    delete(world);
    world.gone::<ChatbotVersion>("a");
    world.delete("chatbotdeployment", "test");
    world.gone::<ChatbotDeployment>("test");
}

fn live_alone(world: &World) {
    remove(world, &["environment: prod"]);
}

fn forced(world: &World) {
    make(world, &[]);
    let broken = Fault::new(FaultOperation::Any, FaultKind::Html502);
    world.service.settings(|settings| settings.faults = vec![broken]);
    delete(world);
    world.kubectl(&["annotate", "cbv", "a", "chatcaptain.dev/force-orphan=yes"], "");
}

fn key_refused(world: &World) {
    make(world, &[]);
    world.set_key("no-such-key");
    delete(world);
    let message = world.told::<ChatbotVersion>("a", "Deleting");
    assert!(message.contains("--deletion-timeout"), "{message}");
}

/// The key that `a` was made with, with fewer permissions than the next.
fn keys(permissions: Vec<Permission>) -> BTreeMap<String, Key> {
    let key = |permissions| Key { account: "ours".to_owned(), permissions };
    BTreeMap::from([(KEY.to_owned(), key(Some(permissions))), (GRANTED.to_owned(), key(None))])
}

fn may_not_delete() -> Settings {
    use Permission::{Create, Deploy, List, Status};
    Settings { keys: Some(keys(vec![List, Create, Deploy, Status])), ..Settings::default() }
}

fn permission_granted_later(world: &World) {
    remove(world, &[]);
    waits_and_says(world, &["chatbots.versions.delete", "Secret chatcaptain"]);
    // a new key is not refused for what the old one was
    world.set_key(GRANTED);
    ask(world);
}

fn refused_then_done(world: &World) {
    make(world, &[]);
    let refused = Fault::new(FaultOperation::Delete, FaultKind::Refused);
    world.service.settings(|settings| settings.faults = vec![refused]);
    delete(world);
    waits_and_says(world, &["Quota reached"]);
    assert_eq!(world.service.counters().of(Operation::Delete).calls, 1, "it is tried again slowly");
    world.service.settings(|settings| settings.faults.clear());
    ask(world);
}

/// Until the service does it the object stays, and says what is wrong.
fn waits_and_says(world: &World, parts: &[&str]) {
    world.eventually("the message names it", || {
        let message = world.told::<ChatbotVersion>("a", "Deleting");
        parts.iter().all(|part| message.contains(part)).then_some(())
    });
    assert!(left(world));
    assert_eq!(world.version("a").metadata.finalizers.unwrap().len(), 1);
}

/// Whoever has seen to the cause need not wait.
fn ask(world: &World) {
    world.kubectl(&["annotate", "cbv", "a", "chatcaptain.dev/reconcile-requested-at=now"], "");
}
