//! Argo CD's actions, run by its own code, and its own word that what the operator does makes nothing `OutOfSync`.

use serde_json::{Value, json};
use support::judge::{act, actions, health, is_out_of_sync};

const ROLLBACK: &str = "chatcaptain.dev/rollback-to";

/// As git holds it.
fn git() -> Value {
    json!({
        "apiVersion": "chatcaptain.dev/v1alpha1", "kind": "ChatbotDeployment",
        "metadata": {"name": "prod", "namespace": "ns", "annotations": {"team": "support"}},
        "spec": {"chatbotId": "bot", "environment": "prod", "versionRef": {"name": "a"}},
    })
}

/// As it is in the cluster, applied by Argo CD and reconciled by the operator.
fn live() -> Value {
    let mut object = git();
    let applied = serde_json::to_string(&object).unwrap();
    let meta = object["metadata"].as_object_mut().unwrap();
    meta["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = json!(applied);
    meta.extend([("generation".to_owned(), json!(3)), ("uid".to_owned(), json!("u"))]);
    meta.insert("finalizers".to_owned(), json!(["chatcaptain.dev/finalizer"]));
    object["status"] = json!({
        "observedGeneration": 3,
        "conditions": [{"type": "Ready", "status": "True", "reason": "Available", "message": "It runs."}],
        "active": {"versionId": "v1", "startTime": "2026-01-02T00:00:00Z"},
        "previous": {"versionId": "v0", "startTime": "2026-01-01T00:00:00Z"},
    });
    object
}

fn version() -> Value {
    json!({
        "apiVersion": "chatcaptain.dev/v1alpha1", "kind": "ChatbotVersion",
        "metadata": {"name": "a", "namespace": "ns", "generation": 1},
        "spec": {"chatbotId": "bot"},
    })
}

fn offered(object: &Value) -> Vec<String> {
    actions(object).into_iter().filter_map(|(name, enabled)| enabled.then_some(name)).collect()
}

#[test]
fn argocd_offers_the_actions_that_apply() {
    let of_live = ["reconcile", "rollback-to-previous", "rollback-to-version", "suspend", "verify"];
    assert_eq!(offered(&live()), of_live);
    let back = act(&live(), "rollback-to-previous", &json!({}));
    assert_eq!(offered(&back), ["reconcile", "rollback-to-version", "suspend", "undo-rollback", "verify"]);
    let suspended = act(&live(), "suspend", &json!({}));
    assert_eq!(offered(&suspended), ["resume", "verify"]);
    let mut gated = live();
    gated["spec"]["promoteAfter"] = json!({"approved": true});
    gated["status"]["target"] = json!({"versionId": "v9"});
    assert!(offered(&gated).contains(&"approve".to_owned()));
    let done = act(&act(&gated, "approve", &json!({})), "verify", &json!({}));
    assert!(!offered(&done).iter().any(|name| ["approve", "verify"].contains(&name.as_str())));
    assert_eq!(done["metadata"]["annotations"]["chatcaptain.dev/approved"], "v9");
    let mut newborn = git();
    newborn["metadata"].as_object_mut().unwrap().remove("annotations");
    assert_eq!(offered(&newborn), ["reconcile", "rollback-to-version", "suspend"]);
    assert_eq!(offered(&version()), ["reconcile", "suspend"]);
    assert_eq!(offered(&act(&version(), "suspend", &json!({}))), ["resume"]);
}

#[test]
fn argocd_action_changes_only_its_field() {
    let expect = |action: &str, parameters: Value, change: fn(&mut Value)| {
        let mut expected = live();
        change(&mut expected);
        assert_eq!(act(&live(), action, &parameters), expected, "{action}");
    };
    expect("rollback-to-previous", json!({}), |o| o["metadata"]["annotations"][ROLLBACK] = json!("previous"));
    expect("rollback-to-version", json!({"version": "b"}), |o| {
        o["metadata"]["annotations"][ROLLBACK] = json!("b");
    });
    expect("suspend", json!({}), |o| o["spec"]["suspend"] = json!(true));
    expect("resume", json!({}), |_| {});
    expect("undo-rollback", json!({}), |_| {});
    let back = act(&live(), "rollback-to-previous", &json!({}));
    assert_eq!(act(&back, "undo-rollback", &json!({})), live());
    for object in [live(), version()] {
        let suspended = act(&object, "suspend", &json!({}));
        assert_eq!(suspended["spec"]["suspend"], true);
        assert_eq!(act(&suspended, "resume", &json!({})), object);
    }
}

#[test]
fn argocd_reconcile_action_sets_the_current_time() {
    for object in [live(), version()] {
        let asked = act(&object, "reconcile", &json!({}));
        let token = &asked["metadata"]["annotations"]["chatcaptain.dev/reconcile-requested-at"];
        let time: jiff::Timestamp = token.as_str().unwrap().parse().unwrap();
        let age = jiff::Timestamp::now().duration_since(time);
        assert!(age.as_secs().abs() < 60, "{token}");
    }
}

#[test]
#[should_panic(expected = "the name of a ChatbotVersion")]
fn argocd_rollback_without_a_version_is_rejected() {
    act(&live(), "rollback-to-version", &json!({"version": ""}));
}

#[test]
fn argocd_scripts_tolerate_missing_fields() {
    let mut objects = Vec::new();
    for status in [
        json!(null),
        json!({}),
        json!({"observedGeneration": 3}),
        json!({"observedGeneration": 3, "conditions": null}),
        json!({"observedGeneration": 3, "conditions": [{}]}),
        json!({"observedGeneration": 3, "conditions": [{"type": "Ready"}]}),
    ] {
        let mut object = live();
        object["status"] = status;
        object["metadata"].as_object_mut().unwrap().remove("annotations");
        offered(&object);
        act(&object, "undo-rollback", &json!({}));
        act(&object, "reconcile", &json!({}));
        objects.push(object);
    }
    for (object, said) in objects.iter().zip(health(&objects)) {
        assert_eq!(said.says, "Progressing", "{object}");
    }
    let mut silent = live();
    silent["status"]["conditions"] = json!([{"type": "Stalled", "status": "True"}]);
    assert_eq!(health(&[silent])[0].says, "Degraded");
}

#[test]
fn status_and_commands_are_not_out_of_sync() {
    assert!(!is_out_of_sync(&live(), &git()), "status and finalizer");
    for (action, parameters) in [
        ("rollback-to-previous", json!({})),
        ("rollback-to-version", json!({"version": "b"})),
        ("reconcile", json!({})),
        ("verify", json!({})),
        // git does not mention spec.suspend
        ("suspend", json!({})),
    ] {
        assert!(!is_out_of_sync(&act(&live(), action, &parameters), &git()), "{action}");
    }
    let mut moved = git();
    moved["spec"]["versionRef"]["name"] = json!("b");
    assert!(is_out_of_sync(&live(), &moved), "git names another version");
    let mut active = git();
    active["spec"]["suspend"] = json!(false);
    assert!(is_out_of_sync(&act(&live(), "suspend", &json!({})), &active), "git says it is not suspended");
}
