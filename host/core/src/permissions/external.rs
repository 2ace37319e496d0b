//! Decides whether a controller may make a request to a host other than the API server, and which addresses the
//! connection may lead to.
//!
//! The name is granted, but whoever runs its DNS says what it leads to. So an address is looked at again when it is
//! connected to: a public one is allowed, the machine's own, the cluster's or the cloud's only if the owner of the
//! host named it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use wasmop_package::external::{ExternalHost, ExternalHostError, ExternalTarget, HostPattern, canonical};

use super::rules::list;

/// What an owner grants of the external hosts that a package asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExternalGrant {
    /// `None`: all of them.
    pub hosts: Option<Arc<[HostPattern]>>,
    /// Addresses that are not public and that granted names may lead to all the same.
    pub private_addresses: Arc<[IpNet]>,
}

/// The external hosts of a controller.
#[derive(Clone, Debug, Default)]
pub(super) struct External {
    /// By the manifest of its package.
    pub(super) asked: Arc<[HostPattern]>,
    pub(super) granted: ExternalGrant,
}

/// A target that is granted, and what its name may lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    pub target: ExternalTarget,
    pub reach: Reach,
}

/// Addresses that a connection may lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Whichever the target names: the owner wrote down this very address.
    Named,
    /// Public ones, and these.
    Public { and: Arc<[IpNet]> },
}

/// A target that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExternalDenied {
    #[error("no permission to contact {0}")]
    NotAsked(ExternalTarget),
    /// The package asks for it, and its owner does not grant it.
    #[error("not granted to contact {0}")]
    NotGranted(ExternalTarget),
    #[error(transparent)]
    Malformed(ExternalHostError),
}

impl ExternalDenied {
    /// How to allow it to the controller of this name.
    pub fn help(&self, controller: &str) -> String {
        let line = |target: &ExternalTarget| format!("external-hosts = [{}]", list(&[target.to_string()]));
        match self {
            ExternalDenied::NotAsked(target) => {
                format!("to allow it, add to the top of wasmop.toml and build again:\n{}", line(target))
            }
            ExternalDenied::NotGranted(target) => {
                let line = line(target);
                format!("the package asks for it; to grant it, add under [controllers.{controller}]:\n{line}")
            }
            ExternalDenied::Malformed(_) => "name a scheme, a host and a port if it is not the usual one".into(),
        }
    }

    /// Without the remedy, which is for people.
    pub fn problem(&self) -> String {
        let text = self.to_string();
        text.split_once("\nhelp: ").map_or(text.clone(), |(problem, _)| problem.into())
    }
}

impl External {
    pub(super) fn check(&self, target: &str) -> Result<Contact, ExternalDenied> {
        let target: ExternalTarget = target.parse().map_err(ExternalDenied::Malformed)?;
        let covers = |patterns: &[HostPattern]| patterns.iter().any(|pattern| pattern.covers(&target));
        if !covers(&self.asked) {
            return Err(ExternalDenied::NotAsked(target));
        }
        match &self.granted.hosts {
            Some(granted) if !covers(granted) => Err(ExternalDenied::NotGranted(target)),
            _ => Ok(self.contact(target)),
        }
    }

    pub(super) fn contact(&self, target: ExternalTarget) -> Contact {
        let is_named = matches!(target.host, ExternalHost::Address(_))
            && self.granted.hosts.iter().flat_map(|hosts| hosts.iter()).any(|pattern| pattern.covers(&target));
        let and = self.granted.private_addresses.clone();
        let reach = if is_named { Reach::Named } else { Reach::Public { and } };
        Contact { target, reach }
    }
}

impl Reach {
    /// `api_server`: where requests go that carry the host's credentials; never by another name.
    pub fn allows(&self, address: SocketAddr, api_server: &[SocketAddr]) -> bool {
        let ip = canonical(address.ip());
        match self {
            Reach::Named => true,
            Reach::Public { and } => {
                let is_api_server = api_server.iter().any(|a| canonical(a.ip()) == ip && a.port() == address.port());
                !is_api_server && (is_public(ip) || and.iter().any(|net| net.contains(&ip)))
            }
        }
    }
}

/// Whether anybody on the internet could be there: IANA's special-purpose registries, read to the safe side.
fn is_public(address: IpAddr) -> bool {
    match canonical(address) {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    // Multicast and reserved are from 224 on.
    let is_special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || matches!((a, b, c), (0 | 224.., ..) | (100, 64..=127, _) | (192, 0, 0) | (192, 88, 99) | (198, 18 | 19, _));
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // NAT64: what is behind it counts.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_public_v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))),
        // Documentation; 6to4 and Teredo, which lead to IPv4 addresses; other special purposes.
        [0x2001, 0xdb8, ..] | [0x2001, ..=0x1ff, ..] | [0x2002, ..] | [0x3fff, ..=0xfff, ..] => false,
        // All that is given out.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Arc<[HostPattern]> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn external(asked: &[&str], granted: Option<&[&str]>, private: &[&str]) -> External {
        let private_addresses = private.iter().map(|net| net.parse().unwrap()).collect();
        External { asked: patterns(asked), granted: ExternalGrant { hosts: granted.map(patterns), private_addresses } }
    }

    #[test]
    fn what_is_asked_for_and_granted_is_allowed_and_nothing_else() {
        const ASKED: &[&str] = &["https://api.example.com", "https://*.example.org:8443", "http://10.0.0.7:9000"];
        for (granted, target, expected) in [
            (None, "https://api.example.com", "yes"),
            (None, "https://API.example.com:443", "yes"),
            (None, "https://a.example.org:8443", "yes"),
            (None, "http://10.0.0.7:9000", "yes"),
            (None, "http://api.example.com", "not asked"),
            (None, "https://example.org:8443", "not asked"),
            (None, "http://10.0.0.7", "not asked"),
            (None, "https://evil.example", "not asked"),
            (None, "https://api.example.com.", "malformed"),
            (None, "https://api.example.com@evil.example", "malformed"),
            (Some(&["https://api.example.com"] as &[_]), "https://api.example.com", "yes"),
            (Some(&["https://api.example.com"]), "https://a.example.org:8443", "not granted"),
            (Some(&["https://a.example.org:8443"]), "https://a.example.org:8443", "yes"),
            (Some(&["https://a.example.org:8443"]), "https://b.example.org:8443", "not granted"),
            (Some(&["https://*.example.com"]), "https://api.example.com", "yes"),
            // A grant does not reach further than what is asked for.
            (Some(&["https://*.example.com"]), "https://b.example.com", "not asked"),
            (Some(&[]), "https://api.example.com", "not granted"),
        ] {
            let found = match external(ASKED, granted, &[]).check(target) {
                Ok(_) => "yes",
                Err(ExternalDenied::NotAsked(_)) => "not asked",
                Err(ExternalDenied::NotGranted(_)) => "not granted",
                Err(ExternalDenied::Malformed(_)) => "malformed",
            };
            assert_eq!(found, expected, "{granted:?} {target}");
        }
        assert!(External::default().check("https://api.example.com").is_err());
    }

    #[test]
    fn what_is_not_public_is_reached_only_where_the_owner_names_it() {
        const SERVER: &str = "10.0.0.1:6443";
        let name = "https://a.example";
        let ip = "https://10.0.0.1:6443";
        for (asked, granted, private, address, allowed) in [
            (name, None, &[] as &[&str], "93.184.216.34:443", true),
            (name, None, &[], "[2606:2800:220:1::1]:443", true),
            (name, None, &[], "127.0.0.1:443", false),
            (name, None, &[], "127.9.9.9:443", false),
            (name, None, &[], "[::1]:443", false),
            (name, None, &[], "[::]:443", false),
            (name, None, &[], "0.0.0.0:443", false),
            (name, None, &[], "0.1.2.3:443", false),
            (name, None, &[], "169.254.169.254:443", false),
            (name, None, &[], "[fe80::1]:443", false),
            (name, None, &[], "[fd00:ec2::254]:443", false),
            (name, None, &[], "10.96.0.1:443", false),
            (name, None, &[], "172.16.0.1:443", false),
            (name, None, &[], "172.32.0.1:443", true),
            (name, None, &[], "192.168.1.1:443", false),
            (name, None, &[], "100.64.0.1:443", false),
            (name, None, &[], "100.63.255.255:443", true),
            (name, None, &[], "192.0.0.170:443", false),
            (name, None, &[], "192.0.2.1:443", false),
            (name, None, &[], "198.18.0.1:443", false),
            (name, None, &[], "224.0.0.1:443", false),
            (name, None, &[], "255.255.255.255:443", false),
            // IPv4 in disguise.
            (name, None, &[], "[::ffff:127.0.0.1]:443", false),
            (name, None, &[], "[::127.0.0.1]:443", false),
            (name, None, &[], "[64:ff9b::7f00:1]:443", false),
            (name, None, &[], "[64:ff9b::5db8:d822]:443", true),
            (name, None, &[], "[64:ff9b:1::1]:443", false),
            (name, None, &[], "[2002:7f00:1::]:443", false),
            (name, None, &[], "[2001:0:1::]:443", false),
            (name, None, &[], "[2001:db8::1]:443", false),
            (name, None, &[], "[ff02::1]:443", false),
            // A range that the owner wrote down, whoever granted the name.
            (name, None, &["10.96.0.0/12"], "10.96.0.1:443", true),
            (name, Some(&[name] as &[_]), &["10.96.0.0/12"], "10.112.0.1:443", false),
            (name, None, &["127.0.0.0/8"], "[::ffff:127.0.0.1]:443", true),
            (name, None, &["10.0.0.0/8"], SERVER, false),
            (name, None, &["10.0.0.0/8"], "[::ffff:10.0.0.1]:6443", false),
            (name, None, &["10.0.0.0/8"], "10.0.0.1:443", true),
            (name, Some(&[name, ip]), &[], SERVER, false),
            // An address: what the package asks for is not what the owner wrote down.
            (ip, None, &[], SERVER, false),
            (ip, None, &["10.0.0.0/8"], SERVER, false),
            (ip, Some(&[ip]), &[], SERVER, true),
        ] {
            let contact = external(&[asked], granted, private).check(asked).unwrap();
            let found = contact.reach.allows(address.parse().unwrap(), &[SERVER.parse().unwrap()]);
            assert_eq!(found, allowed, "{asked} {granted:?} {private:?} {address}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_write_where() {
        let external = external(&["https://a.example"], Some(&[]), &[]);
        let help = |target| external.check(target).unwrap_err().help("web");
        assert!(help("https://b.example:443").ends_with("external-hosts = [\"https://b.example\"]"));
        assert!(help("https://b.example").contains("wasmop.toml"));
        assert!(help("https://a.example").contains("[controllers.web]:\nexternal-hosts"));
        let malformed = external.check("https://a.example/").unwrap_err();
        assert!(malformed.problem().contains("nothing may follow") && !malformed.problem().contains("help"));
    }
}
