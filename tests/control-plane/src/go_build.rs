//! Builds with Go from published modules: they work wherever the Go module proxy can be reached.
//!
//! The control plane is built this way where there is no archive of it, and so is whatever other Go program a test
//! needs. What is built stays in the cache.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    binaries::{Binaries, Search, install, lock, workspace},
    command::{log_tail, output, poll, progress},
    error::{Context, Error},
    guard::Guard,
};

/// The directory of the cache that it fills: the version of Kubernetes in `go/go.mod`.
pub(crate) const DIR: &str = "v1.36.3";

/// The oldest Go that builds it, for messages.
pub(crate) const NEEDS: &str = "1.26 or newer";

/// Without these `kubectl version` fails, as a module knows no version of itself.
const LDFLAGS: &str = "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 \
    -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36";

/// Each program and its package; the slow one first, as the others share most of its packages.
const PROGRAMS: [(&str, &str); 4] = [
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    ("etcd", "go.etcd.io/etcd/server/v3"),
];

/// How often whoever waits is told so.
const REPORT_EVERY: Duration = Duration::from_secs(15);

/// Builds all programs into the cache.
pub(crate) fn get(cache: &Path, go: &Path) -> Result<Binaries, Error> {
    let version = output(Command::new(go).arg("version"))?;
    progress(format_args!(
        "building the control plane with {}: about 6 min on two idle cores, only this once",
        version.trim()
    ));
    let temp = workspace(cache, DIR)?;
    // the build, too, ends with this process, and so does what it has written
    let mut guard = Guard::new(Some(temp.clone()))?;
    let what = format!("cannot write to {}", temp.display());
    fs::write(temp.join("go.mod"), include_str!("../go/go.mod")).context(&what)?;
    fs::write(temp.join("go.sum"), include_str!("../go/go.sum")).context(&what)?;
    fs::create_dir(temp.join("bin")).context(&what)?;
    let started = Instant::now();
    for (name, package) in PROGRAMS {
        build(&mut guard, &temp, go, Program { name, package, tags: "" }, "6 min", started)?;
    }
    progress(format_args!("built in {}", minutes(started.elapsed())));
    install(&temp.join("bin"), &cache.join(DIR))
}

/// A program that is built once from its source files, `go.mod` and `go.sum` among them; `takes` says how long that
/// takes when nothing of it is there yet.
///
/// It is kept beside the control plane, named by a hash of the files: whoever changes one gets another program.
///
/// # Errors
///
/// When there is no directory to keep it in, no Go, or the build fails.
pub fn go_program(name: &str, files: &[(&str, &str)], takes: &str) -> Result<PathBuf, Error> {
    go_tool(name, ".", "", files, takes)
}

/// The same of a package that `go.mod` names as a tool, with these build tags.
///
/// # Errors
///
/// As [`go_program`].
pub fn go_tool(
    name: &str,
    package: &str,
    tags: &str,
    files: &[(&str, &str)],
    takes: &str,
) -> Result<PathBuf, Error> {
    let Search { cache: Some(cache), go, .. } = Search::from_env() else {
        return Err(Error::new(format!("no directory for the {name}: set HOME or CONTROL_PLANE_CACHE")));
    };
    let mut hasher = DefaultHasher::new();
    files.hash(&mut hasher);
    let dir = format!("{name}-{:016x}", hasher.finish());
    let program = cache.join(&dir).join(name);
    if program.exists() {
        return Ok(program);
    }
    let _lock = lock(&cache)?;
    // whoever held the lock may have built it
    if !program.exists() {
        let needs = format_args!("the {name} is built with Go {NEEDS} on PATH");
        let version = output(Command::new(&go).arg("version")).context(needs)?;
        progress(format_args!("building the {name} with {}: about {takes}, only this once", version.trim()));
        let temp = workspace(&cache, &dir)?;
        let mut guard = Guard::new(Some(temp.clone()))?;
        let what = format!("cannot write to {}", temp.display());
        for (file, text) in files {
            fs::write(temp.join(file), text).context(&what)?;
        }
        build(&mut guard, &temp, &go, Program { name, package, tags }, takes, Instant::now())?;
        fs::rename(temp.join("bin"), cache.join(&dir)).context(&what)?;
    }
    Ok(program)
}

/// What to build.
struct Program<'a> {
    name: &'a str,
    package: &'a str,
    tags: &'a str,
}

fn build(
    guard: &mut Guard,
    temp: &Path,
    go: &Path,
    Program { name, package, tags }: Program<'_>,
    takes: &str,
    started: Instant,
) -> Result<(), Error> {
    let log = temp.join("log");
    let mut command = Command::new(go);
    command
        .args(["build", "-trimpath", "-mod=readonly", "-buildvcs=false", "-tags", tags])
        .args(["-ldflags", LDFLAGS, "-o"])
        .arg(temp.join("bin").join(name))
        .arg(package)
        .current_dir(temp)
        // neither a C compiler nor settings meant for other Go code are wanted here
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        .env_remove("GOOS")
        .env_remove("GOARCH");
    guard.spawn(0, &command, &log)?;
    let status = loop {
        if let Some(status) = poll(REPORT_EVERY, || Ok(guard.ended(0)))? {
            break status;
        }
        let so_far = minutes(started.elapsed());
        progress(format_args!("still building {name}, {so_far} so far, about {takes} in all"));
    };
    if !status.success() {
        let why = log_tail(&log);
        return Err(Error::new(format!("go build {package}: {status}\n{why}")));
    }
    Ok(())
}

fn minutes(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    format!("{} min {} s", seconds / 60, seconds % 60)
}
