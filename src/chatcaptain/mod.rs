//! The chatbot service's versions API: calls, types, error classes, limits and the inventory.
//!
//! Knows no Kubernetes and nothing else of this crate. What is known of the service is little, so
//! everything is read leniently and a write's answer alone is never taken for its success.

mod account;
mod client;
mod error;
mod inventory;
mod limits;
mod types;
mod wire;

pub use account::{Account, Accounts, AccountsConfig};
pub use client::{ApiClient, NewVersion};
pub use error::{ApiCall, Failure, FailureClass, Refusal};
pub use inventory::{Deployments, Inventory, LiveVersion};
pub use limits::{CallEvent, CallObserver, Limits};
pub use types::{ApiKey, ChatbotId, InvalidId, Marker, Version, VersionId};
