//! States against tools: all agree, and `tests/README.md` says so.

use std::collections::{BTreeMap, BTreeSet};

use chatcaptain_operator::crd::Reason;
use serde_json::json;
use support::{
    generated::{hold_section, table},
    judge::{ToolVerdict, verdicts},
};

use crate::{
    deployments,
    states::{ObjectState, Since, word},
    versions,
};

/// The tools in the order of the matrix.
const TOOLS: [&str; 5] = ["kstatus", "Flux", "Helm", "kubectl wait", "Argo CD"];

#[test]
fn every_tool_agrees_on_every_state() {
    let states: Vec<ObjectState> = [versions::states(), deployments::states()].concat();
    let said =
        verdicts(&states.iter().enumerate().map(|(number, state)| alone(number, state)).collect::<Vec<_>>());
    let mut wrong = Vec::new();
    for (state, said) in states.iter().zip(&said) {
        let differs = |tool: &&str| said[*tool].means != state.verdict();
        if TOOLS.iter().any(differs) {
            wrong.push(format!("{} ({}) is {}: {said:?}", state.shape(), state.story, state.verdict()));
        }
    }
    assert!(wrong.is_empty(), "{} of {} states:\n{}", wrong.len(), states.len(), wrong.join("\n"));
    assert_every_reason(&states);
    let matrix = matrix(&states, &said);
    println!("{} states, every tool the same:\n{matrix}", states.len());
    hold_section("tests/README.md", "conformance", &matrix);
}

/// The object in a namespace of its own, so that no tool sees another.
fn alone(number: usize, state: &ObjectState) -> serde_json::Value {
    let mut object = state.object.clone();
    object["metadata"]["namespace"] = json!(format!("state-{number}"));
    object["metadata"]["resourceVersion"] = json!("1");
    object
}

/// Each reason that `Ready` can give is among the states: those of `Drifted` alone are not.
fn assert_every_reason(states: &[ObjectState]) {
    let of_drifted = [Reason::InSync, Reason::OutOfSync, Reason::NotObservable];
    let reported: BTreeSet<_> =
        states.iter().filter_map(|state| state.reason().map(Reason::as_str)).collect();
    let missing: Vec<_> =
        Reason::ALL.iter().filter(|r| !of_drifted.contains(r) && !reported.contains(r.as_str())).collect();
    assert!(missing.is_empty(), "no state gives {missing:?}");
}

/// One line for each way in which the matrix speaks of states, with the number of those that it stands for.
fn matrix(states: &[ObjectState], said: &[BTreeMap<String, ToolVerdict>]) -> String {
    let mut lines: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (number, state) in states.iter().enumerate() {
        let (place, label) = label(state);
        lines.entry((state.since(), place, label)).or_default().push(number);
    }
    let rows = lines.iter().map(|((.., label), numbers)| -> [String; 8] {
        let all = |says: &dyn Fn(usize) -> String| {
            let says: BTreeSet<_> = numbers.iter().map(|number| says(*number)).collect();
            says.into_iter().collect::<Vec<_>>().join(", ")
        };
        let mut row = vec![label.clone(), numbers.len().to_string()];
        row.push(all(&|number| states[number].verdict().to_owned()));
        row.extend(TOOLS.map(|tool| all(&|number| said[number][tool].says.clone())));
        row.try_into().unwrap()
    });
    let head = ["Ready says", "states", "verdict", TOOLS[0], TOOLS[1], TOOLS[2], TOOLS[3], TOOLS[4]];
    let table = table(head, rows);
    format!("{} states, {} tools, one verdict:\n\n{table}", states.len(), TOOLS.len())
}

/// How the matrix speaks of a state, and its place among the others.
fn label(state: &ObjectState) -> (usize, String) {
    let place = |reason| 1 + Reason::ALL.iter().position(|other| *other == reason).unwrap();
    match (state.since(), state.reason()) {
        (Since::Nothing, Some(reason)) => (place(reason), format!("`{}`", reason.as_str())),
        (Since::Deleted, Some(reason)) => (0, format!("{}, then deleted", word(reason))),
        (Since::Deleted, None) => (0, "not reconciled yet, then deleted".to_owned()),
        (_, Some(reason)) => (0, format!("{}, then changed in git", word(reason))),
        (_, None) => (0, "not reconciled yet".to_owned()),
    }
}
