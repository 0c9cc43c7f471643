//! Holds the repository to its own rules: generated files, reference tables, links in the docs, layers, RBAC and words.
//!
//! `BLESS=1 cargo test --test repository` rewrites the generated files and tables.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod argocd;
mod crds;
mod docs;
mod layers;
mod rbac;
mod reference_tables;
mod words;

use std::path::PathBuf;

use support::generated::{hold, read, root};

/// Every Rust file below `folder`.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    files_below(folder, "rs")
}

/// Every file below `folder` whose name ends in this extension.
fn files_below(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|own| own == extension) {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}
