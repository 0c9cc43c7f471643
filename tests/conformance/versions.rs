//! Every state of a `ChatbotVersion`: an observation for each step, wait and finalizer removal of the plan, and the
//! status that follows.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use chatcaptain_operator::{
    chatcaptain::{ApiCall, VersionId},
    crd::{
        ChatbotDeployment, ChatbotVersion, DeletionPolicy, Environment, FINALIZER, LiveEnvironment,
        Operation, OperationRecord, OperationResult, PendingCreate, Retry, annotation,
    },
    plan::{
        ServiceView, UnavailableReason, elapsed,
        version::{
            CreateState, FinalizerRemoval, LiveState, Match, Observation, Outcome, State, Step, Wait,
            next_step, report,
        },
    },
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use crate::states::{
    Coverage, NOW, ObjectState, ago, and_since, at, befores, config, failures, shown, unavailable, variants,
    version,
};

variants!(Step: AddFinalizer RecordIntent StartSearch Create Adopt Reclaim Delete RemoveFinalizer Wait);
variants!(Wait: Available Suspended BackingOff Unavailable OlderCreatePending WaitingForDeletion CreateUnconfirmed WaitingForVisibility VersionLost AmbiguousVersion VersionNotFound Conflict Deleting WaitingForOtherFinalizers);
variants!(FinalizerRemoval: Deleted NeverCreated Retained HandedOver OwnedByOther ForeignMarker ForceOrphaned LiveUnmanaged CredentialsTimeout Unconfirmed);
variants!(CreateState: NotStarted IntentRecorded OutcomeUnknown Searching SearchExpired Created);
variants!(Match: NotQueried Unavailable Present ForeignMarker NotYetListed Missing None Single DeletionPending Ambiguous Unmarked AdoptMissing AdoptConflict);
variants!(LiveState: NotLive HandoverPending HandedOver RolloutPending Unmanaged Unknown);

const OURS: &str = "[chatcaptain.dev default/ns/support]";
const OTHER_OWNER: &str = "[chatcaptain.dev other/ns/support]";
const FOREIGN: &str = "[chatcaptain.dev default/ns/other]";

/// Every state, and proof that there is a scene for each value of the plan's enums.
pub fn states() -> Vec<ObjectState> {
    let mut states = Vec::new();
    let mut coverage = Coverage::default();
    for before in befores(&newborn().metadata) {
        let mut object = newborn();
        object.status.as_mut().unwrap().common = before;
        states.push(ObjectState::new("as it is".to_owned(), &object));
        for observation in scenes(&object) {
            let state = observation.state();
            let step = next_step(&state);
            note(&mut coverage, &state, step);
            states.extend(reported_states(&observation, &state, step));
        }
    }
    coverage.assert_all::<Step>();
    coverage.assert_all::<Wait>();
    coverage.assert_all::<FinalizerRemoval>();
    coverage.assert_all::<CreateState>();
    coverage.assert_all::<Match>();
    coverage.assert_all::<LiveState>();
    coverage.assert_all::<UnavailableReason>();
    and_since(states)
}

fn note(coverage: &mut Coverage, what: &State, step: Step) {
    coverage.note(&what.create_state);
    coverage.note(&what.matched);
    coverage.note(&step);
    if let Some(deletion) = &what.deleting {
        coverage.note(&deletion.live_state);
    }
    match step {
        Step::Wait(wait) => coverage.note(&wait),
        Step::RemoveFinalizer(why) => coverage.note(&why),
        _ => {}
    }
    if let Step::Wait(Wait::Unavailable(why)) = step {
        coverage.note(&why);
    }
}

/// The states that a scene leads to, however its call ends; and then, if the object is suspended or does not fit its schema.
fn reported_states(observation: &Observation, state: &State, step: Step) -> Vec<ObjectState> {
    let mut states = Vec::new();
    for outcome in outcomes(step, observation) {
        let mut object = (*observation.object).clone();
        object.status = Some(report(observation, state, step, &outcome).status);
        states.push(ObjectState::new(format!("{step:?}"), &object));
        states.extend(states.last().map(ObjectState::unreadable));
        if object.metadata.deletion_timestamp.is_none() {
            object.spec.suspend = Some(true);
            object.metadata.generation = object.metadata.generation.map(|generation| generation + 1);
            let suspended = Observation {
                object: Arc::new(object.clone()),
                service: ServiceView::NotQueried,
                ..observation.clone()
            };
            let state = suspended.state();
            let step = next_step(&state);
            object.status = Some(report(&suspended, &state, step, &Outcome::NoCall).status);
            states.push(ObjectState::new(format!("{step:?}, then suspended"), &object));
        }
    }
    states
}

fn outcomes(step: Step, observation: &Observation) -> Vec<Outcome> {
    let list = match &observation.service {
        ServiceView::Available { inventory, .. } => Some(inventory.clone()),
        _ => None,
    };
    match step {
        Step::Create => {
            let with_ours = match shown(vec![version("v1", "support", OURS)], None) {
                ServiceView::Available { inventory, .. } => Some(inventory),
                _ => None,
            };
            let id = VersionId::parse("v1").ok();
            let mut outcomes = vec![
                Outcome::Created(Ok(id.clone()), with_ours.clone()),
                Outcome::Created(Ok(id), list.clone()),
                Outcome::Created(Ok(None), list.clone()),
            ];
            for failure in failures(ApiCall::Create) {
                outcomes.push(Outcome::Created(Err(failure.clone()), list.clone()));
                outcomes.push(Outcome::Created(Err(failure), with_ours.clone()));
            }
            outcomes
        }
        Step::Delete => {
            let failed = failures(ApiCall::Delete).into_iter().map(|failure| Outcome::Deleted(Err(failure)));
            failed.chain([Outcome::Deleted(Ok(()))]).collect()
        }
        _ => vec![Outcome::NoCall],
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

/// A reconcile of an object with this change, when the service shows this.
fn scene(
    object: &ChatbotVersion,
    service: ServiceView,
    change: impl FnOnce(&mut ChatbotVersion),
) -> Observation {
    let mut object = object.clone();
    change(&mut object);
    let intent = object.status.as_ref().and_then(|status| status.pending_create.as_ref());
    let search_start = intent.and_then(|intent| intent.search_start_time.as_ref());
    Observation {
        search_elapsed: search_start.map(|since| elapsed(since, at(NOW))).unwrap_or_default(),
        object: Arc::new(object),
        service,
        may_call: false,
        held_by_others: HashSet::new(),
        deletion_pending: HashSet::new(),
        older_claim: None,
        older_create_pending: false,
        deployments: Vec::new(),
        environment_owners: BTreeMap::new(),
        namespace_policy: None,
        crd_is_being_deleted: false,
        config: config(),
        now: at(NOW),
        attempt_id: "attempt".to_owned(),
        jitter: 0.0,
    }
}

/// Every scene, also those in which the object is being deleted.
fn scenes(object: &ChatbotVersion) -> Vec<Observation> {
    let mut scenes = beginnings(object);
    scenes.extend(lives(object));
    let mut being_deleted = object.clone();
    being_deleted.metadata.deletion_timestamp = Some(ago(0));
    being_deleted.metadata.generation = Some(2);
    scenes.extend(endings(&being_deleted));
    scenes.extend(handovers(&being_deleted));
    scenes
}

fn none() -> ServiceView {
    shown(vec![], None)
}

fn ours() -> ServiceView {
    shown(vec![version("v1", "support", OURS)], None)
}

fn other_owners() -> ServiceView {
    shown(vec![version("v1", "support", OTHER_OWNER)], None)
}

fn same(_: &mut ChatbotVersion) {}

fn known(object: &mut ChatbotVersion) {
    object.status.as_mut().unwrap().version_id = Some("v1".to_owned());
}

/// The intent of a create is recorded, and its version has been searched for this long.
fn intent(searched: Option<i64>) -> impl FnOnce(&mut ChatbotVersion) {
    move |object| {
        object.status.as_mut().unwrap().pending_create = Some(PendingCreate {
            attempt_id: "attempt".to_owned(),
            start_time: ago(100),
            existing_ids: vec![],
            version_id: None,
            search_start_time: searched.map(ago),
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
        completion_time: ago(0),
        result: OperationResult::Accepted,
        message: None,
    };
    object.status.as_mut().unwrap().common.push_operation(record);
}

/// Until there is a version.
fn beginnings(object: &ChatbotVersion) -> Vec<Observation> {
    let twins = shown(vec![version("v1", "support", OURS), version("v2", "support", OURS)], None);
    let foreign = || shown(vec![version("v1", "support", FOREIGN)], None);
    vec![
        scene(object, ServiceView::NotQueried, |o| o.metadata.finalizers = None),
        scene(object, none(), same),
        scene(object, none(), |o| {
            o.status.as_mut().unwrap().common.retry =
                Some(Retry { failures: 1, next_attempt_time: Time(at(NOW + 10)) });
        }),
        Observation { older_create_pending: true, ..scene(object, none(), same) },
        Observation { deletion_pending: ["v1".to_owned()].into(), ..scene(object, ours(), same) },
        Observation { deletion_pending: ["v1".to_owned()].into(), ..scene(object, ours(), known) },
        Observation { deployments: vec![ran("v9")], ..scene(object, none(), same) },
        scene(object, none(), intent(None)),
        Observation { may_call: true, ..scene(object, none(), intent(None)) },
        scene(object, none(), intent(Some(0))),
        scene(object, none(), intent(Some(100))),
        scene(object, ours(), same),
        scene(object, ours(), intent(Some(0))),
        scene(object, twins, same),
        scene(object, shown(vec![version("v1", "support", "")], None), same),
        scene(object, none(), annotated(annotation::ADOPT_ID, "v9")),
        scene(object, foreign(), annotated(annotation::ADOPT_ID, "v1")),
        scene(object, other_owners(), annotated(annotation::ADOPT_ID, "v1")),
    ]
}

/// A deployment that ran a version of this object's name.
fn ran(id: &str) -> Arc<ChatbotDeployment> {
    let entry = json!({"versionId": id, "versionName": "support", "startTime": "2026-01-01T00:00:00Z"});
    let deployment = json!({
        "apiVersion": "chatcaptain.dev/v1alpha1", "kind": "ChatbotDeployment",
        "metadata": {"name": "test", "namespace": "ns", "uid": "d"},
        "spec": {"chatbotId": "bot", "environment": "test", "versionId": "v1"},
        "status": {"history": [entry]},
    });
    Arc::new(serde_json::from_value(deployment).unwrap())
}

/// With a version, and with everything that keeps the service from being read.
fn lives(object: &ChatbotVersion) -> Vec<Observation> {
    let mut unknown_account = none();
    if let ServiceView::Available { authoritative, .. } = &mut unknown_account {
        *authoritative = false;
    }
    let mut scenes = vec![
        scene(object, ours(), known),
        scene(object, other_owners(), known),
        scene(object, none(), |o| called(o, Operation::Create)),
        scene(object, none(), known),
        scene(object, unknown_account, known),
        scene(object, none(), |o| {
            known(o);
            annotated(annotation::RECREATE, "token")(o);
        }),
        Observation {
            older_claim: Some("ns/older".to_owned()),
            ..scene(object, ServiceView::NotQueried, known)
        },
        scene(object, ServiceView::NotQueried, |o| o.spec.suspend = Some(true)),
    ];
    for service in unavailable() {
        scenes.push(scene(object, service.clone(), same));
        scenes.push(scene(object, service, known));
    }
    scenes
}

/// The object is being deleted.
fn endings(object: &ChatbotVersion) -> Vec<Observation> {
    let idle = || shown(vec![version("v1", "support", OURS)], Some([None, None]));
    let twins = shown(vec![version("v1", "support", OURS), version("v2", "support", OURS)], None);
    let late = |mut observation: Observation| {
        observation.now = at(NOW + 3600);
        observation
    };
    let mut scenes = vec![
        scene(object, ServiceView::NotQueried, |o| {
            o.metadata.finalizers = Some(vec!["example.com/other".to_owned()]);
        }),
        scene(object, ServiceView::NotQueried, annotated(annotation::FORCE_ORPHAN, "yes")),
        scene(object, ServiceView::NotQueried, |o| o.spec.deletion_policy = Some(DeletionPolicy::Retain)),
        scene(object, ServiceView::NotQueried, |o| o.spec.suspend = Some(true)),
        Observation {
            older_claim: Some("ns/older".to_owned()),
            ..scene(object, ServiceView::NotQueried, known)
        },
        scene(object, ours(), same),
        scene(object, none(), same),
        scene(object, twins, intent(Some(0))),
        scene(object, none(), intent(None)),
        scene(object, none(), intent(Some(0))),
        scene(object, none(), intent(Some(100))),
        scene(object, idle(), known),
        scene(object, other_owners(), known),
        scene(object, idle(), |o| called(o, Operation::Delete)),
        scene(object, none(), |o| called(o, Operation::Create)),
        scene(object, shown(vec![], Some([None, None])), known),
        scene(object, none(), |o| called(o, Operation::Delete)),
        late(scene(object, shown(vec![], Some([None, None])), |o| {
            called(o, Operation::Delete);
            o.status.as_mut().unwrap().common.last_operations[0].result = OperationResult::Refused;
        })),
    ];
    for service in unavailable() {
        scenes.push(scene(object, service.clone(), same));
        scenes.push(scene(object, service.clone(), known));
        scenes.push(late(scene(object, service, known)));
    }
    scenes
}

/// It is being deleted while its version is, or may be, live.
fn handovers(object: &ChatbotVersion) -> Vec<Observation> {
    let live = || shown(vec![version("v1", "support", OURS)], Some([Some("1.1"), None]));
    let deployment = |pending_deletions: serde_json::Value| -> Arc<ChatbotDeployment> {
        let deployment: ChatbotDeployment = serde_json::from_value(json!({
            "apiVersion": "chatcaptain.dev/v1alpha1", "kind": "ChatbotDeployment",
            "metadata": {"name": "test", "namespace": "ns", "uid": "d"},
            "spec": {"chatbotId": "bot", "environment": "test", "versionId": "v1"},
            "status": {"pendingDeletions": pending_deletions},
        }))
        .unwrap();
        Arc::new(deployment)
    };
    let managed =
        |pending_deletions| BTreeMap::from([(LiveEnvironment::Test, deployment(pending_deletions))]);
    let pending = json!([{"versionId": "v1", "name": "support", "requestTime": "2026-01-01T00:00:00Z"}]);
    let mut stale = live();
    if let ServiceView::Available { age, .. } = &mut stale {
        *age = Duration::from_mins(1);
    }
    vec![
        Observation { environment_owners: managed(json!([])), ..scene(object, live(), known) },
        Observation { deployments: vec![deployment(pending.clone())], ..scene(object, live(), known) },
        Observation {
            deployments: vec![deployment(pending)],
            ..scene(object, ServiceView::NotQueried, |o| {
                known(o);
                o.spec.deletion_policy = Some(DeletionPolicy::Retain);
            })
        },
        scene(object, live(), known),
        scene(object, stale, known),
        scene(object, shown(vec![version("v1", "support", OURS)], Some([None, None])), |o| {
            called(o, Operation::Create);
            o.spec.environment = Some(Environment::Test);
        }),
        // the key may not read what is live
        scene(object, ours(), known),
    ]
}
