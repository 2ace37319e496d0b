//! Parses a method and a path into the attributes that RBAC decides on: verb, group, resource and name. It follows the
//! API server's `RequestInfoFactory`.
//!
//! The host and the API server must never read a path differently. So an ambiguous path is rejected, not normalized.

use std::borrow::Cow;

/// Longest path with query, in bytes. The API server's own limit for a request line with headers is larger.
const MAX_PATH_BYTES: usize = 8 * 1024;

/// The RBAC attributes of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; for a
    /// non-resource URL the method in lower case.
    pub verb: &'static str,
    /// API group, empty for the core group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural name; empty for a non-resource URL.
    pub resource: String,
    /// Subresource, or empty.
    pub subresource: String,
    /// Namespace, if there is one.
    pub namespace: Option<String>,
    /// Name, unless it is a collection.
    pub name: Option<String>,
    /// Only for a non-resource URL: its path.
    pub path: String,
}

impl Attributes {
    /// Tests the path, not the resource: a watch may leave the resource open, which only `*` grants.
    pub fn is_resource(&self) -> bool {
        self.path.is_empty()
    }
}

/// Why a request is rejected before any rule applies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// Unknown method.
    #[error("the method {0:?} is not one of GET, HEAD, POST, PUT, PATCH, DELETE")]
    Method(String),
    /// Too long a path.
    #[error("the path is longer than {MAX_PATH_BYTES} bytes")]
    TooLong,
    /// The path is not absolute.
    #[error("the path {0:?} does not begin with /")]
    NotAbsolute(String),
    /// The path is not in normal form.
    #[error("the path {path:?} {problem}")]
    NotNormal {
        /// The path.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The method is not valid for this path.
    #[error("the method {method} is not valid for {path:?}")]
    NoVerb {
        /// The method.
        method: String,
        /// The path.
        path: String,
    },
}

/// Parses `method` and `path_and_query`.
///
/// # Errors The request is malformed or ambiguous.
pub fn attributes(method: &str, path_and_query: &str) -> Result<Attributes, BadRequest> {
    if !matches!(method, "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE") {
        return Err(BadRequest::Method(method.chars().take(32).collect()));
    }
    if path_and_query.len() > MAX_PATH_BYTES {
        return Err(BadRequest::TooLong);
    }
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    let segments = segments(path)?;
    let query = Query::parse(query)
        .ok_or(BadRequest::NotNormal { path: path_and_query.into(), problem: "has a malformed query" })?;

    let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
    match segments.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => resource(method, path, "", version, rest, &query),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => resource(method, path, group, version, rest, &query),
        _ => Ok(Attributes {
            verb: match method {
                "GET" => "get",
                "HEAD" => "head",
                "POST" => "post",
                "PUT" => "put",
                "PATCH" => "patch",
                _ => "delete",
            },
            path: format!("/{}", segments.join("/")),
            ..Attributes::default()
        }),
    }
}

/// Whether the answer is an open-ended stream: a watch of a collection, or a followed log of a pod. The API server
/// ignores `watch` and `follow` elsewhere.
pub fn is_stream(method: &str, path_and_query: &str) -> bool {
    // Both words may be percent-encoded.
    let may_be = method == "GET" && ["watch", "follow", "%"].iter().any(|part| path_and_query.contains(part));
    if !may_be {
        return false;
    }
    let (Ok(attributes), Some((_, query))) = (attributes(method, path_and_query), path_and_query.split_once('?'))
    else {
        return false;
    };
    let Some(query) = Query::parse(query) else { return false };
    let Attributes { verb, group, resource, subresource, .. } = &attributes;
    match (*verb, group.as_str(), resource.as_str(), subresource.as_str()) {
        ("watch", _, _, _) => query.is_set("watch"),
        ("get", "", "pods", "log") => query.is_set("follow"),
        _ => false,
    }
}

/// Whether the answer is a watch of a collection.
pub fn is_watch(method: &str, path_and_query: &str) -> bool {
    // A followed log is of an object.
    is_stream(method, path_and_query) && !path_and_query.split('?').next().is_some_and(|path| path.ends_with("/log"))
}

/// The decoded query parameters in order; `None` if they are ambiguous.
pub fn parameters(path_and_query: &str) -> Option<Vec<(Cow<'_, str>, Cow<'_, str>)>> {
    let query = path_and_query.split_once('?').map_or("", |(_, query)| query);
    Query::parse(query).map(|Query(pairs)| pairs)
}

/// The decoded segments of an unambiguous path.
fn segments(path: &str) -> Result<Vec<Cow<'_, str>>, BadRequest> {
    let not_normal = |problem| BadRequest::NotNormal { path: path.into(), problem };
    let Some(relative) = path.strip_prefix('/') else {
        return Err(BadRequest::NotAbsolute(path.chars().take(200).collect()));
    };
    if relative.is_empty() {
        return Ok(Vec::new());
    }
    let mut segments = Vec::new();
    for raw in relative.split('/') {
        if raw.is_empty() {
            return Err(not_normal("has an empty segment"));
        }
        if !raw.bytes().all(is_path_byte) {
            return Err(not_normal("has a character that is not allowed in a path"));
        }
        let segment = decode(raw, false).ok_or_else(|| not_normal("has a malformed percent-encoding"))?;
        // Characters that a server might take for structure after decoding once or twice.
        if raw.len() != segment.len()
            && segment.bytes().any(|b| matches!(b, b'/' | b'\\' | b'.' | b'%' | b'?' | b'#' | b';'))
        {
            return Err(not_normal("encodes a character that separates or abbreviates parts of a path"));
        }
        if !segment.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(not_normal("encodes a control character or one that is not ASCII"));
        }
        if segment.bytes().all(|b| b == b'.') {
            return Err(not_normal("has a segment of dots only"));
        }
        segments.push(segment);
    }
    Ok(segments)
}

/// Unreserved characters, and the sub-delimiters that names in Kubernetes use.
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':' | b'@' | b'%' | b'$' | b'+' | b'=' | b',')
}

fn resource(
    method: &str,
    path: &str,
    group: &str,
    version: &str,
    rest: &[&str],
    query: &Query,
) -> Result<Attributes, BadRequest> {
    let not_normal = |problem| BadRequest::NotNormal { path: path.into(), problem };
    if let ["watch" | "proxy", ..] = rest {
        return Err(not_normal("has the verb in the path, which is deprecated; use ?watch=true"));
    }
    // As in the API server: `namespaces/NAME/RESOURCE` is in a namespace, unless RESOURCE is a subresource of the
    // namespace itself.
    let (namespace, parts) = match rest {
        ["namespaces", namespace] | ["namespaces", namespace, "status" | "finalize", ..] => (Some(*namespace), rest),
        ["namespaces", namespace, parts @ ..] => (Some(*namespace), parts),
        _ => (None, rest),
    };
    let resource = parts[0];
    let subresource = parts.get(2).copied().unwrap_or_default();
    if parts.len() > 3 && subresource != "proxy" {
        return Err(not_normal("goes deeper than a subresource"));
    }
    let name = parts.get(1).map(|name| (*name).to_owned());
    let watch = query.flag("watch");
    let verb = match (method, &name) {
        ("GET" | "HEAD", Some(_)) => "get",
        ("GET" | "HEAD", None) if watch => "watch",
        ("GET" | "HEAD", None) => "list",
        // Creating under a name is for subresources: eviction, binding, token.
        ("POST", None) => "create",
        ("POST", Some(_)) if !subresource.is_empty() => "create",
        ("PUT", Some(_)) => "update",
        ("PATCH", Some(_)) => "patch",
        ("DELETE", Some(_)) => "delete",
        ("DELETE", None) => "deletecollection",
        _ => return Err(BadRequest::NoVerb { method: method.into(), path: path.into() }),
    };
    // A list or watch of one object by field selector is authorised as of that name.
    let name = name.or_else(|| match verb {
        "list" | "watch" | "deletecollection" => query.name_by_field_selector(),
        _ => None,
    });
    Ok(Attributes {
        verb,
        group: group.into(),
        version: version.into(),
        resource: resource.into(),
        subresource: subresource.into(),
        namespace: namespace.map(Into::into),
        name,
        path: String::new(),
    })
}

/// Decoded query parameters, in order.
struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    fn parse(query: &'a str) -> Option<Self> {
        // Go drops a pair with a semicolon, others split it: ambiguous.
        if !query.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'#' | b';' | b'\\' | b'"' | b'<' | b'>')) {
            return None;
        }
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let decoded = pairs.map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(key, true)?, decode(value, true)?))
        });
        decoded.collect::<Option<Vec<_>>>().map(Query)
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_ref())
    }

    /// A boolean that is true if any of its values is, so that a watch cannot pass for a list.
    fn flag(&self, key: &str) -> bool {
        self.0.iter().any(|(k, value)| k == key && is_true(value))
    }

    /// A boolean as the API server reads it: the first value.
    fn is_set(&self, key: &str) -> bool {
        self.get(key).is_some_and(is_true)
    }

    fn name_by_field_selector(&self) -> Option<String> {
        if self.0.iter().filter(|(key, _)| key == "fieldSelector").count() != 1 {
            return None;
        }
        let selector = self.get("fieldSelector")?;
        let mut names = selector.split(',').filter_map(|term| {
            let value = term.strip_prefix("metadata.name=")?;
            Some(value.strip_prefix('=').unwrap_or(value))
        });
        let name = names.next().filter(|name| !name.is_empty() && !name.contains('\\'))?;
        names.all(|other| other == name).then(|| name.to_owned())
    }
}

/// As the API server: anything but `false` and `0`.
fn is_true(value: &str) -> bool {
    !value.eq_ignore_ascii_case("false") && value != "0"
}

/// Percent-decoding; `None` if it is malformed or the result is not UTF-8.
fn decode(text: &str, plus_is_space: bool) -> Option<Cow<'_, str>> {
    let special = |b: u8| b == b'%' || (plus_is_space && b == b'+');
    if !text.bytes().any(special) {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digit = |b: Option<u8>| char::from(b?).to_digit(16);
                let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            b'+' if plus_is_space => b' ',
            other => other,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}
