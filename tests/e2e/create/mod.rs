//! One object, one version: the service answers oddly, calls fail, clocks jump.

mod clock_jumps;
mod failures;
mod service_answers;
