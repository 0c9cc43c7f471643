//! What goes wrong in the field, one scenario after the other, then everything at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod creates;
#[path = "../behaviour/harness/mod.rs"]
#[allow(dead_code, unused_imports, reason = "tests/behaviour uses the rest")]
mod harness;
mod relay;
