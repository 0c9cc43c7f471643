//! From what a pass says to when the object is looked at again.

use std::time::Duration;

use kube::runtime::controller::Action;
use rand::RngExt;

use super::publish::Error;
use crate::plan::Requeue;

/// Never sleep longer than this: a missed event must not be missed for ever.
const MAX_REQUEUE: Duration = Duration::from_hours(1);

pub fn action(pace: Requeue) -> Action {
    match pace {
        Requeue::Immediately => requeue_shortly(),
        Requeue::After(pause) => Action::requeue(pause.clamp(Duration::from_millis(50), MAX_REQUEUE)),
        Requeue::OnChange => Action::requeue(MAX_REQUEUE),
    }
}

/// When the chatbot's other objects have had their turn. Its end wakes this one; this is for the wake that was spent
/// on an object that is no more.
pub fn requeue_after_others() -> Action {
    Action::requeue(Duration::from_secs(15))
}

/// In a moment, after whatever is already waiting.
pub fn requeue_shortly() -> Action {
    Action::requeue(Duration::from_secs(1))
}

/// The cluster did not take what we had to say.
pub fn requeue_after_error(error: &Error) -> Action {
    let pause = match error {
        Error::Stale => Duration::from_millis(200),
        Error::Gone => MAX_REQUEUE,
        Error::Cluster(_) => Duration::from_secs(3),
    };
    Action::requeue(pause + pause.mul_f64(rand::rng().random::<f64>() / 2.0))
}
