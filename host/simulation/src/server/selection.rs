//! Namespace, labels and name of the objects that a list or a watch asks for.

use std::collections::BTreeMap;

use crate::cluster::{Object, split};

/// Which objects of a kind are asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    pub namespace: Option<String>,
    labels: Vec<(String, Option<String>)>,
    name: Option<String>,
}

impl Selection {
    pub fn new(namespace: Option<String>, query: &BTreeMap<String, String>) -> Selection {
        let selector = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
        let term = |term: &str| match term.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.trim_start_matches('=').to_owned())),
            None => (term.to_owned(), None),
        };
        let labels = selector("labelSelector").split(',').filter(|text| !text.is_empty()).map(term).collect();
        let name = selector("fieldSelector").strip_prefix("metadata.name=").map(|name| name.trim_matches('=').into());
        Selection { namespace, labels, name }
    }

    pub fn has(&self, object: &Object) -> bool {
        let (namespace, name) = split(&object.key);
        self.namespace.as_deref().is_none_or(|wanted| Some(wanted) == namespace)
            && self.name.as_deref().is_none_or(|wanted| wanted == name)
            && self.labels.iter().all(|(label, value)| match (object.labels.get(label), value) {
                (Some(found), Some(value)) => found == value,
                (found, None) => found.is_some(),
                (None, Some(_)) => false,
            })
    }
}
