//! Git moves forward and back; the environment follows, however the service implements a rollback.

use std::time::Instant;

use chatcaptain_operator::crd::{Cause, ChatbotDeployment};
use simulator::{
    DeployAnswer, DeploymentsStatus, Environment, FailedRollout, FailuresAs, FieldShown, RollbackActs,
    RollbackBody, Settings,
};
use support::{World, condition, is_ready, run_concurrently};

/// One kind of service.
struct Service {
    settings: Settings,
    /// The deployment's `spec.rollback`.
    rollback: Vec<&'static str>,
    /// What takes effect on the way back to `a`.
    back: &'static [&'static str],
}

impl Service {
    /// Git names this version; `more` are further lines of the deployment's spec.
    fn apply_deployment(&self, world: &World, version: &str, more: &[&str]) {
        let rollback = format!("rollback: {{{}}}", self.rollback.join(", "));
        world.apply_deployment("test", version, &[&[rollback.as_str()], more].concat());
    }

    /// The versions were made to run in this order, and then it went back.
    fn expected_effects(&self) -> Vec<&'static str> {
        [&["deploy a test", "deploy b test"], self.back].concat()
    }
}

const ROLLBACK: &[&str] = &["rollback a test"];
const WORKING_COPY: &[&str] = &["rollback a", "deploy a test"];
const DEPLOY: &[&str] = &["deploy a test"];

fn service(settings: Settings, back: &'static [&'static str]) -> Service {
    Service { settings, rollback: Vec::new(), back }
}

/// The ways in which a service may implement a rollback.
fn rollbacks() -> Vec<Service> {
    let friendly = Settings::default();
    let refuses =
        |failures_as| Settings { rollback_body: RollbackBody::None, failures_as, ..Settings::default() };
    let missing = |rollback_missing_status| Settings {
        rollback_available: false,
        rollback_missing_status,
        ..Settings::default()
    };
    let demanding =
        || Settings { rollback_body: RollbackBody::Requires("reason".to_owned()), ..Settings::default() };
    let working_copy = Settings { rollback_acts: RollbackActs::WorkingCopy, ..Settings::default() };
    vec![
        service(friendly, ROLLBACK),
        service(working_copy, WORKING_COPY),
        service(refuses(FailuresAs::Http), DEPLOY),
        service(missing(404), DEPLOY),
        service(missing(405), DEPLOY),
        service(demanding(), DEPLOY),
        Service { rollback: vec!["parameters: {reason: reverted}"], ..service(demanding(), ROLLBACK) },
        Service { rollback: vec!["method: Redeploy"], ..service(Settings::default(), DEPLOY) },
    ]
}

/// Each of them with the deployment status allowed, forbidden and missing; and services that return very little.
fn services() -> Vec<Service> {
    let mut services = Vec::new();
    for deployments_status in
        [DeploymentsStatus::Allowed, DeploymentsStatus::Forbidden, DeploymentsStatus::Missing]
    {
        for mut service in rollbacks() {
            service.settings.deployments_status = deployments_status;
            services.push(service);
        }
    }
    let slow = Settings {
        rollout_ms: 1200,
        deploy_answer: DeployAnswer::Empty,
        deploy_status: 202,
        ..Settings::default()
    };
    services.push(service(slow.clone(), ROLLBACK));
    services.push(service(Settings { deployments_status: DeploymentsStatus::Forbidden, ..slow }, ROLLBACK));
    let numberless = Settings {
        version_number_field: FieldShown::Missing,
        deploy_answer: DeployAnswer::Object,
        ..Settings::default()
    };
    services.push(service(numberless, ROLLBACK));
    services
}

#[test]
fn reverting_git_rolls_back_with_every_service() {
    run_concurrently(6, &services(), |service| {
        let world = World::new(service.settings.clone());
        world.apply_version("a", &[]);
        world.apply_version("b", &[]);
        for (wanted, moves) in [("a", 1), ("b", 2), ("a", 2 + service.back.len())] {
            service.apply_deployment(&world, wanted, &[]);
            wait_until_running(&world, wanted);
            assert_eq!(world.effects_besides_creates().len(), moves, "{:#?}", service.settings);
        }
        assert_eq!(world.effects_besides_creates(), service.expected_effects(), "{:#?}", service.settings);
        let status = world.deployment("test").status.unwrap();
        let history: Vec<_> = status.history.iter().map(|h| &h.version_id).collect();
        assert_eq!(history.len(), 3, "{history:?}");
        assert_eq!(history[0], history[2]);
    });
}

/// The annotation takes the same paths, survives a restart, and ends when git changes.
#[test]
fn rollback_annotation_holds_until_git_changes() {
    run_concurrently(6, &rollbacks(), |service| {
        let world = World::new(service.settings.clone());
        for wanted in ["a", "b"] {
            world.apply_version(wanted, &[]);
            service.apply_deployment(&world, wanted, &[]);
            wait_until_running(&world, wanted);
        }
        let given = Instant::now();
        world.kubectl(&["annotate", "cbd", "test", "chatcaptain.dev/rollback-to=previous"], "");
        let live = || (world.live_version(Environment::Test).as_deref() == Some("a")).then_some(());
        world.eventually("a is live", live);
        println!("{:?}: live {:?} after the command", service.back, given.elapsed());
        let message = world.wait_for_reason::<ChatbotDeployment>("test", "RolledBack");
        assert!(message.contains("rollback-to"), "{message}");
        assert_eq!(world.effects_besides_creates(), service.expected_effects(), "{:#?}", service.settings);

        world.kill();
        world.start();
        world.eventually("the next operator has reconciled", || {
            (world.metric("chatcaptain_reconcile_total", &[r#"kind="ChatbotDeployment""#]) > 0).then_some(())
        });
        world.wait_for_reason::<ChatbotDeployment>("test", "RolledBack");
        assert_eq!(world.effects_besides_creates(), service.expected_effects(), "it holds over a restart");

        world.apply_version("c", &[]);
        service.apply_deployment(&world, "c", &[]);
        wait_until_running(&world, "c");
    });
}

/// Where nothing is live, `previous` means the version that was live last.
#[test]
fn rollback_to_previous_refills_an_emptied_environment() {
    let emptying = FailedRollout::Emptying;
    let failing = vec!["c".to_owned()];
    let world =
        World::new(Settings { failing_rollouts: failing, failed_rollout: emptying, ..Settings::default() });
    for wanted in ["a", "b"] {
        world.apply_version(wanted, &[]);
        world.apply_deployment("test", wanted, &[]);
        wait_until_running(&world, wanted);
    }
    world.apply_version("c", &[]);
    world.apply_deployment("test", "c", &["progressDeadline: 3s"]);
    let message = world.wait_for_reason::<ChatbotDeployment>("test", "ProgressDeadlineExceeded");
    assert!(message.contains("test runs nothing"), "{message}");
    assert_eq!(world.live_version(Environment::Test), None);
    let status = world.deployment("test").status.unwrap();
    assert_eq!(status.active, None, "kubectl get shows no version");

    world.kubectl(&["annotate", "cbd", "test", "chatcaptain.dev/rollback-to=previous"], "");
    world.wait_for_reason::<ChatbotDeployment>("test", "RolledBack");
    assert_eq!(world.live_version(Environment::Test).as_deref(), Some("b"));
    let note = world.wait_for_event("test", "RolledBack");
    assert!(note.contains("back to"), "{note}");
    let status = world.deployment("test").status.unwrap();
    let id = |name: &str| world.version(name).version_id().map(str::to_owned);
    let (active, previous) = (status.active.unwrap(), status.previous.unwrap());
    assert_eq!(Some(active.version_id), id("b"));
    assert_eq!(Some(previous.version_id), id("a"), "not the one that runs");
    assert_eq!(active.version_name.as_deref(), Some("b"), "named by its marker");
    assert_eq!(previous.version_name.as_deref(), Some("a"));
    assert_eq!(
        world.effects_besides_creates(),
        ["deploy a test", "deploy b test", "deploy c test", "rollback b test"]
    );
}

/// Services where `b` never becomes live, and deployments that then go back to `a`.
fn failures() -> Vec<Service> {
    let failing = |mut service: Service, failed_rollout, deployments_status| {
        service.settings.failing_rollouts = vec!["b".to_owned()];
        service.settings.failed_rollout = failed_rollout;
        service.settings.deployments_status = deployments_status;
        service.rollback.push("onFailure: Previous");
        service
    };
    // `a` runs all the time: there is nothing to roll back from
    let unharmed = service(Settings::default(), &[]);
    let mut failures = vec![failing(unharmed, FailedRollout::Harmless, DeploymentsStatus::Allowed)];
    for (one, other) in rollbacks().into_iter().zip(rollbacks()) {
        failures.push(failing(one, FailedRollout::Emptying, DeploymentsStatus::Allowed));
        // the effect of the failure is unknown
        failures.push(failing(other, FailedRollout::Harmless, DeploymentsStatus::Forbidden));
    }
    failures
}

/// A failed rollout takes the same paths, once, and is forgotten when git changes.
#[test]
fn failed_rollout_rolls_back_and_stays_failed_until_git_changes() {
    const DEADLINE: &[&str] = &["progressDeadline: 3s"];
    run_concurrently(9, &failures(), |service| {
        let world = World::new(service.settings.clone());
        for name in ["a", "b"] {
            world.apply_version(name, &[]);
            world.wait_until_version_ready(name);
        }
        service.apply_deployment(&world, "a", DEADLINE);
        wait_until_running(&world, "a");
        service.apply_deployment(&world, "b", DEADLINE);
        world.wait_for_event("test", "RolloutFailed");
        let failed = Instant::now();
        let message = world.wait_for_reason::<ChatbotDeployment>("test", "RolledBack");
        assert!(message.contains(world.version("b").version_id().unwrap()), "{message}");
        let Settings { failed_rollout, deployments_status, .. } = &service.settings;
        let (back, took) = (service.back, failed.elapsed());
        println!("{failed_rollout:?} {deployments_status:?} {back:?}: live again {took:?} after the failure");
        assert_failed_and_rolled_back(&world, service);
        let changes = world.rollout_calls();
        world.wait_for_two_polls();
        self_heal(&world);
        world.kill();
        world.start();
        world.wait_for_two_polls();
        assert_failed_and_rolled_back(&world, service);
        assert_eq!(world.rollout_calls(), changes, "nothing is called twice");

        service.apply_deployment(&world, "a", DEADLINE);
        wait_until_running(&world, "a");
        assert_eq!(world.effects_besides_creates(), service.expected_effects(), "it runs already");
        world.apply_version("c", &[]);
        service.apply_deployment(&world, "c", DEADLINE);
        wait_until_running(&world, "c");
        // what failed once is no failure for ever
        world.service.settings(|settings| settings.failing_rollouts.clear());
        service.apply_deployment(&world, "b", DEADLINE);
        wait_until_running(&world, "b");
        let since = ["deploy c test", "deploy b test"];
        assert_eq!(world.effects_besides_creates(), [&service.expected_effects(), &since[..]].concat());
    });
}

/// Applies once more what was applied, as Argo CD does.
fn self_heal(world: &World) {
    let applied = r"jsonpath={.metadata.annotations.kubectl\.kubernetes\.io/last-applied-configuration}";
    let git = world.kubectl(&["get", "cbd", "test", "-o", applied], "");
    world.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &git);
}

/// The environment runs `a` instead of `b`, the conditions report a failure, and no unnecessary call was made.
fn assert_failed_and_rolled_back(world: &World, service: &Service) {
    assert_eq!(world.live_version(Environment::Test).as_deref(), Some("a"));
    assert_eq!(world.effects_besides_creates(), service.expected_effects(), "{:#?}", service.settings);
    let deployment = world.deployment("test");
    let is = |kind| condition(&deployment, kind).map(|c| (c.status.as_str(), c.reason.as_str()));
    assert_eq!(is("Ready"), Some(("False", "RolledBack")));
    assert_eq!(is("Stalled"), Some(("True", "RolledBack")));
    world.wait_for_event("test", "RolloutFailed");
    let events = world.events("test").into_iter().filter(|(reason, _)| reason == "RolloutFailed");
    assert_eq!(events.count(), 1);
    // the rollback is reported and kept in the history, unless `a` is known to have been live all the time
    let ran = if service.back.is_empty() { 1 } else { 2 };
    assert_eq!(deployment.status.unwrap().history.len(), ran);
    if ran > 1 {
        world.wait_for_event("test", "RolledBack");
    }
}

/// Waits until the deployment reports that it runs `name`, which must be true in the service.
fn wait_until_running(world: &World, name: &str) {
    let version = world.wait_until_version_ready(name);
    let id = version.status.unwrap().version_id.unwrap();
    world.eventually(&format!("test runs {name}"), || {
        let deployment = world.deployment("test");
        let active = deployment.status.as_ref()?.active.as_ref()?;
        (active.version_id == id && is_ready(&deployment)).then_some(())
    });
    assert_eq!(world.live_version(Environment::Test).as_deref(), Some(name));
}

/// prod follows test and its soak time going forward. A revert in git of prod alone goes back at once, though test still
/// runs the version that prod leaves.
#[test]
fn git_revert_waits_for_no_promotion() {
    let world = World::new(Settings::default());
    let after = |soak: &str| format!("promoteAfter: {{deploymentRef: {{name: test}}, soak: {soak}}}");
    for name in ["a", "b"] {
        world.apply_version(name, &[]);
        world.wait_until_version_ready(name);
        world.apply_deployment("test", name, &[]);
        world.apply_deployment("prod", name, &[&after("1s")]);
        world.wait_until_deployment_ready("prod");
    }
    world.apply_deployment("prod", "a", &[&after("30m")]);
    world.eventually("prod is back", || {
        (world.live_version(Environment::Prod).as_deref() == Some("a")).then_some(())
    });
    assert_eq!(world.live_version(Environment::Test).as_deref(), Some("b"));
    assert_eq!(world.effects_besides_creates().last().map(String::as_str), Some("rollback a prod"));
}

/// A release that was reverted and comes again is a release, though the environment ran the version before.
#[test]
fn return_to_a_reverted_version_is_a_deploy_and_not_a_rollback() {
    let world = World::new(Settings::default());
    for wanted in ["a", "b"] {
        world.apply_version(wanted, &[]);
        world.apply_deployment("test", wanted, &[]);
        wait_until_running(&world, wanted);
    }
    for wanted in ["a", "b", "a"] {
        world.apply_deployment("test", wanted, &[]);
        wait_until_running(&world, wanted);
    }
    let moves = ["deploy a test", "deploy b test", "rollback a test", "deploy b test", "rollback a test"];
    assert_eq!(world.effects_besides_creates(), moves);
}

#[test]
fn history_names_the_cause_and_the_manager_of_each_version() {
    let world = World::new(Settings::default());
    let release = |name: &str| {
        world.apply_version(name, &[]);
        world.apply_deployment("test", name, &[]);
        wait_until_running(&world, name);
    };
    release("a");
    world.kubectl(&["annotate", "cbd", "test", "kubernetes.io/change-cause=release 2"], "");
    release("b");
    world.kubectl(&["annotate", "cbd", "test", "chatcaptain.dev/rollback-to=previous"], "");
    world.wait_for_reason::<ChatbotDeployment>("test", "RolledBack");
    let history = world.deployment("test").status.unwrap().history;
    let entry = |index: usize| {
        let entry = &history[index];
        (entry.cause, entry.change_cause.as_deref(), entry.spec_manager.as_deref())
    };
    let manager = Some("kubectl-client-side-apply");
    assert_eq!(entry(2), (Some(Cause::Spec), None, manager));
    assert_eq!(entry(1), (Some(Cause::Spec), Some("release 2"), manager));
    assert_eq!(entry(0), (Some(Cause::RollbackCommand), None, None));
}
