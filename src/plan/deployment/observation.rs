//! From everything that was looked at to the few things that matter.

use std::{
    collections::HashSet,
    sync::{Arc, LazyLock},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    Deletion, Drift, Live, PendingDeletionState, Promotion, Rollout, RolloutMethod, State, Target, Unresolved,
};
use crate::{
    chatcaptain::{Inventory, Marker, Version},
    crd::{
        self, Cause, ChatbotDeployment, ChatbotDeploymentStatus, ChatbotVersion, ConditionType,
        CurrentOperation, DriftPolicy, FINALIZER, MetaDuration, OnFailure, OperationResult, PromoteAfter,
        RollbackMethod, VersionSource, annotation,
    },
    plan::{
        PlanConfig, ServiceView, annotation_value, elapsed, is_pending_delete, reconcile_requested,
        status::is_backing_off,
    },
};

/// Reversals of changes by hand within an hour, after which the operator stops.
const MAX_DRIFT_CORRECTIONS: i32 = 5;
const DRIFT_WINDOW: Duration = Duration::from_hours(1);
const PROGRESS_DEADLINE: Duration = Duration::from_mins(5);

/// Everything that was looked at for one pass.
#[derive(Clone)]
pub struct Observation {
    /// The object.
    pub object: Arc<ChatbotDeployment>,
    /// What the service told.
    pub service: ServiceView,
    /// This process wrote the operation and has not called yet.
    pub may_call: bool,
    /// An older object that decides the same environment, as `namespace/name`.
    pub older_claim: Option<String>,
    /// The object that `versionRef` names.
    pub referenced_version: Option<Arc<ChatbotVersion>>,
    /// The object that `rollback-to` names.
    pub rollback_version: Option<Arc<ChatbotVersion>>,
    /// The object that `promoteAfter` names.
    pub promotion_source: Option<Arc<ChatbotDeployment>>,
    /// Versions that run here and whose objects are being deleted with them.
    pub versions_being_deleted: Vec<VersionBeingDeleted>,
    /// Ids among `retiring` that an object wants again.
    pub reclaimed: HashSet<String>,
    /// Ids that other environments of the bot run or are about to run.
    pub in_use_elsewhere: HashSet<String>,
    /// Since when all other environments of the bot run what they do, where objects decide them and know.
    pub elsewhere_stable_since: Option<Timestamp>,
    /// The flags.
    pub config: Arc<PlanConfig>,
    /// Whole seconds.
    pub now: Timestamp,
    /// Randomness for backoff, 0 to 1.
    pub jitter: f64,
}

/// A version whose object is being deleted while it runs here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionBeingDeleted {
    /// Its id.
    pub version_id: String,
    /// Its object's name.
    pub name: String,
}

/// The version that should run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Its id.
    pub id: String,
    /// Its number.
    pub number: Option<String>,
    /// Who says so.
    pub cause: Cause,
}

impl Observation {
    /// What matters.
    #[must_use]
    pub fn state(&self) -> State {
        let meta = &self.object.metadata;
        let status = self.status();
        let wanted = self.desired();
        let id = wanted.as_ref().ok().map(|wanted| wanted.id.as_str());
        let is_live = |id: &str| id == self.live().unwrap_or_default() && !self.other_call_in_flight(id);
        let live = if id.is_some_and(is_live) { Live::Desired } else { Live::Other };
        State {
            valid: self.object.spec.version_source().is_some(),
            suspended: self.object.spec.suspend == Some(true),
            deleting: meta.deletion_timestamp.as_ref().map(|since| Deletion {
                force_orphan: annotation_value(meta, annotation::FORCE_ORPHAN).is_some(),
                timed_out: elapsed(since, self.now) > self.config.deletion_timeout,
            }),
            finalizer: meta.finalizers.iter().flatten().any(|f| f == FINALIZER),
            conflict: self.older_claim.is_some(),
            backing_off: is_backing_off(&status.common, meta, self.now),
            unavailable: if let ServiceView::Unavailable(obstacle) = &self.service {
                Some(obstacle.reason)
            } else {
                None
            },
            target: match &wanted {
                Err(why) => Target::Unresolved(*why),
                Ok(wanted) if live == Live::Other && self.has_failed(&wanted.id) => Target::Failed,
                Ok(wanted) => Target::Resolved(wanted.cause),
            },
            live,
            rollout: id.map_or(Rollout::None, |id| self.rollout(id)),
            use_rollback: id.is_some_and(|id| self.use_rollback(id)),
            // going back waits for nobody
            promotion: match &wanted {
                Ok(wanted) if wanted.cause == Cause::Spec => self.promotion(&wanted.id),
                _ => Promotion::Allowed,
            },
            drift: if live == Live::Desired {
                Drift::None
            } else {
                id.map_or(Drift::None, |id| self.drift(id))
            },
            pending_deletion: self.pending_deletion_state(id),
        }
    }

    /// The status as it stands; that of a newborn is empty.
    #[must_use]
    pub fn status(&self) -> &ChatbotDeploymentStatus {
        static NEWBORN: LazyLock<ChatbotDeploymentStatus> = LazyLock::new(Default::default);
        self.object.status.as_ref().unwrap_or(&NEWBORN)
    }

    /// `test` or `prod`.
    #[must_use]
    pub fn environment(&self) -> &'static str {
        self.object.spec.environment.as_str()
    }

    /// The bot's versions, if the service told.
    #[must_use]
    pub fn inventory(&self) -> Option<&Arc<Inventory>> {
        if let ServiceView::Available { inventory, .. } = &self.service { Some(inventory) } else { None }
    }

    /// The version that should run: by command, because the wanted one failed, or by the spec.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn desired(&self) -> Result<Desired, Unresolved> {
        if let Some(commanded) = self.rollback_command() {
            let id = commanded?;
            return Ok(Desired { number: self.number_of(&id), id, cause: Cause::RollbackCommand });
        }
        let git = self.desired_by_spec()?;
        if self.has_failed(&git.id)
            && self.object.spec.on_failure() == OnFailure::Previous
            && let Some(good) = self
                .status()
                .history
                .iter()
                .find(|entry| entry.version_id != git.id && self.may_exist(&entry.version_id))
        {
            return Ok(Desired {
                id: good.version_id.clone(),
                number: good.version_number.clone(),
                cause: Cause::AutomaticRollback,
            });
        }
        Ok(git)
    }

    pub(super) fn desired_by_spec(&self) -> Result<Desired, Unresolved> {
        let git = |id: &str, number: Option<&str>| Desired {
            id: id.to_owned(),
            number: number.map(str::to_owned).or_else(|| self.number_of(id)),
            cause: Cause::Spec,
        };
        let inventory = self.inventory();
        match self.object.spec.version_source().ok_or(Unresolved::VersionNotFound)? {
            VersionSource::Ref(_) => {
                let version = self.referenced_version.as_ref().ok_or(Unresolved::WaitingForVersion)?;
                if version.spec.chatbot_id != self.object.spec.chatbot_id {
                    return Err(Unresolved::ReferenceMismatch);
                }
                let status = version.status.as_ref().filter(|status| status.pending_create.is_none());
                let id = status
                    .and_then(|status| status.version_id.as_deref())
                    .ok_or(Unresolved::WaitingForVersion)?;
                // what is about to be deleted is not deployed; where it runs already, it is as wanted
                let leaving = version.metadata.deletion_timestamp.is_some();
                if leaving && self.live().as_deref() != Some(id) {
                    return Err(Unresolved::WaitingForVersion);
                }
                match inventory.map(|inventory| inventory.version(id)) {
                    Some(None) => Err(Unresolved::WaitingForVersion),
                    _ => Ok(git(id, status.and_then(|status| status.version_number.as_deref()))),
                }
            }
            VersionSource::Id(id) => match inventory.map(|inventory| inventory.version(id)) {
                Some(None) => Err(Unresolved::VersionNotFound),
                _ => Ok(git(id, None)),
            },
            VersionSource::Number(number) => {
                let mut numbered = inventory.into_iter().flat_map(|inventory| inventory.by_number(number));
                let one = numbered.next().ok_or(Unresolved::VersionNotFound)?;
                if numbered.next().is_some() {
                    Err(Unresolved::AmbiguousVersion)
                } else {
                    Ok(git(one.id.as_str(), Some(number)))
                }
            }
        }
    }

    /// The spec names another version than the one that the status is about.
    pub(super) fn spec_target_changed(&self) -> bool {
        let Some(target) = self.status().target.as_ref().filter(|target| target.cause == Cause::Spec) else {
            return false;
        };
        match self.object.spec.version_source() {
            Some(VersionSource::Number(number)) => target.version_number.as_deref() != Some(number),
            _ => match self.desired_by_spec() {
                Ok(wanted) => wanted.id != target.version_id,
                // what it names may only be away for a moment
                Err(_) => self.status().common.observed_generation != self.object.metadata.generation,
            },
        }
    }

    /// The version of a `rollback-to` that holds. It was resolved when it was given; a later generation ends it.
    fn rollback_command(&self) -> Option<Result<String, Unresolved>> {
        let value = annotation_value(&self.object.metadata, annotation::ROLLBACK_TO)?;
        if let Some(command) = &self.status().rollback_command
            && command.value == value
        {
            let holds = Some(command.generation) == self.object.metadata.generation;
            let id = command.version_id.clone();
            return holds
                .then(|| if self.may_exist(&id) { Ok(id) } else { Err(Unresolved::RollbackTargetNotFound) });
        }
        let named = self
            .rollback_version
            .as_ref()
            .filter(|version| version.spec.chatbot_id == self.object.spec.chatbot_id);
        let id = match value {
            "previous" => {
                let previous = self.status().previous.as_ref().map(|previous| previous.version_id.clone());
                previous.filter(|id| self.may_exist(id))
            }
            id => named.and_then(|version| version.version_id()).map(str::to_owned).or_else(|| {
                self.inventory()
                    .and_then(|inventory| inventory.version(id))
                    .map(|version| version.id.as_str().to_owned())
            }),
        };
        Some(id.ok_or(Unresolved::RollbackTargetNotFound))
    }

    /// What did not become live for this generation, unless somebody asks to try again.
    pub(super) fn failed_versions(&self) -> &[String] {
        let failed = self.status().failed_versions.as_ref().filter(|failed| {
            Some(failed.generation) == self.object.metadata.generation && !self.is_reconcile_requested()
        });
        failed.map(|failed| failed.version_ids.as_slice()).unwrap_or_default()
    }

    /// Somebody asks for a look, and to try again what was given up.
    #[must_use]
    pub fn is_reconcile_requested(&self) -> bool {
        reconcile_requested(&self.object.metadata, self.status().common.last_handled_reconcile_at.as_deref())
    }

    fn has_failed(&self, id: &str) -> bool {
        self.failed_versions().iter().any(|failed| failed == id)
    }

    fn number_of(&self, id: &str) -> Option<String> {
        let listed = self.inventory().and_then(|inventory| inventory.version(id));
        listed.and_then(|version| version.number.as_deref()).map(str::to_owned)
    }

    /// Name of the ChatbotVersion that a version belongs to: of one that the spec or a rollback names, else by its marker.
    pub(super) fn version_name(&self, id: &str) -> Option<String> {
        let mut named = [&self.referenced_version, &self.rollback_version].into_iter().flatten();
        if let Some(version) = named.find(|version| version.version_id() == Some(id)) {
            return version.metadata.name.clone();
        }
        let namespace = self.object.metadata.namespace.as_deref().unwrap_or_default();
        let nameless = Marker::new(&self.config.owner_id, namespace, "");
        let marker = self.listed(id)?.marker()?;
        let name = marker.strip_prefix(nameless.as_str().strip_suffix(']')?)?.strip_suffix(']')?;
        Some(name.to_owned())
    }

    /// Whether a version is listed, or nobody can tell.
    fn may_exist(&self, id: &str) -> bool {
        self.inventory().is_none_or(|inventory| inventory.version(id).is_some())
    }

    /// The wanted version as the service lists it.
    pub(super) fn listed(&self, id: &str) -> Option<&Version> {
        self.inventory().and_then(|inventory| inventory.version(id))
    }

    /// Whether it can be seen what is live: the key may read it, and the list knows it.
    #[must_use]
    pub fn live_is_observable(&self) -> bool {
        let ServiceView::Available { inventory, deployments: Some(deployments), .. } = &self.service else {
            return false;
        };
        deployments.get(self.environment()).is_none_or(|deployed| {
            let comparable = deployed.number.is_some() && inventory.has_version_numbers();
            comparable || deployed.resolve(inventory).is_some()
        })
    }

    /// Id of the version that runs: from the deployment status, else from what the list shows of our own
    /// call, else as last confirmed. `None`: nothing, or nothing that is listed.
    #[must_use]
    pub fn live(&self) -> Option<String> {
        let ServiceView::Available { inventory, deployments, .. } = &self.service else {
            return self.status().active.as_ref().map(|active| active.version_id.clone());
        };
        let Some(deployments) = deployments else {
            return self.live_by_list(inventory);
        };
        let deployed = deployments.get(self.environment())?;
        if let Some(version) = deployed.resolve(inventory) {
            return Some(version.id.as_str().to_owned());
        }
        // the list may tell no numbers; then what we know of ours decides
        let status = self.status();
        let known = [
            status.target.as_ref().map(|t| (&t.version_id, &t.version_number)),
            status.active.as_ref().map(|a| (&a.version_id, &a.version_number)),
        ];
        known
            .into_iter()
            .flatten()
            .find(|(_, number)| number.is_some() && number.as_deref() == deployed.number.as_deref())
            .map(|(id, _)| id.clone())
            .or_else(|| {
                // one side tells no numbers, so they cannot be compared
                (deployed.number.is_none() || !inventory.has_version_numbers())
                    .then(|| self.live_by_list(inventory))
                    .flatten()
            })
    }

    fn live_by_list(&self, inventory: &Inventory) -> Option<String> {
        let status = self.status();
        match &status.current_operation {
            Some(operation) if self.took_effect(operation, inventory) => Some(operation.version_id.clone()),
            // since a version was last confirmed another call may have taken effect
            Some(_) => None,
            None => status.active.as_ref().map(|active| active.version_id.clone()),
        }
    }

    /// The wanted version runs, but a call for another one may still take effect: git came back in between.
    pub(super) fn other_call_in_flight(&self, wanted: &str) -> bool {
        let in_flight = self.status().current_operation.as_ref().is_some_and(|operation| {
            operation.version_id != wanted
                && (operation.call_time.is_some() || !self.may_call)
                && operation.result != Some(OperationResult::Refused)
                && elapsed(&operation.start_time, self.now) <= self.progress_deadline()
        });
        in_flight && self.live_is_observable() && self.live().as_deref() == Some(wanted)
    }

    /// Whether the list shows that our call took effect.
    fn took_effect(&self, operation: &CurrentOperation, inventory: &Inventory) -> bool {
        let Some(called_at) = &operation.call_time else {
            return false;
        };
        let deployed = inventory.version(&operation.version_id).and_then(|version| version.deployed);
        if inventory.has_deploy_times() {
            // a time that moved after a call without a usable answer may be another environment's
            let ours = operation.result == Some(OperationResult::Accepted)
                || !self.in_use_elsewhere.contains(&operation.version_id);
            return ours
                && deployed.is_some_and(|at| {
                    at.as_microsecond()
                        != operation.previous_deploy_time.as_ref().map_or(0, |t| t.0.as_microsecond())
                });
        }
        // the service tells nothing at all of deployments: an accepted deploy is the last that can be known
        operation.operation == crd::Operation::Deploy
            && operation.result == Some(OperationResult::Accepted)
            && elapsed(called_at, self.now) > self.config.visibility_grace
    }

    fn rollout(&self, wanted: &str) -> Rollout {
        let Some(operation) = &self.status().current_operation else {
            return Rollout::None;
        };
        let call = if operation.operation == crd::Operation::Rollback {
            RolloutMethod::Rollback
        } else {
            RolloutMethod::Deploy
        };
        if operation.version_id != wanted {
            return if self.other_call_in_flight(wanted) { Rollout::InProgress(call) } else { Rollout::None };
        }
        let over = |since: &Time| elapsed(since, self.now) > self.config.visibility_grace;
        let repeated_too_long = || {
            operation
                .first_call_time
                .as_ref()
                .is_some_and(|t| elapsed(t, self.now) > self.progress_deadline())
        };
        match (&operation.call_time, operation.result) {
            (None, _) if self.may_call => Rollout::IntentRecorded(call),
            (None, _) if over(&operation.start_time) => Rollout::OutcomeUnknown,
            (None, _) => Rollout::InProgress(call),
            (Some(_), Some(OperationResult::Refused)) if call == RolloutMethod::Rollback => {
                Rollout::RollbackIneffective
            }
            (Some(_), Some(OperationResult::Refused)) => Rollout::None,
            // before it counts as late, everything was tried: the deploy in place of a rollback, and a call
            // without a usable answer once more
            (Some(at), _) if call == RolloutMethod::Rollback && over(at) => Rollout::RollbackIneffective,
            (Some(at), Some(OperationResult::Unknown)) if over(at) && repeated_too_long() => {
                Rollout::DeadlineExceeded
            }
            (Some(at), Some(OperationResult::Unknown)) if over(at) => Rollout::OutcomeUnknown,
            (Some(at), Some(OperationResult::Accepted))
                if call == RolloutMethod::Deploy && elapsed(at, self.now) > self.progress_deadline() =>
            {
                Rollout::DeadlineExceeded
            }
            _ => Rollout::InProgress(call),
        }
    }

    /// How long a version may take to become live.
    #[must_use]
    pub fn progress_deadline(&self) -> Duration {
        self.object.spec.progress_deadline.map_or(PROGRESS_DEADLINE, MetaDuration::get)
    }

    fn use_rollback(&self, wanted: &str) -> bool {
        self.object.spec.rollback_method() == RollbackMethod::Rollback
            && self.status().history.iter().any(|entry| entry.version_id == wanted)
    }

    fn promotion(&self, wanted: &str) -> Promotion {
        let Some(after) = &self.object.spec.promote_after else {
            return Promotion::Allowed;
        };
        let first = self.promotion_source.as_ref().and_then(|gate| gate.status.as_ref());
        let since = self.status().target.as_ref().filter(|target| target.version_id == wanted);
        let since = since.and_then(|target| target.start_time.as_ref());
        if first.is_some_and(|first| self.has_soaked(first, after, wanted)) {
            Promotion::Allowed
        } else if first.is_none_or(|first| !is_heading_to(first, wanted))
            && since.is_some_and(|since| elapsed(since, self.now) > self.progress_deadline())
        {
            Promotion::Blocked
        } else {
            Promotion::Waiting
        }
    }

    /// The deployment that comes first has been Ready on the same version for long enough.
    fn has_soaked(&self, first: &ChatbotDeploymentStatus, after: &PromoteAfter, wanted: &str) -> bool {
        let soak = after.soak.map(MetaDuration::get).unwrap_or_default();
        let ready = first.common.conditions.iter().find(|c| c.type_ == "Ready" && c.status == "True");
        let active = first.active.as_ref().filter(|active| active.version_id == wanted);
        ready.zip(active).is_some_and(|(ready, active)| {
            elapsed(&ready.last_transition_time, self.now) >= soak
                && elapsed(&active.start_time, self.now) >= soak
        })
    }

    fn drift(&self, wanted: &str) -> Drift {
        let status = self.status();
        let reached =
            status.target.as_ref().is_some_and(|t| t.version_id == wanted && t.reached_time.is_some());
        if !reached || !self.live_is_observable() {
            return Drift::None;
        }
        if self.live().is_some_and(|live| possibly_live(status, self.now, &self.config).any(|id| id == live))
        {
            return Drift::LateEffect;
        }
        let exhausted = status.drift_corrections.as_ref().is_some_and(|reversals| {
            reversals.count >= MAX_DRIFT_CORRECTIONS
                && elapsed(&reversals.window_start_time, self.now) <= DRIFT_WINDOW
        });
        match self.object.spec.drift.unwrap_or(DriftPolicy::Enforce) {
            DriftPolicy::Warn => Drift::Warn,
            DriftPolicy::Enforce if exhausted && !self.is_reconcile_requested() => Drift::LimitReached,
            DriftPolicy::Enforce => Drift::Enforce,
        }
    }

    /// How often changes by hand were reversed within the window, this one included.
    pub(super) fn drift_corrections(&self) -> crd::DriftCorrections {
        let now = super::super::truncate_to_seconds(self.now);
        match &self.status().drift_corrections {
            Some(old) if elapsed(&old.window_start_time, self.now) <= DRIFT_WINDOW => crd::DriftCorrections {
                count: old.count.saturating_add(1),
                window_start_time: old.window_start_time.clone(),
            },
            _ => crd::DriftCorrections { count: 1, window_start_time: now },
        }
    }

    fn pending_deletion_state(&self, wanted: Option<&str>) -> PendingDeletionState {
        let kept = self.pending_deletions();
        let status = self.status();
        if self
            .versions_being_deleted
            .iter()
            .any(|leaving| !status.pending_deletions.iter().any(|r| r.version_id == leaving.version_id))
        {
            return PendingDeletionState::New;
        }
        if kept.is_empty() {
            // entries to drop are dropped with the next status; the finalizer goes after that
            return if status.pending_deletions.is_empty() {
                PendingDeletionState::None
            } else {
                PendingDeletionState::InUse
            };
        }
        match self.deletable(wanted) {
            Some(_) if self.delete_in_flight() => PendingDeletionState::InFlight,
            Some(_) => PendingDeletionState::Ready,
            None => PendingDeletionState::InUse,
        }
    }

    /// The entries of `retiring` that are still to be deleted: neither gone nor wanted again.
    #[must_use]
    pub fn pending_deletions(&self) -> Vec<crd::PendingDeletion> {
        let gone = |id: &str| match &self.service {
            ServiceView::Available { inventory, authoritative: trusted, .. } => {
                *trusted && inventory.version(id).is_none()
            }
            _ => false,
        };
        let mut entries = self.status().pending_deletions.clone();
        entries.retain(|entry| !self.reclaimed.contains(&entry.version_id) && !gone(&entry.version_id));
        entries
    }

    /// A version that can be deleted: it is listed, runs nowhere and is about to run nowhere.
    #[must_use]
    pub fn deletable(&self, wanted: Option<&str>) -> Option<crd::PendingDeletion> {
        let ServiceView::Available { inventory, deployments, .. } = &self.service else {
            return None;
        };
        let mut busy = self.in_use_elsewhere.clone();
        busy.extend(wanted.map(str::to_owned));
        busy.extend(self.live());
        let status = self.status();
        // without a deployment status: somebody may have deployed it by hand since
        let since = status
            .active
            .as_ref()
            .zip(self.elsewhere_stable_since)
            .map(|(here, there)| here.start_time.0.min(there));
        busy.extend(status.current_operation.as_ref().map(|operation| operation.version_id.clone()));
        busy.extend(possibly_live(status, self.now, &self.config).map(str::to_owned));
        busy.extend(status.active.as_ref().map(|active| active.version_id.clone()));
        match deployments {
            Some(deployments) => {
                for environment in ["test", "prod"] {
                    let Some(deployed) = deployments.get(environment) else {
                        continue;
                    };
                    // what runs but cannot be told may be any of them
                    busy.insert(deployed.resolve(inventory)?.id.as_str().to_owned());
                }
            }
            None if since.is_none() || self.live().is_none() => return None,
            None => {}
        }
        let free = |entry: &crd::PendingDeletion| {
            let past = |version| since.is_some_and(|since| inventory.not_deployed_since(version, since));
            !busy.contains(&entry.version_id)
                && inventory
                    .version(&entry.version_id)
                    .is_some_and(|version| deployments.is_some() || past(version))
        };
        self.pending_deletions().into_iter().find(free)
    }

    fn delete_in_flight(&self) -> bool {
        let last = self.status().common.last_operations.first();
        last.is_some_and(|last| is_pending_delete(last, self.now, self.config.visibility_grace))
    }

    /// How old what the service shows may be for this object.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.config.interval(self.object.spec.interval)
    }
}

/// Whether a deployment runs a version or is on its way there.
pub(super) fn is_heading_to(status: &ChatbotDeploymentStatus, id: &str) -> bool {
    !status.common.is_true(ConditionType::Stalled)
        && status.target.as_ref().is_some_and(|target| target.version_id == id)
}

/// Versions that may become live though nobody wants them any more: ours was a call without a usable answer, and its
/// effect has not been seen since.
pub fn possibly_live<'a>(
    status: &'a ChatbotDeploymentStatus,
    now: Timestamp,
    rules: &PlanConfig,
) -> impl Iterator<Item = &'a str> {
    let grace = rules.visibility_grace;
    status.common.last_operations.iter().filter_map(move |record| {
        let id = record.version_id.as_deref()?;
        let seen = status
            .history
            .iter()
            .any(|entry| entry.version_id == id && entry.start_time.0 >= record.completion_time.0);
        let may_come = matches!(record.operation, crd::Operation::Deploy | crd::Operation::Rollback)
            && record.result == OperationResult::Unknown
            && elapsed(&record.completion_time, now) <= grace;
        (may_come && !seen).then_some(id)
    })
}
