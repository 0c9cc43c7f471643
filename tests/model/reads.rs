//! Reads of the service and the time until the next reconcile, the same for both kinds.

use std::time::Duration;

use chatcaptain_operator::plan::{Freshness, Requeue, ServiceReads, Unavailable, UnavailableReason};

use crate::{
    budget::{Budget, Fault},
    explore::Choices,
    service::Snapshot,
};

/// One of each kind: user action is required, no call can be authenticated, it ends by itself.
const REASONS: [UnavailableReason; 3] = [
    UnavailableReason::ChatbotNotFound,
    UnavailableReason::AuthenticationFailed,
    UnavailableReason::ServiceUnavailable,
];

/// Whether this time the service gives no usable answer.
pub fn service_is_unavailable(budget: &mut Budget, choices: &mut Choices) -> Option<Unavailable> {
    let mut options = vec![None];
    if budget.allows(Fault::Unavailable) {
        options.extend(REASONS.map(Some));
    }
    let reason = choices.pick(&options)?;
    budget.spend(Fault::Unavailable);
    Some(Unavailable {
        reason,
        message: "The service gives no answer; see why.".to_owned(),
        retry_after: None,
    })
}

impl Snapshot {
    /// Whether this earlier answer is new enough; `permit` is the read after which the create intent was written.
    pub fn satisfies(&self, reads: ServiceReads, now: i64, permit: Option<u32>) -> bool {
        let is_fresh = |freshness: Freshness| match freshness {
            Freshness::Now => false,
            Freshness::AfterIntent => permit.is_some_and(|permit| self.read > permit),
            Freshness::Within(age) => now - self.at <= age.as_secs().cast_signed(),
        };
        is_fresh(reads.list) && reads.deployment_status.is_none_or(is_fresh)
    }
}

/// Whole seconds until the next reconcile.
pub fn requeue_seconds(requeue: Requeue) -> i64 {
    match requeue {
        Requeue::Immediately => 0,
        Requeue::After(delay) => (delay + Duration::from_millis(999)).as_secs().max(1).cast_signed(),
        Requeue::OnChange => 3600,
    }
}
