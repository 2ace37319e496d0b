//! Reads that may come from a cache, answered with what the host's watches hold.
//!
//! ```text
//! GET …?resourceVersion=0 ─► read: in a form that can be served? ─► writes: has the cache seen the
//!                            controller's own? ─► index of a watch with objects ─► the answer
//! ```

mod metadata;
mod read;
mod writes;

pub use metadata::MetadataScan;
pub use read::{ANY_VERSION, Any, Asked, asked, list};
pub use writes::{Resource, Writes, key_of, newest};
