//! Whether the service is queried for a `ChatbotVersion`, and how new its answers have to be.

use super::Observation;
use crate::{
    chatcaptain::{Inventory, Version},
    crd::{DeletionPolicy, FINALIZER, Reason, annotation},
    plan::{Freshness, ServiceReads, annotation_value},
};

impl Observation {
    /// Whether the decision depends on the service's answer. Where it does not, the service is not queried: an object whose
    /// version stays must be deletable during an outage.
    #[must_use]
    pub fn needs_service(&self) -> bool {
        let meta = &self.object.metadata;
        let version_stays = self.deletion_policy() == DeletionPolicy::Retain
            || annotation_value(meta, annotation::FORCE_ORPHAN).is_some();
        let only_finalizer_goes = meta.deletion_timestamp.is_some() && version_stays;
        let has_finalizer = meta.finalizers.iter().flatten().any(|f| f == FINALIZER);
        // without the finalizer the next step is to add it, whatever the service says
        has_finalizer
            && self.object.spec.suspend != Some(true)
            && self.older_claim.is_none()
            && !only_finalizer_goes
    }

    /// How new the answers have to be.
    #[must_use]
    pub fn service_reads(&self) -> ServiceReads {
        let status = self.status();
        let usual = Freshness::Within(self.interval());
        let urgent = self.object.metadata.deletion_timestamp.is_some() || self.is_reconcile_requested();
        let list = match () {
            () if self.is_about_to_change() => Freshness::Now,
            // not `Now`: creates that wait together share one list after their intents, instead of one list each
            () if self.may_call => Freshness::AfterIntent,
            () if urgent || status.pending_create.is_some() => Freshness::Now,
            () => usual,
        };
        // a deletion depends on what is live at this moment: somebody may have deployed the version manually since the
        // last answer
        let deployment_status = if urgent { Freshness::Now } else { usual };
        // what does not exist yet runs nowhere
        ServiceReads { list, deployment_status: status.version_id.is_some().then_some(deployment_status) }
    }

    /// Whether a version is about to appear or to disappear, which only a newer list shows.
    fn is_about_to_change(&self) -> bool {
        [Reason::WaitingForVisibility, Reason::WaitingForDeletion].into_iter().any(|r| self.is_waiting_for(r))
    }

    fn is_waiting_for(&self, reason: Reason) -> bool {
        self.status().common.conditions.iter().any(|c| c.reason == reason.as_str())
    }

    /// The listed versions that other objects may hold or delete, and that therefore have to be checked: all candidates
    /// while the object does not know which version is its own or has lost it, and its own while that may disappear.
    #[must_use]
    pub fn candidates_to_check<'a>(&self, inventory: &'a Inventory) -> Vec<&'a Version> {
        match self.object.version_id().filter(|_| self.status().pending_create.is_none()) {
            None => self.candidates(inventory),
            Some(id) if self.is_waiting_for(Reason::WaitingForDeletion) => {
                inventory.version(id).into_iter().collect()
            }
            Some(id) if self.adopt_id().is_some_and(|other| other != id) => self.candidates(inventory),
            Some(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::fixtures::{OURS, version};
    use super::*;
    use crate::{crd::Operation, plan::ServiceView};

    const USUAL: Freshness = Freshness::Within(Duration::from_mins(5));

    #[test]
    fn service_is_asked_only_where_its_answer_could_matter() {
        let retained = || Observation::test().with(|o| o.spec.deletion_policy = Some(DeletionPolicy::Retain));
        let forced = || Observation::test().annotated(annotation::FORCE_ORPHAN, "yes");
        for (asks, cause, observation) in [
            (true, "it may create", Observation::test()),
            (true, "it may delete", Observation::test().deleted(1)),
            (true, "its version stays, and it is not being deleted", retained()),
            (true, "force-orphan is for a deletion", forced()),
            (false, "its version stays", retained().deleted(1)),
            (false, "its version stays", forced().deleted(1)),
            (false, "it is not begun yet", Observation::test().with(|o| o.metadata.finalizers = None)),
            (false, "it is suspended", Observation::test().with(|o| o.spec.suspend = Some(true))),
            (
                false,
                "an older object holds its version",
                Observation { older_claim: Some("chatbots/older".to_owned()), ..Observation::test() },
            ),
        ] {
            assert_eq!(observation.needs_service(), asks, "{cause}");
        }
    }

    #[test]
    fn list_is_as_new_as_the_decision_needs() {
        let list = |observation: Observation| observation.service_reads().list;
        assert_eq!(list(Observation::test()), USUAL);
        assert_eq!(list(Observation::test().may_create()), Freshness::AfterIntent);
        assert_eq!(list(Observation::test().with_intent(&[])), Freshness::Now, "a create is searched for");
        assert_eq!(list(Observation::test().deleted(1)), Freshness::Now);
        let requested = Observation::test().annotated(annotation::RECONCILE_REQUESTED_AT, "now");
        assert_eq!(list(requested), Freshness::Now);
    }

    #[test]
    fn version_that_is_about_to_appear_or_to_go_needs_a_newer_list() {
        let created = Observation::test().recorded("v1").after(Operation::Create, Some("v1"), 1);
        let report = created.report();
        assert_eq!(report.ready().0, "WaitingForVisibility");
        let waiting = created.with_status(|status| *status = report.status);
        assert_eq!(waiting.service_reads().list, Freshness::Now);
        // the list from before its intent shows the version that is to go
        let waiting = Observation { may_call: true, ..waiting };
        assert_eq!(waiting.service_reads().list, Freshness::Now);
    }

    #[test]
    fn deployment_status_is_read_only_for_a_recorded_version() {
        let deployments = |observation: Observation| observation.service_reads().deployment_status;
        assert_eq!(deployments(Observation::test()), None);
        assert_eq!(deployments(Observation::test().recorded("v1")), Some(USUAL));
        let deleted = Observation::test().recorded("v1").deleted(1);
        assert_eq!(deployments(deleted), Some(Freshness::Now), "what is live now must not be deleted");
    }

    #[test]
    fn candidates_are_checked_until_the_version_is_known() {
        let listing = |observation: Observation| observation.listing(vec![version("v1", OURS)]);
        let checked = |observation: Observation| {
            let ServiceView::Available { inventory, .. } = &observation.service else { return 0 };
            observation.candidates_to_check(inventory).len()
        };
        assert_eq!(checked(listing(Observation::test())), 1);
        assert_eq!(checked(listing(Observation::test().recorded("v1"))), 0);
        let recreated = Observation::test().recorded("v1").with_intent(&[]);
        assert_eq!(checked(listing(recreated)), 1, "which version its new create made is not known");
    }
}
