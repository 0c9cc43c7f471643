//! From everything that was looked at to the few things that matter.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, LazyLock},
    time::Duration,
};

use jiff::Timestamp;

use super::{CreateState, Deletion, LiveState, Match, State};
use crate::{
    chatcaptain::{Inventory, Marker, NewVersion, Version},
    crd::{
        ChatbotDeployment, ChatbotDeploymentStatus, ChatbotVersion, ChatbotVersionStatus, DeletionPolicy,
        Environment, FINALIZER, LiveEnvironment, Operation, OperationRecord, OperationResult, PendingCreate,
        annotation,
    },
    plan::{
        PlanConfig, ServiceView, annotation_value, deployment::possibly_live, elapsed, is_pending_delete,
        reconcile_requested, status::is_backing_off,
    },
};

/// Everything that was looked at for one pass.
#[derive(Clone)]
pub struct Observation {
    /// The object.
    pub object: Arc<ChatbotVersion>,
    /// What the service told.
    pub service: ServiceView,
    /// This process wrote the open intent and has not sent the create yet.
    pub may_call: bool,
    /// For how long this process has watched the list for what the open intent's create may have made.
    pub search_elapsed: Duration,
    /// The ids among the candidates that other objects hold.
    pub held_by_others: HashSet<String>,
    /// The ids among the candidates whose deletion this process called for within the grace.
    pub deletion_pending: HashSet<String>,
    /// An older object that holds the same id, as `namespace/name`.
    pub older_claim: Option<String>,
    /// An older object wants a version of the same name and its create is not settled.
    pub older_create_pending: bool,
    /// The deployments that decide this bot's environments.
    pub environment_owners: BTreeMap<LiveEnvironment, Arc<ChatbotDeployment>>,
    /// What the namespace says of deletion, where the version does not say so itself.
    pub namespace_policy: Option<String>,
    /// The flags.
    pub config: Arc<PlanConfig>,
    /// Whole seconds.
    pub now: Timestamp,
    /// A random id for a new attempt.
    pub attempt_id: String,
    /// Randomness for backoff, 0 to 1.
    pub jitter: f64,
}

impl Observation {
    /// What matters.
    #[must_use]
    pub fn state(&self) -> State {
        let meta = &self.object.metadata;
        let status = self.status();
        let record = self.create_state();
        State {
            suspended: self.object.spec.suspend == Some(true),
            deleting: meta.deletion_timestamp.is_some().then(|| self.deletion()),
            finalizer: meta.finalizers.iter().flatten().any(|f| f == FINALIZER),
            conflict: self.older_claim.is_some(),
            older_create_pending: self.older_create_pending,
            recreate: annotation_value(meta, annotation::RECREATE)
                .is_some_and(|token| status.last_handled_recreate.as_deref() != Some(token)),
            backing_off: is_backing_off(&status.common, meta, self.now),
            create_state: record,
            matched: self.matched(record),
        }
    }

    /// The status as it stands; that of a newborn is empty.
    #[must_use]
    pub fn status(&self) -> &ChatbotVersionStatus {
        static NEWBORN: LazyLock<ChatbotVersionStatus> = LazyLock::new(Default::default);
        self.object.status.as_ref().unwrap_or(&NEWBORN)
    }

    /// The line that marks this object's version.
    #[must_use]
    pub fn marker(&self) -> Marker {
        let meta = &self.object.metadata;
        let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
        Marker::new(&self.config.owner_id, namespace.unwrap_or_default(), name.unwrap_or_default())
    }

    /// What a create sends. Where a deployment decides the environment, the version is created for `dev`:
    /// a create that deploys would move that environment before git says so.
    #[must_use]
    pub fn new_version(&self) -> NewVersion {
        let asked = self.object.spec.environment.unwrap_or(Environment::Dev);
        let claimed =
            asked.deploys_to().is_some_and(|environment| self.environment_owners.contains_key(&environment));
        NewVersion {
            name: self.object.version_name().to_owned(),
            description: self.marker().append_to(self.object.spec.description.as_deref()),
            environment: if claimed { Environment::Dev.as_str() } else { asked.as_str() },
        }
    }

    /// The known version as the service lists it.
    #[must_use]
    pub fn listed(&self) -> Option<&Version> {
        let ServiceView::Available { inventory, .. } = &self.service else {
            return None;
        };
        inventory.version(self.object.version_id()?)
    }

    /// The versions of the list that could be this object's, whoever holds them.
    #[must_use]
    pub fn candidates<'a>(&self, inventory: &'a Inventory) -> Vec<&'a Version> {
        if let Some(id) = annotation_value(&self.object.metadata, annotation::ADOPT_ID) {
            return inventory.version(id).into_iter().collect();
        }
        let marker = self.marker();
        let ours: Vec<&Version> = inventory.by_marker(&marker).collect();
        if !ours.is_empty() {
            return ours;
        }
        let name = self.object.version_name();
        let sent = marker.append_to(self.object.spec.description.as_deref());
        let known = self.pending_create().map(|intent| intent.existing_ids.as_slice()).unwrap_or_default();
        inventory
            .with_unreadable_marker(name, &sent)
            .filter(|version| !known.iter().any(|id| id == version.id.as_str()))
            .collect()
    }

    /// Other versions with this object's marker: their creates took effect after everybody had given up on them.
    pub(super) fn duplicates(&self) -> Vec<String> {
        let (ServiceView::Available { inventory, .. }, Some(id)) = (&self.service, self.object.version_id())
        else {
            return Vec::new();
        };
        let marker = self.marker();
        let ours = inventory.by_marker(&marker).map(|version| version.id.as_str());
        let mut others: Vec<String> = ours.filter(|other| *other != id).map(str::to_owned).collect();
        // the service promises no order
        others.sort();
        others.truncate(ChatbotVersionStatus::MAX_DUPLICATES);
        others
    }

    /// The one version that is this object's though status does not say so yet.
    #[must_use]
    pub fn sole_match<'a>(&self, inventory: &'a Inventory) -> Option<&'a Version> {
        let mut ours =
            self.candidates(inventory).into_iter().filter(|v| !self.held_by_others.contains(v.id.as_str()));
        ours.next().filter(|_| ours.next().is_none())
    }

    pub(super) fn pending_create(&self) -> Option<&PendingCreate> {
        self.object.status.as_ref()?.pending_create.as_ref()
    }

    pub(super) fn create_state(&self) -> CreateState {
        if self.object.version_id().is_some() && self.pending_create().is_none() {
            return CreateState::Created;
        }
        match self.pending_create() {
            None => CreateState::NotStarted,
            Some(_) if self.may_call => CreateState::IntentRecorded,
            Some(PendingCreate { search_start_time: None, .. }) => CreateState::OutcomeUnknown,
            Some(_) if self.search_elapsed > self.config.visibility_grace => CreateState::SearchExpired,
            Some(_) => CreateState::Searching,
        }
    }

    fn matched(&self, record: CreateState) -> Match {
        let (inventory, age) = match &self.service {
            ServiceView::NotQueried => return Match::NotQueried,
            ServiceView::Unavailable(obstacle) => return Match::Unavailable(obstacle.reason),
            ServiceView::Available { inventory, age, .. } => (inventory, *age),
        };
        if record == CreateState::Created {
            return match self.listed() {
                Some(_) => Match::Present,
                None if self.is_newly_created(age) => Match::NotYetListed,
                None => Match::Missing,
            };
        }
        if let Some(id) = annotation_value(&self.object.metadata, annotation::ADOPT_ID) {
            return self.match_adoption(inventory, id);
        }
        let all = self.candidates(inventory);
        if all.iter().any(|version| self.is_deletion_pending(version.id.as_str())) {
            return Match::DeletionPending;
        }
        let readable = all.iter().any(|version| version.marker().is_some());
        let free = all.iter().filter(|version| !self.held_by_others.contains(version.id.as_str())).count();
        match (free, record) {
            // the service said yes: there is one, and another create would make a second
            (0, CreateState::SearchExpired) if self.create_was_accepted() => Match::Multiple,
            (0, _) => Match::None,
            // without a marker it only counts if it came after an intent whose create may be out
            (_, CreateState::NotStarted | CreateState::IntentRecorded) if !readable => Match::Unmarked,
            (1, _) => Match::Single,
            _ => Match::Multiple,
        }
    }

    /// This process or a deployment has called for its deletion within the grace.
    fn is_deletion_pending(&self, id: &str) -> bool {
        let slots = self.environment_owners.values().filter_map(|slot| slot.status.as_ref());
        self.deletion_pending.contains(id)
            || slots.flat_map(|status| &status.common.last_operations).any(|record| {
                record.version_id.as_deref() == Some(id)
                    && is_pending_delete(record, self.now, self.config.visibility_grace)
            })
    }

    /// The create of the open intent was answered with yes, though not with an id.
    fn create_was_accepted(&self) -> bool {
        let since = self.pending_create().map(|intent| &intent.start_time);
        self.status().common.last_operations.iter().any(|record| {
            record.operation == Operation::Create
                && record.result == OperationResult::Accepted
                && since.is_some_and(|since| record.completion_time.0 >= since.0)
        })
    }

    fn match_adoption(&self, inventory: &Inventory, id: &str) -> Match {
        match inventory.version(id) {
            None => Match::AdoptMissing,
            Some(_) if self.held_by_others.contains(id) => Match::AdoptConflict,
            Some(version) => match version.marker() {
                Some(marker) if marker != self.marker().as_str() => Match::AdoptConflict,
                _ => Match::Single,
            },
        }
    }

    /// Recorded so lately, when the list was taken, that the service may not have listed it yet.
    fn is_newly_created(&self, age: Duration) -> bool {
        let status = self.object.status.as_ref();
        status.into_iter().flat_map(|status| &status.common.last_operations).any(|record| {
            // objects keep whole seconds: up to one second less has passed
            let until_listed =
                elapsed(&record.completion_time, self.now).saturating_sub(age + Duration::from_secs(1));
            record.operation == Operation::Create && until_listed <= self.config.visibility_grace
        })
    }

    /// What a deletion means.
    #[must_use]
    pub fn deletion_policy(&self) -> DeletionPolicy {
        let namespace = self.namespace_policy.as_deref();
        DeletionPolicy::of(self.object.spec.deletion_policy, namespace, self.config.deletion_policy)
    }

    /// What the namespace says, if it is no policy and nothing else keeps the version.
    pub(super) fn invalid_namespace_policy(&self) -> Option<&str> {
        let spec = &self.object.spec;
        let asked = spec.deletion_policy.is_some() || spec.suspend == Some(true);
        let ours = self.older_claim.is_none()
            && (self.object.version_id().is_some() || self.pending_create().is_some());
        let said = self.namespace_policy.as_deref().filter(|_| ours && !asked);
        said.filter(|text| text.parse::<DeletionPolicy>().is_err())
    }

    fn deletion(&self) -> Deletion {
        let meta = &self.object.metadata;
        let since = meta.deletion_timestamp.as_ref();
        let pending =
            |record: &OperationRecord| is_pending_delete(record, self.now, self.config.visibility_grace);
        Deletion {
            // what is kept is not looked at: if that was in vain, it may be the namespace that could not be read
            delete_version: self.deletion_policy() == DeletionPolicy::Delete
                || matches!(self.service, ServiceView::Unavailable(_)),
            force_orphan: annotation_value(meta, annotation::FORCE_ORPHAN).is_some(),
            timed_out: since.is_some_and(|since| elapsed(since, self.now) > self.config.deletion_timeout),
            delete_pending: self.status().common.last_operations.iter().any(pending),
            absence_proven: matches!(self.service, ServiceView::Available { authoritative: true, .. })
                || self.is_deletion_accepted(),
            live_state: self.live_state(),
        }
    }

    /// The service accepted our delete: a list without the version is proof then, even to a process that was
    /// started since and has never seen the version listed.
    fn is_deletion_accepted(&self) -> bool {
        let id = self.object.version_id();
        self.status().common.last_operations.iter().any(|record| {
            record.operation == Operation::Delete
                && record.result == OperationResult::Accepted
                && record.version_id.as_deref() == id
        })
    }

    fn live_state(&self) -> LiveState {
        let Some(id) = self.object.version_id() else {
            return LiveState::NotLive;
        };
        let live_in = self.live_in();
        let mut live = live_in.clone().unwrap_or_default();
        for (&environment, slot) in &self.environment_owners {
            // a rollout under way makes it live in a moment
            let runs = slot.status.as_ref().is_some_and(|status| {
                status.current_operation.as_ref().is_some_and(|operation| operation.version_id == id)
                    || possibly_live(status, self.now, &self.config).any(|coming| coming == id)
                    || (live_in.is_none()
                        && status.active.as_ref().is_some_and(|active| active.version_id == id))
            });
            if runs && !live.contains(&environment) {
                live.push(environment);
            }
        }
        if live.is_empty() && matches!(self.service, ServiceView::Available { rollout_pending: true, .. }) {
            // whoever called for it may be gone, and what is called for runs in a moment
            return LiveState::HandoverPending;
        }
        if live.is_empty() {
            return if live_in.is_some() || self.is_not_deployed() {
                LiveState::NotLive
            } else {
                LiveState::Unknown
            };
        }
        let takers: Vec<_> =
            live.iter().map(|environment| self.environment_owners.get(environment)).collect();
        let taken = |slot: &Arc<ChatbotDeployment>| {
            slot.status
                .as_ref()
                .is_some_and(|status| status.pending_deletions.iter().any(|r| r.version_id == id))
        };
        let full = |slot: &Arc<ChatbotDeployment>| {
            let noted = slot.status.as_ref().map_or(0, |status| status.pending_deletions.len());
            noted >= ChatbotDeploymentStatus::MAX_PENDING_DELETIONS
        };
        match takers.iter().copied().collect::<Option<Vec<_>>>() {
            None => LiveState::Unmanaged,
            // the last one to let go deletes it, so one that has noted it is enough
            Some(slots) if slots.iter().any(|slot| taken(slot)) => LiveState::HandedOver,
            Some(slots) if slots.iter().all(|slot| full(slot)) => LiveState::Unmanaged,
            Some(_) => LiveState::HandoverPending,
        }
    }

    /// Without a deployment status: never deployed, or not since each environment runs another version.
    fn is_not_deployed(&self) -> bool {
        let ServiceView::Available { inventory, .. } = &self.service else {
            return false;
        };
        let Some(version) = self.listed() else {
            return false;
        };
        let never = version.deployed.is_none() && inventory.has_deploy_times();
        never
            || LiveEnvironment::ALL.iter().all(|environment| {
                let status = self.environment_owners.get(environment).and_then(|slot| slot.status.as_ref());
                let active = status.and_then(|status| status.active.as_ref());
                // somebody may have deployed it by hand since
                active.is_some_and(|active| inventory.not_deployed_since(version, active.start_time.0))
            })
    }

    /// The environments that run the known version; `None` if the key may not read it.
    pub(super) fn live_in(&self) -> Option<Vec<LiveEnvironment>> {
        let ServiceView::Available { inventory, deployments: Some(deployments), .. } = &self.service else {
            return None;
        };
        let id = self.object.version_id()?;
        let mut live = Vec::new();
        for environment in LiveEnvironment::ALL {
            let Some(deployed) = deployments.get(environment.as_str()) else {
                continue;
            };
            match deployed.resolve(inventory) {
                Some(version) if version.id.as_str() == id => live.push(environment),
                Some(_) => {}
                // something runs that cannot be told from this version
                None => return None,
            }
        }
        Some(live)
    }

    /// How old what the service shows may be for this object.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.config.interval(self.object.spec.interval)
    }

    /// An unhandled `reconcile-requested-at`.
    #[must_use]
    pub fn is_reconcile_requested(&self) -> bool {
        let handled = self.object.status.as_ref().and_then(|s| s.common.last_handled_reconcile_at.as_deref());
        reconcile_requested(&self.object.metadata, handled)
    }
}
