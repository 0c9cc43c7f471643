//! The role grants what the operator uses, and nothing that it does not.
