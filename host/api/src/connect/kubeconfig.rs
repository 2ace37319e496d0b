//! Corrects fields of kubeconfigs that kube reads otherwise than client-go.
//!
//! | field | client-go | kube |
//! |---|---|---|
//! | any, empty | absent | present: an empty token is sent, an empty `current-context` wins the merge |
//! | base64 data | may be wrapped | must be one line |
//! | `server` | may lack the scheme, which is then `http` | panics at the first request |

use kube::config::{AuthInfo, Cluster, Context, Kubeconfig};
use secrecy::{ExposeSecret, SecretString};

/// Removes empty fields, and whitespace in base64 data.
pub fn normalize(kubeconfig: &mut Kubeconfig) {
    drop_empty(&mut kubeconfig.current_context);
    kubeconfig.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()).for_each(normalize_cluster);
    kubeconfig.auth_infos.iter_mut().filter_map(|named| named.auth_info.as_mut()).for_each(normalize_user);
    for Context { user, namespace, .. } in kubeconfig.contexts.iter_mut().filter_map(|named| named.context.as_mut()) {
        drop_empty(user);
        drop_empty(namespace);
    }
}

fn normalize_cluster(cluster: &mut Cluster) {
    let Cluster { server, certificate_authority, certificate_authority_data, proxy_url, tls_server_name, .. } = cluster;
    unwrap_lines(certificate_authority_data);
    drop_empty_path(certificate_authority);
    for field in [server, certificate_authority_data, proxy_url, tls_server_name] {
        drop_empty(field);
    }
}

fn normalize_user(user: &mut AuthInfo) {
    unwrap_lines(&mut user.client_certificate_data);
    if let Some(data) = &mut user.client_key_data {
        *data = SecretString::from(without_whitespace(data.expose_secret()));
    }
    for secret in [&mut user.client_key_data, &mut user.token, &mut user.password] {
        if secret.as_ref().is_some_and(|secret| secret.expose_secret().is_empty()) {
            *secret = None;
        }
    }
    for path in [&mut user.token_file, &mut user.client_certificate, &mut user.client_key] {
        drop_empty_path(path);
    }
    for field in
        [&mut user.username, &mut user.client_certificate_data, &mut user.impersonate, &mut user.impersonate_uid]
    {
        drop_empty(field);
    }
}

fn drop_empty(field: &mut Option<String>) {
    if field.as_ref().is_some_and(String::is_empty) {
        *field = None;
    }
}

/// kube joins an empty path with the directory of the kubeconfig, so the path ends with a slash.
fn drop_empty_path(path: &mut Option<String>) {
    if path.as_ref().is_some_and(|path| path.is_empty() || path.ends_with('/')) {
        *path = None;
    }
}

fn unwrap_lines(data: &mut Option<String>) {
    if let Some(data) = data {
        *data = without_whitespace(data);
    }
}

fn without_whitespace(data: &str) -> String {
    data.chars().filter(|character| !character.is_ascii_whitespace()).collect()
}

/// The server's URL. Without a scheme it is `http`, even if there are certificates, as in client-go.
///
/// # Errors
/// The address is malformed, or its scheme is not HTTP.
pub fn server_url(server: &str) -> Result<String, String> {
    let malformed = || format!("server {server:?} is not a URL: write it like https://HOST:PORT");
    let url = if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
    let uri: http::Uri = url.parse().map_err(|_| malformed())?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => Ok(url),
        (Some("http" | "https"), _) => Err(malformed()),
        (scheme, _) => Err(format!(
            "server {server:?} has the scheme {}; only https and http lead to an API server",
            scheme.unwrap_or_default()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_without_a_scheme_is_plain_http() {
        let table = [
            ("127.0.0.1:6443", Ok("http://127.0.0.1:6443")),
            ("localhost:6443", Ok("http://localhost:6443")),
            ("http://a.test/prefix", Ok("http://a.test/prefix")),
            ("https://[::1]:6443", Ok("https://[::1]:6443")),
            ("ftp://a.test", Err("scheme ftp")),
            ("https://", Err("is not a URL")),
            ("a b", Err("is not a URL")),
            (":6443", Err("is not a URL")),
            ("/path", Err("is not a URL")),
        ];
        for (server, expected) in table {
            match (server_url(server), expected) {
                (Ok(url), Ok(expected)) => assert_eq!(url, expected),
                (Err(error), Err(expected)) => {
                    assert!(error.contains(expected) && error.contains(&format!("{server:?}")), "{error}");
                }
                (got, expected) => panic!("{server}: {got:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn empty_paths_are_removed_after_kube_joined_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        let yaml = "users: [{name: u, user: {tokenFile: '', client-certificate: '', client-key: k}}]";
        std::fs::write(&path, yaml).unwrap();
        let mut kubeconfig = Kubeconfig::read_from(&path).unwrap();
        normalize(&mut kubeconfig);
        let user = kubeconfig.auth_infos[0].auth_info.as_ref().unwrap();
        assert_eq!((&user.token_file, &user.client_certificate), (&None, &None));
        assert_eq!(user.client_key.as_deref(), dir.path().join("k").to_str());
    }

    #[test]
    fn empty_fields_are_absent_and_wrapped_data_is_one_line() {
        let yaml = r#"
current-context: ""
clusters:
- name: c
  cluster: { server: "s", certificate-authority: "", certificate-authority-data: "YWJj\nZGVm\r\n", proxy-url: "" }
users:
- name: u
  user: { token: "", tokenFile: "", username: "", password: "", client-key-data: " a\nb ", client-certificate: "", as: "" }
contexts:
- name: x
  context: { cluster: c, user: "", namespace: "" }
"#;
        let mut kubeconfig = Kubeconfig::from_yaml(yaml).unwrap();
        normalize(&mut kubeconfig);
        assert_eq!(kubeconfig.current_context, None);
        let cluster = kubeconfig.clusters[0].cluster.as_ref().unwrap();
        assert_eq!((&cluster.certificate_authority, &cluster.proxy_url), (&None, &None));
        assert_eq!(cluster.certificate_authority_data.as_deref(), Some("YWJjZGVm"));
        let user = kubeconfig.auth_infos[0].auth_info.as_ref().unwrap();
        assert!(user.token.is_none() && user.password.is_none());
        assert_eq!((&user.token_file, &user.username, &user.client_certificate), (&None, &None, &None));
        assert_eq!(user.impersonate, None);
        assert_eq!(user.client_key_data.as_ref().unwrap().expose_secret(), "ab");
        let context = kubeconfig.contexts[0].context.as_ref().unwrap();
        assert_eq!((&context.user, &context.namespace), (&None, &None));
    }
}
