//! Chooses the proxy to the API server by the rules of Go's `net/http`, as kubectl does.
//!
//! kube applies `NO_PROXY` to the proxy's address instead of the server's, and also to `proxy-url`; client-go does
//! neither.

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;

/// A proxy with a malformed URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the proxy {url:?} from {source_name} cannot be used: {problem}")]
pub struct ProxyError {
    url: String,
    source_name: &'static str,
    problem: &'static str,
}

/// The proxy for `server`, if there is one. `configured` is `proxy-url` of the kubeconfig, which takes precedence over
/// the environment and is exempt from `NO_PROXY`. `env` looks an environment variable up.
///
/// # Errors
/// The proxy's URL is malformed or has another scheme than http, https and socks5.
pub fn for_server(
    configured: Option<&str>,
    env: impl Fn(&str) -> Option<String>,
    server: &Uri,
) -> Result<Option<Uri>, ProxyError> {
    if let Some(url) = configured {
        return parse(url, "proxy-url").map(Some);
    }
    let any = |names: [&'static str; 2]| {
        let set = |name: &'static str| env(name).filter(|value| !value.is_empty()).map(|value| (name, value));
        names.into_iter().find_map(set)
    };
    let names =
        if server.scheme_str() == Some("http") { ["HTTP_PROXY", "http_proxy"] } else { ["HTTPS_PROXY", "https_proxy"] };
    let Some((name, url)) = any(names) else { return Ok(None) };
    let exceptions = any(["NO_PROXY", "no_proxy"]).map(|(_, value)| value).unwrap_or_default();
    if is_direct(server, &exceptions) {
        return Ok(None);
    }
    let url = if url.contains("://") { url } else { format!("http://{url}") };
    parse(&url, name).map(Some)
}

fn parse(url: &str, source_name: &'static str) -> Result<Uri, ProxyError> {
    let fail = |problem| ProxyError { url: without_password(url), source_name, problem };
    let uri: Uri = url.parse().map_err(|_| fail("it is not a URL"))?;
    match uri.scheme_str() {
        Some("http" | "https" | "socks5") if uri.host().is_some_and(|host| !host.is_empty()) => Ok(uri),
        Some("http" | "https" | "socks5") => Err(fail("it has no host")),
        _ => Err(fail("its scheme is not one of http, https and socks5")),
    }
}

fn without_password(url: &str) -> String {
    match url.split_once('@') {
        Some((before, after)) => {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            format!("{scheme}://...@{after}")
        }
        None => url.to_owned(),
    }
}

/// Whether the environment's proxies do not apply to this server: it is on loopback or in `NO_PROXY`.
fn is_direct(server: &Uri, exceptions: &str) -> bool {
    let host = server.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_loopback = host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if is_loopback || host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let port = server.port_u16().unwrap_or(if server.scheme_str() == Some("http") { 80 } else { 443 });
    // The matcher does not support ports, and matches the domain itself for an entry with a leading dot.
    let for_port = |entry: &str| {
        let entry = entry.trim();
        match entry.rsplit_once(':').and_then(|(name, number)| Some((name, number.parse::<u16>().ok()?))) {
            Some((name, number)) if !name.contains(':') || name.ends_with(']') => {
                (number == port).then(|| name.trim_matches(['[', ']']).to_owned())
            }
            _ => Some(entry.trim_matches(['[', ']']).to_owned()),
        }
    };
    let is_own_dot = |entry: &String| entry.strip_prefix('.').is_some_and(|name| name.eq_ignore_ascii_case(host));
    let entries: Vec<String> = exceptions.split(',').filter_map(for_port).filter(|entry| !is_own_dot(entry)).collect();
    let matcher = Matcher::builder().all("http://proxy").no(entries.join(",")).build();
    matcher.intercept(server).is_none()
}

/// User and password in a proxy's URL, percent-decoded.
pub fn user_and_password(proxy: &Uri) -> Option<(String, String)> {
    let matcher =
        Matcher::builder().all(proxy.to_string().replacen("https:", "socks5:", 1).replacen("http:", "socks5:", 1));
    let server = Uri::from_static("https://server");
    let intercept = matcher.build().intercept(&server)?;
    intercept.raw_auth().map(|(user, password)| (user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(server: &str, configured: Option<&str>, env: &[(&str, &str)]) -> Result<Option<String>, String> {
        let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let chosen = for_server(configured, env, &server.parse().unwrap());
        chosen.map(|uri| uri.map(|uri| uri.to_string())).map_err(|error| error.to_string())
    }

    #[test]
    fn proxy_is_chosen_as_by_kubectl() {
        let far = "https://api.example.com:6443";
        let proxy = ("HTTPS_PROXY", "http://p:3128");
        /// Server, `proxy-url`, environment, proxy.
        type Row<'a> = (&'a str, Option<&'a str>, &'a [(&'a str, &'a str)], Option<&'a str>);
        let table: &[Row<'_>] = &[
            (far, None, &[], None),
            (far, None, &[proxy], Some("http://p:3128/")),
            (far, None, &[("https_proxy", "p:3128")], Some("http://p:3128/")),
            (far, None, &[("HTTPS_PROXY", ""), ("https_proxy", "q:1")], Some("http://q:1/")),
            (far, None, &[("HTTP_PROXY", "http://p:3128")], None),
            ("http://api.example.com", None, &[("HTTP_PROXY", "p:1"), proxy], Some("http://p:1/")),
            (far, Some("socks5://s:1080"), &[proxy], Some("socks5://s:1080/")),
            (far, Some("https://s"), &[proxy, ("NO_PROXY", "*")], Some("https://s/")),
            ("https://127.0.0.1:6443", None, &[proxy], None),
            ("https://[::1]:6443", None, &[proxy], None),
            ("https://localhost:6443", None, &[proxy], None),
            ("https://127.0.0.1:6443", Some("http://p:3128"), &[], Some("http://p:3128/")),
            (far, None, &[proxy, ("NO_PROXY", "*")], None),
            (far, None, &[proxy, ("NO_PROXY", "a.test, example.com")], None),
            (far, None, &[proxy, ("no_proxy", ".example.com")], None),
            (far, None, &[proxy, ("NO_PROXY", ".api.example.com")], Some("http://p:3128/")),
            (far, None, &[proxy, ("NO_PROXY", "example.com:6443")], None),
            (far, None, &[proxy, ("NO_PROXY", "example.com:443")], Some("http://p:3128/")),
            (far, None, &[proxy, ("NO_PROXY", "ample.com")], Some("http://p:3128/")),
            ("https://10.0.0.1", None, &[proxy, ("NO_PROXY", "10.0.0.0/8")], None),
            ("https://10.0.0.1", None, &[proxy, ("NO_PROXY", "10.0.0.1:443")], None),
            ("https://10.0.0.1", None, &[proxy, ("NO_PROXY", "10.0.0.2,,")], Some("http://p:3128/")),
            ("https://[fd00::1]", None, &[proxy, ("NO_PROXY", "fd00::/8")], None),
            ("https://[fd00::1]", None, &[proxy, ("NO_PROXY", "[fd00::1]:443")], None),
        ];
        for (server, configured, env, expected) in table {
            let chosen = choose(server, *configured, env);
            assert_eq!(chosen, Ok(expected.map(Into::into)), "{server} {configured:?} {env:?}");
        }
    }

    #[test]
    fn invalid_proxy_is_named_without_its_password() {
        let refused = |url| choose("https://a.test", Some(url), &[]).unwrap_err();
        for url in ["p:3128", "ftp://p", "http://", "socks4://p", "::", "/p"] {
            let error = refused(url);
            assert!(error.contains(&format!("{url:?}")) && error.contains("proxy-url"), "{error}");
        }
        let error = refused("ftp://user:secret@p");
        assert!(!error.contains("secret") && error.contains("ftp://...@p"), "{error}");
        let error = choose("https://a.test", None, &[("HTTPS_PROXY", "gopher://p")]).unwrap_err();
        assert!(error.contains("HTTPS_PROXY"), "{error}");
    }

    #[test]
    fn proxy_user_and_password_are_decoded() {
        let of = |url: &str| user_and_password(&url.parse().unwrap());
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        for scheme in ["http", "https", "socks5"] {
            assert_eq!(of(&format!("{scheme}://u:p%40ss@h:1")), pair("u", "p@ss"));
            assert_eq!(of(&format!("{scheme}://u@h:1")), pair("u", ""));
            assert_eq!(of(&format!("{scheme}://h:1")), None);
        }
    }
}
