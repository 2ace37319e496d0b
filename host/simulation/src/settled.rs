//! What must hold once nothing goes wrong any more: nothing is lost, and nothing is left to do.

use std::sync::Arc;

use wasmop_package::manifest::{Relation, WatchSpec};

use crate::cluster::{Cluster, Deed, Kind, Object, Past, split};
use crate::guest::program::{FINALIZER, Program, Registration, number};
use crate::host::Inspection;
use crate::ledger::Ledger;
use crate::observer::Invariant;

/// What is still wrong, if anything.
type Wrong = Option<(Invariant, String)>;

/// The first thing that is not yet as it has to be.
pub fn first_wrong(
    cluster: &Cluster,
    ledger: &Ledger,
    programs: &[Arc<Program>],
    inspections: &[Vec<Inspection>],
) -> Wrong {
    let wrong = programs.iter().filter(|program| program.is_good).find_map(|program| {
        let all = || program.registrations.iter().enumerate();
        None.or_else(|| all().find_map(|(index, it)| lost_change(cluster, ledger, program, index, it)))
            .or_else(|| all().find_map(|(_, it)| wrong_child(cluster, ledger, program, it)))
            .or_else(|| not_quiet(program, inspections))
    });
    wrong.or_else(|| kept_connection(inspections))
}

/// Whether a watch has an object.
pub fn selects(watch: &WatchSpec, object: &Object) -> bool {
    let label = watch.label_selector.split_once('=');
    let has_label = match label {
        Some((name, value)) => object.labels.get(name).is_some_and(|found| found == value),
        None => watch.label_selector.is_empty() || object.labels.contains_key(&watch.label_selector),
    };
    let (namespace, _) = split(&object.key);
    has_label && (watch.namespaces.is_empty() || namespace.is_none_or(|it| watch.namespaces.iter().any(|n| n == it)))
}

fn kind_of(watch: &WatchSpec) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| (kind.names().0, kind.names().3) == (&*watch.group, &*watch.kind))
}

/// Whether a change of what a watch has concerns an object.
fn concerns(watch: &WatchSpec, registration: &Registration, past: &Past, key: &str) -> bool {
    let states = || past.old.iter().chain([&past.object]);
    match watch.relation {
        Relation::Own => *past.object.key == *key,
        Relation::Owner | Relation::Controller => {
            let (namespace, name) = split(key);
            let kind = registration.primary.names().3;
            let is_near = namespace.is_none() || split(&past.object.key).0 == namespace;
            is_near && states().any(|it| it.owners.iter().any(|owner| owner.kind == kind && owner.name == name))
        }
        // What a source named between two looks at it concerns nobody; the children show what matters.
        Relation::Map => false,
    }
}

/// Whether a change has to cause a reconcile.
fn counts(watch: &WatchSpec, program: &Program, past: &Past) -> bool {
    let selected = selects(watch, &past.object) || past.old.as_ref().is_some_and(|old| selects(watch, old));
    // One that leaves and comes back between two lists need not be noticed.
    selected
        && !(watch.ignore_own_writes && past.actor == program.name)
        && (past.deed != Deed::Touched || !watch.generation_changed)
}

/// Whether a change took an object back to a version whose changes were all seen at a moment: etcd was restored. If
/// more has changed since, that did not count either.
fn is_back(cluster: &Cluster, watch: &WatchSpec, program: &Program, past: &Past, moment: u64) -> bool {
    let (kind, key) = (past.object.kind, &past.object.key);
    let version = |object: &Arc<Object>| (object.uid, object.revision);
    let restored = version(&past.object);
    let mut versions = cluster.history.iter().filter(|it| it.object.kind == kind && it.object.key == *key);
    let before = |it: &&Past| it.moment < past.moment && it.deed != Deed::Deleted && version(&it.object) == restored;
    let Some(first) = versions.clone().find(before) else { return false };
    let last = versions.rfind(|it| it.moment <= first.moment && counts(watch, program, it));
    cluster.epoch > 0 && past.deed != Deed::Deleted && last.is_none_or(|last| last.moment <= moment)
}

/// Whether no watch may have seen the last change of an object, which is not by `actor`.
fn is_hidden(cluster: &Cluster, kind: Kind, key: &str, actor: &str) -> bool {
    let last = cluster.history.iter().rev().find(|it| it.object.kind == kind && *it.object.key == *key);
    let is_unseen = |last: &Past| cluster.is_hidden(last) || cluster.was_never_seen(&last.object);
    last.is_some_and(|last| *last.actor != *actor && is_unseen(last))
}

fn lost_change(
    cluster: &Cluster,
    ledger: &Ledger,
    program: &Program,
    index: usize,
    registration: &Registration,
) -> Wrong {
    let spec = &registration.spec;
    // The host does not know an object whose creation was hidden, and takes no change of a child for one of it.
    let is_known = |object: &Object| !is_hidden(cluster, object.kind, &object.key, &program.name);
    for object in cluster.of(registration.primary).filter(|it| selects(&spec.primary, it) && is_known(it)) {
        let changes = spec.all_watches().filter_map(|watch| {
            let kind = kind_of(watch)?;
            let last = cluster.history.iter().rev().find(|past| {
                past.object.kind == kind
                    && !cluster.was_never_seen(&past.object)
                    && counts(watch, program, past)
                    && concerns(watch, registration, past, &object.key)
            })?;
            (!cluster.is_hidden(last)).then_some((watch, last))
        });
        let Some((watch, last)) = changes.max_by_key(|(_, past)| past.moment) else { continue };
        let record = ledger.record(&(program.name.clone(), index, object.key.clone()));
        if record.ok < Some(last.moment) && !is_back(cluster, watch, program, last, record.ok.unwrap_or(0)) {
            let Past { moment, at, object: changed, deed, actor, .. } = last;
            let what = format!(
                "{}: {} was last reconciled at moment {:?}; {:?} of {} {} by {actor:?} was at moment {moment}, {at:?}",
                program.name,
                object.key,
                record.ok,
                deed,
                changed.kind.names().3,
                changed.key
            );
            return Some((Invariant::NoLostChange, what));
        }
    }
    None
}

fn wrong_child(cluster: &Cluster, ledger: &Ledger, program: &Program, registration: &Registration) -> Wrong {
    let script = &registration.script;
    let suffix = format!("-{}", script.child.as_ref()?);
    if cluster.epoch > 0 && !program.watches_children() {
        // A child that went back in time is none of its business.
        return None;
    }
    let wrong = |what: String| Some((Invariant::Children, format!("{}: {what}", program.name)));
    let is_mine = |object: &Object| selects(&registration.spec.primary, object);
    for object in cluster.of(registration.primary).filter(|object| is_mine(object)) {
        let child_key = registration.child_key(&object.key);
        let hidden = |kind, key: &str| is_hidden(cluster, kind, key, &program.name);
        if hidden(object.kind, &object.key) || child_key.as_ref().is_some_and(|key| hidden(Kind::ConfigMap, key)) {
            continue;
        }
        if object.deleting {
            if object.finalizers.iter().any(|name| name == FINALIZER) {
                return wrong(format!("{} is still being deleted", object.key));
            }
            continue;
        }
        let sources =
            cluster.of(Kind::ConfigMap).filter(|it| script.sources && Registration::is_source(it, &object.key));
        let value = number(object.field("spec", "value")) + number(object.field("data", "value"));
        let expected = registration.expected(value, sources.map(|source| &**source));
        let child = child_key.and_then(|key| cluster.get(Kind::ConfigMap, &key));
        let Some(child) = child else { return wrong(format!("{} has no child", object.key)) };
        if *child.field("data", "content") != *expected {
            let found = child.field("data", "content");
            return wrong(format!("the child of {} is {found}, not {expected:?}", object.key));
        }
        if script.owns && !child.owners.iter().any(|owner| owner.uid == object.uid_text()) {
            return wrong(format!("the child of {} has another owner", object.key));
        }
    }
    // A controller that lost its memory cannot know what was deleted before.
    if script.owns || ledger.has_forgotten(&program.name) || cluster.epoch > 0 {
        return None;
    }
    let orphan = cluster.of(Kind::ConfigMap).find(|it| {
        let Some(parent) = it.key.strip_suffix(&suffix) else { return false };
        let parent = if registration.primary.namespaced() { parent } else { split(parent).1 };
        cluster.get(registration.primary, parent).is_none() && is_mine(it)
    });
    orphan.and_then(|orphan| wrong(format!("{} has outlived its parent", orphan.key)))
}

/// While no controller of a host has a call open, all of its connections are free.
fn kept_connection(inspections: &[Vec<Inspection>]) -> Wrong {
    let is_idle = |host: &&Vec<Inspection>| host.iter().all(|it| it.open_calls == 0);
    let kept = inspections.iter().filter(is_idle).flatten().find(|it| it.connections > 0)?;
    Some((Invariant::Conserved, format!("{} connections are in use, and nobody makes a request", kept.connections)))
}

fn not_quiet(program: &Program, inspections: &[Vec<Inspection>]) -> Wrong {
    let wrong = |what: &str| Some((Invariant::Quiet, format!("{}: {what}", program.name)));
    let mut leaders = inspections.iter().flatten().filter(|it| it.name == program.name && it.leads);
    let Some(leader) = leaders.next() else { return wrong("no host runs it") };
    if leader.ready > 0 {
        return wrong("objects wait to be reconciled");
    }
    if !leader.is_idle {
        return wrong("something is under way");
    }
    if leader.guest.as_ref().is_some_and(|guest| !guest.is_idle()) {
        return wrong("its guest waits for something that never comes");
    }
    None
}
