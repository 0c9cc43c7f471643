//! Small helpers around processes and time.

use std::{
    fmt::Display,
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::error::{Context, Error};

/// One line for whoever waits. Written directly, as `eprintln!` is held back while a test runs.
pub(crate) fn progress(line: impl Display) {
    // nobody to tell when stderr is closed
    let _ = writeln!(std::io::stderr(), "control-plane: {line}");
}

/// Runs a command to its end and returns what it wrote to stdout.
pub(crate) fn output(command: &mut Command) -> Result<String, Error> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().context(format_args!("cannot run {name}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let why = last_lines(&stderr, 5);
        return Err(Error::new(format!("{name}: {}: {why}", output.status)));
    }
    String::from_utf8(output.stdout).context(format_args!("the output of {name}"))
}

/// The last lines of a log file, or nothing when there is none.
pub(crate) fn log_tail(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    last_lines(&String::from_utf8_lossy(&bytes), 15)
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Asks again and again until there is an answer; `None` when the time is up.
pub(crate) fn poll<T>(
    limit: Duration,
    mut probe: impl FnMut() -> Result<Option<T>, Error>,
) -> Result<Option<T>, Error> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = probe()? {
            return Ok(Some(answer));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(50));
    }
}
