//! What a deletion does in the service, and what is left behind on record.

use chatcaptain_operator::crd::{ChatbotDeployment, ChatbotVersion};
use simulator::{Environment, Fault, FaultKind, FaultOperation, Operation, Settings};

use crate::harness::{World, side_by_side};

/// A version with its id, Ready.
fn made(world: &World, name: &str, more: &[&str]) -> String {
    world.apply_version(name, more);
    let version = world.ready_version(name);
    version.status.unwrap().version_id.unwrap()
}

/// The names of the versions in the service.
fn left(world: &World) -> Vec<String> {
    let versions = world.state().map(|state| state.versions).unwrap_or_default();
    versions.into_iter().map(|version| version.name).collect()
}

fn remove(world: &World, name: &str) {
    world.delete("chatbotversion", name);
    world.gone::<ChatbotVersion>(name);
}

fn orphans_are(world: &World, versions: u64) {
    world.counted("chatcaptain_orphans_total", &[], versions);
}

#[test]
fn an_idle_version_goes_with_its_object() {
    let faults = [
        None,
        // the answer is lost, or the call is: the list decides
        Some(FaultKind::CutAfter),
        Some(FaultKind::Html502),
        Some(FaultKind::Garbage),
    ];
    side_by_side(4, &faults, |fault| {
        let world = World::new(Settings::default());
        made(&world, "a", &[]);
        made(&world, "b", &[]);
        world.service.settings(|settings| {
            let fault = fault.map(|kind| Fault::new(FaultOperation::Delete, kind).times(1));
            settings.faults = fault.into_iter().collect();
        });
        remove(&world, "a");
        assert_eq!(left(&world), ["b"], "{fault:?}");
        let deletes = world.service.counters().of(Operation::Delete).took_effect;
        assert_eq!(deletes, 1, "{fault:?}");
        orphans_are(&world, 0);
    });
}

#[test]
fn what_was_deleted_by_hand_is_let_go() {
    let world = World::with(Settings::default(), &[("interval", "1h")]);
    let id = made(&world, "a", &[]);
    world.service.hand_delete(&world.bot, &id).unwrap();
    remove(&world, "a");
    orphans_are(&world, 0);
}

#[test]
fn nothing_is_left_of_what_was_never_created() {
    let world = World::asleep(Settings::default(), &[]);
    world.kubectl(&["delete", "secret", "chatcaptain"], "");
    world.start();
    world.apply_version("a", &[]);
    world.told::<ChatbotVersion>("a", "CredentialsMissing");
    remove(&world, "a");
    assert_eq!(world.service.counters().total_calls(), 0);
    orphans_are(&world, 0);
}

#[test]
fn a_retained_version_stays() {
    let world = World::new(Settings::default());
    let annotate = ["annotate", "namespace", &world.namespace];
    made(&world, "said", &["deletionPolicy: Retain"]);
    made(&world, "unsaid", &[]);
    made(&world, "contrary", &["deletionPolicy: Delete"]);
    remove(&world, "said");
    let retain = [&annotate[..], &["chatcaptain.dev/deletion-policy=Retain"]].concat();
    world.kubectl(&retain, "");
    remove(&world, "unsaid");
    remove(&world, "contrary");
    assert_eq!(left(&world), ["said", "unsaid"]);
    // staying is what was asked for, so nobody is told of it as of an orphan
    orphans_are(&world, 0);
    assert_eq!(world.service.counters().of(Operation::Delete).calls, 1);
}

/// What cannot be understood keeps the version, but not silently.
#[test]
fn a_misspelt_policy_is_told() {
    let world = World::new(Settings::default());
    let id = made(&world, "a", &[]);
    made(&world, "said", &["deletionPolicy: Retain"]);
    made(&world, "asleep", &[]);
    world.apply_version("asleep", &["suspend: true"]);
    world.kubectl(&["annotate", "namespace", &world.namespace, "chatcaptain.dev/deletion-policy=delete"], "");
    for name in ["said", "asleep", "a"] {
        remove(&world, name);
    }
    let note = world.event("a", "Orphaned");
    for part in ["chatcaptain.dev/deletion-policy", "\"delete\"", "neither Delete nor Retain", &id] {
        assert!(note.contains(part), "{part:?} is not in: {note}");
    }
    // the others stay because somebody asked for it
    orphans_are(&world, 1);
    assert_eq!(left(&world), ["a", "said", "asleep"]);
}

#[test]
fn the_flag_decides_where_nobody_else_does() {
    let flags = [("deletion-policy", "Retain")];
    let world = World::with(Settings::default(), &flags);
    made(&world, "a", &[]);
    remove(&world, "a");
    assert_eq!(left(&world), ["a"]);
}

#[test]
fn a_live_version_is_handed_over_and_deleted_after_the_move() {
    // no look of its own accord within the test: everything is woken by what happens
    let world = World::with(Settings::default(), &[("interval", "1h")]);
    let a = made(&world, "a", &[]);
    made(&world, "b", &[]);
    world.point("test", "a", &[]);
    world.ready_deployment("test");

    // git drops a and moves on to b in one commit; the tools delete first
    world.delete("chatbotversion", "a");
    world.gone::<ChatbotVersion>("a");
    world.event("a", "DeletionDelegated");
    assert_eq!(world.live(Environment::Test).as_deref(), Some("a"));
    let retiring = world.deployment("test").status.unwrap().pending_deletions;
    let ids: Vec<&str> = retiring.iter().map(|r| r.version_id.as_str()).collect();
    assert_eq!(ids, [a.as_str()]);
    assert_eq!(left(&world), ["a", "b"]);

    world.point("test", "b", &[]);
    world.ready_deployment("test");
    world.eventually("a is deleted", || (left(&world) == ["b"]).then_some(()));
    world.event("test", "VersionDeleted");
    world.eventually("the deployment has nothing to do any more", || {
        let test = world.deployment("test");
        let retiring = test.status.unwrap().pending_deletions;
        (retiring.is_empty() && test.metadata.finalizers.is_none()).then_some(())
    });
    let moves = ["deploy a test", "deploy b test", "delete a"];
    assert_eq!(world.moves(), moves);
    orphans_are(&world, 0);
}

/// What the spec names was there, so it is said what became of it, and the advice is good.
#[test]
fn a_deployment_whose_version_goes_is_told_how_to_keep_it() {
    let world = World::with(Settings::default(), &[("interval", "1h")]);
    let a = made(&world, "a", &[]);
    world.point("test", "a", &[]);
    world.ready_deployment("test");
    remove(&world, "a");
    let message = world.told::<ChatbotDeployment>("test", "WaitingForVersion");
    for part in ["ChatbotVersion a was deleted", &a, "apply the ChatbotVersion again to keep it"] {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
    world.apply_version("a", &[]);
    world.ready_deployment("test");
    assert_eq!(world.version("a").version_id(), Some(a.as_str()));
    assert_eq!(world.deployment("test").status.unwrap().pending_deletions, []);
    assert_eq!((world.creates(), world.moves()), (1, vec!["deploy a test".to_owned()]));

    made(&world, "b", &[]);
    let hold = r#"[{"op": "add", "path": "/metadata/finalizers/-", "value": "example.com/hold"}]"#;
    world.kubectl(&["patch", "cbv", "b", "--type=json", "-p", hold], "");
    world.delete("chatbotversion", "b");
    world.point("test", "b", &[]);
    let message = world.told::<ChatbotDeployment>("test", "WaitingForVersion");
    for part in ["ChatbotVersion b is being deleted", "Name another", "apply it again once it is gone"] {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

#[test]
fn a_live_version_that_nobody_is_in_charge_of_is_left_on_record() {
    let world = World::new(Settings::default());
    made(&world, "a", &["environment: prod"]);
    remove(&world, "a");
    assert_eq!(world.live(Environment::Prod).as_deref(), Some("a"));
    let note = world.event("a", "Orphaned");
    assert!(note.contains("live"), "{note}");
    orphans_are(&world, 1);
    assert_eq!(world.service.counters().of(Operation::Delete).calls, 0);
}

#[test]
fn a_deleted_deployment_changes_nothing_in_the_service() {
    let world = World::new(Settings::default());
    made(&world, "a", &[]);
    world.point("test", "a", &[]);
    world.ready_deployment("test");
    world.delete("chatbotdeployment", "test");
    world.gone::<ChatbotDeployment>("test");
    assert_eq!(world.live(Environment::Test).as_deref(), Some("a"));
    assert_eq!(world.moves(), ["deploy a test"]);
}

#[test]
fn force_orphan_lets_go_at_once() {
    let world = World::new(Settings::default());
    let id = made(&world, "a", &[]);
    let refusing = Fault::new(FaultOperation::Any, FaultKind::Html502);
    world.service.settings(|settings| settings.faults = vec![refusing]);
    world.delete("chatbotversion", "a");
    let force = ["annotate", "cbv", "a", "chatcaptain.dev/force-orphan=yes"];
    world.kubectl(&force, "");
    world.gone::<ChatbotVersion>("a");
    world.event("a", "Orphaned");
    orphans_are(&world, 1);
    // whoever looks for the event's reason or the id finds the line that is written first
    let (log, words) = (world.log(), ["Orphaned", "may be left in the service", &id]);
    assert!(log.lines().any(|line| words.iter().all(|word| line.contains(word))), "{log}");
    assert_eq!(left(&world), ["a"]);
}

#[test]
fn a_suspended_object_leaves_its_version() {
    let world = World::new(Settings::default());
    made(&world, "a", &[]);
    world.apply_version("a", &["suspend: true"]);
    remove(&world, "a");
    assert_eq!(left(&world), ["a"]);
    orphans_are(&world, 0);
}

#[test]
fn without_credentials_a_deletion_waits_for_its_timeout() {
    let flags = [("deletion-timeout", "3s")];
    let world = World::with(Settings::default(), &flags);
    made(&world, "a", &[]);
    // whoever starts now has never seen the key
    world.stop();
    world.kubectl(&["delete", "secret", "chatcaptain"], "");
    world.start();
    world.delete("chatbotversion", "a");
    let message = world.told::<ChatbotVersion>("a", "Deleting");
    assert!(message.contains("--deletion-timeout"), "{message}");
    world.gone::<ChatbotVersion>("a");
    world.event("a", "Orphaned");
    orphans_are(&world, 1);
    assert_eq!(left(&world), ["a"]);
}

#[test]
fn a_namespace_goes_with_its_versions() {
    let world = World::new(Settings::default());
    made(&world, "a", &[]);
    made(&world, "b", &[]);
    // the Secret may go first: the key is still known
    world.cluster.kubectl_ok(&["delete", "namespace", &world.namespace, "--timeout=60s"], "");
    assert_eq!(left(&world), Vec::<String>::new());
}

#[test]
fn the_loser_of_a_conflict_takes_nothing_along() {
    let world = World::new(Settings::default());
    let id = made(&world, "older", &[]);
    // as a backup does that was restored beside the original, with its status
    world.stop();
    world.outgrown::<ChatbotVersion>("older");
    world.apply_version("younger", &[]);
    let status = format!(r#"{{"status":{{"versionId":"{id}"}}}}"#);
    let patch = ["patch", "cbv", "younger", "--subresource=status", "--type=merge", "-p", &status];
    let guard = r#"{"metadata":{"finalizers":["chatcaptain.dev/finalizer"]}}"#;
    world.kubectl(&patch, "");
    world.kubectl(&["patch", "cbv", "younger", "--type=merge", "-p", guard], "");
    world.start();
    let message = world.told::<ChatbotVersion>("younger", "Conflict");
    assert!(message.contains("older") && message.contains("delete one"), "{message}");
    world.ready_version("older");
    remove(&world, "younger");
    assert_eq!(left(&world), ["older"]);
    orphans_are(&world, 0);
    remove(&world, "older");
    assert_eq!(left(&world), Vec::<String>::new());
    assert_eq!(world.creates(), 1);
}
