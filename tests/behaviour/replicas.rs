//! One of two replicas leads; handing over is quick and loses nothing.

use std::time::{Duration, Instant};

use chatcaptain_operator::crd::ChatbotVersion;
use simulator::{Fault, FaultKind, FaultOperation, Operation, Settings};

use crate::harness::{Flags, Operator, PATIENCE, World, poll};

/// The lease as it is shipped: the operator's role knows no other, so this module is its only user.
const LEASE: Flags = &[("leader-elect", "true"), ("lease-namespace", "chatcaptain-system")];
/// So that nobody waits long for one that is lost.
const SHORT: &[&str] = &["--lease-duration=3s"];

fn leads(operator: &Operator) -> bool {
    operator.metric("chatcaptain_leader", &[]) == 1
}

fn leads_within(operator: &Operator, limit: Duration) -> Duration {
    let started = Instant::now();
    let led = poll(limit, || leads(operator).then_some(()));
    assert!(led.is_some(), "it does not lead:\n{}", operator.log());
    started.elapsed()
}

fn ends_well(operator: &mut Operator) {
    let status = operator.ended(PATIENCE).expect("it ends");
    assert!(status.success(), "{status}:\n{}", operator.log());
}

/// It says so, in which Lease and for whom, in one line, and looks at nothing.
fn stands_by(replica: &Operator, leader: &Operator) {
    let log = replica.log();
    let lease = "namespace=chatcaptain-system lease=chatcaptain-operator";
    assert!(log.contains(lease), "{log}");
    let holder = format!("holder=\"chatcaptain-operator-{:x}\"", leader.pid());
    let waits: Vec<&str> = log.lines().filter(|line| line.contains("standing by")).collect();
    assert!(matches!(waits[..], [line] if line.contains(&holder)), "{log}");
    assert!(leader.log().contains("object{") && !log.contains("object{"), "{log}");
}

#[test]
fn one_of_two_replicas_leads_and_the_other_takes_over() {
    let world = World::asleep(Settings::default(), LEASE);
    let mut first = world.replica(&[], &[]);
    leads_within(&first, PATIENCE);
    let mut second = world.replica(&[], &[]);
    world.eventually("the standby is ready", || (second.page("/readyz").0 == 200).then_some(()));
    assert!(!leads(&second));
    world.apply_version("a", &[]);
    world.ready_version("a");
    stands_by(&second, &first);

    // told to go: hands over at once
    first.signal("TERM");
    let took = leads_within(&second, Duration::from_secs(3));
    ends_well(&mut first);
    println!("handed over within {took:?}");
    world.apply_version("b", &[]);
    world.ready_version("b");
    second.signal("TERM");
    ends_well(&mut second);

    // lost: its lease runs out
    let mut lost = world.replica(SHORT, &[]);
    leads_within(&lost, PATIENCE);
    lost.kill();
    let mut third = world.replica(SHORT, &[]);
    leads_within(&third, PATIENCE);
    world.apply_version("c", &[]);
    world.ready_version("c");

    // frozen, as by a machine that stalls: whoever wakes up too late must not go on
    third.signal("STOP");
    let fourth = world.replica(SHORT, &[]);
    leads_within(&fourth, PATIENCE);
    world.apply_version("d", &[]);
    world.ready_version("d");
    third.signal("CONT");
    let status = third.ended(PATIENCE).expect("it ends");
    assert!(!status.success());
    assert!(third.log().contains("lost lease"), "{}", third.log());

    let mut made = world.effects();
    made.sort();
    let expected = ["create a dev", "create b dev", "create c dev", "create d dev"];
    assert_eq!(made, expected);
}

#[test]
fn a_create_under_way_is_put_on_record_before_the_end() {
    let mut slow = Fault::new(FaultOperation::Create, FaultKind::Hang).times(1);
    slow.hang_ms = 2000;
    let settings = Settings { faults: vec![slow], ..Settings::default() };
    let world = World::new(settings);
    world.apply_version("a", &[]);
    world.eventually("the create is under way", || (world.creates() == 1).then_some(()));
    // the answer is still to come, and so is the record
    assert!(world.version("a").version_id().is_none());
    world.stop();
    let version: ChatbotVersion = world.version("a");
    let made = &world.state().unwrap().versions;
    assert_eq!(version.version_id(), Some(made[0].id.as_str()));
    assert!(version.status.unwrap().intent.is_none());

    world.start();
    world.ready_version("a");
    assert_eq!(world.service.counters().of(Operation::Create).calls, 1);
}

#[test]
fn it_serves_its_pages() {
    let world = World::new(Settings::default());
    world.apply_version("a", &[]);
    world.ready_version("a");
    let creates = [r#"operation="create""#, r#"outcome="ok""#];
    world.counted("chatcaptain_api_requests_total", &creates, 1);
    let ready = [r#"kind="ChatbotVersion""#, r#"name="a""#, r#"type="Ready""#];
    world.counted("chatcaptain_condition", &ready, 1);
    let operator = world.operator();
    let operator = operator.as_ref().unwrap();
    assert_eq!(operator.page("/livez"), (200, "ok".to_owned()));
    assert_eq!(operator.page("/readyz"), (200, "ok".to_owned()));
    assert_eq!(operator.page("/else").0, 404);
    // its own replica leads where nobody is elected
    assert!(leads(operator));
}
