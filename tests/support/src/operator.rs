//! The operator as a process.

use std::{
    env,
    fs::{self, File},
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Mutex,
    time::Duration,
};

use crate::{TIMEOUT, poll};

/// Another binary that is used instead of the one that cargo has built.
static OTHER_BINARY: Mutex<Option<PathBuf>> = Mutex::new(None);

/// From now on this binary is started, or (`None`) the one that cargo has built: to compare two in one run.
pub fn use_operator_binary(path: Option<PathBuf>) {
    *OTHER_BINARY.lock().unwrap() = path;
}

/// The file of the binary that cargo has built for this test or bench.
pub fn operator_binary() -> PathBuf {
    if let Some(other) = OTHER_BINARY.lock().unwrap().clone() {
        return other;
    }
    let path = env::var_os("CARGO_BIN_EXE_chatcaptain-operator");
    path.expect("cargo sets it for the tests and benches that it runs").into()
}

/// The binary, without anything of our environment.
pub fn operator_command() -> Command {
    let mut command = Command::new(operator_binary());
    command.env_clear();
    command
}

/// A running operator. It ends when this is dropped, and also when the test process ends in any other way.
pub struct Operator {
    child: Child,
    /// Kills the child once its standard input ends, which only this process holds open.
    watchdog: Child,
    log: PathBuf,
}

impl Operator {
    /// Starts `run` with these arguments and environment; what it writes goes to `log`.
    pub fn start(args: &[String], env: &[(&str, &str)], log: &Path) -> Self {
        let file = File::create(log).unwrap();
        let child = operator_command()
            .arg("run")
            .args(args)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let watchdog = Command::new("/bin/sh")
            .args(["-c", "read -r end; kill -s KILL $0"])
            .arg(child.id().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C goes to the whole group of the terminal, and must not reach it
            .process_group(0)
            .spawn()
            .unwrap();
        Self { child, watchdog, log: log.to_owned() }
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        // an error says that it has ended already; its pid stays ours until `wait`
        let _ = self.child.kill();
        self.dismiss_watchdog();
        let _ = self.child.wait();
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id();
        let sent = Command::new("/bin/sh").args(["-c", &format!("kill -s {name} {pid}")]).status();
        assert!(sent.unwrap().success(), "kill -s {name} {pid}");
    }

    /// Waits until it exits; its status, if it did so within the limit.
    pub fn wait_for_exit(&mut self, limit: Duration) -> Option<ExitStatus> {
        let status = poll(limit, || self.child.try_wait().unwrap());
        if status.is_some() {
            self.dismiss_watchdog();
        }
        status
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its log.
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The status and body of an HTTP path that it serves.
    pub fn http_get(&self, path: &str) -> (u16, String) {
        self.http("GET", path, "")
    }

    /// The same with any method and a body.
    pub fn http(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let address =
            poll(TIMEOUT, || self.address()).unwrap_or_else(|| panic!("it does not serve:\n{}", self.log()));
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let length = body.len();
        let headers = format!("Host: operator\r\nConnection: close\r\nContent-Length: {length}");
        write!(stream, "{method} {path} HTTP/1.1\r\n{headers}\r\n\r\n{body}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    /// The value of a metric, summed over its series whose labels contain all of `labels`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let (status, text) = self.http_get("/metrics");
        assert_eq!(status, 200, "{text}");
        let ours = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        ours.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    fn address(&self) -> Option<SocketAddr> {
        let log = self.log();
        // in either format of the log
        let (_, rest) = log.split_once("address=").or_else(|| log.split_once(r#""address":""#))?;
        rest.split([' ', '"', '\n']).next()?.parse().ok()
    }

    fn dismiss_watchdog(&mut self) {
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.kill();
    }
}
