//! The operator is killed, at every request or at random; the next one must complete its work.

mod every_request;
mod random_kills;
