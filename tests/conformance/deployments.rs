//! Every state of a `ChatbotDeployment`: a scene for each step and rest of the plan, and what is told of it.

use std::{collections::HashSet, sync::Arc};

use chatcaptain_operator::{
    chatcaptain::Call as ServiceCall,
    crd::{ChatbotDeployment, ChatbotVersion, FINALIZER, annotation},
    plan::{
        Blocked, Look,
        deployment::{
            Call, Drift, Facts, Gate, Leaving, Operation, Outcome, Rest, Retiring, Seen, Step, Target,
            Unresolved, next, tell,
        },
    },
};
use serde_json::{Value, json};

use crate::states::{
    Coverage, NOW, State, ago, and_since, at, befores, blocked, failures, rules, shown, variants, version,
};

variants!(Step: Guard Unguard Intend Call Fail Retire Rest);
variants!(Rest: Ready Suspended Held Invalid Conflict Blocked Unresolved Gated Shut Progressing Failed RolledBack Tolerated
    Fought Deleting Gone);
variants!(Unresolved: Waiting Mismatch NotFound Ambiguous Command);
variants!(Target: Known Failed Unresolved);
variants!(Operation: None Fresh Unsure Called Vain Overdue);
variants!(Gate: Open Closed Shut);
variants!(Drift: None Late Enforce Exhausted Warn);
variants!(Retiring: None Arriving Live Due Sent);

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
    seen.assert_all::<Unresolved>();
    seen.assert_all::<Target>();
    seen.assert_all::<Operation>();
    seen.assert_all::<Gate>();
    seen.assert_all::<Drift>();
    seen.assert_all::<Retiring>();
    seen.assert_all::<Blocked>();
    and_since(told)
}

fn note(seen: &mut Coverage, what: &Seen, step: Step) {
    seen.note(&what.target);
    seen.note(&what.operation);
    seen.note(&what.gate);
    seen.note(&what.drift);
    seen.note(&what.retiring);
    seen.note(&step);
    if let Step::Rest(rest) = step {
        seen.note(&rest);
        match rest {
            Rest::Blocked(why) => seen.note(&why),
            Rest::Unresolved(why) => seen.note(&why),
            _ => {}
        }
    }
}

/// What is told of a scene, however its call ends; and then, if the object is suspended or cannot be read any more.
fn tellings(facts: &Facts, step: Step) -> Vec<State> {
    let mut told = Vec::new();
    for outcome in outcomes(step) {
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

fn outcomes(step: Step) -> Vec<Outcome> {
    match step {
        Step::Call(call) => {
            let of = if call == Call::Deploy { ServiceCall::Deploy } else { ServiceCall::Rollback };
            let failed = failures(of).into_iter().map(|failure| Outcome::Called(Err(failure)));
            failed.chain([Outcome::Called(Ok(()))]).collect()
        }
        Step::Retire => {
            let gone = |result| Outcome::Retired("v2".to_owned(), result);
            failures(ServiceCall::Delete).into_iter().map(Err).chain([Ok(())]).map(gone).collect()
        }
        _ => vec![Outcome::Nothing],
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
fn scene(object: ChatbotDeployment, look: Look) -> Facts {
    Facts {
        object: Arc::new(object),
        look,
        permit: false,
        older_claim: None,
        reference: Some(named(&json!({}))),
        commanded: None,
        gate: None,
        leaving: vec![],
        reclaimed: HashSet::new(),
        busy_elsewhere: HashSet::new(),
        elsewhere_since: Some(jiff::Timestamp::MAX),
        rules: rules(),
        now: at(NOW),
        jitter: 0.0,
    }
}

/// Prod runs the version of this number.
fn runs(number: &str) -> Look {
    let versions = vec![version("v1", "a", ""), version("v2", "b", "")];
    shown(versions, Some([None, Some(number).filter(|number| !number.is_empty())]))
}

fn operation_of(operation: &str, called: Option<i64>, result: Option<&str>) -> Value {
    json!({"operation": {
        "operation": operation, "versionId": "v1", "startedAt": ago(called.unwrap_or(0)),
        "calledAt": called.map(ago), "result": result,
    }})
}

/// Every scene of life and of deletion.
fn scenes(object: &ChatbotDeployment) -> Vec<Facts> {
    let mut scenes = unable(object);
    scenes.extend(unresolved(object));
    scenes.extend(rollouts(object));
    scenes.extend(settled(object));
    scenes.extend(retirements(object));
    scenes
}

/// Nothing can be done.
fn unable(object: &ChatbotDeployment) -> Vec<Facts> {
    let mut scenes = vec![
        scene(with(object, &json!({"versionRef": null}), &json!({})), runs("1.1")),
        scene(with(object, &json!({"suspend": true}), &json!({})), Look::NotAsked),
        Facts { older_claim: Some("ns/older".to_owned()), ..scene(object.clone(), Look::NotAsked) },
    ];
    scenes.extend(blocked().into_iter().map(|look| scene(object.clone(), look)));
    scenes
}

/// The wanted version is not known.
fn unresolved(object: &ChatbotDeployment) -> Vec<Facts> {
    let wants = |spec: Value| with(object, &spec, &json!({}));
    let mut commanded = object.clone();
    let annotations = commanded.metadata.annotations.get_or_insert_default();
    annotations.insert(annotation::ROLLBACK_TO.to_owned(), "nothing".to_owned());
    let mut twins = vec![version("v1", "a", ""), version("v2", "b", "")];
    twins[1].number = Some("1.1".into());
    let other = json!({"spec": {"chatbotId": "other"}});
    vec![
        Facts { reference: None, ..scene(object.clone(), runs("")) },
        Facts { reference: Some(named(&json!({"status": {}}))), ..scene(object.clone(), runs("")) },
        Facts { reference: Some(named(&other)), ..scene(object.clone(), runs("")) },
        scene(wants(json!({"versionRef": null, "versionId": "v9"})), runs("")),
        scene(wants(json!({"versionRef": null, "versionNumber": "1.1"})), shown(twins, Some([None, None]))),
        scene(commanded, runs("1.1")),
    ]
}

/// The environment is to be changed, or is being changed.
fn rollouts(object: &ChatbotDeployment) -> Vec<Facts> {
    let status = |status: Value| with(object, &json!({}), &status);
    let ran = json!({"history": [{"versionId": "v1", "since": ago(100)}]});
    let gated = with(object, &json!({"promoteAfter": {"deploymentRef": {"name": "test"}}}), &json!({}));
    let for_long = json!({"versionId": "v1", "cause": "Git", "since": ago(1000)});
    let later = json!({"retry": {"failures": 1, "notBefore": ago(-10)}});
    let called = |call, seconds, result| status(operation_of(call, Some(seconds), Some(result)));
    let intended = |call| status(operation_of(call, None, None));
    let mut unsure = intended("Deploy");
    unsure.status.as_mut().unwrap().operation.as_mut().unwrap().started_at = ago(100);
    vec![
        scene(object.clone(), runs("1.2")),
        scene(status(ran), runs("1.2")),
        scene(status(later), runs("1.2")),
        scene(gated.clone(), runs("1.2")),
        Facts { gate: Some(Arc::new(newborn())), ..scene(gated.clone(), runs("1.2")) },
        scene(with(&gated, &json!({}), &json!({"target": for_long})), runs("1.2")),
        Facts { permit: true, ..scene(intended("Deploy"), runs("1.2")) },
        Facts { permit: true, ..scene(intended("Rollback"), runs("1.2")) },
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
fn settled(object: &ChatbotDeployment) -> Vec<Facts> {
    let reached = json!({"target": {"versionId": "v1", "cause": "Git", "reachedAt": ago(100)}});
    let mut fought = reached.clone();
    fought["reversals"] = json!({"count": 5, "since": ago(100)});
    let mut late = reached.clone();
    late["lastOperations"] =
        json!([{"operation": "Deploy", "versionId": "v2", "at": ago(5), "result": "Unknown"}]);
    let failed = json!({
        "failed": {"generation": 1, "versionIds": ["v1"]},
        "history": [{"versionId": "v2", "since": ago(100)}],
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
            with(object, &json!({}), &json!({"active": {"versionId": "v1", "since": ago(5)}})),
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
fn retirements(object: &ChatbotDeployment) -> Vec<Facts> {
    let noted = json!({"retiring": [{"versionId": "v2", "name": "b", "since": ago(100)}]});
    let mut sent = noted.clone();
    sent["lastOperations"] =
        json!([{"operation": "Delete", "versionId": "v2", "at": ago(0), "result": "Accepted"}]);
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
    let held = json!({"retry": {"failures": 1, "notBefore": ago(-10)}, "retiring": noted["retiring"]});
    let arriving = vec![Leaving { version_id: "v1".to_owned(), name: "a".to_owned() }];
    let mut foreign = leaving(object.clone());
    foreign.metadata.finalizers = Some(vec!["example.com/other".to_owned()]);
    let mut scenes = vec![
        Facts { leaving: arriving, ..scene(object.clone(), runs("1.1")) },
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
