//! Service account tokens signed like those of the control plane, with any validity.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::ResourceExt;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

/// Claims that expire in `expires_in` seconds. A negative number is an expired token.
pub fn claims(issuer: &str, account: &ServiceAccount, expires_in: i64) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
    let namespace = account.namespace().unwrap_or_default();
    json!({
        "iss": issuer,
        "aud": [issuer],
        "sub": format!("system:serviceaccount:{namespace}:{}", account.name_any()),
        "iat": now - 7200,
        "nbf": now - 7200,
        "exp": now + expires_in,
        "kubernetes.io": {
            "namespace": namespace,
            "serviceaccount": { "name": account.name_any(), "uid": account.uid().unwrap_or_default() },
        },
    })
}

/// A signed token (JWT, ES256); `key` is a PKCS #8 file.
pub fn sign(key: &Path, claims: &Value) -> Result<String> {
    let pem = std::fs::read_to_string(key).with_context(|| format!("reading {}", key.display()))?;
    let der = STANDARD.decode(pem.lines().filter(|line| !line.starts_with('-')).collect::<String>())?;
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &random)
        .map_err(|error| anyhow!("{}: {error}", key.display()))?;
    // Without a key id, the API server tries all keys it has.
    let signed = format!("{}.{}", encode(&json!({ "alg": "ES256" })), encode(claims));
    let signature = pair.sign(&random, signed.as_bytes()).map_err(|error| anyhow!("signing: {error}"))?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}
