//! Every state of a `ChatbotDeployment`: a scene for each step and rest of the plan, and what is told of it.

use std::{collections::HashSet, sync::Arc};

use chatcaptain_operator::{
    chatcaptain::ApiCall as ServiceCall,
    crd::{ChatbotDeployment, ChatbotVersion, FINALIZER, annotation},
    plan::{
        ServiceView, UnavailableReason,
        deployment::{
            Drift, Observation, Outcome, PendingDeletionState, Promotion, Rollout, RolloutMethod, State,
            Step, TargetState, Unresolved, VersionBeingDeleted, Wait, next_step, report,
        },
    },
};
use serde_json::{Value, json};

use crate::states::{
    Coverage, NOW, ObjectState, ago, and_since, at, befores, blocked, failures, rules, shown, variants,
    version,
};

variants!(Step: AddFinalizer RemoveFinalizer RecordIntent StartRollout FailRollout DeleteVersion Wait);
variants!(Wait: Available Suspended BackingOff InvalidSpec Conflict Unavailable Unresolved WaitingForPromotion PromotionBlocked Progressing ProgressDeadlineExceeded RolledBack DriftTolerated
    DriftCorrectionPaused Deleting WaitingForOtherFinalizers);
variants!(Unresolved: WaitingForVersion ReferenceMismatch VersionNotFound AmbiguousVersion RollbackTargetNotFound);
variants!(TargetState: Resolved Failed Unresolved);
variants!(Rollout: None IntentRecorded OutcomeUnknown InProgress RollbackIneffective DeadlineExceeded);
variants!(Promotion: Allowed Waiting Blocked);
variants!(Drift: None LateEffect Enforce LimitReached Warn);
variants!(PendingDeletionState: None New InUse Ready InFlight);

/// Every state, and proof that there is a scene for each value of the plan's enums.
pub fn states() -> Vec<ObjectState> {
    let mut told = Vec::new();
    let mut seen = Coverage::default();
    for before in befores(&newborn().metadata) {
        let mut object = newborn();
        object.status.as_mut().unwrap().common = before;
        told.push(ObjectState::new("as it is".to_owned(), &object));
        for facts in scenes(&object) {
            let step = next_step(&facts.state());
            note(&mut seen, &facts.state(), step);
            told.extend(tellings(&facts, step));
        }
    }
    seen.assert_all::<Step>();
    seen.assert_all::<Wait>();
    seen.assert_all::<Unresolved>();
    seen.assert_all::<TargetState>();
    seen.assert_all::<Rollout>();
    seen.assert_all::<Promotion>();
    seen.assert_all::<Drift>();
    seen.assert_all::<PendingDeletionState>();
    seen.assert_all::<UnavailableReason>();
    and_since(told)
}

fn note(seen: &mut Coverage, what: &State, step: Step) {
    seen.note(&what.target);
    seen.note(&what.rollout);
    seen.note(&what.promotion);
    seen.note(&what.drift);
    seen.note(&what.pending_deletion);
    seen.note(&step);
    if let Step::Wait(rest) = step {
        seen.note(&rest);
        match rest {
            Wait::Unavailable(why) => seen.note(&why),
            Wait::Unresolved(why) => seen.note(&why),
            _ => {}
        }
    }
}

/// What is told of a scene, however its call ends; and then, if the object is suspended or cannot be read any more.
fn tellings(facts: &Observation, step: Step) -> Vec<ObjectState> {
    let mut told = Vec::new();
    for outcome in outcomes(step) {
        let mut object = (*facts.object).clone();
        object.status = Some(report(facts, &facts.state(), step, &outcome).status);
        told.push(ObjectState::new(format!("{step:?}"), &object));
        told.extend(told.last().map(ObjectState::unreadable));
        if object.metadata.deletion_timestamp.is_none() {
            object.spec.suspend = Some(true);
            object.metadata.generation = object.metadata.generation.map(|generation| generation + 1);
            let suspended = Observation {
                object: Arc::new(object.clone()),
                service: ServiceView::NotQueried,
                ..facts.clone()
            };
            let step = next_step(&suspended.state());
            object.status = Some(report(&suspended, &suspended.state(), step, &Outcome::NoCall).status);
            told.push(ObjectState::new(format!("{step:?}, then suspended"), &object));
        }
    }
    told
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

/// A pass over this object when the service shows this.
fn scene(object: ChatbotDeployment, look: ServiceView) -> Observation {
    Observation {
        object: Arc::new(object),
        service: look,
        may_call: false,
        older_claim: None,
        referenced_version: Some(named(&json!({}))),
        rollback_version: None,
        promotion_source: None,
        versions_being_deleted: vec![],
        reclaimed: HashSet::new(),
        in_use_elsewhere: HashSet::new(),
        elsewhere_stable_since: Some(jiff::Timestamp::MAX),
        config: rules(),
        now: at(NOW),
        jitter: 0.0,
    }
}

/// Prod runs the version of this number.
fn runs(number: &str) -> ServiceView {
    let versions = vec![version("v1", "a", ""), version("v2", "b", "")];
    shown(versions, Some([None, Some(number).filter(|number| !number.is_empty())]))
}

fn operation_of(operation: &str, called: Option<i64>, result: Option<&str>) -> Value {
    json!({"currentOperation": {
        "operation": operation, "versionId": "v1", "startTime": ago(called.unwrap_or(0)),
        "callTime": called.map(ago), "result": result,
    }})
}

/// Every scene of life and of deletion.
fn scenes(object: &ChatbotDeployment) -> Vec<Observation> {
    let mut scenes = unable(object);
    scenes.extend(unresolved(object));
    scenes.extend(rollouts(object));
    scenes.extend(settled(object));
    scenes.extend(retirements(object));
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
    scenes.extend(blocked().into_iter().map(|look| scene(object.clone(), look)));
    scenes
}

/// The wanted version is not known.
fn unresolved(object: &ChatbotDeployment) -> Vec<Observation> {
    let wants = |spec: Value| with(object, &spec, &json!({}));
    let mut commanded = object.clone();
    let annotations = commanded.metadata.annotations.get_or_insert_default();
    annotations.insert(annotation::ROLLBACK_TO.to_owned(), "nothing".to_owned());
    let mut twins = vec![version("v1", "a", ""), version("v2", "b", "")];
    twins[1].number = Some("1.1".into());
    let other = json!({"spec": {"chatbotId": "other"}});
    vec![
        Observation { referenced_version: None, ..scene(object.clone(), runs("")) },
        Observation {
            referenced_version: Some(named(&json!({"status": {}}))),
            ..scene(object.clone(), runs(""))
        },
        Observation { referenced_version: Some(named(&other)), ..scene(object.clone(), runs("")) },
        scene(wants(json!({"versionRef": null, "versionId": "v9"})), runs("")),
        scene(wants(json!({"versionRef": null, "versionNumber": "1.1"})), shown(twins, Some([None, None]))),
        scene(commanded, runs("1.1")),
    ]
}

/// The environment is to be changed, or is being changed.
fn rollouts(object: &ChatbotDeployment) -> Vec<Observation> {
    let status = |status: Value| with(object, &json!({}), &status);
    let ran = json!({"history": [{"versionId": "v1", "startTime": ago(100)}]});
    let gated = with(object, &json!({"promoteAfter": {"deploymentRef": {"name": "test"}}}), &json!({}));
    let for_long = json!({"versionId": "v1", "cause": "Spec", "startTime": ago(1000)});
    let later = json!({"retry": {"failures": 1, "nextAttemptTime": ago(-10)}});
    let called = |call, seconds, result| status(operation_of(call, Some(seconds), Some(result)));
    let intended = |call| status(operation_of(call, None, None));
    let mut unsure = intended("Deploy");
    unsure.status.as_mut().unwrap().current_operation.as_mut().unwrap().start_time = ago(100);
    vec![
        scene(object.clone(), runs("1.2")),
        scene(status(ran), runs("1.2")),
        scene(status(later), runs("1.2")),
        scene(gated.clone(), runs("1.2")),
        Observation { promotion_source: Some(Arc::new(newborn())), ..scene(gated.clone(), runs("1.2")) },
        scene(with(&gated, &json!({}), &json!({"target": for_long})), runs("1.2")),
        Observation { may_call: true, ..scene(intended("Deploy"), runs("1.2")) },
        Observation { may_call: true, ..scene(intended("Rollback"), runs("1.2")) },
        scene(unsure, runs("1.2")),
        scene(called("Deploy", 5, "Accepted"), runs("1.2")),
        scene(called("Deploy", 5, "Unknown"), runs("1.2")),
        scene(called("Rollback", 5, "Accepted"), runs("1.2")),
        scene(called("Rollback", 5, "Refused"), runs("1.2")),
        scene(called("Rollback", 100, "Accepted"), runs("1.2")),
        scene(called("Deploy", 1000, "Accepted"), runs("1.2")),
        scene(called("Deploy", 1000, "Accepted"), shown(vec![version("v1", "a", "")], None)),
    ]
}

/// The environment runs something, and is to stay so.
fn settled(object: &ChatbotDeployment) -> Vec<Observation> {
    let reached = json!({"target": {"versionId": "v1", "cause": "Spec", "reachedTime": ago(100)}});
    let mut fought = reached.clone();
    fought["driftCorrections"] = json!({"count": 5, "windowStartTime": ago(100)});
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
        scene(commanded.clone(), runs("1.2")),
        scene(commanded, runs("1.1")),
        scene(with(object, &previous, &failed), runs("1.2")),
        scene(with(object, &previous, &failed), runs("")),
        scene(with(object, &json!({}), &failed), runs("1.2")),
        scene(with(object, &json!({}), &reached), runs("1.2")),
        scene(with(object, &json!({}), &late), runs("1.2")),
        scene(with(object, &json!({}), &fought), runs("1.2")),
        scene(with(object, &json!({"drift": "Warn"}), &reached), runs("1.2")),
    ]
}

/// Versions wait to be deleted, in life and while the object itself is being deleted.
fn retirements(object: &ChatbotDeployment) -> Vec<Observation> {
    let noted = json!({"pendingDeletions": [{"versionId": "v2", "name": "b", "requestTime": ago(100)}]});
    let mut sent = noted.clone();
    sent["lastOperations"] =
        json!([{"operation": "Delete", "versionId": "v2", "completionTime": ago(0), "result": "Accepted"}]);
    let guarded = |status: &Value| {
        let mut object = with(object, &json!({}), status);
        object.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
        object
    };
    let leaving = |mut object: ChatbotDeployment| {
        object.metadata.deletion_timestamp = Some(ago(0));
        object.metadata.generation = Some(2);
        object
    };
    let held = json!({"retry": {"failures": 1, "nextAttemptTime": ago(-10)}, "pendingDeletions": noted["pendingDeletions"]});
    let arriving = vec![VersionBeingDeleted { version_id: "v1".to_owned(), name: "a".to_owned() }];
    let mut foreign = leaving(object.clone());
    foreign.metadata.finalizers = Some(vec!["example.com/other".to_owned()]);
    let mut scenes = vec![
        Observation { versions_being_deleted: arriving, ..scene(object.clone(), runs("1.1")) },
        scene(guarded(&json!({})), runs("1.1")),
        scene(guarded(&noted), runs("1.1")),
        scene(guarded(&noted), runs("1.2")),
        scene(guarded(&held), runs("1.1")),
        scene(foreign, runs("1.1")),
        scene(leaving(guarded(&json!({}))), runs("1.1")),
        scene(leaving(guarded(&noted)), runs("1.1")),
        scene(leaving(guarded(&held)), runs("1.1")),
        scene(leaving(guarded(&sent)), runs("1.1")),
    ];
    scenes.extend(blocked().into_iter().map(|look| scene(leaving(guarded(&noted)), look)));
    scenes
}
