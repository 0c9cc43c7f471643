//! The walk over every state: what the plan decides, held against a model of the service in which everything
//! can go wrong, with a crash allowed after each step.
//!
//! Two layers for both kinds. First every value of `Seen` by itself. Then real facts about real objects, each
//! step carried out on the model the way the controller does it, and every state that can be reached.

#![allow(clippy::pedantic, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod budget;
mod deployment;
mod ends;
mod explore;
mod laws;
mod service;
mod version;

use explore::explore_all;

#[test]
fn every_version_seen() {
    println!("ChatbotVersion: {} values of Seen", version::every_seen());
}

#[test]
fn every_version_state() {
    println!("ChatbotVersion: {}", explore_all(&version::starts(more())));
}

#[test]
fn every_deployment_seen() {
    println!("ChatbotDeployment: {} values of Seen", deployment::every_seen());
}

#[test]
fn every_deployment_state() {
    println!("ChatbotDeployment: {}", explore_all(&deployment::starts(more())));
}

/// `WALK_MORE=1` walks further: that much more trouble in each run. It takes long.
fn more() -> u8 {
    std::env::var("WALK_MORE").map_or(0, |more| more.parse().expect("WALK_MORE is a small number"))
}
