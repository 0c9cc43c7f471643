//! Processes that never outlive the one that started them.
//!
//! A watchdog, a shell in a process group of its own, reads a pipe whose write end only this
//! process holds. However this process ends, the pipe closes; the watchdog then kills what is
//! still running and removes the directory.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
};

use crate::error::{Context, Error};

/// Lines of `slot pid` tell what runs, an empty pid what has ended. The lowest slot dies first.
/// A process that is being killed may still write a file, hence the tries.
const WATCHDOG: &str = r#"
trap '' HUP INT QUIT TERM
a= b= c=
while read -r slot pid; do
    case $slot in
        0) a=$pid ;;
        1) b=$pid ;;
        2) c=$pid ;;
    esac
done
for pid in $a $b $c; do
    kill -s KILL -- "-$pid"
done
tries=50
while [ -n "$1" ] && [ -e "$1" ] && [ "$tries" -gt 0 ]; do
    rm -rf -- "$1" || sleep 0.1
    tries=$((tries - 1))
done
"#;

/// The program starts only once the watchdog knows its pid: when this process dies before that,
/// `read` meets the end of its input and nothing is started.
const GATE: &str = r#"read -r go && exec "$@" </dev/null"#;

/// How many processes one guard can hold.
const SLOTS: usize = 3;

/// Up to three running processes, by slot, and the watchdog that ends them.
pub(crate) struct Guard {
    watchdog: Child,
    pipe: Option<ChildStdin>,
    children: [Option<Child>; SLOTS],
    remove: Option<PathBuf>,
}

impl Guard {
    /// Starts the watchdog; `remove` is the directory that goes at the end.
    pub(crate) fn new(remove: Option<PathBuf>) -> Result<Self, Error> {
        // the watchdog works in another directory
        let absolute = remove.map(std::path::absolute).transpose();
        let remove = absolute.context("no path for a temporary directory")?;
        let mut watchdog = Command::new("/bin/sh")
            .args(["-c", WATCHDOG, "sh"])
            .arg(remove.as_deref().unwrap_or(Path::new("")))
            // neither a directory nor a terminal or pipe of ours is held open
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C goes to the whole group of the terminal, and must not reach it
            .process_group(0)
            .spawn()
            .context("cannot start the watchdog /bin/sh")?;
        Ok(Self { pipe: watchdog.stdin.take(), watchdog, children: [const { None }; SLOTS], remove })
    }

    /// Starts the program of `command`, with its arguments, environment and directory, in `slot`.
    pub(crate) fn spawn(&mut self, slot: usize, command: &Command, log: &Path) -> Result<(), Error> {
        self.kill(slot);
        let file = File::create(log).context(format_args!("cannot write {}", log.display()))?;
        let copy = file.try_clone().context("cannot share a log file")?;
        let mut child = gated(command).stdout(copy).stderr(file).spawn().context("cannot start /bin/sh")?;
        let gate = child.stdin.take();
        let known = self.tell(format_args!("{slot} {}\n", child.id()));
        self.children[slot] = Some(child);
        known.context("the watchdog has ended")?;
        gate.map_or(Ok(()), |mut gate| gate.write_all(b"\n"))
            .context(format_args!("cannot start {}", command.get_program().display()))
    }

    fn tell(&mut self, line: std::fmt::Arguments<'_>) -> std::io::Result<()> {
        // one write: half a line must never be the last thing that the watchdog reads
        let line = line.to_string();
        self.pipe.as_mut().map_or(Ok(()), |pipe| pipe.write_all(line.as_bytes()))
    }

    /// Ends the process of `slot` with SIGKILL; nothing happens when there is none.
    pub(crate) fn kill(&mut self, slot: usize) {
        let Some(mut child) = self.children[slot].take() else {
            return;
        };
        // an error says that it, or the watchdog, has ended already
        let _ = child.kill();
        // before `wait` frees the pid: the watchdog must not kill whoever gets it next
        let _ = self.tell(format_args!("{slot} \n"));
        let _ = child.wait();
    }

    /// How the process of `slot` has ended, if it has.
    pub(crate) fn ended(&mut self, slot: usize) -> Option<ExitStatus> {
        let status = self.children[slot].as_mut()?.try_wait().ok().flatten()?;
        // its pid is free now, and whoever gets it is none of the watchdog's business
        let _ = self.tell(format_args!("{slot} \n"));
        Some(status)
    }

    /// Whether a process was started in `slot` and not killed since.
    pub(crate) fn holds(&self, slot: usize) -> bool {
        self.children[slot].is_some()
    }

    /// The pids of the processes, without the watchdog's.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.children.iter().flatten().map(Child::id).collect()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            let _ = child.kill();
        }
        // the watchdog kills whole groups: what the children have started ends as well
        self.pipe = None;
        for child in self.children.iter_mut().flatten() {
            let _ = child.wait();
        }
        let _ = self.watchdog.wait();
        // done already, unless somebody has killed the watchdog
        if let Some(dir) = &self.remove {
            let _ = fs::remove_dir_all(dir);
        }
    }
}

/// The same program behind the gate, leading a process group of its own.
fn gated(command: &Command) -> Command {
    let mut gated = Command::new("/bin/sh");
    gated
        .args(["-c", GATE, "sh"])
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::piped())
        .process_group(0);
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => gated.env(key, value),
            None => gated.env_remove(key),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        gated.current_dir(dir);
    }
    gated
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::command::poll;
    use std::time::Duration;

    /// A process that starts another one, as `go build` does.
    fn family() -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000 & echo $!; wait"]);
        command
    }

    fn is_alive(pid: &str) -> bool {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // one that nobody has reaped yet runs no more
        !stat.is_empty() && !stat.contains(") Z ")
    }

    #[test]
    fn dropping_ends_whole_families_and_removes_the_directory() {
        let name = format!("control-plane-guard-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir(&dir).unwrap();
        let log = dir.join("log");
        let mut guard = Guard::new(Some(dir.clone())).unwrap();
        guard.spawn(0, &family(), &log).unwrap();
        let grandchild = poll(Duration::from_secs(20), || {
            let text = fs::read_to_string(&log).unwrap();
            Ok(text.ends_with('\n').then(|| text.trim().to_owned()))
        })
        .unwrap()
        .unwrap();
        assert!(is_alive(&grandchild));
        let child = guard.pids()[0].to_string();
        drop(guard);
        assert!(!is_alive(&child));
        // it is killed, but not ours to wait for
        let gone = poll(Duration::from_secs(20), || Ok((!is_alive(&grandchild)).then_some(())));
        assert!(gone.unwrap().is_some());
        assert!(!dir.exists());
    }

    #[test]
    fn a_program_that_cannot_run_has_ended_and_says_why() {
        let log = std::env::temp_dir().join(format!("control-plane-log-{}", std::process::id()));
        let mut guard = Guard::new(None).unwrap();
        guard.spawn(2, &Command::new("/no/such/program"), &log).unwrap();
        let status = poll(Duration::from_secs(20), || Ok(guard.ended(2))).unwrap();
        let text = fs::read_to_string(&log).unwrap();
        fs::remove_file(&log).unwrap();
        assert_eq!(status.unwrap().code(), Some(127));
        assert!(text.contains("/no/such/program"), "{text}");
    }
}
