//! What a call leaves in the service whose object no longer exists: somebody removed the finalizer while it was in flight.

use std::sync::Arc;

use super::{Observation, Outcome, messages};
use crate::{
    chatcaptain::Inventory,
    crd::ChatbotVersionStatus,
    plan::{EventReason, Report, Requeue},
};

/// The event and the id of the version that may be left; `None` if there is none. No status is left to record it in.
#[must_use]
pub fn left_behind(observation: &Observation, outcome: &Outcome) -> Option<Report<ChatbotVersionStatus>> {
    let listed = |list: &Option<Arc<Inventory>>| {
        let version = list.as_ref().and_then(|list| observation.sole_match(list));
        version.map(|version| version.id.as_str().to_owned())
    };
    let id = match outcome {
        Outcome::Created(Ok(id), list) => listed(list).or(id.as_ref().map(|id| id.as_str().to_owned())),
        Outcome::Created(Err(failure), list) if failure.may_have_happened => listed(list),
        Outcome::Deleted(Err(_)) => observation.object.version_id().map(str::to_owned),
        Outcome::Created(Err(_), _) | Outcome::Deleted(Ok(())) | Outcome::NoCall => return None,
    };
    let note = messages::object_vanished(&messages::version_label(id.as_deref(), observation.name()));
    let report = Report::new(observation.status().clone(), Requeue::OnChange);
    let id = id.unwrap_or_else(|| "unknown".to_owned());
    Some(report.orphaned(EventReason::Orphaned, note, vec![id]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::{
        super::fixtures::{OURS, failure, inventory, version},
        *,
    };
    use crate::chatcaptain::{ApiCall, FailureClass, Refusal, VersionId};

    #[test]
    fn a_call_whose_object_vanished_names_what_it_may_have_left() {
        let orphan = |outcome: &Outcome| {
            let report = left_behind(&Observation::test().recorded("v1").may_create(), outcome)?;
            assert_eq!(report.event_reasons(), ["Orphaned"]);
            Some((report.orphans[0].clone(), report.events[0].note.clone()))
        };
        let id = VersionId::parse("v2").unwrap();
        let unknown = || Err(failure(ApiCall::Create, FailureClass::Unknown));
        let listed = || Some(inventory(vec![version("v3", OURS)]));
        for (outcome, expected) in [
            (Outcome::Created(Ok(Some(id.clone())), None), "v2"),
            (Outcome::Created(Ok(Some(id)), listed()), "v3"),
            (Outcome::Created(unknown(), listed()), "v3"),
            (Outcome::Deleted(Err(failure(ApiCall::Delete, FailureClass::Unknown))), "v1"),
        ] {
            let (orphan, note) = orphan(&outcome).unwrap();
            assert_eq!(orphan, expected);
            assert!(note.contains(&format!("version {expected} may exist")), "{note}");
        }
        let (orphaned, note) = orphan(&Outcome::Created(unknown(), None)).unwrap();
        assert_eq!(orphaned, "unknown");
        assert!(note.contains("a version named \"support\""), "{note}");
        for nothing in [
            Outcome::Created(
                Err(failure(ApiCall::Create, FailureClass::Refused(Refusal::Invalid))),
                listed(),
            ),
            Outcome::Created(Err(failure(ApiCall::Create, FailureClass::Unsent)), None),
            Outcome::Deleted(Ok(())),
            Outcome::NoCall,
        ] {
            assert_eq!(orphan(&nothing), None);
        }
    }
}
