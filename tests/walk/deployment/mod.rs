//! One `ChatbotDeployment`, the versions it runs, the service and the operator: what can happen, and what must
//! hold.

mod laws;
mod orders;
mod pass;
mod seen;
mod service_calls;
mod world;

pub use seen::every_seen;
pub use world::starts;
