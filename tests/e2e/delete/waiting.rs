//! What keeps a deletion waiting, and what ends the wait.

use std::collections::BTreeMap;

use chatcaptain_operator::crd::ChatbotVersion;
use simulator::{Fault, FaultKind, FaultOperation, Key, Operation, Permission, Settings};
use support::{KEY, World};

use super::table::{create_and_delete, create_ready, delete, is_in_service};

/// A key that may do everything.
const GRANTED: &str = "CCSB-granted";

pub(super) fn key_refused(world: &World) {
    create_ready(world, &[]);
    world.set_key("no-such-key");
    delete(world);
    let message = world.wait_for_reason::<ChatbotVersion>("a", "Deleting");
    assert!(message.contains("--deletion-timeout"), "{message}");
}

/// The restarted operator has never seen the key.
pub(super) fn secret_gone(world: &World) {
    create_ready(world, &[]);
    world.stop();
    world.kubectl(&["delete", "secret", "chatcaptain"], "");
    world.start();
    delete(world);
    let message = world.wait_for_reason::<ChatbotVersion>("a", "Deleting");
    assert!(message.contains("--deletion-timeout"), "{message}");
}

/// The key that `a` was made with, with fewer permissions than the next.
fn keys(permissions: Vec<Permission>) -> BTreeMap<String, Key> {
    let key = |permissions| Key { account: "ours".to_owned(), permissions };
    BTreeMap::from([(KEY.to_owned(), key(Some(permissions))), (GRANTED.to_owned(), key(None))])
}

pub(super) fn may_not_delete() -> Settings {
    use Permission::{Create, Deploy, List, Status};
    Settings { keys: Some(keys(vec![List, Create, Deploy, Status])), ..Settings::default() }
}

pub(super) fn permission_granted_later(world: &World) {
    create_and_delete(world, &[]);
    assert_waiting_with_message(world, &["chatbots.versions.delete", "Secret chatcaptain"]);
    // the new key is tried although the old one was rejected
    world.set_key(GRANTED);
    request_reconcile(world);
}

pub(super) fn refused_then_done(world: &World) {
    create_ready(world, &[]);
    let refused = Fault::new(FaultOperation::Delete, FaultKind::Refused);
    world.service.settings(|settings| settings.faults = vec![refused]);
    delete(world);
    assert_waiting_with_message(world, &["Quota reached"]);
    assert_eq!(world.service.counters().of(Operation::Delete).calls, 1, "it is tried again slowly");
    world.service.settings(|settings| settings.faults.clear());
    request_reconcile(world);
}

/// The object stays until the service deletes the version, and its message names the problem.
fn assert_waiting_with_message(world: &World, parts: &[&str]) {
    world.eventually("the message names it", || {
        let message = world.wait_for_reason::<ChatbotVersion>("a", "Deleting");
        parts.iter().all(|part| message.contains(part)).then_some(())
    });
    assert!(is_in_service(world));
    assert_eq!(world.version("a").metadata.finalizers.unwrap().len(), 1);
}

/// Skips the backoff once the cause is fixed.
fn request_reconcile(world: &World) {
    world.kubectl(&["annotate", "cbv", "a", "chatcaptain.dev/reconcile-requested-at=now"], "");
}
