//! The walk over every state: what the plan decides, held against a model of the service in which everything
//! can go wrong, with a crash allowed after each step.
//!
//! Two layers for both kinds. First every value of `Seen` by itself. Then real facts about real objects, each
//! step carried out on the model the way the controller does it, and every state that can be reached.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

mod budget;
mod explore;
mod laws;
mod service;
mod version;

use budget::Budget;
use explore::explore_all;
use version::VersionWorld;

#[test]
fn every_version_seen() {
    let count = version::every_seen();
    println!("ChatbotVersion: {count} values of Seen");
}

#[test]
fn every_version_state() {
    let all = std::env::var("ALL").map_or(2, |n| n.parse().unwrap());
    let starts = version::setups().into_iter().map(|setup| VersionWorld::new(setup, Budget::new(2, all)));
    let tally = explore_all(&starts.collect::<Vec<_>>());
    println!("ChatbotVersion: {tally}");
}
