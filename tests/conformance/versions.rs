//! Every state of a `ChatbotVersion`: a scene for each step, rest and release of the plan, and what is told of it.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use chatcaptain_operator::{
    chatcaptain::{Call, VersionId},
    crd::{
        ChatbotDeployment, ChatbotVersion, DeletionPolicy, FINALIZER, Intent, LiveEnvironment, Operation,
        OperationRecord, OperationResult, Retry, annotation,
    },
    plan::{
        Blocked, Look, elapsed,
        version::{Facts, Liveness, Outcome, Record, Release, Rest, Seen, Sight, Step, next, tell},
    },
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use crate::states::{
    Coverage, NOW, State, ago, and_since, at, befores, blocked, failures, rules, shown, variants, version,
};

variants!(Step: Guard Intend Search Create Adopt Delete Release Rest);
variants!(Rest: Ready Suspended Held Blocked Queued Going Searching Young Lost Ambiguous AdoptMissing Conflict Deleting Gone);
variants!(Release: Proven NeverCreated Retained HandedOver NotOurs Forced LeftLive LeftBehind);
variants!(Record: Nothing Fresh Open Searching Searched Known);
variants!(Sight: NotAsked Blocked Present Young Absent Nobody One Going Many Unclear AdoptMissing AdoptForeign);
variants!(Liveness: Idle Offered Taken Alone Unknowable);

const OURS: &str = "[chatcaptain.dev default/ns/support]";
const FOREIGN: &str = "[chatcaptain.dev default/ns/other]";

/// Every state, and proof that there is a scene for each value of the plan's enums.
pub fn states() -> Vec<State> {
    let mut told = Vec::new();
    let mut seen = Coverage::default();
    for before in befores(&newborn().metadata) {
        let mut object = newborn();
        object.status.as_mut().unwrap().common = before;
        told.push(State::new("as it is".to_owned(), &object));
        for facts in scenes(&object) {
            let step = next(&facts.see());
            note(&mut seen, &facts.see(), step);
            told.extend(tellings(&facts, step));
        }
    }
    seen.assert_all::<Step>();
    seen.assert_all::<Rest>();
    seen.assert_all::<Release>();
    seen.assert_all::<Record>();
    seen.assert_all::<Sight>();
    seen.assert_all::<Liveness>();
    seen.assert_all::<Blocked>();
    and_since(told)
}

fn note(seen: &mut Coverage, what: &Seen, step: Step) {
    seen.note(&what.record);
    seen.note(&what.sight);
    seen.note(&step);
    if let Some(deletion) = &what.deleting {
        seen.note(&deletion.live);
    }
    match step {
        Step::Rest(rest) => seen.note(&rest),
        Step::Release(why) => seen.note(&why),
        _ => {}
    }
    if let Step::Rest(Rest::Blocked(why)) = step {
        seen.note(&why);
    }
}

/// What is told of a scene, however its call ends; and then, if the object is suspended or cannot be read any more.
fn tellings(facts: &Facts, step: Step) -> Vec<State> {
    let mut told = Vec::new();
    for outcome in outcomes(step, facts) {
        let mut object = (*facts.object).clone();
        object.status = Some(tell(facts, step, &outcome).status);
        told.push(State::new(format!("{step:?}"), &object));
        told.extend(told.last().map(State::unreadable));
        if object.metadata.deletion_timestamp.is_none() {
            object.spec.suspend = Some(true);
            object.metadata.generation = object.metadata.generation.map(|generation| generation + 1);
            let suspended = Facts { object: Arc::new(object.clone()), look: Look::NotAsked, ..facts.clone() };
            let step = next(&suspended.see());
            object.status = Some(tell(&suspended, step, &Outcome::Nothing).status);
            told.push(State::new(format!("{step:?}, then suspended"), &object));
        }
    }
    told
}

fn outcomes(step: Step, facts: &Facts) -> Vec<Outcome> {
    let list = match &facts.look {
        Look::Shown { inventory, .. } => Some(inventory.clone()),
        _ => None,
    };
    match step {
        Step::Create => {
            let with_ours = match shown(vec![version("v1", "support", OURS)], None) {
                Look::Shown { inventory, .. } => Some(inventory),
                _ => None,
            };
            let id = VersionId::parse("v1").ok();
            let mut outcomes = vec![
                Outcome::Created(Ok(id.clone()), with_ours.clone()),
                Outcome::Created(Ok(id), list.clone()),
                Outcome::Created(Ok(None), list.clone()),
            ];
            for failure in failures(Call::Create) {
                outcomes.push(Outcome::Created(Err(failure.clone()), list.clone()));
                outcomes.push(Outcome::Created(Err(failure), with_ours.clone()));
            }
            outcomes
        }
        Step::Delete => {
            let failed = failures(Call::Delete).into_iter().map(|failure| Outcome::Deleted(Err(failure)));
            failed.chain([Outcome::Deleted(Ok(()))]).collect()
        }
        _ => vec![Outcome::Nothing],
    }
}

fn newborn() -> ChatbotVersion {
    serde_json::from_value(json!({
        "apiVersion": "chatcaptain.dev/v1alpha1", "kind": "ChatbotVersion",
        "metadata": {
            "name": "support", "namespace": "ns", "uid": "u", "generation": 1, "finalizers": [FINALIZER],
        },
        "spec": {"chatbotId": "bot"},
        "status": {"observedGeneration": -1},
    }))
    .unwrap()
}

/// A pass over an object that looks like this, when the service shows this.
fn scene(object: &ChatbotVersion, look: Look, change: impl FnOnce(&mut ChatbotVersion)) -> Facts {
    let mut object = object.clone();
    change(&mut object);
    let intent = object.status.as_ref().and_then(|status| status.intent.as_ref());
    let watched = intent.and_then(|intent| intent.unconfirmed_since.as_ref());
    Facts {
        searched: watched.map(|since| elapsed(since, at(NOW))).unwrap_or_default(),
        object: Arc::new(object),
        look,
        permit: false,
        claimed: HashSet::new(),
        going: HashSet::new(),
        older_claim: None,
        rival: false,
        slots: BTreeMap::new(),
        namespace_policy: None,
        rules: rules(),
        now: at(NOW),
        attempt: "attempt".to_owned(),
        jitter: 0.0,
    }
}

/// Every scene of life and of deletion.
fn scenes(object: &ChatbotVersion) -> Vec<Facts> {
    let mut scenes = beginnings(object);
    scenes.extend(lives(object));
    let mut leaving = object.clone();
    leaving.metadata.deletion_timestamp = Some(ago(0));
    leaving.metadata.generation = Some(2);
    scenes.extend(endings(&leaving));
    scenes.extend(handovers(&leaving));
    scenes
}

fn none() -> Look {
    shown(vec![], None)
}

fn ours() -> Look {
    shown(vec![version("v1", "support", OURS)], None)
}

fn same(_: &mut ChatbotVersion) {}

fn known(object: &mut ChatbotVersion) {
    object.status.as_mut().unwrap().version_id = Some("v1".to_owned());
}

/// A create is announced; the list is being watched for it since so long.
fn intent(watched: Option<i64>) -> impl FnOnce(&mut ChatbotVersion) {
    move |object| {
        object.status.as_mut().unwrap().intent = Some(Intent {
            attempt: "attempt".to_owned(),
            started_at: ago(100),
            known_ids: vec![],
            unconfirmed_since: watched.map(ago),
        });
    }
}

fn annotated(key: &str, value: &str) -> impl FnOnce(&mut ChatbotVersion) {
    move |object| {
        object.metadata.annotations.get_or_insert_default().insert(key.to_owned(), value.to_owned());
    }
}

fn called(object: &mut ChatbotVersion, operation: Operation) {
    known(object);
    let record = OperationRecord {
        operation,
        version_id: Some("v1".to_owned()),
        at: ago(0),
        result: OperationResult::Accepted,
        message: None,
    };
    object.status.as_mut().unwrap().common.record(record);
}

/// Until there is a version.
fn beginnings(object: &ChatbotVersion) -> Vec<Facts> {
    let twins = shown(vec![version("v1", "support", OURS), version("v2", "support", OURS)], None);
    let foreign = || shown(vec![version("v1", "support", FOREIGN)], None);
    vec![
        scene(object, Look::NotAsked, |o| o.metadata.finalizers = None),
        scene(object, none(), same),
        scene(object, none(), |o| {
            o.status.as_mut().unwrap().common.retry =
                Some(Retry { failures: 1, not_before: Time(at(NOW + 10)) });
        }),
        Facts { rival: true, ..scene(object, none(), same) },
        Facts { going: ["v1".to_owned()].into(), ..scene(object, ours(), same) },
        scene(object, none(), intent(None)),
        Facts { permit: true, ..scene(object, none(), intent(None)) },
        scene(object, none(), intent(Some(0))),
        scene(object, none(), intent(Some(100))),
        scene(object, ours(), same),
        scene(object, ours(), intent(Some(0))),
        scene(object, twins, same),
        scene(object, shown(vec![version("v1", "support", "")], None), same),
        scene(object, none(), annotated(annotation::ADOPT_ID, "v9")),
        scene(object, foreign(), annotated(annotation::ADOPT_ID, "v1")),
    ]
}

/// With a version, and with everything that keeps from looking.
fn lives(object: &ChatbotVersion) -> Vec<Facts> {
    let mut untrusted = none();
    if let Look::Shown { trusted, .. } = &mut untrusted {
        *trusted = false;
    }
    let mut scenes = vec![
        scene(object, ours(), known),
        scene(object, none(), |o| called(o, Operation::Create)),
        scene(object, none(), known),
        scene(object, untrusted, known),
        scene(object, none(), |o| {
            known(o);
            annotated(annotation::RECREATE, "token")(o);
        }),
        Facts { older_claim: Some("ns/older".to_owned()), ..scene(object, Look::NotAsked, known) },
        scene(object, Look::NotAsked, |o| o.spec.suspend = Some(true)),
    ];
    for look in blocked() {
        scenes.push(scene(object, look.clone(), same));
        scenes.push(scene(object, look, known));
    }
    scenes
}

/// The object is being deleted.
fn endings(object: &ChatbotVersion) -> Vec<Facts> {
    let idle = || shown(vec![version("v1", "support", OURS)], Some([None, None]));
    let twins = shown(vec![version("v1", "support", OURS), version("v2", "support", OURS)], None);
    let late = |mut facts: Facts| {
        facts.now = at(NOW + 3600);
        facts
    };
    let mut scenes = vec![
        scene(object, Look::NotAsked, |o| o.metadata.finalizers = Some(vec!["example.com/other".to_owned()])),
        scene(object, Look::NotAsked, annotated(annotation::FORCE_ORPHAN, "yes")),
        scene(object, Look::NotAsked, |o| o.spec.deletion_policy = Some(DeletionPolicy::Retain)),
        scene(object, Look::NotAsked, |o| o.spec.suspend = Some(true)),
        Facts { older_claim: Some("ns/older".to_owned()), ..scene(object, Look::NotAsked, known) },
        scene(object, ours(), same),
        scene(object, none(), same),
        scene(object, twins, intent(Some(0))),
        scene(object, none(), intent(None)),
        scene(object, none(), intent(Some(0))),
        scene(object, none(), intent(Some(100))),
        scene(object, idle(), known),
        scene(object, idle(), |o| called(o, Operation::Delete)),
        scene(object, none(), |o| called(o, Operation::Create)),
        scene(object, none(), known),
    ];
    for look in blocked() {
        scenes.push(scene(object, look.clone(), same));
        scenes.push(scene(object, look.clone(), known));
        scenes.push(late(scene(object, look, known)));
    }
    scenes
}

/// It is being deleted while its version is, or may be, live.
fn handovers(object: &ChatbotVersion) -> Vec<Facts> {
    let live = || shown(vec![version("v1", "support", OURS)], Some([Some("1.1"), None]));
    let slot = |retiring: serde_json::Value| {
        let deployment: ChatbotDeployment = serde_json::from_value(json!({
            "apiVersion": "chatcaptain.dev/v1alpha1", "kind": "ChatbotDeployment",
            "metadata": {"name": "test", "namespace": "ns", "uid": "d"},
            "spec": {"chatbotId": "bot", "environment": "test", "versionId": "v1"},
            "status": {"retiring": retiring},
        }))
        .unwrap();
        BTreeMap::from([(LiveEnvironment::Test, Arc::new(deployment))])
    };
    let noted = json!([{"versionId": "v1", "name": "support", "since": "2026-01-01T00:00:00Z"}]);
    let mut stale = live();
    if let Look::Shown { age, .. } = &mut stale {
        *age = Duration::from_mins(1);
    }
    vec![
        Facts { slots: slot(json!([])), ..scene(object, live(), known) },
        Facts { slots: slot(noted), ..scene(object, live(), known) },
        scene(object, live(), known),
        scene(object, stale, known),
        // the key may not read what is live
        scene(object, ours(), known),
    ]
}
