//! An environment moves forward and back.

mod clock_jumps;
mod failures;
mod rollback;
