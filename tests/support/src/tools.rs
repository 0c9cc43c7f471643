//! Command line tools that tests run, built from the modules in `tests/tools`.

use std::{path::PathBuf, process::Command, sync::Mutex};

use crate::generated::root;

/// A tool in `target/tools/bin`. Go builds it unless it has done so.
pub fn go_tool(name: &str, package: &str) -> PathBuf {
    // two builds of one tool would write one file
    static BUILDING: Mutex<()> = Mutex::new(());
    let _building = BUILDING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let program = root().join("target/tools/bin").join(name);
    let mut go = Command::new("go");
    go.arg("-C").arg(root().join("tests/tools")).args(["build", "-trimpath", "-o"]).arg(&program);
    let output = go.arg(package).env("CGO_ENABLED", "0").output().expect("Go");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}
