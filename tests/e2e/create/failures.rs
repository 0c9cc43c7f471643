//! One object creates one version, whatever fails between the manifest and the recorded id.

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

/// Row 1. The service has created the version, and the operator dies before the response arrives.
#[test]
fn create_killed_before_its_record_is_recovered() {
    let mut hang = on_create(FaultKind::Hang);
    hang.hang_ms = 60_000;
    let world = World::new(Settings { faults: vec![hang], ..Settings::default() });
    world.apply_version("a", &[]);
    world.eventually("the create took effect", || (world.creates() == 1).then_some(()));
    world.kill();
    assert!(world.version("a").version_id().is_none());
    let started = Instant::now();
    world.start();
    world.wait_until_version_ready("a");
    println!("Ready {:?} after the restart", started.elapsed());
    world.wait_for_event("a", "CreateRecovered");
    assert_eq!(create_calls(&world), 1);
}

/// Row 2. The answer hangs until the client gives up; the effect comes later still, but within the grace.
/// The grace must count from the end of the call: counted from its start it would be over at once.
#[test]
fn create_effect_after_the_client_timeout_is_found() {
    let mut late = on_create(FaultKind::HangLate);
    late.hang_ms = 30_000;
    late.late_ms = 7_400;
    let flags = [("api-timeout", "4s"), ("visibility-grace", "4s")];
    let world = World::with_flags(Settings { faults: vec![late], ..Settings::default() }, &flags);
    world.apply_version("a", &[]);
    let version = world.wait_until_version_ready("a");
    assert_eq!(world.effects(), ["create a dev"]);
    assert_eq!(create_calls(&world), 1);
    let made = &world.state().unwrap().versions[0];
    assert_eq!(version.version_id(), Some(made.id.as_str()));
}

/// Row 2. An effect after the grace cannot be distinguished from none: at most one duplicate.
#[test]
fn create_effect_after_the_grace_makes_at_most_one_duplicate() {
    let mut late = on_create(FaultKind::LateEffect);
    late.late_ms = 9_000;
    let flags = [("api-timeout", "1s"), ("visibility-grace", "1s")];
    let world = World::with_flags(Settings { faults: vec![late], ..Settings::default() }, &flags);
    world.apply_version("a", &[]);
    world.eventually("both took effect", || (world.creates() == 2).then_some(()));
    world.wait_until_version_ready("a");
    assert_eq!(world.creates(), 2);
    // it is not taken for a loss, and nothing follows from it
    world.kill();
    world.start();
    world.wait_until_version_ready("a");
    assert_eq!(create_calls(&world), 2);
}

/// Row 3. The connection was cut before the effect: the create is retried once after the grace.
#[test]
fn failed_create_attempt_is_counted_and_retried() {
    let world = World::new(Settings { faults: vec![on_create(FaultKind::Cut)], ..Settings::default() });
    world.apply_version("a", &[]);
    world.wait_until_version_ready("a");
    assert_eq!((create_calls(&world), world.creates()), (2, 1));
    for (how, times) in [(r#""absent""#, 1), (r#""recovered""#, 0)] {
        world.wait_for_metric("chatcaptain_ambiguous_creates_total", &[how], times);
    }
}

/// Row 4. A call that never reaches the service is retried, and creates one version.
#[test]
fn unreachable_service_is_reported_and_retried() {
    let mut world = World::without_operator(Settings::default(), &[]);
    let relay = Relay::disconnected(world.service.address());
    world.use_service(&relay.url());
    world.start();
    world.apply_version("a", &[]);
    let message = world.wait_for_reason::<ChatbotVersion>("a", "ServiceUnavailable");
    assert!(message.contains("cannot be reached") && message.contains("retrying automatically"), "{message}");
    assert!(world.version("a").status.unwrap().pending_create.is_none());
    relay.connect();
    world.wait_until_version_ready("a");
    // and again in the middle of things
    relay.disconnect();
    world.apply_version("b", &[]);
    world.wait_for_reason::<ChatbotVersion>("b", "ServiceUnavailable");
    assert!(is_ready(&world.version("a")), "what was well stays well");
    relay.connect();
    world.wait_until_version_ready("b");
    assert_eq!(world.effects(), ["create a dev", "create b dev"]);
    assert_eq!(create_calls(&world), 2);
}

/// Row 4. A name that resolves to nothing.
#[test]
fn unresolvable_host_is_reported() {
    let url = "https://no-such-host.invalid";
    let world = World::with_flags(Settings::default(), &[("api-url", url)]);
    world.apply_version("a", &[]);
    let message = world.wait_for_reason::<ChatbotVersion>("a", "ServiceUnavailable");
    assert!(message.contains("cannot be reached"), "{message}");
}

/// Row 5. The object is edited while its create is in flight: the result is recorded all the same.
#[test]
fn edit_during_a_create_keeps_the_result() {
    let mut hang = on_create(FaultKind::Hang);
    hang.hang_ms = 2_000;
    let world = World::new(Settings { faults: vec![hang], ..Settings::default() });
    world.apply_version("a", &[]);
    world.eventually("the create is under way", || (world.creates() == 1).then_some(()));
    world.kubectl(&["annotate", "cbv", "a", "example.com/edited=yes"], "");
    assert!(world.version("a").version_id().is_none(), "the edit came too late to matter");
    world.wait_until_version_ready("a");
    assert_eq!(create_calls(&world), 1);
    let recovered = world.events("a").iter().any(|(reason, _)| reason == "CreateRecovered");
    assert!(!recovered, "the answer itself was recorded");
}

/// The object is deleted while its create is in flight: the new version is deleted, too.
#[test]
fn deletion_during_a_create_leaves_no_version() {
    for kind in [FaultKind::Hang, FaultKind::LateEffect] {
        let mut fault = on_create(kind);
        (fault.hang_ms, fault.late_ms) = (1_500, 1_500);
        let world = World::new(Settings { faults: vec![fault], ..Settings::default() });
        world.apply_version("a", &[]);
        world.eventually("the create is under way", || (create_calls(&world) == 1).then_some(()));
        world.delete("cbv", "a");
        world.wait_until_deleted::<ChatbotVersion>("a");
        assert_eq!(world.effects(), ["create a dev", "delete a"]);
    }
}

/// Somebody strips the finalizer meanwhile: no status is left to record the version in.
#[test]
fn object_removed_by_force_during_its_create_leaves_the_id_of_its_version() {
    let mut hang = on_create(FaultKind::Hang);
    hang.hang_ms = 2_000;
    let world = World::new(Settings { faults: vec![hang], ..Settings::default() });
    world.apply_version("a", &[]);
    world.eventually("the create is under way", || (world.creates() == 1).then_some(()));
    world.kubectl(&["patch", "cbv", "a", "--type=merge", "-p", r#"{"metadata": {"finalizers": null}}"#], "");
    world.delete("cbv", "a");
    world.wait_until_deleted::<ChatbotVersion>("a");
    let id = world.state().unwrap().versions[0].id.clone();
    let note = world.wait_for_event("a", "Orphaned");
    assert!(note.contains(&id) && note.contains("Apply the manifest again"), "{note}");
    world.wait_for_metric("chatcaptain_orphans_total", &[], 1);
    assert!(world.log().contains(&format!("version_id=\"{id}\" reason=\"Orphaned\"")), "{}", world.log());

    world.apply_version("a", &[]);
    assert_eq!(world.wait_until_version_ready("a").version_id(), Some(id.as_str()));
    assert_eq!(create_calls(&world), 1);
}

/// Row 6. Two operators work at once, without leader election.
#[test]
fn two_concurrent_operators_create_each_version_once() {
    const VERSIONS: usize = 30;
    let world = World::without_operator(Settings { latency_ms: 20, ..Settings::default() }, &[]);
    let git: String = (0..VERSIONS).map(|n| version(&world.bot, &format!("v{n:02}"), &[])).collect();
    let _writers = [world.replica(&[], &[]), world.replica(&[], &[])];
    world.apply(&git);
    world.wait_until_versions_ready(VERSIONS);
    assert_eq!(create_calls(&world), VERSIONS as u64);
}

/// Row 9. Rebuilt from git where the service returns no descriptions: the owner of a version is unknown, so nothing is
/// created and the user must decide.
#[test]
fn rebuild_without_descriptions_requires_adopt_id() {
    let world = World::new(Settings { descriptions: Descriptions::Missing, ..Settings::default() });
    world.apply_version("a", &[]);
    let id = world.wait_until_version_ready("a").version_id().unwrap().to_owned();
    world.stop();
    let patch = r#"{"metadata":{"finalizers":null}}"#;
    world.kubectl(&["patch", "cbv", "a", "--type=merge", "-p", patch], "");
    world.kubectl(&["delete", "cbv", "a"], "");
    world.apply_version("a", &[]);
    world.start();
    let message = world.wait_for_reason::<ChatbotVersion>("a", "AmbiguousVersion");
    assert!(message.contains(&id) && message.contains("adopt-id"), "{message}");
    world.kubectl(&["annotate", "cbv", "a", &format!("chatcaptain.dev/adopt-id={id}")], "");
    assert_eq!(world.wait_until_version_ready("a").version_id(), Some(id.as_str()));
    assert_eq!(create_calls(&world), 1);
}

/// Row 15. An operator in a crash loop neither resets a backoff nor repeats a call.
#[test]
fn crash_loop_keeps_the_backoff() {
    let refused = Fault::new(FaultOperation::Create, FaultKind::Refused);
    let world = World::new(Settings { faults: vec![refused], ..Settings::default() });
    world.apply_version("a", &[]);
    world.wait_for_reason::<ChatbotVersion>("a", "RequestRejected");
    let retry = || world.version("a").status.unwrap().common.retry.unwrap();
    let before = retry();
    for _ in 0..5 {
        world.kill();
        let lists = world.service.counters().of(Operation::List).calls;
        world.start();
        world.eventually("it polls again", || {
            (world.service.counters().of(Operation::List).calls > lists).then_some(())
        });
        let passes = || world.metric("chatcaptain_reconcile_total", &[r#"kind="ChatbotVersion""#]);
        assert!(poll(Duration::from_secs(30), || (passes() > 0).then_some(())).is_some());
    }
    assert_eq!(create_calls(&world), 1);
    assert_eq!(retry(), before);
}
