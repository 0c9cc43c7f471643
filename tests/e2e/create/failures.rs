//! One object, one version: what disturbs a create between git and the record of its id.

use std::time::{Duration, Instant};

use chatcaptain_operator::crd::ChatbotVersion;
use simulator::{Descriptions, Fault, FaultKind, FaultOperation, Operation, Settings};
use support::{Relay, World, is_ready, poll, version};

fn on_create(kind: FaultKind) -> Fault {
    Fault::new(FaultOperation::Create, kind).times(1)
}

fn create_calls(world: &World) -> u64 {
    world.service.counters().of(Operation::Create).calls
}

/// Row 1. The service has the version, and whoever asked for it dies before the answer comes.
#[test]
fn killed_between_the_effect_and_the_record() {
    let mut hang = on_create(FaultKind::Hang);
    hang.hang_ms = 60_000;
    let world = World::new(Settings { faults: vec![hang], ..Settings::default() });
    world.apply_version("a", &[]);
    world.eventually("the create took effect", || (world.creates() == 1).then_some(()));
    world.kill();
    assert!(world.version("a").version_id().is_none());
    let started = Instant::now();
    world.start();
    world.ready_version("a");
    println!("Ready {:?} after the restart", started.elapsed());
    world.event("a", "CreateRecovered");
    assert_eq!(create_calls(&world), 1);
}

/// Row 2. The answer hangs until the client gives up; the effect comes later still, but within the grace.
/// The grace must count from the end of the call: counted from its start it would be over at once.
#[test]
fn an_effect_after_the_client_gave_up_is_waited_for() {
    let mut late = on_create(FaultKind::HangLate);
    late.hang_ms = 30_000;
    late.late_ms = 7_400;
    let flags = [("api-timeout", "4s"), ("visibility-grace", "4s")];
    let world = World::with(Settings { faults: vec![late], ..Settings::default() }, &flags);
    world.apply_version("a", &[]);
    let version = world.ready_version("a");
    assert_eq!(world.effects(), ["create a dev"]);
    assert_eq!(create_calls(&world), 1);
    let made = &world.state().unwrap().versions[0];
    assert_eq!(version.version_id(), Some(made.id.as_str()));
}

/// Row 2, second half. An effect that comes after the grace cannot be told from none: one duplicate at most.
#[test]
fn an_effect_after_the_grace_makes_one_duplicate_at_most() {
    let mut late = on_create(FaultKind::LateEffect);
    late.late_ms = 9_000;
    let flags = [("api-timeout", "1s"), ("visibility-grace", "1s")];
    let world = World::with(Settings { faults: vec![late], ..Settings::default() }, &flags);
    world.apply_version("a", &[]);
    world.eventually("both took effect", || (world.creates() == 2).then_some(()));
    world.ready_version("a");
    assert_eq!(world.creates(), 2);
    // it is not taken for a loss, and nothing follows from it
    world.kill();
    world.start();
    world.ready_version("a");
    assert_eq!(create_calls(&world), 2);
}

/// Row 3, the other way round. The connection was cut before the effect: after the grace it is tried again, once.
#[test]
fn an_attempt_that_made_nothing_is_counted_and_tried_again() {
    let world = World::new(Settings { faults: vec![on_create(FaultKind::Cut)], ..Settings::default() });
    world.apply_version("a", &[]);
    world.ready_version("a");
    assert_eq!((create_calls(&world), world.creates()), (2, 1));
    for (how, times) in [(r#""absent""#, 1), (r#""recovered""#, 0)] {
        world.counted("chatcaptain_ambiguous_creates_total", &[how], times);
    }
}

/// Row 4. What never reaches the service is tried again, and nothing comes of it but one version.
#[test]
fn a_service_out_of_reach_is_told_and_waited_for() {
    let mut world = World::asleep(Settings::default(), &[]);
    let relay = Relay::pulled(world.service.address());
    world.use_service(&relay.url());
    world.start();
    world.apply_version("a", &[]);
    let message = world.told::<ChatbotVersion>("a", "ServiceUnavailable");
    assert!(
        message.contains("cannot be reached") && message.contains("nothing needs to be done"),
        "{message}"
    );
    assert!(world.version("a").status.unwrap().intent.is_none());
    relay.plug();
    world.ready_version("a");
    // and again in the middle of things
    relay.pull();
    world.apply_version("b", &[]);
    world.told::<ChatbotVersion>("b", "ServiceUnavailable");
    assert!(is_ready(&world.version("a")), "what was well stays well");
    relay.plug();
    world.ready_version("b");
    assert_eq!(world.effects(), ["create a dev", "create b dev"]);
    assert_eq!(create_calls(&world), 2);
}

/// Row 4. A name that resolves to nothing.
#[test]
fn a_name_that_does_not_resolve_is_told() {
    let url = "https://no-such-host.invalid";
    let world = World::with(Settings::default(), &[("api-url", url)]);
    world.apply_version("a", &[]);
    let message = world.told::<ChatbotVersion>("a", "ServiceUnavailable");
    assert!(message.contains("cannot be reached"), "{message}");
}

/// Row 5. Somebody edits the object while its create is under way: the record is written all the same.
#[test]
fn an_edit_in_the_middle_of_a_create_loses_nothing() {
    let mut hang = on_create(FaultKind::Hang);
    hang.hang_ms = 2_000;
    let world = World::new(Settings { faults: vec![hang], ..Settings::default() });
    world.apply_version("a", &[]);
    world.eventually("the create is under way", || (world.creates() == 1).then_some(()));
    world.kubectl(&["annotate", "cbv", "a", "example.com/edited=yes"], "");
    assert!(world.version("a").version_id().is_none(), "the edit came too late to matter");
    world.ready_version("a");
    assert_eq!(create_calls(&world), 1);
    let recovered = world.events("a").iter().any(|(reason, _)| reason == "CreateRecovered");
    assert!(!recovered, "the answer itself was recorded");
}

/// The object is deleted while its create is under way: what that makes is deleted, too.
#[test]
fn an_object_deleted_in_the_middle_of_its_create_leaves_nothing() {
    for kind in [FaultKind::Hang, FaultKind::LateEffect] {
        let mut fault = on_create(kind);
        (fault.hang_ms, fault.late_ms) = (1_500, 1_500);
        let world = World::new(Settings { faults: vec![fault], ..Settings::default() });
        world.apply_version("a", &[]);
        world.eventually("the create is under way", || (create_calls(&world) == 1).then_some(()));
        world.delete("cbv", "a");
        world.gone::<ChatbotVersion>("a");
        assert_eq!(world.effects(), ["create a dev", "delete a"]);
    }
}

/// Row 6. A second writer works from a copy of its own, with no lease between the two.
#[test]
fn two_writers_at_once_make_one_version_each() {
    const VERSIONS: usize = 30;
    let world = World::asleep(Settings { latency_ms: 20, ..Settings::default() }, &[]);
    let git: String = (0..VERSIONS).map(|n| version(&world.bot, &format!("v{n:02}"), &[])).collect();
    let _writers = [world.replica(&[], &[]), world.replica(&[], &[])];
    world.apply(&git);
    world.wait_until_versions_ready(VERSIONS);
    assert_eq!(create_calls(&world), VERSIONS as u64);
}

/// Row 9, second half. Rebuilt from git where the service returns no descriptions: which version is whose
/// cannot be told, so nothing is created and a human is asked.
#[test]
fn rebuilt_without_a_usable_marker_a_human_is_asked() {
    let world = World::new(Settings { descriptions: Descriptions::Missing, ..Settings::default() });
    world.apply_version("a", &[]);
    let id = world.ready_version("a").version_id().unwrap().to_owned();
    world.stop();
    let patch = r#"{"metadata":{"finalizers":null}}"#;
    world.kubectl(&["patch", "cbv", "a", "--type=merge", "-p", patch], "");
    world.kubectl(&["delete", "cbv", "a"], "");
    world.apply_version("a", &[]);
    world.start();
    let message = world.told::<ChatbotVersion>("a", "AmbiguousVersion");
    assert!(message.contains(&id) && message.contains("adopt-id"), "{message}");
    world.kubectl(&["annotate", "cbv", "a", &format!("chatcaptain.dev/adopt-id={id}")], "");
    assert_eq!(world.ready_version("a").version_id(), Some(id.as_str()));
    assert_eq!(create_calls(&world), 1);
}

/// Row 15. An operator that dies again and again neither forgets a backoff nor repeats what it did.
#[test]
fn a_crash_loop_resets_no_backoff() {
    let refused = Fault::new(FaultOperation::Create, FaultKind::Refused);
    let world = World::new(Settings { faults: vec![refused], ..Settings::default() });
    world.apply_version("a", &[]);
    world.told::<ChatbotVersion>("a", "Refused");
    let retry = || world.version("a").status.unwrap().common.retry.unwrap();
    let before = retry();
    for _ in 0..5 {
        world.kill();
        let lists = world.service.counters().of(Operation::List).calls;
        world.start();
        world.eventually("it looks again", || {
            (world.service.counters().of(Operation::List).calls > lists).then_some(())
        });
        let passes = || world.metric("chatcaptain_reconcile_total", &[r#"kind="ChatbotVersion""#]);
        assert!(poll(Duration::from_secs(30), || (passes() > 0).then_some(())).is_some());
    }
    assert_eq!(create_calls(&world), 1);
    assert_eq!(retry(), before);
}
