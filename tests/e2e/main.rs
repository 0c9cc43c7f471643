//! The operator seen from outside: the real binary under the shipped RBAC, a real kube-apiserver, and the simulated
//! service over HTTP. One module per subject; `README.md` lists the failure scenarios with their tests.
//!
//! `make chaos` is the long form: `CHAOS_SECONDS` and `CHAOS_CREATES` say how long, `SEED` repeats the random
//! decisions. Without them everything is short enough for every test run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod api_server;
mod cloud_events;
mod crashes;
mod create;
mod credentials;
mod delete;
mod drift;
mod environments;
mod events;
mod gitops;
mod health;
mod install;
mod installation;
mod invalid_input;
mod leader;
mod limits;
mod log_output;
mod networks;
mod other_managers;
mod ownership;
mod probes_and_metrics;
mod releases;
mod requests;
mod rollout;
mod scenarios;
mod secret_leaks;
mod service_variants;
mod soak;
mod steady_state;
mod traces;
mod unreadable_objects;
mod watches;

/// Whether this is the long form, as `make chaos` runs it: measurements over a minute and more, and a longer soak.
fn is_long() -> bool {
    std::env::var_os("CHAOS_SECONDS").is_some()
}
