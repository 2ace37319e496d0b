//! Turns the state of an instance (bytes, pages, globals) into files, and files into an instance again.
//!
//! A *base image* is a whole linear memory, zero pages as holes, mapped copy-on-write by every instance
//! that starts from it. A *state file* holds what differs: the pages an instance has written since it
//! was mapped from its base, its mutable globals, its clock, and the host's half of its state (calls,
//! tasks, queues). Each suspend puts the pages that have changed into free places of that file and then
//! makes them count, all at once, with a new header ([`format`] draws it).
//!
//! ```text
//! STATE_DIR/
//! ├── lock                          held by the host that uses the directory
//! ├── leases/                       of several hosts, see `election`
//! ├── code/<digest>-<engine>.cwasm  compiled code, a cache, and the key that authenticates it
//! ├── images/<digest>.base          base image of a package, shared by all its controllers
//! └── controllers/<name>/
//!     ├── state                     the newest snapshots
//!     └── base.<generation>         own base image, once the difference would be too large
//! ```
//!
//! ```text
//! state_dir   who may use it     store   what is there, open    image       base images
//! save        instance to file   resume  file to instance       difference  what to write
//! sources     what an instance is made of     open_snapshot, snapshot_ref, page
//! disk        all I/O            sync    when it is on disk     format, slots  no I/O
//! faults      a bad disk, for tests      code_key  of code      encryption
//! ```
//!
//! What some memory maps is neither written nor cut: not a package's base image, not the places in an own base
//! image that its instance shows, and not a slot. A snapshot is a cache: one that is damaged
//! or foreign costs the controller its memory, not the cluster an event.

#![deny(unsafe_code)]

pub mod code_key;
mod difference;
pub mod disk;
pub mod encryption;
pub mod faults;
pub mod format;
pub mod image;
pub mod open_snapshot;
pub mod page;
pub mod resume;
pub mod save;
mod slots;
mod snapshot_ref;
pub mod sources;
pub mod state_dir;
pub mod store;
pub mod sync;

pub use image::BaseImage;
pub use page::PAGE;
pub use save::Saved;
pub use snapshot_ref::SnapshotRef;
pub use sources::{Overlay, Sources};
pub use state_dir::{StateDir, StateDirError};
pub use store::ControllerStore;
pub use sync::Durability;
