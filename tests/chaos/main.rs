//! What goes wrong in the field, one scenario after the other, then everything at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod creates;
mod deletion_table;
mod deployments;
mod gitops;
#[path = "../behaviour/harness/mod.rs"]
#[allow(dead_code, unused_imports, reason = "tests/behaviour uses the rest")]
mod harness;
mod keys;
mod leaders;
mod limits;
mod outage;
mod relay;
mod soak;

/// The long form, as `make chaos` runs it: figures over a minute and more, and a soak of that many seconds.
fn is_long() -> bool {
    std::env::var_os("CHAOS_SECONDS").is_some()
}
