//! The operator is an example of this crate.
