//! Resource usage of the operator's process.

use std::fs;

use crate::World;

/// Memory and file descriptors.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Resident memory in MiB.
    pub resident_mib: f64,
    /// Open file descriptors.
    pub descriptors: usize,
}

impl Usage {
    /// The usage of the operator that runs.
    pub fn of(world: &World) -> Self {
        let pid = world.operator().as_ref().expect("an operator that runs").pid();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or("VmRSS: 0");
        let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        Self { resident_mib: kib / 1024.0, descriptors }
    }

    /// The maximum of each figure.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            resident_mib: self.resident_mib.max(other.resident_mib),
            descriptors: self.descriptors.max(other.descriptors),
        }
    }
}
