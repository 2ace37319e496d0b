//! Decides whether a controller may contact an external host, and which addresses the connection may use.
//!
//! The owner grants a name, but its DNS decides the address. So each connection checks the address again. Public
//! addresses are allowed. Those of the machine, the cluster or the cloud are allowed only if the owner named them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use wasmop_package::external::{ExternalHost, ExternalHostError, ExternalTarget, HostPattern, canonical};

use super::rules::list;

/// External hosts that an owner grants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExternalGrant {
    /// Hosts; `None`: all that the package asks for.
    pub hosts: Option<Arc<[HostPattern]>>,
    /// Non-public addresses that granted names may resolve to.
    pub private_addresses: Arc<[IpNet]>,
}

/// The external hosts of a controller.
#[derive(Clone, Debug, Default)]
pub(super) struct External {
    /// Hosts in its package's manifest.
    pub(super) asked: Arc<[HostPattern]>,
    pub(super) granted: ExternalGrant,
}

/// A granted target and its allowed addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Scheme, host and port.
    pub target: ExternalTarget,
    /// Where a connection may lead.
    pub reach: Reach,
}

/// Addresses that a connection may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The address in the target, which the owner wrote down.
    Named,
    /// Public addresses, and the networks `and`.
    Public {
        /// Non-public networks that are allowed.
        and: Arc<[IpNet]>,
    },
}

/// A denied target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExternalDenied {
    /// The package does not ask for it.
    #[error("no permission to contact {0}")]
    NotAsked(ExternalTarget),
    /// The package asks for it, and its owner does not grant it.
    #[error("not granted to contact {0}")]
    NotGranted(ExternalTarget),
    /// It is no target.
    #[error(transparent)]
    Malformed(ExternalHostError),
}

impl ExternalDenied {
    /// How to allow the target to the controller of this name.
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
            ExternalDenied::Malformed(_) => "give a scheme, a host, and a port unless it is the default".into(),
        }
    }

    /// The error without its help, for guests.
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
    /// Whether a connection may use this address. `api_server`: addresses that get the host's credentials, which no
    /// other name may reach.
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

/// Whether the address is public, by IANA's special-purpose registries, read conservatively.
fn is_public(address: IpAddr) -> bool {
    match canonical(address) {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    // Multicast and reserved addresses start at 224.
    let is_special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || matches!((a, b, c), (0 | 224.., ..) | (100, 64..=127, _) | (192, 0, 0) | (192, 88, 99) | (198, 18 | 19, _));
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // NAT64: the embedded IPv4 address decides.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_public_v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))),
        // Documentation; 6to4 and Teredo, which lead to IPv4 addresses; other special purposes.
        [0x2001, 0xdb8, ..] | [0x2001, ..=0x1ff, ..] | [0x2002, ..] | [0x3fff, ..=0xfff, ..] => false,
        // Allocated unicast addresses.
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
    fn only_hosts_asked_for_and_granted_are_allowed() {
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
    fn non_public_addresses_need_to_be_named_by_the_owner() {
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
    fn a_denial_says_what_to_write_where() {
        let external = external(&["https://a.example"], Some(&[]), &[]);
        let help = |target| external.check(target).unwrap_err().help("web");
        assert!(help("https://b.example:443").ends_with("external-hosts = [\"https://b.example\"]"));
        assert!(help("https://b.example").contains("wasmop.toml"));
        assert!(help("https://a.example").contains("[controllers.web]:\nexternal-hosts"));
        let malformed = external.check("https://a.example/").unwrap_err();
        assert!(malformed.problem().contains("nothing may follow") && !malformed.problem().contains("help"));
    }
}
