//! Kubernetes operator for chatbot versions and deployments.
//!
//! ```text
//!   git ── kubectl, Argo CD, Flux ──▶ kube-apiserver ◀── watch ──┐
//!                                          ▲                     │
//!                                          │ status           controller ── every pass is five lines:
//!                                          └──────────────────── │           observe, plan, act, tell, publish
//!                                                                │
//!        crd ◀───────────── plan ◀───────────────────────────────┤
//!    the two kinds     pure decisions                            │
//!                          │                                     ▼
//!                          └────────────── nouns ─────────▶ chatcaptain ── HTTP ──▶ the chatbot service
//!                                                        calls, error classes,
//!                                                        limits, inventory
//! ```
//!
//! `crd` and `chatcaptain` know nobody; `plan` knows `crd` and the nouns of `chatcaptain`; `controller` knows
//! all three. `lease`, `telemetry` and `admin` know no chatbot. `startup` wires all of them together. A test reads the
//! `use` lines and holds this.

pub mod admin;
pub mod args;
pub mod chatcaptain;
pub mod controller;
pub mod crd;
pub mod lease;
pub mod plan;
pub mod startup;
mod sync;
pub mod telemetry;
