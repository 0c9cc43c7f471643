//! The operator's clock is put back while an environment moves.

use chatcaptain_operator::crd::ChatbotDeployment;
use jiff::Timestamp;
use simulator::{Operation, Settings};
use support::{Clock, World};

const HOUR: i64 = 3600;

/// What was recorded an hour ahead counts from now on, not from an hour later.
#[test]
fn backward_clock_jump_does_not_extend_the_progress_deadline() {
    let clock = Clock::real_time();
    clock.set_ahead(HOUR);
    let settings = Settings { failing_rollouts: vec!["a".to_owned()], ..Settings::default() };
    let world = World::without_operator(settings, &[]);
    world.start_with(&clock.env());
    world.apply_version("a", &[]);
    world.apply_deployment("test", "a", &["progressDeadline: 5s"]);
    let call_time = || world.deployment("test").status?.current_operation?.call_time;
    world.eventually("the deploy is sent", call_time);
    clock.set_ahead(0);
    world.wait_for_reason::<ChatbotDeployment>("test", "ProgressDeadlineExceeded");
    assert_eq!(world.service.counters().of(Operation::Deploy).calls, 1);
    let status = world.deployment("test").status.unwrap();
    let times = status.common.conditions.iter().map(|condition| condition.last_transition_time.0);
    assert!(times.max().unwrap() <= Timestamp::now(), "{:?}", status.common.conditions);
}
