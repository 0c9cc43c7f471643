//! What the operator does, seen from outside: the real binary under the shipped RBAC, a real
//! kube-apiserver, and the simulated service over HTTP.
//!
//! Each test has a namespace, a chatbot, a service and an operator of its own; all share one
//! control plane.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod bad_input;
mod bare_cluster;
mod crash_points;
mod create;
mod deletion;
mod drift;
mod environments;
mod going_back;
#[allow(dead_code, reason = "tests/chaos uses the rest")]
mod harness;
#[allow(dead_code, reason = "only health is asked for here")]
#[path = "../verdicts/judge.rs"]
mod judge;
mod kills;
mod rebuild;
mod replicas;
mod rest;
mod rights;
mod samples;
mod secrecy;
mod story;
mod waking;
mod waves;
