//! Which changes of watched objects are a controller's own writes, provably.
//!
//! A write that says which version it changes, and was answered, made the version of the answer out of just that one.
//! So a change from the one version to the other is that write and nothing else; whatever anybody changed before
//! was a change of its own. A write that says no version may have changed nothing, and then its answer has the version
//! of somebody else's: such a write proves nothing. Nor does it concern any object but the one in whose reconcile
//! it was made.
//!
//! ```text
//! write sent   ─► under way          a change comes ─► own:   it is dropped
//! its answer   ─► written (bounded)                  ─► maybe: queued, and taken back if the answer says so
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

/// Writes remembered whose change has yet to come; of more, the oldest are forgotten, and their changes pass.
const MAX_WRITTEN: usize = 16;
/// Changes held at a time; more pass.
const MAX_HELD: usize = 64;

/// An object that is being reconciled: registration and key.
pub type Object = (RegistrationId, Key);

/// The writes of one controller to what it watches without its own writes.
#[derive(Debug, Default)]
pub struct OwnWrites {
    /// Of what; with an empty plural, all of the group. One copy for all controllers of a package.
    of: Arc<[Resource]>,
    under_way: Vec<UnderWay>,
    written: VecDeque<Written>,
    /// Changes that were queued and may turn out to be own.
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

/// A version of an object made out of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Written {
    /// In whose reconcile; of a change, whom it concerns.
    by: Object,
    uid: u64,
    from: Option<ResourceVersion>,
    to: ResourceVersion,
}

/// Of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The controller made it, in a reconcile of the object that it concerns.
    Own,
    /// It may be one that has not been answered yet.
    Maybe,
    Other,
}

/// Of an object for which changes were held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// All of them were own.
    Own(Object),
    /// Not all.
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

/// That of the object in a request's body.
fn version_in(body: &[u8]) -> Option<ResourceVersion> {
    let Body { metadata } = serde_json::from_slice(body).unwrap_or_default();
    version(metadata.resource_version.as_deref())
}

fn version(text: Option<&str>) -> Option<ResourceVersion> {
    // "0" is any version.
    text.filter(|version| !matches!(*version, "" | "0")).map(ResourceVersion::from)
}

impl OwnWrites {
    /// `None` if there is nothing to tell apart.
    pub fn of(resources: &Arc<[Resource]>) -> Option<OwnWrites> {
        (!resources.is_empty()).then(|| OwnWrites { of: resources.clone(), ..OwnWrites::default() })
    }

    /// The controller has registered, and watches these without its own writes.
    pub fn extend(&mut self, resources: &[Resource]) {
        Resource::extend(&mut self.of, resources);
    }

    /// A request is on its way. `by`: in whose reconcile; `body`: what it sends.
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

    /// A piece of an answer has come. Says what comes of changes that were held.
    pub fn on_reply(&mut self, call: u64, reply: &Reply) -> Option<Settled> {
        let at = self.under_way.iter().position(|write| write.call == call)?;
        let write = &mut self.under_way[at];
        match reply {
            Reply::Head { status, .. } => {
                // A patch may be answered with 201 as well: then it has created the object, out of none.
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

    /// A call ends without the whole of an answer.
    pub fn failed(&mut self, call: u64) -> Option<Settled> {
        let at = self.under_way.iter().position(|write| write.call == call)?;
        let by = self.under_way.swap_remove(at).by;
        self.settle(&by)
    }

    /// Looks again at the changes held for an object.
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

    /// Whose a change is. `old`: what the watch had before.
    pub fn judge(&self, concerned: &Object, old: Option<&ObjectMetaLite>, meta: &ObjectMetaLite) -> Verdict {
        let change = change(concerned, old, meta);
        if self.written.contains(&change) {
            return Verdict::Own;
        }
        let may_be = self.under_way.iter().any(|write| write.by == change.by && write.from == change.from);
        if may_be && self.held.len() < MAX_HELD { Verdict::Maybe } else { Verdict::Other }
    }

    /// A change that may be own was queued, and can be taken back.
    pub fn hold(&mut self, concerned: &Object, old: Option<&ObjectMetaLite>, meta: &ObjectMetaLite) {
        self.held.push(change(concerned, old, meta));
    }

    /// Gives back what it does not use.
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
    // An object that took another's name is a new one.
    let from = old.filter(|old| old.uid == meta.uid).map(|old| old.resource_version);
    Written { by: concerned.clone(), uid: meta.uid, from, to: meta.resource_version }
}

#[cfg(test)]
mod tests;
