//! An environment moves forward and back.

mod commands;
mod failures;
mod rollback;
mod waits;
