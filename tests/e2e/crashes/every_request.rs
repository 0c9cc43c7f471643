//! The operator is killed before and after every request of a job; the next one must complete the job.

use std::sync::{Arc, OnceLock};

use chatcaptain_operator::crd::ChatbotVersion;
use simulator::{Descriptions, Environment, Settings};
use support::{
    Failpoint, Flags, Side, World, is_ready, proxy_to_cluster, proxy_to_service, run_concurrently,
};

/// No periodic polling: each request is a step of the job.
const FLAGS: Flags = &[("interval", "1h"), ("visibility-grace", "1s")];

/// Something the operator does in several steps.
struct Job {
    settings: Settings,
    /// What was there before.
    prepare: fn(&World),
    /// The requests at which it is disturbed.
    is_to_try: fn(&str, Side) -> bool,
    /// What sets it off.
    begin: fn(&World),
    is_done: fn(&World) -> bool,
    /// What must have taken effect in the end, without what was there before.
    check: fn(&World, &[String]),
}

/// A world whose operator runs and reaches cluster and service through an enabled failpoint.
fn world_with_failpoint(job: &Job, trigger: Option<(usize, Side)>) -> (World, Arc<Failpoint>) {
    // known only once there is a world
    let kill: Arc<OnceLock<Box<dyn Fn() + Send + Sync>>> = Arc::default();
    let kill_handle = kill.clone();
    let failpoint = Failpoint::new(trigger, move || kill_handle.get().unwrap()());
    let mut world = World::without_operator(job.settings.clone(), FLAGS);
    let _ = kill.set(Box::new(world.kill_handle()));
    let kubeconfig = proxy_to_cluster(&world, failpoint.clone());
    world.use_kubeconfig(&kubeconfig.to_string());
    let url = proxy_to_service(&world, failpoint.clone());
    world.use_service(&url);
    world.start();
    (job.prepare)(&world);
    failpoint.enable();
    (world, failpoint)
}

/// Runs the job undisturbed, then once for each of its requests and sides.
fn kill_at_every_request(job: &Job) {
    let (world, failpoint) = world_with_failpoint(job, None);
    let before = world.effects().len();
    (job.begin)(&world);
    world.eventually("done", || (job.is_done)(&world).then_some(()));
    let steps = failpoint.requests();
    println!("{steps:#?}");
    (job.check)(&world, &world.effects()[before..]);

    let mut cases = Vec::new();
    for (step, request) in (1..).zip(&steps) {
        let sides = [Side::Before, Side::After].into_iter();
        cases.extend(sides.filter(|side| (job.is_to_try)(request, *side)).map(|side| (step, side)));
    }
    assert!(!cases.is_empty());
    run_concurrently(6, &cases, |&(step, side)| {
        let (world, failpoint) = world_with_failpoint(job, Some((step, side)));
        let before = world.effects().len();
        (job.begin)(&world);
        // to its end: the next start must not be what it hits. A job that polls may be done before the step comes.
        world.eventually("killed or done", || {
            let killed = world.operator().is_none();
            (killed || !failpoint.has_triggered() && (job.is_done)(&world)).then_some(())
        });
        world.start();
        world.eventually("done", || (job.is_done)(&world).then_some(()));
        println!("killed {side:?} step {step} of {:#?}", failpoint.requests());
        (job.check)(&world, &world.effects()[before..]);
    });
}

fn create_new(world: &World) {
    world.apply_version("new", &["description: For a test"]);
}

fn new_is_ready(world: &World) -> bool {
    world.get::<ChatbotVersion>("new").is_some_and(|version| is_ready(&version))
}

fn created_once(world: &World, effects: &[String]) {
    assert_eq!(effects, ["create new dev"]);
    let made = &world.state().unwrap().versions;
    let recorded = world.version("new").status.unwrap().version_id;
    assert_eq!(recorded.as_ref(), Some(&made[0].id));
}

fn create(settings: Settings) -> Job {
    Job {
        settings,
        prepare: |_| {},
        is_to_try: |_, _| true,
        begin: create_new,
        is_done: new_is_ready,
        check: created_once,
    }
}

#[test]
fn create_survives_a_crash_at_every_request() {
    kill_at_every_request(&create(Settings::default()));
}

#[test]
fn create_listed_late_survives_a_crash_at_every_request() {
    kill_at_every_request(&create(Settings { list_delay_ms: 900, ..Settings::default() }));
}

#[test]
fn create_without_descriptions_survives_a_crash_at_every_request() {
    kill_at_every_request(&create(Settings { descriptions: Descriptions::Missing, ..Settings::default() }));
}

fn deletion(prepare: fn(&World)) -> Job {
    Job {
        settings: Settings::default(),
        prepare,
        is_to_try: |_, _| true,
        begin: |world| world.delete("chatbotversion", "new"),
        is_done: |world| world.get::<ChatbotVersion>("new").is_none(),
        check: |world, effects| {
            assert_eq!(effects, ["delete new"]);
            world.wait_for_metric("chatcaptain_orphans_total", &[], 0);
        },
    }
}

#[test]
fn deletion_survives_a_crash_at_every_request() {
    kill_at_every_request(&deletion(|world| {
        for name in ["other", "new"] {
            world.apply_version(name, &[]);
            world.wait_until_version_ready(name);
        }
    }));
}

/// An empty list proves nothing to a process that has never read the version in it; a recorded deletion does.
#[test]
fn deletion_of_the_only_version_survives_a_crash_at_every_request() {
    let prepare = |world: &World| {
        create_new(world);
        world.wait_until_version_ready("new");
        // the last thing that is asked for a new version, so that steps are counted from rest
        world.eventually("it was seen where it is live", || {
            (world.service.counters().status.calls > 0).then_some(())
        });
    };
    let is_to_try = |request: &str, side| match request.split_once("new") {
        Some((_, "/status")) => side == Side::After,
        Some((_, "")) => true,
        _ => false,
    };
    kill_at_every_request(&Job { is_to_try, ..deletion(prepare) });
}

/// `a` and then `b` run in test.
fn two_ran(world: &World) {
    for name in ["a", "b"] {
        world.apply_version(name, &[]);
        world.wait_until_version_ready(name);
        world.apply_deployment("test", name, &[]);
        world.wait_until_deployment_ready("test");
        // the last thing that is written
        world.eventually("it knows where it is live", || {
            (world.version(name).status?.live_in.len() == 1).then_some(())
        });
    }
}

#[test]
fn rollback_survives_a_crash_at_every_request() {
    kill_at_every_request(&Job {
        settings: Settings::default(),
        prepare: two_ran,
        is_to_try: |_, _| true,
        begin: |world| world.apply_deployment("test", "a", &[]),
        is_done: |world| is_ready(&world.deployment("test")),
        check: |world, effects| {
            assert_eq!(world.live_version(Environment::Test).as_deref(), Some("a"));
            // what may or may not have been called is called once more, as a deploy: that is safe
            let moves: [&[&str]; 3] =
                [&["rollback a test"], &["deploy a test"], &["rollback a test", "deploy a test"]];
            assert!(
                moves.contains(&effects.iter().map(String::as_str).collect::<Vec<_>>().as_slice()),
                "{effects:?}"
            );
        },
    });
}
