//! The budgets, measured: each row with what it may be, what it is, and whether that is met.
//!
//! The release binary runs against a real kube-apiserver and the service simulator (20 ms latency), and beside it, in the
//! same run, a bare loop that makes the same calls and writes. Absolute times depend on the machine; ratios do not.
//! `BENCH_OBJECTS` scales the rows that say 10,000.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bare;
mod going_back;
mod limited;
mod one_by_one;
mod report;
mod rows;
mod stage;
mod trace;

use report::Table;
use support::Cluster;

/// A group of rows; the number scales those that say 10,000.
type Group = fn(&mut Table, usize);

/// By the name that selects one: `make bench ROWS=going-back`.
const GROUPS: [(&str, Group); 11] = [
    ("binary", |table, _| rows::binary(table)),
    ("idle", |table, _| rows::memory_idle(table)),
    ("steady-state", |table, _| rows::steady_state(table)),
    ("lease", |table, _| rows::lease(table)),
    ("faults", |table, _| rows::creates_under_faults_and_kills_happen_once(table)),
    ("going-back", |table, _| going_back::rows(table)),
    ("one-by-one", |table, _| one_by_one::rows(table)),
    ("limited", |table, _| limited::rows(table)),
    ("bare-loop", |table, _| rows::against_a_bare_loop(table, 1_000)),
    ("many-versions", |table, _| rows::many_versions(table)),
    ("many-objects", rows::many_objects),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test` runs benches, too, with this argument: there is nothing to test here
    if arguments.iter().any(|argument| argument == "--test") {
        return;
    }
    let objects: usize = std::env::var("BENCH_OBJECTS")
        .map_or(10_000, |text| text.parse().expect("BENCH_OBJECTS is a number"));
    let mut table = Table::default();
    eprintln!("starting etcd and kube-apiserver");
    // it ends with this process
    Cluster::shared();
    let selected: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    for (name, group) in GROUPS {
        if selected.is_empty() || selected.iter().any(|selected| *selected == name) {
            group(&mut table, objects);
        }
    }
    table.print();
}
