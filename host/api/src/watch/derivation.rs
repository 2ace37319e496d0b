//! Decides whether one watch has all objects of another, and which objects those are.
//!
//! The decision uses an object's key and labels only. Watches with other field selectors, or with label selectors that
//! this module does not support, ask the API server themselves.

use std::collections::BTreeMap;

use kube::core::{Expression, Selector, SelectorExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use wasmop_core::watch::WatchRequest;

/// Which objects of a parent watch are in its child.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Derivation {
    namespace: Option<String>,
    labels: Selector,
    fields: Vec<Field>,
}

/// A requirement on a field that is in the key.
#[derive(Clone, Debug, PartialEq)]
struct Field {
    part: Part,
    value: String,
    /// `false`: the field must have another value.
    equals: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Name,
    Namespace,
}

impl Derivation {
    /// `None` if the objects of `child` are not a proper subset of those of `parent`, or cannot be selected here. It
    /// ignores whether they are whole.
    pub fn between(parent: &WatchRequest, child: &WatchRequest) -> Option<Derivation> {
        let bare = |request: &WatchRequest| WatchRequest {
            namespace: None,
            further: false,
            label_selector: String::new(),
            field_selector: String::new(),
            full_objects: false,
            ..request.clone()
        };
        if bare(parent) != bare(child) {
            return None;
        }
        let mut derivation = Derivation::default();
        if parent.namespace != child.namespace {
            if parent.namespace.is_some() {
                return None;
            }
            derivation.namespace.clone_from(&child.namespace);
        }
        if parent.label_selector != child.label_selector {
            if !parent.label_selector.is_empty() {
                return None;
            }
            derivation.labels = selector(&child.label_selector)?;
        }
        if parent.field_selector != child.field_selector {
            if !parent.field_selector.is_empty() {
                return None;
            }
            derivation.fields = child.field_selector.split(',').map(field).collect::<Option<_>>()?;
        }
        (derivation != Derivation::default()).then_some(derivation)
    }

    /// Whether the labels of an object are needed.
    pub fn asks_labels(&self) -> bool {
        !self.labels.selects_all()
    }

    /// Whether the child has the object. `labels`: its `metadata.labels` as JSON, if it has any.
    pub fn contains(&self, key: &str, labels: Option<&RawValue>) -> bool {
        self.contains_key(key) && (!self.asks_labels() || self.labels.matches(&read(labels)))
    }

    fn contains_key(&self, key: &str) -> bool {
        let (namespace, name) = key.split_once('/').unwrap_or(("", key));
        let is_so = |field: &Field| {
            let is = match field.part {
                Part::Name => name,
                Part::Namespace => namespace,
            };
            (is == field.value) == field.equals
        };
        // Cluster-scoped kinds are in the watches of all namespaces.
        let in_namespace = self.namespace.as_deref().is_none_or(|wanted| namespace.is_empty() || wanted == namespace);
        in_namespace && self.fields.iter().all(is_so)
    }
}

/// `metadata.labels` of an object as JSON.
pub(super) fn labels_of(object: &str) -> Option<&RawValue> {
    #[derive(Deserialize)]
    struct Object<'a> {
        #[serde(borrow)]
        metadata: Metadata<'a>,
    }
    #[derive(Deserialize)]
    struct Metadata<'a> {
        #[serde(borrow, default)]
        labels: Option<&'a RawValue>,
    }
    serde_json::from_str::<Object>(object).ok()?.metadata.labels
}

fn read(labels: Option<&RawValue>) -> BTreeMap<String, String> {
    // The API server sends only strings.
    labels.and_then(|labels| serde_json::from_str(labels.get()).ok()).unwrap_or_default()
}

fn field(text: &str) -> Option<Field> {
    let (part, value, equals) = match text.split_once("!=") {
        Some((part, value)) => (part, value, false),
        None => {
            let (part, value) = text.split_once("==").or_else(|| text.split_once('='))?;
            (part, value, true)
        }
    };
    let part = match part.trim() {
        "metadata.name" => Part::Name,
        "metadata.namespace" => Part::Namespace,
        _ => return None,
    };
    let value = value.trim();
    let is_plain = value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
    (is_plain && !value.is_empty()).then(|| Field { part, value: value.into(), equals })
}

/// Parses a label selector as the API server does; `None` if it is not supported here.
fn selector(text: &str) -> Option<Selector> {
    let mut selector = Selector::default();
    for requirement in requirements(text) {
        selector.extend(expression(requirement.trim())?);
    }
    Some(selector)
}

/// Splits at commas outside of parentheses.
fn requirements(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.split(move |c| {
        match c {
            '(' => inside = true,
            ')' => inside = false,
            _ => {}
        }
        c == ',' && !inside
    })
}

fn expression(text: &str) -> Option<Expression> {
    let key = |text: &str| {
        let is_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
        (!text.is_empty() && text.bytes().all(is_byte)).then(|| text.to_owned())
    };
    let value = |text: &str| (text.is_empty() || key(text).is_some_and(|v| !v.contains('/'))).then(|| text.to_owned());
    if let Some(absent) = text.strip_prefix('!') {
        return Some(Expression::DoesNotExist(key(absent.trim())?));
    }
    if let Some((before, set)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        let mut words = before.split_ascii_whitespace();
        let (label, operator) = (key(words.next()?)?, words.next()?);
        let set = set.split(',').map(|text| value(text.trim()).filter(|v| !v.is_empty())).collect::<Option<_>>()?;
        return match (operator, words.next()) {
            ("in", None) => Some(Expression::In(label, set)),
            ("notin", None) => Some(Expression::NotIn(label, set)),
            _ => None,
        };
    }
    if let Some((label, other)) = text.split_once("!=") {
        return Some(Expression::NotEqual(key(label.trim())?, value(other.trim())?));
    }
    if let Some((label, same)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Some(Expression::Equal(key(label.trim())?, value(same.trim())?));
    }
    Some(Expression::Exists(key(text)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(namespace: &str, label_selector: &str, field_selector: &str) -> WatchRequest {
        WatchRequest {
            version: "v1".into(),
            kind: "ConfigMap".into(),
            namespace: (!namespace.is_empty()).then(|| namespace.into()),
            label_selector: label_selector.into(),
            field_selector: field_selector.into(),
            ..WatchRequest::default()
        }
    }

    #[test]
    fn watch_is_derived_if_the_parent_has_all_its_objects() {
        let table = [
            // parent, child
            (("", "", ""), ("a", "", ""), true),
            (("", "", ""), ("", "app=x", ""), true),
            (("", "", ""), ("a", "app", "metadata.name=n"), true),
            (("a", "", ""), ("a", "app=x", ""), true),
            (("a", "app=x", ""), ("a", "app=x", "metadata.name!=n"), true),
            (("", "app=x", ""), ("a", "app=x", ""), true),
            (("", "", "spec.x=1"), ("a", "", "spec.x=1"), true),
            (("", "", ""), ("", "", ""), false),
            (("a", "", ""), ("", "", ""), false),
            (("a", "", ""), ("b", "", ""), false),
            (("a", "", ""), ("b", "app", ""), false),
            (("", "app=x", ""), ("a", "", ""), false),
            (("", "app=x", ""), ("a", "app=x,b", ""), false),
            (("", "", "metadata.name=n"), ("a", "", ""), false),
            (("", "", ""), ("", "", "spec.x=1"), false),
            (("", "", ""), ("", "", "metadata.name=a\\,b"), false),
            (("", "", ""), ("", "n>5", ""), false),
            (("", "", ""), ("", "app=x y", ""), false),
        ];
        for ((a, b, c), (d, e, f), expected) in table {
            let (parent, child) = (request(a, b, c), request(d, e, f));
            assert_eq!(Derivation::between(&parent, &child).is_some(), expected, "{parent:?} {child:?}");
        }
        let all = request("", "", "");
        for other in [
            WatchRequest { group: "apps".into(), ..request("a", "", "") },
            WatchRequest { version: "v2".into(), ..request("a", "", "") },
            WatchRequest { kind: "Secret".into(), ..request("a", "", "") },
            WatchRequest { plural: "secrets".into(), ..request("a", "", "") },
            WatchRequest {
                service_account: Some("a/b".parse::<wasmop_core::service_account::ServiceAccount>().unwrap().into()),
                ..request("a", "", "")
            },
        ] {
            assert_eq!(Derivation::between(&all, &other), None, "{other:?}");
        }
        let whole = WatchRequest { full_objects: true, ..request("a", "", "") };
        assert!(Derivation::between(&all, &whole).is_some());
    }

    #[test]
    fn objects_are_told_as_the_api_server_tells_them() {
        let table = [
            // selector of labels, of fields, then whether a/n with app=x,tier=front and b/m without labels are in
            ("app=x", "", true, false),
            ("app==x", "", true, false),
            ("app = x", "", true, false),
            ("app=y", "", false, false),
            ("app!=x", "", false, true),
            ("app", "", true, false),
            ("!app", "", false, true),
            ("! app", "", false, true),
            ("app=", "", false, false),
            ("app!=", "", true, true),
            ("app in (x,y)", "", true, false),
            ("app in ( x , y )", "", true, false),
            ("app  in  (y)", "", false, false),
            ("app notin (x, y)", "", false, true),
            ("app=x,tier=front", "", true, false),
            ("app=x, tier notin (back),!gone", "", true, false),
            ("app in (x,y),tier=back", "", false, false),
            ("example.com/app_v1.2", "", false, false),
            ("", "metadata.name=n", true, false),
            ("", "metadata.name==m", false, true),
            ("", "metadata.name!=n", false, true),
            ("", "metadata.namespace=a", true, false),
            ("", "metadata.namespace!=a,metadata.name=m", false, true),
            ("app=x", "metadata.name=m", false, false),
        ];
        let object = r#"{"metadata":{"name":"n","labels":{"app":"x","tier":"front"}}}"#;
        let labels: &RawValue = serde_json::from_str(r#"{"app":"x","tier":"front"}"#).unwrap();
        for (label_selector, field_selector, first, second) in table {
            let child = request("", label_selector, field_selector);
            let derivation = Derivation::between(&request("", "", ""), &child).unwrap_or_else(|| panic!("{child:?}"));
            assert_eq!(derivation.contains("a/n", Some(labels)), first, "{child:?}");
            assert_eq!(derivation.contains("a/n", labels_of(object)), first, "{child:?}");
            assert_eq!(derivation.contains("b/m", None), second, "{child:?}");
            assert_eq!(derivation.contains("b/m", labels_of(r#"{"metadata":{"labels":null}}"#)), second, "{child:?}");
        }
    }

    #[test]
    fn a_namespace_limits_no_kind_without_namespaces() {
        let derivation = Derivation::between(&request("", "", ""), &request("a", "", "metadata.name=n")).unwrap();
        for (key, expected) in [("a/n", true), ("b/n", false), ("n", true), ("m", false)] {
            assert_eq!(derivation.contains(key, None), expected, "{key}");
        }
    }

    #[test]
    fn what_is_not_understood_is_left_to_the_api_server() {
        for text in [
            "a>1",
            "a in x",
            "a in ()",
            "a in (x",
            "a in (x,)",
            "a b",
            "a in in (x)",
            "a near (x)",
            "=x",
            "a=b=c",
            "a,,b",
            "!",
            "a,",
            "ä=x",
            "a=x/y",
            "(a)",
            "a in (x)(y)",
            "a=!x",
            "a in ((x))",
        ] {
            assert_eq!(selector(text), None, "{text:?}");
        }
        for text in ["spec.x=1", "metadata.name", "metadata.name=", "metadata.name=a b", "metadata.name=a,,"] {
            assert_eq!(Derivation::between(&request("", "", ""), &request("", "", text)), None, "{text:?}");
        }
    }
}
