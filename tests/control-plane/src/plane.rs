//! A running control plane: started, asked, stopped.

use std::{
    fs,
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    AuditWrite, Binaries, TimedWrite, audit,
    command::{log_tail, output, poll, progress},
    error::{Context, Error},
    guard::Guard,
    kubeconfig,
    settings::{MANAGER, Settings, kube_controller_manager, temp_dir, write_private},
};

/// Slots of the guard, in the order in which the processes are killed: without its etcd, an API
/// server would take a minute to end.
const APISERVER: usize = 0;
const CONTROLLER_MANAGER: usize = 1;
const ETCD: usize = 2;

/// For messages and log files, by slot.
const NAMES: [&str; 3] = ["kube-apiserver", "kube-controller-manager", "etcd"];

/// Seconds on an idle machine, far more on one that is busy compiling.
const START_LIMIT: Duration = Duration::from_mins(2);

/// How often other ports are tried.
const START_ATTEMPTS: usize = 5;

/// What to start.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Write an audit log, for [`ControlPlane::audit`].
    pub audit: bool,
    /// Run the namespace controller, without which no namespace ever ends. Left out, and said
    /// so, where there is no kube-controller-manager.
    pub controller_manager: bool,
    /// Where data, logs and kubeconfigs go; it stays, and what it holds is used again. Without
    /// it, a temporary directory that goes at the end.
    pub dir: Option<PathBuf>,
}

/// An etcd and a kube-apiserver on loopback. They end when this is dropped, and also when the
/// process ends in any other way.
pub struct ControlPlane {
    binaries: Binaries,
    settings: Settings,
    kubeconfig: PathBuf,
    guard: Mutex<Guard>,
}

impl ControlPlane {
    /// Gets the programs if need be, starts them and waits until the API server is ready.
    ///
    /// # Errors
    ///
    /// When the programs cannot be got, or do not become ready; the message has their last lines.
    #[expect(clippy::needless_pass_by_value, reason = "nobody needs options afterwards")]
    pub fn start(options: Options) -> Result<Self, Error> {
        let binaries = Binaries::find()?;
        let mut attempt = 1;
        loop {
            match Self::attempt(&binaries, &options) {
                Err(error) if error.port_taken && attempt < START_ATTEMPTS => attempt += 1,
                result => return result,
            }
        }
    }

    fn attempt(binaries: &Binaries, options: &Options) -> Result<Self, Error> {
        let dir = options.dir.clone().map_or_else(temp_dir, Ok)?;
        // the watchdog before the directory that it is to remove
        let guard = Guard::new(options.dir.is_none().then(|| dir.clone()))?;
        let plane = Self::new(binaries, guard, Settings::write(&dir, options.audit)?);
        plane.run(options.controller_manager)?;
        Ok(plane)
    }

    fn new(binaries: &Binaries, guard: Guard, settings: Settings) -> Self {
        Self {
            binaries: binaries.clone(),
            kubeconfig: settings.path("admin.kubeconfig"),
            settings,
            guard: Mutex::new(guard),
        }
    }

    fn run(&self, controller_manager: bool) -> Result<(), Error> {
        let mut guard = self.guard();
        self.spawn_etcd(&mut guard)?;
        self.spawn_apiserver(&mut guard)?;
        // it makes its certificate before it listens
        self.write_kubeconfigs()?;
        self.wait(&mut guard, APISERVER, || self.is_ready())?;
        if controller_manager {
            self.run_controller_manager(&mut guard)?;
        }
        Ok(())
    }

    fn spawn_etcd(&self, guard: &mut Guard) -> Result<(), Error> {
        guard.spawn(ETCD, &self.settings.etcd(&self.binaries), &self.log(ETCD))?;
        self.wait_for_port(guard, ETCD, self.settings.etcd_port)
    }

    fn spawn_apiserver(&self, guard: &mut Guard) -> Result<(), Error> {
        let command = self.settings.kube_apiserver(&self.binaries);
        guard.spawn(APISERVER, &command, &self.log(APISERVER))?;
        // whoever else may have the port, only the API server writes this
        self.wait(guard, APISERVER, || self.settings.certificate().exists())?;
        self.wait_for_port(guard, APISERVER, self.settings.port)
    }

    fn run_controller_manager(&self, guard: &mut Guard) -> Result<(), Error> {
        let Some(program) = &self.binaries.kube_controller_manager else {
            progress("no kube-controller-manager: deleted namespaces stay in Terminating");
            return Ok(());
        };
        let kubeconfig = self.settings.path("controller-manager.kubeconfig");
        let command = kube_controller_manager(program, &kubeconfig);
        guard.spawn(CONTROLLER_MANAGER, &command, &self.log(CONTROLLER_MANAGER))
    }

    fn wait_for_port(&self, guard: &mut Guard, slot: usize, port: u16) -> Result<(), Error> {
        self.wait(guard, slot, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())
    }

    /// Waits for a process of ours, or says why it ended before it was ready.
    fn wait(&self, guard: &mut Guard, slot: usize, ready: impl Fn() -> bool) -> Result<(), Error> {
        let answer = poll(START_LIMIT, || {
            // first: what answers on the port of one that has ended is somebody else
            for slot in [ETCD, slot] {
                if let Some(status) = guard.ended(slot) {
                    return Err(self.failed(slot, &format!("ended with {status}")));
                }
            }
            Ok(ready().then_some(()))
        })?;
        let limit = START_LIMIT.as_secs();
        answer.ok_or_else(|| self.failed(slot, &format!("is not ready after {limit} s")))
    }

    fn failed(&self, slot: usize, how: &str) -> Error {
        let tail = log_tail(&self.log(slot));
        let mut error = Error::new(format!("{} {how}:\n{tail}", NAMES[slot]));
        error.port_taken = tail.contains("address already in use");
        error
    }

    /// Ready, and done with making the namespace that everybody expects.
    fn is_ready(&self) -> bool {
        ["/readyz", "/api/v1/namespaces/default"].iter().all(|path| {
            let mut get = self.kubectl();
            get.args(["get", "--request-timeout=5s", "--raw", path]);
            output(&mut get).is_ok()
        })
    }

    fn write_kubeconfigs(&self) -> Result<(), Error> {
        let settings = &self.settings;
        let certificate = settings.certificate();
        let certificates = fs::read_to_string(&certificate)
            .context(format_args!("cannot read {}", certificate.display()))?;
        let authority = kubeconfig::authority(&certificates)
            .ok_or_else(|| Error::new(format!("no certificate in {}", certificate.display())))?;
        let ca = settings.path("ca.crt");
        write_private(&ca, authority)?;
        let cluster = json!({"server": settings.server(), "certificate-authority": ca});
        let admin = |cluster| kubeconfig::config(cluster, "admin", &settings.admin_token, "default");
        write_private(&self.kubeconfig, &admin(&cluster).to_string())?;
        // again, now with the authority in it: it works wherever it is copied to
        let cluster = kubeconfig::cluster(&mut self.kubectl())?;
        write_private(&self.kubeconfig, &admin(&cluster).to_string())?;
        let manager = kubeconfig::config(&cluster, MANAGER, &settings.manager_token, "default");
        let path = settings.path("controller-manager.kubeconfig");
        write_private(&path, &manager.to_string())
    }

    fn log(&self, slot: usize) -> PathBuf {
        self.settings.path(&format!("{}.log", NAMES[slot]))
    }

    /// A test that panicked while it held the lock leaves nothing half done.
    fn guard(&self) -> MutexGuard<'_, Guard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kubeconfig of the administrator, whom RBAC does not bind.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The programs in use.
    #[must_use]
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// The directory of the data, logs and kubeconfigs.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.settings.dir
    }

    /// The pids of etcd, kube-apiserver and kube-controller-manager, as far as they run.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.guard().pids()
    }

    /// kubectl as the administrator.
    #[must_use]
    pub fn kubectl(&self) -> Command {
        kubeconfig::kubectl(&self.binaries.kubectl, &self.kubeconfig)
    }

    /// Writes a kubeconfig of a service account, with its namespace, to try RBAC as it is shipped.
    ///
    /// # Errors
    ///
    /// When the service account does not exist, or the API server cannot be reached.
    pub fn kubeconfig_for(&self, namespace: &str, service_account: &str) -> Result<PathBuf, Error> {
        let config = kubeconfig::service_account_kubeconfig(|| self.kubectl(), namespace, service_account)?;
        let name = format!("{namespace}.{service_account}.kubeconfig");
        let path = self.settings.path(&name);
        write_private(&path, &config)?;
        Ok(path)
    }

    /// All writes since the start, oldest first, without those of the control plane itself. A
    /// write is there once its answer has been read.
    ///
    /// # Errors
    ///
    /// When the audit log was not asked for, or cannot be read.
    pub fn audit(&self) -> Result<Vec<AuditWrite>, Error> {
        self.read_audit()
    }

    /// The same with their times.
    ///
    /// # Errors
    /// As [`ControlPlane::audit`].
    pub fn timed_audit(&self) -> Result<Vec<TimedWrite>, Error> {
        self.read_audit()
    }

    fn read_audit<T: From<audit::AuditEvent>>(&self) -> Result<Vec<T>, Error> {
        if !self.settings.audit {
            return Err(Error::new("this control plane was started without an audit log"));
        }
        audit::read(&self.settings.path("audit.log"))
    }

    /// Kills the API server, as if its machine had gone; the data stays.
    pub fn stop_apiserver(&self) {
        self.guard().kill(APISERVER);
    }

    /// Starts the API server again, on the same port with the same data, and waits until it is
    /// ready. Nothing happens when it runs.
    ///
    /// # Errors
    ///
    /// When it does not become ready.
    pub fn start_apiserver(&self) -> Result<(), Error> {
        let mut guard = self.guard();
        if guard.holds(APISERVER) && guard.ended(APISERVER).is_none() {
            return Ok(());
        }
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let started = self
                .spawn_apiserver(&mut guard)
                .and_then(|()| self.wait(&mut guard, APISERVER, || self.is_ready()));
            match started {
                // no other port will do: whoever has it may let go of it
                Err(error) if error.port_taken && Instant::now() < deadline => {}
                result => return result,
            }
        }
    }

    /// Stops API server and etcd, lets `work` at the directory of etcd's data, as for a backup or to restore one, and
    /// starts both again.
    ///
    /// # Errors
    ///
    /// When they do not become ready; what `work` answers is then lost.
    pub fn while_stopped<T>(&self, work: impl FnOnce(&Path) -> T) -> Result<T, Error> {
        let mut guard = self.guard();
        guard.kill(APISERVER);
        guard.kill(ETCD);
        let answer = work(&self.settings.path("etcd"));
        self.spawn_etcd(&mut guard)?;
        drop(guard);
        self.start_apiserver()?;
        Ok(answer)
    }

    /// Ends everything, as dropping does.
    pub fn shutdown(self) {
        drop(self);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::TcpListener;

    /// What a start says when somebody else listens on one of its ports.
    fn start_without(port: impl Fn(&Settings) -> u16) -> Error {
        let dir = temp_dir().unwrap();
        let guard = Guard::new(Some(dir.clone())).unwrap();
        let settings = Settings::write(&dir, false).unwrap();
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port(&settings))).unwrap();
        let plane = ControlPlane::new(&Binaries::find().unwrap(), guard, settings);
        plane.run(false).unwrap_err()
    }

    #[test]
    fn occupied_port_is_recognized() {
        let etcd = start_without(|settings| settings.etcd_port);
        assert!(etcd.port_taken, "{etcd}");
        let apiserver = start_without(|settings| settings.port);
        assert!(apiserver.port_taken, "{apiserver}");
    }
}
