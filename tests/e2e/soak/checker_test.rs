//! The checker itself: it must see what it is there for.

use simulator::Environment;

use super::{Evidence, Git, first_commit, secret, settings};
use std::time::Duration;
use support::{World, poll};

/// A small world at rest, of which the checker has nothing to say.
fn at_rest() -> (World, Git) {
    let world = World::asleep(settings(), &[("interval", "1h")]);
    for number in 0..2 {
        world.cluster.set_secret(&world.namespace, &secret(number), "apiKey", "CCSB-doctored");
    }
    let mut git = first_commit(&world);
    world.start();
    git.sync(&world).unwrap();
    let mut complaints = Vec::new();
    let rested = poll(Duration::from_mins(2), || {
        complaints = Evidence::gather(&git, &world).complaints();
        complaints.is_empty().then_some(())
    });
    assert!(rested.is_some(), "{complaints:#?}");
    (world, git)
}

/// Exactly these kinds of complaints, each with these words.
fn says(git: &Git, world: &World, expected: &[&str]) {
    let complaints = Evidence::gather(git, world).complaints();
    for words in expected {
        assert!(complaints.iter().any(|c| c.contains(words)), "{words:?} is not in {complaints:#?}");
    }
}

#[test]
fn it_sees_each_promise_broken() {
    let (world, git) = at_rest();
    // looks are an hour apart: what is done by hand is seen by nobody but the checker
    world.kill();
    let bot = git.versions["v0-1"].bot.clone();
    let marker = format!("[chatcaptain.dev default/{}/v0-1]", world.namespace);

    // a second create for one object
    let second = world.service.hand_create(&bot, "v0-1", Some(&marker)).unwrap();
    says(
        &git,
        &world,
        &["twice: v0-1 was created", "twice: 2 creates of v0-1 for 1 objects", &marker, "left: v0-1"],
    );

    // a live version is deleted
    let live = world.service.chatbot(&bot).unwrap().live(Environment::Test).unwrap().to_owned();
    world.service.hand_delete(&bot, &live).unwrap();
    says(&git, &world, &["live: v0-0", "lost: v0-0 says", "rest: test-0 runs None"]);

    // another version runs than git wants
    world.service.hand_deploy(&bot, &second.version, Environment::Prod).unwrap();
    says(&git, &world, &["rest: prod-0 runs Some(\"v0-1\")"]);

    // git has moved on and nobody followed
    let mut later = git.clone();
    later.versions.get_mut("v1-1").unwrap().present = false;
    says(&later, &world, &["rest: object v1-1 should be gone"]);
    let extra = git.versions["v1-1"].clone();
    later.versions.insert("v1-9".to_owned(), extra);
    says(&later, &world, &["lost: object v1-9"]);

    // an object that is not at rest
    world.set_key("unused");
    world.kubectl(&["annotate", "cbv", "v1-2", "example.com/any=thing"], "");
    let patch = r#"{"spec":{"interval":"9s"}}"#;
    world.kubectl(&["patch", "cbv", "v1-2", "--type=merge", "-p", patch], "");
    says(&git, &world, &["rest: v1-2 is not Ready"]);
}
