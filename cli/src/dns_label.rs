//! DNS labels (RFC 1123), which the names of controllers, namespaces and groups of hosts are.

/// The remedy for a name that is not a DNS label.
pub const DNS_LABEL_HELP: &str =
    "use a DNS label: at most 63 of a-z, 0-9 and `-`, beginning and ending with a letter or digit";

/// Why `name` is not a DNS label, or `None` if it is one.
pub fn dns_label_problem(name: &str) -> Option<&'static str> {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    match name.as_bytes() {
        [] => Some("is empty"),
        bytes if bytes.len() > 63 => Some("is longer than 63 characters"),
        bytes if !bytes.iter().all(|byte| is_inner(*byte) || *byte == b'-') => {
            Some("has characters other than a-z, 0-9 and `-`")
        }
        [first, .., last] if !is_inner(*first) || !is_inner(*last) => Some("begins or ends with `-`"),
        b"-" => Some("begins or ends with `-`"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "web", "my-controller-2", "0a", &"x".repeat(63)] {
            assert_eq!(dns_label_problem(good), None, "{good}");
        }
        for bad in ["", "-", "-a", "a-", "A", "a_b", "a.b", "a/b", "ü", &"x".repeat(64)] {
            assert!(dns_label_problem(bad).is_some(), "{bad}");
        }
    }
}
