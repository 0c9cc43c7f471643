//! Everything that one reconcile has read, and how it becomes the few values of [`State`].

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, LazyLock},
    time::Duration,
};

use jiff::Timestamp;

use super::{CreateState, Deletion, State, messages};
use crate::{
    chatcaptain::{Marker, NewVersion, Version},
    crd::{
        ChatbotDeployment, ChatbotVersion, ChatbotVersionStatus, DeletionPolicy, Environment, FINALIZER,
        LiveEnvironment, Operation, OperationRecord, OperationResult, PendingCreate, annotation,
    },
    plan::{
        MarkerOwner, PlanConfig, ServiceView, Unavailable, UnavailableReason, annotation_value, elapsed,
        is_pending_delete, marker_owner, reconcile_requested, status::is_backing_off,
    },
};

/// Everything that one reconcile has read.
#[derive(Clone)]
pub struct Observation {
    /// The object, as the cache or this reconcile's last write shows it.
    pub object: Arc<ChatbotVersion>,
    /// What the service answers.
    pub service: ServiceView,
    /// This process holds the permit for the recorded intent: its create request is not sent yet.
    pub may_call: bool,
    /// For how long this process has searched the list for what the recorded intent may have created.
    pub search_elapsed: Duration,
    /// The ids among the candidates that other objects hold.
    pub held_by_others: HashSet<String>,
    /// The ids among the versions to check whose deletion this process requested within the visibility grace.
    pub deletion_pending: HashSet<String>,
    /// An older object that holds the recorded version, as `namespace/name`.
    pub older_claim: Option<String>,
    /// An older object is creating a version with the same name, and versions differ only by name.
    pub older_create_pending: bool,
    /// Every `ChatbotDeployment` of the chatbot, in whatever namespace, also those that are being deleted.
    pub deployments: Vec<Arc<ChatbotDeployment>>,
    /// The deployments that decide what this chatbot's environments run.
    pub environment_owners: BTreeMap<LiveEnvironment, Arc<ChatbotDeployment>>,
    /// The namespace's `deletion-policy` annotation; read only while the object is being deleted.
    pub namespace_policy: Option<String>,
    /// The CRD is being deleted, and every object with it; read only while the object is being deleted.
    pub crd_is_being_deleted: bool,
    /// The operator's flags.
    pub config: Arc<PlanConfig>,
    /// The time of this reconcile, in whole seconds as objects keep it.
    pub now: Timestamp,
    /// A random id, should an intent be recorded.
    pub attempt_id: String,
    /// Randomness that spreads delays, 0 to 1.
    pub jitter: f64,
}

impl Observation {
    /// Takes note of what the service answers.
    pub fn set_service(&mut self, service: ServiceView) {
        self.service = service;
        if self.is_unidentified() {
            // no answer about this object, though it is one about all others
            self.service = ServiceView::Unavailable(Unavailable {
                reason: UnavailableReason::VersionUnidentified,
                message: messages::version_unidentified(self.object.version_name()),
                retry_after: None,
            });
        }
    }

    /// Whether the object's version is listed without an id.
    fn is_unidentified(&self) -> bool {
        let ServiceView::Available { inventory, .. } = &self.service else {
            return false;
        };
        let new = self.new_version();
        // one that is listed by its id is not the other
        self.listed().is_none() && inventory.has_unidentified(&self.marker(), &new.name, &new.description)
    }

    /// What matters for the next step.
    #[must_use]
    pub fn state(&self) -> State {
        let meta = &self.object.metadata;
        let status = self.status();
        let create_state = self.create_state();
        State {
            suspended: self.object.spec.suspend == Some(true),
            deleting: meta.deletion_timestamp.is_some().then(|| self.deletion()),
            finalizer: meta.finalizers.iter().flatten().any(|f| f == FINALIZER),
            conflict: self.older_claim.is_some(),
            older_create_pending: self.older_create_pending,
            ran_before: self.reclaimable().is_some(),
            recreate_requested: annotation_value(meta, annotation::RECREATE)
                .is_some_and(|token| status.last_handled_recreate.as_deref() != Some(token)),
            backing_off: is_backing_off(&status.common, meta, self.now),
            create_state,
            matched: self.matched(create_state),
        }
    }

    /// The status; that of a new object is empty.
    #[must_use]
    pub fn status(&self) -> &ChatbotVersionStatus {
        // borrowed, because most reconciles change nothing and need no copy
        static NEW: LazyLock<ChatbotVersionStatus> = LazyLock::new(Default::default);
        self.object.status.as_ref().unwrap_or(&NEW)
    }

    /// The line in the description of a version that makes it this object's.
    #[must_use]
    pub fn marker(&self) -> Marker {
        let meta = &self.object.metadata;
        let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
        Marker::new(&self.config.owner_id, namespace.unwrap_or_default(), name.unwrap_or_default())
    }

    /// Whom the marker of a version names.
    pub(super) fn marker_owner(&self, version: &Version) -> MarkerOwner {
        let meta = &self.object.metadata;
        let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
        marker_owner(version, &self.config.owner_id, namespace.unwrap_or_default(), name.unwrap_or_default())
    }

    /// The owner id in the marker of a version, if it is another installation's.
    pub(super) fn foreign_owner(&self, version: &Version) -> Option<String> {
        match self.marker_owner(version) {
            MarkerOwner::OtherOwner(owner) => Some(owner),
            MarkerOwner::Unmarked | MarkerOwner::ThisObject | MarkerOwner::OtherObject(_) => None,
        }
    }

    /// What the create request asks for. Where a `ChatbotDeployment` manages the environment, the version is created for
    /// `dev`: a create for test or prod also deploys, and would move that environment before git says so.
    #[must_use]
    pub fn new_version(&self) -> NewVersion {
        let requested = self.object.environment();
        let is_managed = requested
            .deploys_to()
            .is_some_and(|environment| self.environment_owners.contains_key(&environment));
        NewVersion {
            name: self.object.version_name().to_owned(),
            description: self.marker().append_to(self.object.spec.description.as_deref()),
            environment: if is_managed { Environment::Dev.as_str() } else { requested.as_str() },
        }
    }

    /// The recorded version as the service lists it.
    #[must_use]
    pub fn listed(&self) -> Option<&Version> {
        let ServiceView::Available { inventory, .. } = &self.service else {
            return None;
        };
        inventory.version(self.object.version_id()?)
    }

    pub(super) fn pending_create(&self) -> Option<&PendingCreate> {
        self.status().pending_create.as_ref()
    }

    pub(super) fn create_state(&self) -> CreateState {
        match self.pending_create() {
            None if self.object.version_id().is_some() => CreateState::Created,
            None => CreateState::NotStarted,
            // before all times: who holds the permit has sent nothing, however old the intent is
            Some(_) if self.may_call => CreateState::IntentRecorded,
            Some(create) if create.search_start_time.is_none() => CreateState::OutcomeUnknown,
            Some(_) if self.search_elapsed > self.config.visibility_grace => CreateState::SearchExpired,
            Some(_) => CreateState::Searching,
        }
    }

    /// Whether the object's deletion deletes the version, too. Uninstalling keeps it, whatever the object says.
    #[must_use]
    pub fn deletion_policy(&self) -> DeletionPolicy {
        if self.crd_is_being_deleted {
            return DeletionPolicy::Retain;
        }
        let namespace = self.namespace_policy.as_deref();
        DeletionPolicy::of(self.object.spec.deletion_policy, namespace, self.config.deletion_policy)
    }

    /// The namespace's policy, if it cannot be parsed and is the only reason why a version of ours stays: nothing asked for
    /// that, so an event reports it.
    pub(super) fn invalid_namespace_policy(&self) -> Option<&str> {
        let spec = &self.object.spec;
        // then the value in the namespace decides nothing, so it is not worth an event
        let stays_anyway =
            spec.deletion_policy.is_some() || spec.suspend == Some(true) || self.crd_is_being_deleted;
        let has_version = self.older_claim.is_none()
            && (self.object.version_id().is_some() || self.pending_create().is_some());
        let policy = self.namespace_policy.as_deref().filter(|_| has_version && !stays_anyway);
        policy.filter(|text| text.parse::<DeletionPolicy>().is_err())
    }

    fn deletion(&self) -> Deletion {
        let meta = &self.object.metadata;
        let pending =
            |record: &OperationRecord| is_pending_delete(record, self.now, self.config.visibility_grace);
        Deletion {
            // for a version that stays the service is not queried; that it is unavailable then means that the namespace's
            // policy could not be read, which is not Retain
            delete_version: self.deletion_policy() == DeletionPolicy::Delete
                || matches!(self.service, ServiceView::Unavailable(_)),
            force_orphan: annotation_value(meta, annotation::FORCE_ORPHAN).is_some(),
            timed_out: self.is_deletion_timed_out(),
            delete_pending: self.status().common.last_operations.iter().any(pending),
            delete_confirmed: self.has_delete(OperationResult::Accepted),
            delete_refused: self.has_delete(OperationResult::Refused),
            account_known: matches!(self.service, ServiceView::Available { authoritative: true, .. }),
            live_state: self.live_state(),
        }
    }

    /// More than `--deletion-timeout` ago, the deletion of the object was requested.
    pub(super) fn is_deletion_timed_out(&self) -> bool {
        let since = self.object.metadata.deletion_timestamp.as_ref();
        since.is_some_and(|since| elapsed(since, self.now) > self.config.deletion_timeout)
    }

    /// Whether our last delete of the version ended so. By the status, which a process that was started since knows, too.
    fn has_delete(&self, result: OperationResult) -> bool {
        let id = self.object.version_id();
        let mut records = self.status().common.last_operations.iter();
        let last = records
            .find(|record| record.operation == Operation::Delete && record.version_id.as_deref() == id);
        last.is_some_and(|record| record.result == result)
    }

    /// How old the service's answers may be for this object.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.config.interval(self.object.spec.interval)
    }

    /// The `reconcile-requested-at` annotation has a token that was not acted on yet.
    #[must_use]
    pub fn is_reconcile_requested(&self) -> bool {
        let handled = self.status().common.last_handled_reconcile_at.as_deref();
        reconcile_requested(&self.object.metadata, handled)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{
        super::{
            Step,
            fixtures::{OURS, THEIRS, version},
        },
        *,
    };
    use crate::{
        chatcaptain::{Inventory, UnidentifiedVersion},
        plan::version::{FinalizerRemoval, Wait},
    };

    #[test]
    fn a_search_begins_recorded_and_lasts_longer_than_the_grace() {
        assert_eq!(Observation::test().with_intent(&[]).state().create_state, CreateState::OutcomeUnknown);
        assert_eq!(Observation::test().searching(30).state().create_state, CreateState::Searching);
        assert_eq!(Observation::test().searching(31).state().create_state, CreateState::SearchExpired);
    }

    #[test]
    fn a_version_that_is_listed_without_an_id_stops_its_object_alone() {
        let reason = |mut observation: Observation, description: &str| {
            let ServiceView::Available { inventory, .. } = &mut observation.service else { return None };
            let entry = UnidentifiedVersion { name: None, description: Some(description.into()) };
            let versions = inventory.versions().to_vec();
            let list = Inventory::new(versions, Instant::now()).with_unidentified(vec![entry]);
            *inventory = Arc::new(list);
            let service = observation.service.clone();
            observation.set_service(service);
            match &observation.service {
                ServiceView::Unavailable(unavailable) => Some(unavailable.reason),
                _ => None,
            }
        };
        let unidentified = Some(UnavailableReason::VersionUnidentified);
        assert_eq!(reason(Observation::test().listing(vec![]), OURS), unidentified);
        assert_eq!(reason(Observation::test().recorded("v1").listing(vec![]), OURS), unidentified);
        assert_eq!(reason(Observation::test().listing(vec![]), THEIRS), None);
        let listed = Observation::test().recorded("v1").listing(vec![version("v1", OURS)]);
        assert_eq!(reason(listed, OURS), None, "its own version has an id");
    }

    #[test]
    fn each_token_of_recreate_counts_once() {
        let asked = Observation::test().annotated(annotation::RECREATE, "1");
        assert!(asked.state().recreate_requested);
        let handled = |token: &str| {
            let asked = asked.clone();
            asked
                .with_status(|status| status.last_handled_recreate = Some(token.to_owned()))
                .state()
                .recreate_requested
        };
        assert!(!handled("1"));
        assert!(handled("0"), "it is a new one");
    }

    #[test]
    fn an_invalid_namespace_policy_counts_where_it_alone_keeps_a_version() {
        let policy = |observation: Observation| {
            let observation = Observation { namespace_policy: Some("delete".to_owned()), ..observation };
            observation.invalid_namespace_policy().map(str::to_owned)
        };
        let recorded = || Observation::test().recorded("v1");
        let invalid = Some("delete".to_owned());
        assert_eq!(policy(recorded()), invalid);
        assert_eq!(policy(Observation::test().with_intent(&[])), invalid, "a version may have been created");
        assert_eq!(policy(Observation::test()), None, "there is no version");
        assert_eq!(policy(recorded().with(|o| o.spec.suspend = Some(true))), None);
        assert_eq!(policy(recorded().with(|o| o.spec.deletion_policy = Some(DeletionPolicy::Retain))), None);
        let younger = Observation { older_claim: Some("chatbots/older".to_owned()), ..recorded() };
        assert_eq!(policy(younger), None, "it is the version of another object");
    }

    #[test]
    fn a_version_is_gone_once_our_delete_is_confirmed_and_it_is_not_listed() {
        let deleted = || Observation::test().recorded("v1").deleted(60);
        assert_eq!(deleted().step(), Step::Delete, "the list may be cut");
        let confirmed = |observation: Observation| observation.after(Operation::Delete, Some("v1"), 40);
        let proven = Step::RemoveFinalizer(FinalizerRemoval::Deleted);
        assert_eq!(confirmed(deleted()).step(), proven);
        assert_eq!(confirmed(deleted().with_unknown_account()).step(), proven, "after a restart");
        let ended = |result| {
            confirmed(deleted()).with_status(|status| status.common.last_operations[0].result = result)
        };
        for unproven in [
            deleted().after(Operation::Delete, Some("v2"), 40),
            deleted().after(Operation::Create, Some("v1"), 40),
            ended(OperationResult::Unknown),
            ended(OperationResult::Refused),
        ] {
            assert_eq!(unproven.step(), Step::Delete, "{:?}", unproven.status());
        }
        assert_eq!(
            deleted().with_unknown_account().step(),
            Step::Wait(Wait::Deleting),
            "it may be another's key"
        );
    }
}
