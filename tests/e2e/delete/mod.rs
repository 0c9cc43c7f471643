//! What a deletion does in the service, and what is reported as left behind.

mod table;
mod version;
mod waiting;
