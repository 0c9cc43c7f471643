//! One verdict in every tool: each state that an object can be in is judged by the code of kstatus, Flux, `kubectl
//! wait`, Helm and Argo CD themselves.
//!
//! `BLESS=1 cargo test --test conformance` rewrites the matrix in `tests/README.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod argocd;
mod deployments;
mod matrix;
mod monitoring;
mod states;
mod versions;
