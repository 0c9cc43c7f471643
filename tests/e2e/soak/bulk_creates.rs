//! Many creates under faults and kills: each takes effect once, without duplicates or losses.

use std::{
    collections::BTreeMap,
    thread::sleep,
    time::{Duration, Instant},
};

use chatcaptain_operator::crd::ChatbotVersion;
use kube::ResourceExt;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use simulator::{Fault, FaultKind, FaultOperation, Operation, Settings};

use super::{faults, seed};
use support::{Flags, World, condition, is_ready, poll};

/// The default interval: thousands of objects that poll every two seconds, as in the soak, would do nothing else. Most
/// of a reconcile is waiting for a response that does not arrive, hence the high concurrency.
const FLAGS: Flags = &[
    ("interval", "5m"),
    ("concurrency", "64"),
    ("visibility-grace", faults::GRACE),
    ("api-timeout", faults::API_TIMEOUT),
];

fn creates() -> usize {
    std::env::var("CHAOS_CREATES").map_or(150, |text| text.parse().unwrap())
}

/// Some bots, so that their lists stay short.
fn bot(world: &World, number: usize, all: usize) -> String {
    format!("{}-{}", world.bot, number % all.div_ceil(200))
}

/// The random faults of a short run may strike no create.
fn fail_one_create(world: &World) {
    let fault = Fault::new(FaultOperation::Create, FaultKind::Error500).times(1);
    world.service.settings(|settings| settings.faults = vec![fault]);
    let has_failed = || world.service.counters().create.by_status.contains_key("500");
    poll(Duration::from_mins(1), || has_failed().then_some(())).expect("a create that fails");
}

/// Changes the faults and kills the operator now and then until most creates have taken effect.
fn soak(world: &World, random: &mut StdRng, all: usize) -> (usize, usize) {
    let (mut disturbances, mut kills) = (0, 0);
    let limit = Instant::now() + Duration::from_secs(10 + all as u64 / 5);
    // after each start it reconciles everything first, which takes longer the more there is
    let deadly = if all > 1_000 { 0.03 } else { 0.1 };
    fail_one_create(world);
    while world.creates() < all as u64 * 9 / 10 && Instant::now() < limit {
        disturbances += faults::change(&world.service, random);
        if random.random_bool(deadly) {
            world.kill();
            world.start();
            kills += 1;
            // with thousands of objects it takes a while until it has read them all
            let before = world.creates();
            poll(Duration::from_mins(1), || (world.creates() > before).then_some(()));
        }
        let enough = world.creates() + random.random_range(1..50);
        poll(Duration::from_secs(2), || (world.creates() >= enough).then_some(()));
    }
    (disturbances, kills)
}

/// The ids in the service, by chatbot and name.
fn made(world: &World) -> BTreeMap<(String, String), Vec<String>> {
    let mut made: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for state in world.service.state() {
        for version in state.versions {
            made.entry((state.chatbot.clone(), version.name)).or_default().push(version.id);
        }
    }
    made
}

#[test]
fn creates_under_faults_and_kills_happen_once() {
    let (seed, all) = (seed(), creates());
    let mut random = StdRng::seed_from_u64(seed);
    let world = World::with_flags(Settings::default(), FLAGS);
    let started = Instant::now();
    let (disturbances, kills) = std::thread::scope(|scope| {
        scope.spawn(|| world.create_versions(all, 8, |number| bot(&world, number, all)));
        soak(&world, &mut random, all)
    });
    faults::clear(&world.service);
    let mut waiting = BTreeMap::new();
    let rested = poll(Duration::from_mins(8), || {
        // listing thousands of objects loads the machine
        sleep(Duration::from_millis(all as u64 / 5));
        let objects: Vec<ChatbotVersion> = world.cluster.list(&world.namespace);
        waiting.clear();
        for object in objects.iter().filter(|object| !is_ready(*object)) {
            let reason = condition(object, "Ready").map(|ready| ready.reason.clone());
            *waiting.entry(reason).or_insert(0) += 1;
        }
        (waiting.is_empty() && objects.len() == all).then_some(objects)
    });
    let objects = rested.unwrap_or_else(|| panic!("seed {seed}: not all are Ready: {waiting:?}"));

    let made = made(&world);
    let duplicates: usize = made.values().map(|ids| ids.len() - 1).sum();
    let is_lost = |object: &&ChatbotVersion| {
        let ids = made.get(&(object.spec.chatbot_id.clone(), object.name_any()));
        !ids.is_some_and(|ids| ids.iter().any(|id| Some(id.as_str()) == object.version_id()))
    };
    let lost = objects.iter().filter(is_lost).count();
    let counters = world.service.counters();
    let create = counters.of(Operation::Create);
    println!(
        "seed {seed}: {} creates in {:?} under {disturbances} faults and {kills} kills: {} calls, took effect {}, \
         duplicates {duplicates}, lost {lost}",
        all,
        started.elapsed(),
        create.calls,
        create.took_effect,
    );
    assert_eq!((create.took_effect, duplicates, lost), (all as u64, 0, 0), "seed {seed}");
    assert!(create.calls > create.took_effect, "no fault struck");
}
