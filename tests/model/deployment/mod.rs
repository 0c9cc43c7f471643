//! One `ChatbotDeployment`, the versions it runs, the service and the operator: what can happen, and what must
//! hold.

mod interference;
mod invariants;
mod reconcile;
mod service_calls;
mod starts;
mod states;
mod world;

pub use starts::starts;
pub use states::every_state_alone;
