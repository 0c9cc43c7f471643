//! An environment moves forward and back.

mod clock_jumps;
mod commands;
mod failures;
mod rollback;
mod waits;
