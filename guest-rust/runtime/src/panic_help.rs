//! Help for panics caused by features that a guest lacks, such as threads and sockets.

/// Fragments of panic messages, and the help for them.
const HELP: [(&[&str], &str); 4] = [
    (
        &["failed to spawn thread", "can't spawn worker thread"],
        "a controller has no threads: call the function directly, or run async code with tokio::spawn; spawn_blocking, tokio::fs and block_in_place also need threads",
    ),
    (
        &["Runtime::block_on cannot wait"],
        "a step of a controller cannot block: make `main` an `async fn` with `#[tokio::main]`, and await the future there",
    ),
    (
        &["IO is disabled", "enable_io"],
        "a controller has no sockets: use wasmop::fetch for external hosts and the kube client for the API server",
    ),
    (
        &["cannot call wasm-bindgen imported functions"],
        "a dependency calls JavaScript, which exists only in browsers: use wasmop::fetch instead of reqwest, and disable features such as `js` and `wasmbind`",
    ),
];

/// Returns the help for a panic with this message, if there is any.
pub fn help_for(message: &str) -> Option<&'static str> {
    let applies = |parts: &&[&str]| parts.iter().any(|part| message.contains(part));
    HELP.iter().find(|(parts, _)| applies(parts)).map(|(_, help)| *help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_about_threads_and_sockets_have_help() {
        for (message, word) in [
            ("failed to spawn thread: Error { kind: Unsupported, message: \"operation not supported\" }", "threads"),
            ("OS can't spawn worker thread: operation not supported on this platform", "threads"),
            ("cannot call wasm-bindgen imported functions on non-wasm targets", "wasmop::fetch"),
            ("Runtime::block_on cannot wait in a wasmop guest", "#[tokio::main]"),
            ("A Tokio 1.x context was found, but IO is disabled. Call `enable_io` on the runtime", "sockets"),
        ] {
            assert!(help_for(message).is_some_and(|help| help.contains(word)), "{message}");
        }
        assert_eq!(help_for("called `Option::unwrap()` on a `None` value"), None);
    }
}
