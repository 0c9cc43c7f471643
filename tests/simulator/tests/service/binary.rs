//! The program: its one line, its arguments, its end.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};

use crate::client::request;

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_simulator"));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn started(arguments: &[&str]) -> (Child, String) {
    let mut child = program(arguments).spawn().unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.as_mut().unwrap());
    output.read_line(&mut line).unwrap();
    let url = line.trim_end().strip_prefix("listening on http://127.0.0.1:");
    (child, format!("127.0.0.1:{}", url.expect("the one line")))
}

fn ended(mut child: Child, signal: &str) -> Option<i32> {
    let id = child.id().to_string();
    assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    child.wait().unwrap().code()
}

fn settings(address: &str) -> String {
    let address = address.parse().unwrap();
    let bytes = request(address, "", "GET", "/_simulator/settings", "").unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn it_listens_and_ends_well_on_both_signals() {
    for signal in ["-TERM", "-INT"] {
        let (child, address) = started(&[]);
        assert!(settings(&address).contains("\"createStatus\":200"));
        assert_eq!(ended(child, signal), Some(0));
    }
}

#[test]
fn it_takes_settings_from_a_file_and_from_its_arguments() {
    let path = std::env::temp_dir().join(format!("simulator-{}.json", std::process::id()));
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(br#"{"createStatus": 201, "rolloutMs": 7}"#).unwrap();
    let name = path.to_str().unwrap();
    let arguments = ["--settings-file", name, "--settings", r#"{"rolloutMs": 8}"#];
    let (child, address) = started(&arguments);
    let shown = settings(&address);
    assert!(shown.contains("\"createStatus\":201") && shown.contains("\"rolloutMs\":8"));
    assert_eq!(ended(child, "-TERM"), Some(0));
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn wrong_arguments_end_with_2_and_one_line() {
    let wrong: [(&[&str], &str); 7] = [
        (&["--bogus"], "--bogus"),
        (&["--listen"], "--listen"),
        (&["--listen", "here"], "--listen"),
        (&["--listen", "0.0.0.0:0"], "loopback"),
        (&["--settings", "{"], "--settings"),
        (&["--settings", r#"{"colour": 1}"#], "colour"),
        (&["--settings-file", "/nowhere/at/all"], "/nowhere/at/all"),
    ];
    for (arguments, named) in wrong {
        let Output { status, stdout, stderr } = program(arguments).output().unwrap();
        let text = String::from_utf8(stderr).unwrap();
        assert_eq!((status.code(), text.lines().count()), (Some(2), 1), "{text}");
        assert!(text.contains(named) && stdout.is_empty(), "{text}");
    }
}

#[test]
fn help_is_no_error() {
    let output = program(&["--help"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stdout).unwrap().contains("--settings-file"));
}
