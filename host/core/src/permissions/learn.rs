//! Learns the permissions that controllers need: requests in, least rules out.
//!
//! While learning, a host allows every well-formed request that does not reach beyond the object. Broader requests,
//! such as `pods/exec` and changes of roles, stay denied unless asked for and granted.
//!
//! Emit `resourceNames` only if every `get`, `update`, `patch` and `delete` used the same constant name. A name counts
//! as constant if it was used outside of reconciles, or in reconciles of two objects whose own names it does not
//! contain.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmop_package::external::{ExternalTarget, HostPattern};
use wasmop_package::manifest::PolicyRule;

use super::external::{Contact, ExternalDenied};
use super::path::Attributes;
use super::rules::list;
use super::{ApiRequest, Asked, Denied, Permissions, WATCHING, grants, render};

/// Most resources and URLs learnt of one controller. Further ones need a grant.
const MAX_TARGETS: usize = 4096;
/// Verbs that a rule can grant by name.
const NAMEABLE: [&str; 4] = ["get", "update", "patch", "delete"];
/// The usual order of verbs; others follow.
const ORDER: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

/// The permissions that the controllers of a host have needed so far.
#[derive(Clone, Debug, Default)]
pub struct Learning(Arc<Mutex<BTreeMap<Arc<str>, Learner>>>);

#[derive(Debug, Default)]
struct Learner {
    asked: Arc<[PolicyRule]>,
    learnt: Learnt,
    external_asked: Arc<[HostPattern]>,
    external: BTreeSet<ExternalTarget>,
}

impl Learning {
    /// Adds a controller to the report.
    pub fn add(&self, controller: &Arc<str>, permissions: &Permissions) {
        let (asked, external_asked) = (permissions.asked.clone(), permissions.external.asked.clone());
        self.lock().insert(controller.clone(), Learner { asked, external_asked, ..Learner::default() });
    }

    /// Allows and records a request. `object`: the object being reconciled, `namespace/name`; `None` outside of
    /// reconciles.
    ///
    /// # Errors The request is malformed, or it reaches beyond the object and is denied.
    pub fn check(
        &self,
        controller: &Arc<str>,
        permissions: &Permissions,
        (request, as_account): (&ApiRequest<'_>, bool),
        object: Option<&str>,
    ) -> Result<(), Denied> {
        let asked = Asked::read(request, as_account)?;
        let mut learners = self.lock();
        let learnt = &mut learners.entry(controller.clone()).or_default().learnt;
        let has_room = learnt.has_room(&asked.attributes);
        if asked.is_far_reaching() || !has_room {
            permissions.check_all(&asked)?;
        }
        if has_room {
            learnt.add_all(&asked, object);
        }
        Ok(())
    }

    /// Allows and records a request to an external host. Its addresses remain subject to the owner's grant.
    ///
    /// # Errors The target is malformed, or there are too many of them.
    pub fn check_external(
        &self,
        controller: &Arc<str>,
        permissions: &Permissions,
        target: &str,
    ) -> Result<Contact, ExternalDenied> {
        let target: ExternalTarget = target.parse().map_err(ExternalDenied::Malformed)?;
        let mut learners = self.lock();
        let known = &mut learners.entry(controller.clone()).or_default().external;
        if known.len() >= MAX_TARGETS && !known.contains(&target) {
            return permissions.check_external(&target.to_string());
        }
        known.insert(target.clone());
        Ok(permissions.external.contact(target))
    }

    /// Allows and records a watch.
    ///
    /// # Errors The watch cannot be learnt and is denied.
    pub fn may_watch(
        &self,
        controller: &Arc<str>,
        permissions: &Permissions,
        group: &str,
        plural: &str,
        namespace: Option<&str>,
    ) -> Result<(), Denied> {
        // Other texts are not resources and must not appear in a rule.
        let is_name =
            |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b));
        let mut learners = self.lock();
        let learnt = &mut learners.entry(controller.clone()).or_default().learnt;
        // Without a plural it may be any resource.
        let resource = if plural.is_empty() { "*" } else { plural };
        let needs = WATCHING.map(|verb| Attributes {
            verb,
            group: group.into(),
            resource: resource.into(),
            ..Attributes::default()
        });
        if !is_name(group) || !is_name(plural) || !needs.iter().all(|need| learnt.has_room(need)) {
            return permissions.may_watch(group, plural, namespace);
        }
        needs.iter().for_each(|need| learnt.add(need, None));
        Ok(())
    }

    /// For each controller, the external hosts and `[[permissions]]` that it needed, and the unused ones that it asks
    /// for, as TOML.
    pub fn report(&self) -> String {
        let texts = self.lock().iter().map(|(name, learner)| learner.report(name)).collect::<Vec<_>>();
        texts.join("\n")
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Learner>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Learner {
    fn report(&self, name: &str) -> String {
        let rules = self.learnt.rules();
        let mut text = match (rules.as_slice(), self.external.is_empty()) {
            ([], true) => format!("# {name} needed no permissions in this run\n"),
            _ => format!("# {name}: what it needed in this run\n"),
        };
        // Top-level keys precede all tables.
        if !self.external.is_empty() {
            let hosts: Vec<String> = self.external.iter().map(ExternalTarget::to_string).collect();
            text.push_str(&format!("external-hosts = [{}]\n\n", list(&hosts)));
        }
        for rule in &rules {
            text.push_str(&render("permissions", rule));
            text.push_str("\n\n");
        }
        for line in self.learnt.unused(&self.asked) {
            text.push_str(&format!("# {name}: asked for and not used: {line}\n"));
        }
        for pattern in self.external_asked.iter().filter(|pattern| !self.external.iter().any(|t| pattern.covers(t))) {
            text.push_str(&format!("# {name}: asked for and not used: {pattern}\n"));
        }
        text
    }
}

/// The permissions that one controller has needed.
#[derive(Clone, Debug, Default)]
pub struct Learnt(BTreeMap<Target, Use>);

/// A resource with subresource, or a URL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    group: String,
    resource: String,
    subresource: String,
    path: String,
}

#[derive(Clone, Debug)]
struct Use {
    verbs: BTreeSet<&'static str>,
    names: Names,
}

/// Names of the objects used.
#[derive(Clone, Debug)]
enum Names {
    /// More than one, or unknown.
    Any,
    One {
        name: String,
        /// The first object in whose reconcile it was used, unless the name contains that object's name.
        object: Option<String>,
        fixed: bool,
    },
}

impl Names {
    fn of(name: &str, object: Option<&str>) -> Names {
        let mut names = Names::One { name: name.into(), object: None, fixed: false };
        names.see(name, object);
        names
    }

    fn see(&mut self, seen: &str, during: Option<&str>) {
        let Names::One { name, object, fixed } = self else { return };
        if name != seen {
            *self = Names::Any;
            return;
        }
        match during {
            None => *fixed = true,
            // A child named after its parent.
            Some(key) if name.contains(key.rsplit('/').next().unwrap_or(key)) => {}
            Some(key) => match object {
                None => *object = Some(key.into()),
                Some(first) => *fixed |= first != key,
            },
        }
    }
}

impl Target {
    fn of(attributes: &Attributes) -> Target {
        let Attributes { group, resource, subresource, path, .. } = attributes.clone();
        Target { group, resource, subresource, path }
    }

    fn attributes(&self, verb: &'static str) -> Attributes {
        let Target { group, resource, subresource, path } = self.clone();
        Attributes { verb, group, resource, subresource, path, ..Attributes::default() }
    }

    /// As in a rule.
    fn full(&self) -> String {
        match self.subresource.as_str() {
            "" => self.resource.clone(),
            subresource => format!("{}/{subresource}", self.resource),
        }
    }
}

impl Learnt {
    fn has_room(&self, attributes: &Attributes) -> bool {
        self.0.len() < MAX_TARGETS || self.0.contains_key(&Target::of(attributes))
    }

    fn add_all(&mut self, asked: &Asked, object: Option<&str>) {
        for further in &asked.further {
            self.add(&further.attributes, object);
        }
        self.add(&asked.attributes, object);
    }

    fn add(&mut self, attributes: &Attributes, object: Option<&str>) {
        let name = attributes.name.as_deref().filter(|_| NAMEABLE.contains(&attributes.verb));
        let of = || name.map_or(Names::Any, |name| Names::of(name, object));
        match self.0.entry(Target::of(attributes)) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(Use { verbs: [attributes.verb].into(), names: of() });
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                known.verbs.insert(attributes.verb);
                match name {
                    Some(name) => known.names.see(name, object),
                    None => known.names = Names::Any,
                }
            }
        }
    }

    /// The least rules that allow everything needed. Resources with the same group, verbs and name share a rule.
    pub fn rules(&self) -> Vec<PolicyRule> {
        let mut merged: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for (target, needed) in &self.0 {
            let verbs = ordered(&needed.verbs);
            let name = match &needed.names {
                Names::One { name, fixed: true, .. } => Some(name.clone()),
                _ => None,
            };
            let is_url = !target.path.is_empty();
            let item = if is_url { target.path.clone() } else { target.full() };
            merged.entry((is_url, target.group.clone(), name, verbs)).or_default().push(item);
        }
        let rule = |((is_url, group, name, verbs), items): ((bool, String, Option<String>, Vec<&str>), _)| {
            let verbs = verbs.into_iter().map(Into::into).collect();
            match is_url {
                true => PolicyRule { non_resource_urls: items, verbs, ..PolicyRule::default() },
                false => PolicyRule {
                    api_groups: vec![group],
                    resources: items,
                    resource_names: name.into_iter().collect(),
                    verbs,
                    ..PolicyRule::default()
                },
            }
        };
        merged.into_iter().map(rule).collect()
    }

    /// The unused part of `asked`, one line for each resource or URL.
    pub fn unused(&self, asked: &[PolicyRule]) -> Vec<String> {
        let is_used = |rule: &PolicyRule| {
            let is_used_on = |(target, needed): (&Target, &Use)| {
                needed.verbs.iter().any(|verb| grants(rule, &target.attributes(verb)))
            };
            self.0.iter().any(is_used_on)
        };
        let mut lines = Vec::new();
        let mut unused_of = |what: String, verbs: &[String], with: &dyn Fn(&str) -> PolicyRule| {
            let verbs: Vec<_> = verbs.iter().filter(|verb| !is_used(&with(verb))).cloned().collect();
            if !verbs.is_empty() {
                lines.push(format!("{} on {what}", list(&verbs)));
            }
        };
        for PolicyRule { api_groups, resources, verbs, resource_names: _, non_resource_urls } in asked {
            for url in non_resource_urls {
                unused_of(url.clone(), verbs, &|verb| PolicyRule {
                    non_resource_urls: vec![url.clone()],
                    verbs: vec![verb.into()],
                    ..PolicyRule::default()
                });
            }
            for (group, resource) in api_groups.iter().flat_map(|group| resources.iter().map(move |r| (group, r))) {
                let what = if group.is_empty() { resource.clone() } else { format!("{resource}.{group}") };
                unused_of(what, verbs, &|verb| PolicyRule {
                    api_groups: vec![group.clone()],
                    resources: vec![resource.clone()],
                    verbs: vec![verb.into()],
                    ..PolicyRule::default()
                });
            }
        }
        lines
    }
}

fn ordered(verbs: &BTreeSet<&'static str>) -> Vec<&'static str> {
    let usual = ORDER.into_iter().filter(|verb| verbs.contains(verb));
    usual.chain(verbs.iter().copied().filter(|verb| !ORDER.contains(verb))).collect()
}

#[cfg(test)]
mod tests;
