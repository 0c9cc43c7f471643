//! One verdict in every tool: each state that an object can be in is judged by the code of kstatus, Flux, `kubectl
//! wait`, Helm and Argo CD themselves.
//!
//! `BLESS=1 cargo test --test verdicts` rewrites the matrix in the README.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod argocd;
mod deployments;
#[path = "../repository/generated.rs"]
mod generated;
mod judge;
mod matrix;
mod states;
mod versions;
