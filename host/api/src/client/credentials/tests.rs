use std::fs;

use futures::FutureExt;
use kube::config::ExecInteractiveMode;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::*;

fn file(dir: &TempDir, name: &str, text: &str) -> String {
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn shown(access: &Access) -> String {
    access.authorization.as_ref().map_or(String::new(), |value| value.to_str().unwrap().into())
}

async fn now(credentials: &Credentials) -> String {
    shown(&credentials.current().await.unwrap())
}

/// Waits until an abandoned plugin has finished.
async fn until_shown(credentials: &Credentials, expected: &str) {
    let shown = async {
        while now(credentials).await != expected {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), shown).await.expect("the plugin gave nothing");
}

/// A plugin that prints the file `given` once the file `hold` is gone, and counts its runs in `runs`.
fn plugin(dir: &TempDir) -> AuthInfo {
    let dir = dir.path().display();
    let script = format!("echo >> {dir}/runs; while [ -e {dir}/hold ]; do sleep 0.01; done; cat {dir}/given");
    let exec = ExecConfig {
        command: Some("sh".into()),
        args: Some(vec!["-c".into(), script]),
        api_version: Some("client.authentication.k8s.io/v1".into()),
        interactive_mode: Some(ExecInteractiveMode::Never),
        ..ExecConfig::default()
    };
    AuthInfo { exec: Some(exec), ..AuthInfo::default() }
}

fn give(dir: &TempDir, status: &serde_json::Value) {
    let output = serde_json::json!({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status,
    });
    file(dir, "given", &output.to_string());
}

fn runs(dir: &TempDir) -> usize {
    fs::read_to_string(dir.path().join("runs")).unwrap_or_default().lines().count()
}

fn certificate(name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    (CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[tokio::test]
async fn credentials_follow_the_rules_of_client_go() {
    let dir = TempDir::new().unwrap();
    let token_file = Some(file(&dir, "token", "from-file\n"));
    let token = Some("fixed".to_owned().into());
    let table = [
        (AuthInfo::default(), ""),
        (AuthInfo { token: token.clone(), ..AuthInfo::default() }, "Bearer fixed"),
        (AuthInfo { token_file: token_file.clone(), ..AuthInfo::default() }, "Bearer from-file"),
        (AuthInfo { token: token.clone(), token_file, ..AuthInfo::default() }, "Bearer from-file"),
        (AuthInfo { token: token.clone(), token_file: Some("/no/such".into()), ..AuthInfo::default() }, "Bearer fixed"),
        (
            AuthInfo { username: Some("u".into()), password: Some("p".to_owned().into()), ..AuthInfo::default() },
            "Basic dTpw",
        ),
        (AuthInfo { token, ..plugin(&dir) }, "Bearer fixed"),
    ];
    for (user, expected) in table {
        assert_eq!(now(&Credentials::load(&user).await.unwrap()).await, expected);
    }
    assert_eq!(runs(&dir), 0, "a static token takes precedence over the plugin");
}

#[tokio::test]
async fn unusable_credentials_are_named_with_a_remedy() {
    let dir = TempDir::new().unwrap();
    let (certificate, key) = certificate("a");
    let (_, other_key) = self::certificate("b");
    let cert = Some(file(&dir, "cert", &certificate));
    let table = [
        (AuthInfo { token_file: Some("/no/such".into()), ..AuthInfo::default() }, "/no/such"),
        (AuthInfo { token_file: Some(file(&dir, "blank", " \n")), ..AuthInfo::default() }, "blank"),
        (AuthInfo { token: Some("a\u{1}b".to_owned().into()), ..AuthInfo::default() }, "the token in the kubeconfig"),
        (AuthInfo { client_certificate: cert.clone(), ..AuthInfo::default() }, "client-key"),
        (AuthInfo { client_key: Some(file(&dir, "key", &key)), ..AuthInfo::default() }, "client-certificate"),
        (
            AuthInfo { client_certificate: cert.clone(), client_key: Some("/no/key".into()), ..AuthInfo::default() },
            "/no/key",
        ),
        (
            AuthInfo {
                client_certificate: cert.clone(),
                client_key: Some(file(&dir, "other", &other_key)),
                ..AuthInfo::default()
            },
            "cert",
        ),
        (
            AuthInfo {
                client_certificate_data: Some("*".into()),
                client_key_data: Some("*".to_owned().into()),
                ..AuthInfo::default()
            },
            "base64",
        ),
        (
            AuthInfo {
                exec: Some(ExecConfig {
                    command: Some("/no/plugin".into()),
                    api_version: Some("v".into()),
                    ..ExecConfig::default()
                }),
                ..AuthInfo::default()
            },
            "/no/plugin",
        ),
    ];
    for (user, named) in table {
        let Err(error) = Credentials::load(&user).await else { panic!("{named}: was accepted") };
        assert!(error.to_string().contains(named) && !error.help().is_empty(), "{error}, not {named}");
    }
}

#[tokio::test]
async fn token_file_is_read_again_after_a_while_and_at_once_after_a_401() {
    let dir = TempDir::new().unwrap();
    let user = AuthInfo { token_file: Some(file(&dir, "token", "one\n")), ..AuthInfo::default() };
    let credentials = Credentials::load(&user).await.unwrap();
    file(&dir, "token", "two\n");
    let first = credentials.current().await.unwrap();
    assert_eq!(shown(&first), "Bearer one");
    let second = credentials.rejected(&first).await.unwrap();
    assert_eq!(shown(&second), "Bearer two");
    // Another request that got a 401 uses the new token without reading the file.
    file(&dir, "token", "three\n");
    assert_eq!(shown(&credentials.rejected(&first).await.unwrap()), "Bearer two");
    // Many refusals do not cause many reads.
    assert!(credentials.rejected(&second).await.is_none());
    credentials.age(REREAD_INTERVAL).await;
    assert_eq!(now(&credentials).await, "Bearer three");
    // Some tools remove the file after the first read.
    fs::remove_file(dir.path().join("token")).unwrap();
    credentials.age(REREAD_INTERVAL).await;
    assert_eq!(now(&credentials).await, "Bearer three");
}

#[tokio::test]
async fn rotated_certificate_files_are_read_and_half_a_rotation_is_ignored() {
    let dir = TempDir::new().unwrap();
    let (first, second) = (certificate("first"), certificate("second"));
    let user = AuthInfo {
        client_certificate: Some(file(&dir, "crt", &first.0)),
        client_key: Some(file(&dir, "key", &first.1)),
        ..AuthInfo::default()
    };
    let credentials = Credentials::load(&user).await.unwrap();
    let before = credentials.current().await.unwrap();
    credentials.age(REREAD_INTERVAL).await;
    assert_eq!(credentials.current().await.unwrap().certificate_number, before.certificate_number);
    file(&dir, "crt", &second.0);
    credentials.age(REREAD_INTERVAL).await;
    assert_eq!(credentials.current().await.unwrap().certificate_number, before.certificate_number);
    file(&dir, "key", &second.1);
    let after = credentials.rejected(&before).await.unwrap();
    assert_ne!(after.certificate_number, before.certificate_number);
    let der = |access: &Access| access.certificate.as_ref().unwrap().cert[0].to_vec();
    assert_ne!(der(&after), der(&before));
}

#[tokio::test]
async fn plugin_runs_again_after_a_401_but_not_for_every_request() {
    let dir = TempDir::new().unwrap();
    give(&dir, &serde_json::json!({"token": "one"}));
    let credentials = Credentials::load(&plugin(&dir)).await.unwrap();
    give(&dir, &serde_json::json!({"token": "two"}));
    for _ in 0..3 {
        assert_eq!(now(&credentials).await, "Bearer one");
    }
    let first = credentials.current().await.unwrap();
    let second = credentials.rejected(&first).await.unwrap();
    assert_eq!(shown(&second), "Bearer two");
    for _ in 0..3 {
        assert!(credentials.rejected(&second).await.is_none());
    }
    assert_eq!(runs(&dir), 2);
    credentials.age(REJECTED_INTERVAL).await;
    // Unchanged credentials do not repeat a request.
    assert!(credentials.rejected(&second).await.is_none());
    assert_eq!(runs(&dir), 3);
}

#[tokio::test]
async fn plugin_runs_again_before_its_credentials_expire() {
    let dir = TempDir::new().unwrap();
    let (certificate, key) = certificate("plugin");
    let at = |seconds: i64| {
        (k8s_openapi::jiff::Timestamp::now() + k8s_openapi::jiff::SignedDuration::from_secs(seconds)).to_string()
    };
    let status = serde_json::json!({
        "clientCertificateData": certificate, "clientKeyData": key, "expirationTimestamp": at(3600),
    });
    give(&dir, &status);
    let credentials = Credentials::load(&plugin(&dir)).await.unwrap();
    let first = credentials.current().await.unwrap();
    assert!(first.certificate.is_some() && first.authorization.is_none());
    credentials.age(Duration::from_secs(3000)).await;
    credentials.current().await.unwrap();
    assert_eq!(runs(&dir), 1);
    // Credentials that are about to expire do not run the plugin for every request.
    give(&dir, &serde_json::json!({"token": "short", "expirationTimestamp": at(3)}));
    let short = credentials.rejected(&first).await.unwrap();
    assert_eq!(shown(&short), "Bearer short");
    for _ in 0..3 {
        credentials.current().await.unwrap();
    }
    assert_eq!(runs(&dir), 2);
}

#[tokio::test]
async fn credentials_stay_valid_until_expiry_when_the_plugin_fails() {
    let dir = TempDir::new().unwrap();
    give(&dir, &serde_json::json!({"token": "one"}));
    let credentials = Credentials::load(&plugin(&dir)).await.unwrap();
    fs::remove_file(dir.path().join("given")).unwrap();
    let first = credentials.current().await.unwrap();
    assert!(credentials.rejected(&first).await.is_none());
    assert_eq!(now(&credentials).await, "Bearer one");
}

#[tokio::test]
async fn plugin_outlives_a_cancelled_request() {
    let dir = TempDir::new().unwrap();
    give(&dir, &serde_json::json!({"token": "one"}));
    let credentials = Credentials::load(&plugin(&dir)).await.unwrap();
    let first = credentials.current().await.unwrap();
    give(&dir, &serde_json::json!({"token": "two"}));
    let hold = file(&dir, "hold", "");
    assert!(credentials.rejected(&first).now_or_never().is_none());
    fs::remove_file(hold).unwrap();
    until_shown(&credentials, "Bearer two").await;
    assert_eq!(runs(&dir), 2);
}

#[tokio::test]
async fn request_does_not_wait_for_a_plugin_while_its_credentials_are_valid() {
    let dir = TempDir::new().unwrap();
    let expires = k8s_openapi::jiff::Timestamp::now() + k8s_openapi::jiff::SignedDuration::from_secs(9);
    give(&dir, &serde_json::json!({"token": "one", "expirationTimestamp": expires.to_string()}));
    let credentials = Credentials::load(&plugin(&dir)).await.unwrap();
    give(&dir, &serde_json::json!({"token": "two"}));
    let hold = file(&dir, "hold", "");
    credentials.age(RETRY_INTERVAL).await;
    for _ in 0..3 {
        assert_eq!(now(&credentials).now_or_never().as_deref(), Some("Bearer one"));
    }
    fs::remove_file(hold).unwrap();
    until_shown(&credentials, "Bearer two").await;
    assert_eq!(runs(&dir), 2);
}
