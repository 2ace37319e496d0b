//! Follows the events of a watch, and decides which of them the guest gets.

use super::line::Line;
use super::request::Position;

/// What becomes of a line of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The guest gets it.
    Deliver,
    /// It would only resume the guest: a bookmark.
    Hide,
    /// The guest gets it, and the watch ends: an error.
    DeliverLast,
}

/// How far a watch has come.
///
/// Invariant: all events up to `position` have been read, and none after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    position: Position,
}

impl Progress {
    /// The progress of a watch that begins at `position`.
    pub fn new(position: Position) -> Progress {
        Progress { position }
    }

    /// Where a new request continues. A watch that is still listing begins again.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// The resource version up to which all is known. `None` during the list at the beginning.
    pub fn version(&self) -> Option<u64> {
        match self.position {
            Position::After(version) => Some(version),
            Position::Synthetic(_) | Position::List(_) => None,
        }
    }

    /// Takes in the next line.
    ///
    /// # Errors
    /// It is not a watch event.
    pub fn read(&mut self, line: &[u8]) -> Result<Verdict, serde_json::Error> {
        Ok(match Line::read(line)? {
            Line::Change(version) => {
                if let (Position::After(_), Some(version)) = (&self.position, version) {
                    self.position = Position::After(version);
                }
                Verdict::Deliver
            }
            Line::Bookmark { version, ends_list } => {
                let lists = matches!(self.position, Position::List(_));
                if let Some(version) = version.filter(|_| !lists || ends_list) {
                    self.position = Position::After(version);
                }
                // The guest waits for the end of its list.
                if lists && ends_list { Verdict::Deliver } else { Verdict::Hide }
            }
            Line::Error => Verdict::DeliverLast,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, version: &str) -> String {
        format!(r#"{{"type":"{kind}","object":{{"metadata":{{"resourceVersion":"{version}"}}}}}}"#)
    }

    fn list_end(version: &str) -> String {
        let annotations = r#"{"k8s.io/initial-events-end":"true"}"#;
        format!(
            r#"{{"type":"BOOKMARK","object":{{"metadata":{{"resourceVersion":"{version}","annotations":{annotations}}}}}}}"#
        )
    }

    #[test]
    fn changes_are_delivered_and_bookmarks_move_the_position_only() {
        use Verdict::{Deliver, DeliverLast, Hide};
        let list = || Position::List("sendInitialEvents=true".into());
        let synthetic = || Position::Synthetic("resourceVersion=0".into());
        let table = [
            (
                Position::After(5),
                vec![
                    (event("ADDED", "6"), Deliver, Some(6)),
                    (event("BOOKMARK", "9"), Hide, Some(9)),
                    (event("DELETED", "12"), Deliver, Some(12)),
                    (event("MODIFIED", "none"), Deliver, Some(12)),
                    (list_end("13"), Hide, Some(13)),
                    (event("ERROR", ""), DeliverLast, Some(13)),
                ],
            ),
            (
                list(),
                vec![
                    (event("ADDED", "90"), Deliver, None),
                    (event("ADDED", "4"), Deliver, None),
                    (event("BOOKMARK", "91"), Hide, None),
                    (list_end("92"), Deliver, Some(92)),
                    (event("MODIFIED", "93"), Deliver, Some(93)),
                    (event("BOOKMARK", "95"), Hide, Some(95)),
                ],
            ),
            // A list whose end has no number has no position.
            (list(), vec![(list_end("x"), Deliver, None), (event("ADDED", "8"), Deliver, None)]),
            (
                synthetic(),
                vec![
                    (event("ADDED", "90"), Deliver, None),
                    (event("ADDED", "4"), Deliver, None),
                    (event("BOOKMARK", "91"), Hide, Some(91)),
                    (event("ADDED", "92"), Deliver, Some(92)),
                ],
            ),
        ];
        for (position, lines) in table {
            let mut progress = Progress::new(position);
            for (line, verdict, version) in lines {
                assert_eq!(progress.read(line.as_bytes()).unwrap(), verdict, "{line}");
                assert_eq!(progress.version(), version, "{line}");
            }
        }
        let mut progress = Progress::new(Position::After(5));
        assert!(progress.read(b"<html>").is_err());
        assert_eq!(progress.position(), &Position::After(5));
    }
}
