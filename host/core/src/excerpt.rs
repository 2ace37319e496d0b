//! Cuts texts of guests and of the API server to a bounded length.

/// Most bytes of a guest's text that the host logs or keeps.
pub const MAX_TEXT: usize = 4096;
/// Longest name in Kubernetes, in bytes.
pub const MAX_NAME_BYTES: usize = 253;

/// The first [`MAX_NAME_BYTES`] of a text, for names and one-line logs.
pub fn name_excerpt(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_NAME_BYTES)]
}

/// The first [`MAX_TEXT`] bytes of a text, with `…` if it was cut.
pub fn excerpt(text: &str) -> String {
    match text.len() > MAX_TEXT {
        true => format!("{}…", &text[..text.floor_char_boundary(MAX_TEXT)]),
        false => text.into(),
    }
}
