//! What the service may be like: a create, a deploy, a rollback and a deletion end well with each variant.

use std::collections::BTreeMap;

use chatcaptain_operator::crd::ChatbotVersion;
use simulator::{
    CreateAnswer, DeleteLive, DeployAnswer, DeploymentsStatus, Descriptions, Environment, FailuresAs, Fault,
    FaultKind, FaultOperation, FieldShown, NoDeployment, Operation, Permission, RetryAfter, RollbackActs,
    RollbackBody, Settings, Throttle, Times, UnknownId, VersionNumbers,
};
use support::{
    World,
    generated::{hold_section, table},
    run_concurrently,
};

/// One way in which a service can be.
struct Variant {
    /// What the service's reference leaves open.
    of: &'static str,
    /// How this one answers that.
    name: &'static str,
    settings: Settings,
    /// The rollback has no effect, so a deploy follows.
    falls_back: bool,
    /// One more line of each deployment's spec.
    spec: &'static str,
}

/// The service is as the simulator is by default, but for these settings.
fn with(of: &'static str, name: &'static str, settings: Settings) -> Variant {
    Variant { of, name, settings, falls_back: false, spec: "suspend: false" }
}

fn falling_back(of: &'static str, name: &'static str, settings: Settings) -> Variant {
    Variant { falls_back: true, ..with(of, name, settings) }
}

/// Everything that the reference of the service leaves open, and each way in which it can be.
fn variants() -> Vec<Variant> {
    [answers(), rollbacks(), lists(), limits(), gateway_failures()].into_iter().flatten().collect()
}

fn answers() -> Vec<Variant> {
    let usual = Settings::default;
    let create =
        |name, create_answer| with("the answer of a create", name, Settings { create_answer, ..usual() });
    let deploy =
        |name, deploy_answer| with("the answer of a deploy", name, Settings { deploy_answer, ..usual() });
    let unknown =
        |name, unknown_id| with("an id that is not known", name, Settings { unknown_id, ..usual() });
    let word = Settings { no_deployment: NoDeployment::None, ..usual() };
    vec![
        create("the version, wrapped", CreateAnswer::Wrapped),
        create("the version", CreateAnswer::Bare),
        create("versionId", CreateAnswer::VersionId),
        create("id", CreateAnswer::Id),
        create("empty", CreateAnswer::Empty),
        create("ids of other objects", CreateAnswer::OtherIds),
        create("the id of another version", CreateAnswer::OldestVersion),
        with("the answer of a create", "201", Settings { create_status: 201, ..usual() }),
        deploy("empty", DeployAnswer::Empty),
        deploy("{}", DeployAnswer::Object),
        deploy("an object", DeployAnswer::Detail),
        with("the answer of a deploy", "201", Settings { deploy_status: 201, ..usual() }),
        with("the answer of a deploy", "202", Settings { deploy_status: 202, rollout_ms: 700, ..usual() }),
        with("how failures come", "200 with error", Settings { failures_as: FailuresAs::Ok, ..usual() }),
        unknown("404", UnknownId::NotFound),
        unknown("400", UnknownId::BadRequest),
        unknown("200 with error", UnknownId::Ok),
        with("the word for no deployment", "none", word),
    ]
}

fn rollbacks() -> Vec<Variant> {
    const BODY: &str = "the body of a rollback";
    const ACTS: &str = "what a rollback acts on";
    let usual = Settings::default;
    let body = |rollback_body| Settings { rollback_body, ..usual() };
    let absent =
        |rollback_missing_status| Settings { rollback_available: false, rollback_missing_status, ..usual() };
    let required = || body(RollbackBody::Requires("reason".into()));
    let supplied = "rollback: {parameters: {reason: bad answers}}";
    let working_copy = Settings { rollback_acts: RollbackActs::WorkingCopy, ..usual() };
    vec![
        with(BODY, "the environment is accepted", body(RollbackBody::Environment)),
        falling_back(BODY, "any property is refused", body(RollbackBody::None)),
        falling_back(BODY, "a property is missing", required()),
        Variant { spec: supplied, ..with(BODY, "the spec supplies the property", required()) },
        falling_back(ACTS, "the working copy", working_copy),
        falling_back(ACTS, "there is no rollback: 404", absent(404)),
        falling_back(ACTS, "there is no rollback: 405", absent(405)),
    ]
}

fn lists() -> Vec<Variant> {
    const TIMES: &str = "times and numbers";
    let usual = Settings::default;
    let described =
        |name, descriptions| with("the description in the list", name, Settings { descriptions, ..usual() });
    let status = |name, deployments_status| {
        with("the deployment status", name, Settings { deployments_status, ..usual() })
    };
    let clock = |name, hours: i64| {
        let clock_offset_seconds = hours * 3600;
        with("the clock of the service", name, Settings { clock_offset_seconds, ..usual() })
    };
    let live = |name, delete_live| {
        with("deleting a version that is live", name, Settings { delete_live, ..usual() })
    };
    let no_times = Settings { deployed_field: FieldShown::Missing, ..usual() };
    let no_numbers = Settings { version_number_field: FieldShown::Missing, ..usual() };
    vec![
        with("the list after a create", "late", Settings { list_delay_ms: 1500, ..usual() }),
        with("long lists", "cut to the newest two", Settings { list_limit: Some(2), ..usual() }),
        described("missing", Descriptions::Missing),
        described("cut", Descriptions::Cut(10)),
        described("in one line", Descriptions::OneLine),
        with(
            TIMES,
            "an entry without an id",
            Settings { entry_without_id: Some("of the past".into()), ..usual() },
        ),
        with(TIMES, "times in milliseconds", Settings { times: Times::Millis, ..usual() }),
        with(TIMES, "times as objects", Settings { times: Times::Object, ..usual() }),
        with(TIMES, "no deploy times", no_times),
        with(TIMES, "numbers are numbers", Settings { version_numbers: VersionNumbers::Numbers, ..usual() }),
        with(TIMES, "no numbers", no_numbers),
        status("404", DeploymentsStatus::Missing),
        status("403", DeploymentsStatus::Forbidden),
        clock("two hours ahead", 2),
        clock("two hours behind", -2),
        live("refused", DeleteLive::Refused),
        live("accepted", DeleteLive::Accepted),
    ]
}

fn limits() -> Vec<Variant> {
    let limited = |name, answer, retry_after| {
        let throttle = Throttle { answer, retry_after, per_second: Some(5.0), burst: 5 };
        with("the rate limit", name, Settings { throttle: Some(throttle), ..Settings::default() })
    };
    vec![
        limited("429, Retry-After in seconds", 429, RetryAfter::Seconds),
        limited("429, Retry-After as a date", 429, RetryAfter::Date),
        limited("429 alone", 429, RetryAfter::None),
        limited("403 with a text", 403, RetryAfter::None),
        limited("503 with a text", 503, RetryAfter::None),
    ]
}

/// Each call fails once.
fn gateway_failures() -> Vec<Variant> {
    use FaultOperation::{Create, Delete, Deploy};
    let failing = |name, kind| {
        let faults = [Create, Deploy, Delete].map(|operation| Fault::new(operation, kind).times(1)).to_vec();
        with("gateway failures", name, Settings { faults, ..Settings::default() })
    };
    vec![
        failing("502 before the effect", FaultKind::Html502),
        failing("502 after the effect", FaultKind::Html502After),
        failing("504 after the effect", FaultKind::Html504After),
        failing("cut before the effect", FaultKind::Cut),
        failing("cut after the effect", FaultKind::CutAfter),
    ]
}

#[test]
fn create_deploy_rollback_and_deletion_end_well_in_every_variant() {
    run_concurrently(4, &variants(), |variant| {
        assert_all_four_end_well(&World::new(variant.settings.clone()), variant);
    });
}

/// As where the key lacks it: the permission is denied for this chatbot.
#[test]
fn create_deploy_rollback_and_deletion_end_well_without_the_deployment_status() {
    let world = World::without_operator(Settings::default(), &[]);
    let denied = BTreeMap::from([(world.bot.clone(), vec![Permission::Status])]);
    world.service.settings(|settings| settings.denied = denied);
    world.start();
    assert_all_four_end_well(
        &world,
        &with("", "no permission for the deployment status", Settings::default()),
    );
}

#[test]
fn readme_lists_every_variant() {
    let mut rows: Vec<[String; 2]> = Vec::new();
    for variant in variants() {
        match rows.last_mut().filter(|row| row[0] == variant.of) {
            Some(row) => row[1] = format!("{}; {}", row[1], variant.name),
            None => rows.push([variant.of.to_owned(), variant.name.to_owned()]),
        }
    }
    hold_section("tests/e2e/README.md", "variants", &table(["left open", "tried"], rows));
}

fn assert_all_four_end_well(world: &World, variant: &Variant) {
    let Variant { of, name, .. } = variant;
    let roll_out = |environment: &str, version: &str| {
        world.apply_deployment(environment, version, &["revisionHistoryLimit: 0", variant.spec]);
        world.wait_until_deployment_ready(environment);
    };
    for version in ["first", "second", "third"] {
        world.apply_version(version, &["description: For a test"]);
        world.wait_until_version_ready(version);
        if version == "second" {
            // while a list that is cut still shows both
            roll_out("test", "first");
            roll_out("test", "second");
        }
    }
    // where the deployment status cannot be read, a version is deleted only if each environment is known to run a version of
    // its own that was deployed later
    roll_out("prod", "third");
    roll_out("test", "first");
    assert_eq!(world.live_version(Environment::Test).as_deref(), Some("first"), "{of}: {name}");
    world.delete("chatbotversion", "second");
    world.wait_until_deleted::<ChatbotVersion>("second");
    let back = if variant.falls_back { "deploy first test" } else { "rollback first test" };
    let expected = [
        "create first dev",
        "create second dev",
        "deploy first test",
        "deploy second test",
        "create third dev",
        "deploy third prod",
        back,
        "delete second",
    ];
    let effects = || {
        let mut effects = world.effects();
        // nothing becomes live by it
        effects.retain(|effect| effect != "rollback first");
        effects
    };
    // the deletion may have been handed over to the ChatbotDeployment
    world.eventually("the version is deleted", || (effects().len() >= expected.len()).then_some(()));
    assert_eq!(effects(), expected, "{of}: {name}");
    assert_eq!(world.state().unwrap().versions.len(), 2, "{of}: {name}");
}

/// The word that the service accepts is remembered: one refused create for the account, not one for each version.
#[test]
fn other_word_for_no_deployment_is_found_once() {
    let world = World::new(Settings { no_deployment: NoDeployment::None, ..Settings::default() });
    for name in ["a", "b", "c"] {
        world.apply_version(name, &[]);
        world.wait_until_version_ready(name);
    }
    let creates = world.service.counters().of(Operation::Create).clone();
    assert_eq!((creates.calls, creates.took_effect), (4, 3));
}

/// The marker is found although its line break has become a blank: no create is repeated.
#[test]
fn lost_answers_create_one_version_each_where_descriptions_are_in_one_line() {
    const OBJECTS: usize = 12;
    let lost = Fault::new(FaultOperation::Create, FaultKind::CutAfter);
    let settings = Settings {
        descriptions: Descriptions::OneLine,
        faults: vec![Fault { probability: 0.5, ..lost }],
        ..Settings::default()
    };
    let world = World::new(settings);
    for number in 0..OBJECTS {
        world.apply_version(&format!("v{number}"), &["description: For a test"]);
    }
    world.wait_until_versions_ready(OBJECTS);
    assert_eq!(world.creates(), OBJECTS as u64, "{:#?}", world.effects());
}

/// A version that is listed without an id stops the object whose marker it carries, and no other of the chatbot.
#[test]
fn version_without_an_id_stops_its_object_alone() {
    let world = World::without_operator(Settings::default(), &[]);
    let marker = format!("[chatcaptain.dev default/{}/a]", world.namespace);
    world.service.settings(|settings| settings.entry_without_id = Some(marker));
    world.start();
    world.apply_version("a", &[]);
    world.apply_version("b", &[]);
    world.wait_until_version_ready("b");
    let message = world.wait_for_reason::<ChatbotVersion>("a", "VersionUnidentified");
    assert!(message.contains("Delete that version in the service"), "{message}");
    world.wait_for_two_polls();
    assert_eq!(world.effects(), ["create b dev"]);
    // deleted without its id it would be left behind
    world.delete("chatbotversion", "a");
    world.wait_for_reason::<ChatbotVersion>("a", "Deleting");
    world.wait_for_two_polls();
    assert!(world.get::<ChatbotVersion>("a").is_some());
    // as the message says
    world.service.settings(|settings| settings.entry_without_id = None);
    world.wait_until_deleted::<ChatbotVersion>("a");
    world.apply_version("a", &[]);
    world.wait_until_version_ready("a");
    assert_eq!(world.effects(), ["create b dev", "create a dev"]);
}
