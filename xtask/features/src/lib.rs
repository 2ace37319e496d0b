//! This crate has no code: its manifest asks for the same features of dependencies in every selection of packages.
