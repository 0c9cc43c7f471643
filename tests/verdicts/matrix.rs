//! States against tools: all agree, and the README says so.

use std::collections::{BTreeMap, BTreeSet};

use chatcaptain_operator::crd::{Reason, Verdict};
use serde_json::json;

use crate::{
    deployments,
    generated::{hold_section, table},
    judge::{Said, verdicts},
    states::{Since, State},
    versions,
};

/// The tools in the order of the matrix.
const TOOLS: [&str; 5] = ["kstatus", "Flux", "Helm", "kubectl wait", "Argo CD"];

#[test]
fn every_tool_takes_every_state_for_the_same() {
    let states: Vec<State> = [versions::states(), deployments::states()].concat();
    let said = verdicts(&states.iter().enumerate().map(|(number, state)| alone(number, state)).collect::<Vec<_>>());
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
    hold_section("verdicts", &matrix);
}

/// The object in a namespace of its own, so that no tool sees another.
fn alone(number: usize, state: &State) -> serde_json::Value {
    let mut object = state.object.clone();
    object["metadata"]["namespace"] = json!(format!("state-{number}"));
    object["metadata"]["resourceVersion"] = json!("1");
    object
}

/// Each reason that `Ready` can give is among the states: those of `Drifted` alone are not.
fn assert_every_reason(states: &[State]) {
    let of_drifted = [Reason::InSync, Reason::OutOfSync, Reason::NotObservable];
    let told: BTreeSet<_> = states.iter().filter_map(|state| state.reason().map(Reason::as_str)).collect();
    let missing: Vec<_> =
        Reason::ALL.iter().filter(|r| !of_drifted.contains(r) && !told.contains(r.as_str())).collect();
    assert!(missing.is_empty(), "no state gives {missing:?}");
}

/// One line for each way in which a state is described, with the number of states that it stands for.
fn matrix(states: &[State], said: &[BTreeMap<String, Said>]) -> String {
    let mut lines: BTreeMap<(Since, usize, String), (usize, BTreeMap<&str, BTreeSet<&str>>)> = BTreeMap::new();
    for (state, said) in states.iter().zip(said) {
        let (order, label) = label(state);
        let (count, words) = lines.entry((state.since, order, label)).or_default();
        *count += 1;
        for tool in TOOLS {
            words.entry(tool).or_default().insert(&said[tool].says);
        }
        words.entry("means").or_default().insert(state.verdict());
    }
    let rows = lines.iter().map(|((.., label), (count, words))| {
        let cell = |name: &str| words[name].iter().copied().collect::<Vec<_>>().join(", ");
        let [a, b, c, d, e] = TOOLS.map(cell);
        [label.clone(), count.to_string(), cell("means"), a, b, c, d, e]
    });
    let head = ["object", "states", "verdict", TOOLS[0], TOOLS[1], TOOLS[2], TOOLS[3], TOOLS[4]];
    format!("{} states, five tools, one verdict.\n\n{}", states.len(), table(head, rows))
}

/// How the README speaks of a state, and its place among the others.
fn label(state: &State) -> (usize, String) {
    let Some(reason) = state.reason() else {
        return (0, "not looked at yet".to_owned());
    };
    let place = 1 + Reason::ALL.iter().position(|other| *other == reason).unwrap();
    let was = |what: &str| {
        let before = match reason.verdict() {
            Verdict::Ready => "done",
            Verdict::Reconciling | Verdict::Waiting => "going on",
            Verdict::Stalled => "failed",
        };
        format!("{before}, then {what}")
    };
    match state.since {
        Since::Nothing => (place, format!("`{}`", reason.as_str())),
        Since::Changed => (0, was("changed in git")),
        Since::Deleted => (0, was("deleted")),
    }
}
