use std::sync::Arc;

use super::*;
use crate::watch::{Index, ObjectMetaLite, Seen};

const SPEC: &str = "object.spec != oldObject.spec";

fn meta(version: u64, deleting: bool, uid: u64) -> ObjectMetaLite {
    let resource_version = version.to_string().as_str().into();
    ObjectMetaLite { resource_version, generation: 1, uid, deleting, owners: [].into() }
}

fn seen(version: u64, deleting: bool, uid: u64, object: Option<&str>) -> Seen {
    Seen { key: "a/b".into(), meta: meta(version, deleting, uid), object: object.map(Arc::from) }
}

#[test]
fn only_changes_with_both_states_known_are_ignored() {
    const A: &str = r#"{"spec":1,"status":1}"#;
    const B: &str = r#"{"spec":1,"status":2}"#;
    const C: &str = r#"{"spec":2,"status":2}"#;
    for (what, before, after, text, expected) in [
        ("status", seen(1, false, 1, Some(A)), seen(2, false, 1, Some(B)), SPEC, Judged::Ignored),
        ("spec", seen(1, false, 1, Some(B)), seen(2, false, 1, Some(C)), SPEC, Judged::Counts),
        ("no predicate", seen(1, false, 1, Some(A)), seen(2, false, 1, Some(B)), "", Judged::Counts),
        ("old not whole", seen(1, false, 1, None), seen(2, false, 1, Some(B)), SPEC, Judged::Counts),
        ("beginning of deletion", seen(1, false, 1, Some(A)), seen(2, true, 1, Some(B)), SPEC, Judged::Counts),
        ("another of the same name", seen(1, false, 1, Some(A)), seen(2, false, 2, Some(B)), SPEC, Judged::Counts),
    ] {
        let mut index = Index::default();
        index.begin_list();
        let listed = index.apply(before).expect("a change");
        index.finish_list();
        // The first objects of a list may have changed before, so they always count.
        assert_eq!(Predicates::default().judge("false", &listed), Judged::Counts, "{what}");
        let change = index.apply(after).expect("a change");
        assert_eq!(Predicates::default().judge(text, &change), expected, "{what}");
        for change in index.replay(u64::MAX) {
            assert_eq!(Predicates::default().judge("false", &change), Judged::Counts, "{what}, replayed");
        }
    }
}

#[test]
fn creations_are_judged_and_deletions_never() {
    let mut index = Index::default();
    index.begin_list();
    index.finish_list();
    let created = index.apply(seen(1, false, 1, Some("{}"))).expect("a change");
    let deleted = index.delete(seen(2, false, 1, Some("{}"))).expect("a change");
    for (text, change, expected) in [
        ("oldObject != null", &created, Judged::Ignored),
        (SPEC, &created, Judged::Counts),
        ("false", &deleted, Judged::Counts),
    ] {
        assert_eq!(Predicates::default().judge(text, change), expected, "{text}");
    }
}

#[test]
fn a_predicate_that_fails_lets_the_change_pass() {
    let mut index = Index::default();
    index.apply(seen(1, false, 1, Some("{}")));
    let change = index.apply(seen(2, false, 1, Some("{}"))).expect("a change");
    for text in ["object.a == 1", "1", "no CEL"] {
        assert!(matches!(Predicates::default().judge(text, &change), Judged::Failed(_)), "{text}");
    }
}
