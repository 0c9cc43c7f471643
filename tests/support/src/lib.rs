//! What every test stands on.

mod clock;
mod cluster;
mod manifests;
mod objects;
mod operator;
mod proxy;
mod world;

pub use clock::Clock;
pub use cluster::Cluster;
pub use manifests::{deployment, version};
pub use objects::{Object, condition, is_ready};
pub use operator::{Operator, binary};
pub use proxy::{Side, Trap, before_cluster, before_service};
pub use world::{Flags, World};

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

/// How long anything may take on a machine that is busy with something else.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Asks again and again until there is an answer.
pub fn poll<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = probe() {
            return Some(answer);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Runs the cases a few at a time: most of each is waiting. The first that fails fails the test.
pub fn side_by_side<C: Sync>(at_once: usize, cases: &[C], run: impl Fn(&C) + Sync) {
    let next = Mutex::new(cases.iter());
    std::thread::scope(|scope| {
        for _ in 0..at_once.min(cases.len()) {
            scope.spawn(|| {
                while let Some(case) = { next.lock().unwrap().next() } {
                    run(case);
                }
            });
        }
    });
}
