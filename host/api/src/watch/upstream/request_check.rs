//! Checks the names in a watch request before they become part of a path.

use wasmop_core::excerpt::{MAX_NAME_BYTES, name_excerpt};
use wasmop_core::watch::{WaitReason, WatchRequest};

use crate::watch::failure::Failure;

/// Refuses names that could change the meaning of a path: they come from a guest.
///
/// # Errors
/// A name is malformed.
pub fn check(request: &WatchRequest) -> Result<(), Failure> {
    let is_name = |text: &str| {
        let is_label_byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        text.len() <= MAX_NAME_BYTES
            && text.split('.').all(|label| !label.is_empty() && label.bytes().all(is_label_byte))
    };
    let optional = |text: &str| text.is_empty() || is_name(text);
    let required = |text: &str| !text.is_empty() && is_name(text);
    let problem = if !optional(&request.group) {
        format!("{:?} is not an API group", name_excerpt(&request.group))
    } else if !required(&request.version) {
        format!("{:?} is not an API version", name_excerpt(&request.version))
    } else if !optional(&request.plural) || (request.plural.is_empty() && request.kind.is_empty()) {
        format!("{:?} is not a resource's plural name", name_excerpt(&request.plural))
    } else if request.kind.len() > MAX_NAME_BYTES {
        format!("{:?} is not a kind", name_excerpt(&request.kind))
    } else if !request.namespace.as_deref().is_none_or(required) {
        format!("{:?} is not a namespace", name_excerpt(request.namespace.as_deref().unwrap_or_default()))
    } else {
        return Ok(());
    };
    Err(Failure::new(WaitReason::Invalid, problem))
}
