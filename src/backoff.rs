//! Exponential backoff: one formula for everything that is retried.
//!
//! Pure. The caller adds jitter, so that plans stay deterministic.

use std::time::Duration;

/// A delay that doubles with each failure in a row, from `initial` up to `max`.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// After the first failure.
    pub initial: Duration,
    /// The longest delay, however many failures there were.
    pub max: Duration,
}

impl Backoff {
    /// A backoff from `initial` up to `max`.
    #[must_use]
    pub const fn new(initial: Duration, max: Duration) -> Self {
        Self { initial, max }
    }

    /// The delay after `failures` failures in a row; none counts as one.
    #[must_use]
    pub fn delay(self, failures: u32) -> Duration {
        // more doublings than these exceed any `max`, and would overflow
        let doublings = failures.saturating_sub(1).min(16);
        self.initial.saturating_mul(1 << doublings).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_mins(5));

    #[test]
    fn delay_doubles_from_initial_to_max() {
        let seconds: Vec<u64> = (0..=10).map(|failures| BACKOFF.delay(failures).as_secs()).collect();
        assert_eq!(seconds, [2, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    #[test]
    fn delay_never_overflows() {
        assert_eq!(BACKOFF.delay(u32::MAX), BACKOFF.max);
    }
}
