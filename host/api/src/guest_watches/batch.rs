//! Lines of a watch that arrived together, of which the guest gets some. A batch is worth one resume.

use bytes::Bytes;
use wasmop_core::guest_watch::{Progress, Verdict};
use wasmop_core::reply::CHUNK_BYTES;

use super::lines::Lines;

/// Lines that arrived together.
#[derive(Default)]
pub(super) struct Batch {
    /// Those for the guest, each with its version; `None` if the version is not known to be later.
    pub lines: Vec<(Option<u64>, Bytes)>,
    bytes: usize,
    /// The last bookmark and its version.
    pub bookmark: Option<(u64, Bytes)>,
    /// What follows the batch.
    pub next: Next,
}

/// What follows a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Next {
    /// More lines.
    #[default]
    Lines,
    /// Nothing: the batch ends with an error, of which the guest is told.
    End,
    /// Something else than watch events, so that the connection is of no use.
    Garbage,
}

impl Batch {
    /// The line `first`, and those after it that are here already. `progress` has read exactly the lines of the batch.
    pub fn fill(first: Vec<u8>, lines: &mut Lines, progress: &mut Progress) -> Batch {
        let mut batch = Batch::default();
        let mut next = Some(first);
        while let Some(line) = next {
            batch.add(line, progress);
            let is_open = batch.next == Next::Lines && batch.bytes < CHUNK_BYTES;
            next = if is_open { lines.next_now() } else { None };
        }
        batch
    }

    fn add(&mut self, line: Vec<u8>, progress: &mut Progress) {
        let before = progress.version();
        let verdict = match progress.read(&line) {
            Ok(verdict) => verdict,
            Err(error) => {
                tracing::debug!(%error, "the API server sent something else than watch events");
                self.next = Next::Garbage;
                return;
            }
        };
        let version = progress.version().filter(|version| Some(*version) > before);
        match verdict {
            Verdict::Hide => self.bookmark = version.map(|version| (version, line.into())),
            Verdict::Deliver | Verdict::DeliverLast => {
                self.bytes += line.len();
                self.lines.push((version, line.into()));
            }
        }
        if verdict == Verdict::DeliverLast {
            self.next = Next::End;
        }
    }

    /// The lines after version `seen`; all with `None`.
    pub fn after(&self, seen: Option<u64>) -> Bytes {
        let wanted = self.lines.iter().filter(|(version, _)| version.is_none() || *version > seen);
        match &wanted.map(|(_, line)| line).collect::<Vec<_>>()[..] {
            [] => Bytes::new(),
            [only] => (*only).clone(),
            several => several.iter().map(|line| &line[..]).collect::<Vec<_>>().concat().into(),
        }
    }
}
