//! Which listed version is the object's: by the id that the status has recorded, else by its marker, else, where the
//! service does not return descriptions, by its name.

use std::time::Duration;

use super::{CreateState, Match, Observation};
use crate::{
    chatcaptain::{Inventory, Version},
    crd::{ChatbotVersionStatus, Operation, OperationResult, annotation},
    plan::{ServiceView, annotation_value, elapsed, is_pending_delete},
};

impl Observation {
    pub(super) fn matched(&self, create_state: CreateState) -> Match {
        match &self.service {
            ServiceView::NotQueried => Match::NotQueried,
            ServiceView::Unavailable(unavailable) => Match::Unavailable(unavailable.reason),
            ServiceView::Available { inventory, age, .. } if create_state == CreateState::Created => {
                self.match_recorded(inventory, *age)
            }
            ServiceView::Available { inventory, .. } => match self.adopt_id() {
                Some(id) => self.match_adopt_id(inventory, id),
                None => self.match_candidates(inventory, create_state),
            },
        }
    }

    /// `adopt-id` names another version in place of the recorded one, which is lost.
    fn is_replaced(&self, inventory: &Inventory) -> bool {
        let other = self.adopt_id().filter(|id| self.object.version_id() != Some(*id));
        // an annotation from before must not hand the next version to a deletion
        !self.is_being_deleted()
            && other.is_some_and(|id| self.match_adopt_id(inventory, id) == Match::Single)
    }

    fn match_recorded(&self, inventory: &Inventory, list_age: Duration) -> Match {
        match self.listed() {
            Some(version) if self.foreign_owner(version).is_some() => Match::ForeignMarker,
            // while the object itself is being deleted, its own deletion decides
            Some(version) if !self.is_being_deleted() && self.is_deletion_pending(version.id.as_str()) => {
                Match::DeletionPending
            }
            Some(_) => Match::Present,
            None if self.is_newly_created(list_age) => Match::NotYetListed,
            None if self.is_replaced(inventory) => Match::Single,
            None => Match::Missing,
        }
    }

    fn match_adopt_id(&self, inventory: &Inventory, id: &str) -> Match {
        match inventory.version(id) {
            None => Match::AdoptMissing,
            // without this two objects could share a version, and the first deletion would take it from the other
            Some(_) if self.held_by_others.contains(id) => Match::AdoptConflict,
            Some(version) if self.foreign_owner(version).is_some() => Match::AdoptConflict,
            // without a marker it was made outside the operator, or the list has no descriptions; with that of another
            // object, which does not hold it, the object was renamed: the user has named it
            Some(_) => Match::Single,
        }
    }

    fn match_candidates(&self, inventory: &Inventory, create_state: CreateState) -> Match {
        let all = self.candidates(inventory);
        let matched = self.match_by_count(&all, create_state);
        // a single one is recorded all the same: should it disappear, that is a loss and no reason for another create
        let is_decided = matched == Match::Single && !self.is_being_deleted();
        let is_pending = |version: &&Version| self.is_deletion_pending(version.id.as_str());
        if !is_decided && all.iter().any(is_pending) { Match::DeletionPending } else { matched }
    }

    fn match_by_count(&self, all: &[&Version], create_state: CreateState) -> Match {
        let marked = all.iter().any(|version| version.marker().is_some());
        let free = all.iter().filter(|version| self.is_free(version)).count();
        match (free, create_state) {
            // the service accepted the create: there is a version, and another request would create a second one
            (0, CreateState::SearchExpired) if self.is_create_accepted() => Match::Ambiguous,
            (0, _) => Match::None,
            // a name alone counts only if the version appeared after an intent whose request may have been sent
            (_, CreateState::NotStarted | CreateState::IntentRecorded) if !marked => Match::Unmarked,
            (1, _) => Match::Single,
            _ => Match::Ambiguous,
        }
    }

    /// The listed versions that can be this object's while it has recorded none, also those that other objects hold.
    #[must_use]
    pub fn candidates<'a>(&self, inventory: &'a Inventory) -> Vec<&'a Version> {
        // before the marker: the annotation is the user's answer where markers lead nowhere
        if let Some(id) = self.adopt_id() {
            return inventory.version(id).into_iter().collect();
        }
        let marker = self.marker();
        let ours: Vec<&Version> = inventory.by_marker(&marker).collect();
        // one marker is enough: a version that only has the name may be another owner's
        if !ours.is_empty() {
            return ours;
        }
        let name = self.object.version_name();
        let description = marker.append_to(self.object.spec.description.as_deref());
        // what had the name before the intent cannot come from its request
        let existing = self.pending_create().map(|create| create.existing_ids.as_slice()).unwrap_or_default();
        let unmarked = inventory
            .with_unreadable_marker(name, &description)
            .filter(|version| !existing.iter().any(|id| id == version.id.as_str()))
            .collect();
        let hint = self.pending_create().and_then(|create| create.version_id.as_deref());
        self.narrowed_by_hint(unmarked, hint)
    }

    /// Of versions without a marker, the one that the answer to the create names. While it may be listed late none counts;
    /// after the search the answer has named something else.
    fn narrowed_by_hint<'a>(&self, unmarked: Vec<&'a Version>, hint: Option<&str>) -> Vec<&'a Version> {
        let named = unmarked.iter().find(|version| Some(version.id.as_str()) == hint);
        match named {
            Some(&version) => vec![version],
            None if hint.is_some() && self.create_state() != CreateState::SearchExpired => Vec::new(),
            None => unmarked,
        }
    }

    /// The version that an accepted create made, as the list shows it; `hint` is the id in the answer.
    pub(super) fn created_version<'a>(
        &self,
        inventory: &'a Inventory,
        hint: Option<&str>,
    ) -> Option<&'a Version> {
        let free = self.free_candidates(inventory);
        let named = free.iter().find(|version| Some(version.id.as_str()) == hint);
        match (named, free.as_slice()) {
            (Some(&version), _) => Some(version),
            // a name alone does not contradict the answer: what that names may be listed late
            (None, &[version]) if version.marker().is_some() || hint.is_none() => Some(version),
            _ => None,
        }
    }

    /// The candidates that no other object holds.
    pub(super) fn free_candidates<'a>(&self, inventory: &'a Inventory) -> Vec<&'a Version> {
        self.candidates(inventory).into_iter().filter(|version| self.is_free(version)).collect()
    }

    fn is_free(&self, version: &Version) -> bool {
        !self.held_by_others.contains(version.id.as_str())
    }

    /// The candidate that is this object's, if there is exactly one that no other object holds.
    #[must_use]
    pub fn sole_match<'a>(&self, inventory: &'a Inventory) -> Option<&'a Version> {
        match self.free_candidates(inventory).as_slice() {
            [version] => Some(version),
            _ => None,
        }
    }

    /// Other versions with this object's marker: their creates took effect after the search for them had ended.
    pub(super) fn duplicates(&self) -> Vec<String> {
        let (ServiceView::Available { inventory, .. }, Some(id)) = (&self.service, self.object.version_id())
        else {
            return Vec::new();
        };
        let marker = self.marker();
        let ours = inventory.by_marker(&marker).map(|version| version.id.as_str());
        let mut others: Vec<String> = ours.filter(|other| *other != id).map(str::to_owned).collect();
        // the service promises no order, and another order would be another status
        others.sort();
        others.truncate(ChatbotVersionStatus::MAX_DUPLICATES);
        others
    }

    pub(super) fn adopt_id(&self) -> Option<&str> {
        annotation_value(&self.object.metadata, annotation::ADOPT_ID)
    }

    pub(super) fn is_being_deleted(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_some()
    }

    /// Whether this process or a `ChatbotDeployment` requested its deletion within the visibility grace.
    pub(super) fn is_deletion_pending(&self, id: &str) -> bool {
        let statuses = self.deployments.iter().filter_map(|deployment| deployment.status.as_ref());
        let mut records = statuses.flat_map(|status| &status.common.last_operations);
        self.deletion_pending.contains(id)
            || records.any(|record| {
                record.version_id.as_deref() == Some(id)
                    && is_pending_delete(record, self.now, self.config.visibility_grace)
            })
    }

    /// Whether the service accepted the request of the recorded intent, though it returned no id.
    pub(super) fn is_create_accepted(&self) -> bool {
        let start = self.pending_create().map(|create| &create.start_time);
        self.status().common.last_operations.iter().any(|record| {
            // not the record of an earlier attempt; `>=`, because both times are whole seconds
            record.operation == Operation::Create
                && record.result == OperationResult::Accepted
                && start.is_some_and(|start| record.completion_time.0 >= start.0)
        })
    }

    /// Whether the version was created within the visibility grace before the list was requested, `list_age` ago.
    fn is_newly_created(&self, list_age: Duration) -> bool {
        // against the request of the list, not against now: a list from before the create cannot show the version,
        // however late this reconcile comes
        self.status().common.last_operations.iter().any(|record| {
            // objects keep whole seconds: up to one second less has passed
            let at_list =
                elapsed(&record.completion_time, self.now).saturating_sub(list_age + Duration::from_secs(1));
            record.operation == Operation::Create && at_list <= self.config.visibility_grace
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{FOREIGN, OURS, THEIRS, seconds_ago, version};
    use super::*;
    use crate::crd::Operation;

    fn matched(observation: &Observation) -> Match {
        observation.state().matched
    }

    #[test]
    fn the_marker_decides_whose_version_it_is() {
        let new = Observation::test();
        assert_eq!(matched(&new.clone().listing(vec![version("v1", OURS)])), Match::Single);
        assert_eq!(matched(&new.clone().listing(vec![version("v1", THEIRS)])), Match::None);
        let twins = vec![version("v1", OURS), version("v2", OURS)];
        assert_eq!(matched(&new.listing(twins)), Match::Ambiguous);
    }

    #[test]
    fn a_name_alone_counts_only_after_a_request_that_may_have_been_sent() {
        let listing = |observation: Observation| observation.listing(vec![version("v1", "")]);
        assert_eq!(matched(&listing(Observation::test())), Match::Unmarked);
        assert_eq!(matched(&listing(Observation::test().may_create())), Match::Unmarked);
        assert_eq!(matched(&listing(Observation::test().with_intent(&[]))), Match::Single);
        assert_eq!(
            matched(&listing(Observation::test().with_intent(&["v1"]))),
            Match::None,
            "it existed before"
        );
    }

    #[test]
    fn a_version_that_another_object_holds_is_not_adopted() {
        let mut twins = Observation::test().listing(vec![version("v1", OURS), version("v2", OURS)]);
        twins.held_by_others.insert("v1".to_owned());
        assert_eq!(matched(&twins), Match::Single);
        assert_eq!(twins.step(), super::super::Step::Adopt);
        assert_eq!(twins.report().status.version_id.as_deref(), Some("v2"));
    }

    #[test]
    fn an_accepted_create_without_a_version_is_not_sent_again() {
        let expired = Observation::test().searching(31);
        assert_eq!(matched(&expired), Match::None);
        assert_eq!(matched(&expired.clone().after(Operation::Create, None, 30)), Match::Ambiguous);
        let earlier = Observation::test().searching(31).after(Operation::Create, None, 90);
        assert_eq!(matched(&earlier), Match::None, "the answer was to an earlier attempt");
        let refused = expired.clone().after(Operation::Create, None, 30).with_status(|status| {
            status.common.last_operations[0].result = OperationResult::Refused;
        });
        assert_eq!(matched(&refused), Match::None);
        assert_eq!(matched(&expired.after(Operation::Delete, None, 30)), Match::None);
    }

    #[test]
    fn adopt_id_names_a_listed_version_of_no_other_object() {
        let adopt = |id: &str| {
            let listed = vec![version("v1", ""), version("v2", FOREIGN), version("v4", THEIRS)];
            matched(&Observation::test().listing(listed).annotated(annotation::ADOPT_ID, id))
        };
        assert_eq!(adopt("v1"), Match::Single);
        assert_eq!(adopt("v2"), Match::AdoptConflict);
        assert_eq!(adopt("v3"), Match::AdoptMissing);
        assert_eq!(adopt("v4"), Match::Single, "the object has another name now");
        let mut named = Observation::test().annotated(annotation::ADOPT_ID, "v1");
        named = named.listing(vec![version("v1", OURS)]);
        assert_eq!(matched(&named), Match::Single);
        named.held_by_others.insert("v1".to_owned());
        assert_eq!(matched(&named), Match::AdoptConflict);
    }

    #[test]
    fn adopt_id_replaces_a_recorded_version_that_is_lost() {
        let named = |listed: &[&str]| {
            let listed = listed.iter().map(|id| version(id, "")).collect();
            Observation::test().recorded("v1").listing(listed).annotated(annotation::ADOPT_ID, "v2")
        };
        assert_eq!(matched(&named(&["v2"])), Match::Single);
        assert_eq!(named(&["v2"]).report().status.version_id.as_deref(), Some("v2"));
        assert_eq!(matched(&named(&["v1", "v2"])), Match::Present, "it is not lost");
        assert_eq!(matched(&named(&["v3"])), Match::Missing);
        let mut held = named(&["v2"]);
        assert_eq!(
            held.candidates_to_check(&Inventory::new(vec![version("v2", "")], std::time::Instant::now()))
                .len(),
            1
        );
        held.held_by_others.insert("v2".to_owned());
        assert_eq!(matched(&held), Match::Missing);
        assert_eq!(matched(&named(&["v2"]).deleted(1)), Match::Missing, "it may be from an earlier version");
    }

    #[test]
    fn a_recorded_version_with_the_marker_of_another_owner_is_not_the_objects() {
        let recorded = |marker| Observation::test().recorded("v1").listing(vec![version("v1", marker)]);
        assert_eq!(matched(&recorded(FOREIGN)), Match::ForeignMarker);
        for marker in [OURS, THEIRS, ""] {
            assert_eq!(matched(&recorded(marker)), Match::Present, "{marker}");
        }
        let report = recorded(FOREIGN).report();
        assert_eq!(report.ready().0, "Conflict");
        assert!(report.ready().1.contains("owner id \"other\""), "{}", report.ready().1);
    }

    #[test]
    fn a_version_that_was_created_a_moment_ago_is_not_missing() {
        let created =
            |seconds| Observation::test().recorded("v1").after(Operation::Create, Some("v1"), seconds);
        assert_eq!(matched(&created(31)), Match::NotYetListed, "up to a second is lost to rounding");
        assert_eq!(matched(&created(32)), Match::Missing);
        assert_eq!(matched(&created(31).listing(vec![version("v1", OURS)])), Match::Present);
    }

    #[test]
    fn a_version_whose_deletion_is_pending_is_recorded_but_not_available() {
        let mut listed = Observation::test().listing(vec![version("v1", OURS)]);
        listed.deletion_pending.insert("v1".to_owned());
        assert_eq!(matched(&listed), Match::Single);
        let report = listed.report();
        assert_eq!(report.ready().0, "WaitingForDeletion");
        assert_eq!(report.status.version_id.as_deref(), Some("v1"));
        let recorded = listed.with_status(|status| *status = report.status);
        assert_eq!(matched(&recorded), Match::DeletionPending);
        assert_eq!(recorded.report().ready().0, "WaitingForDeletion");
        assert_eq!(recorded.listing(vec![]).report().ready().0, "VersionLost", "it took effect");
    }

    #[test]
    fn a_deletion_that_a_deployment_requested_is_pending() {
        let by_deployment = |operation: &str, id: &str| {
            let record = serde_json::json!({
                "operation": operation, "versionId": id, "result": "Accepted", "completionTime": seconds_ago(5),
            });
            let listed = Observation::test().recorded("v1").listing(vec![version("v1", OURS)]);
            matched(&listed.managed_by(&serde_json::json!({"lastOperations": [record]})))
        };
        assert_eq!(by_deployment("Delete", "v1"), Match::DeletionPending);
        assert_eq!(by_deployment("Delete", "v2"), Match::Present);
        assert_eq!(by_deployment("Deploy", "v1"), Match::Present);
    }
}
