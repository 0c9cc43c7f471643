//! The operator is killed again and again while it has much to do.

use std::{ops::Range, thread::sleep, time::Duration};

use chatcaptain_operator::crd::ChatbotVersion;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use simulator::Settings;
use support::{World, poll, version};

const VERSIONS: usize = 200;
const KILLS: usize = 12;

/// Each operator does some of the work, or dies before it has begun.
fn kill_at_random_instants(world: &World, mut random: StdRng) {
    for _ in 0..KILLS {
        let enough = world.creates() + random.random_range(0..30);
        world.start();
        // there may be nothing to do before git is applied further
        poll(Duration::from_secs(3), || (world.creates() >= enough).then_some(()));
        sleep(Duration::from_millis(random.random_range(0..100)));
        world.kill();
        println!("killed after {} creates", world.creates());
    }
}

#[test]
fn two_hundred_creates_survive_random_kills() {
    // what is created is not listed yet when the next operator reads the list
    let settings = Settings { latency_ms: 20, list_delay_ms: 2500, ..Settings::default() };
    let flags = [("interval", "1h"), ("visibility-grace", "3s")];
    let world = World::without_operator(settings, &flags);
    let name = |number| format!("v{number:03}");
    let git = |numbers: Range<usize>| -> String {
        numbers.map(|number| version(&world.bot, &name(number), &[])).collect()
    };
    let seed = std::env::var("SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("seed {seed}; the same again: SEED={seed}");

    world.apply(&git(0..VERSIONS / 2));
    std::thread::scope(|scope| {
        // the rest comes while the operator dies
        let apply = scope.spawn(|| world.apply(&git(VERSIONS / 2..VERSIONS)));
        kill_at_random_instants(&world, StdRng::seed_from_u64(seed));
        apply.join().unwrap();
    });
    world.start();
    world.wait_until_versions_ready(VERSIONS);

    let mut made = world.effects();
    made.sort();
    let expected: Vec<String> = (0..VERSIONS).map(|number| format!("create {} dev", name(number))).collect();
    assert_eq!(made, expected, "seed {seed}");
    let all = world.cluster.list::<ChatbotVersion>(&world.namespace);
    let state = world.state().unwrap();
    for version in &all {
        let name = version.metadata.name.as_deref().unwrap();
        let made = state.versions.iter().find(|made| made.name == name);
        let recorded = version.version_id();
        assert_eq!(recorded, made.map(|made| made.id.as_str()), "seed {seed}");
    }
}
