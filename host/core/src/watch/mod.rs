//! Changes of watched objects, and what they mean for a controller. The watches themselves are in `wasmop-api`.
//!
//! ```text
//! request, scope  what to watch                object_meta    the metadata kept of an object
//! index           turns lists into changes     object_budget  memory for whole objects
//! change          what changed                 relation, predicates     objects that a change concerns
//! waiting         why a watch waits            watch_status             a watch as people see it
//! cache_view      objects of a synced watch    watch_position           how far a controller has read
//! ```

mod cache_view;
mod change;
mod index;
mod object_budget;
mod object_meta;
mod predicates;
mod relation;
mod request;
mod scope;
mod waiting;
mod watch_position;
mod watch_status;

pub use cache_view::CacheView;
pub use change::{Before, Change, Replay, WatchEvent, WatchId};
pub use index::{Index, Past, Present, ToSave};
pub use object_budget::{ObjectBudget, ObjectUsage};
pub use object_meta::{GroupKind, Item, ObjectMetaLite, OwnerRef, Reader, ResourceVersion, Seen, hash};
pub use predicates::{Judged, Predicates};
pub use relation::{Passage, Primary, gone, keys_for, passage, shared, to_map};
pub use request::{Resolved, WatchRequest};
pub use scope::{LimitPlace, NamespaceLimit, Scope, namespaces};
pub use waiting::{WaitReason, Waiting, may_be_built_in};
pub use watch_position::WatchPosition;
pub use watch_status::WatchStatus;
