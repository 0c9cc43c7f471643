//! What a deletion does in the service, and what is left behind on record.

mod table;
mod version;
mod waiting;
