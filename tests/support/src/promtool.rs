//! Prometheus' own tool, which is built once: it judges metrics, alerts and queries.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// The program. If it must be built first, a message says so.
fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let files =
            [("go.mod", include_str!("../promtool/go.mod")), ("go.sum", include_str!("../promtool/go.sum"))];
        let package = "github.com/prometheus/prometheus/cmd/promtool";
        // without the clients of every cloud
        let tags = "remove_all_sd";
        control_plane::go_tool("promtool", package, tags, &files, "3 min on two idle cores")
            .unwrap_or_else(|error| panic!("no promtool: {error}"))
    })
}

/// Runs it in a directory, with this input; whether it is content, and what it says.
pub fn promtool(directory: &Path, args: &[&str], stdin: &str) -> (bool, String) {
    let mut child = Command::new(program())
        .args(args)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // it reads all before it writes anything
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.success(), said.concat())
}
