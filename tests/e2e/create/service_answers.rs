//! One object creates one version, whatever the service answers.

use chatcaptain_operator::crd::ChatbotVersion;
use jiff::Timestamp;
use simulator::{
    CreateAnswer, Descriptions, FailuresAs, Fault, FaultKind, FaultOperation, Operation, Settings,
};
use support::{KEY, World, condition, run_concurrently};

const ANSWERS: [CreateAnswer; 7] = [
    CreateAnswer::Wrapped,
    CreateAnswer::Bare,
    CreateAnswer::VersionId,
    CreateAnswer::Id,
    CreateAnswer::Empty,
    CreateAnswer::OtherIds,
    CreateAnswer::OldestVersion,
];

/// What the service may be like around a create.
fn services() -> Vec<Settings> {
    let mut services = Vec::new();
    for create_answer in ANSWERS {
        let friendly = Settings { create_answer, ..Settings::default() };
        services.push(Settings { create_status: 201, ..friendly.clone() });
        services.push(Settings { list_delay_ms: 1500, ..friendly.clone() });
        services.push(Settings {
            descriptions: Descriptions::Missing,
            list_delay_ms: 700,
            failures_as: FailuresAs::Ok,
            ..friendly.clone()
        });
        services.push(Settings { descriptions: Descriptions::Cut(10), ..friendly.clone() });
        services.push(friendly);
    }
    services
}

/// What can happen to a create on its way, each with what it does to the service.
const FAULTS: [FaultKind; 11] = [
    FaultKind::Error500,
    FaultKind::Error500After,
    FaultKind::Html502,
    FaultKind::Html502After,
    FaultKind::Html504After,
    FaultKind::Cut,
    FaultKind::CutAfter,
    FaultKind::Garbage,
    FaultKind::Hang,
    FaultKind::LateEffect,
    FaultKind::Refused,
];

#[test]
fn every_answer_format_creates_one_version() {
    run_concurrently(6, &services(), |settings| {
        let world = World::new(settings.clone());
        for name in ["first", "second"] {
            world.apply_version(name, &["description: For a test"]);
        }
        for name in ["first", "second"] {
            let version = world.wait_until_version_ready(name);
            let status = version.status.unwrap();
            let state = world.state().unwrap();
            let made = state.versions.iter().find(|v| v.name == name).unwrap();
            assert_eq!(status.version_id.as_deref(), Some(made.id.as_str()), "{settings:?}");
            assert_eq!(status.version_number.as_ref(), Some(&made.version_number));
            assert!(status.pending_create.is_none(), "{settings:?}");
        }
        // a restart forgets what only the process knew
        world.kill();
        world.start();
        world.apply_version("third", &[]);
        world.wait_until_version_ready("third");
        let mut creates = world.effects();
        creates.sort();
        let expected = ["create first dev", "create second dev", "create third dev"];
        assert_eq!(creates, expected, "{settings:?}");
    });
}

/// The answer names the id of another object: each version is found, deployed, rolled back to and deleted all the same.
#[test]
fn id_of_another_object_in_an_answer_leads_nowhere() {
    let mut services = Vec::new();
    for create_answer in [CreateAnswer::OtherIds, CreateAnswer::OldestVersion] {
        for descriptions in [Descriptions::AsSent, Descriptions::Missing] {
            for list_delay_ms in [0, 700] {
                let other = Settings { create_answer, descriptions, list_delay_ms, ..Settings::default() };
                services.push(other);
            }
        }
    }
    run_concurrently(4, &services, |settings| {
        let world = World::new(settings.clone());
        for name in ["a", "b"] {
            world.apply_version(name, &[]);
            let id = world.wait_until_version_ready(name).status.unwrap().version_id;
            let made = world.state().unwrap().versions.into_iter().find(|v| v.name == name).unwrap();
            assert_eq!(id, Some(made.id), "{settings:?}");
        }
        for name in ["a", "b", "a"] {
            world.apply_deployment("test", name, &[]);
            world.wait_until_deployment_ready("test");
        }
        world.apply_version("c", &[]);
        world.eventually("the create took effect", || (world.creates() == 3).then_some(()));
        world.delete("cbv", "c");
        world.wait_until_deleted::<ChatbotVersion>("c");
        let expected = ["deploy a test", "deploy b test", "rollback a test", "delete c"];
        assert_eq!(world.effects_besides_creates(), expected, "{settings:?}");
        assert_eq!(world.metric("chatcaptain_orphans_total", &[]), 0);
    });
}

#[test]
fn lost_answer_creates_one_version() {
    let mut services = Vec::new();
    for kind in FAULTS {
        let mut fault = Fault::new(FaultOperation::Create, kind).times(1);
        fault.hang_ms = 1500;
        fault.late_ms = 900;
        let settings = Settings { faults: vec![fault], ..Settings::default() };
        services.push(Settings { descriptions: Descriptions::Missing, ..settings.clone() });
        services.push(settings);
    }
    // the client gives up before the service does
    let flags = [("api-timeout", "1s")];
    run_concurrently(6, &services, |settings| {
        let world = World::with_flags(settings.clone(), &flags);
        world.apply_version("a", &[]);
        if settings.faults[0].kind == FaultKind::Refused {
            world.wait_for_reason::<ChatbotVersion>("a", "RequestRejected");
            let now = "chatcaptain.dev/reconcile-requested-at=now";
            world.kubectl(&["annotate", "cbv", "a", now], "");
        }
        let version = world.wait_until_version_ready("a");
        assert_eq!(world.effects(), ["create a dev"], "{:?}", settings.faults);
        let made = &world.state().unwrap().versions[0];
        assert_eq!(version.version_id(), Some(made.id.as_str()));
    });
}

/// As after creates that take effect when the operator has given up on them.
#[test]
fn duplicates_are_listed_and_reported_once() {
    let world = World::new(Settings::default());
    world.apply_version("a", &[]);
    world.wait_until_version_ready("a");
    world.stop();
    let marker = world.state().unwrap().versions[0].description.clone();
    for name in ["a", "a"] {
        world.service.hand_create(&world.bot, name, marker.as_deref()).unwrap();
    }
    let versions = world.state().unwrap().versions;
    let mut ids: Vec<&str> = versions[1..].iter().map(|version| version.id.as_str()).collect();
    ids.sort_unstable();
    world.start();
    let named = |expected: &[&str]| {
        world.eventually(&format!("{expected:?} are named"), || {
            let message = world.wait_for_reason::<ChatbotVersion>("a", "Available");
            ids.iter().all(|id| message.contains(id) == expected.contains(id)).then_some(())
        });
        assert_eq!(world.version("a").status.unwrap().duplicates, expected);
    };
    named(&ids);
    let note = world.wait_for_event("a", "DuplicateFound");
    assert!(ids.iter().all(|id| note.contains(id)), "{note}");

    world.set_key("no-such-key");
    world.wait_for_reason::<ChatbotVersion>("a", "AuthenticationFailed");
    world.set_key(KEY);
    named(&ids);
    world.service.hand_delete(&world.bot, ids[0]).unwrap();
    named(&ids[1..]);
    world.wait_for_metric("chatcaptain_orphans_total", &[], 2);
    assert_eq!(world.log().matches("may be left in the service").count(), 2, "{}", world.log());
}

#[test]
fn rejected_create_is_reported_and_retried_with_backoff() {
    run_concurrently(2, &[FailuresAs::Http, FailuresAs::Ok], |&failures_as| {
        let refused = Fault::new(FaultOperation::Create, FaultKind::Refused);
        let faults = vec![refused];
        let world = World::new(Settings { failures_as, faults, ..Settings::default() });
        world.apply_version("a", &[]);
        let message = world.wait_for_reason::<ChatbotVersion>("a", "RequestRejected");
        assert!(message.contains("Quota reached"), "{message}");
        let version = world.version("a");
        assert_eq!(condition(&version, "Stalled").unwrap().status, "True");
        let retry = version.status.unwrap().common.retry.unwrap();
        let pause = retry.next_attempt_time.0.duration_since(Timestamp::now());
        assert!(pause.as_secs() >= 10, "tried again in {pause}");
        let creates = || world.service.counters().of(Operation::Create).calls;
        assert_eq!(creates(), 1, "{failures_as:?}");
        // skips the backoff once the cause is fixed
        world.service.settings(|settings| settings.faults.clear());
        let now = "chatcaptain.dev/reconcile-requested-at=now";
        world.kubectl(&["annotate", "cbv", "a", now], "");
        world.wait_until_version_ready("a");
        assert_eq!((creates(), world.creates()), (2, 1));
    });
}
