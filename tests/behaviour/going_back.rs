//! Git moves forward and back; the environment follows, whatever the service makes of a rollback.

use std::time::Instant;

use chatcaptain_operator::crd::ChatbotDeployment;
use simulator::{
    DeployAnswer, DeploymentsStatus, Environment, FailedRollout, FailuresAs, FieldShown, RollbackActs,
    RollbackBody, Settings,
};

use crate::harness::{World, condition, is_ready, side_by_side};

/// One way for a service to be.
struct Service {
    settings: Settings,
    /// The deployment's `spec.rollback`.
    rollback: Vec<&'static str>,
    /// What takes effect on the way back to `a`.
    back: &'static [&'static str],
}

impl Service {
    /// Git names this version; `more` are further lines of the deployment's spec.
    fn point(&self, world: &World, version: &str, more: &[&str]) {
        let rollback = format!("rollback: {{{}}}", self.rollback.join(", "));
        world.point("test", version, &[&[rollback.as_str()], more].concat());
    }

    /// The versions were made to run in this order, and then it went back.
    fn moves(&self) -> Vec<&'static str> {
        [&["deploy a test", "deploy b test"], self.back].concat()
    }
}

const ROLLBACK: &[&str] = &["rollback a test"];
const WORKING_COPY: &[&str] = &["rollback a", "deploy a test"];
const DEPLOY: &[&str] = &["deploy a test"];

fn service(settings: Settings, back: &'static [&'static str]) -> Service {
    Service { settings, rollback: Vec::new(), back }
}

/// What a rollback may be like.
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

/// Each of them with the deployment status allowed, refused and absent; and services that tell next to nothing.
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
fn git_back_is_a_rollback_and_leads_there_in_any_case() {
    side_by_side(6, &services(), |service| {
        let world = World::new(service.settings.clone());
        world.apply_version("a", &[]);
        world.apply_version("b", &[]);
        for (wanted, moves) in [("a", 1), ("b", 2), ("a", 2 + service.back.len())] {
            service.point(&world, wanted, &[]);
            runs(&world, wanted);
            assert_eq!(world.moves().len(), moves, "{:#?}", service.settings);
        }
        assert_eq!(world.moves(), service.moves(), "{:#?}", service.settings);
        let status = world.deployment("test").status.unwrap();
        let history: Vec<_> = status.history.iter().map(|h| &h.version_id).collect();
        assert_eq!(history.len(), 3, "{history:?}");
        assert_eq!(history[0], history[2]);
    });
}

/// The annotation goes the same ways, holds over a restart, and ends when git moves.
#[test]
fn a_command_goes_back_the_same_ways_and_holds_until_git_moves() {
    side_by_side(6, &rollbacks(), |service| {
        let world = World::new(service.settings.clone());
        for wanted in ["a", "b"] {
            world.apply_version(wanted, &[]);
            service.point(&world, wanted, &[]);
            runs(&world, wanted);
        }
        let given = Instant::now();
        world.kubectl(&["annotate", "cbd", "test", "chatcaptain.dev/rollback-to=previous"], "");
        let live = || (world.live(Environment::Test).as_deref() == Some("a")).then_some(());
        world.eventually("a is live", live);
        println!("{:?}: live {:?} after the command", service.back, given.elapsed());
        let message = world.told::<ChatbotDeployment>("test", "RolledBack");
        assert!(message.contains("rollback-to"), "{message}");
        assert_eq!(world.moves(), service.moves(), "{:#?}", service.settings);

        world.kill();
        world.start();
        world.eventually("the next operator has looked", || {
            (world.metric("chatcaptain_reconcile_total", &[r#"kind="ChatbotDeployment""#]) > 0).then_some(())
        });
        world.told::<ChatbotDeployment>("test", "RolledBack");
        assert_eq!(world.moves(), service.moves(), "it holds over a restart");

        service.point(&world, "b", &["progressDeadline: 4m"]);
        runs(&world, "b");
    });
}

/// A number is no name, but what is said of it leads on.
#[test]
fn a_command_that_gives_a_number_is_told_the_id() {
    let world = World::new(Settings::default());
    for wanted in ["a", "b"] {
        world.apply_version(wanted, &[]);
        world.point("test", wanted, &[]);
        runs(&world, wanted);
    }
    let status = world.version("a").status.unwrap();
    let (id, number) = (status.version_id.unwrap(), status.version_number.unwrap());
    let go_back_to = |what: &str| {
        let command = format!("chatcaptain.dev/rollback-to={what}");
        world.kubectl(&["annotate", "--overwrite", "cbd", "test", &command], "");
    };
    go_back_to(&number);
    let message = world.told::<ChatbotDeployment>("test", "VersionNotFound");
    let (forms, hint) =
        ("previous, the name of a ChatbotVersion", format!("{number} is a version number; its id is {id}."));
    assert!(message.contains(forms) && message.ends_with(&hint), "{message}");
    go_back_to("9.9");
    world.eventually("nothing is made of what is no number either", || {
        world.told::<ChatbotDeployment>("test", "VersionNotFound").ends_with("or a version id.").then_some(())
    });
    go_back_to(&id);
    world.told::<ChatbotDeployment>("test", "RolledBack");
    assert_eq!(world.live(Environment::Test).as_deref(), Some("a"));
}

/// In a hurry, and nothing runs: what ran last is meant.
#[test]
fn a_command_fills_an_environment_that_a_failure_has_emptied() {
    let emptying = FailedRollout::Emptying;
    let failing = vec!["c".to_owned()];
    let world =
        World::new(Settings { failing_rollouts: failing, failed_rollout: emptying, ..Settings::default() });
    for wanted in ["a", "b"] {
        world.apply_version(wanted, &[]);
        world.point("test", wanted, &[]);
        runs(&world, wanted);
    }
    world.apply_version("c", &[]);
    world.point("test", "c", &["progressDeadline: 3s"]);
    let message = world.told::<ChatbotDeployment>("test", "ProgressDeadlineExceeded");
    assert!(message.contains("test runs nothing"), "{message}");
    assert_eq!(world.live(Environment::Test), None);
    let status = world.deployment("test").status.unwrap();
    assert_eq!(status.active, None, "kubectl get shows no version");

    world.kubectl(&["annotate", "cbd", "test", "chatcaptain.dev/rollback-to=previous"], "");
    world.told::<ChatbotDeployment>("test", "RolledBack");
    assert_eq!(world.live(Environment::Test).as_deref(), Some("b"));
    let note = world.event("test", "RolledBack");
    assert!(note.contains("went back to"), "{note}");
    let status = world.deployment("test").status.unwrap();
    let id = |name: &str| world.version(name).version_id().map(str::to_owned);
    let (active, previous) = (status.active.unwrap(), status.previous.unwrap());
    assert_eq!(Some(active.version_id), id("b"));
    assert_eq!(Some(previous.version_id), id("a"), "not the one that runs");
    assert_eq!(active.version_name.as_deref(), Some("b"), "named by its marker");
    assert_eq!(previous.version_name.as_deref(), Some("a"));
    assert_eq!(world.moves(), ["deploy a test", "deploy b test", "deploy c test", "rollback b test"]);
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
    // `a` is seen to run all the time: there is nothing to go back from
    let unharmed = service(Settings::default(), &[]);
    let mut failures = vec![failing(unharmed, FailedRollout::Harmless, DeploymentsStatus::Allowed)];
    for (one, other) in rollbacks().into_iter().zip(rollbacks()) {
        failures.push(failing(one, FailedRollout::Emptying, DeploymentsStatus::Allowed));
        // nobody can tell what the failure has done
        failures.push(failing(other, FailedRollout::Harmless, DeploymentsStatus::Forbidden));
    }
    failures
}

/// A failure goes the same ways, once, and is over when git moves.
#[test]
fn a_failure_goes_back_the_same_ways_and_remains_one_until_git_moves() {
    const DEADLINE: &[&str] = &["progressDeadline: 3s"];
    side_by_side(9, &failures(), |service| {
        let world = World::new(service.settings.clone());
        for name in ["a", "b"] {
            world.apply_version(name, &[]);
            world.ready_version(name);
        }
        service.point(&world, "a", DEADLINE);
        runs(&world, "a");
        service.point(&world, "b", DEADLINE);
        world.event("test", "RolloutFailed");
        let failed = Instant::now();
        let message = world.told::<ChatbotDeployment>("test", "RolledBack");
        assert!(message.contains(world.version("b").version_id().unwrap()), "{message}");
        let Settings { failed_rollout, deployments_status, .. } = &service.settings;
        let (back, took) = (service.back, failed.elapsed());
        println!("{failed_rollout:?} {deployments_status:?} {back:?}: live again {took:?} after the failure");
        has_failed(&world, service);
        let changes = world.changes();
        world.looked_twice();
        world.kill();
        world.start();
        world.looked_twice();
        has_failed(&world, service);
        assert_eq!(world.changes(), changes, "nothing is called twice");

        service.point(&world, "a", DEADLINE);
        runs(&world, "a");
        assert_eq!(world.moves(), service.moves(), "it runs already");
        world.apply_version("c", &[]);
        service.point(&world, "c", DEADLINE);
        runs(&world, "c");
        // what failed once is no failure for ever
        world.service.settings(|settings| settings.failing_rollouts.clear());
        service.point(&world, "b", DEADLINE);
        runs(&world, "b");
        let since = ["deploy c test", "deploy b test"];
        assert_eq!(world.moves(), [&service.moves(), &since[..]].concat());
    });
}

/// The environment runs `a` in place of `b`, every tool takes that for a failure, and no more was called than it
/// takes.
fn has_failed(world: &World, service: &Service) {
    assert_eq!(world.live(Environment::Test).as_deref(), Some("a"));
    assert_eq!(world.moves(), service.moves(), "{:#?}", service.settings);
    let deployment = world.deployment("test");
    let is = |kind| condition(&deployment, kind).map(|c| (c.status.as_str(), c.reason.as_str()));
    assert_eq!(is("Ready"), Some(("False", "RolledBack")));
    assert_eq!(is("Stalled"), Some(("True", "RolledBack")));
    world.event("test", "RolloutFailed");
    let events = world.events("test").into_iter().filter(|(reason, _)| reason == "RolloutFailed");
    assert_eq!(events.count(), 1);
    // that it came back is told and kept, unless it is known never to have been away
    let ran = if service.back.is_empty() { 1 } else { 2 };
    assert_eq!(deployment.status.unwrap().history.len(), ran);
    if ran > 1 {
        world.event("test", "RolledBack");
    }
}

/// Waits until the deployment says that it runs `name`, and holds it to the truth.
fn runs(world: &World, name: &str) {
    let version = world.ready_version(name);
    let id = version.status.unwrap().version_id.unwrap();
    world.eventually(&format!("test runs {name}"), || {
        let deployment = world.deployment("test");
        let active = deployment.status.as_ref()?.active.as_ref()?;
        (active.version_id == id && is_ready(&deployment)).then_some(())
    });
    assert_eq!(world.live(Environment::Test).as_deref(), Some(name));
}
