//! Runs a credential plugin of a kubeconfig (`client.authentication.k8s.io`).
//!
//! kube's own code ignores a certificate's expiry (<https://github.com/kube-rs/kube/issues/1675>), does not run a
//! plugin again after a 401, and does not report a missing plugin with its name and install hint.

use std::io::IsTerminal;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use kube::config::{ExecConfig, ExecInteractiveMode};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

/// Time limit of a plugin without a terminal.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Time limit of a plugin that may send a person to a browser.
const INTERACTIVE_TIMEOUT: Duration = Duration::from_secs(300);
/// Most bytes of a plugin's stderr in an error.
const MAX_EXCERPT: usize = 300;

/// Why a plugin gave no credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the credential plugin {command:?} {problem}")]
pub struct PluginError {
    command: String,
    problem: String,
    /// A remedy, without `help:`.
    pub help: String,
}

/// The credentials that a plugin printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginCredentials {
    pub token: Option<String>,
    /// Certificate chain and key, PEM.
    pub certificate: Option<(String, String)>,
    pub expires: Option<SystemTime>,
}

#[derive(Deserialize)]
struct Output {
    #[serde(rename = "apiVersion", default)]
    api_version: Option<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    expiration_timestamp: Option<String>,
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    client_certificate_data: Option<String>,
    #[serde(default)]
    client_key_data: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Input<'a> {
    api_version: &'a str,
    kind: &'a str,
    spec: Spec<'a>,
}

#[derive(Serialize)]
struct Spec<'a> {
    interactive: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<&'a kube::config::ExecAuthCluster>,
}

/// Runs the plugin and waits for its credentials.
///
/// # Errors
/// The plugin cannot be started, fails, takes too long, or prints no valid `ExecCredential`.
pub async fn run(config: &ExecConfig) -> Result<PluginCredentials, PluginError> {
    let command = config.command.as_deref().unwrap_or_default();
    let fail = |problem: String, help: &str| PluginError { command: command.into(), problem, help: help.into() };
    let api_version = config.api_version.as_deref().unwrap_or_default();
    if command.is_empty() || api_version.is_empty() {
        return Err(fail(
            "is incomplete".into(),
            "give `command` and `apiVersion` of users[].user.exec in the kubeconfig",
        ));
    }
    let has_terminal = std::io::stdin().is_terminal();
    let interactive = match config.interactive_mode {
        Some(ExecInteractiveMode::Never) => false,
        Some(ExecInteractiveMode::Always) if !has_terminal => {
            return Err(fail(
                "needs a terminal (interactiveMode: Always), but standard input is not one".into(),
                "start wasmop in a terminal, or use credentials that need no login",
            ));
        }
        _ => has_terminal,
    };
    let spec = Spec { interactive, cluster: config.cluster.as_ref().filter(|_| config.provide_cluster_info) };
    let input = serde_json::to_string(&Input { api_version, kind: "ExecCredential", spec })
        .map_err(|error| fail(format!("cannot be given its input: {error}"), "correct the cluster's extensions"))?;
    let mut process = Command::new(command);
    process.args(config.args.iter().flatten()).env("KUBERNETES_EXEC_INFO", input).kill_on_drop(true);
    for variable in config.env.iter().flatten() {
        if let (Some(name), Some(value)) = (variable.get("name"), variable.get("value")) {
            process.env(name, value);
        }
    }
    process.stdout(Stdio::piped());
    if interactive {
        // The plugin prints its login instructions there.
        process.stdin(Stdio::inherit()).stderr(Stdio::inherit());
    } else {
        process.stdin(Stdio::null()).stderr(Stdio::piped());
    }
    let hint = config.install_hint.as_deref().map(str::trim).filter(|hint| !hint.is_empty());
    let child = process.spawn().map_err(|error| {
        let install = hint.unwrap_or("install it, or correct users[].user.exec.command in the kubeconfig");
        fail(format!("cannot be started: {error}"), install)
    })?;
    let limit = if interactive { INTERACTIVE_TIMEOUT } else { TIMEOUT };
    let by_hand = "run it by hand to see what it needs; `kubectl --kubeconfig FILE version` must work";
    let Ok(output) = tokio::time::timeout(limit, child.wait_with_output()).await else {
        return Err(fail(format!("gave no credentials within {} s", limit.as_secs()), by_hand));
    };
    let output = output.map_err(|error| fail(format!("failed: {error}"), by_hand))?;
    if !output.status.success() {
        let stderr = excerpt(&output.stderr);
        let said = if stderr.is_empty() { String::new() } else { format!(": {stderr}") };
        return Err(fail(format!("failed with {}{said}", output.status), by_hand));
    }
    parse(&output.stdout, api_version).map_err(|problem| fail(problem, by_hand))
}

/// The end of the output, where the reason usually is.
fn excerpt(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let text = text.trim();
    let start = text.len().saturating_sub(MAX_EXCERPT);
    let start = (start..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text[start..].to_owned()
}

/// Reads an `ExecCredential`: JSON, or YAML, which client-go accepts too.
fn parse(output: &[u8], api_version: &str) -> Result<PluginCredentials, String> {
    if output.trim_ascii().is_empty() {
        return Err("did not print an ExecCredential: there is no output".into());
    }
    let parsed: Result<Output, String> = serde_json::from_slice(output)
        .or_else(|json| serde_norway::from_slice(output).map_err(|_| json))
        .map_err(|error| format!("did not print an ExecCredential: {error}"));
    let Output { api_version: given, kind, status } = parsed?;
    if kind.as_deref() != Some("ExecCredential") {
        return Err(format!("printed kind {:?}, not ExecCredential", kind.unwrap_or_default()));
    }
    if given.as_deref() != Some(api_version) {
        let given = given.unwrap_or_default();
        return Err(format!("printed apiVersion {given:?}, but the kubeconfig asks for {api_version:?}"));
    }
    let status = status.ok_or("printed an ExecCredential without status")?;
    let expires = match status.expiration_timestamp.filter(|at| !at.is_empty()) {
        None => None,
        Some(at) => {
            let parsed: k8s_openapi::jiff::Timestamp =
                at.parse().map_err(|error| format!("printed the malformed expirationTimestamp {at:?}: {error}"))?;
            Some(SystemTime::from(parsed))
        }
    };
    let present = |text: Option<String>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let token = present(status.token);
    let certificate = match (present(status.client_certificate_data), present(status.client_key_data)) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => return Err("printed only one of clientCertificateData and clientKeyData".into()),
    };
    if token.is_none() && certificate.is_none() {
        return Err("printed neither a token nor a client certificate".into());
    }
    Ok(PluginCredentials { token, certificate, expires })
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "client.authentication.k8s.io/v1";

    #[test]
    fn output_is_read_as_json_and_as_yaml() {
        let json = format!(
            r#"{{"apiVersion":"{V1}","kind":"ExecCredential","status":{{"token":" t\n","expirationTimestamp":"2030-01-01T00:00:00Z"}}}}"#
        );
        let expires = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_893_456_000));
        let expected = PluginCredentials { token: Some("t".into()), certificate: None, expires };
        assert_eq!(parse(json.as_bytes(), V1), Ok(expected));
        let yaml = format!(
            "apiVersion: {V1}\nkind: ExecCredential\nstatus:\n  clientCertificateData: c\n  clientKeyData: k\n"
        );
        let certificate = Some(("c".into(), "k".into()));
        let expected = PluginCredentials { token: None, certificate, expires: None };
        assert_eq!(parse(yaml.as_bytes(), V1), Ok(expected));
    }

    #[test]
    fn invalid_output_is_refused_with_the_reason() {
        let status = |status: &str| format!(r#"{{"apiVersion":"{V1}","kind":"ExecCredential","status":{status}}}"#);
        let table = [
            (String::new(), "did not print"),
            ("token".into(), "did not print"),
            ("\u{0}".into(), "did not print"),
            (r#"{"kind":"Pod"}"#.into(), "\"Pod\""),
            (format!(r#"{{"apiVersion":"{V1}beta1","kind":"ExecCredential"}}"#), "asks for"),
            (format!(r#"{{"apiVersion":"{V1}","kind":"ExecCredential"}}"#), "without status"),
            (status("{}"), "neither a token nor"),
            (status(r#"{"token":""}"#), "neither a token nor"),
            (status(r#"{"clientKeyData":"k"}"#), "only one of"),
            (status(r#"{"token":"t","expirationTimestamp":"soon"}"#), "\"soon\""),
        ];
        for (output, reason) in table {
            let error = parse(output.as_bytes(), V1).expect_err(&output);
            assert!(error.contains(reason), "{output}: {error}");
        }
    }

    fn config(command: &str, args: &[&str]) -> ExecConfig {
        ExecConfig {
            command: Some(command.into()),
            args: Some(args.iter().map(|arg| (*arg).into()).collect()),
            api_version: Some(V1.into()),
            interactive_mode: Some(ExecInteractiveMode::Never),
            ..ExecConfig::default()
        }
    }

    #[tokio::test]
    async fn missing_or_failed_plugin_is_named_with_its_hint() {
        let missing = ExecConfig { install_hint: Some("get it from example.com".into()), ..config("/no/such/p", &[]) };
        let error = run(&missing).await.unwrap_err();
        assert!(error.to_string().contains("\"/no/such/p\" cannot be started: No such file"), "{error}");
        assert_eq!(error.help, "get it from example.com");
        let error = run(&config("sh", &["-c", "echo please log in >&2; exit 3"])).await.unwrap_err();
        assert!(error.to_string().contains("exit status: 3: please log in"), "{error}");
        let error = run(&config("true", &[])).await.unwrap_err();
        assert!(error.to_string().contains("did not print an ExecCredential"), "{error}");
    }

    #[tokio::test]
    async fn plugin_gets_its_environment_and_input() {
        let script = r#"printf '{"apiVersion":"%s","kind":"ExecCredential","status":{"token":"%s"}}' "$V" "$(printf %s "$KUBERNETES_EXEC_INFO" | tr -d '"{}')""#;
        let mut config = config("sh", &["-c", script]);
        config.env = Some(vec![[("name".into(), "V".into()), ("value".into(), V1.into())].into()]);
        let given = run(&config).await.unwrap();
        let expected = format!("apiVersion:{V1},kind:ExecCredential,spec:interactive:false");
        assert_eq!(given.token.as_deref(), Some(expected.as_str()));
    }
}
