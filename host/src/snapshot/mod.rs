//! An instance on disk.
//!
//! Two kinds of file share one format ([`format`]). A *base image* is a whole linear memory, zero
//! pages as holes, mapped copy-on-write by every instance that starts from it. A *snapshot* is what
//! differs: the pages an instance has written since it was mapped from its base, its mutable
//! globals, its clock, and the host's half of its state (calls, tasks, queues), in one atomic file.
//!
//! ```text
//! STATE_DIR/
//! ├── lock                          held by the host that uses the directory
//! ├── code/<digest>-<engine>.cwasm  compiled code, a cache
//! ├── images/<digest>.base          base image of a package, shared by all its controllers
//! └── controllers/<name>/
//!     ├── snapshot                  replaced as a whole by rename
//!     └── base.<generation>         own base image, once the snapshot would be too large
//! ```
//!
//! A mapped file is never written and never truncated. A snapshot is a cache: one that is damaged
//! or foreign costs the controller its memory, not the cluster an event.

pub mod format;
pub mod image;
pub mod store;
pub mod sync;

pub use image::BaseImage;
pub use store::{ControllerStore, Saved, SnapshotRef, StateDir, StateDirError};
