//! What to do about panics that come from what a controller does not have.

/// Parts of panic messages, and the remedies.
const REMEDIES: [(&[&str], &str); 3] = [
    (
        &["failed to spawn thread", "can't spawn worker thread"],
        "a controller has no threads: call the function directly, or spawn async work with tokio::spawn; spawn_blocking, tokio::fs and block_in_place need threads, too",
    ),
    (
        &["IO is disabled", "enable_io"],
        "a controller has no sockets: make requests to other hosts with wasmop::fetch, and to the API server with the client",
    ),
    (
        &["cannot call wasm-bindgen imported functions"],
        "a dependency calls the JavaScript of a browser, and there is none: make requests with wasmop::fetch in place of reqwest, and turn off features like `js` and `wasmbind`",
    ),
];

/// The remedy for a panic with this message, if it is known.
pub fn remedy(message: &str) -> Option<&'static str> {
    let applies = |parts: &&[&str]| parts.iter().any(|part| message.contains(part));
    REMEDIES.iter().find(|(parts, _)| applies(parts)).map(|(_, remedy)| *remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_for_want_of_threads_and_sockets_have_a_remedy() {
        for (message, word) in [
            ("failed to spawn thread: Error { kind: Unsupported, message: \"operation not supported\" }", "threads"),
            ("OS can't spawn worker thread: operation not supported on this platform", "threads"),
            ("cannot call wasm-bindgen imported functions on non-wasm targets", "wasmop::fetch"),
            ("A Tokio 1.x context was found, but IO is disabled. Call `enable_io` on the runtime", "sockets"),
        ] {
            assert!(remedy(message).is_some_and(|remedy| remedy.contains(word)), "{message}");
        }
        assert_eq!(remedy("called `Option::unwrap()` on a `None` value"), None);
    }
}
