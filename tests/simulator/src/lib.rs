//! The remote chatbot service as a small program of its own, for tests, the demo and people.
//!
//! It speaks the versions API over real HTTP, and everything the real service is not known to
//! do in one way is a switch in [`Settings`]. The defaults are the friendliest service.
//!
//! ```text
//! connection   sockets that can be cut without an answer
//!  └ routes    HTTP into a call, an answer into HTTP
//!     └ service   one call: admission, faults, the operation, its answer
//!        ├ model     what a chatbot is: versions, what is live, rollouts
//!        └ record    log, counters, calls
//! control      the routes under /_simulator/, for people and test scripts
//! simulator    start, stop and look inside from Rust
//! ```
//!
//! A test starts one with [`Simulator::start`] (on its own runtime) or
//! [`Simulator::start_on_thread`] (shared by many tests), points the client at
//! [`Simulator::url`] and afterwards asks [`Simulator::log`] what really happened.

mod admission;
mod answers;
mod connection;
mod control;
mod faults;
mod hand;
mod model;
mod operations;
mod record;
mod requests;
mod routes;
mod service;
mod settings;
mod settings_json;
mod simulator;
mod state;

pub use faults::{Fault, FaultKind, FaultOperation};
pub use hand::HandError;
pub use model::Environment;
pub use record::{Actor, CallEntry, Counters, LogEntry, Operation, OperationCounters};
pub use settings::{
    Contents, CreateAnswer, DeleteLive, DeployAnswer, DeploymentsStatus, Descriptions, FailedRollout,
    FailuresAs, FieldShown, Key, NoDeployment, Permission, RetryAfter, RollbackActs, RollbackBody, Rollout,
    Settings, Throttle, Times, UnknownChatbots, UnknownId, VersionNumbers,
};
pub use simulator::Simulator;
pub use state::{ChatbotState, EnvironmentState, RolloutState, VersionState};
