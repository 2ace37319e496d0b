//! Whose objects a watch is of: the namespace that the guest asks for, within those that the host's owner allows.

/// The guest asks for a namespace that its owner does not let it watch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("namespace {asked} is none of those that the controller is limited to: {}", allowed.join(", "))]
pub struct Outside {
    pub asked: String,
    pub allowed: Vec<String>,
}

/// The namespaces to watch, one watch each; `None` is all of them. `watch`: what the guest says of the one watch, empty
/// for all namespaces; `controller`: of all its watches; `allowed`: the owner's, empty for all.
///
/// Kinds without namespaces are watched whole by the first of several; see [`super::WatchRequest::further`].
pub fn namespaces<'a>(
    watch: Option<&'a str>,
    controller: Option<&'a str>,
    allowed: &'a [String],
) -> Result<Vec<Option<&'a str>>, Outside> {
    match watch.or(controller).filter(|namespace| !namespace.is_empty()) {
        None if allowed.is_empty() => Ok(vec![None]),
        None => Ok(allowed.iter().map(|namespace| Some(&**namespace)).collect()),
        Some(asked) if allowed.is_empty() || allowed.iter().any(|namespace| namespace == asked) => {
            Ok(vec![Some(asked)])
        }
        Some(asked) => Err(Outside { asked: asked.into(), allowed: allowed.to_vec() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_limits_what_the_guest_asks_for() {
        let none: &[&str] = &[];
        for (watch, controller, allowed, expected) in [
            (None, None, none, Some(&[None][..])),
            (None, Some("a"), none, Some(&[Some("a")])),
            (None, Some(""), none, Some(&[None])),
            (Some("b"), Some("a"), none, Some(&[Some("b")])),
            (Some(""), Some("a"), none, Some(&[None])),
            (None, None, &["x", "y"], Some(&[Some("x"), Some("y")])),
            (None, Some("y"), &["x", "y"], Some(&[Some("y")])),
            (None, Some("a"), &["x", "y"], None),
            (Some("b"), Some("x"), &["x", "y"], None),
            (Some(""), Some("x"), &["x", "y"], Some(&[Some("x"), Some("y")])),
        ] {
            let allowed: Vec<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
            let found = namespaces(watch, controller, &allowed).ok();
            assert_eq!(found.as_deref(), expected, "{watch:?} {controller:?} {allowed:?}");
        }
        let error = namespaces(Some("b"), None, &["x".into(), "y".into()]).unwrap_err().to_string();
        assert_eq!(error, "namespace b is none of those that the controller is limited to: x, y");
    }
}
