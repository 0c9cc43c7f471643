//! From what a pass says to when the object is looked at again.

use std::time::Duration;

use kube::runtime::controller::Action;
use rand::RngExt;

use super::publish::Error;
use crate::plan::Pace;

/// Never sleep longer than this: a missed event must not be missed for ever.
const LONGEST: Duration = Duration::from_hours(1);

pub fn action(pace: Pace) -> Action {
    match pace {
        Pace::Again => soon(),
        Pace::After(pause) => Action::requeue(pause.clamp(Duration::from_millis(50), LONGEST)),
        Pace::Idle => Action::requeue(LONGEST),
    }
}

/// When the chatbot's other objects have had their turn. Its end wakes this one; this is for the wake that was spent
/// on an object that is no more.
pub fn after_others() -> Action {
    Action::requeue(Duration::from_secs(15))
}

/// In a moment, after whatever is already waiting.
pub fn soon() -> Action {
    Action::requeue(Duration::from_secs(1))
}

/// The cluster did not take what we had to say.
pub fn after_error(error: &Error) -> Action {
    let pause = match error {
        Error::Stale => Duration::from_millis(200),
        Error::Gone => LONGEST,
        Error::Cluster(_) => Duration::from_secs(3),
    };
    Action::requeue(pause + pause.mul_f64(rand::rng().random::<f64>() / 2.0))
}
