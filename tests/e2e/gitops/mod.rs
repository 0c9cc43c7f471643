//! What people and their tools, such as Argo CD and Flux, do with manifests.

mod cluster_rebuild;
mod one_line;
mod releases;
mod replace;
mod samples;
mod sync_waves;
mod uninstall;
