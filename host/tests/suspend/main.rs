//! Suspending and resuming a real instance: against an uninterrupted twin, on bad disks, through power
//! cuts, from mutated files.

mod disk;
mod model;
mod mutation;
mod place;
