//! External hosts: the target of a request, and the patterns of manifests and grants.
//!
//! Both have the form `SCHEME://HOST[:PORT]`. Ambiguous input is refused rather than normalized, such as a host that
//! ends in a dot, an address in an unusual notation, or non-ASCII letters.
//!
//! ```
//! use wasmop_package::external::{ExternalTarget, HostPattern};
//!
//! let pattern: HostPattern = "https://*.example.org:8443".parse()?;
//! let target: ExternalTarget = "https://api.example.org:8443".parse()?;
//! assert!(pattern.covers(&target));
//! # Ok::<(), wasmop_package::external::ExternalHostError>(())
//! ```

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const MAX_NAME_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;
/// Errors quote at most this many characters of the input.
const EXCERPT_CHARS: usize = 100;

/// The protocol of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// Unencrypted; default port 80.
    Http,
    /// TLS; default port 443.
    Https,
}

impl Scheme {
    /// Returns `http` or `https`.
    pub const fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    const fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// The host of a target.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ExternalHost {
    /// A DNS name in lower case that no resolver mistakes for an address.
    Name(Box<str>),
    /// An IP address. IPv4-mapped IPv6 addresses are represented as IPv4.
    Address(IpAddr),
}

/// The target of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExternalTarget {
    /// The protocol.
    pub scheme: Scheme,
    /// The name or address.
    pub host: ExternalHost,
    /// The TCP port.
    pub port: u16,
}

/// The external hosts that a package requests or an owner grants.
///
/// A pattern covers one [`ExternalTarget`]. With `*.` before the name, it covers all names with one more label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPattern {
    /// The target without the wildcard.
    target: ExternalTarget,
    wildcard: bool,
}

/// Why a text is neither a target nor a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a valid external host: {problem}\n\
     help: write it like `https://api.example.com`, `https://*.example.org:8443` or `http://192.0.2.7:9000`"
)]
pub struct ExternalHostError {
    text: String,
    problem: &'static str,
}

impl ExternalTarget {
    fn read(text: &str) -> Result<ExternalTarget, &'static str> {
        let (scheme, authority) = match text.split_once("://") {
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(("http", rest)) => (Scheme::Http, rest),
            _ => return Err("it does not begin with `https://` or `http://`"),
        };
        if authority.contains('@') {
            return Err("it must not contain a user or password");
        }
        if authority.contains(['/', '\\', '?', '#']) {
            return Err("nothing may follow the host and port");
        }
        let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
            let (address, rest) = rest.split_once(']').ok_or("the `]` is missing")?;
            let address: Ipv6Addr = address.parse().map_err(|_| "the brackets do not contain an IPv6 address")?;
            let port = match rest {
                "" => None,
                rest => Some(rest.strip_prefix(':').ok_or("only a port may follow the `]`")?),
            };
            (ExternalHost::Address(canonical(address.into())), port)
        } else {
            let (host, port) = match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            };
            (ExternalHost::read(host)?, port)
        };
        let port = port.map_or(Ok(scheme.default_port()), read_port)?;
        Ok(ExternalTarget { scheme, host, port })
    }
}

fn read_port(text: &str) -> Result<u16, &'static str> {
    let is_plain = !text.is_empty() && !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain).ok_or("the port is not a number from 1 to 65535")
}

/// Converts an IPv4-mapped IPv6 address to IPv4. Returns other addresses unchanged.
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

impl ExternalHost {
    fn read(text: &str) -> Result<ExternalHost, &'static str> {
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(ExternalHost::Address(address.into()));
        }
        if !text.is_ascii() {
            return Err("it has non-ASCII letters; write an international name in its `xn--` form");
        }
        let name = text.to_ascii_lowercase();
        let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_label = |label: &str| {
            (1..=MAX_LABEL_BYTES).contains(&label.len())
                && label.bytes().all(is_inner)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if name.len() > MAX_NAME_BYTES || !name.split('.').all(is_label) {
            return Err("it has neither a DNS name nor an address");
        }
        // `127.1`, `0x7f000001` and `2130706433` are addresses to some resolvers.
        let last = name.rsplit('.').next().unwrap_or_default();
        let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        let is_hex = |label: &str| {
            label.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
        };
        if is_number(last) || is_hex(last) {
            return Err("an IPv4 address is four numbers without leading zeros");
        }
        Ok(ExternalHost::Name(name.into()))
    }
}

impl FromStr for ExternalTarget {
    type Err = ExternalHostError;

    fn from_str(text: &str) -> Result<ExternalTarget, ExternalHostError> {
        ExternalTarget::read(text).map_err(|problem| bad(text, problem))
    }
}

fn bad(text: &str, problem: &'static str) -> ExternalHostError {
    ExternalHostError { text: text.chars().take(EXCERPT_CHARS).collect(), problem }
}

impl FromStr for HostPattern {
    type Err = ExternalHostError;

    /// Parses a pattern. The scheme defaults to `https`.
    fn from_str(text: &str) -> Result<HostPattern, ExternalHostError> {
        let bad = |problem| bad(text, problem);
        let (scheme, rest) = text.split_once("://").unwrap_or(("https", text));
        let stripped = rest.strip_prefix("*.");
        let target = ExternalTarget::read(&format!("{scheme}://{}", stripped.unwrap_or(rest))).map_err(bad)?;
        let wildcard = stripped.is_some();
        if wildcard {
            match &target.host {
                ExternalHost::Name(name) if name.contains('.') => {}
                ExternalHost::Name(_) => return Err(bad("a `*.` requires a name with at least two labels after it")),
                ExternalHost::Address(_) => return Err(bad("a `*.` is not allowed before an address")),
            }
        }
        Ok(HostPattern { target, wildcard })
    }
}

impl HostPattern {
    /// Returns whether the pattern covers `target`.
    pub fn covers(&self, target: &ExternalTarget) -> bool {
        if (self.target.scheme, self.target.port) != (target.scheme, target.port) {
            return false;
        }
        match (&self.target.host, &target.host) {
            (ExternalHost::Name(of), ExternalHost::Name(name)) if self.wildcard => {
                name.split_once('.').is_some_and(|(_, parent)| parent == &**of)
            }
            (of, host) => !self.wildcard && of == host,
        }
    }

    /// Returns the address of the pattern, or `None` if the pattern has a name.
    pub fn address(&self) -> Option<IpAddr> {
        match &self.target.host {
            ExternalHost::Address(address) => Some(*address),
            ExternalHost::Name(_) => None,
        }
    }
}

impl From<ExternalTarget> for HostPattern {
    /// Returns the pattern that covers only `target`.
    fn from(target: ExternalTarget) -> HostPattern {
        HostPattern { target, wildcard: false }
    }
}

impl TryFrom<String> for HostPattern {
    type Error = ExternalHostError;

    fn try_from(text: String) -> Result<HostPattern, ExternalHostError> {
        text.parse()
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> String {
        pattern.to_string()
    }
}

impl fmt::Display for ExternalHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExternalHost::Name(name) => f.write_str(name),
            ExternalHost::Address(IpAddr::V4(address)) => address.fmt(f),
            ExternalHost::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl ExternalTarget {
    /// Returns `HOST[:PORT]` as in the `host` header, without the scheme's default port.
    pub fn authority(&self) -> String {
        match self.port {
            port if port == self.scheme.default_port() => self.host.to_string(),
            port => format!("{}:{port}", self.host),
        }
    }
}

/// The normal form: lower case, without the scheme's default port.
impl fmt::Display for ExternalTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.authority())
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wildcard = if self.wildcard { "*." } else { "" };
        write!(f, "{}://{wildcard}{}", self.target.scheme.name(), self.target.authority())
    }
}

/// The former names.
#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_target_is_scheme_host_and_port_in_one_normal_form() {
        for (text, normal) in [
            ("https://api.example.com", "https://api.example.com"),
            ("https://API.Example.COM", "https://api.example.com"),
            ("https://api.example.com:443", "https://api.example.com"),
            ("https://api.example.com:80", "https://api.example.com:80"),
            ("http://api.example.com:80", "http://api.example.com"),
            ("http://localhost:65535", "http://localhost:65535"),
            ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
            ("http://10.0.0.7:9000", "http://10.0.0.7:9000"),
            ("http://[::1]:9000", "http://[::1]:9000"),
            ("https://[2001:DB8:0::1]", "https://[2001:db8::1]"),
            // IPv4-mapped IPv6 addresses.
            ("http://[::ffff:127.0.0.1]", "http://127.0.0.1"),
            ("http://[::ffff:7f00:1]", "http://127.0.0.1"),
            ("https://0x7f.example.com", "https://0x7f.example.com"),
        ] {
            assert_eq!(text.parse::<ExternalTarget>().map(|target| target.to_string()), Ok(normal.into()), "{text}");
        }
    }

    #[test]
    fn ambiguous_targets_are_refused() {
        let long_label = format!("https://{}.com", "a".repeat(64));
        let long_name = format!("https://{}com", "abc.".repeat(63));
        for text in [
            "",
            "api.example.com",
            "//api.example.com",
            "https:/api.example.com",
            "https:api.example.com",
            "HTTPS://api.example.com",
            "ftp://api.example.com",
            "javascript://api.example.com",
            " https://api.example.com",
            "https://api.example.com ",
            "https://",
            "https://:443",
            "https://api.example.com/",
            "https://api.example.com//evil.example",
            "https://api.example.com?x",
            "https://api.example.com#@evil.example",
            "https://api.example.com\\@evil.example",
            "https://user@api.example.com",
            "https://user:password@api.example.com",
            "https://api.example.com@evil.example",
            "https://api.example.com%40evil.example",
            "https://api.example.com%00.evil.example",
            "https://api.example.com\0",
            "https://api.example.com\r\nhost: evil.example",
            "https://api.example.com\n",
            "https://api.example.com\t",
            "https://api.example.com.",
            "https://api..example.com",
            "https://.example.com",
            "https://-a.example.com",
            "https://a-.example.com",
            "https://a_b.example.com",
            "https://*.example.com",
            // Characters that Unicode normalization turns into others.
            "https://api\u{3002}example\u{ff0e}com",
            "https://\u{ff41}pi.example.com",
            "https://b\u{fc}cher.example",
            "https://ex\u{ad}ample.com",
            "https://127.0.0.1.",
            "https://127.1",
            "https://0",
            "https://2130706433",
            "https://0x7f000001",
            "https://0x7f.0.0.1",
            "https://0x7f.0.0.0x1",
            "https://0x",
            "https://0177.0.0.1",
            "https://127.0.0.01",
            "https://1.2.3.4.5",
            "https://256.0.0.1",
            "https://example.1",
            "https://::1",
            "https://[::1",
            "https://[::1]x",
            "https://[::1]:",
            "https://[fe80::1%eth0]",
            "https://[fe80::1%25eth0]",
            "https://[127.0.0.1]",
            "https://[]",
            "https://a.example:",
            "https://a.example:0",
            "https://a.example:00443",
            "https://a.example:+443",
            "https://a.example:65536",
            "https://a.example:443:443",
            "https://a.example:44 3",
            "https://a.example:\u{664}\u{664}\u{663}",
            &long_label,
            &long_name,
        ] {
            let error = text.parse::<ExternalTarget>().expect_err(text).to_string();
            assert!(error.contains("is not a valid external host") && error.contains("\nhelp: "), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_pattern_covers_its_scheme_host_and_port() {
        for (pattern, target, covers) in [
            ("https://api.example.com", "https://api.example.com", true),
            ("api.example.com", "https://api.example.com:443", true),
            ("api.example.com:8443", "https://api.example.com:8443", true),
            ("API.example.com", "https://api.EXAMPLE.com", true),
            ("api.example.com", "http://api.example.com", false),
            ("api.example.com", "http://api.example.com:443", false),
            ("http://api.example.com", "https://api.example.com", false),
            ("https://api.example.com", "https://api.example.com:8443", false),
            ("https://api.example.com", "https://api.example.com.evil.example", false),
            ("https://api.example.com", "https://xapi.example.com", false),
            ("https://api.example.com", "https://a.api.example.com", false),
            ("https://*.example.org:8443", "https://a.example.org:8443", true),
            ("https://*.example.org:8443", "https://a.example.org", false),
            ("https://*.example.org", "https://a.b.example.org", false),
            ("https://*.example.org", "https://example.org", false),
            ("https://*.example.org", "https://aexample.org", false),
            ("https://*.example.org", "https://a.example.org.evil.example", false),
            ("http://10.0.0.7:9000", "http://10.0.0.7:9000", true),
            ("http://10.0.0.7:9000", "http://[::ffff:10.0.0.7]:9000", true),
            ("http://10.0.0.7:9000", "http://10.0.0.8:9000", false),
            ("http://[::1]", "http://[0:0::1]:80", true),
            ("http://localhost", "http://127.0.0.1", false),
        ] {
            let covered = pattern.parse::<HostPattern>().unwrap().covers(&target.parse().unwrap());
            assert_eq!(covered, covers, "{pattern} and {target}");
        }
    }

    #[test]
    fn a_wildcard_stands_for_one_label_before_at_least_two() {
        for (text, why) in [
            ("*", "neither a DNS name nor an address"),
            ("*.com", "two labels"),
            ("https://*.", "neither"),
            ("https://*.*.example.com", "neither"),
            ("https://a.*.example.com", "neither"),
            ("https://a*.example.com", "neither"),
            ("https://*example.com", "neither"),
            ("https://*.10.0.0.7", "before an address"),
            ("https://*.[::1]", "before an address"),
            ("*://api.example.com", "does not begin"),
            ("https://api.example.com:*", "port"),
            ("https://api.example.com/v1", "nothing may follow"),
            ("", "neither"),
        ] {
            let error = text.parse::<HostPattern>().expect_err(text).to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn the_normal_form_round_trips(text in "(http|https)://[a-zA-Z0-9.:\\[\\]*-]{1,24}") {
            if let Ok(target) = text.parse::<ExternalTarget>() {
                prop_assert_eq!(target.to_string().parse(), Ok(target.clone()));
                prop_assert!(HostPattern::from(target.clone()).covers(&target));
            }
            if let Ok(pattern) = text.parse::<HostPattern>() {
                prop_assert_eq!(pattern.to_string().parse(), Ok(pattern));
            }
        }

        #[test]
        fn parsing_does_not_panic(text in any::<String>(), host in "[0-9a-fx.:@/\\[\\]\u{3002}-]*") {
            let _ = (text.parse::<ExternalTarget>(), text.parse::<HostPattern>());
            let _ = (format!("https://{host}").parse::<ExternalTarget>(), host.parse::<HostPattern>());
        }
    }
}
