//! Random faults and changes from a seed; then they end, and a checker compares git, cluster and service.

mod bulk_creates;
mod checker;
mod checker_test;
mod faults;
mod git;

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use chatcaptain_operator::crd::{ChatbotDeployment, ChatbotVersion};
use checker::Evidence;
use git::{Deployment, Git, Version};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::json;
use simulator::{DeleteLive, Environment, Settings};
use support::{Cluster, Flags, Object, Usage, World, is_ready, poll};

const FLAGS: Flags = &[
    ("interval", "2s"),
    ("visibility-grace", faults::GRACE),
    ("api-timeout", faults::API_TIMEOUT),
    ("deletion-timeout", "1h"),
];
const BOTS: usize = 3;
const VERSIONS: usize = 6;
/// `spec.revisionHistoryLimit` of test and prod, by bot.
const HISTORY_LIMITS: [[Option<usize>; 2]; BOTS] = [[None, Some(1)], [Some(0), None], [Some(1), Some(0)]];
/// The bots whose prod waits for test.
const GATED: [usize; 2] = [0, 2];
/// More than this pauses the correction of drift.
const MAX_MANUAL_DEPLOYS: usize = 3;
/// How long it may take until every object is Ready again and nothing is left to delete.
const SETTLE_LIMIT: Duration = Duration::from_mins(4);
/// A rollout may take as long as the faults last.
const DEADLINE_DURING_FAULTS: &str = "2h";
/// Until its deadline a call whose effect was not observed keeps its version, and its environment waiting. Longer than the
/// grace.
const DEADLINE_AT_REST: &str = "10s";
/// After so long without faults, every rollout that can be done is done.
const ROLLOUT_LIMIT: Duration = Duration::from_secs(30);

fn seed() -> u64 {
    let seed = std::env::var("SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("seed {seed}; the same again: SEED={seed}");
    seed
}

/// How long the faults last.
fn duration() -> Duration {
    let seconds = std::env::var("CHAOS_SECONDS").map_or(20, |text| text.parse().unwrap());
    Duration::from_secs(seconds)
}

/// The service allows the deletion of a live version: only the operator can prevent it.
fn settings() -> Settings {
    Settings { delete_live: DeleteLive::Accepted, ..Settings::default() }
}

/// Two keys; a few versions and both environments of each bot.
fn first_commit(world: &World) -> Git {
    let mut git = Git::default();
    for (number, history_limits) in HISTORY_LIMITS.into_iter().enumerate() {
        let bot = format!("{}-{number}", world.bot);
        let secret = secret(number % 2);
        for count in 0..VERSIONS {
            let version = Version {
                bot: bot.clone(),
                secret: secret.clone(),
                present: true,
                interval: 2,
                creations: 0,
                prunes: 0,
            };
            git.versions.insert(format!("v{number}-{count}"), version);
        }
        for (environment, history_limit) in ["test", "prod"].into_iter().zip(history_limits) {
            let is_gated = environment == "prod" && GATED.contains(&number);
            let deployment = Deployment {
                bot: bot.clone(),
                secret: secret.clone(),
                environment,
                version: format!("v{number}-0"),
                present: true,
                history_limit,
                gate: is_gated.then(|| format!("test-{number}")),
                progress_deadline: DEADLINE_DURING_FAULTS,
            };
            git.deployments.insert(format!("{environment}-{number}"), deployment);
        }
    }
    git
}

fn secret(number: usize) -> String {
    format!("key-{number}")
}

struct Soak {
    world: World,
    git: Git,
    random: StdRng,
    counts: Counts,
    keys: u32,
    worst: Usage,
}

#[derive(Debug, Default)]
struct Counts {
    faults: usize,
    throttles: usize,
    kills: usize,
    edits: usize,
    deletions: usize,
    moves: usize,
    commands: usize,
    manual_deploys: usize,
    keys: usize,
    outages: usize,
}

impl Soak {
    fn new(seed: u64) -> Self {
        let cluster = Cluster::installed();
        let kubeconfig = cluster.operator_kubeconfig();
        let world = World::on_cluster(cluster, kubeconfig, settings(), FLAGS);
        let git = first_commit(&world);
        let random = StdRng::seed_from_u64(seed);
        let mut soak =
            Self { world, git, random, counts: Counts::default(), keys: 0, worst: Usage::default() };
        soak.set_valid_keys();
        soak.world.start();
        soak
    }

    /// Puts new valid keys into both Secrets.
    fn set_valid_keys(&mut self) {
        for number in 0..2 {
            self.keys += 1;
            let key = format!("CCSB-soak-{}", self.keys);
            self.world.cluster.set_secret(&self.world.namespace, &secret(number), "apiKey", &key);
        }
    }

    /// One random event.
    fn random_event(&mut self, is_calm: bool) {
        match self.random.random_range(0..100) {
            0..20 => self.counts.faults += faults::change(&self.world.service, &mut self.random),
            20..24 => {
                self.counts.throttles += 1;
                faults::throttle(&self.world.service, &mut self.random);
            }
            24..32 if !is_calm => {
                self.counts.kills += 1;
                self.world.kill();
                self.world.start();
            }
            32..50 => self.prune_or_restore(),
            50..68 => self.move_environment(),
            68..83 => self.command(),
            83..88 => self.edit(),
            88..92 => self.deploy_manually(),
            92..97 => self.change_keys(),
            97..98 if !is_calm => self.outage(),
            _ => {}
        }
    }

    fn prune_or_restore(&mut self) {
        self.counts.deletions += 1;
        let name = self.git.free().choose(&mut self.random).unwrap().clone();
        let version = self.git.versions.get_mut(&name).unwrap();
        if version.present {
            version.prune();
        } else {
            version.present = true;
        }
    }

    /// The environment gets another version, and the old one may go in the same commit.
    fn move_environment(&mut self) {
        self.counts.moves += 1;
        let names: Vec<String> = self.git.deployments.keys().cloned().collect();
        let name = names.choose(&mut self.random).unwrap();
        let old = self.git.deployments[name].version.clone();
        let mut new = self.present_versions(name).choose(&mut self.random).unwrap().clone();
        if let Some(test) = &self.git.deployments[name].gate
            && self.random.random_bool(0.7)
        {
            new.clone_from(&self.git.deployments[test].version);
        }
        self.git.deployments.get_mut(name).unwrap().version = new;
        if self.random.random_bool(0.3) && self.git.free().contains(&old) {
            self.git.versions.get_mut(&old).unwrap().prune();
        }
        if self.random.random_bool(0.2) {
            self.replace_deployment(name);
        }
    }

    /// The versions in git of a deployment's bot.
    fn present_versions(&self, deployment: &str) -> Vec<String> {
        let bot = &self.git.deployments[deployment].bot;
        let there = self.git.versions.iter().filter(|(_, v)| v.present && v.bot == *bot);
        there.map(|(name, _)| name.clone()).collect()
    }

    /// `rollback-to` is set, given again, or removed.
    fn command(&mut self) {
        self.counts.commands += 1;
        let names: Vec<String> = self.git.deployments.keys().cloned().collect();
        let name = names.choose(&mut self.random).unwrap();
        // a command by name passes the gate, and what ran first in prod has passed it
        let number = &name[name.len() - 1..];
        let by_name = match self.git.deployments[name].gate {
            Some(_) => format!("v{number}-0"),
            None => self.present_versions(name).choose(&mut self.random).unwrap().clone(),
        };
        let values = [Some("previous".to_owned()), Some(by_name), Some("no-such-version".to_owned()), None];
        let value = values.choose(&mut self.random).unwrap();
        set_rollback_to(&self.world, name, value.as_deref());
        if self.random.random_bool(0.3) {
            set_rollback_to(&self.world, name, None);
            set_rollback_to(&self.world, name, value.as_deref());
        }
    }

    /// Deleted and created again: what is live stays live meanwhile.
    fn replace_deployment(&mut self, name: &str) {
        self.git.deployments.get_mut(name).unwrap().present = false;
        let _ = self.git.sync(&self.world);
        self.git.deployments.get_mut(name).unwrap().present = true;
    }

    fn edit(&mut self) {
        self.counts.edits += 1;
        let names: Vec<String> = self.git.versions.keys().cloned().collect();
        let name = names.choose(&mut self.random).unwrap();
        self.git.versions.get_mut(name).unwrap().interval = self.random.random_range(2..9);
    }

    /// Only where nothing is in flight: a rollout that somebody else has replaced cannot be distinguished from a slow one, and is waited
    /// for until its deadline.
    fn deploy_manually(&mut self) {
        // whose version 0 is never pruned
        let number = self.random.random_range(0..BOTS);
        if self.counts.manual_deploys == MAX_MANUAL_DEPLOYS || !self.is_settled(&format!("test-{number}")) {
            return;
        }
        self.counts.manual_deploys += 1;
        let bot = format!("{}-{number}", self.world.bot);
        let _ = self.world.service.hand_deploy(&bot, &format!("v{number}-0"), Environment::Test);
    }

    fn is_settled(&self, deployment: &str) -> bool {
        let cluster = &self.world.cluster;
        let api: Api<ChatbotDeployment> = Api::namespaced(cluster.client(), &self.world.namespace);
        cluster.runtime().block_on(api.get(deployment)).is_ok_and(|deployment| is_ready(&deployment))
    }

    /// A key is refused for a while, or another good one takes its place.
    fn change_keys(&mut self) {
        self.counts.keys += 1;
        if self.random.random_bool(0.3) {
            let number = self.random.random_range(0..2);
            self.world.cluster.set_secret(&self.world.namespace, &secret(number), "apiKey", "no-such-key");
        } else {
            self.set_valid_keys();
        }
    }

    fn outage(&mut self) {
        self.counts.outages += 1;
        self.world.cluster.control_plane().stop_apiserver();
        sleep(Duration::from_millis(self.random.random_range(500..4_000)));
        self.world.cluster.control_plane().start_apiserver().unwrap();
    }

    /// Random events until the time is over. In the last third the operator is not killed, so that a leak shows.
    fn disturb(&mut self, length: Duration) {
        self.git.set_progress_deadline(DEADLINE_DURING_FAULTS);
        let started = Instant::now();
        // at least one outage in each run
        let mut outage = Some(length / 3);
        while started.elapsed() < length {
            if outage.is_some_and(|at| started.elapsed() > at) {
                outage = None;
                self.outage();
            }
            self.random_event(started.elapsed() > length * 2 / 3);
            // may fail on a connection from before an outage; the next round repeats it
            let _ = self.git.sync(&self.world);
            self.worst = self.worst.max(Usage::of(&self.world));
            sleep(Duration::from_millis(self.random.random_range(50..500)));
        }
    }

    /// Test gets what prod waits for.
    fn open_gates(&mut self) {
        let gated = self.git.deployments.values().filter_map(|d| Some((d.gate.clone()?, d.version.clone())));
        for (test, version) in gated.collect::<Vec<_>>() {
            self.git.deployments.get_mut(&test).unwrap().version = version;
        }
    }

    /// Ends every fault and command, sets valid keys, opens the gates, requests a reconcile of every object, and waits until
    /// nothing is violated.
    fn end(&mut self) {
        faults::clear(&self.world.service);
        self.set_valid_keys();
        self.open_gates();
        let started = Instant::now();
        let mut violations = Vec::new();
        let rested = poll(SETTLE_LIMIT, || {
            let _ = self.git.sync(&self.world);
            request_reconcile(&self.world);
            sleep(Duration::from_millis(500));
            let evidence = Evidence::gather(&self.git, &self.world);
            recreate(&self.world, &evidence.deleted_versions());
            violations = evidence.violations();
            let is_done = violations.iter().all(|violation| violation.contains(checker::STILL_TO_DELETE));
            if is_done || started.elapsed() > ROLLOUT_LIMIT {
                self.git.set_progress_deadline(DEADLINE_AT_REST);
            }
            violations.is_empty().then_some(())
        });
        let deployments = || self.world.cluster.list::<ChatbotDeployment>(&self.world.namespace);
        assert!(
            rested.is_some(),
            "{violations:#?}\n{}\n{}",
            serde_json::to_string_pretty(&deployments()).unwrap(),
            tail(&self.world.log())
        );
        println!("settled {:?} after the last fault", started.elapsed());
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(150)..].join("\n")
}

/// Sets or removes the command of a deployment. May fail during an outage, or while the object is being replaced.
fn set_rollback_to(world: &World, deployment: &str, value: Option<&str>) {
    annotate::<ChatbotDeployment>(world, deployment, "chatcaptain.dev/rollback-to", value);
}

/// Takes new snapshots of versions that were deleted after they had left git, and whose objects are back.
fn recreate(world: &World, names: &[String]) {
    for name in names {
        annotate::<ChatbotVersion>(world, name, "chatcaptain.dev/recreate", Some("after-the-last-fault"));
    }
}

fn annotate<K: Object>(world: &World, name: &str, annotation: &str, value: Option<&str>) {
    let patch = Patch::Merge(json!({"metadata": {"annotations": {annotation: value}}}));
    let api: Api<K> = Api::namespaced(world.cluster.client(), &world.namespace);
    let _ = world.cluster.runtime().block_on(api.patch(name, &PatchParams::default(), &patch));
}

/// Skips every backoff, and removes every command; always the same token, so that each object handles it once.
fn request_reconcile(world: &World) {
    let patch = Patch::Merge(json!({"metadata": {"annotations": {
        "chatcaptain.dev/reconcile-requested-at": "after-the-last-fault",
        "chatcaptain.dev/rollback-to": null,
    }}}));
    let versions: Vec<ChatbotVersion> = world.cluster.list(&world.namespace);
    let deployments: Vec<ChatbotDeployment> = world.cluster.list(&world.namespace);
    let client = world.cluster.client();
    let params = PatchParams::default();
    world.cluster.runtime().block_on(async {
        let api: Api<ChatbotVersion> = Api::namespaced(client.clone(), &world.namespace);
        for name in versions.iter().filter_map(|object| object.metadata.name.as_deref()) {
            let _ = api.patch(name, &params, &patch).await;
        }
        let api: Api<ChatbotDeployment> = Api::namespaced(client, &world.namespace);
        for name in deployments.iter().filter_map(|object| object.metadata.name.as_deref()) {
            let _ = api.patch(name, &params, &patch).await;
        }
    });
}

#[test]
fn soak_creates_nothing_twice_and_loses_nothing() {
    let (seed, length) = (seed(), duration());
    let mut soak = Soak::new(seed);
    soak.end();
    let before = Usage::of(&soak.world);
    soak.disturb(length);
    soak.end();
    let after = Usage::of(&soak.world);
    let effects = soak.world.service.log().len();
    println!("seed {seed}, {length:?}: {:?}, {effects} changes in the service", soak.counts);
    println!("before {before:?}, worst {:?}, after {after:?}", soak.worst);
    // each reconcile that runs may keep a connection for a moment
    assert!(after.descriptors <= before.descriptors + 40, "{after:?}");
    assert!(soak.worst.descriptors <= 200, "{:?}", soak.worst);
    assert!(after.resident_mib <= before.resident_mib + 40.0, "{after:?}");
}
