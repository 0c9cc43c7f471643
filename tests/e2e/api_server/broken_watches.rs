//! The watches of the operator break or fall silent; whatever happens meanwhile is seen to in the end.

use chatcaptain_operator::crd::ChatbotVersion;
use serde_json::{Value, json};
use simulator::{Operation, Settings};
use support::{Clock, Cluster, KEY, World, version};

use super::relayed;

/// Row 6. The connections to the API server are there and silent, as behind a load balancer that has forgotten them:
/// what the operator knows of the object is old. Another writer creates its version; the first must not, and sees the
/// world again once the watch has been silent for five minutes, which pass twenty times faster here.
#[test]
fn a_watch_that_froze_makes_no_second_version() {
    let clock = Clock::faster(20);
    let mut world = World::asleep(Settings::default(), &[("api-timeout", "5m"), ("interval", "20s")]);
    let direct = world.kubeconfig.clone();
    let relay = relayed(&mut world);
    world.start_with(&clock.env());
    world.apply_version("a", &["credentialsRef: {name: later}"]);
    world.told::<ChatbotVersion>("a", "CredentialsMissing");
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
    world.ready_version("a");
    world.ready_version("sign");
    drop(other);
    world.eventually("it sees again", || {
        let seen = |name: &str| world.metric("chatcaptain_condition", &[name, r#"type="Ready""#]);
        (seen(r#"name="a""#) == 1 && seen(r#"name="sign""#) == 1).then_some(())
    });
    assert_eq!(create_calls(&world), 2);
}

/// More objects than a list has in one page, and meanwhile one that comes before all of them, and a Secret that goes.
#[test]
fn what_happens_while_the_watch_is_broken_is_seen_to() {
    const PAGE: usize = 500;
    let mut world = World::asleep(Settings::default(), &[("interval", "1h")]);
    let relay = relayed(&mut world);
    world.start();
    let suspended = |n| version(&world.bot, &format!("v{n:03}"), &["suspend: true"]);
    world.apply(&(0..=PAGE).map(suspended).collect::<String>());
    world.apply_version("z", &[]);
    world.ready_version("z");
    relay.pull();
    world.apply_version("a", &[]);
    world.kubectl(&["delete", "secret", "chatcaptain"], "");
    relay.plug();
    world.told::<ChatbotVersion>("a", "CredentialsMissing");
    world.told::<ChatbotVersion>("z", "CredentialsMissing");
    world.set_key(KEY);
    world.ready_version("a");
    world.ready_version("z");
    assert_eq!(create_calls(&world), 2);
}

/// The Secrets can be watched long after the objects, at the start and after a break; that one went meanwhile is noticed
/// all the same.
#[test]
fn that_a_secret_went_while_none_could_be_watched_is_noticed() {
    let cluster = Cluster::installed();
    let kubeconfig = cluster.operator_kubeconfig();
    let mut world = World::on(cluster, kubeconfig, Settings::default(), &[("interval", "1h")]);
    let relay = relayed(&mut world);
    let role = world.kubectl(&["get", "clusterrole/chatcaptain-operator", "--output=json"], "");
    let mut role: Value = serde_json::from_str(&role).unwrap();
    role["metadata"]["resourceVersion"].take();
    let mut blind = role.clone();
    let mut rules = blind["rules"].as_array_mut().unwrap().iter_mut();
    rules.find(|rule| rule["resources"] == json!(["secrets"])).unwrap()["verbs"] = json!(["get"]);

    world.kubectl(&["replace", "--filename=-"], &blind.to_string());
    wait_until_refused(&world);
    world.start();
    world.apply_version("a", &[]);
    world.ready_version("a");
    world.kubectl(&["delete", "secret", "chatcaptain"], "");
    world.kubectl(&["replace", "--filename=-"], &role.to_string());
    world.told::<ChatbotVersion>("a", "CredentialsMissing");

    world.set_key(KEY);
    world.ready_version("a");
    world.kubectl(&["replace", "--filename=-"], &blind.to_string());
    wait_until_refused(&world);
    relay.pull();
    relay.plug();
    world.apply_version("b", &[]);
    world.ready_version("b");
    world.kubectl(&["delete", "secret", "chatcaptain"], "");
    world.kubectl(&["replace", "--filename=-"], &role.to_string());
    world.told::<ChatbotVersion>("a", "CredentialsMissing");
    world.told::<ChatbotVersion>("b", "CredentialsMissing");
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
