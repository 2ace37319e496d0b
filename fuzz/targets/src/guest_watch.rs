//! The watch of a guest and its events: the first line is the path, the second the `Accept` header, then the events.

use wasmop_core::guest_watch::{GuestWatch, Position, Progress, Verdict};
use wasmop_core::permissions::is_watch;

pub fn target(data: &[u8]) {
    let mut lines = data.split_inclusive(|byte| *byte == b'\n');
    let mut text = || lines.next().and_then(|line| std::str::from_utf8(line).ok()).map(str::trim_end);
    let (Some(path), Some(accept)) = (text(), text()) else { return };
    let Some(watch) = GuestWatch::of("GET", path, &format!("accept: {accept}\n")) else { return };
    assert!(watch.stream.accept.starts_with("application/json"));
    // The host's request asks for the same, and can be read again.
    let request = watch.stream.request(&watch.position, 300);
    assert!(is_watch("GET", &request), "{request}");
    let again = GuestWatch::of("GET", &request, &format!("accept: {}\n", watch.stream.accept));
    let again = again.unwrap_or_else(|| panic!("{request}"));
    assert_eq!((&again.stream, &again.position), (&watch.stream, &watch.position), "{request}");

    let mut progress = Progress::new(watch.position);
    for line in lines {
        let before = progress.clone();
        match progress.read(line) {
            Err(_) => assert_eq!(progress, before),
            Ok(Verdict::DeliverLast) => return,
            // A position never becomes a list again.
            Ok(_) => assert!(before.version().is_none() || matches!(progress.position(), Position::After(_))),
        }
    }
}
