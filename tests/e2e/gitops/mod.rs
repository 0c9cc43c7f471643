//! What people and their tools do with manifests.

mod cluster_rebuild;
mod replace;
mod samples;
mod sync_waves;
mod uninstall;
