//! Every state of a `ChatbotDeployment`: an observation for each step and wait of the plan, and the status that follows.

use std::{collections::HashSet, sync::Arc};

use chatcaptain_operator::{
    chatcaptain::ApiCall as ServiceCall,
    crd::{ChatbotDeployment, ChatbotVersion, FINALIZER, annotation},
    plan::{
        ServiceView, UnavailableReason,
        deployment::{
            Drift, Freeze, Gate, Observation, Outcome, PendingDeletionState, Promotion, Rollout,
            RolloutMethod, State, Step, TargetState, Unresolved, VersionBeingDeleted, Wait, next_step,
            report,
        },
    },
};
use serde_json::{Value, json};

use crate::states::{
    Coverage, NOW, ObjectState, ago, and_since, at, befores, config, failures, shown, unavailable, variants,
    version,
};

variants!(Step: AddFinalizer RemoveFinalizer RemoveRollbackCommand RecordIntent StartRollout FailRollout DeleteVersion Wait);
variants!(Wait: Available Suspended BackingOff InvalidSpec Conflict ForeignVersion Unavailable Unresolved Gate PromotionBlocked Progressing ProgressDeadlineExceeded RolledBack DriftTolerated
    DriftCorrectionPaused Deleting WaitingForOtherFinalizers);
variants!(Unresolved: WaitingForVersion VersionTimedOut ReferenceMismatch VersionNotFound AmbiguousVersion);
variants!(TargetState: Resolved Failed Unresolved);
variants!(Rollout: None IntentRecorded OutcomeUnknown InProgress RollbackIneffective DeadlineExceeded);
variants!(Promotion: Allowed Waiting Blocked);
variants!(Gate: Promotion Verification Approval Window Freeze);
variants!(Drift: None LateEffect Enforce LimitReached Warn);
variants!(PendingDeletionState: None New InUse Ready BackingOff InFlight HandingOver);

/// Every state, and proof that there is a scene for each value of the plan's enums.
pub fn states() -> Vec<ObjectState> {
    let mut states = Vec::new();
    let mut coverage = Coverage::default();
    for before in befores(&newborn().metadata) {
        let mut object = newborn();
        object.status.as_mut().unwrap().common = before;
        states.push(ObjectState::new("as it is".to_owned(), &object));
        for observation in scenes(&object) {
            let step = next_step(&observation.state());
            note(&mut coverage, &observation.state(), step);
            states.extend(reported_states(&observation, step));
        }
    }
    coverage.assert_all::<Step>();
    coverage.assert_all::<Wait>();
    coverage.assert_all::<Unresolved>();
    coverage.assert_all::<TargetState>();
    coverage.assert_all::<Rollout>();
    coverage.assert_all::<Promotion>();
    coverage.assert_all::<Gate>();
    coverage.assert_all::<Drift>();
    coverage.assert_all::<PendingDeletionState>();
    coverage.assert_all::<UnavailableReason>();
    and_since(states)
}

fn note(coverage: &mut Coverage, what: &State, step: Step) {
    coverage.note(&what.target);
    coverage.note(&what.rollout);
    coverage.note(&what.promotion);
    coverage.note(&what.drift);
    coverage.note(&what.pending_deletion);
    coverage.note(&step);
    if let Step::Wait(wait) = step {
        coverage.note(&wait);
        match wait {
            Wait::Unavailable(why) => coverage.note(&why),
            Wait::Unresolved(why) => coverage.note(&why),
            Wait::Gate(gate) => coverage.note(&gate),
            _ => {}
        }
    }
}

/// The states that a scene leads to, however its call ends; and then, if the object is suspended or does not fit its schema.
fn reported_states(observation: &Observation, step: Step) -> Vec<ObjectState> {
    let mut states = Vec::new();
    for outcome in outcomes(step) {
        let mut object = (*observation.object).clone();
        object.status = Some(report(observation, &observation.state(), step, &outcome).status);
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
            let step = next_step(&suspended.state());
            object.status = Some(report(&suspended, &suspended.state(), step, &Outcome::NoCall).status);
            states.push(ObjectState::new(format!("{step:?}, then suspended"), &object));
        }
    }
    states
}

fn outcomes(step: Step) -> Vec<Outcome> {
    match step {
        Step::StartRollout(call) => {
            let of = if call == RolloutMethod::Deploy { ServiceCall::Deploy } else { ServiceCall::Rollback };
            let failed = failures(of).into_iter().map(|failure| Outcome::RolloutStarted(Err(failure)));
            failed.chain([Outcome::RolloutStarted(Ok(()))]).collect()
        }
        Step::DeleteVersion => {
            let gone = |result| Outcome::VersionDeleted("v2".to_owned(), result);
            failures(ServiceCall::Delete).into_iter().map(Err).chain([Ok(())]).map(gone).collect()
        }
        _ => vec![Outcome::NoCall],
    }
}

fn newborn() -> ChatbotDeployment {
    serde_json::from_value(json!({
        "apiVersion": "chatcaptain.dev/v1alpha1", "kind": "ChatbotDeployment",
        "metadata": {"name": "support", "namespace": "ns", "uid": "u", "generation": 1},
        "spec": {"chatbotId": "bot", "environment": "prod", "versionRef": {"name": "a"}},
        "status": {"observedGeneration": -1},
    }))
    .unwrap()
}

/// The object with these fields in its spec and its status besides; null removes one.
fn with(object: &ChatbotDeployment, spec: &Value, status: &Value) -> ChatbotDeployment {
    let mut value = serde_json::to_value(object).unwrap();
    for (part, more) in [("spec", spec), ("status", status)] {
        let fields = value[part].as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        fields.retain(|_, field| !field.is_null());
    }
    serde_json::from_value(value).unwrap()
}

/// The object of the version that the spec names.
fn named(more: &Value) -> Arc<ChatbotVersion> {
    let mut value = json!({
        "apiVersion": "chatcaptain.dev/v1alpha1", "kind": "ChatbotVersion",
        "metadata": {"name": "a", "namespace": "ns", "uid": "a"},
        "spec": {"chatbotId": "bot"}, "status": {"versionId": "v1"},
    });
    value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Arc::new(serde_json::from_value(value).unwrap())
}

/// A reconcile of this object when the service shows this.
fn scene(object: ChatbotDeployment, service: ServiceView) -> Observation {
    Observation {
        object: Arc::new(object),
        service,
        may_call: false,
        older_claim: None,
        referenced_version: Some(named(&json!({}))),
        rollback_version: None,
        promotion_source: None,
        followed: None,
        promotion_ring: false,
        freeze: Freeze::Off,
        versions_being_deleted: vec![],
        reclaimed: HashSet::new(),
        in_use_elsewhere: HashSet::new(),
        elsewhere: None,
        crd_is_being_deleted: false,
        config: config(),
        now: at(NOW),
        jitter: 0.0,
    }
}

/// Prod runs the version of this number.
fn runs(number: &str) -> ServiceView {
    let versions = vec![version("v1", "a", ""), version("v2", "b", "")];
    shown(versions, Some([None, Some(number).filter(|number| !number.is_empty())]))
}

/// Prod runs a version of another installation.
fn runs_a_foreign_version() -> ServiceView {
    let versions = vec![version("v1", "a", ""), version("v2", "b", "[chatcaptain.dev other/ns/b]")];
    shown(versions, Some([None, Some("1.2")]))
}

fn operation_of(operation: &str, called: Option<i64>, result: Option<&str>) -> Value {
    json!({"currentOperation": {
        "operation": operation, "versionId": "v1", "startTime": ago(called.unwrap_or(0)),
        "callTime": called.map(ago), "result": result,
    }})
}

/// Every scene, also those in which the object is being deleted.
fn scenes(object: &ChatbotDeployment) -> Vec<Observation> {
    let mut scenes = unable(object);
    scenes.extend(unresolved(object));
    scenes.extend(gates(object));
    scenes.extend(rollouts(object));
    scenes.extend(settled(object));
    scenes.extend(pending_deletions(object));
    scenes
}

/// Nothing can be done.
fn unable(object: &ChatbotDeployment) -> Vec<Observation> {
    let mut scenes = vec![
        scene(with(object, &json!({"versionRef": null}), &json!({})), runs("1.1")),
        scene(with(object, &json!({"suspend": true}), &json!({})), ServiceView::NotQueried),
        Observation {
            older_claim: Some("ns/older".to_owned()),
            ..scene(object.clone(), ServiceView::NotQueried)
        },
    ];
    scenes.extend(unavailable().into_iter().map(|service| scene(object.clone(), service)));
    scenes
}

/// The desired version is not known.
fn unresolved(object: &ChatbotDeployment) -> Vec<Observation> {
    let wants = |spec: Value| with(object, &spec, &json!({}));
    let mut commanded = object.clone();
    let annotations = commanded.metadata.annotations.get_or_insert_default();
    annotations.insert(annotation::ROLLBACK_TO.to_owned(), "nothing".to_owned());
    let mut twins = vec![version("v1", "a", ""), version("v2", "b", "")];
    twins[1].number = Some("1.1".into());
    let other = json!({"spec": {"chatbotId": "other"}});
    let waiting = json!({"waitingForVersion": {"name": "a", "startTime": ago(1000)}});
    vec![
        Observation { referenced_version: None, ..scene(object.clone(), runs("")) },
        Observation {
            referenced_version: Some(named(&json!({"status": {}}))),
            ..scene(object.clone(), runs(""))
        },
        Observation { referenced_version: None, ..scene(with(object, &json!({}), &waiting), runs("")) },
        Observation { referenced_version: Some(named(&other)), ..scene(object.clone(), runs("")) },
        scene(wants(json!({"versionRef": null, "versionId": "v9"})), runs("")),
        scene(wants(json!({"versionRef": null, "versionNumber": "1.1"})), shown(twins, Some([None, None]))),
        scene(commanded, runs("1.1")),
    ]
}

/// A version that has to pass a gate first.
fn gates(object: &ChatbotDeployment) -> Vec<Observation> {
    let wants = |spec: Value| with(object, &spec, &json!({}));
    let after_test = |more: &str| {
        let mut after = json!({"deploymentRef": {"name": "test"}});
        after[more] = json!(true);
        wants(json!({"promoteAfter": after}))
    };
    let condition = json!({"type": "Ready", "status": "True", "reason": "Available", "message": "m",
        "lastTransitionTime": ago(100)});
    let ready = json!({"active": {"versionId": "v1", "startTime": ago(100)}, "conditions": [condition]});
    let runs_in_test = Some(Arc::new(with(&newborn(), &json!({}), &ready)));
    let never = json!([{"schedule": "0 0 31 2 *", "duration": "1h"}]);
    let later = json!([{"schedule": "0 0 1 1 *", "duration": "1h"}]);
    let follows = || wants(json!({"versionRef": null, "follow": {"deploymentRef": {"name": "test"}}}));
    let other = with(&newborn(), &json!({"chatbotId": "other"}), &json!({}));
    let frozen = |freeze| Observation { freeze, ..scene(object.clone(), runs("1.2")) };
    vec![
        Observation { promotion_source: runs_in_test.clone(), ..scene(after_test("verified"), runs("1.2")) },
        Observation { promotion_source: runs_in_test.clone(), ..scene(after_test("approved"), runs("1.2")) },
        scene(wants(json!({"windows": never})), runs("1.2")),
        scene(wants(json!({"windows": later})), runs("1.2")),
        scene(wants(json!({"windows": [{"schedule": "a b c d e", "duration": "1h"}]})), runs("1.2")),
        frozen(Freeze::On("a holiday".to_owned())),
        frozen(Freeze::Unknown("no answer".to_owned())),
        scene(follows(), runs("1.2")),
        Observation { followed: Some(Arc::new(other)), ..scene(follows(), runs("1.2")) },
        Observation { followed: runs_in_test.clone(), ..scene(follows(), runs("1.1")) },
        Observation { followed: runs_in_test, promotion_ring: true, ..scene(follows(), runs("1.1")) },
    ]
}

/// The environment is to be changed, or is being changed.
fn rollouts(object: &ChatbotDeployment) -> Vec<Observation> {
    let status = |status: Value| with(object, &json!({}), &status);
    let ran = json!({"history": [{"versionId": "v1", "startTime": ago(100)}]});
    let promoted = with(object, &json!({"promoteAfter": {"deploymentRef": {"name": "test"}}}), &json!({}));
    let for_long = json!({"versionId": "v1", "cause": "Spec", "startTime": ago(1000)});
    let later = json!({"target": for_long, "retry": {"failures": 1, "nextAttemptTime": ago(-10)}});
    let called = |call, seconds, result| status(operation_of(call, Some(seconds), Some(result)));
    let with_intent = |call| status(operation_of(call, None, None));
    let mut abandoned = with_intent("Deploy");
    abandoned.status.as_mut().unwrap().current_operation.as_mut().unwrap().start_time = ago(100);
    vec![
        scene(object.clone(), runs("1.2")),
        scene(status(ran), runs("1.2")),
        scene(status(later), runs("1.2")),
        scene(promoted.clone(), runs("1.2")),
        Observation { promotion_source: Some(Arc::new(newborn())), ..scene(promoted.clone(), runs("1.2")) },
        scene(with(&promoted, &json!({}), &json!({"target": for_long})), runs("1.2")),
        Observation { may_call: true, ..scene(with_intent("Deploy"), runs("1.2")) },
        Observation { may_call: true, ..scene(with_intent("Rollback"), runs("1.2")) },
        scene(abandoned, runs("1.2")),
        scene(called("Deploy", 5, "Accepted"), runs("1.2")),
        scene(called("Deploy", 5, "Unknown"), runs("1.2")),
        scene(called("Rollback", 5, "Accepted"), runs("1.2")),
        scene(called("Rollback", 5, "Refused"), runs("1.2")),
        scene(called("Rollback", 100, "Accepted"), runs("1.2")),
        scene(called("Deploy", 1000, "Accepted"), runs("1.2")),
        scene(called("Deploy", 1000, "Accepted"), shown(vec![version("v1", "a", "")], None)),
    ]
}

/// The environment runs something, and nothing is in flight.
fn settled(object: &ChatbotDeployment) -> Vec<Observation> {
    let reached = json!({"target": {"versionId": "v1", "cause": "Spec", "reachedTime": ago(100)}});
    let mut limit_reached = reached.clone();
    limit_reached["driftCorrections"] = json!({"count": 5, "windowStartTime": ago(100)});
    let mut late = reached.clone();
    late["lastOperations"] =
        json!([{"operation": "Deploy", "versionId": "v2", "completionTime": ago(5), "result": "Unknown"}]);
    let failed = json!({
        "failedVersions": {"generation": 1, "versionIds": ["v1"]},
        "history": [{"versionId": "v2", "startTime": ago(100)}],
    });
    let previous = json!({"rollback": {"onFailure": "Previous"}});
    let mut commanded = object.clone();
    let annotations = commanded.metadata.annotations.get_or_insert_default();
    annotations.insert(annotation::ROLLBACK_TO.to_owned(), "v2".to_owned());
    vec![
        scene(object.clone(), runs("1.1")),
        scene(with(object, &json!({}), &operation_of("Deploy", Some(5), Some("Accepted"))), runs("1.1")),
        // the key may not read what is live
        scene(
            with(object, &json!({}), &json!({"active": {"versionId": "v1", "startTime": ago(5)}})),
            shown(vec![version("v1", "a", "")], None),
        ),
        scene(object.clone(), runs_a_foreign_version()),
        scene(commanded.clone(), runs("1.2")),
        scene(commanded, runs("1.1")),
        scene(with(object, &previous, &failed), runs("1.2")),
        scene(with(object, &previous, &failed), runs("")),
        scene(with(object, &json!({}), &failed), runs("1.2")),
        scene(with(object, &json!({}), &reached), runs("1.2")),
        scene(with(object, &json!({}), &late), runs("1.2")),
        scene(with(object, &json!({}), &limit_reached), runs("1.2")),
        scene(with(object, &json!({"drift": "Warn"}), &reached), runs("1.2")),
    ]
}

/// Versions wait to be deleted, also while the object itself is being deleted.
fn pending_deletions(object: &ChatbotDeployment) -> Vec<Observation> {
    let pending = json!({"pendingDeletions": [{"versionId": "v2", "name": "b", "requestTime": ago(100)}]});
    let mut sent = pending.clone();
    sent["lastOperations"] =
        json!([{"operation": "Delete", "versionId": "v2", "completionTime": ago(0), "result": "Accepted"}]);
    let with_finalizer = |status: &Value| {
        let mut object = with(object, &json!({}), status);
        object.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
        object
    };
    let being_deleted = |mut object: ChatbotDeployment| {
        object.metadata.deletion_timestamp = Some(ago(0));
        object.metadata.generation = Some(2);
        object
    };
    let mut backing_off = pending.clone();
    backing_off["pendingDeletions"][0]["retry"] = json!({"failures": 1, "nextAttemptTime": ago(-10)});
    let new = vec![VersionBeingDeleted { version_id: "v1".to_owned(), name: "a".to_owned() }];
    let handing_over = vec![VersionBeingDeleted { version_id: "v2".to_owned(), name: "b".to_owned() }];
    let mut foreign = being_deleted(object.clone());
    foreign.metadata.finalizers = Some(vec!["example.com/other".to_owned()]);
    let mut scenes = vec![
        Observation { versions_being_deleted: new, ..scene(object.clone(), runs("1.1")) },
        scene(with_finalizer(&json!({})), runs("1.1")),
        scene(with_finalizer(&pending), runs("1.1")),
        scene(with_finalizer(&pending), runs("1.2")),
        scene(with_finalizer(&backing_off), runs("1.1")),
        scene(foreign, runs("1.1")),
        scene(being_deleted(with_finalizer(&json!({}))), runs("1.1")),
        scene(being_deleted(with_finalizer(&pending)), runs("1.1")),
        scene(being_deleted(with_finalizer(&backing_off)), runs("1.1")),
        scene(being_deleted(with_finalizer(&sent)), runs("1.1")),
        Observation {
            versions_being_deleted: handing_over,
            ..scene(being_deleted(with_finalizer(&pending)), runs("1.1"))
        },
    ];
    scenes.extend(
        unavailable().into_iter().map(|service| scene(being_deleted(with_finalizer(&pending)), service)),
    );
    scenes
}
