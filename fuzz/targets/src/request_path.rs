//! Requests to the API server: the first line is `METHOD PATH`, then header lines, an empty line and the body.
//!
//! A path that the host parses differently from the API server would bypass the permissions.

use wasmop_package::manifest::PolicyRule;

use crate::host::permissions::{ApiRequest, Permissions, is_stream, parameters};

pub fn target(data: &[u8]) {
    let end = data.windows(2).position(|pair| pair == b"\n\n").unwrap_or(data.len());
    let (head, body) = data.split_at(end);
    let Ok(head) = std::str::from_utf8(head) else { return };
    let (request_line, headers) = head.split_once('\n').unwrap_or((head, ""));
    let (method, path_and_query) = request_line.split_once(' ').unwrap_or(("GET", request_line));
    let body = body.get(2..).unwrap_or_default();
    let request = ApiRequest { method, path_and_query, headers, body };

    let _ = (is_stream(method, path_and_query), parameters(path_and_query));
    for as_account in [false, true] {
        assert!(Permissions::new(Vec::new()).check_request(&request, as_account).is_err());
    }
    let get_pods = PolicyRule {
        api_groups: vec![String::new()],
        resources: vec!["pods".into()],
        verbs: vec!["get".into()],
        ..PolicyRule::default()
    };
    if let Ok(allowed) = Permissions::new(vec![get_pods]).check_request(&request, false) {
        assert_eq!((allowed.verb, &*allowed.group, &*allowed.resource), ("get", "", "pods"));
        assert!(allowed.subresource.is_empty() && method == "GET");
    }
    let everything = PolicyRule {
        api_groups: vec!["*".into()],
        resources: vec!["*".into()],
        verbs: vec!["*".into()],
        ..PolicyRule::default()
    };
    let everything = Permissions::new(vec![everything]);
    if let Ok(allowed) = everything.check_request(&request, false) {
        // Non-resource URLs and subresources that reach further than the object need a rule that names them.
        assert!(!allowed.resource.is_empty());
        assert!(!["exec", "attach", "portforward", "proxy"].contains(&&*allowed.subresource));
    }
}
