//! Whole hosts in virtual time.

pub mod cluster;
pub mod random;
