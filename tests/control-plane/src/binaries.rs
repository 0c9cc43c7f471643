//! Where etcd, kube-apiserver and kubectl come from: a directory that the user names, a cache,
//! the official archive, a build with Go, in this order.

use std::{
    env,
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::{
    archive::Archive,
    command::progress,
    error::{Context, Error},
    go_build,
};

/// The programs that a control plane needs.
const REQUIRED: [&str; 3] = ["etcd", "kube-apiserver", "kubectl"];

/// The programs of a control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// The store of the API server.
    pub etcd: PathBuf,
    /// The API server.
    pub kube_apiserver: PathBuf,
    /// The command line client.
    pub kubectl: PathBuf,
    /// Deletes namespaces. The official archive has none: namespaces then stay in Terminating.
    pub kube_controller_manager: Option<PathBuf>,
}

impl Binaries {
    /// Finds the programs, or gets them: the first time this may take minutes.
    ///
    /// `KUBEBUILDER_ASSETS` names a directory that has them. `CONTROL_PLANE_CACHE` moves the cache
    /// out of `~/.cache`. `CONTROL_PLANE_ARCHIVE_URL` and `CONTROL_PLANE_ARCHIVE_SHA512` name
    /// another archive.
    ///
    /// # Errors
    ///
    /// When `KUBEBUILDER_ASSETS` is set but incomplete, and when none of the four ways works.
    pub fn find() -> Result<Self, Error> {
        Search::from_env().run()
    }

    /// The directory of the programs, which scripts put into `PATH` for kubectl.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.kubectl.parent().unwrap_or(Path::new("/"))
    }

    /// The programs of one directory, or the names of those it lacks.
    pub(crate) fn in_dir(dir: &Path) -> Result<Self, String> {
        let missing: Vec<&str> = REQUIRED.into_iter().filter(|name| !is_program(&dir.join(name))).collect();
        if !missing.is_empty() {
            return Err(format!("{} has no {}", dir.display(), missing.join(", ")));
        }
        Ok(Self {
            etcd: dir.join("etcd"),
            kube_apiserver: dir.join("kube-apiserver"),
            kubectl: dir.join("kubectl"),
            kube_controller_manager: Some(dir.join("kube-controller-manager"))
                .filter(|path| is_program(path)),
        })
    }
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// What decides where to look. Tests fill it themselves, as the environment belongs to all.
pub(crate) struct Search {
    pub(crate) assets: Option<PathBuf>,
    pub(crate) cache: Option<PathBuf>,
    pub(crate) archive: Result<Archive, String>,
    pub(crate) go: PathBuf,
}

impl Search {
    pub(crate) fn from_env() -> Self {
        let var = |name| env::var_os(name).filter(|value| !value.is_empty());
        // whoever uses the programs may do so from another directory
        let path = |name| std::path::absolute(var(name)?).ok();
        let text = |name| var(name).map(|value| value.to_string_lossy().into_owned());
        let home_cache = || path("HOME").map(|home| home.join(".cache"));
        let user_cache = || path("XDG_CACHE_HOME").or_else(home_cache);
        Self {
            assets: path("KUBEBUILDER_ASSETS"),
            cache: path("CONTROL_PLANE_CACHE")
                .or_else(|| user_cache().map(|dir| dir.join("chatcaptain-operator").join("control-plane"))),
            archive: Archive::new(text("CONTROL_PLANE_ARCHIVE_URL"), text("CONTROL_PLANE_ARCHIVE_SHA512")),
            go: PathBuf::from("go"),
        }
    }

    pub(crate) fn run(&self) -> Result<Binaries, Error> {
        if let Some(dir) = &self.assets {
            return Binaries::in_dir(dir).context("KUBEBUILDER_ASSETS");
        }
        let Some(cache) = &self.cache else {
            return Err(Error::new(
                "no directory for the control plane: set HOME, XDG_CACHE_HOME or CONTROL_PLANE_CACHE",
            ));
        };
        if let Some(found) = self.cached(cache) {
            return Ok(found);
        }
        let _lock = lock(cache)?;
        // whoever held the lock may have filled the cache
        match self.cached(cache) {
            Some(found) => Ok(found),
            None => self.get(cache),
        }
    }

    /// The build comes first: it alone has the controller manager.
    fn cached(&self, cache: &Path) -> Option<Binaries> {
        let built = Binaries::in_dir(&cache.join(go_build::DIR)).ok();
        built.or_else(|| {
            let archive = self.archive.as_ref().ok()?;
            Binaries::in_dir(&cache.join(&archive.dir)).ok()
        })
    }

    fn get(&self, cache: &Path) -> Result<Binaries, Error> {
        let from_archive = match &self.archive {
            Ok(archive) => archive.get(cache).map_err(|error| error.to_string()),
            Err(reason) => Err(reason.clone()),
        };
        let no_archive = match from_archive {
            Ok(found) => return Ok(found),
            Err(reason) => reason,
        };
        progress(format_args!("no envtest archive ({no_archive}); building with Go"));
        go_build::get(cache, &self.go).map_err(|no_build| self.nothing_works(cache, &no_archive, &no_build))
    }

    fn nothing_works(&self, cache: &Path, no_archive: &str, no_build: &Error) -> Error {
        let url = self.archive.as_ref().map_or("", |archive| &archive.url);
        Error::new(format!(
            "no etcd, kube-apiserver and kubectl to run; any of these four ways gives them:\n\
             1. KUBEBUILDER_ASSETS, a directory that has them: not set\n\
             2. the cache {}, which CONTROL_PLANE_CACHE moves: empty\n\
             3. the envtest archive {url}, or another in CONTROL_PLANE_ARCHIVE_URL with its \
             CONTROL_PLANE_ARCHIVE_SHA512: {no_archive}\n\
             4. a build with Go {}, 6 minutes once: {no_build}",
            cache.display(),
            go_build::NEEDS,
        ))
    }
}

/// Two processes must not fill the cache at once. The lock ends with the process that holds it.
pub(crate) fn lock(cache: &Path) -> Result<File, Error> {
    let what = format!("cannot lock the cache {}", cache.display());
    fs::create_dir_all(cache).context(&what)?;
    let file = File::create(cache.join(".lock")).context(&what)?;
    if file.try_lock().is_err() {
        progress("another process is getting the control plane, waiting for it");
        file.lock().context(&what)?;
    }
    Ok(file)
}

/// Moves a complete directory to its place in the cache: nobody ever sees half of one.
pub(crate) fn install(from: &Path, to: &Path) -> Result<Binaries, Error> {
    let what = format!("cannot fill the cache {}", to.display());
    Binaries::in_dir(from).context(&what)?;
    if to.exists() {
        fs::remove_dir_all(to).context(&what)?;
    }
    fs::rename(from, to).context(&what)?;
    Binaries::in_dir(to).context(&what)
}

/// An empty directory next to those of the cache; the lock makes its name ours alone.
pub(crate) fn workspace(cache: &Path, name: &str) -> Result<PathBuf, Error> {
    let dir = cache.join(format!("{name}.tmp"));
    let what = format!("cannot make {}", dir.display());
    if dir.exists() {
        fs::remove_dir_all(&dir).context(&what)?;
    }
    fs::create_dir_all(&dir).context(&what)?;
    Ok(dir)
}
