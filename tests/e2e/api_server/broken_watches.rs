//! Watches break or deliver nothing; changes made meanwhile are reconciled in the end.

use chatcaptain_operator::crd::ChatbotVersion;
use serde_json::{Value, json};
use simulator::{Key, Operation, Settings};
use support::{Clock, Cluster, KEY, World, version};

use super::relayed;

/// Row 6. The connections to the API server are open and silent, as behind a load balancer that has dropped them: the
/// operator's copy of the object is stale. Another operator creates the version; the first must not. It recovers once
/// the watch has been silent for five minutes, which pass twenty times faster here.
#[test]
fn frozen_watch_does_not_duplicate_a_version() {
    let clock = Clock::accelerated(20);
    let mut world =
        World::without_operator(Settings::default(), &[("api-timeout", "5m"), ("interval", "20s")]);
    let direct = world.kubeconfig.clone();
    let relay = relayed(&mut world);
    world.start_with(&clock.env());
    world.apply_version("a", &["credentialsRef: {name: later}"]);
    world.wait_for_reason::<ChatbotVersion>("a", "CredentialsMissing");
    let passes = |outcome: &str| world.metric("chatcaptain_reconcile_total", &[outcome]);
    let before = passes("");
    world.eventually("it has read what it wrote", || (passes("") > before + 1).then_some(()));
    relay.freeze();
    world.kubectl(&["annotate", "cbv", "a", "example.com/edited=yes"], "");
    world.apply_version("sign", &[]);
    world.cluster.set_secret(&world.namespace, "later", "apiKey", KEY);

    world.eventually("it tries, with what it knows", || (passes("\"error\"") > 0).then_some(()));
    assert_eq!(create_calls(&world), 0, "it saw what came after");
    let other = world.replica(&[], &[("KUBECONFIG", direct.to_str().unwrap())]);
    world.wait_until_version_ready("a");
    world.wait_until_version_ready("sign");
    drop(other);
    world.eventually("it sees again", || {
        let seen = |name: &str| world.metric("chatcaptain_condition", &[name, r#"type="Ready""#]);
        (seen(r#"name="a""#) == 1 && seen(r#"name="sign""#) == 1).then_some(())
    });
    assert_eq!(create_calls(&world), 2);
}

/// There are more objects than fit in one page of a list; meanwhile one is added that sorts first, and a Secret goes.
#[test]
fn changes_during_a_broken_watch_are_reconciled() {
    const PAGE: usize = 500;
    let mut world = World::without_operator(Settings::default(), &[("interval", "1h")]);
    let relay = relayed(&mut world);
    world.start();
    let suspended = |n| version(&world.bot, &format!("v{n:03}"), &["suspend: true"]);
    world.apply(&(0..=PAGE).map(suspended).collect::<String>());
    world.apply_version("z", &[]);
    world.wait_until_version_ready("z");
    relay.disconnect();
    world.apply_version("a", &[]);
    world.kubectl(&["delete", "secret", "chatcaptain"], "");
    relay.connect();
    world.wait_for_reason::<ChatbotVersion>("a", "CredentialsMissing");
    world.wait_for_reason::<ChatbotVersion>("z", "CredentialsMissing");
    world.set_key(KEY);
    world.wait_until_version_ready("a");
    world.wait_until_version_ready("z");
    assert_eq!(create_calls(&world), 2);
}

/// Secrets become watchable long after the objects, at the start and after a broken watch; a Secret that is deleted
/// meanwhile is noticed all the same.
#[test]
fn secret_deleted_while_unwatchable_is_noticed() {
    let cluster = Cluster::installed();
    let kubeconfig = cluster.operator_kubeconfig();
    let mut world = World::on_cluster(cluster, kubeconfig, Settings::default(), &[("interval", "1h")]);
    let relay = relayed(&mut world);
    let (role, blind) = role_with_and_without_watching_secrets(&world);
    world.kubectl(&["replace", "--filename=-"], &blind.to_string());
    wait_until_refused(&world);
    world.start();
    world.apply_version("a", &[]);
    world.wait_until_version_ready("a");
    world.kubectl(&["delete", "secret", "chatcaptain"], "");
    world.kubectl(&["replace", "--filename=-"], &role.to_string());
    world.wait_for_reason::<ChatbotVersion>("a", "CredentialsMissing");

    world.set_key(KEY);
    world.wait_until_version_ready("a");
    world.kubectl(&["replace", "--filename=-"], &blind.to_string());
    wait_until_refused(&world);
    relay.disconnect();
    relay.connect();
    world.apply_version("b", &[]);
    world.wait_until_version_ready("b");
    world.kubectl(&["delete", "secret", "chatcaptain"], "");
    world.kubectl(&["replace", "--filename=-"], &role.to_string());
    world.wait_for_reason::<ChatbotVersion>("a", "CredentialsMissing");
    world.wait_for_reason::<ChatbotVersion>("b", "CredentialsMissing");
}

/// No event says that the Secret has a new key: it is read again once the service refuses the old one.
#[test]
fn refused_key_is_replaced_where_secrets_cannot_be_watched() {
    let cluster = Cluster::installed();
    let kubeconfig = cluster.operator_kubeconfig();
    let world = World::on_cluster(cluster, kubeconfig, Settings::default(), &[]);
    let (_, blind) = role_with_and_without_watching_secrets(&world);
    world.kubectl(&["replace", "--filename=-"], &blind.to_string());
    wait_until_refused(&world);
    world.start();
    world.apply_version("a", &[]);
    world.wait_until_version_ready("a");
    world.set_key("CCSB-new");
    let key = Key { account: "default".to_owned(), permissions: None };
    world.service.settings(|settings| settings.keys = Some([("CCSB-new".to_owned(), key)].into()));
    world.eventually("the new key is used", || {
        let calls = world.service.calls();
        calls.iter().any(|call| call.key == "-new" && call.status == "200").then_some(())
    });
    world.wait_until_version_ready("a");
}

/// The operator's role as it is shipped, and one that may only read a Secret that it knows.
fn role_with_and_without_watching_secrets(world: &World) -> (Value, Value) {
    let role = world.kubectl(&["get", "clusterrole/chatcaptain-operator", "--output=json"], "");
    let mut role: Value = serde_json::from_str(&role).unwrap();
    role["metadata"]["resourceVersion"].take();
    let mut blind = role.clone();
    let mut rules = blind["rules"].as_array_mut().unwrap().iter_mut();
    rules.find(|rule| rule["resources"] == json!(["secrets"])).unwrap()["verbs"] = json!(["get"]);
    (role, blind)
}

/// Waits until the API server refuses the operator a watch of the Secrets.
fn wait_until_refused(world: &World) {
    let operator = "--as=system:serviceaccount:chatcaptain-system:chatcaptain-operator";
    world.eventually("Secrets cannot be watched", || {
        let answer = world.cluster.kubectl(&["auth", "can-i", "list", "secrets", operator], "");
        (!answer.status.success()).then_some(())
    });
}

fn create_calls(world: &World) -> u64 {
    world.service.counters().of(Operation::Create).calls
}
