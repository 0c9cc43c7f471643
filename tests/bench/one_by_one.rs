//! What somebody waits for who applies one thing: against a bare client that makes the same requests one after the other.

use std::time::{Duration, Instant};

use chatcaptain_operator::crd::{ChatbotDeployment, ChatbotVersion};
use futures::future::join;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use simulator::{Operation, Settings};
use support::{Object, World, is_ready, poll_every};
use tokio::time::sleep;

use crate::{
    bare::{self, Bare},
    report::Table,
    stage::{self, start},
    trace,
};

/// How often each is done; the median counts.
const ROUNDS: usize = 50;
const FACTOR: f64 = 1.3;
const PROD: &str = "prod";
/// Before each: who reverts does not do so in the moment in which the writes after a deploy are still made.
const REST: Duration = Duration::from_millis(150);

pub fn rows(table: &mut Table) {
    let bare = bare_client();
    for binary in stage::binaries() {
        let ours = operator();
        for (index, what) in
            ["apply until Ready", "deploy until shown", "git reverted until the call is sent"]
                .into_iter()
                .enumerate()
        {
            let (ours, bare) = (median(&ours[index]), median(&bare[index]));
            let ratio = ours.as_secs_f64() / bare.as_secs_f64();
            table.row(
                &format!("one {what}{}, against a bare client", binary.label),
                format!("{FACTOR} x"),
                format!("{ratio:.2} x ({} ms against {} ms)", ours.as_millis(), bare.as_millis()),
                ratio <= FACTOR,
            );
        }
    }
}

fn settings() -> Settings {
    Settings { latency_ms: 20, ..Settings::default() }
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2]
}

/// Times of applies, deploys and reverts by the operator.
fn operator() -> [Vec<Duration>; 3] {
    let world = stage::world(settings(), &[]);
    start(&world);
    let mut times: [Vec<Duration>; 3] = Default::default();
    let versions: Api<ChatbotVersion> = Api::namespaced(world.cluster.client(), &world.namespace);
    // the first reads the Secret and opens the connections
    apply(&world, &versions, "first");
    world.apply_deployment(PROD, "first", &[]);
    world.wait_until_deployment_ready(PROD);
    for round in 0..ROUNDS {
        let name = format!("v{round:02}");
        rest();
        let started = Instant::now();
        times[0].push(apply(&world, &versions, &name));
        if round == 0 {
            trace::print(&world, "one create", started);
        }
        rest();
        let started = Instant::now();
        point(&world, &name);
        wait_until_ready::<ChatbotDeployment>(&world, PROD);
        times[1].push(started.elapsed());
        let before = rollbacks(&world);
        rest();
        let started = Instant::now();
        point(&world, "first");
        let called = poll_every(Duration::from_millis(1), Duration::from_mins(1), || {
            (rollbacks(&world) > before).then_some(())
        });
        assert!(called.is_some(), "no rollback was called\n{}", world.log());
        times[2].push(started.elapsed());
        wait_until_ready::<ChatbotDeployment>(&world, PROD);
        if round == 0 {
            trace::print(&world, "one rollback", started);
        }
    }
    times
}

fn rest() {
    std::thread::sleep(REST);
}

fn rollbacks(world: &World) -> u64 {
    world.service.counters().of(Operation::Rollback).calls
}

fn apply(world: &World, versions: &Api<ChatbotVersion>, name: &str) -> Duration {
    let version = bare::manifest(&world.bot, name);
    let started = Instant::now();
    world.cluster.runtime().block_on(versions.create(&PostParams::default(), &version)).expect("applied");
    wait_until_ready::<ChatbotVersion>(world, name);
    started.elapsed()
}

fn point(world: &World, name: &str) {
    let api: Api<ChatbotDeployment> = Api::namespaced(world.cluster.client(), &world.namespace);
    let patch = json!({"spec": {"versionRef": {"name": name}}});
    let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
    world.cluster.runtime().block_on(api.patch(PROD, &params, &patch)).expect("patched");
}

fn wait_until_ready<K: Object>(world: &World, name: &str) {
    let ready = poll_every(Duration::from_millis(1), Duration::from_mins(1), || {
        world.cluster.get::<K>(&world.namespace, name).filter(is_ready)
    });
    assert!(ready.is_some(), "{name} is not Ready\n{}", world.log());
}

/// The same by a bare client: the requests of the operator, one after the other, and the look that shows the result.
fn bare_client() -> [Vec<Duration>; 3] {
    let world = stage::world(settings(), &[]);
    let versions: Api<ChatbotVersion> = Api::namespaced(world.cluster.client(), &world.namespace);
    let deployments: Api<ChatbotDeployment> = Api::namespaced(world.cluster.client(), &world.namespace);
    world.apply_deployment(PROD, "first", &[]);
    let client = Bare::new(&world.service.url(), &world.bot);
    world.cluster.runtime().block_on(async {
        let mut times: [Vec<Duration>; 3] = Default::default();
        let first = created(&client, &versions, &world.bot, "first").await;
        client.roll_out(&first, "deploy").await;
        for round in 0..ROUNDS {
            sleep(REST).await;
            let started = Instant::now();
            let id = created(&client, &versions, &world.bot, &format!("v{round:02}")).await;
            times[0].push(started.elapsed());
            sleep(REST).await;
            let started = Instant::now();
            repoint(&deployments, &format!("v{round:02}")).await;
            write(&deployments, "Deploying").await;
            client.roll_out(&id, "deploy").await;
            write(&deployments, "Deploying").await;
            client.list().await;
            client.status().await;
            write(&deployments, "Available").await;
            deployments.get(PROD).await.expect("shown");
            times[1].push(started.elapsed());
            sleep(REST).await;
            let started = Instant::now();
            repoint(&deployments, "first").await;
            write(&deployments, "RollingBack").await;
            // until it arrives, as for the operator
            let before = rollbacks(&world);
            let arrived = async {
                while rollbacks(&world) == before {
                    sleep(Duration::from_millis(1)).await;
                }
                started.elapsed()
            };
            times[2].push(join(arrived, client.roll_out(&first, "rollback")).await.0);
        }
        times
    })
}

async fn created(client: &Bare, versions: &Api<ChatbotVersion>, bot: &str, name: &str) -> String {
    let object = versions.create(&PostParams::default(), &bare::manifest(bot, name)).await.expect("applied");
    let (_, id) = client.bring_to_ready(versions, object, 1, 1).await;
    versions.get(name).await.expect("shown");
    id
}

async fn repoint(deployments: &Api<ChatbotDeployment>, name: &str) {
    let patch = json!({"spec": {"versionRef": {"name": name}}});
    deployments.patch(PROD, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop).expect("patched");
}

async fn write(deployments: &Api<ChatbotDeployment>, reason: &str) {
    let ready = if reason == "Available" { "True" } else { "False" };
    let conditions: Value = json!([bare::condition("Ready", ready, reason)]);
    let patch = json!({
        "apiVersion": "chatcaptain.dev/v1alpha1", "kind": "ChatbotDeployment", "metadata": {"name": PROD},
        "status": {"observedGeneration": 1, "conditions": conditions},
    });
    let params = PatchParams::apply("bare-loop").force();
    deployments.patch_status(PROD, &params, &Patch::Apply(&patch)).await.map(drop).expect("written");
}
