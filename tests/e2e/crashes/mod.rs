//! The operator dies, at every request or at any time, and whoever comes after it ends the job well.

mod every_request;
mod random_kills;
