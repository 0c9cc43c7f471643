//! The operator is killed again and again while it has much to do.

use std::{thread::sleep, time::Duration};

use chatcaptain_operator::crd::ChatbotVersion;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use simulator::Settings;

use crate::harness::{World, is_ready, version};

const VERSIONS: usize = 200;
const KILLS: usize = 12;

#[test]
fn two_hundred_versions_survive_kills_at_random_instants() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    // what is created is not listed yet when the next operator looks
    let settings = Settings { latency_ms: 20, list_delay_ms: 800, ..Settings::default() };
    let flags = [("interval", "1h"), ("visibility-grace", "1s")];
    let world = World::asleep(settings, &flags);
    let name = |number| format!("v{number:03}");
    let git: String = (0..VERSIONS).map(|number| version(&world.bot, &name(number), &[])).collect();

    std::thread::scope(|scope| {
        // git is applied while the operator dies
        let apply = scope.spawn(|| world.apply(&git));
        for _ in 0..KILLS {
            world.start();
            // from before it watches until it has done some work
            sleep(Duration::from_millis(random.random_range(50..1200)));
            world.kill();
        }
        apply.join().unwrap();
    });
    world.start();
    world.eventually("all are Ready", || {
        let all = world.cluster.list::<ChatbotVersion>(&world.namespace);
        let ready = all.iter().filter(|version| is_ready(*version)).count();
        (ready == VERSIONS).then_some(())
    });

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
