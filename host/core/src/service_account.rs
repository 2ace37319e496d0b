//! The name of a ServiceAccount that a controller acts as.

use std::fmt;
use std::str::FromStr;

use wasmop_package::manifest::is_dns_label;

/// Longest name in Kubernetes, in bytes.
const MAX_NAME_BYTES: usize = 253;

/// The name of a ServiceAccount, checked to be well-formed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceAccount {
    namespace: Box<str>,
    name: Box<str>,
}

/// The text is not of the form `NAMESPACE/NAME`.
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

/// The form used in configuration: `NAMESPACE/NAME`.
impl fmt::Display for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl ServiceAccount {
    /// Its namespace, which is also the home namespace of a controller that acts as it.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The user that the API server sees.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }

    /// The groups of every ServiceAccount in its namespace.
    pub fn groups(&self) -> [String; 3] {
        [
            "system:serviceaccounts".into(),
            format!("system:serviceaccounts:{}", self.namespace),
            "system:authenticated".into(),
        ]
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
}
