//! Keeps instances of packages on disk: an instance's memory, globals and host state become files, and files become
//! an instance again.
//!
//! A *base image* is a whole linear memory, with zero pages as holes. Every instance that starts from it maps it
//! copy-on-write. A *state file* holds the delta: the pages that differ from the base image, the mutable globals, the
//! clock, and the host's state (calls, tasks, queues). Each save writes the changed pages into free slots of that file.
//! A new header then commits all of them at once; [`format`](mod@format) draws both files.
//!
//! ```text
//! STATE_DIR/
//! ├── lock                          held by the host that uses the directory
//! ├── code/<digest>-<engine>.cwasm  compiled code (a cache), and the key that authenticates it
//! ├── images/<digest>.base          base image of a package, shared by its controllers
//! ├── controllers/<name>/
//! │   ├── state                     the newest snapshots
//! │   └── base.<generation>         the controller's own base image, once its delta is too large
//! ├── watches/                      journals of watches (wasmop-api)
//! └── leases/                       the election's local state (wasmop-api)
//! ```
//!
//! ```text
//!                    state_dir      owner and layout of the directory
//!                        │
//!      save ─────────► store ◄───────── resume      one controller's files
//!        │               │                │
//!      delta       open_snapshot    memory_sources  which pages, and from where
//!        │               │                │
//!  slot_allocator      image       format, page_sum  layout and checksums; these and slot_allocator do no I/O
//!        └───────────────┼────────────────┘
//!       sync ──────────► disk ◄───────── faulty_disk (tests)
//!                  encryption, code_key             keys
//! ```
//!
//! Invariant: nothing that a memory maps is overwritten or truncated. That covers a package's base image, the pages of
//! a controller's own base image that its instance shows, and mapped slots.
//!
//! A snapshot is a cache. A damaged or foreign one costs the controller its memory; the controller then starts from
//! the base image and reconciles everything.

#![forbid(unsafe_code)]

pub mod code_key;
mod delta;
pub mod disk;
pub mod encryption;
pub mod faulty_disk;
pub mod format;
pub mod image;
mod memory_sources;
mod open_snapshot;
mod page;
mod page_sum;
mod resume;
mod save;
mod slot_allocator;
mod snapshot_ref;
mod state_dir;
mod store;
pub mod sync;

pub use image::BaseImage;
pub use memory_sources::{MemorySources, Overlay, PreviousSave, READ_GAP};
pub use open_snapshot::OpenSnapshot;
pub use page::PAGE;
pub use page_sum::is_zero;
pub use resume::{ResumeTarget, resume, resume_in_place};
pub use save::{InstanceState, SavedSnapshot};
pub use snapshot_ref::SnapshotRef;
pub use state_dir::{StateDir, StateDirError};
pub use store::ControllerStore;
pub use sync::Durability;
