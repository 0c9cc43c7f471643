//! What the tests and the bench share: the real binary as a process under the shipped RBAC, a real kube-apiserver,
//! and the simulated service over HTTP.
//!
//! Each [`World`] has a namespace, a chatbot, a service and an operator of its own; all of one process share one
//! control plane, [`Cluster::shared`], unless they ask for another. Everything here panics on failure: that is how
//! a test fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    reason = "a test fails by panicking"
)]

mod clock;
mod cluster;
pub mod generated;
pub mod judge;
mod manifests;
mod network;
mod objects;
mod operator;
mod promtool;
mod proxy;
mod relay;
mod tools;
mod usage;
mod world;

pub use clock::Clock;
pub use cluster::Cluster;
pub use manifests::{deployment, version};
pub use network::{Authority, ConnectProxy, certificate_pem};
pub use objects::{Object, condition, is_ready};
pub use operator::{Operator, operator_binary, operator_command, use_operator_binary};
pub use promtool::promtool;
pub use proxy::{Disturbance, Failpoint, Side, disturbed_cluster, proxy_to_cluster, proxy_to_service};
pub use relay::Relay;
pub use tools::go_tool;
pub use usage::Usage;
pub use world::{Flags, KEY, World};

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

/// How long anything may take, on a machine that is busy with other things.
pub const TIMEOUT: Duration = Duration::from_mins(1);

/// Calls `probe` until it returns a value, or until the limit is over.
pub fn poll<T>(limit: Duration, probe: impl FnMut() -> Option<T>) -> Option<T> {
    poll_every(Duration::from_millis(50), limit, probe)
}

/// The same with this pause between two calls.
pub fn poll_every<T>(pause: Duration, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = probe() {
            return Some(answer);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(pause);
    }
}

/// Runs the cases `at_once` at a time: most of their time is waiting. The first that fails fails the test.
pub fn run_concurrently<C: Sync>(at_once: usize, cases: &[C], run: impl Fn(&C) + Sync) {
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
