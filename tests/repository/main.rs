//! What the repository says of itself is so: generated files, README tables and the arrows between layers.
//!
//! `BLESS=1 cargo test --test repository` rewrites what is generated.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod crds;
mod layers;
mod readme;
mod role;

use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Holds a generated file equal to what the code generates, or rewrites it with `BLESS=1`.
fn hold(path: &str, generated: &str) {
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(root().join(path), generated).unwrap();
    }
    assert!(
        read(path) == generated,
        "{path} is not what the code generates; run: BLESS=1 cargo test --test repository"
    );
}

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
