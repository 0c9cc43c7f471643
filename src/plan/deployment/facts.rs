//! From everything that was looked at to the few things that matter.

use std::{
    collections::HashSet,
    sync::{Arc, LazyLock},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Call, Deletion, Drift, Gate, Live, Operation, Retiring, Seen, Target, Unresolved};
use crate::{
    chatcaptain::{Inventory, Version},
    crd::{
        self, Cause, ChatbotDeployment, ChatbotDeploymentStatus, ChatbotVersion, ConditionType, DriftPolicy,
        FINALIZER, OnFailure, OperationResult, PromoteAfter, RollbackMethod, RunningOperation, VersionSource,
        annotation, parse_duration,
    },
    plan::{Look, Rules, annotated, elapsed, is_pending_delete, requested, status::is_held},
};

/// Reversals of changes by hand within an hour, after which the operator stops.
const REVERSALS: i32 = 5;
const REVERSAL_WINDOW: Duration = Duration::from_hours(1);
const PROGRESS_DEADLINE: Duration = Duration::from_mins(5);

/// Everything that was looked at for one pass.
#[derive(Clone)]
pub struct Facts {
    /// The object.
    pub object: Arc<ChatbotDeployment>,
    /// What the service told.
    pub look: Look,
    /// This process wrote the operation and has not called yet.
    pub permit: bool,
    /// An older object that decides the same environment, as `namespace/name`.
    pub older_claim: Option<String>,
    /// The object that `versionRef` names.
    pub reference: Option<Arc<ChatbotVersion>>,
    /// The object that `rollback-to` names.
    pub commanded: Option<Arc<ChatbotVersion>>,
    /// The object that `promoteAfter` names.
    pub gate: Option<Arc<ChatbotDeployment>>,
    /// Versions that run here and whose objects are being deleted with them.
    pub leaving: Vec<Leaving>,
    /// Ids among `retiring` that an object wants again.
    pub reclaimed: HashSet<String>,
    /// Ids that other environments of the bot run or are about to run.
    pub busy_elsewhere: HashSet<String>,
    /// Since when all other environments of the bot run what they do, where objects decide them and know.
    pub elsewhere_since: Option<Timestamp>,
    /// The flags.
    pub rules: Arc<Rules>,
    /// Whole seconds.
    pub now: Timestamp,
    /// Randomness for backoff, 0 to 1.
    pub jitter: f64,
}

/// A version whose object is being deleted while it runs here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// Its id.
    pub version_id: String,
    /// Its object's name.
    pub name: String,
}

/// The version that should run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its id.
    pub id: String,
    /// Its number.
    pub number: Option<String>,
    /// Who says so.
    pub cause: Cause,
}

impl Facts {
    /// What matters.
    #[must_use]
    pub fn see(&self) -> Seen {
        let meta = &self.object.metadata;
        let status = self.status();
        let wanted = self.wanted();
        let id = wanted.as_ref().ok().map(|wanted| wanted.id.as_str());
        let is_live = |id: &str| id == self.live().unwrap_or_default() && !self.is_outrun(id);
        let live = if id.is_some_and(is_live) { Live::Wanted } else { Live::Other };
        Seen {
            valid: self.object.spec.version_source().is_some(),
            suspended: self.object.spec.suspend == Some(true),
            deleting: meta.deletion_timestamp.as_ref().map(|since| Deletion {
                forced: annotated(meta, annotation::FORCE_ORPHAN).is_some(),
                overdue: elapsed(since, self.now) > self.rules.deletion_timeout,
            }),
            finalizer: meta.finalizers.iter().flatten().any(|f| f == FINALIZER),
            conflict: self.older_claim.is_some(),
            held: is_held(&status.common, meta, self.now),
            blocked: if let Look::Blocked(obstacle) = &self.look { Some(obstacle.blocked) } else { None },
            target: match &wanted {
                Err(why) => Target::Unresolved(*why),
                Ok(wanted) if live == Live::Other && self.has_failed(&wanted.id) => Target::Failed,
                Ok(wanted) => Target::Known(wanted.cause),
            },
            live,
            operation: id.map_or(Operation::None, |id| self.operation(id)),
            back: id.is_some_and(|id| self.is_back(id)),
            // going back waits for nobody
            gate: match &wanted {
                Ok(wanted) if wanted.cause == Cause::Git => self.gate(&wanted.id),
                _ => Gate::Open,
            },
            drift: if live == Live::Wanted {
                Drift::None
            } else {
                id.map_or(Drift::None, |id| self.drift(id))
            },
            retiring: self.retiring(id),
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
        if let Look::Shown { inventory, .. } = &self.look { Some(inventory) } else { None }
    }

    /// The version that should run: by command, because the wanted one failed, or by the spec.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn wanted(&self) -> Result<Wanted, Unresolved> {
        if let Some(commanded) = self.command() {
            let id = commanded?;
            return Ok(Wanted { number: self.number_of(&id), id, cause: Cause::Command });
        }
        let git = self.wanted_by_git()?;
        if self.has_failed(&git.id)
            && self.object.spec.on_failure() == OnFailure::Previous
            && let Some(good) = self
                .status()
                .history
                .iter()
                .find(|entry| entry.version_id != git.id && self.may_be_there(&entry.version_id))
        {
            return Ok(Wanted {
                id: good.version_id.clone(),
                number: good.version_number.clone(),
                cause: Cause::Failure,
            });
        }
        Ok(git)
    }

    pub(super) fn wanted_by_git(&self) -> Result<Wanted, Unresolved> {
        let git = |id: &str, number: Option<&str>| Wanted {
            id: id.to_owned(),
            number: number.map(str::to_owned).or_else(|| self.number_of(id)),
            cause: Cause::Git,
        };
        let inventory = self.inventory();
        match self.object.spec.version_source().ok_or(Unresolved::NotFound)? {
            VersionSource::Ref(_) => {
                let version = self.reference.as_ref().ok_or(Unresolved::Waiting)?;
                if version.spec.chatbot_id != self.object.spec.chatbot_id {
                    return Err(Unresolved::Mismatch);
                }
                let status = version.status.as_ref().filter(|status| status.intent.is_none());
                let id = status.and_then(|status| status.version_id.as_deref()).ok_or(Unresolved::Waiting)?;
                // what is about to be deleted is not deployed; where it runs already, it is as wanted
                let leaving = version.metadata.deletion_timestamp.is_some();
                if leaving && self.live().as_deref() != Some(id) {
                    return Err(Unresolved::Waiting);
                }
                match inventory.map(|inventory| inventory.version(id)) {
                    Some(None) => Err(Unresolved::Waiting),
                    _ => Ok(git(id, status.and_then(|status| status.version_number.as_deref()))),
                }
            }
            VersionSource::Id(id) => match inventory.map(|inventory| inventory.version(id)) {
                Some(None) => Err(Unresolved::NotFound),
                _ => Ok(git(id, None)),
            },
            VersionSource::Number(number) => {
                let mut numbered = inventory.into_iter().flat_map(|inventory| inventory.numbered(number));
                let one = numbered.next().ok_or(Unresolved::NotFound)?;
                if numbered.next().is_some() {
                    Err(Unresolved::Ambiguous)
                } else {
                    Ok(git(one.id.as_str(), Some(number)))
                }
            }
        }
    }

    /// The spec names another version than the one that the status is about.
    pub(super) fn is_moved(&self) -> bool {
        let Some(target) = self.status().target.as_ref().filter(|target| target.cause == Cause::Git) else {
            return false;
        };
        match self.object.spec.version_source() {
            Some(VersionSource::Number(number)) => target.version_number.as_deref() != Some(number),
            _ => match self.wanted_by_git() {
                Ok(wanted) => wanted.id != target.version_id,
                // what it names may only be away for a moment
                Err(_) => self.status().common.observed_generation != self.object.metadata.generation,
            },
        }
    }

    /// The version of a `rollback-to` that holds. It was resolved when it was given; a later generation ends it.
    fn command(&self) -> Option<Result<String, Unresolved>> {
        let value = annotated(&self.object.metadata, annotation::ROLLBACK_TO)?;
        if let Some(command) = &self.status().command
            && command.value == value
        {
            let holds = Some(command.generation) == self.object.metadata.generation;
            let id = command.version_id.clone();
            return holds.then(|| if self.may_be_there(&id) { Ok(id) } else { Err(Unresolved::Command) });
        }
        let named =
            self.commanded.as_ref().filter(|version| version.spec.chatbot_id == self.object.spec.chatbot_id);
        let id = match value {
            "previous" => {
                let previous = self.status().previous.as_ref().map(|previous| previous.version_id.clone());
                previous.filter(|id| self.may_be_there(id))
            }
            id => named.and_then(|version| version.version_id()).map(str::to_owned).or_else(|| {
                self.inventory()
                    .and_then(|inventory| inventory.version(id))
                    .map(|version| version.id.as_str().to_owned())
            }),
        };
        Some(id.ok_or(Unresolved::Command))
    }

    /// What did not become live for this generation, unless somebody asks to try again.
    pub(super) fn failed(&self) -> &[String] {
        let failed = self.status().failed.as_ref().filter(|failed| {
            Some(failed.generation) == self.object.metadata.generation && !self.is_requested()
        });
        failed.map(|failed| failed.version_ids.as_slice()).unwrap_or_default()
    }

    /// Somebody asks for a look, and to try again what was given up.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        requested(&self.object.metadata, self.status().common.last_handled_reconcile_at.as_deref())
    }

    fn has_failed(&self, id: &str) -> bool {
        self.failed().iter().any(|failed| failed == id)
    }

    fn number_of(&self, id: &str) -> Option<String> {
        let listed = self.inventory().and_then(|inventory| inventory.version(id));
        listed.and_then(|version| version.number.as_deref()).map(str::to_owned)
    }

    /// Whether a version is listed, or nobody can tell.
    fn may_be_there(&self, id: &str) -> bool {
        self.inventory().is_none_or(|inventory| inventory.version(id).is_some())
    }

    /// The wanted version as the service lists it.
    pub(super) fn listed(&self, id: &str) -> Option<&Version> {
        self.inventory().and_then(|inventory| inventory.version(id))
    }

    /// Whether it can be seen what is live: the key may read it, and the list knows it.
    #[must_use]
    pub fn is_observable(&self) -> bool {
        let Look::Shown { inventory, deployments: Some(deployments), .. } = &self.look else {
            return false;
        };
        deployments.of(self.environment()).is_none_or(|deployed| {
            let comparable = deployed.number.is_some() && inventory.tells_numbers();
            comparable || deployed.resolve(inventory).is_some()
        })
    }

    /// Id of the version that runs: from the deployment status, else from what the list shows of our own
    /// call, else as last confirmed. `None`: nothing, or nothing that is listed.
    #[must_use]
    pub fn live(&self) -> Option<String> {
        let Look::Shown { inventory, deployments, .. } = &self.look else {
            return self.status().active.as_ref().map(|active| active.version_id.clone());
        };
        let Some(deployments) = deployments else {
            return self.live_by_list(inventory);
        };
        let deployed = deployments.of(self.environment())?;
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
                (deployed.number.is_none() || !inventory.tells_numbers())
                    .then(|| self.live_by_list(inventory))
                    .flatten()
            })
    }

    fn live_by_list(&self, inventory: &Inventory) -> Option<String> {
        let status = self.status();
        match &status.operation {
            Some(operation) if self.shows(operation, inventory) => Some(operation.version_id.clone()),
            // since a version was last confirmed another call may have taken effect
            Some(_) => None,
            None => status.active.as_ref().map(|active| active.version_id.clone()),
        }
    }

    /// The wanted version runs, but a call for another one may still take effect: git came back in between.
    pub(super) fn is_outrun(&self, wanted: &str) -> bool {
        let in_flight = self.status().operation.as_ref().is_some_and(|operation| {
            operation.version_id != wanted
                && (operation.called_at.is_some() || !self.permit)
                && operation.result != Some(OperationResult::Refused)
                && elapsed(&operation.started_at, self.now) <= self.deadline()
        });
        in_flight && self.is_observable() && self.live().as_deref() == Some(wanted)
    }

    /// Whether the list shows that our call took effect.
    fn shows(&self, operation: &RunningOperation, inventory: &Inventory) -> bool {
        let Some(called_at) = &operation.called_at else {
            return false;
        };
        let deployed = inventory.version(&operation.version_id).and_then(|version| version.deployed);
        if inventory.tells_deployed() {
            // a time that moved after a call without a usable answer may be another environment's
            let ours = operation.result == Some(OperationResult::Accepted)
                || !self.busy_elsewhere.contains(&operation.version_id);
            return ours
                && deployed.is_some_and(|at| {
                    at.as_microsecond()
                        != operation.deployed_before.as_ref().map_or(0, |t| t.0.as_microsecond())
                });
        }
        // the service tells nothing at all of deployments: an accepted deploy is the last that can be known
        operation.operation == crd::Operation::Deploy
            && operation.result == Some(OperationResult::Accepted)
            && elapsed(called_at, self.now) > self.rules.visibility_grace
    }

    fn operation(&self, wanted: &str) -> Operation {
        let Some(operation) = &self.status().operation else {
            return Operation::None;
        };
        let call =
            if operation.operation == crd::Operation::Rollback { Call::Rollback } else { Call::Deploy };
        if operation.version_id != wanted {
            return if self.is_outrun(wanted) { Operation::Called(call) } else { Operation::None };
        }
        let over = |since: &Time| elapsed(since, self.now) > self.rules.visibility_grace;
        let repeated_too_long =
            || operation.first_called_at.as_ref().is_some_and(|t| elapsed(t, self.now) > self.deadline());
        match (&operation.called_at, operation.result) {
            (None, _) if self.permit => Operation::Fresh(call),
            (None, _) if over(&operation.started_at) => Operation::Unsure,
            (None, _) => Operation::Called(call),
            (Some(_), Some(OperationResult::Refused)) if call == Call::Rollback => Operation::Vain,
            (Some(_), Some(OperationResult::Refused)) => Operation::None,
            // before it counts as late, everything was tried: the deploy in place of a rollback, and a call
            // without a usable answer once more
            (Some(at), _) if call == Call::Rollback && over(at) => Operation::Vain,
            (Some(at), Some(OperationResult::Unknown)) if over(at) && repeated_too_long() => {
                Operation::Overdue
            }
            (Some(at), Some(OperationResult::Unknown)) if over(at) => Operation::Unsure,
            (Some(at), Some(OperationResult::Accepted))
                if call == Call::Deploy && elapsed(at, self.now) > self.deadline() =>
            {
                Operation::Overdue
            }
            _ => Operation::Called(call),
        }
    }

    /// How long a version may take to become live.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        let asked = self.object.spec.progress_deadline.as_deref();
        asked.and_then(|text| parse_duration(text).ok()).unwrap_or(PROGRESS_DEADLINE)
    }

    fn is_back(&self, wanted: &str) -> bool {
        self.object.spec.rollback_method() == RollbackMethod::Rollback
            && self.status().history.iter().any(|entry| entry.version_id == wanted)
    }

    fn gate(&self, wanted: &str) -> Gate {
        let Some(after) = &self.object.spec.promote_after else {
            return Gate::Open;
        };
        let first = self.gate.as_ref().and_then(|gate| gate.status.as_ref());
        let since = self.status().target.as_ref().filter(|target| target.version_id == wanted);
        let since = since.and_then(|target| target.since.as_ref());
        if first.is_some_and(|first| self.has_soaked(first, after, wanted)) {
            Gate::Open
        } else if first.is_none_or(|first| !goes_to(first, wanted))
            && since.is_some_and(|since| elapsed(since, self.now) > self.deadline())
        {
            Gate::Shut
        } else {
            Gate::Closed
        }
    }

    /// The deployment that comes first has been Ready on the same version for long enough.
    fn has_soaked(&self, first: &ChatbotDeploymentStatus, after: &PromoteAfter, wanted: &str) -> bool {
        let soak = after.soak.as_deref().and_then(|text| parse_duration(text).ok()).unwrap_or_default();
        let ready = first.common.conditions.iter().find(|c| c.type_ == "Ready" && c.status == "True");
        let active = first.active.as_ref().filter(|active| active.version_id == wanted);
        ready.zip(active).is_some_and(|(ready, active)| {
            elapsed(&ready.last_transition_time, self.now) >= soak && elapsed(&active.since, self.now) >= soak
        })
    }

    fn drift(&self, wanted: &str) -> Drift {
        let status = self.status();
        let reached =
            status.target.as_ref().is_some_and(|t| t.version_id == wanted && t.reached_at.is_some());
        if !reached || !self.is_observable() {
            return Drift::None;
        }
        if self.live().is_some_and(|live| coming(status, self.now, &self.rules).any(|id| id == live)) {
            return Drift::Late;
        }
        let exhausted = status.reversals.as_ref().is_some_and(|reversals| {
            reversals.count >= REVERSALS && elapsed(&reversals.since, self.now) <= REVERSAL_WINDOW
        });
        match self.object.spec.drift.unwrap_or(DriftPolicy::Enforce) {
            DriftPolicy::Warn => Drift::Warn,
            DriftPolicy::Enforce if exhausted && !self.is_requested() => Drift::Exhausted,
            DriftPolicy::Enforce => Drift::Enforce,
        }
    }

    /// How often changes by hand were reversed within the window, this one included.
    pub(super) fn reversals(&self) -> crd::Reversals {
        let now = super::super::whole(self.now);
        match &self.status().reversals {
            Some(old) if elapsed(&old.since, self.now) <= REVERSAL_WINDOW => {
                crd::Reversals { count: old.count.saturating_add(1), since: old.since.clone() }
            }
            _ => crd::Reversals { count: 1, since: now },
        }
    }

    fn retiring(&self, wanted: Option<&str>) -> Retiring {
        let kept = self.still_retiring();
        let status = self.status();
        if self
            .leaving
            .iter()
            .any(|leaving| !status.retiring.iter().any(|r| r.version_id == leaving.version_id))
        {
            return Retiring::Arriving;
        }
        if kept.is_empty() {
            // entries to drop are dropped with the next status; the finalizer goes after that
            return if status.retiring.is_empty() { Retiring::None } else { Retiring::Live };
        }
        match self.due(wanted) {
            Some(_) if self.retire_sent() => Retiring::Sent,
            Some(_) => Retiring::Due,
            None => Retiring::Live,
        }
    }

    /// The entries of `retiring` that are still to be deleted: neither gone nor wanted again.
    #[must_use]
    pub fn still_retiring(&self) -> Vec<crd::Retiring> {
        let gone = |id: &str| match &self.look {
            Look::Shown { inventory, trusted, .. } => *trusted && inventory.version(id).is_none(),
            _ => false,
        };
        let mut entries = self.status().retiring.clone();
        entries.retain(|entry| !self.reclaimed.contains(&entry.version_id) && !gone(&entry.version_id));
        entries
    }

    /// A version that can be deleted: it is listed, runs nowhere and is about to run nowhere.
    #[must_use]
    pub fn due(&self, wanted: Option<&str>) -> Option<crd::Retiring> {
        let Look::Shown { inventory, deployments, .. } = &self.look else {
            return None;
        };
        let mut busy = self.busy_elsewhere.clone();
        busy.extend(wanted.map(str::to_owned));
        busy.extend(self.live());
        let status = self.status();
        // without a deployment status: somebody may have deployed it by hand since
        let since =
            status.active.as_ref().zip(self.elsewhere_since).map(|(here, there)| here.since.0.min(there));
        busy.extend(status.operation.as_ref().map(|operation| operation.version_id.clone()));
        busy.extend(coming(status, self.now, &self.rules).map(str::to_owned));
        busy.extend(status.active.as_ref().map(|active| active.version_id.clone()));
        match deployments {
            Some(deployments) => {
                for environment in ["test", "prod"] {
                    let Some(deployed) = deployments.of(environment) else {
                        continue;
                    };
                    // what runs but cannot be told may be any of them
                    busy.insert(deployed.resolve(inventory)?.id.as_str().to_owned());
                }
            }
            None if since.is_none() || self.live().is_none() => return None,
            None => {}
        }
        let free = |entry: &crd::Retiring| {
            let past = |version| since.is_some_and(|since| inventory.is_past(version, since));
            !busy.contains(&entry.version_id)
                && inventory
                    .version(&entry.version_id)
                    .is_some_and(|version| deployments.is_some() || past(version))
        };
        self.still_retiring().into_iter().find(free)
    }

    fn retire_sent(&self) -> bool {
        let last = self.status().common.last_operations.first();
        last.is_some_and(|last| is_pending_delete(last, self.now, self.rules.visibility_grace))
    }

    /// How old what the service shows may be for this object.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.rules.interval(self.object.spec.interval.as_deref())
    }
}

/// Whether a deployment runs a version or is on its way there.
pub(super) fn goes_to(status: &ChatbotDeploymentStatus, id: &str) -> bool {
    !status.common.is_true(ConditionType::Stalled)
        && status.target.as_ref().is_some_and(|target| target.version_id == id)
}

/// Versions that may become live though nobody wants them any more: ours was a call without a usable answer, and its
/// effect has not been seen since.
pub fn coming<'a>(
    status: &'a ChatbotDeploymentStatus,
    now: Timestamp,
    rules: &Rules,
) -> impl Iterator<Item = &'a str> {
    let grace = rules.visibility_grace;
    status.common.last_operations.iter().filter_map(move |record| {
        let id = record.version_id.as_deref()?;
        let seen = status.history.iter().any(|entry| entry.version_id == id && entry.since.0 >= record.at.0);
        let may_come = matches!(record.operation, crd::Operation::Deploy | crd::Operation::Rollback)
            && record.result == OperationResult::Unknown
            && elapsed(&record.at, now) <= grace;
        (may_come && !seen).then_some(id)
    })
}
