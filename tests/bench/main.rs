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

use std::time::Duration;

use report::Table;
use stage::Stage;

#[tokio::main]
async fn main() {
    // `cargo test` runs benches, too, with this argument: there is nothing to test here
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let objects: usize = std::env::var("BENCH_OBJECTS")
        .map_or(10_000, |text| text.parse().expect("BENCH_OBJECTS is a number"));
    rustls::crypto::ring::default_provider().install_default().expect("the first provider");
    let mut table = Table::default();
    let stage = Stage::build().await;
    rows::binary(&mut table);
    rows::memory_idle(&stage, &mut table).await;
    rows::at_rest(&stage, &mut table).await;
    rows::creates_under_faults(&stage, &mut table).await;
    rows::against_a_bare_loop(&stage, &mut table, 1_000).await;
    rows::many_objects(&stage, &mut table, objects).await;
    table.print();
    // the control plane ends with this process
    tokio::time::sleep(Duration::ZERO).await;
}
