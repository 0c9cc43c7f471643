//! What stands between test and prod: verification, approval, windows, a freeze; and prod that follows test.

use chatcaptain_operator::crd::ChatbotDeployment;
use serde_json::{Value, json};
use simulator::{Contents, Environment, Operation, Settings};
use support::World;

/// Every gate that an annotation opens.
const GATED: &str = "promoteAfter: {deploymentRef: {name: test}, verified: true, approved: true}";
/// Its window never opens.
const NEVER: &str = r#"windows: [{schedule: "0 0 31 2 *", duration: 1h}]"#;
/// It is always open.
const ALWAYS: &str = r#"windows: [{schedule: "* * * * *", duration: 1h, timeZone: Europe/Berlin}]"#;

fn world_with(versions: &[&str]) -> World {
    let world = World::new(Settings::default());
    for name in versions {
        world.apply_version(name, &[]);
        world.wait_until_version_ready(name);
    }
    world
}

fn annotate(world: &World, object: &[&str], annotation: &str) {
    let annotation = format!("chatcaptain.dev/{annotation}");
    world.kubectl(&[&["annotate", "--overwrite"], object, &[annotation.as_str()]].concat(), "");
}

fn release_to_test(world: &World, version: &str) {
    world.apply_deployment("test", version, &[]);
    world.wait_until_deployment_ready("test");
}

fn wait_for(world: &World, reason: &str) -> String {
    world.wait_for_reason::<ChatbotDeployment>("prod", reason)
}

fn prod_runs(world: &World) -> Option<String> {
    world.live_version(Environment::Prod)
}

#[test]
fn version_reaches_prod_after_verification_and_approval() {
    let world = world_with(&["a", "b"]);
    release_to_test(&world, "a");
    world.apply_deployment("prod", "a", &[GATED]);
    let message = wait_for(&world, "WaitingForVerification");
    assert!(message.contains("set the annotation chatcaptain.dev/verified="), "{message}");
    annotate(&world, &["cbd", "test"], "verified=a");
    wait_for(&world, "WaitingForApproval");
    // by its id, as the message says
    let id = world.version("a").version_id().unwrap().to_owned();
    annotate(&world, &["cbd", "prod"], &format!("approved={id}"));
    world.wait_until_deployment_ready("prod");

    // both annotations are about `a`
    release_to_test(&world, "b");
    world.apply_deployment("prod", "b", &[GATED]);
    let message = wait_for(&world, "WaitingForVerification");
    assert!(message.contains("the annotation chatcaptain.dev/verified names a"), "{message}");
    annotate(&world, &["cbd", "test"], "verified=1.1");
    let message = wait_for(&world, "WaitingForApproval");
    assert!(message.contains(&format!("the annotation chatcaptain.dev/approved names {id}")), "{message}");
    // revoked while the other is waited for
    annotate(&world, &["cbd", "test"], "verified-");
    wait_for(&world, "WaitingForVerification");
    annotate(&world, &["cbd", "prod"], "approved=b");
    annotate(&world, &["cbd", "test"], "verified=b");
    world.wait_until_deployment_ready("prod");
    // back without either
    annotate(&world, &["cbd", "prod"], "approved-");
    annotate(&world, &["cbd", "test"], "verified-");
    world.apply_deployment("prod", "a", &[GATED]);
    world.wait_until_deployment_ready("prod");
    let moves = ["deploy a test", "deploy a prod", "deploy b test", "deploy b prod", "rollback a prod"];
    assert_eq!(world.effects_besides_creates(), moves);
}

#[test]
fn freeze_and_closed_window_hold_releases_and_no_rollback() {
    let world = world_with(&["a", "b"]);
    world.apply_deployment("prod", "a", &[NEVER]);
    let message = wait_for(&world, "WaitingForWindow");
    assert!(message.contains("No window of spec.windows opens"), "{message}");
    world.apply_deployment("prod", "a", &[ALWAYS]);
    world.wait_until_deployment_ready("prod");

    annotate(&world, &["namespace", &world.namespace], "freeze=trade fair");
    world.apply_deployment("prod", "b", &[]);
    let message = wait_for(&world, "Frozen");
    assert!(message.contains("frozen (trade fair)"), "{message}");
    annotate(&world, &["namespace", &world.namespace], "freeze-");
    // or within 15 s by itself
    annotate(&world, &["cbd", "prod"], "reconcile-requested-at=thaw");
    world.wait_until_deployment_ready("prod");

    annotate(&world, &["namespace", &world.namespace], "freeze=trade fair");
    world.apply_deployment("prod", "a", &[NEVER]);
    world.wait_until_deployment_ready("prod");
    assert_eq!(world.effects_besides_creates(), ["deploy a prod", "deploy b prod", "rollback a prod"]);
}

fn made_of(model: impl Into<Value>, stats: Value) -> Contents {
    Contents { model_id: Some(model.into()), stats: Some(stats) }
}

#[test]
fn promotion_reports_what_changes_and_writes_it_once() {
    let world = World::new(Settings {
        contents: [
            ("a".to_owned(), made_of("3", json!({"intents": 120, "sessions": 1}))),
            ("b".to_owned(), made_of(4, json!({"intents": "131", "sessions": 1, "languages": ["de"]}))),
        ]
        .into(),
        ..Settings::default()
    });
    for name in ["a", "b"] {
        world.apply_version(name, &[]);
        world.wait_until_version_ready(name);
    }
    let status = world.version("b").status.unwrap();
    assert_eq!((status.model_id.as_deref(), status.stats.get("intents")), (Some("4"), Some(&131.0)));
    world.apply_deployment("prod", "a", &[]);
    world.wait_until_deployment_ready("prod");
    world.apply_deployment("prod", "b", &[]);
    world.wait_until_deployment_ready("prod");
    let changes = "model 3 -> 4, intents 120 -> 131";
    let note = world.eventually("the event names the changes", || {
        let mut notes = world.events("prod").into_iter().map(|(_, note)| note);
        notes.find(|note| note.contains("instead of"))
    });
    assert!(note.ends_with(&format!(". Changes: {changes}.")), "{note}");
    let message = || wait_for(&world, "Available");
    assert!(message().ends_with(&format!(". Changes: {changes}.")), "{}", message());

    // a figure that counts on writes nothing
    let before = (world.writes("chatbotversions").len(), world.writes("chatbotdeployments").len());
    for sessions in 2..5 {
        world.service.settings(|settings| {
            let counted = made_of(4, json!({"intents": "131", "sessions": sessions}));
            settings.contents.insert("b".to_owned(), counted);
        });
        world.wait_for_two_polls();
    }
    assert_eq!((world.writes("chatbotversions").len(), world.writes("chatbotdeployments").len()), before);
    assert_eq!(world.deployment("prod").status.unwrap().history[0].changes.as_deref(), Some(changes));

    world.apply_deployment("prod", "a", &[]);
    let note = world.wait_for_event("prod", "RolledBack");
    assert!(note.ends_with(". Changes: model 4 -> 3, intents 131 -> 120, sessions 4 -> 1."), "{note}");
}

#[test]
fn window_that_cannot_be_read_is_reported() {
    let world = world_with(&["a"]);
    let unknown = r#"windows: [{schedule: "0 9 * * *", duration: 1h, timeZone: Europe/Atlantis}]"#;
    world.apply_deployment("prod", "a", &[unknown]);
    let message = wait_for(&world, "InvalidSpec");
    assert!(message.contains("Europe/Atlantis"), "{message}");
    world.apply_deployment("prod", "a", &[]);
    world.wait_until_deployment_ready("prod");
}

#[test]
fn prod_follows_test_from_a_manifest_that_never_changes() {
    let world = world_with(&["a", "b", "c"]);
    let follower = format!(
        "apiVersion: chatcaptain.dev/v1alpha1\nkind: ChatbotDeployment\nmetadata: {{name: prod}}\n\
         spec: {{chatbotId: {}, environment: prod, follow: {{deploymentRef: {{name: test}}}}}}\n",
        world.bot
    );
    world.apply(&follower);
    wait_for(&world, "WaitingForVersion");
    let follows = |version: &str| {
        release_to_test(&world, version);
        world.eventually("prod follows", || (prod_runs(&world).as_deref() == Some(version)).then_some(()));
        world.wait_until_deployment_ready("prod");
    };
    follows("a");
    follows("b");
    // a rollback of prod holds until test moves
    annotate(&world, &["cbd", "prod"], "rollback-to=previous");
    wait_for(&world, "RolledBack");
    assert_eq!(prod_runs(&world).as_deref(), Some("a"));
    follows("c");
    let annotations = world.deployment("prod").metadata.annotations.unwrap_or_default();
    assert!(!annotations.contains_key("chatcaptain.dev/rollback-to"), "{annotations:?}");
    // and back with test
    follows("b");
    let moves: Vec<String> =
        world.effects_besides_creates().into_iter().filter(|effect| effect.ends_with("prod")).collect();
    let expected = ["deploy a prod", "deploy b prod", "rollback a prod", "deploy c prod", "rollback b prod"];
    assert_eq!(moves, expected);
    assert_eq!(world.service.counters().of(Operation::Delete).calls, 0);
}

#[test]
fn deployments_that_follow_each_other_are_invalid() {
    let world = world_with(&[]);
    for (name, other) in [("test", "prod"), ("prod", "test")] {
        world.apply(&format!(
            "apiVersion: chatcaptain.dev/v1alpha1\nkind: ChatbotDeployment\nmetadata: {{name: {name}}}\n\
             spec: {{chatbotId: {}, environment: {name}, follow: {{deploymentRef: {{name: {other}}}}}}}\n",
            world.bot
        ));
    }
    let message = wait_for(&world, "InvalidSpec");
    assert!(message.contains("spec.follow leads from this ChatbotDeployment"), "{message}");
}
