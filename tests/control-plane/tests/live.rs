//! The real thing: a control plane is started, used, broken and ended in every way.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use control_plane::{AuditWrite, ControlPlane, Options, shared};

/// Long enough for a machine that is busy compiling.
const LIMIT: Duration = Duration::from_mins(2);

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not within {LIMIT:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

/// What the command writes, if it succeeds.
fn ok(command: &mut Command) -> String {
    let output = run(command);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// The processes that name this directory, but for those that nobody has reaped yet.
fn processes(dir: &Path) -> Vec<String> {
    let needle = dir.to_str().unwrap();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(needle))
        .collect()
}

/// A directory for the temporary files of one child.
struct Temp(PathBuf);

impl Temp {
    fn new(name: &str) -> Self {
        let name = format!("control-plane-live-{}-{name}", std::process::id());
        let dir = env::temp_dir().join(name);
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    fn is_empty(&self) -> bool {
        fs::read_dir(&self.0).unwrap().next().is_none()
    }

    fn wait_until_nothing_is_left(&self) {
        wait_for("nothing left", || processes(&self.0).is_empty() && self.is_empty());
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn start(audit: bool) -> ControlPlane {
    let options = Options { audit, controller_manager: true, dir: None };
    ControlPlane::start(options).unwrap()
}

fn server(plane: &ControlPlane) -> String {
    let view = ["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"];
    ok(plane.kubectl().args(view))
}

#[test]
fn it_serves_survives_a_restart_and_leaves_nothing() {
    let plane = start(true);
    assert!(ok(plane.kubectl().args(["get", "ns"])).contains("default"));
    ok(plane.kubectl().args(["create", "ns", "kept"]));
    let pids = plane.pids();

    let before = server(&plane);
    plane.stop_apiserver();
    let down = run(plane.kubectl().args(["get", "ns", "--request-timeout=2s"]));
    assert!(!down.status.success());
    plane.start_apiserver().unwrap();
    plane.start_apiserver().unwrap();
    assert_eq!(server(&plane), before);
    ok(plane.kubectl().args(["get", "ns", "kept"]));
    assert_eq!(plane.pids().len(), pids.len());
    assert_ne!(plane.pids(), pids);

    let ours: Vec<AuditWrite> = plane.audit().unwrap();
    assert_eq!(ours, [created_namespace("kept")]);
    let dir = plane.dir().to_owned();
    assert!(processes(&dir).len() > pids.len(), "the watchdog, too");
    plane.shutdown();
    assert_eq!(processes(&dir), [""; 0]);
    assert!(!dir.exists());
}

fn created_namespace(name: &str) -> AuditWrite {
    AuditWrite {
        user: "admin".into(),
        verb: "create".into(),
        resource: "namespaces".into(),
        subresource: String::new(),
        namespace: String::new(),
        name: name.into(),
        code: 201,
    }
}

/// A role binding that lets `robot` make config maps.
fn allow(plane: &ControlPlane, namespace: &str) {
    let account = format!("--serviceaccount={namespace}:robot");
    for what in [
        ["role", "writer", "--verb=create", "--resource=configmaps"],
        ["rolebinding", "writer", "--role=writer", &account],
    ] {
        let mut create = plane.kubectl();
        ok(create.args(["create", "-n", namespace]).args(what));
    }
}

#[test]
fn rbac_binds_service_accounts() {
    let plane = shared();
    ok(plane.kubectl().args(["create", "ns", "rbac"]));
    ok(plane.kubectl().args(["create", "sa", "robot", "-n", "rbac"]));
    let kubeconfig = plane.kubeconfig_for("rbac", "robot").unwrap();
    let create = || {
        // no namespace: the kubeconfig has it
        let arguments = ["create", "configmap", "mine"];
        run(plane.kubectl().env("KUBECONFIG", &kubeconfig).args(arguments))
    };
    assert!(!create().status.success());
    allow(plane, "rbac");
    wait_for("the role", || create().status.success());

    let mut codes: Vec<u16> = plane
        .audit()
        .unwrap()
        .into_iter()
        .filter(|write| write.user == "system:serviceaccount:rbac:robot")
        .map(|write| {
            assert_eq!((&*write.verb, &*write.resource), ("create", "configmaps"));
            write.code
        })
        .collect();
    codes.dedup();
    assert_eq!(codes, [403, 201]);
}

#[test]
fn a_missing_service_account_is_an_error() {
    let missing = shared().kubeconfig_for("default", "nobody").unwrap_err();
    let text = missing.to_string();
    assert!(text.contains("\"nobody\" not found"), "{text}");
}

#[test]
fn deleted_namespaces_go() {
    let plane = shared();
    if plane.binaries().kube_controller_manager.is_none() {
        return;
    }
    ok(plane.kubectl().args(["create", "ns", "short-lived"]));
    // waits until it is gone
    ok(plane.kubectl().args(["delete", "ns", "short-lived", "--timeout=120s"]));
}

/// Not a test of its own: what `a_killed_test_process_leaves_nothing` runs and kills.
#[test]
fn helper_that_waits_to_be_killed() {
    let Some(file) = env::var_os("CONTROL_PLANE_TEST_READY") else {
        return;
    };
    let plane = shared();
    plane.stop_apiserver();
    plane.start_apiserver().unwrap();
    fs::write(file, "").unwrap();
    loop {
        thread::park();
    }
}

#[test]
fn a_killed_test_process_leaves_nothing() {
    let (temp, ready) = (Temp::new("killed"), Temp::new("ready"));
    let file = ready.0.join("ready");
    let mut helper = Command::new(env::current_exe().unwrap())
        .args(["--exact", "helper_that_waits_to_be_killed"])
        .env("CONTROL_PLANE_TEST_READY", &file)
        .env("TMPDIR", &temp.0)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the helper", || file.exists());
    // etcd, kube-apiserver and the watchdog at least
    assert!(processes(&temp.0).len() >= 3);
    helper.kill().unwrap();
    helper.wait().unwrap();
    temp.wait_until_nothing_is_left();
}

fn binary(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_control-plane"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Starts `up` and reads what it prints once it is ready.
fn up(temp: &Temp, arguments: &[&str]) -> (Child, String) {
    let mut child = binary(arguments)
        .env("TMPDIR", &temp.0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while lines.read_line(&mut text).unwrap() > 0 && !text.contains("export PATH=") {}
    (child, text)
}

#[test]
fn killed_while_it_starts_it_leaves_nothing() {
    let temp = Temp::new("starting");
    let mut child = binary(&["up"]).env("TMPDIR", &temp.0).spawn().unwrap();
    // the API server is there, but not ready yet
    wait_for("kube-apiserver", || processes(&temp.0).iter().any(|line| line.contains("--secure-port")));
    child.kill().unwrap();
    child.wait().unwrap();
    temp.wait_until_nothing_is_left();
}

#[test]
fn a_script_evaluates_what_up_prints_and_ends_it() {
    let temp = Temp::new("it's a script");
    let (mut child, exports) = up(&temp, &["up", "--until-stdin-closes"]);
    let script = format!(
        "{exports}
        set -e
        kubectl create serviceaccount robot
        {} kubeconfig --namespace default --service-account robot --out \"$1\"
        KUBECONFIG=$1 kubectl auth whoami",
        env!("CARGO_BIN_EXE_control-plane"),
    );
    let out = temp.0.join("robot.kubeconfig");
    let who = ok(Command::new("sh").args(["-c", &script, "sh"]).arg(&out));
    assert!(who.contains("system:serviceaccount:default:robot"), "{who}");
    fs::remove_file(out).unwrap();

    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(processes(&temp.0), [""; 0]);
    assert!(temp.is_empty());
}

#[test]
fn sigterm_ends_up_but_a_named_directory_stays() {
    let temp = Temp::new("sigterm");
    let dir = temp.0.join("kept");
    let (mut child, _) = up(&temp, &["up", "--dir", dir.to_str().unwrap()]);
    ok(Command::new("sh").args(["-c", "kill -TERM \"$1\"", "sh", &child.id().to_string()]));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(processes(&temp.0), [""; 0]);
    assert!(dir.join("admin.kubeconfig").exists());
}

#[test]
fn bad_arguments_are_refused_in_one_line() {
    for arguments in [&[][..], &["down"], &["up", "--no-such-flag"], &["kubeconfig", "--namespace", "a"]] {
        let output = run(&mut binary(arguments));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.starts_with("control-plane: "), "{stderr}");
    }
}

#[test]
fn help_is_no_error() {
    let mut child = binary(&["--help"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(text.contains("kubeconfig"), "{text}");
}
