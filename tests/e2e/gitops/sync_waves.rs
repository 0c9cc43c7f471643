//! Sync waves as Argo CD runs them: apply a wave, wait until its own health code reports it healthy and pruned objects
//! are gone, go on to the next. Every sync must end.

use std::{collections::BTreeSet, thread};

use chatcaptain_operator::crd::{ChatbotDeployment, ChatbotVersion};
use kube::ResourceExt;
use serde_json::{Value, json};
use simulator::{Environment, Settings};
use support::{World, deployment, judge, version};

/// One manifest in git.
#[derive(Clone)]
struct Item {
    wave: i64,
    kind: &'static str,
    name: String,
    text: String,
}

/// Git at one commit, and how to bring a cluster from one commit to another.
struct Git<'a> {
    world: &'a World,
    items: Vec<Item>,
}

impl<'a> Git<'a> {
    fn empty(world: &'a World) -> Self {
        judge::build();
        Self { world, items: Vec::new() }
    }

    fn version(mut self, wave: i64, name: &str) -> Self {
        let text = version(&self.world.bot, name, &[]);
        self.items.push(Item { wave, kind: "chatbotversion", name: name.to_owned(), text });
        self
    }

    /// An environment that runs a version; `more` are further lines of its spec.
    fn runs(mut self, wave: i64, environment: &str, version: &str, more: &[&str]) -> Self {
        let reference = format!("versionRef: {{name: {version}}}");
        let more: Vec<&str> = [reference.as_str()].into_iter().chain(more.iter().copied()).collect();
        let text = deployment(&self.world.bot, environment, environment, &more);
        self.items.push(Item { wave, kind: "chatbotdeployment", name: environment.to_owned(), text });
        self
    }

    /// What the earlier commit holds and this one does not, in the order in which Argo CD prunes: its waves reversed
    /// among themselves.
    fn pruned(&self, before: &Self) -> Vec<Item> {
        let kept = |item: &Item| self.items.iter().any(|i| (i.kind, &i.name) == (item.kind, &item.name));
        let mut pruned: Vec<Item> = before.items.iter().filter(|item| !kept(item)).cloned().collect();
        let waves: Vec<i64> =
            pruned.iter().map(|item| item.wave).collect::<BTreeSet<_>>().into_iter().collect();
        for item in &mut pruned {
            let place = waves.iter().position(|wave| *wave == item.wave).unwrap();
            item.wave = waves[waves.len() - 1 - place];
        }
        pruned
    }

    /// Ends when everything is healthy, or with what is degraded. One that ends in neither way fails the test.
    fn sync(&self, before: &Self) -> Result<(), String> {
        let pruned = self.pruned(before);
        let waves: BTreeSet<i64> = self.items.iter().chain(&pruned).map(|item| item.wave).collect();
        for wave in waves {
            let of_wave = |items: &[Item]| -> Vec<Item> {
                items.iter().filter(|item| item.wave == wave).cloned().collect()
            };
            let (applied, pruned) = (of_wave(&self.items), of_wave(&pruned));
            for item in &applied {
                self.world.apply(&item.text);
            }
            for item in &pruned {
                self.world.delete(item.kind, &item.name);
            }
            self.world.eventually(&format!("wave {wave} ends"), || self.end_of(&applied, &pruned))?;
        }
        Ok(())
    }

    /// How a wave has ended, if it has.
    fn end_of(&self, applied: &[Item], pruned: &[Item]) -> Option<Result<(), String>> {
        let objects: Vec<Value> = applied.iter().map(|item| self.object(item)).collect();
        let said = if objects.is_empty() { Vec::new() } else { judge::health(&objects) };
        let degraded = said.iter().zip(&objects).find(|(health, _)| health.means == "failed");
        if let Some((_, object)) = degraded {
            let conditions = object["status"]["conditions"].as_array().unwrap();
            let stalled = conditions.iter().find(|condition| condition["type"] == "Stalled").unwrap();
            return Some(Err(stalled["reason"].as_str().unwrap().to_owned()));
        }
        let is_there = |item: &Item| match item.kind {
            "chatbotversion" => self.world.get::<ChatbotVersion>(&item.name).is_some(),
            _ => self.world.get::<ChatbotDeployment>(&item.name).is_some(),
        };
        (said.iter().all(|health| health.means == "done") && !pruned.iter().any(is_there)).then_some(Ok(()))
    }

    fn object(&self, item: &Item) -> Value {
        serde_json::from_str(&self.world.kubectl(&["get", item.kind, &item.name, "-o", "json"], "")).unwrap()
    }
}

/// A promotion after the deployment of test.
const AFTER_TEST: &str = "promoteAfter: {deploymentRef: {name: test}}";
/// A version is deleted as soon as it is no longer in use.
const KEEPS_NOTHING: &str = "revisionHistoryLimit: 0";

#[test]
fn live_version_pruned_in_an_early_wave_is_deleted_later() {
    let world = World::new(Settings { rollout_ms: 500, ..Settings::default() });
    let nothing = Git::empty(&world);
    let commit = |name: &str| {
        let git = Git::empty(&world).version(0, name).runs(1, "test", name, &[KEEPS_NOTHING]);
        git.runs(2, "prod", name, &[AFTER_TEST, KEEPS_NOTHING])
    };
    let (first, second) = (commit("a"), commit("b"));
    first.sync(&nothing).unwrap();
    assert_eq!(world.live_version(Environment::Prod).as_deref(), Some("a"));
    // `a` runs in two environments while its object is pruned, in the wave before those that move them on
    second.sync(&first).unwrap();
    assert_eq!(world.live_version(Environment::Prod).as_deref(), Some("b"));
    world.eventually("a is deleted once it runs nowhere", || {
        let versions = world.state()?.versions;
        (!versions.iter().any(|version| version.name == "a")).then_some(())
    });
    // the whole application goes, the last wave first
    nothing.sync(&second).unwrap();
    assert_eq!(world.live_version(Environment::Prod).as_deref(), Some("b"), "what is live stays live");
}

#[test]
fn app_of_apps_with_promotion_completes() {
    let world = World::new(Settings { rollout_ms: 500, ..Settings::default() });
    let apps = |name: &str| {
        let prod = Git::empty(&world).runs(0, "prod", name, &[AFTER_TEST]);
        let test = Git::empty(&world).version(0, name).runs(1, "test", name, &[]);
        (prod, test)
    };
    // an Application has no health of its own, so the parent does not wait for the first child
    let (first_prod, first_test) = apps("a");
    let nothing = Git::empty(&world);
    thread::scope(|scope| {
        let prod = scope.spawn(|| first_prod.sync(&nothing));
        world.wait_for_reason::<ChatbotDeployment>("prod", "WaitingForVersion");
        first_test.sync(&nothing).unwrap();
        prod.join().unwrap().unwrap();
    });
    // where the parent does wait, its waves say that test comes first
    let (prod, test) = apps("b");
    test.sync(&first_test).unwrap();
    prod.sync(&first_prod).unwrap();
    assert_eq!(world.live_version(Environment::Prod).as_deref(), Some("b"));
    let moves = world.effects_besides_creates();
    assert_eq!(&moves[..4], ["deploy a test", "deploy a prod", "deploy b test", "deploy b prod"]);
}

#[test]
fn promotion_in_the_wrong_wave_fails_the_sync_with_a_reason() {
    let world = World::new(Settings::default());
    let commit = |name: &str, test: i64, prod: i64| {
        let git = Git::empty(&world).version(0, name).runs(test, "test", name, &[]);
        git.runs(prod, "prod", name, &[AFTER_TEST, "progressDeadline: 3s"])
    };
    let first = commit("a", 1, 2);
    first.sync(&Git::empty(&world)).unwrap();
    let wrong = commit("b", 2, 1);
    assert_eq!(wrong.sync(&first), Err("PromotionBlocked".to_owned()));
    let ready = world.deployment("prod").status.unwrap().common.conditions.remove(0);
    assert!(
        ready.message.contains("ChatbotDeployment test") && ready.message.contains("sync wave"),
        "{ready:?}"
    );
    // once git has them in order
    commit("b", 1, 2).sync(&wrong).unwrap();
    assert_eq!(world.live_version(Environment::Prod).as_deref(), Some("b"));
}

#[test]
fn failed_rollout_fails_the_sync_and_a_revert_recovers() {
    let settings = Settings { failing_rollouts: vec!["bad".to_owned()], ..Settings::default() };
    for (on_failure, reason) in [("Never", "ProgressDeadlineExceeded"), ("Previous", "RolledBack")] {
        let world = World::new(settings.clone());
        let rollback = format!("rollback: {{onFailure: {on_failure}}}");
        let more = ["progressDeadline: 3s", rollback.as_str()];
        let commit = |name: &str| {
            let git = Git::empty(&world).version(0, "good").version(0, "bad");
            git.runs(1, "test", name, &more).runs(2, "prod", name, &[AFTER_TEST])
        };
        commit("good").sync(&Git::empty(&world)).unwrap();
        assert_eq!(commit("bad").sync(&commit("good")), Err(reason.to_owned()));
        let generation = world.deployment("prod").metadata.generation;
        assert_eq!(generation, Some(1), "{} was not asked to follow", world.deployment("prod").name_any());
        commit("good").sync(&commit("bad")).unwrap();
        assert_eq!(world.live_version(Environment::Test).as_deref(), Some("good"));
        assert_eq!(world.live_version(Environment::Prod).as_deref(), Some("good"));
    }
}

/// What Argo CD sends of an object that an action has changed.
fn merge_patch(from: &Value, to: &Value) -> Value {
    let (Some(old), Some(new)) = (from.as_object(), to.as_object()) else {
        return to.clone();
    };
    let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let changed = new.iter().filter(|(key, value)| old.get(*key) != Some(value));
    let changed = changed.map(|(key, value)| (key.clone(), merge_patch(&from[key], value)));
    gone.chain(changed).collect()
}

#[test]
fn rollback_by_action_survives_self_heal() {
    let world = World::new(Settings::default());
    let commit = |name: &str| Git::empty(&world).version(0, "a").version(0, "b").runs(1, "test", name, &[]);
    commit("a").sync(&Git::empty(&world)).unwrap();
    let git = commit("b");
    git.sync(&commit("a")).unwrap();
    let act = |action: &str| {
        let object = git.object(&git.items[2]);
        let patch = merge_patch(&object, &judge::act(&object, action, &json!({}))).to_string();
        world.kubectl(&["patch", "chatbotdeployment", "test", "--type=merge", "--patch", &patch], "");
    };
    act("rollback-to-previous");
    world.wait_for_reason::<ChatbotDeployment>("test", "RolledBack");
    assert_eq!(world.live_version(Environment::Test).as_deref(), Some("a"));
    // neither way of comparing finds a difference to git
    for how in [&[][..], &["--server-side", "--field-manager=argocd-controller"]] {
        world.kubectl(&[&["diff"], how, &["--filename=-"]].concat(), &git.items[2].text);
    }
    // where self-heal applies what git holds all the same, it stays, and the sync says so
    assert_eq!(git.sync(&git), Err("RolledBack".to_owned()));
    assert_eq!(world.live_version(Environment::Test).as_deref(), Some("a"));
    act("undo-rollback");
    git.sync(&git).unwrap();
    assert_eq!(world.live_version(Environment::Test).as_deref(), Some("b"));
}
