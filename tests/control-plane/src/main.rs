//! The control plane for scripts: starts one, gets the programs, writes kubeconfigs.

use std::{
    ffi::OsStr,
    fmt::Display,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::mpsc::{Sender, channel},
    thread,
};

use clap::{Parser, Subcommand};
use control_plane::{Binaries, ControlPlane, Options, service_account_kubeconfig};
use tokio::signal::unix::{SignalKind, signal};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// A real etcd and kube-apiserver on loopback.
#[derive(Parser)]
// without a command, an error like any other
#[command(arg_required_else_help = false)]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Start a control plane and keep it until SIGTERM or SIGINT; prints what a shell can eval
    Up {
        /// Keep data, logs and kubeconfigs in this directory, which stays
        #[arg(long)]
        dir: Option<PathBuf>,
        /// End when stdin closes, too
        #[arg(long)]
        until_stdin_closes: bool,
    },
    /// Make sure that the programs are there; prints their directory
    Get,
    /// Write a kubeconfig of a service account, with a token made through the current KUBECONFIG
    Kubeconfig {
        /// The namespace of the service account
        #[arg(long)]
        namespace: String,
        /// The name of the service account
        #[arg(long)]
        service_account: String,
        /// The file to write
        #[arg(long)]
        out: PathBuf,
    },
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error),
    };
    let result = match arguments.command {
        Action::Up { dir, until_stdin_closes } => up(dir, until_stdin_closes),
        Action::Get => get(),
        Action::Kubeconfig { namespace, service_account, out } => {
            kubeconfig(&namespace, &service_account, &out)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, error),
    }
}

fn fail(code: u8, why: impl Display) -> ExitCode {
    let _ = writeln!(io::stderr(), "control-plane: {why}");
    ExitCode::from(code)
}

/// Help where it was asked for, otherwise one line that says what is wrong.
fn refuse(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    let line: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    fail(2, line.join(" ").trim_start_matches("error: "))
}

fn get() -> Result<()> {
    let binaries = Binaries::find()?;
    writeln!(io::stdout(), "{}", binaries.dir().display())?;
    Ok(())
}

fn up(dir: Option<PathBuf>, until_stdin_closes: bool) -> Result<()> {
    let plane = ControlPlane::start(Options { audit: false, controller_manager: true, dir })?;
    let (done, wait) = channel();
    // before anything is printed: whoever has read it may end us at once
    on_signal(done.clone())?;
    if until_stdin_closes {
        thread::spawn(move || {
            // an error ends the input as well
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            let _ = done.send(());
        });
    }
    io::stdout().write_all(exports(&plane).as_bytes())?;
    wait.recv()?;
    plane.shutdown();
    Ok(())
}

/// What a shell needs for the same kubectl, in one piece so that no reader sees the half of it.
fn exports(plane: &ControlPlane) -> String {
    let quote = |text: &OsStr| format!("'{}'", text.to_string_lossy().replace('\'', r"'\''"));
    let kubectl = plane.kubectl();
    let mut lines: Vec<String> = kubectl
        .get_envs()
        .filter_map(|(name, value)| Some((name.display(), quote(value?))))
        .map(|(name, value)| format!("export {name}={value}\n"))
        .collect();
    let dir = quote(plane.binaries().dir().as_os_str());
    lines.push(format!("export PATH={dir}:\"$PATH\"\n"));
    lines.concat()
}

fn on_signal(done: Sender<()>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    drop(entered);
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        let _ = done.send(());
    });
    Ok(())
}

fn kubeconfig(namespace: &str, service_account: &str, out: &Path) -> Result<()> {
    let config = service_account_kubeconfig(|| Command::new("kubectl"), namespace, service_account)?;
    let what = |error| format!("cannot write {}: {error}", out.display());
    let mut options = std::fs::OpenOptions::new();
    // a token: for this user only
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(out).map_err(what)?;
    file.write_all(config.as_bytes()).map_err(what)?;
    Ok(())
}
