//! Texts of guests and of the API server, cut to a length that can be kept.

/// Most bytes of what a guest says that are logged or kept.
pub const MAX_TEXT: usize = 4096;
/// Kubernetes allows no longer names.
pub const MAX_NAME_BYTES: usize = 253;

/// As much of a text as fits a line of the log.
pub fn name_excerpt(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_NAME_BYTES)]
}

/// What a guest says, at a length that can be kept.
pub fn excerpt(text: &str) -> String {
    match text.len() > MAX_TEXT {
        true => format!("{}…", &text[..text.floor_char_boundary(MAX_TEXT)]),
        false => text.into(),
    }
}
