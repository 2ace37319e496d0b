use std::sync::Arc;

use super::super::Before;
use super::*;
use crate::watch::object_meta::{GroupKind, OwnerRef, ResourceVersion};

const WEBSITE: Primary<'_> = Primary { group: "demo.wasmop.dev", kind: "Website", namespaced: Some(true) };

fn owner(group: &str, kind: &str, name: &str, controller: bool) -> OwnerRef {
    OwnerRef { kind: Arc::new(GroupKind { group: group.into(), kind: kind.into() }), name: name.into(), controller }
}

fn meta(owners: Vec<OwnerRef>) -> ObjectMetaLite {
    ObjectMetaLite {
        resource_version: ResourceVersion(1),
        generation: 1,
        uid: 1,
        deleting: false,
        owners: owners.into(),
    }
}

fn applied(key: &str, old: Option<ObjectMetaLite>, meta: ObjectMetaLite) -> Change {
    Change::Applied { key: key.into(), meta, old, object: None, before: Before::Unknown }
}

#[test]
fn a_change_concerns_the_objects_that_its_relation_says() {
    use Relation::{Controller, Map, Own, Owner};
    let website = |name, controller| owner("demo.wasmop.dev", "Website", name, controller);
    let both = || vec![website("w", true), website("v", false)];
    let cluster = Primary { namespaced: Some(false), ..WEBSITE };
    let unknown = Primary { namespaced: None, ..WEBSITE };
    let core = Primary { group: "", kind: "Node", namespaced: Some(false) };
    type Row<'a> = (&'a str, Relation, Primary<'a>, &'a str, Vec<OwnerRef>, &'a [&'a str]);
    let table: [Row<'_>; 15] = [
        ("itself", Own, WEBSITE, "ns/a", both(), &["ns/a"]),
        ("itself, cluster-scoped", Own, cluster, "a", vec![], &["a"]),
        ("all owners", Owner, WEBSITE, "ns/a", both(), &["ns/w", "ns/v"]),
        ("the controller only", Controller, WEBSITE, "ns/a", both(), &["ns/w"]),
        ("no owners", Controller, WEBSITE, "ns/a", vec![], &[]),
        ("no controller", Controller, WEBSITE, "ns/a", vec![website("v", false)], &[]),
        ("another kind", Controller, WEBSITE, "ns/a", vec![owner("demo.wasmop.dev", "Site", "w", true)], &[]),
        ("another group", Owner, WEBSITE, "ns/a", vec![owner("other.dev", "Website", "w", true)], &[]),
        ("the same owner twice", Owner, WEBSITE, "ns/a", vec![website("w", true), website("w", false)], &["ns/w"]),
        ("cluster-scoped owner", Controller, cluster, "ns/a", both(), &["w"]),
        ("cluster-scoped object", Controller, cluster, "a", both(), &["w"]),
        ("scope unknown, in a namespace", Controller, unknown, "ns/a", both(), &["ns/w"]),
        ("scope unknown, in none", Controller, unknown, "a", both(), &["w"]),
        ("core group", Owner, core, "ns/a", vec![owner("", "Node", "n", false)], &["n"]),
        ("the guest knows", Map, WEBSITE, "ns/a", both(), &[]),
    ];
    for (what, relation, primary, key, owners, keys) in table {
        let deleted = Change::Deleted { key: key.into(), meta: meta(owners.clone()), object: None };
        for change in [applied(key, None, meta(owners.clone())), deleted] {
            let found = keys_for(relation, primary, &change);
            assert_eq!(found.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), keys, "{what}");
        }
    }
}

#[test]
fn an_object_that_changes_owners_concerns_both() {
    let of = |name: &str| meta(vec![owner("demo.wasmop.dev", "Website", name, true)]);
    let change = applied("ns/a", Some(of("before")), of("after"));
    assert_eq!(keys_for(Relation::Controller, WEBSITE, &change), ["ns/before".into(), "ns/after".into()] as [Key; 2]);
    let change = applied("ns/a", Some(of("same")), of("same"));
    assert_eq!(keys_for(Relation::Controller, WEBSITE, &change).len(), 1);
    let change = applied("ns/a", Some(of("before")), meta(vec![]));
    assert_eq!(keys_for(Relation::Controller, WEBSITE, &change).len(), 1);
}

#[test]
fn only_changes_that_matter_pass_the_predicate() {
    let base = || ObjectMetaLite { generation: 3, ..meta(vec![]) };
    let next = || ObjectMetaLite { resource_version: ResourceVersion(2), ..base() };
    let deleting = || ObjectMetaLite { deleting: true, ..next() };
    use Passage::{Counts, LeftOut, NoChange};
    // what, change, with generation_changed, without
    let table = [
        ("new", applied("a", None, base()), Counts, Counts),
        ("status or metadata only", applied("a", Some(base()), next()), LeftOut, Counts),
        ("generation", applied("a", Some(base()), ObjectMetaLite { generation: 4, ..next() }), Counts, Counts),
        ("recreated under its name", applied("a", Some(base()), ObjectMetaLite { uid: 2, ..next() }), Counts, Counts),
        ("deletion begins", applied("a", Some(base()), deleting()), Counts, Counts),
        ("deletion goes on", applied("a", Some(deleting()), deleting()), LeftOut, Counts),
        (
            "a kind without generation",
            applied("a", Some(ObjectMetaLite { generation: 0, ..base() }), ObjectMetaLite { generation: 0, ..next() }),
            Counts,
            Counts,
        ),
        ("deleted", Change::Deleted { key: "a".into(), meta: base(), object: None }, Counts, Counts),
        ("synced", Change::Synced, NoChange, NoChange),
        ("replayed", Change::Replayed, NoChange, NoChange),
    ];
    for (what, change, with, without) in table {
        assert_eq!((passage(true, &change), passage(false, &change)), (with, without), "{what}");
    }
}

#[test]
fn a_guest_maps_the_content_or_the_name_of_a_deleted_object() {
    let object: Arc<str> = r#"{"kind":"Secret"}"#.into();
    let partial = |metadata: &str| {
        format!(r#"{{"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMetadata","metadata":{metadata}}}"#)
    };
    let gone = |key: &str, object| Change::Deleted { key: key.into(), meta: meta(vec![]), object };
    let with_content = Change::Applied {
        key: "ns/a".into(),
        meta: meta(vec![]),
        old: None,
        object: Some(object.clone()),
        before: Before::Unknown,
    };
    let table = [
        (with_content, Some(object.to_string())),
        (applied("ns/a", None, meta(vec![])), None),
        (gone("ns/a", Some(object.clone())), Some(object.to_string())),
        (gone("ns/a", None), Some(partial(r#"{"name":"a","namespace":"ns"}"#))),
        (gone("a", None), Some(partial(r#"{"name":"a","namespace":null}"#))),
        (Change::Synced, None),
        (Change::Replayed, None),
    ];
    for (change, expected) in table {
        let payload = to_map(&change).map(|payload| String::from_utf8(payload.to_vec()).unwrap());
        assert_eq!(payload, expected, "{change:?}");
    }
}
