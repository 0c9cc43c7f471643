//! The chatbot service's versions API: calls, nouns, error classes, limits and the inventory.
//!
//! Knows no Kubernetes and nothing else of this crate. What is known of the service is little, so
//! everything is read leniently and a write's answer alone is never taken for its success.

mod account;
mod client;
mod error;
mod inventory;
mod limits;
mod nouns;
mod wire;

pub use account::{Account, Accounts, Settings};
pub use client::{NewVersion, Service};
pub use error::{Call, Class, Failure, Refusal};
pub use inventory::{Deployed, Deployments, Inventory};
pub use limits::{Limits, Observer, Report};
pub use nouns::{ApiKey, BadId, ChatbotId, Marker, Version, VersionId};
