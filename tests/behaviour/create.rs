//! One object, one version, however the service answers.

use simulator::{CreateAnswer, Descriptions, FailuresAs, Settings};

use crate::harness::{World, side_by_side};

const ANSWERS: [CreateAnswer; 5] = [
    CreateAnswer::Wrapped,
    CreateAnswer::Bare,
    CreateAnswer::VersionId,
    CreateAnswer::Id,
    CreateAnswer::Empty,
];

/// What the service may be like around a create.
fn services() -> Vec<Settings> {
    let mut services = Vec::new();
    for create_answer in ANSWERS {
        let friendly = Settings { create_answer, ..Settings::default() };
        services.push(Settings { create_status: 201, ..friendly.clone() });
        services.push(Settings { list_delay_ms: 1500, ..friendly.clone() });
        services.push(Settings {
            descriptions: Descriptions::Missing,
            list_delay_ms: 700,
            failures_as: FailuresAs::Ok,
            ..friendly.clone()
        });
        services.push(Settings { descriptions: Descriptions::Cut(10), ..friendly.clone() });
        services.push(friendly);
    }
    services
}

#[test]
fn every_answer_leads_to_one_version() {
    side_by_side(6, &services(), |settings| {
        let world = World::new(settings.clone());
        for name in ["first", "second"] {
            world.apply_version(name, &["description: For a test"]);
        }
        for name in ["first", "second"] {
            let version = world.ready_version(name);
            let status = version.status.unwrap();
            let state = world.state().unwrap();
            let made = state.versions.iter().find(|v| v.name == name).unwrap();
            assert_eq!(status.version_id.as_deref(), Some(made.id.as_str()), "{settings:?}");
            assert_eq!(status.version_number.as_ref(), Some(&made.version_number));
            assert!(status.intent.is_none(), "{settings:?}");
        }
        // a restart forgets what only the process knew
        world.kill();
        world.start();
        world.apply_version("third", &[]);
        world.ready_version("third");
        let mut creates = world.effects();
        creates.sort();
        let expected = ["create first dev", "create second dev", "create third dev"];
        assert_eq!(creates, expected, "{settings:?}");
    });
}
