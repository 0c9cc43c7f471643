//! An environment moves forward and back.

mod failures;
mod rollback;
