//! Wrong input is reported with the next step, and affects nothing else.

use std::{
    collections::BTreeMap,
    process::Output,
    time::{Duration, Instant},
};

use chatcaptain_operator::crd::{ChatbotDeployment, ChatbotVersion};
use simulator::{FailuresAs, Key, Operation, Permission, Settings, UnknownChatbots};
use support::{KEY, Operator, TIMEOUT, World, condition, deployment, operator_command, poll};

/// A flag, its environment variable, a wrong value, and words of what is accepted, an example among them.
const WRONG: &[(&str, &str, &str, &[&str])] = &[
    ("--api-url", "CHATCAPTAIN_API_URL", "http://example.com", &["https://api.chatcaptain.com", "loopback"]),
    ("--api-url", "CHATCAPTAIN_API_URL", "nonsense", &["https://<host>", "http://127.0.0.1:8080"]),
    ("--api-url", "CHATCAPTAIN_API_URL", "https://a:b", &["invalid port", "https://api.chatcaptain.com"]),
    ("--owner-id", "CHATCAPTAIN_OWNER_ID", "a/b", &["letters, digits", "for example team-a"]),
    ("--namespace", "CHATCAPTAIN_NAMESPACE", "A_b", &["lowercase letters", "for example chatbots"]),
    ("--interval", "CHATCAPTAIN_INTERVAL", "5", &["number with its unit", "30s, 5m or 1h30m"]),
    ("--interval", "CHATCAPTAIN_INTERVAL", "5 parsecs", &["30s, 5m or 1h30m"]),
    ("--interval", "CHATCAPTAIN_INTERVAL", "0s", &["greater than zero", "30s"]),
    ("--min-interval", "CHATCAPTAIN_MIN_INTERVAL", "soon", &["30s, 5m or 1h30m"]),
    ("--visibility-grace", "CHATCAPTAIN_VISIBILITY_GRACE", "-1s", &["30s, 5m or 1h30m"]),
    ("--deletion-policy", "CHATCAPTAIN_DELETION_POLICY", "delete", &["Delete or Retain"]),
    ("--deletion-timeout", "CHATCAPTAIN_DELETION_TIMEOUT", "never", &["30s, 5m or 1h30m"]),
    ("--concurrency", "CHATCAPTAIN_CONCURRENCY", "x", &["whole number from 1 to 256", "16"]),
    ("--concurrency", "CHATCAPTAIN_CONCURRENCY", "0", &["whole number from 1 to 256", "16"]),
    ("--concurrency", "CHATCAPTAIN_CONCURRENCY", "257", &["whole number from 1 to 256", "16"]),
    ("--api-rate", "CHATCAPTAIN_API_RATE", "-1", &["whole number from 1", "10"]),
    ("--api-rate", "CHATCAPTAIN_API_RATE", "0", &["whole number from 1", "10"]),
    ("--api-burst", "CHATCAPTAIN_API_BURST", "0", &["whole number from 1", "10"]),
    ("--api-burst", "CHATCAPTAIN_API_BURST", "4294967296", &["from 1 to 4294967295"]),
    ("--api-timeout", "CHATCAPTAIN_API_TIMEOUT", "0s", &["greater than zero", "30s"]),
    ("--leader-elect", "CHATCAPTAIN_LEADER_ELECT", "maybe", &["true, false"]),
    ("--lease-namespace", "CHATCAPTAIN_LEASE_NAMESPACE", "-a", &["lowercase letters"]),
    ("--lease-name", "CHATCAPTAIN_LEASE_NAME", "", &["lowercase letters"]),
    ("--lease-duration", "CHATCAPTAIN_LEASE_DURATION", "1500ms", &["whole seconds", "15s"]),
    ("--lease-duration", "CHATCAPTAIN_LEASE_DURATION", "0s", &["from 1s to 1h", "15s"]),
    ("--listen", "CHATCAPTAIN_LISTEN", "8080", &["IP address with a port", "0.0.0.0:8080"]),
    ("--listen", "CHATCAPTAIN_LISTEN", "nonsense", &["IP address with a port", "0.0.0.0:8080"]),
    ("--log-format", "CHATCAPTAIN_LOG_FORMAT", "xml", &["text or json"]),
];

fn assert_one_line_error(output: &Output, parts: &[&str]) {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{part:?} is not in: {stderr}");
    }
}

#[test]
fn invalid_flag_or_variable_prints_one_line_and_exits_with_2() {
    for (flag, variable, value, accepted) in WRONG {
        let parts = [&[*flag, *variable, *value], *accepted].concat();
        let output = operator_command().args(["run", &format!("{flag}={value}")]).output();
        assert_one_line_error(&output.unwrap(), &parts);
        let output = operator_command().arg("run").env(variable, value).output();
        assert_one_line_error(&output.unwrap(), &parts);
    }
    let apart = operator_command().args(["run", "--api-rate", "-1"]).output().unwrap();
    assert_one_line_error(&apart, &["--api-rate", "'-1'", "whole number from 1"]);
    let unknown = operator_command().args(["run", "--intervall=5m"]).output().unwrap();
    assert_one_line_error(&unknown, &["--intervall", "--help"]);
    assert_one_line_error(&operator_command().arg("start").output().unwrap(), &["start", "--help"]);
}

#[test]
fn unreachable_cluster_is_reported_and_awaited() {
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    let nowhere = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        "users": [{"name": "c", "user": {}}]}"#;
    std::fs::write(&kubeconfig, nowhere).unwrap();
    let args = ["--listen=127.0.0.1:0".to_owned(), "--leader-elect=false".to_owned()];
    let env = [("KUBECONFIG", kubeconfig.to_str().unwrap())];
    let operator = Operator::start(&args, &env, &directory.path().join("log"));
    let body = poll(TIMEOUT, || {
        let (status, body) = operator.http_get("/readyz");
        (status == 503 && body.contains("cannot reach the API server")).then_some(body)
    });
    let body = body.unwrap_or_else(|| panic!("{}", operator.log()));
    assert!(body.contains("KUBECONFIG"), "{body}");
    assert_eq!(operator.http_get("/livez").0, 200, "it is not restarted for that");
}

/// A service that knows this key with these permissions only.
fn permitting(permissions: &[Permission]) -> Settings {
    let key = Key { account: "a".to_owned(), permissions: Some(permissions.to_vec()) };
    Settings { keys: Some(BTreeMap::from([(KEY.to_owned(), key)])), ..Settings::default() }
}

/// Waits until the version is stalled for this reason, and reads the next step in its message.
fn assert_version_stalled(world: &World, reason: &str, parts: &[&str]) {
    let message = world.wait_for_reason::<ChatbotVersion>("a", reason);
    assert_contains(&message, parts);
    let stalled = world.version("a");
    let stalled = condition(&stalled, "Stalled").expect("a human must act");
    assert_eq!(stalled.status, "True");
}

fn assert_contains(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

#[test]
fn missing_credentials_are_reported() {
    let world = World::without_operator(Settings::default(), &[]);
    world.kubectl(&["delete", "secret", "chatcaptain"], "");
    world.start();
    world.apply_version("a", &[]);
    let create = format!("kubectl -n {} create secret generic chatcaptain", world.namespace);
    assert_version_stalled(&world, "CredentialsMissing", &["Secret chatcaptain", &create]);

    world.cluster.set_secret(&world.namespace, "chatcaptain", "other", "x");
    world.eventually("the missing key is named", || {
        let message = world.wait_for_reason::<ChatbotVersion>("a", "CredentialsMissing");
        message.contains("Secret chatcaptain has no key apiKey").then_some(())
    });
    world.set_key(KEY);
    world.wait_until_version_ready("a");
}

#[test]
fn missing_permission_is_reported() {
    use Permission::{Create, Delete, Deploy, List, Status};
    let world = World::new(permitting(&[Create, Delete, Deploy, Status]));
    world.apply_version("a", &[]);
    let list = ["chatbots.versions.list", "Secret chatcaptain", "Grant it", "another account"];
    assert_version_stalled(&world, "PermissionDenied", &list);

    let world = World::new(permitting(&[List]));
    world.apply_version("a", &[]);
    let create = ["chatbots.versions.create", "Secret chatcaptain", "Grant it"];
    assert_version_stalled(&world, "PermissionDenied", &create);
    let message = world.wait_for_reason::<ChatbotVersion>("a", "PermissionDenied");
    assert!(!message.contains("another account"), "a key that lists is valid: {message}");
    assert_eq!(world.creates(), 0);

    let world = World::new(permitting(&[List, Create, Status]));
    world.apply_version("a", &[]);
    world.apply_deployment("test", "a", &[]);
    let message = world.wait_for_reason::<ChatbotDeployment>("test", "PermissionDenied");
    assert_contains(&message, &["chatbots.versions.deploy", "Secret chatcaptain", "Grant it"]);
}

#[test]
fn unknown_chatbot_is_reported() {
    // a refusal may come as an empty list beside an error, which must not be taken for an answer
    for failures_as in [FailuresAs::Http, FailuresAs::Ok] {
        let unknown_chatbots = UnknownChatbots::Refuse;
        let world = World::new(Settings { unknown_chatbots, failures_as, ..Settings::default() });
        world.apply_version("a", &[]);
        assert_version_stalled(&world, "ChatbotNotFound", &[&world.bot, "Check spec.chatbotId"]);
        assert_eq!(world.service.counters().of(Operation::Create).calls, 0);
    }
}

/// A request ends the wait after a read that failed.
#[test]
fn requested_reconcile_finds_a_chatbot_that_exists_now() {
    let world = World::new(Settings { unknown_chatbots: UnknownChatbots::Refuse, ..Settings::default() });
    world.apply_version("a", &[]);
    world.wait_for_reason::<ChatbotVersion>("a", "ChatbotNotFound");
    world.service.settings(|settings| settings.chatbots.push(world.bot.clone()));
    let started = Instant::now();
    world.kubectl(&["annotate", "cbv", "a", "chatcaptain.dev/reconcile-requested-at=now"], "");
    world.wait_until_version_ready("a");
    let took = started.elapsed();
    // without it half a minute
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn dangling_reference_is_reported() {
    let world = World::new(Settings::default());
    let deploy = |spec: &str| world.apply(&deployment(&world.bot, "d", "test", &[spec]));
    let assert_reason = |reason, parts: &[&str]| {
        assert_contains(&world.wait_for_reason::<ChatbotDeployment>("d", reason), parts);
    };
    deploy("versionRef: {name: missing}");
    assert_reason("WaitingForVersion", &["ChatbotVersion missing", "correct spec.versionRef"]);

    world.apply(&support::version("another-bot", "foreign", &[]));
    world.wait_until_version_ready("foreign");
    deploy("versionRef: {name: foreign}");
    assert_reason("ReferenceMismatch", &["ChatbotVersion foreign", "Correct spec.versionRef"]);

    let replace = |spec: &str| {
        world.delete("cbd", "d");
        world.wait_until_deleted::<ChatbotDeployment>("d");
        deploy(spec);
    };
    replace("versionId: vrsNothing");
    assert_reason("VersionNotFound", &["vrsNothing", &world.bot, "Correct spec.versionId"]);
    replace("versionNumber: '9.9'");
    assert_reason("VersionNotFound", &["9.9", &world.bot, "Correct spec.versionNumber"]);
    assert_eq!(world.effects_besides_creates(), [""; 0]);
}

#[test]
fn invalid_specs_are_rejected_by_the_api_server() {
    let world = World::without_operator(Settings::default(), &[]);
    world.apply_version("a", &["description: first"]);
    let refused = |manifest: &str, why: &str| {
        let args = ["--namespace", &world.namespace, "apply", "-f", "-"];
        let output = world.cluster.kubectl(&args, manifest);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{manifest}");
        assert!(stderr.contains(why), "{why:?} is not in: {stderr}");
    };
    let bot = &world.bot;
    let version = |more: &[&str]| support::version(bot, "a", more);
    refused(&version(&["description: second"]), "spec.description is immutable");
    refused(&version(&[]), "spec.description is immutable");
    refused(&version(&["description: first", "name: other"]), "spec.name is immutable");
    refused(&version(&["description: first", "environment: live"]), "Unsupported value");
    refused(&version(&["description: first", "interval: 30m1h"]), "spec.interval in body should match");
    refused(&version(&["description: first", "interval: 0s"]), "must be greater than zero");
    refused(&support::version("a/b", "b", &[]), "spec.chatbotId");
    for (reference, field) in [("{name: ../other}", "name"), ("{name: a_b}", "name"), ("{key: a/b}", "key")] {
        let reference = format!("credentialsRef: {reference}");
        refused(
            &version(&["description: first", &reference]),
            &format!("spec.credentialsRef.{field} in body"),
        );
    }
    let other = ["versionRef: {name: A/b}"];
    refused(&deployment(bot, "d", "test", &other), "spec.versionRef.name in body should match");
    let two = ["versionId: a", "versionNumber: '1.0'"];
    refused(&deployment(bot, "d", "test", &two), "exactly one of");
    refused(&deployment(bot, "d", "test", &[]), "exactly one of");
    refused(&deployment(bot, "d", "dev", &["versionId: a"]), "Unsupported value");
}
