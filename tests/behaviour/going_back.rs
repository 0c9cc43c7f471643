//! Git moves forward and back; the environment follows, whatever the service makes of a rollback.

use std::time::Instant;

use chatcaptain_operator::crd::ChatbotDeployment;
use simulator::{
    DeployAnswer, DeploymentsStatus, Environment, FailuresAs, FieldShown, RollbackActs, RollbackBody,
    Settings,
};

use crate::harness::{World, is_ready, side_by_side};

/// One way for a service to be.
struct Service {
    settings: Settings,
    /// Further lines of the deployment's spec.
    spec: &'static [&'static str],
    /// What takes effect when git goes back to `a`.
    back: &'static [&'static str],
}

const ROLLBACK: &[&str] = &["rollback a test"];
const WORKING_COPY: &[&str] = &["rollback a", "deploy a test"];
const DEPLOY: &[&str] = &["deploy a test"];

fn service(settings: Settings, back: &'static [&'static str]) -> Service {
    Service { settings, spec: &[], back }
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
        Service { spec: &["rollback: {parameters: {reason: reverted}}"], ..service(demanding(), ROLLBACK) },
        Service { spec: &["rollback: {method: Redeploy}"], ..service(Settings::default(), DEPLOY) },
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
            world.point("test", wanted, service.spec);
            runs(&world, wanted);
            assert_eq!(world.moves().len(), moves, "{:#?}", service.settings);
        }
        let expected: Vec<&str> =
            ["deploy a test", "deploy b test"].iter().chain(service.back).copied().collect();
        assert_eq!(world.moves(), expected, "{:#?}", service.settings);
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
            world.point("test", wanted, service.spec);
            runs(&world, wanted);
        }
        let given = Instant::now();
        world.kubectl(&["annotate", "cbd", "test", "chatcaptain.dev/rollback-to=previous"], "");
        let live = || (world.live(Environment::Test).as_deref() == Some("a")).then_some(());
        world.eventually("a is live", live);
        println!("{:?}: live {:?} after the command", service.back, given.elapsed());
        let message = world.told::<ChatbotDeployment>("test", "RolledBack");
        assert!(message.contains("rollback-to"), "{message}");
        let expected: Vec<&str> =
            ["deploy a test", "deploy b test"].iter().chain(service.back).copied().collect();
        assert_eq!(world.moves(), expected, "{:#?}", service.settings);

        world.kill();
        world.start();
        world.eventually("the next operator has looked", || {
            (world.metric("chatcaptain_reconcile_total", &[r#"kind="ChatbotDeployment""#]) > 0).then_some(())
        });
        world.told::<ChatbotDeployment>("test", "RolledBack");
        assert_eq!(world.moves(), expected, "it holds over a restart");

        world.point("test", "b", &[service.spec, &["progressDeadline: 4m"]].concat());
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
