//! Compares what git says, what the cluster holds and what the service has and did.

use std::collections::{BTreeMap, BTreeSet};

use chatcaptain_operator::crd::{ChatbotDeployment, ChatbotVersion};
use kube::ResourceExt;
use simulator::{Actor, ChatbotState, Environment, LogEntry, Operation};

use super::git::{Deployment, Git};
use support::{Object, World, condition, is_ready};

/// In the words of a violation: a deletion that was handed over, and not carried out.
pub const STILL_TO_DELETE: &str = "still has to delete";

/// Everything there is to compare.
pub struct Evidence {
    pub git: Git,
    pub versions: Vec<ChatbotVersion>,
    pub deployments: Vec<ChatbotDeployment>,
    /// Every change in the service, in order.
    pub effects: Vec<LogEntry>,
    pub state: Vec<ChatbotState>,
    /// What the operators have written.
    pub log: String,
}

impl Evidence {
    pub fn gather(git: &Git, world: &World) -> Self {
        Self {
            git: git.clone(),
            versions: world.cluster.list(&world.namespace),
            deployments: world.cluster.list(&world.namespace),
            effects: world.service.log(),
            state: world.service.state(),
            log: world.log(),
        }
    }

    /// Everything that is not as it should be.
    pub fn violations(&self) -> Vec<String> {
        [
            self.history(),
            self.deletes(),
            self.gates(),
            self.kept_versions(),
            self.markers(),
            self.objects(),
            self.environments(),
            self.leftovers(),
        ]
        .concat()
    }

    /// The objects that are back after their version was deleted, as the limit of the history allows.
    pub fn deleted_versions(&self) -> Vec<String> {
        let is_lost = |object: &&ChatbotVersion| {
            condition(*object, "Ready").is_some_and(|ready| ready.reason == "VersionLost")
                && object.version_id().is_some_and(|id| self.named(&object.spec.chatbot_id, id).is_none())
        };
        self.versions.iter().filter(is_lost).map(ResourceExt::name_any).collect()
    }

    /// What stays in git is never deleted.
    fn deletes(&self) -> Vec<String> {
        let mut deletes: BTreeMap<&str, usize> = BTreeMap::new();
        for entry in self.effects.iter().filter(|entry| entry.operation == Operation::Delete) {
            *deletes.entry(&entry.name).or_default() += 1;
        }
        let prunes = |name: &str| self.git.versions.get(name).map_or(0, |version| version.prunes);
        let unwanted = deletes.into_iter().filter(|(name, count)| *count > prunes(name));
        let text = |(name, count)| {
            format!("unwanted: {count} deletes of {name}, which left git {} times", prunes(name))
        };
        unwanted.map(text).collect()
    }

    /// Where prod waits for test, it never runs what test did not run before.
    fn gates(&self) -> Vec<String> {
        let gated: BTreeSet<&str> = self
            .git
            .deployments
            .values()
            .filter(|deployment| deployment.gate.is_some())
            .map(|deployment| deployment.bot.as_str())
            .collect();
        let mut ran_in_test = BTreeSet::new();
        let mut violations = Vec::new();
        for entry in &self.effects {
            let is_rollout = matches!(entry.operation, Operation::Deploy | Operation::Rollback);
            match entry.environment.filter(|_| is_rollout) {
                Some(Environment::Test) => drop(ran_in_test.insert(&entry.version)),
                Some(Environment::Prod)
                    if gated.contains(entry.chatbot.as_str()) && !ran_in_test.contains(&entry.version) =>
                {
                    violations.push(format!("gate: prod ran {} before test did", entry.name));
                }
                _ => {}
            }
        }
        violations
    }

    /// What `spec.revisionHistoryLimit` keeps is in the service.
    fn kept_versions(&self) -> Vec<String> {
        let mut violations = Vec::new();
        for (name, wanted) in &self.git.deployments {
            let object = self.deployments.iter().find(|object| object.name_any() == *name);
            // while a version runs that somebody has deployed, it counts as well, and an older one may go
            let kept = object.filter(|_| !self.was_deployed_manually(wanted)).map(|o| kept(o, wanted.kept()));
            let missing = kept.into_iter().flatten().filter(|id| self.named(&wanted.bot, id).is_none());
            violations.extend(missing.map(|id| format!("kept: {name} may go back to {id}, which is gone")));
        }
        violations
    }

    fn was_deployed_manually(&self, deployment: &Deployment) -> bool {
        self.effects.iter().any(|entry| {
            entry.by == Actor::Hand
                && entry.operation == Operation::Deploy
                && entry.chatbot == deployment.bot
                && entry.environment == Some(deployment.environment())
        })
    }

    /// Nothing was created twice, nothing live was deleted.
    fn history(&self) -> Vec<String> {
        let mut violations = Vec::new();
        let mut live: BTreeMap<(&str, Environment), &str> = BTreeMap::new();
        let mut there: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
        let mut creates: BTreeMap<&str, usize> = BTreeMap::new();
        for entry in &self.effects {
            let (bot, id, name) = (entry.chatbot.as_str(), entry.version.as_str(), entry.name.as_str());
            let same = there.entry((bot, name)).or_default();
            match entry.operation {
                Operation::Create => {
                    if !same.is_empty() {
                        violations.push(format!("twice: {name} was created as {id} beside {same:?}"));
                    }
                    same.insert(id);
                    *creates.entry(name).or_default() += 1;
                }
                Operation::Delete => {
                    same.remove(id);
                    let runs = live.iter().find(|((of, _), runs)| *of == bot && **runs == id);
                    if let Some(((_, environment), _)) = runs {
                        violations
                            .push(format!("live: {name} ({id}) was deleted while {environment:?} ran it"));
                    }
                }
                Operation::Deploy | Operation::Rollback => {
                    live.extend(entry.environment.map(|environment| ((bot, environment), id)));
                }
                Operation::List | Operation::Status => {}
            }
        }
        for (name, count) in creates {
            let creations = self.git.versions.get(name).map_or(0, |version| version.creations);
            if count > creations {
                violations.push(format!("twice: {count} creates of {name} for {creations} objects"));
            }
        }
        violations
    }

    /// No marker is on two versions.
    fn markers(&self) -> Vec<String> {
        let mut owners: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for version in self.state.iter().flat_map(|state| &state.versions) {
            let last = version.description.as_deref().and_then(|text| text.lines().next_back());
            owners.entry(last.unwrap_or_default()).or_default().push(&version.id);
        }
        let shared = owners.iter().filter(|(_, ids)| ids.len() > 1);
        shared.map(|(marker, ids)| format!("twice: {marker} is on {ids:?}")).collect()
    }

    /// Each version of git has its settled object, and that its version in the service.
    fn objects(&self) -> Vec<String> {
        let mut violations = Vec::new();
        for (name, wanted) in &self.git.versions {
            let object = self.versions.iter().find(|object| object.name_any() == *name);
            match (wanted.present, object) {
                (true, None) => violations.push(format!("lost: object {name}")),
                (false, Some(_)) => violations.push(format!("settled: object {name} should be gone")),
                (false, None) => {}
                (true, Some(object)) => {
                    violations.extend(verdict(object));
                    let made = object.version_id().and_then(|id| self.named(&wanted.bot, id));
                    if made != Some(name.as_str()) {
                        let id = object.version_id();
                        violations
                            .push(format!("lost: {name} says {id:?}, which is {made:?} in the service"));
                    }
                }
            }
        }
        violations
    }

    fn named(&self, bot: &str, id: &str) -> Option<&str> {
        let versions =
            self.state.iter().filter(|state| state.chatbot == bot).flat_map(|state| &state.versions);
        versions.into_iter().find(|version| version.id == id).map(|version| version.name.as_str())
    }

    /// Each environment runs what git names, and its object says so.
    fn environments(&self) -> Vec<String> {
        let mut violations = Vec::new();
        for (name, wanted) in &self.git.deployments {
            let Some(object) = self.deployments.iter().find(|object| object.name_any() == *name) else {
                violations.push(format!("lost: object {name}"));
                continue;
            };
            violations.extend(verdict(object));
            let state = self.state.iter().find(|state| state.chatbot == wanted.bot);
            let live = state.and_then(|state| state.live(wanted.environment()));
            let runs = live.and_then(|id| self.named(&wanted.bot, id));
            if runs != Some(wanted.version.as_str()) {
                violations.push(format!("settled: {name} runs {runs:?}, git names {}", wanted.version));
            }
            let status = object.status.clone().unwrap_or_default();
            if status.active.as_ref().map(|active| active.version_id.as_str()) != live {
                violations.push(format!("settled: {name} says {:?} runs, it is {live:?}", status.active));
            }
            let kept = self.kept_by_any(&wanted.bot);
            let unneeded = status.pending_deletions.iter().filter(|entry| !kept.contains(&entry.version_id));
            violations.extend(unneeded.map(|entry| format!("settled: {name} {STILL_TO_DELETE} {entry:?}")));
        }
        violations
    }

    /// What either environment of a bot runs or keeps: the other one does not delete it.
    fn kept_by_any(&self, bot: &str) -> BTreeSet<String> {
        let of_bot = self.deployments.iter().filter(|object| object.spec.chatbot_id == bot);
        let wanted = of_bot.filter_map(|o| Some((o, self.git.deployments.get(&o.name_any())?)));
        wanted
            .flat_map(|(object, wanted)| kept(object, wanted.kept()).into_iter().chain(active(object)))
            .collect()
    }

    /// A version that no object holds and that no deployment is to delete is reported as an orphan.
    fn leftovers(&self) -> Vec<String> {
        let statuses = self.deployments.iter().filter_map(|object| object.status.as_ref());
        let pending =
            statuses.flat_map(|status| &status.pending_deletions).map(|entry| entry.version_id.as_str());
        let held: BTreeSet<&str> =
            self.versions.iter().filter_map(ChatbotVersion::version_id).chain(pending).collect();
        let recorded = |id: &str| {
            self.log.lines().any(|line| line.contains("may be left in the service") && line.contains(id))
        };
        let all = self.state.iter().flat_map(|state| &state.versions);
        let silent = all.filter(|version| !held.contains(version.id.as_str()) && !recorded(&version.id));
        silent.map(|version| format!("left: {} ({}) is on no record", version.name, version.id)).collect()
    }
}

/// The versions that ran last and do not run now, as many as the limit says.
fn kept(deployment: &ChatbotDeployment, limit: usize) -> Vec<String> {
    let history = deployment.status.iter().flat_map(|status| &status.history);
    let mut kept: Vec<String> = history.map(|entry| entry.version_id.clone()).collect();
    let mut known: BTreeSet<String> = active(deployment).into_iter().collect();
    kept.retain(|id| known.insert(id.clone()));
    kept.truncate(limit);
    kept
}

fn active(deployment: &ChatbotDeployment) -> Option<String> {
    let active = deployment.status.as_ref()?.active.as_ref()?;
    Some(active.version_id.clone())
}

/// Settled means Ready for the current generation, with no condition beside it.
fn verdict<K: Object>(object: &K) -> Option<String> {
    let other = ["Reconciling", "Stalled"].into_iter().find_map(|kind| condition(object, kind));
    let is_being_deleted = object.meta().deletion_timestamp.is_some();
    if is_ready(object) && other.is_none() && !is_being_deleted {
        return None;
    }
    let ready = condition(object, "Ready");
    let says = ready.map(|c| format!("{} {}: {}", c.status, c.reason, c.message));
    Some(format!("settled: {} is not Ready (being deleted: {is_being_deleted}): {says:?}", object.name_any()))
}
