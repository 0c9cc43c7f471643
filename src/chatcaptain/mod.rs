//! The client of the chatbot service: calls, types, error classes, limits and the inventory.
//!
//! ```text
//! account ── one fetch for many objects, and what was written until it shows
//!   ├─ cached_fetch   one fetch for many callers
//!   ├─ call_tracking  what is remembered of a call
//!   ├─ limits         breaker, one probe while a key is refused
//!   │    ├─ pace        how many calls a second, as the service accepts them
//!   │    ├─ call_queue  which call is sent next
//!   │    └─ refusals    when a refused call is tried again
//!   └─ client         one request, no retry
//!        ├─ wire      the JSON, read leniently
//!        │    ├─ lenient   values of whatever type
//!        │    └─ contents  what a version consists of
//!        ├─ error     what may be done after a failure
//!        └─ redact    masks the key in messages
//! inventory, types    what all of them use
//! ```
//!
//! Knows neither Kubernetes nor the rest of this crate, apart from `backoff` and `sync`. Little is known of the service,
//! so a write's answer alone never proves that it succeeded: the list and the deployment status do.

mod account;
mod cached_fetch;
mod call_queue;
mod call_tracking;
mod client;
mod contents;
mod error;
mod inventory;
mod lenient;
mod limits;
mod pace;
mod redact;
mod refusals;
mod types;
mod wire;

pub use account::{Account, Accounts, AccountsConfig};
pub use client::{ApiClient, NewVersion};
pub use contents::Contents;
pub use error::{ApiCall, Failure, FailureClass, Refusal};
pub use inventory::{DeploymentStatus, Inventory, LiveVersion};
pub use limits::{CallEvent, CallObserver, Limits};
pub use types::{ApiKey, ChatbotId, InvalidId, Marker, UnidentifiedVersion, Version, VersionId};
