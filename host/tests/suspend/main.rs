//! Suspending and resuming a real instance: against an uninterrupted twin, on bad disks, through power
//! cuts, from mutated files, encrypted.

mod disk;
mod encryption;
mod model;
mod mutation;
mod place;
