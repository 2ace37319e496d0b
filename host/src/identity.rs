//! As whom a controller's requests are made: a ServiceAccount that the host impersonates, and a user agent
//! of the controller's own.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use wasmop_package::manifest::is_dns_label;

/// How the host itself appears in the API server's audit log.
pub const HOST_USER_AGENT: &str = concat!("wasmop/", env!("CARGO_PKG_VERSION"));

const IMPERSONATE_USER: HeaderName = HeaderName::from_static("impersonate-user");
const IMPERSONATE_GROUP: HeaderName = HeaderName::from_static("impersonate-group");
/// As long as a Kubernetes name may be.
const MAX_NAME_BYTES: usize = 253;

/// A ServiceAccount of the cluster, by names that are well-formed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceAccount {
    namespace: Box<str>,
    name: Box<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a ServiceAccount\nhelp: write it as NAMESPACE/NAME, like `default/website`")]
pub struct NotAServiceAccount(String);

impl FromStr for ServiceAccount {
    type Err = NotAServiceAccount;

    /// Reads `NAMESPACE/NAME`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_name = |name: &str| name.len() <= MAX_NAME_BYTES && name.split('.').all(is_dns_label);
        match text.split_once('/') {
            Some((namespace, name)) if is_dns_label(namespace) && is_name(name) => {
                Ok(ServiceAccount { namespace: namespace.into(), name: name.into() })
            }
            _ => Err(NotAServiceAccount(text.chars().take(300).collect())),
        }
    }
}

/// As it is written in configuration: `NAMESPACE/NAME`.
impl fmt::Display for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl ServiceAccount {
    /// Where it is, which is home for a controller that runs as it.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The user that the API server sees.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }

    /// The groups that every ServiceAccount of its namespace is in.
    pub fn groups(&self) -> [String; 3] {
        [
            "system:serviceaccounts".into(),
            format!("system:serviceaccounts:{}", self.namespace),
            "system:authenticated".into(),
        ]
    }

    /// Makes a request one of this ServiceAccount; whatever it said of that before is gone.
    pub fn put(&self, headers: &mut HeaderMap) {
        // Both are made of DNS labels and dots.
        let Ok(user) = HeaderValue::from_str(&self.user()) else { return };
        headers.insert(IMPERSONATE_USER, user);
        headers.remove(IMPERSONATE_GROUP);
        for group in self.groups() {
            if let Ok(group) = HeaderValue::from_str(&group) {
                headers.append(IMPERSONATE_GROUP, group);
            }
        }
    }
}

/// Who makes a request.
#[derive(Clone, Debug)]
pub struct Caller {
    pub user_agent: HeaderValue,
    pub service_account: Option<Arc<ServiceAccount>>,
}

impl Caller {
    /// A controller of this name. `host`: which one runs it, if there are several.
    pub fn controller(name: &str, host: Option<&str>, service_account: Option<Arc<ServiceAccount>>) -> Caller {
        let host = host.map_or_else(String::new, |host| format!("; host/{host}"));
        let user_agent = HeaderValue::from_str(&format!("{HOST_USER_AGENT} (controller/{name}{host})"));
        Caller { user_agent: user_agent.unwrap_or(HeaderValue::from_static(HOST_USER_AGENT)), service_account }
    }

    pub fn put(self, headers: &mut HeaderMap) {
        headers.insert(USER_AGENT, self.user_agent);
        if let Some(account) = self.service_account {
            account.put(headers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_kubernetes_names_make_a_service_account() {
        for good in ["default/website", "kube-system/a.b-c", "n1/1"] {
            assert_eq!(good.parse::<ServiceAccount>().unwrap().to_string(), good);
        }
        let long = format!("default/{}", "a".repeat(254));
        for bad in [
            "",
            "website",
            "/",
            "default/",
            "/website",
            "a/b/c",
            "Default/a",
            "a.b/c",
            "default/a:b",
            "default/a\nb",
            "default/..",
            "default/-a",
            "default/a b",
            &long,
        ] {
            let error = bad.parse::<ServiceAccount>().unwrap_err().to_string();
            assert!(error.contains("\nhelp: write it as NAMESPACE/NAME"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_request_is_made_as_the_service_account_whatever_was_there_before() {
        let mut headers = HeaderMap::new();
        headers.insert(IMPERSONATE_USER, HeaderValue::from_static("admin"));
        headers.append(IMPERSONATE_GROUP, HeaderValue::from_static("system:masters"));
        let account = Arc::new("demo/website".parse::<ServiceAccount>().unwrap());
        Caller::controller("web", None, Some(account)).put(&mut headers);
        let all = |name: &HeaderName| headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(all(&IMPERSONATE_USER), ["system:serviceaccount:demo:website"]);
        assert_eq!(
            all(&IMPERSONATE_GROUP),
            ["system:serviceaccounts", "system:serviceaccounts:demo", "system:authenticated"]
        );
        assert_eq!(all(&USER_AGENT), [format!("{HOST_USER_AGENT} (controller/web)")]);
        let shared = Caller::controller("web", Some("node-1-0a1b2c3d"), None).user_agent;
        assert_eq!(shared, format!("{HOST_USER_AGENT} (controller/web; host/node-1-0a1b2c3d)"));
    }
}
