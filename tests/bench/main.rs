//! The budgets, measured: each row with what it may be, what it is, and whether that is met.
//!
//! The release binary runs against a real kube-apiserver and the service simulator (20 ms latency), and beside it, in the
//! same run, a bare loop that makes the same calls and writes. Absolute times depend on the machine; ratios do not.
//! `BENCH_OBJECTS` scales the rows that say 10,000.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bare;
mod report;
mod rows;
mod stage;

use report::Table;
use support::Cluster;

fn main() {
    // `cargo test` runs benches, too, with this argument: there is nothing to test here
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let objects: usize = std::env::var("BENCH_OBJECTS")
        .map_or(10_000, |text| text.parse().expect("BENCH_OBJECTS is a number"));
    let mut table = Table::default();
    eprintln!("starting etcd and kube-apiserver");
    // it ends with this process
    Cluster::shared();
    rows::binary(&mut table);
    rows::memory_idle(&mut table);
    rows::steady_state(&mut table);
    rows::creates_under_faults_and_kills_happen_once(&mut table);
    rows::against_a_bare_loop(&mut table, 1_000);
    rows::many_objects(&mut table, objects);
    table.print();
}
