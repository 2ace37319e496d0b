//! Formats sizes for people.

/// A number of bytes, in the largest unit that fits.
pub fn bytes(bytes: f64) -> String {
    match bytes {
        b if b < 1024.0 => format!("{b:.0} B"),
        b if b < 1024.0 * 1024.0 => format!("{:.1} KiB", b / 1024.0),
        b => format!("{:.1} MiB", b / 1024.0 / 1024.0),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_are_shown_in_the_largest_unit_that_fits() {
        for (number, text) in
            [(0.0, "0 B"), (1000.0, "1000 B"), (1536.0, "1.5 KiB"), (3.0 * 1024.0 * 1024.0, "3.0 MiB")]
        {
            assert_eq!(super::bytes(number), text);
        }
    }
}
