//! One leader after the other.

mod election;
mod handover;
