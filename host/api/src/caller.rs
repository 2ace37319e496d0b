//! As whom a controller's requests are made: a ServiceAccount that the host impersonates, and a user agent
//! of the controller's own.

use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use wasmop_core::service_account::ServiceAccount;

/// How the host itself appears in the API server's audit log.
pub const HOST_USER_AGENT: &str = concat!("wasmop/", env!("CARGO_PKG_VERSION"));

const IMPERSONATE_USER: HeaderName = HeaderName::from_static("impersonate-user");
const IMPERSONATE_GROUP: HeaderName = HeaderName::from_static("impersonate-group");
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
            impersonate(&account, headers);
        }
    }
}

/// Makes a request one of this ServiceAccount; whatever it said of that before is gone.
pub fn impersonate(account: &ServiceAccount, headers: &mut HeaderMap) {
    // Both are made of DNS labels and dots.
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
