//! Proves which changes of watched objects are a controller's own writes.
//!
//! An answered write that names the version it changes made the new version out of exactly that one. A change between
//! these two versions is this write and nothing else. A write without a version proves nothing: it may have changed
//! nothing, and its answer may have a version that someone else wrote. A write concerns only the object in whose
//! reconcile it was made.
//!
//! ```text
//! write sent ─► in flight           a change comes ─► own:   ignored
//! its answer ─► written (bounded)                 ─► maybe: queued, and taken back if the answer proves it
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Deserialize;

use crate::cached_reads::{MetadataScan, Resource};
use crate::permissions::Allowed;
use crate::registration_id::RegistrationId;
use crate::reply::Reply;
use crate::watch::{ObjectMetaLite, ResourceVersion, hash};
use crate::work_queue::Key;

/// Most answered writes remembered until their change comes. The oldest are forgotten, and their changes pass.
const MAX_WRITTEN: usize = 16;
/// Most changes held; further ones pass.
const MAX_HELD: usize = 64;

/// An object that is being reconciled: registration and key.
pub type Object = (RegistrationId, Key);

/// The writes of one controller to kinds whose own writes it ignores.
#[derive(Debug, Default)]
pub struct OwnWrites {
    /// The kinds; an empty plural is all of the group. Shared by all controllers of a package.
    of: Arc<[Resource]>,
    under_way: Vec<UnderWay>,
    written: VecDeque<Written>,
    /// Queued changes that may turn out to be own.
    held: Vec<Written>,
}

#[derive(Debug)]
struct UnderWay {
    call: u64,
    by: Object,
    /// `None`: it creates the object.
    from: Option<ResourceVersion>,
    succeeded: bool,
    answer: MetadataScan,
}

/// A version of an object and the one it was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Written {
    /// The object in whose reconcile it was written; of a change, the object concerned.
    by: Object,
    uid: u64,
    from: Option<ResourceVersion>,
    to: ResourceVersion,
}

/// Whether a change is the controller's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The controller made it in a reconcile of the object concerned.
    Own,
    /// It may be a write that is not answered yet.
    Maybe,
    /// Someone else made it.
    Other,
}

/// The verdict on the changes held for an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// All of them were own writes.
    Own(Object),
    /// Not all of them were.
    Other(Object),
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    metadata: Meta,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    resource_version: Option<String>,
}

/// The resource version in a request body.
fn version_in(body: &[u8]) -> Option<ResourceVersion> {
    let Body { metadata } = serde_json::from_slice(body).unwrap_or_default();
    version(metadata.resource_version.as_deref())
}

fn version(text: Option<&str>) -> Option<ResourceVersion> {
    // "0" is any version.
    text.filter(|version| !matches!(*version, "" | "0")).map(ResourceVersion::from)
}

impl OwnWrites {
    /// Tracks writes to these resources; `None` without any.
    pub fn of(resources: &Arc<[Resource]>) -> Option<OwnWrites> {
        (!resources.is_empty()).then(|| OwnWrites { of: resources.clone(), ..OwnWrites::default() })
    }

    /// Adds resources of a new registration.
    pub fn extend(&mut self, resources: &[Resource]) {
        Resource::extend(&mut self.of, resources);
    }

    /// A request is sent. `by`: the object in whose reconcile it is made.
    pub fn sent(&mut self, call: u64, allowed: &Allowed, by: Option<Object>, body: &[u8]) {
        let is_ignored = self.of.iter().any(|resource| resource.covers(&allowed.group, &allowed.resource));
        let Some(by) = by.filter(|_| is_ignored) else { return };
        let from = match allowed.verb {
            "create" if allowed.subresource.is_empty() => None,
            "update" | "patch" => match version_in(body) {
                None => return,
                from => from,
            },
            _ => return,
        };
        self.under_way.push(UnderWay { call, by, from, succeeded: false, answer: MetadataScan::default() });
    }

    /// Takes in a piece of an answer. Returns the verdict on held changes, if there is one.
    pub fn on_reply(&mut self, call: u64, reply: &Reply) -> Option<Settled> {
        let at = self.under_way.iter().position(|write| write.call == call)?;
        let write = &mut self.under_way[at];
        match reply {
            Reply::Head { status, .. } => {
                // A patch answered with 201 created the object.
                write.succeeded = *status == if write.from.is_some() { 200 } else { 201 };
                None
            }
            Reply::Body(bytes) => {
                write.answer.push(bytes);
                None
            }
            Reply::End => {
                let UnderWay { by, from, succeeded, answer, .. } = self.under_way.swap_remove(at);
                let found = answer.found();
                if let (Some(uid), Some(to)) = (&found.uid, version(found.resource_version.as_deref()))
                    && succeeded
                    && from != Some(to)
                {
                    if self.written.len() >= MAX_WRITTEN {
                        self.written.pop_front();
                    }
                    self.written.push_back(Written { by: by.clone(), uid: hash(uid), from, to });
                }
                self.settle(&by)
            }
            Reply::Failed(_) | Reply::TooLarge => self.failed(call),
        }
    }

    /// A call failed. Returns the verdict on held changes, if there is one.
    pub fn failed(&mut self, call: u64) -> Option<Settled> {
        let at = self.under_way.iter().position(|write| write.call == call)?;
        let by = self.under_way.swap_remove(at).by;
        self.settle(&by)
    }

    /// Judges the changes held for an object again.
    fn settle(&mut self, by: &Object) -> Option<Settled> {
        let (written, under_way) = (&self.written, &self.under_way);
        let mut of_it = self.held.iter().filter(|held| held.by == *by).peekable();
        of_it.peek()?;
        let mut all_own = true;
        for held in of_it {
            let may_be = under_way.iter().any(|write| write.by == *by && write.from == held.from);
            match written.contains(held) {
                true => {}
                false if may_be => return None,
                false => all_own = false,
            }
        }
        self.held.retain(|held| held.by != *by);
        Some(if all_own { Settled::Own(by.clone()) } else { Settled::Other(by.clone()) })
    }

    /// Judges a change. `old`: the metadata before, as the watch had it.
    pub fn judge(&self, concerned: &Object, old: Option<&ObjectMetaLite>, meta: &ObjectMetaLite) -> Verdict {
        let change = change(concerned, old, meta);
        if self.written.contains(&change) {
            return Verdict::Own;
        }
        let may_be = self.under_way.iter().any(|write| write.by == change.by && write.from == change.from);
        if may_be && self.held.len() < MAX_HELD { Verdict::Maybe } else { Verdict::Other }
    }

    /// Holds a queued change that may be own.
    pub fn hold(&mut self, concerned: &Object, old: Option<&ObjectMetaLite>, meta: &ObjectMetaLite) {
        self.held.push(change(concerned, old, meta));
    }

    /// Frees unused memory.
    pub fn shrink(&mut self) {
        self.under_way.shrink_to_fit();
        self.written.shrink_to_fit();
        self.held.shrink_to_fit();
    }

    /// Bytes in RAM.
    pub fn bytes(&self) -> usize {
        self.under_way.iter().map(|write| write.answer.bytes()).sum::<usize>()
            + self.under_way.capacity() * size_of::<UnderWay>()
            + (self.written.capacity() + self.held.capacity()) * size_of::<Written>()
    }
}

fn change(concerned: &Object, old: Option<&ObjectMetaLite>, meta: &ObjectMetaLite) -> Written {
    // An object that reuses a name is a new one.
    let from = old.filter(|old| old.uid == meta.uid).map(|old| old.resource_version);
    Written { by: concerned.clone(), uid: meta.uid, from, to: meta.resource_version }
}

#[cfg(test)]
mod tests;
