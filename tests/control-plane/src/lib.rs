//! A real etcd and kube-apiserver on loopback, for tests and the demo.
//!
//! [`Binaries::find`] gets the programs, [`ControlPlane::start`] runs them, and [`shared`] gives
//! all tests of one process the same control plane. Whatever ends the process that started it,
//! SIGKILL included, the servers end too and their temporary directory goes.

mod archive;
mod audit;
mod binaries;
mod command;
mod error;
mod go_build;
mod guard;
mod kubeconfig;
mod plane;
mod settings;
#[cfg(test)]
mod tests;

pub use audit::{AuditWrite, TimedWrite};
pub use binaries::Binaries;
pub use error::Error;
pub use go_build::{go_program, go_tool};
pub use kubeconfig::service_account_kubeconfig;
pub use plane::{ControlPlane, Options};

use std::sync::OnceLock;

/// The one control plane of this test process, with an audit log and, where there is one, the
/// namespace controller. Give each test a namespace of its own.
///
/// Statics are never dropped: the watchdog ends it when the process does.
///
/// # Panics
///
/// When it cannot be started: no test can go on without it. Every caller gets the same message,
/// and nothing is tried twice.
pub fn shared() -> &'static ControlPlane {
    static SHARED: OnceLock<Result<ControlPlane, Error>> = OnceLock::new();
    let started = SHARED
        .get_or_init(|| ControlPlane::start(Options { audit: true, controller_manager: true, dir: None }));
    match started {
        Ok(plane) => plane,
        #[expect(clippy::panic, reason = "only tests call this, and a panic is how they fail")]
        Err(error) => panic!("no control plane: {error}"),
    }
}
