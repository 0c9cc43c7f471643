//! How other tools interpret an object: the Go program in `judge/`, which is built once, calls the tools' own code. It
//! must not interpret anything itself.

use std::{
    collections::BTreeMap,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
    sync::OnceLock,
};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::generated::read;

/// How one tool interprets an object.
#[derive(Deserialize, Clone, Debug)]
pub struct ToolVerdict {
    /// In the tool's own words.
    pub says: String,
    /// `done`, `going on` or `failed`.
    pub means: String,
}

/// The program. If it must be built first, a message says so.
fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let files = [
            ("go.mod", include_str!("../judge/go.mod")),
            ("go.sum", include_str!("../judge/go.sum")),
            ("main.go", include_str!("../judge/main.go")),
            ("cluster.go", include_str!("../judge/cluster.go")),
            ("verdicts.go", include_str!("../judge/verdicts.go")),
            ("argocd.go", include_str!("../judge/argocd.go")),
        ];
        let takes = "5 min on two idle cores";
        control_plane::go_program("judge", &files, takes).unwrap_or_else(|error| panic!("no judge: {error}"))
    })
}

/// Builds the program if need be, so that no limit runs meanwhile.
pub fn build() {
    program();
}

/// Asks one question about objects.
fn ask<T: DeserializeOwned>(question: &str, objects: &[Value], more: &Value) -> T {
    let config: Value = serde_saphyr::from_str(&read("deploy/argocd/argocd-cm.yaml")).unwrap();
    let mut request = json!({"argocd": config, "objects": objects});
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut child = Command::new(program())
        .arg(question)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // it reads all before it writes anything
    child.stdin.take().unwrap().write_all(request.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{question}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// How every tool interprets each object, by the tool's name.
pub fn verdicts(objects: &[Value]) -> Vec<BTreeMap<String, ToolVerdict>> {
    ask("verdicts", objects, &json!({"seconds": 5}))
}

/// Argo CD's health of each object.
pub fn health(objects: &[Value]) -> Vec<ToolVerdict> {
    ask("health", objects, &json!({}))
}

/// The actions that Argo CD shows for an object, and whether they can be chosen.
pub fn actions(object: &Value) -> BTreeMap<String, bool> {
    let mut offered: Vec<_> = ask("actions", std::slice::from_ref(object), &json!({}));
    offered.remove(0)
}

/// The object after an action of Argo CD, or why it refuses.
pub fn act(object: &Value, action: &str, parameters: &Value) -> Value {
    let more = json!({"action": action, "parameters": parameters});
    let mut changed: Vec<_> = ask("act", std::slice::from_ref(object), &more);
    changed.remove(0)
}

/// Whether Argo CD reports a difference between the cluster and git.
pub fn is_out_of_sync(live: &Value, git: &Value) -> bool {
    let differs: Vec<bool> = ask("diff", std::slice::from_ref(live), &json!({"git": [git]}));
    differs[0]
}
