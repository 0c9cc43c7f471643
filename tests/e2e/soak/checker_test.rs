//! The checker must detect each kind of violation.

use simulator::Environment;

use super::{Evidence, Git, first_commit, secret, settings};
use std::time::Duration;
use support::{World, poll};

/// A small world in which the checker finds no violation.
fn settled_world() -> (World, Git) {
    let world = World::without_operator(settings(), &[("interval", "1h")]);
    for number in 0..2 {
        world.cluster.set_secret(&world.namespace, &secret(number), "apiKey", "CCSB-checker");
    }
    let mut git = first_commit(&world);
    world.start();
    settle(&mut git, &world);
    // now there is a version to go back to
    "v2-1".clone_into(&mut git.deployments.get_mut("test-2").unwrap().version);
    settle(&mut git, &world);
    (world, git)
}

fn settle(git: &mut Git, world: &World) {
    git.sync(world).unwrap();
    let mut violations = Vec::new();
    let rested = poll(Duration::from_mins(2), || {
        violations = Evidence::gather(git, world).violations();
        violations.is_empty().then_some(())
    });
    assert!(rested.is_some(), "{violations:#?}");
}

/// Asserts that there are violations with these words.
fn assert_violations(git: &Git, world: &World, expected: &[&str]) {
    let violations = Evidence::gather(git, world).violations();
    for words in expected {
        assert!(violations.iter().any(|c| c.contains(words)), "{words:?} is not in {violations:#?}");
    }
}

#[test]
fn checker_detects_every_violation() {
    let (world, git) = settled_world();
    // polls are an hour apart: only the checker sees manual changes
    world.kill();
    let bot = git.versions["v0-1"].bot.clone();
    let marker = format!("[chatcaptain.dev default/{}/v0-1]", world.namespace);

    // a second create for one object
    let second = world.service.hand_create(&bot, "v0-1", Some(&marker)).unwrap();
    assert_violations(
        &git,
        &world,
        &["twice: v0-1 was created", "twice: 2 creates of v0-1 for 1 objects", &marker, "left: v0-1"],
    );

    // a live version is deleted
    let live = world.service.chatbot(&bot).unwrap().live(Environment::Test).unwrap().to_owned();
    world.service.hand_delete(&bot, &live).unwrap();
    assert_violations(
        &git,
        &world,
        &[
            "live: v0-0",
            "unwanted: 1 deletes of v0-0, which left git 0 times",
            "lost: v0-0 says",
            "settled: test-0 runs None",
        ],
    );

    // another version runs than git names
    world.service.hand_deploy(&bot, &second.version, Environment::Prod).unwrap();
    assert_violations(&git, &world, &["settled: prod-0 runs Some(\"v0-1\")", "gate: prod ran v0-1"]);

    // a version is deleted to which test may go back
    let kept_bot = &git.versions["v2-0"].bot;
    let kept = world.service.chatbot(kept_bot).unwrap().live(Environment::Prod).unwrap().to_owned();
    world.service.hand_delete(kept_bot, &kept).unwrap();
    assert_violations(&git, &world, &["kept: test-2 may go back to"]);

    // git has changed and the cluster has not followed
    let mut later = git.clone();
    later.versions.get_mut("v1-1").unwrap().present = false;
    assert_violations(&later, &world, &["settled: object v1-1 should be gone"]);
    let extra = git.versions["v1-1"].clone();
    later.versions.insert("v1-9".to_owned(), extra);
    assert_violations(&later, &world, &["lost: object v1-9"]);

    // an object that has not settled
    world.set_key("unused-key");
    world.kubectl(&["annotate", "cbv", "v1-2", "example.com/any=thing"], "");
    let patch = r#"{"spec":{"interval":"9s"}}"#;
    world.kubectl(&["patch", "cbv", "v1-2", "--type=merge", "-p", patch], "");
    assert_violations(&git, &world, &["settled: v1-2 is not Ready"]);
}
