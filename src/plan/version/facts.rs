//! From everything that was looked at to the few things that matter.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, LazyLock},
    time::Duration,
};

use jiff::Timestamp;

use super::{Deletion, Liveness, Record, Seen, Sight};
use crate::{
    chatcaptain::{Inventory, Marker, NewVersion, Version},
    crd::{
        ChatbotDeployment, ChatbotDeploymentStatus, ChatbotVersion, ChatbotVersionStatus, DeletionPolicy,
        Environment, FINALIZER, Intent, LiveEnvironment, Operation, OperationRecord, OperationResult,
        annotation,
    },
    plan::{
        Look, Rules, annotated, deployment::coming, elapsed, is_pending_delete, requested, status::is_held,
    },
};

/// Everything that was looked at for one pass.
#[derive(Clone)]
pub struct Facts {
    /// The object.
    pub object: Arc<ChatbotVersion>,
    /// What the service told.
    pub look: Look,
    /// This process wrote the open intent and has not sent the create yet.
    pub permit: bool,
    /// For how long this process has watched the list for what the open intent's create may have made.
    pub searched: Duration,
    /// The ids among the candidates that other objects hold.
    pub claimed: HashSet<String>,
    /// The ids among the candidates whose deletion this process called for within the grace.
    pub going: HashSet<String>,
    /// An older object that holds the same id, as `namespace/name`.
    pub older_claim: Option<String>,
    /// An older object wants a version of the same name and its create is not settled.
    pub rival: bool,
    /// The deployments that decide this bot's environments.
    pub slots: BTreeMap<LiveEnvironment, Arc<ChatbotDeployment>>,
    /// What the namespace says of deletion, where the version does not say so itself.
    pub namespace_policy: Option<String>,
    /// The flags.
    pub rules: Arc<Rules>,
    /// Whole seconds.
    pub now: Timestamp,
    /// A random id for a new attempt.
    pub attempt: String,
    /// Randomness for backoff, 0 to 1.
    pub jitter: f64,
}

impl Facts {
    /// What matters.
    #[must_use]
    pub fn see(&self) -> Seen {
        let meta = &self.object.metadata;
        let status = self.status();
        let record = self.record();
        Seen {
            suspended: self.object.spec.suspend == Some(true),
            deleting: meta.deletion_timestamp.is_some().then(|| self.deletion()),
            finalizer: meta.finalizers.iter().flatten().any(|f| f == FINALIZER),
            conflict: self.older_claim.is_some(),
            rival: self.rival,
            recreate: annotated(meta, annotation::RECREATE)
                .is_some_and(|token| status.last_handled_recreate.as_deref() != Some(token)),
            held: is_held(&status.common, meta, self.now),
            record,
            sight: self.sight(record),
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
        Marker::new(&self.rules.owner_id, namespace.unwrap_or_default(), name.unwrap_or_default())
    }

    /// What a create sends. Where a deployment decides the environment, the version is created for `dev`:
    /// a create that deploys would move that environment before git says so.
    #[must_use]
    pub fn new_version(&self) -> NewVersion {
        let asked = self.object.spec.environment.unwrap_or(Environment::Dev);
        let claimed = asked.deploys_to().is_some_and(|environment| self.slots.contains_key(&environment));
        NewVersion {
            name: self.object.version_name().to_owned(),
            description: self.marker().append_to(self.object.spec.description.as_deref()),
            environment: if claimed { Environment::Dev.as_str() } else { asked.as_str() },
        }
    }

    /// The known version as the service lists it.
    #[must_use]
    pub fn listed(&self) -> Option<&Version> {
        let Look::Shown { inventory, .. } = &self.look else {
            return None;
        };
        inventory.version(self.object.version_id()?)
    }

    /// The versions of the list that could be this object's, whoever holds them.
    #[must_use]
    pub fn candidates<'a>(&self, inventory: &'a Inventory) -> Vec<&'a Version> {
        if let Some(id) = annotated(&self.object.metadata, annotation::ADOPT_ID) {
            return inventory.version(id).into_iter().collect();
        }
        let marker = self.marker();
        let ours: Vec<&Version> = inventory.marked(&marker).collect();
        if !ours.is_empty() {
            return ours;
        }
        let name = self.object.version_name();
        let sent = marker.append_to(self.object.spec.description.as_deref());
        let known = self.intent().map(|intent| intent.known_ids.as_slice()).unwrap_or_default();
        inventory
            .unreadable(name, &sent)
            .filter(|version| !known.iter().any(|id| id == version.id.as_str()))
            .collect()
    }

    /// Other versions with this object's marker: their creates took effect after everybody had given up on them.
    pub(super) fn duplicates(&self) -> Vec<String> {
        let (Look::Shown { inventory, .. }, Some(id)) = (&self.look, self.object.version_id()) else {
            return Vec::new();
        };
        let marker = self.marker();
        let ours = inventory.marked(&marker).map(|version| version.id.as_str());
        let mut others: Vec<String> = ours.filter(|other| *other != id).map(str::to_owned).collect();
        // the service promises no order
        others.sort();
        others.truncate(ChatbotVersionStatus::DUPLICATES);
        others
    }

    /// The one version that is this object's though status does not say so yet.
    #[must_use]
    pub fn found<'a>(&self, inventory: &'a Inventory) -> Option<&'a Version> {
        let mut ours =
            self.candidates(inventory).into_iter().filter(|v| !self.claimed.contains(v.id.as_str()));
        ours.next().filter(|_| ours.next().is_none())
    }

    pub(super) fn intent(&self) -> Option<&Intent> {
        self.object.status.as_ref()?.intent.as_ref()
    }

    pub(super) fn record(&self) -> Record {
        if self.object.version_id().is_some() && self.intent().is_none() {
            return Record::Known;
        }
        match self.intent() {
            None => Record::Nothing,
            Some(_) if self.permit => Record::Fresh,
            Some(Intent { unconfirmed_since: None, .. }) => Record::Open,
            Some(_) if self.searched > self.rules.visibility_grace => Record::Searched,
            Some(_) => Record::Searching,
        }
    }

    fn sight(&self, record: Record) -> Sight {
        let (inventory, age) = match &self.look {
            Look::NotAsked => return Sight::NotAsked,
            Look::Blocked(obstacle) => return Sight::Blocked(obstacle.blocked),
            Look::Shown { inventory, age, .. } => (inventory, *age),
        };
        if record == Record::Known {
            return match self.listed() {
                Some(_) => Sight::Present,
                None if self.is_young(age) => Sight::Young,
                None => Sight::Absent,
            };
        }
        if let Some(id) = annotated(&self.object.metadata, annotation::ADOPT_ID) {
            return self.sight_of_adoption(inventory, id);
        }
        let all = self.candidates(inventory);
        if all.iter().any(|version| self.is_going(version.id.as_str())) {
            return Sight::Going;
        }
        let readable = all.iter().any(|version| version.marker().is_some());
        let free = all.iter().filter(|version| !self.claimed.contains(version.id.as_str())).count();
        match (free, record) {
            // the service said yes: there is one, and another create would make a second
            (0, Record::Searched) if self.was_accepted() => Sight::Many,
            (0, _) => Sight::Nobody,
            // without a marker it only counts if it came after an intent whose create may be out
            (_, Record::Nothing | Record::Fresh) if !readable => Sight::Unclear,
            (1, _) => Sight::One,
            _ => Sight::Many,
        }
    }

    /// This process or a deployment has called for its deletion within the grace.
    fn is_going(&self, id: &str) -> bool {
        let slots = self.slots.values().filter_map(|slot| slot.status.as_ref());
        self.going.contains(id)
            || slots.flat_map(|status| &status.common.last_operations).any(|record| {
                record.version_id.as_deref() == Some(id)
                    && is_pending_delete(record, self.now, self.rules.visibility_grace)
            })
    }

    /// The create of the open intent was answered with yes, though not with an id.
    fn was_accepted(&self) -> bool {
        let since = self.intent().map(|intent| &intent.started_at);
        self.status().common.last_operations.iter().any(|record| {
            record.operation == Operation::Create
                && record.result == OperationResult::Accepted
                && since.is_some_and(|since| record.at.0 >= since.0)
        })
    }

    fn sight_of_adoption(&self, inventory: &Inventory, id: &str) -> Sight {
        match inventory.version(id) {
            None => Sight::AdoptMissing,
            Some(_) if self.claimed.contains(id) => Sight::AdoptForeign,
            Some(version) => match version.marker() {
                Some(marker) if marker != self.marker().as_str() => Sight::AdoptForeign,
                _ => Sight::One,
            },
        }
    }

    /// Recorded so lately, when the list was taken, that the service may not have listed it yet.
    fn is_young(&self, age: Duration) -> bool {
        let status = self.object.status.as_ref();
        status.into_iter().flat_map(|status| &status.common.last_operations).any(|record| {
            // objects keep whole seconds: up to one second less has passed
            let until_listed = elapsed(&record.at, self.now).saturating_sub(age + Duration::from_secs(1));
            record.operation == Operation::Create && until_listed <= self.rules.visibility_grace
        })
    }

    /// What a deletion means.
    #[must_use]
    pub fn policy(&self) -> DeletionPolicy {
        let namespace = self.namespace_policy.as_deref();
        DeletionPolicy::of(self.object.spec.deletion_policy, namespace, self.rules.deletion_policy)
    }

    /// What the namespace says, if it is no policy and nothing else keeps the version.
    pub(super) fn misread_policy(&self) -> Option<&str> {
        let spec = &self.object.spec;
        let asked = spec.deletion_policy.is_some() || spec.suspend == Some(true);
        let ours =
            self.older_claim.is_none() && (self.object.version_id().is_some() || self.intent().is_some());
        let said = self.namespace_policy.as_deref().filter(|_| ours && !asked);
        said.filter(|text| text.parse::<DeletionPolicy>().is_err())
    }

    fn deletion(&self) -> Deletion {
        let meta = &self.object.metadata;
        let since = meta.deletion_timestamp.as_ref();
        let pending =
            |record: &OperationRecord| is_pending_delete(record, self.now, self.rules.visibility_grace);
        Deletion {
            // what is kept is not looked at: if that was in vain, it may be the namespace that could not be read
            delete: self.policy() == DeletionPolicy::Delete || matches!(self.look, Look::Blocked(_)),
            forced: annotated(meta, annotation::FORCE_ORPHAN).is_some(),
            overdue: since.is_some_and(|since| elapsed(since, self.now) > self.rules.deletion_timeout),
            sent: self.status().common.last_operations.iter().any(pending),
            trusted: matches!(self.look, Look::Shown { trusted: true, .. }) || self.is_deletion_accepted(),
            live: self.liveness(),
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

    fn liveness(&self) -> Liveness {
        let Some(id) = self.object.version_id() else {
            return Liveness::Idle;
        };
        let live_in = self.live_in();
        let mut live = live_in.clone().unwrap_or_default();
        for (&environment, slot) in &self.slots {
            // a rollout under way makes it live in a moment
            let runs = slot.status.as_ref().is_some_and(|status| {
                status.operation.as_ref().is_some_and(|operation| operation.version_id == id)
                    || coming(status, self.now, &self.rules).any(|coming| coming == id)
                    || (live_in.is_none()
                        && status.active.as_ref().is_some_and(|active| active.version_id == id))
            });
            if runs && !live.contains(&environment) {
                live.push(environment);
            }
        }
        if live.is_empty() && matches!(self.look, Look::Shown { coming: true, .. }) {
            // whoever called for it may be gone, and what is called for runs in a moment
            return Liveness::Offered;
        }
        if live.is_empty() {
            return if live_in.is_some() || self.is_nowhere() {
                Liveness::Idle
            } else {
                Liveness::Unknowable
            };
        }
        let takers: Vec<_> = live.iter().map(|environment| self.slots.get(environment)).collect();
        let taken = |slot: &Arc<ChatbotDeployment>| {
            slot.status.as_ref().is_some_and(|status| status.retiring.iter().any(|r| r.version_id == id))
        };
        let full = |slot: &Arc<ChatbotDeployment>| {
            let noted = slot.status.as_ref().map_or(0, |status| status.retiring.len());
            noted >= ChatbotDeploymentStatus::RETIRING
        };
        match takers.iter().copied().collect::<Option<Vec<_>>>() {
            None => Liveness::Alone,
            // the last one to let go deletes it, so one that has noted it is enough
            Some(slots) if slots.iter().any(|slot| taken(slot)) => Liveness::Taken,
            Some(slots) if slots.iter().all(|slot| full(slot)) => Liveness::Alone,
            Some(_) => Liveness::Offered,
        }
    }

    /// Without a deployment status: never deployed, or not since each environment runs another version.
    fn is_nowhere(&self) -> bool {
        let Look::Shown { inventory, .. } = &self.look else {
            return false;
        };
        let Some(version) = self.listed() else {
            return false;
        };
        let never = version.deployed.is_none() && inventory.tells_deployed();
        never
            || LiveEnvironment::ALL.iter().all(|environment| {
                let status = self.slots.get(environment).and_then(|slot| slot.status.as_ref());
                let active = status.and_then(|status| status.active.as_ref());
                // somebody may have deployed it by hand since
                active.is_some_and(|active| inventory.is_past(version, active.since.0))
            })
    }

    /// The environments that run the known version; `None` if the key may not read it.
    pub(super) fn live_in(&self) -> Option<Vec<LiveEnvironment>> {
        let Look::Shown { inventory, deployments: Some(deployments), .. } = &self.look else {
            return None;
        };
        let id = self.object.version_id()?;
        let mut live = Vec::new();
        for environment in LiveEnvironment::ALL {
            let Some(deployed) = deployments.of(environment.as_str()) else {
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
        self.rules.interval(self.object.spec.interval.as_deref())
    }

    /// An unhandled `reconcile-requested-at`.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        let handled = self.object.status.as_ref().and_then(|s| s.common.last_handled_reconcile_at.as_deref());
        requested(&self.object.metadata, handled)
    }
}
