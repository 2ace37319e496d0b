//! External hosts: the first line is a target, the others are patterns.

use std::sync::Arc;

use wasmop_package::external::{ExternalHost, ExternalTarget, HostPattern};

use crate::host::permissions::Permissions;
use crate::host::permissions::external::ExternalGrant;

pub fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let first = lines.next().unwrap_or_default();
    let patterns: Vec<HostPattern> = lines.filter_map(|line| line.parse().ok()).collect();
    for pattern in &patterns {
        assert_eq!(&pattern.to_string().parse::<HostPattern>().expect("the normal form is valid"), pattern);
    }

    let parsed = first.parse::<ExternalTarget>();
    if let Ok(target) = &parsed {
        assert_eq!(&target.to_string().parse::<ExternalTarget>().expect("the normal form is valid"), target);
        assert!(HostPattern::from(target.clone()).covers(target));
        // No control character, credential or path can reach the request.
        assert!(target.authority().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte)));
        if let ExternalHost::Name(name) = &target.host {
            assert!(name.parse::<std::net::IpAddr>().is_err());
        }
    }

    let requested = Permissions::new(Vec::new()).with_external(patterns.clone());
    let granted = ExternalGrant { hosts: Some(Arc::from([])), ..ExternalGrant::default() };
    let is_covered = parsed.is_ok_and(|target| patterns.iter().any(|pattern| pattern.covers(&target)));
    assert_eq!(requested.check_external(first).is_ok(), is_covered);
    assert!(requested.granting_external(granted).check_external(first).is_err());
}
