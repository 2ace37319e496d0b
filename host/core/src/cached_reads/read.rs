//! A guest's read to what it asks of a cache, and objects to the list that answers it.

use std::sync::Arc;

use bytes::Bytes;

use crate::permissions::parameters;

/// What a read asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The newest state, or that of a certain version: the API server is to say it.
    Newest,
    /// Any version will do, in a form that is served from the cache.
    Any(Any),
    /// Any version will do, but in a form that only the API server has.
    Other,
}

/// In the query of every read that any version answers; spelt otherwise it goes to the API server.
pub const ANY_VERSION: &str = "resourceVersion=0";

/// A read that any version answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Any {
    /// Of a list; empty: all.
    pub label_selector: String,
}

/// Reads the query and the header lines of a `get` or `list`. `resourceVersion=0` means that any version will do.
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
            // With that resource version the API server pays no attention to a limit either.
            ("limit", _) | ("resourceVersionMatch", "NotOlderThan") | ("fieldSelector", "") if is_list => {}
            ("labelSelector", selector) if is_list && any.label_selector.is_empty() => {
                any.label_selector = selector.to_owned();
            }
            _ => return Asked::Other,
        }
    }
    if headers.lines().all(accepts_json) { Asked::Any(any) } else { Asked::Other }
}

/// Tables, metadata alone and protobuf are for the API server.
fn accepts_json(line: &str) -> bool {
    match line.split_once(':') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("accept") => {
            let types: Vec<_> = value.split(',').map(str::trim).collect();
            types.iter().all(|accepted| matches!(*accepted, "application/json" | "*/*"))
        }
        _ => true,
    }
}

/// The list as the API server writes it, at this resource version.
///
/// `None` if it has more than `most` bytes, or if one of the objects is not there.
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
