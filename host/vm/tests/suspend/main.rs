//! Suspending and resuming a real instance: against an uninterrupted twin, on bad disks, through power
//! cuts, from mutated files, encrypted, and while its files are mapped.

mod disk;
mod encryption;
mod mapped;
mod model;
mod mutation;
mod place;
