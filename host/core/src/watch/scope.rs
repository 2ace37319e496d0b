//! The namespaces of a watch: those that the guest asks for, limited to those that the host's owner allows.

use wasmop_package::manifest::{ControllerSpec, WatchSpec};

/// The namespaces to which an owner limits a controller's watches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceLimit {
    /// Empty for all.
    pub names: Box<[String]>,
    /// Where the owner set the limit.
    pub said_in: LimitPlace,
}

/// Where the owner set a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LimitPlace {
    /// `--namespace`, for all controllers.
    Flag,
    /// `namespace` of the configuration file, for all controllers.
    #[default]
    File,
    /// `namespace` under `[controllers.NAME]` in that file.
    Controller,
}

impl NamespaceLimit {
    /// How the owner can allow `controller` to watch the namespaces `more` as well.
    pub fn how_to_allow(&self, controller: &str, more: &[&str]) -> String {
        let names: Vec<&str> = self.names.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let list = || names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        match self.said_in {
            LimitPlace::Flag => format!("start the host with `--namespace {}`", names.join(",")),
            LimitPlace::File => {
                format!(
                    "write `namespace = [{}]` at the top of the host's configuration file and restart the host",
                    list()
                )
            }
            LimitPlace::Controller => format!(
                "write `namespace = [{}]` under [controllers.{controller}] in the host's configuration file and restart the host",
                list()
            ),
        }
    }
}

/// The namespaces of a watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope<'a> {
    /// Namespaces to watch, one watch each; `None` is all namespaces.
    pub namespaces: Vec<Option<&'a str>>,
    /// Namespaces that the guest asks for and that are not allowed.
    pub outside: Vec<&'a str>,
}

impl Scope<'_> {
    /// Why some namespaces are not allowed, if any.
    pub fn refusal(&self, limit: &NamespaceLimit) -> Option<String> {
        let (first, more) = self.outside.split_first()?;
        let allowed = limit.names.join(", ");
        Some(match more {
            [] => format!("namespace {first} is not among those that the controller is limited to: {allowed}"),
            _ => format!(
                "namespaces {} are not among those that the controller is limited to: {allowed}",
                self.outside.join(", ")
            ),
        })
    }
}

/// The namespaces of a watch, limited to those that the owner allows. Those of the watch take precedence over those of
/// the controller.
///
/// The first of several watches of a cluster-scoped kind has all its objects; see
/// [`super::request::WatchRequest::further`].
pub fn namespaces<'a>(watch: &'a WatchSpec, controller: &'a ControllerSpec, allowed: &'a [String]) -> Scope<'a> {
    let of_watch = asked(&watch.namespaces, watch.namespace.as_deref());
    let asked = match of_watch.is_empty() {
        true => asked(&controller.namespaces, controller.namespace.as_deref()),
        false => of_watch,
    };
    // An empty name means all namespaces.
    if asked.is_empty() || asked.iter().any(|namespace| namespace.is_empty()) {
        return match allowed {
            [] => Scope { namespaces: vec![None], outside: Vec::new() },
            names => Scope { namespaces: names.iter().map(|name| Some(&**name)).collect(), outside: Vec::new() },
        };
    }
    let mut scope = Scope::default();
    for namespace in asked {
        if !allowed.is_empty() && !allowed.iter().any(|name| name == namespace) {
            scope.outside.push(namespace);
        } else if !scope.namespaces.contains(&Some(namespace)) {
            scope.namespaces.push(Some(namespace));
        }
    }
    scope
}

/// `several` if there are any, otherwise `one`.
fn asked<'a>(several: &'a [String], one: Option<&'a str>) -> Vec<&'a str> {
    match several {
        [] => one.into_iter().collect(),
        several => several.iter().map(String::as_str).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(names: &[&str], said_in: LimitPlace) -> NamespaceLimit {
        NamespaceLimit { names: names.iter().map(|name| (*name).to_owned()).collect(), said_in }
    }

    #[test]
    fn the_owner_limits_the_namespaces_of_the_guest() {
        let all: &[Option<&str>] = &[None];
        for (watch, controller, allowed, expected, outside) in [
            ("", "", &[][..], all, &[][..]),
            ("", r#", "namespace": "a""#, &[], &[Some("a")], &[]),
            ("", r#", "namespace": """#, &[], all, &[]),
            (r#", "namespace": "b""#, r#", "namespace": "a""#, &[], &[Some("b")], &[]),
            (r#", "namespace": """#, r#", "namespace": "a""#, &[], all, &[]),
            ("", "", &["x", "y"], &[Some("x"), Some("y")], &[]),
            ("", r#", "namespace": "y""#, &["x", "y"], &[Some("y")], &[]),
            ("", r#", "namespace": "a""#, &["x", "y"], &[], &["a"]),
            (r#", "namespace": "b""#, r#", "namespace": "x""#, &["x", "y"], &[], &["b"]),
            (r#", "namespace": """#, r#", "namespace": "x""#, &["x", "y"], &[Some("x"), Some("y")], &[]),
            // Several.
            ("", r#", "namespaces": ["a", "b", "a"]"#, &[], &[Some("a"), Some("b")], &[]),
            ("", r#", "namespaces": ["a", ""]"#, &[], all, &[]),
            ("", r#", "namespaces": ["a", "b", "c"]"#, &["b", "x"], &[Some("b")], &["a", "c"]),
            (r#", "namespaces": ["c", "d"]"#, r#", "namespaces": ["a"]"#, &[], &[Some("c"), Some("d")], &[]),
            (r#", "namespace": "c""#, r#", "namespaces": ["a", "b"]"#, &[], &[Some("c")], &[]),
            (r#", "namespace": """#, r#", "namespaces": ["a", "b"]"#, &["x"], &[Some("x")], &[]),
        ] {
            let primary = format!(r#"{{ "version": "v1", "kind": "Thing" {watch} }}"#);
            let text = format!(r#"{{ "name": "things", "primary": {primary} {controller} }}"#);
            let spec: ControllerSpec = serde_json::from_str(&text).unwrap();
            let allowed = limit(allowed, LimitPlace::Flag).names;
            let found = namespaces(&spec.primary, &spec, &allowed);
            assert_eq!((&*found.namespaces, &*found.outside), (expected, outside), "{text} {allowed:?}");
        }
    }

    #[test]
    fn a_refusal_names_where_the_limit_is_set_and_the_whole_list_to_write() {
        let refusal = |outside: &[&'static str], limit: &NamespaceLimit| {
            Scope { outside: outside.to_vec(), ..Scope::default() }.refusal(limit)
        };
        let flag = limit(&["x", "y"], LimitPlace::Flag);
        let expected = "namespace b is not among those that the controller is limited to: x, y";
        assert_eq!(refusal(&["b"], &flag).as_deref(), Some(expected));
        let expected = "namespaces b, c are not among those that the controller is limited to: x, y";
        assert_eq!(refusal(&["b", "c"], &flag).as_deref(), Some(expected));
        assert_eq!(refusal(&[], &flag), None);
        for (said_in, expected, absent) in [
            (LimitPlace::Flag, "`--namespace x,b`", "configuration file"),
            (LimitPlace::File, "`namespace = [\"x\", \"b\"]` at the top", "--namespace"),
            (LimitPlace::Controller, "`namespace = [\"x\", \"b\"]` under [controllers.web]", "--namespace"),
        ] {
            let help = limit(&["x"], said_in).how_to_allow("web", &["b"]);
            assert!(help.contains(expected) && !help.contains(absent), "{help}");
        }
    }
}
