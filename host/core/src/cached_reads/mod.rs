//! Answers reads that accept cached data from the host's watches.
//!
//! ```text
//! GET …?resourceVersion=0 ─► read: a form that the cache serves? ─► writes: has the cache seen the
//!                            controller's own? ─► index of a watch with whole objects ─► the answer
//! ```

mod metadata;
mod read;
mod writes;

pub use metadata::MetadataScan;
pub use read::{ANY_VERSION, Any, Asked, asked, list};
pub use writes::{Resource, Writes, key_of, newest};
