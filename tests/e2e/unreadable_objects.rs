//! Objects that the operator cannot read, as after a downgrade of it: they keep what they hold, and can be deleted.

use chatcaptain_operator::crd::{ChatbotDeployment, ChatbotVersion};
use simulator::Settings;
use support::{Cluster, World, deployment, version};

use crate::installation::LOOSE;

fn jsonpath(world: &World, object: &str, path: &str) -> String {
    world.kubectl(&["get", object, "-o", &format!("jsonpath={{{path}}}")], "")
}

/// Waits until `Ready` has this reason; returns the message. The object need not be readable.
fn wait_for_reason(world: &World, object: &str, reason: &str) -> String {
    let ready =
        |field: &str| jsonpath(world, object, &format!(".status.conditions[?(@.type==\"Ready\")].{field}"));
    world.eventually(&format!("{object} says {reason}"), || {
        (ready("reason") == reason).then(|| ready("message"))
    })
}

/// Runs `a` in prod, and then both objects get a field that a later release understands.
fn unreadable() -> (World, String) {
    let cluster = Cluster::empty();
    cluster.install();
    let kubeconfig = cluster.operator_kubeconfig();
    let world = World::on_cluster(cluster, kubeconfig, Settings::default(), &[]);
    world.start();
    world.apply_version("a", &[]);
    let id = world.wait_until_version_ready("a").version_id().unwrap().to_owned();
    world.apply_deployment("prod", "a", &[]);
    world.wait_until_deployment_ready("prod");
    for kind in ["chatbotversions", "chatbotdeployments"] {
        let crd = format!("{kind}.chatcaptain.dev");
        world.cluster.kubectl_ok(&["patch", "crd", &crd, "--type=json", "-p", LOOSE], "");
    }
    for (object, later) in [("cbv/a", r#"{"interval": 5}"#), ("cbd/prod", r#"{"drift": 5}"#)] {
        world.eventually("the schema lets it in", || {
            let patch = format!(r#"{{"spec": {later}}}"#);
            let args = ["--namespace", &world.namespace, "patch", object, "--type=merge", "-p", &patch];
            world.cluster.kubectl(&args, "").status.success().then_some(())
        });
        let message = wait_for_reason(&world, object, "InvalidSpec");
        assert!(message.contains("upgrade the CRDs and the operator together"), "{message}");
    }
    (world, id)
}

/// In one test: each control plane of its own takes seconds to start.
#[test]
fn unreadable_objects_keep_their_claims_and_can_be_deleted() {
    let (world, id) = unreadable();
    assert_eq!(jsonpath(&world, "cbv/a", ".status.versionId"), id, "the status keeps what it recorded");
    restart_says_nothing_new(&world);
    younger_objects_are_in_conflict(&world, &id);
    object_that_was_moved_to_another_chatbot_is_not_used(&world);
    force_orphan_removes_the_finalizer(&world, &id);
}

fn restart_says_nothing_new(world: &World) {
    world.stop();
    let count = || {
        let writes = world.cluster.writes(&world.namespace).into_iter();
        writes.filter(|write| ["a", "prod"].contains(&write.name.as_str())).count()
    };
    let before = count();
    world.start();
    world.eventually("both are in the first list", || {
        let log = world.log();
        let restarted = log.rsplit_once("caches synced").unwrap().1;
        let reported = |name: &str| {
            restarted.lines().any(|line| line.contains("cannot use object") && line.contains(name))
        };
        (reported("name=\"a\"") && reported("name=\"prod\"")).then_some(())
    });
    world.apply_version("good", &[]);
    world.wait_until_version_ready("good");
    assert_eq!(count(), before);
    for name in ["a", "prod"] {
        let stalled = [&format!("name={name:?}"), r#"type="Stalled""#];
        world.wait_for_metric("chatcaptain_condition", &stalled.map(|label| label as &str), 1);
        let note = world.wait_for_event(name, "InvalidSpec");
        assert!(note.contains("cannot use this object"), "{note}");
        let events = world.events(name).into_iter().filter(|(reason, _)| reason == "InvalidSpec");
        assert_eq!(events.count(), 1);
    }
}

fn younger_objects_are_in_conflict(world: &World, id: &str) {
    world.apply(&deployment(&world.bot, "younger", "prod", &["versionRef: {name: good}"]));
    let message = world.wait_for_reason::<ChatbotDeployment>("younger", "Conflict");
    assert!(message.contains(&format!("{}/prod", world.namespace)), "{message}");
    let adopt = format!("metadata:\n  annotations: {{chatcaptain.dev/adopt-id: {id}}}\n");
    world.apply(&version(&world.bot, "thief", &[]).replacen("metadata:\n", &adopt, 1));
    world.wait_for_reason::<ChatbotVersion>("thief", "Conflict");
    assert_eq!(world.effects(), ["create a dev", "deploy a prod", "create good dev"]);
}

/// No rule of the schema holds any more, as in a cluster that enforces none.
fn object_that_was_moved_to_another_chatbot_is_not_used(world: &World) {
    let calls = world.effects();
    let patch = |chatbot: &str| format!(r#"{{"spec": {{"chatbotId": "{chatbot}"}}}}"#);
    let move_to = |chatbot: &str| {
        world.kubectl(&["patch", "cbv/good", "--type=merge", "-p", &patch(chatbot)], "");
    };
    move_to("another-bot");
    let message = wait_for_reason(world, "cbv/good", "InvalidSpec");
    assert!(message.contains(&format!("was changed from {} to another-bot", world.bot)), "{message}");
    move_to(&world.bot);
    world.wait_until_version_ready("good");
    assert_eq!(world.effects(), calls);
}

fn force_orphan_removes_the_finalizer(world: &World, id: &str) {
    world.delete("cbv", "a");
    let message = wait_for_reason(world, "cbv/a", "Deleting");
    assert!(message.contains("set the annotation chatcaptain.dev/force-orphan=true"), "{message}");
    world.kubectl(&["annotate", "cbv", "a", "chatcaptain.dev/force-orphan=true"], "");
    world.eventually("it is gone", || {
        world.kubectl(&["get", "cbv", "a", "--ignore-not-found"], "").is_empty().then_some(())
    });
    let note = world.wait_for_event("a", "Orphaned");
    assert!(note.contains(id), "{note}");
    world.wait_for_metric("chatcaptain_orphans_total", &[], 1);
    let line = format!("version_id=\"{id}\" reason=\"Orphaned\"");
    assert!(world.log().contains(&line), "{}", world.log());
}
