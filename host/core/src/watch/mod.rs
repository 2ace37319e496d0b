//! What watches of the API server bring, and what it means for a controller. The watches themselves are in
//! `wasmop-api`.
//!
//! ```text
//! request, scope  what to watch           object_meta  an object's JSON to what is kept of it
//! index           objects to changes      object_budget  bytes of whole objects
//! change          what changed            relation, predicates  which objects a change concerns
//! waiting, watch_status, cache_view   how a watch is, and how far its subscribers are
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
