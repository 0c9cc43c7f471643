//! The simulator over real HTTP: every switch, every fault, every control route.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admission;
mod answers;
mod binary;
mod client;
mod control;
mod faults;
mod lifecycle;
mod load;
mod operations;
mod refusals;
mod rollback;
mod rollouts;
