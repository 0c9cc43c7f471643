//! What the repository says of itself is so: generated files, README tables and the arrows between layers.
//!
//! `BLESS=1 cargo test --test repository` rewrites what is generated.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod argocd;
mod crds;
mod layers;
mod readme;
mod role;

use std::path::PathBuf;

use support::generated::{hold, read, root};

/// Every Rust file below `folder`.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}
