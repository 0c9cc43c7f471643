//! Where the programs come from, tried with fake ones: the order, the archive, the build, and
//! the error when nothing works.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use crate::{
    archive::Archive,
    binaries::{Binaries, Search},
    command::output,
    go_build,
};

const PROGRAMS: [&str; 3] = ["etcd", "kube-apiserver", "kubectl"];

/// A directory of one test.
struct Temp(PathBuf);

impl Temp {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("control-plane-test-{}-{count}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn search(&self) -> Search {
        Search {
            assets: None,
            cache: Some(self.path("cache")),
            archive: Err("not in this test".into()),
            go: PathBuf::from("no-such-go"),
        }
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Written by a shell: a program that this process has open cannot be started, and any other
/// test that starts something inherits the open file for a moment.
fn write_program(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let script = r#"printf '%s' "$2" >"$1" && chmod 755 "$1""#;
    output(Command::new("sh").args(["-c", script, "sh"]).arg(path).arg(text)).unwrap();
}

fn write_programs(dir: &Path) {
    for name in PROGRAMS {
        write_program(&dir.join(name), "#!/bin/sh\n");
    }
}

/// An archive laid out like the official one, and its checksum.
fn write_archive(temp: &Temp) -> (Vec<u8>, String) {
    write_programs(&temp.path("archive/controller-tools/envtest"));
    let file = temp.path("archive.tar.gz");
    let mut tar = Command::new("tar");
    tar.arg("-czf").arg(&file).arg("-C").arg(temp.path("archive"));
    output(tar.arg("controller-tools")).unwrap();
    let sum = output(Command::new("sha512sum").arg(&file)).unwrap();
    (fs::read(&file).unwrap(), sum[..128].to_owned())
}

/// Answers one request with these bytes.
fn serve(bytes: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/envtest.tar.gz", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        assert!(client.read(&mut [0; 4096]).unwrap() > 0);
        let length = bytes.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        client.write_all(head.as_bytes()).unwrap();
        client.write_all(&bytes).unwrap();
    });
    url
}

#[test]
fn a_named_directory_comes_first_and_must_be_complete() {
    let temp = Temp::new();
    let assets = temp.path("assets");
    write_programs(&assets);
    write_programs(&temp.path("cache").join(go_build::DIR));
    let search = Search { assets: Some(assets.clone()), ..temp.search() };
    let found = search.run().unwrap();
    assert_eq!(found.dir(), assets);
    assert_eq!(found.kube_controller_manager, None);

    fs::remove_file(assets.join("etcd")).unwrap();
    let error = search.run().unwrap_err().to_string();
    let expected = format!("KUBEBUILDER_ASSETS: {} has no etcd", assets.display());
    assert_eq!(error, expected);
}

#[test]
fn a_build_in_the_cache_comes_before_an_archive_in_it() {
    let temp = Temp::new();
    let archive = Archive::new(Some("http://127.0.0.1:1/".into()), Some("a".repeat(128))).unwrap();
    let (built, unpacked) = (temp.path("cache").join(go_build::DIR), temp.path("cache").join(&archive.dir));
    write_programs(&unpacked);
    let search = Search { archive: Ok(archive), ..temp.search() };
    assert_eq!(search.run().unwrap().dir(), unpacked);
    write_programs(&built);
    write_program(&built.join("kube-controller-manager"), "#!/bin/sh\n");
    let found = search.run().unwrap();
    assert_eq!(found.dir(), built);
    assert!(found.kube_controller_manager.is_some());
}

#[test]
fn an_archive_with_the_right_checksum_fills_the_cache() {
    let temp = Temp::new();
    let (bytes, sum) = write_archive(&temp);
    let search = Search { archive: Archive::new(Some(serve(bytes)), Some(sum.clone())), ..temp.search() };
    let found = search.run().unwrap();
    let expected = temp.path("cache").join(format!("archive-{sum:.16}"));
    assert_eq!(found, Binaries::in_dir(&expected).unwrap());
    // the server answers only once: this one is from the cache
    assert_eq!(search.run().unwrap(), found);
    assert_eq!(entries(&temp.path("cache")), [".lock", &format!("archive-{sum:.16}")]);
}

#[test]
fn an_archive_with_the_wrong_checksum_is_refused() {
    let temp = Temp::new();
    let (bytes, sum) = write_archive(&temp);
    let search = Search { archive: Archive::new(Some(serve(bytes)), Some("0".repeat(128))), ..temp.search() };
    let error = search.run().unwrap_err().to_string();
    assert!(error.contains("wrong checksum: expected SHA-512 000"), "{error}");
    assert!(error.contains(&format!("got {sum}")), "{error}");
    assert_eq!(entries(&temp.path("cache")), [".lock"]);
}

#[test]
fn a_checksum_must_look_like_one() {
    let refused = Archive::new(None, Some("abc".into())).map(|_| ());
    assert!(refused.unwrap_err().contains("CONTROL_PLANE_ARCHIVE_SHA512"));
}

#[test]
fn the_official_archive_is_pinned() {
    let archive = Archive::new(None, None).unwrap();
    assert!(archive.url.starts_with("https://github.com/kubernetes-sigs/controller-tools/"));
    assert_eq!(archive.dir, "v1.36.2");
}

/// Writes the file after `-o` and says so in `builds` beside itself; fails for etcd if there is a
/// file `fail`.
const FAKE_GO: &str = r#"#!/bin/sh
[ "$1" != version ] || { echo go version fake; exit 0; }
[ "$CGO_ENABLED" = 0 ] && [ -s go.mod ] && [ -s go.sum ] || exit 3
while [ "$1" != -o ]; do shift; done
case $3 in go.etcd.io/*) [ ! -e "${0%/*}/fail" ] || { echo no such module >&2; exit 1; } ;; esac
echo '#!/bin/sh' >"$2" && chmod 755 "$2" && echo "$3" >>"${0%/*}/builds"
"#;

#[test]
fn a_build_fills_the_cache_with_all_four_programs_and_never_twice() {
    let temp = Temp::new();
    write_program(&temp.path("go/go"), FAKE_GO);
    let search = Search { go: temp.path("go/go"), ..temp.search() };
    let found = thread::scope(|scope| {
        let other = scope.spawn(|| search.run().unwrap());
        let found = search.run().unwrap();
        assert_eq!(found, other.join().unwrap());
        found
    });
    let builds = fs::read_to_string(temp.path("go/builds")).unwrap();
    assert_eq!(builds.lines().count(), 4, "{builds}");
    assert_eq!(found.dir(), temp.path("cache").join(go_build::DIR));
    assert!(found.kube_controller_manager.is_some());
    assert_eq!(entries(&temp.path("cache")), [".lock", go_build::DIR]);
}

#[test]
fn a_failed_build_says_why_and_leaves_nothing() {
    let temp = Temp::new();
    write_program(&temp.path("go/go"), FAKE_GO);
    fs::write(temp.path("go/fail"), "").unwrap();
    let search = Search { go: temp.path("go/go"), ..temp.search() };
    let error = search.run().unwrap_err().to_string();
    assert!(error.contains("go build go.etcd.io/etcd/server/v3: exit status: 1"), "{error}");
    assert!(error.ends_with("no such module"), "{error}");
    assert_eq!(entries(&temp.path("cache")), [".lock"]);
}

#[test]
fn the_error_names_all_four_ways() {
    let temp = Temp::new();
    let search =
        Search { archive: Archive::new(Some("http://127.0.0.1:1/a.tar.gz".into()), None), ..temp.search() };
    let error = search.run().unwrap_err().to_string();
    let cache = temp.path("cache").display().to_string();
    for part in [
        "KUBEBUILDER_ASSETS",
        "CONTROL_PLANE_CACHE",
        &cache,
        "http://127.0.0.1:1/a.tar.gz",
        "CONTROL_PLANE_ARCHIVE_URL",
        "CONTROL_PLANE_ARCHIVE_SHA512",
        "curl: ",
        "a build with Go 1.26 or newer",
        "cannot run no-such-go",
    ] {
        assert!(error.contains(part), "no {part} in:\n{error}");
    }
}

#[test]
fn versions_agree_with_go_mod() {
    let go_mod = include_str!("../go/go.mod");
    let required = format!("k8s.io/kubernetes {} ", go_build::DIR);
    assert!(go_mod.contains(&required));
    assert!(go_mod.contains("\ngo 1.26"));
}

fn entries(dir: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| name(entry).into_string().unwrap()).collect();
    names.sort();
    names
}
