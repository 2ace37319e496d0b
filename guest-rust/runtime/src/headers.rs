//! Converts between [`http::HeaderMap`] and lines of `name: value\n`.

use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

/// Returns the lines of the request headers that the host forwards to the API server.
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

/// Returns the lines of all headers.
///
/// # Errors
///
/// Returns the name of a header whose value is not visible ASCII.
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

/// Parses the headers of a response.
///
/// Skips invalid lines: the host filters headers already, and an invalid header is no reason to fail a reconcile.
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
    fn requests_to_the_api_server_carry_accept_and_content_type_only() {
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
    fn invalid_lines_are_skipped() {
        let headers =
            from_lines("Content-Type: application/json\nwarning: 299 - \"a: b\"\nnonsense\nbad name: x\nwarning: 2\n");
        assert_eq!(headers[CONTENT_TYPE], "application/json");
        let warnings: Vec<_> = headers.get_all("warning").iter().collect();
        assert_eq!(warnings, ["299 - \"a: b\"", "2"]);
        assert_eq!(headers.len(), 3);
    }
}
