//! API keys that are invalid, replaced, of another account, or surrounded by whitespace.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use chatcaptain_operator::crd::ChatbotVersion;
use simulator::{Fault, FaultKind, FaultOperation, Key, Operation, Permission, Settings};
use support::{KEY, World, condition, poll, run_concurrently, version};

use crate::is_long;

const OBJECTS: usize = 100;

fn with_reason(world: &World, reason: &str) -> usize {
    let all = world.cluster.list::<ChatbotVersion>(&world.namespace);
    all.iter().filter(|v| condition(*v, "Ready").is_some_and(|c| c.reason == reason)).count()
}

/// Row 12. An invalid key costs one probe per pause, however many objects use it; a new key recovers all at once.
#[test]
fn invalid_key_is_probed_rarely_and_new_key_recovers_at_once() {
    let flags = [("interval", "2s"), ("min-interval", "1s"), ("api-rate", "10"), ("api-burst", "20")];
    for refused_key in [401, 403] {
        let world = World::without_operator(Settings { refused_key, ..Settings::default() }, &flags);
        world.set_key("no-such-key");
        let git: String = (0..OBJECTS).map(|n| version(&world.bot, &format!("v{n:03}"), &[])).collect();
        world.apply(&git);
        let window = Duration::from_secs(if is_long() { 60 } else { 10 });
        let end = Instant::now() + window;
        world.start();
        let reason = if refused_key == 401 { "AuthenticationFailed" } else { "PermissionDenied" };
        world.eventually("all say so", || (with_reason(&world, reason) == OBJECTS).then_some(()));
        poll(window * 2, || (Instant::now() >= end).then_some(()));
        let calls = world.service.counters().total_calls();
        let said = world.wait_for_reason::<ChatbotVersion>("v000", reason);
        assert!(said.contains("Secret chatcaptain"), "{said}");
        assert_eq!(said.contains("Put a valid key into the Secret"), refused_key == 401, "{said}");
        assert_eq!(condition(&world.version("v000"), "Stalled").unwrap().status, "True");

        let created = time_to_recover(&world, "CCSB-a-good-one");
        assert_eq!(world.creates(), OBJECTS as u64);
        // and once more, with nothing to create
        world.set_key("no-such-key");
        world.eventually("all say so", || (with_reason(&world, reason) == OBJECTS).then_some(()));
        let healed = time_to_recover(&world, "CCSB-another-good-one");
        println!(
            "{refused_key} for {window:?} with {OBJECTS} objects: {calls} calls; after the Secret's change all \
             Ready in {healed:?}, in {created:?} where each was still to be created at 10 calls per second"
        );
        // two, and a few more in a minute
        assert!(calls <= if is_long() { 6 } else { 3 }, "{calls} calls");
        assert!(healed < Duration::from_secs(10), "{healed:?}");
        assert_eq!(world.creates(), OBJECTS as u64);
    }
}

/// How long it takes from a good key in the Secret until all are Ready.
fn time_to_recover(world: &World, key: &str) -> Duration {
    let started = Instant::now();
    world.set_key(key);
    world.wait_until_versions_ready(OBJECTS);
    started.elapsed()
}

/// Row 12. A newline from an editor is no part of the key.
#[test]
fn whitespace_around_a_key_is_ignored() {
    let world = World::without_operator(Settings::default(), &[]);
    world.set_key(&format!("  {KEY}\n"));
    world.start();
    world.apply_version("a", &[]);
    world.wait_until_version_ready("a");
}

/// The vendor gives keys per chatbot: one Secret holds them all.
#[test]
fn key_named_like_the_chatbot_is_used_for_it_alone() {
    let world = World::new(Settings::default());
    let own = format!("{}-own", world.bot);
    let patch = format!(r#"{{"stringData": {{"{own}": "CCSB-key-of-one"}}}}"#);
    world.kubectl(&["patch", "secret", "chatcaptain", "-p", &patch], "");
    world.apply(&version(&own, "own", &[]));
    world.apply_version("other", &[]);
    for name in ["own", "other"] {
        world.wait_until_version_ready(name);
    }
    let last_four = |key: &str| key[key.len() - 4..].to_owned();
    for call in world.service.calls() {
        let key = if call.chatbot == own { "CCSB-key-of-one" } else { KEY };
        assert_eq!(call.key, last_four(key), "{call:?}");
    }
}

/// Without a watch a Secret is read again after the interval.
#[test]
fn unwatched_secret_that_goes_and_comes_back_is_noticed_after_the_interval() {
    let world = World::with_flags(Settings::default(), &[("watch-secrets", "false")]);
    world.apply_version("a", &[]);
    world.wait_until_version_ready("a");
    world.kubectl(&["delete", "secret", "chatcaptain"], "");
    world.wait_for_reason::<ChatbotVersion>("a", "CredentialsMissing");
    world.set_key(KEY);
    world.wait_until_version_ready("a");
}

/// The new key is of another account, which lists nothing: that does not mean that all versions are gone.
#[test]
fn key_of_another_account_deletes_nothing() {
    let account = |name: &str| Key { account: name.to_owned(), permissions: None };
    let keys =
        BTreeMap::from([(KEY.to_owned(), account("ours")), ("CCSB-theirs".to_owned(), account("theirs"))]);
    let world = World::new(Settings { keys: Some(keys), ..Settings::default() });
    for name in ["a", "b"] {
        world.apply_version(name, &[]);
        world.wait_until_version_ready(name);
    }
    world.set_key("CCSB-theirs");
    let message = world.wait_for_reason::<ChatbotVersion>("a", "VersionLost");
    assert!(message.contains("Secret chatcaptain") && message.contains("account"), "{message}");
    // not even the deletion of an object takes an empty list for proof
    world.delete("chatbotversion", "b");
    let lists = || world.service.counters().of(Operation::List).calls;
    let before = lists();
    world.eventually("some more polls", || (lists() > before + 3).then_some(()));
    assert!(world.get::<ChatbotVersion>("b").is_some());
    assert_eq!((world.creates(), world.service.counters().of(Operation::Delete).calls), (2, 0));

    world.set_key(KEY);
    world.wait_until_version_ready("a");
    world.wait_until_deleted::<ChatbotVersion>("b");
    assert_eq!(world.effects(), ["create a dev", "create b dev", "delete b"]);
}

/// A permission that a key lacks for one chatbot says nothing about the others.
#[test]
fn refused_permission_stops_one_chatbot_and_its_calls_are_recorded_once() {
    const DENIED: [&str; 3] = ["a", "b", "c"];
    let world = World::without_operator(Settings::default(), &[]);
    let denied = BTreeMap::from([(world.bot.clone(), vec![Permission::Create, Permission::Status])]);
    world.service.settings(|settings| settings.denied = denied);
    world.start();
    for name in DENIED {
        world.apply_version(name, &[]);
    }
    for name in DENIED {
        world.wait_for_reason::<ChatbotVersion>(name, "PermissionDenied");
    }
    world.apply(&version("other-bot", "d", &[]));
    world.wait_until_version_ready("d");
    // one of the three sends a probe from time to time; the others' calls are not sent
    let creates = || world.service.counters().of(Operation::Create).calls - 1;
    world.eventually("a second probe", || (creates() >= 2).then_some(()));
    world.eventually("as many operations recorded as creates sent", || {
        let sent = creates();
        let versions = DENIED.map(|name| world.version(name).status.unwrap().common);
        let recorded: usize = versions.iter().map(|common| common.last_operations.len()).sum();
        let failures: i32 =
            versions.iter().filter_map(|c| c.retry.as_ref()).map(|retry| retry.failures).sum();
        assert!(recorded as u64 <= sent, "{recorded} recorded of {sent}");
        (recorded as u64 == sent && i64::from(failures) == sent.cast_signed()).then_some(())
    });
    world.service.settings(|settings| settings.denied.clear());
    let started = Instant::now();
    world.wait_until_versions_ready(DENIED.len() + 1);
    println!("all Ready {:?} after the permission was granted", started.elapsed());
    assert_eq!(world.creates(), 4);
}

/// What a user does, in words and in the cluster.
type Repair = (&'static str, fn(&World));

/// The user acts once the cause of a refusal is gone: the object does not wait for the backoff of the refusal.
#[test]
fn user_who_ends_a_refusal_does_not_wait_for_its_backoff() {
    let repairs: [Repair; 3] = [
        ("the Secret is written", |world| {
            world.kubectl(&["annotate", "secret", "chatcaptain", "repaired=yes"], "");
        }),
        ("a reconcile is requested", |world| {
            world.kubectl(&["annotate", "cbv", "a", "chatcaptain.dev/reconcile-requested-at=now"], "");
        }),
        ("the object refers to another Secret", |world| {
            world.cluster.set_secret(&world.namespace, "another", "apiKey", KEY);
            world.apply_version("a", &["credentialsRef: {name: another}"]);
        }),
    ];
    run_concurrently(repairs.len(), &repairs, |(what, repair)| {
        let world = World::new(Settings { keys: Some(BTreeMap::new()), ..Settings::default() });
        world.apply_version("a", &[]);
        world.wait_for_reason::<ChatbotVersion>("a", "AuthenticationFailed");
        let lists = || world.service.counters().of(Operation::List).calls;
        world.eventually("the backoff has grown", || (lists() >= 3).then_some(()));
        world.service.settings(|settings| settings.keys = None);
        let started = Instant::now();
        repair(&world);
        world.wait_until_version_ready("a");
        let took = started.elapsed();
        println!("{what}: Ready after {took:?}");
        // the next probe would be sent after twenty seconds
        assert!(took < Duration::from_secs(10), "{what}: {took:?}");
    });
}

/// Who removes a key means it: a deletion uses the last known one no longer than `--deletion-timeout`.
#[test]
fn removed_key_is_used_for_a_deletion_until_its_timeout() {
    let faults = vec![Fault::new(FaultOperation::Delete, FaultKind::Error500)];
    let world = World::with_flags(Settings { faults, ..Settings::default() }, &[("deletion-timeout", "4s")]);
    world.apply_version("a", &[]);
    world.wait_until_version_ready("a");
    world.kubectl(&["delete", "secret", "chatcaptain"], "");
    world.wait_for_reason::<ChatbotVersion>("a", "CredentialsMissing");
    world.delete("chatbotversion", "a");
    world.wait_until_deleted::<ChatbotVersion>("a");
    let note = world.wait_for_event("a", "Orphaned");
    assert!(note.contains("--deletion-timeout"), "{note}");
    assert!(world.service.counters().of(Operation::Delete).calls >= 1, "the last known key was used");
    assert_eq!(world.state().unwrap().versions.len(), 1);
}
