//! Header lines, `name: value\n`, to and from [`http::HeaderMap`].

use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

/// The lines of those request headers that the host sends on to the API server.
pub fn to_lines(headers: &HeaderMap) -> String {
    let mut lines = String::new();
    for name in [ACCEPT, CONTENT_TYPE] {
        if let Some(value) = headers.get(&name).and_then(|value| value.to_str().ok()) {
            lines.push_str(name.as_str());
            lines.push_str(": ");
            lines.push_str(value);
            lines.push('\n');
        }
    }
    lines
}

/// The lines of all headers; the name of one whose value is not text, if there is one.
pub fn all_to_lines(headers: &HeaderMap) -> Result<String, HeaderName> {
    let mut lines = String::new();
    for (name, value) in headers {
        let value = value.to_str().map_err(|_| name.clone())?;
        lines.push_str(name.as_str());
        lines.push_str(": ");
        lines.push_str(value);
        lines.push('\n');
    }
    Ok(lines)
}

/// The headers of a response. A line that is not a header is left out: the host filters them, and
/// none of them is worth failing a reconcile for.
pub fn from_lines(lines: &str) -> HeaderMap {
    lines
        .lines()
        .filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
            let value = HeaderValue::from_str(value.trim()).ok()?;
            Some((name, value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_headers_that_the_host_sends_on_are_given_to_it() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("secret"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("a/b;q=1"));
        assert_eq!(to_lines(&headers), "accept: a/b;q=1\ncontent-type: application/json\n");
        assert_eq!(to_lines(&HeaderMap::new()), "");
        let all = "authorization: secret\ncontent-type: application/json\naccept: a/b;q=1\n";
        assert_eq!(all_to_lines(&headers).as_deref(), Ok(all));
        headers.insert("x-a", HeaderValue::from_bytes(&[0xff]).expect("opaque"));
        assert_eq!(all_to_lines(&headers), Err(HeaderName::from_static("x-a")));
    }

    #[test]
    fn lines_become_headers_and_others_are_left_out() {
        let headers =
            from_lines("Content-Type: application/json\nwarning: 299 - \"a: b\"\nnonsense\nbad name: x\nwarning: 2\n");
        assert_eq!(headers[CONTENT_TYPE], "application/json");
        let warnings: Vec<_> = headers.get_all("warning").iter().collect();
        assert_eq!(warnings, ["299 - \"a: b\"", "2"]);
        assert_eq!(headers.len(), 3);
    }
}
