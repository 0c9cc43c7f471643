//! What is remembered of a call while it is under way and after it: it may take effect before its answer is read, and later.

use std::{collections::HashMap, hash::Hash, sync::Mutex};

use super::error::Failure;
use crate::sync::lock;

/// Keeps an entry about a call: `during` from before it is sent, because it may take effect before its answer is read,
/// `after` from its end. Where it is proven that the call did nothing, the entry of an earlier call comes back, because
/// that one may still take effect.
pub async fn track_call<K: Clone + Eq + Hash, V>(
    entries: &Mutex<HashMap<K, V>>,
    key: K,
    during: V,
    after: impl FnOnce() -> V,
    call: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let former = lock(entries).insert(key.clone(), during);
    let result = call.await;
    let did_nothing = result.as_ref().is_err_and(|failure| !failure.may_have_happened);
    match if did_nothing { former } else { Some(after()) } {
        Some(entry) => lock(entries).insert(key, entry),
        None => lock(entries).remove(&key),
    };
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chatcaptain::{ApiCall, FailureClass, Refusal};

    /// The entry during and after a call that ends like this.
    async fn track(
        entries: &Mutex<HashMap<&'static str, &'static str>>,
        class: Option<FailureClass>,
    ) -> (Option<&'static str>, Option<&'static str>) {
        let mut during = None;
        let result = class.map_or(Ok(()), |class| Err(Failure::new(ApiCall::Deploy, class, "")));
        let call = async {
            during = lock(entries).get("prod").copied();
            result.clone()
        };
        assert_eq!(track_call(entries, "prod", "during", || "after", call).await, result);
        (during, lock(entries).get("prod").copied())
    }

    #[tokio::test]
    async fn call_is_tracked_from_before_it_is_sent() {
        for class in [None, Some(FailureClass::Unknown)] {
            let entries = Mutex::new(HashMap::from([("prod", "former")]));
            assert_eq!(track(&entries, class).await, (Some("during"), Some("after")));
        }
    }

    #[tokio::test]
    async fn call_that_did_nothing_restores_the_former_entry() {
        for class in [FailureClass::Refused(Refusal::Conflict), FailureClass::Unsent] {
            let entries = Mutex::new(HashMap::from([("prod", "former")]));
            assert_eq!(track(&entries, Some(class)).await, (Some("during"), Some("former")));
            let entries = Mutex::default();
            assert_eq!(track(&entries, Some(class)).await, (Some("during"), None));
        }
    }
}
