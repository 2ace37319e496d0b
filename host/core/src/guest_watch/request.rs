//! Turns the request of a guest's watch into what is watched and where it begins.

use crate::permissions::{is_watch, parameters};

/// What is watched, without where it begins. Guests that watch the same share one watch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stream {
    /// The path of the collection.
    path: String,
    /// `labelSelector` and `fieldSelector` as in the request, in order.
    selectors: Vec<String>,
    /// The `Accept` header: JSON, of whole objects or of their metadata.
    pub accept: String,
}

/// Where a watch begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// After this resource version.
    After(u64),
    /// With all objects, in an order of the API server's, and without a mark behind the last one. The parameters that
    /// ask for it.
    Synthetic(String),
    /// With all objects and a bookmark behind the last one. The parameters that ask for it.
    List(String),
}

/// A watch of a guest that the host can keep up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestWatch {
    /// What is watched.
    pub stream: Stream,
    /// Where it begins.
    pub position: Position,
    /// Whether the guest takes bookmarks.
    pub takes_bookmarks: bool,
}

impl GuestWatch {
    /// Reads the request. `headers`: lines `name: value\n`.
    ///
    /// `None`: the request is not a watch of a collection, has a parameter that is not known here, or takes no JSON. It
    /// is sent unchanged.
    pub fn of(method: &str, path_and_query: &str, headers: &str) -> Option<GuestWatch> {
        if !is_watch(method, path_and_query) {
            return None;
        }
        let (path, query) = path_and_query.split_once('?')?;
        let mut selectors = Vec::new();
        let (mut version, mut version_match, mut list, mut takes_bookmarks) = (String::new(), None, false, false);
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        for (pair, (name, value)) in pairs.zip(parameters(path_and_query)?) {
            match &*name {
                "labelSelector" | "fieldSelector" if !value.is_empty() => selectors.push(pair.to_owned()),
                // client-go repeats the time-out for itself.
                "labelSelector" | "fieldSelector" | "watch" | "timeoutSeconds" | "timeout" | "limit" => {}
                "allowWatchBookmarks" => takes_bookmarks = matches!(&*value, "true" | "1"),
                "sendInitialEvents" => list = matches!(&*value, "true" | "1"),
                "resourceVersion" => version = value.into_owned(),
                "resourceVersionMatch" => version_match = Some(value.into_owned()),
                _ => return None,
            }
        }
        selectors.sort_unstable();
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_plain(&version) || !version_match.as_deref().is_none_or(is_plain) {
            return None;
        }
        let position = if list {
            let version_match = version_match.map(|it| format!("&resourceVersionMatch={it}")).unwrap_or_default();
            Position::List(format!("sendInitialEvents=true&resourceVersion={version}{version_match}"))
        } else if matches!(&*version, "" | "0") {
            Position::Synthetic(format!("resourceVersion={version}"))
        } else {
            Position::After(version.parse().ok()?)
        };
        let stream = Stream { path: path.to_owned(), selectors, accept: accept(headers)? };
        Some(GuestWatch { stream, position, takes_bookmarks })
    }
}

impl Stream {
    /// Path and query of the request that begins at `position` and lasts `seconds`, with bookmarks.
    pub fn request(&self, position: &Position, seconds: u32) -> String {
        let begin = match position {
            Position::After(version) => format!("resourceVersion={version}"),
            Position::Synthetic(parameters) | Position::List(parameters) => parameters.clone(),
        };
        let Stream { path, selectors, .. } = self;
        let selectors: String = selectors.iter().flat_map(|selector| [selector, "&"]).collect();
        format!("{path}?{selectors}watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}&{begin}")
    }

    /// For people: the path with its selectors.
    pub fn resource(&self) -> String {
        match &self.selectors[..] {
            [] => self.path.clone(),
            selectors => format!("{}?{}", self.path, selectors.join("&")),
        }
    }
}

/// The first media type of JSON that the guest takes. `None`: it takes none, or a form of it that is not known here.
fn accept(headers: &str) -> Option<String> {
    let values = headers.lines().filter_map(|line| line.split_once(':'));
    let values = values.filter(|(name, _)| name.trim().eq_ignore_ascii_case("accept"));
    let ranges: Vec<&str> = values.flat_map(|(_, value)| value.split(',')).map(str::trim).collect();
    if ranges.iter().all(|range| range.is_empty()) {
        return Some("application/json".into());
    }
    ranges.into_iter().find_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        if !matches!(parts.next()?, "application/json" | "application/*" | "*/*") {
            return None;
        }
        let form: Vec<&str> = parts.filter(|part| ["as=", "g=", "v="].iter().any(|it| part.starts_with(it))).collect();
        match form[..] {
            [] => Some("application/json".into()),
            _ if form.contains(&"as=PartialObjectMetadata") => Some(format!("application/json;{}", form.join(";"))),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/apis/demo.wasmop.dev/v1/websites";

    fn read(query: &str, accept: &str) -> Option<GuestWatch> {
        GuestWatch::of("GET", &format!("{PATH}?{query}"), &format!("Accept: {accept}\n"))
    }

    #[test]
    fn watches_of_the_common_clients_are_kept_up() {
        let table = [
            // kube-rs
            (
                "&watch=true&timeoutSeconds=290&allowWatchBookmarks=true&resourceVersion=12",
                Position::After(12),
                true,
                "resourceVersion=12",
            ),
            // client-go: a streamed list, and a watch after it
            (
                "allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&sendInitialEvents=true\
                 &timeout=7m11s&timeoutSeconds=431&watch=true",
                Position::List("sendInitialEvents=true&resourceVersion=&resourceVersionMatch=NotOlderThan".into()),
                true,
                "sendInitialEvents=true&resourceVersion=&resourceVersionMatch=NotOlderThan",
            ),
            (
                "allowWatchBookmarks=true&resourceVersion=77&timeout=7m31s&timeoutSeconds=451&watch=true",
                Position::After(77),
                true,
                "resourceVersion=77",
            ),
            ("watch=1", Position::Synthetic("resourceVersion=".into()), false, "resourceVersion="),
            ("watch=1&resourceVersion=0", Position::Synthetic("resourceVersion=0".into()), false, "resourceVersion=0"),
        ];
        for (query, position, takes_bookmarks, begin) in table {
            let found = read(query, "application/json").unwrap_or_else(|| panic!("{query}"));
            assert_eq!((&found.position, found.takes_bookmarks), (&position, takes_bookmarks), "{query}");
            assert_eq!(
                found.stream.request(&found.position, 300),
                format!("{PATH}?watch=true&allowWatchBookmarks=true&timeoutSeconds=300&{begin}"),
            );
        }
    }

    #[test]
    fn watches_with_equal_selectors_are_equal() {
        let stream = |query: &str| read(query, "*/*").unwrap().stream;
        let one = stream("watch=true&labelSelector=app%3Dx&fieldSelector=metadata.name%3Dn&resourceVersion=1");
        assert_eq!(one, stream("resourceVersion=9&fieldSelector=metadata.name%3Dn&labelSelector=app%3Dx&watch=1"));
        assert_ne!(one, stream("watch=true&labelSelector=app%3Dx"));
        assert_ne!(one, stream("watch=true&labelSelector=app%3Dy&fieldSelector=metadata.name%3Dn"));
        assert_eq!(
            one.request(&Position::After(5), 60),
            format!(
                "{PATH}?fieldSelector=metadata.name%3Dn&labelSelector=app%3Dx&watch=true&allowWatchBookmarks=true\
                 &timeoutSeconds=60&resourceVersion=5"
            )
        );
        assert_eq!(one.resource(), format!("{PATH}?fieldSelector=metadata.name%3Dn&labelSelector=app%3Dx"));
        assert_eq!(stream("watch=true").resource(), PATH);
    }

    #[test]
    fn other_requests_are_passed_on() {
        assert_eq!(GuestWatch::of("GET", PATH, ""), None);
        assert_eq!(GuestWatch::of("POST", &format!("{PATH}?watch=true"), ""), None);
        assert_eq!(GuestWatch::of("GET", "/api/v1/namespaces/a/pods/b/log?follow=true", ""), None);
        for query in [
            "watch=false",
            "limit=500",
            "watch=true&resourceVersion=abc",
            "watch=true&resourceVersion=1%262",
            "watch=true&sendInitialEvents=true&resourceVersionMatch=a%20b",
            "watch=true&unknown=1",
            "watch=true&continue=abc",
        ] {
            assert_eq!(read(query, "application/json"), None, "{query}");
        }
    }

    #[test]
    fn json_is_chosen_from_what_the_guest_takes() {
        let metadata = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        for (accept, expected) in [
            ("", Some("application/json")),
            ("*/*", Some("application/json")),
            ("application/json, */*", Some("application/json")),
            ("application/json;stream=watch", Some("application/json")),
            ("application/vnd.kubernetes.protobuf, */*", Some("application/json")),
            ("application/vnd.kubernetes.protobuf,application/json;q=0.9", Some("application/json")),
            (metadata, Some(metadata)),
            (
                &format!("application/vnd.kubernetes.protobuf;as=PartialObjectMetadata,{metadata},application/json"),
                Some(metadata),
            ),
            ("application/vnd.kubernetes.protobuf", None),
            ("application/json;as=Table;g=meta.k8s.io;v=v1", None),
            ("application/yaml", None),
        ] {
            let found = read("watch=true", accept).map(|watch| watch.stream.accept);
            assert_eq!(found.as_deref(), expected, "{accept}");
        }
    }
}
