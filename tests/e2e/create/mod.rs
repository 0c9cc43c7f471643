//! One object creates one version, whatever the service answers, whatever fails, and whatever the clock shows.

mod clock_jumps;
mod coming_back;
mod failures;
mod service_answers;
