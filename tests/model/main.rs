//! Every state: the decisions of the plan against a model of the service in which everything can fail, with a crash
//! allowed after each step.
//!
//! Two layers for both kinds. First every value of `State` by itself. Then observations of real objects, each step
//! carried out on the model the way the controller carries it out, and every state that can be reached. What is decided,
//! by whom a call may be made, whose claim wins and how new an answer must be is the code that ships; only reads, writes
//! and calls are the model's.

#![allow(clippy::pedantic, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod budget;
mod call_outcome;
mod deployment;
mod explore;
mod invariants;
mod reads;
mod service;
mod version;

use explore::explore_all;

#[test]
fn invariants_hold_for_every_version_state() {
    println!("ChatbotVersion: {} values of State", version::every_state_alone());
}

#[test]
fn invariants_hold_wherever_a_version_can_get() {
    println!("ChatbotVersion: {}", explore_all(&version::starts(extra_faults())));
}

#[test]
fn invariants_hold_for_every_deployment_state() {
    println!("ChatbotDeployment: {} values of State", deployment::every_state_alone(is_short()));
}

#[test]
fn invariants_hold_wherever_a_deployment_can_get() {
    println!("ChatbotDeployment: {}", explore_all(&deployment::starts(extra_faults())));
}

/// `MODEL_SHORT=1`: one fault less in each run, for the loop of seconds.
fn is_short() -> bool {
    std::env::var_os("MODEL_SHORT").is_some()
}

/// `MODEL_MORE=1` goes further: one fault more in each run. It takes long.
fn extra_faults() -> i8 {
    if is_short() {
        return -1;
    }
    std::env::var("MODEL_MORE").map_or(0, |more| more.parse().expect("MODEL_MORE is a small number"))
}
