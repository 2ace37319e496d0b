//! Parses a guest's read request, and builds the list that answers it from the cache.

use std::sync::Arc;

use bytes::Bytes;

use crate::permissions::parameters;

/// The freshness that a read asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The newest state or a particular version, which only the API server has.
    Newest,
    /// Any version, in a form that the cache serves.
    Any(Any),
    /// Any version, in a form that only the API server serves.
    Other,
}

/// The query parameter of a read that accepts any version. With other spellings the read goes to the API server.
pub const ANY_VERSION: &str = "resourceVersion=0";

/// A read that accepts any version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Any {
    /// Label selector of a list, empty for all objects.
    pub label_selector: String,
}

/// Parses the query and the header lines of a `get` or `list`. `resourceVersion=0` accepts any version.
pub fn asked(path_and_query: &str, headers: &str, is_list: bool) -> Asked {
    let Some(parameters) = parameters(path_and_query) else { return Asked::Newest };
    let versions: Vec<_> = parameters.iter().filter(|(name, _)| name == "resourceVersion").collect();
    if !matches!(versions[..], [(_, version)] if version == "0") {
        return Asked::Newest;
    }
    let mut any = Any::default();
    for (name, value) in &parameters {
        match (&**name, &**value) {
            ("resourceVersion", _) => {}
            // With this resource version the API server ignores a limit, too.
            ("limit", _) | ("resourceVersionMatch", "NotOlderThan") | ("fieldSelector", "") if is_list => {}
            ("labelSelector", selector) if is_list && any.label_selector.is_empty() => {
                any.label_selector = selector.to_owned();
            }
            _ => return Asked::Other,
        }
    }
    if headers.lines().all(accepts_json) { Asked::Any(any) } else { Asked::Other }
}

/// Tables, partial metadata and protobuf come from the API server.
fn accepts_json(line: &str) -> bool {
    match line.split_once(':') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("accept") => {
            let types: Vec<_> = value.split(',').map(str::trim).collect();
            types.iter().all(|accepted| matches!(*accepted, "application/json" | "*/*"))
        }
        _ => true,
    }
}

/// A list at this resource version, as the API server writes it.
///
/// `None` if it exceeds `most` bytes, or if an object is missing.
pub fn list<'a>(
    api_version: &str,
    kind: &str,
    resource_version: u64,
    objects: impl Iterator<Item = Option<&'a Arc<str>>>,
    most: usize,
) -> Option<Bytes> {
    let head = serde_json::json!({
        "apiVersion": api_version,
        "kind": format!("{kind}List"),
        "metadata": { "resourceVersion": resource_version.to_string() },
    });
    let mut text = head.to_string();
    text.pop();
    text.push_str(",\"items\":[");
    let begin = text.len();
    for object in objects {
        let object = object?;
        if text.len() + object.len() + 3 > most {
            return None;
        }
        if text.len() > begin {
            text.push(',');
        }
        text.push_str(object);
    }
    text.push_str("]}");
    Some(text.into())
}

#[cfg(test)]
mod tests;
