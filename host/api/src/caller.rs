//! The identity of a request: a user agent for each controller, and the ServiceAccount that the host impersonates.

use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use wasmop_core::service_account::ServiceAccount;

/// The user agent of the host's own requests, as in the API server's audit log.
pub const HOST_USER_AGENT: &str = concat!("wasmop/", env!("CARGO_PKG_VERSION"));

const IMPERSONATE_USER: HeaderName = HeaderName::from_static("impersonate-user");
const IMPERSONATE_GROUP: HeaderName = HeaderName::from_static("impersonate-group");

/// Who makes a request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The `User-Agent` header.
    pub user_agent: HeaderValue,
    /// The ServiceAccount to impersonate; `None`: the host's own identity.
    pub service_account: Option<Arc<ServiceAccount>>,
}

impl Caller {
    /// The caller for a controller. `host`: the name of this host, if several hosts share controllers.
    pub fn controller(name: &str, host: Option<&str>, service_account: Option<Arc<ServiceAccount>>) -> Caller {
        let host = host.map_or_else(String::new, |host| format!("; host/{host}"));
        let user_agent = HeaderValue::from_str(&format!("{HOST_USER_AGENT} (controller/{name}{host})"));
        Caller { user_agent: user_agent.unwrap_or(HeaderValue::from_static(HOST_USER_AGENT)), service_account }
    }

    /// Sets the headers of a request.
    pub fn put(self, headers: &mut HeaderMap) {
        headers.insert(USER_AGENT, self.user_agent);
        if let Some(account) = self.service_account {
            impersonate(&account, headers);
        }
    }
}

/// Impersonates a ServiceAccount in a request, and replaces earlier impersonation headers.
pub fn impersonate(account: &ServiceAccount, headers: &mut HeaderMap) {
    // Namespace and name are DNS labels and dots, so the header is valid.
    let Ok(user) = HeaderValue::from_str(&account.user()) else { return };
    headers.insert(IMPERSONATE_USER, user);
    headers.remove(IMPERSONATE_GROUP);
    for group in account.groups() {
        if let Ok(group) = HeaderValue::from_str(&group) {
            headers.append(IMPERSONATE_GROUP, group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impersonation_replaces_earlier_headers() {
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
