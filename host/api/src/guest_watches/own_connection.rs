//! A connection that serves one watch of a guest: its list, and what it has missed.

use std::sync::Weak;

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use wasmop_core::guest_watch::{Position, Progress};

use super::batch::{Batch, Next};
use super::lines::{Lines, NotOpened};
use super::subscriber::Subscriber;
use super::{Key, Watches};

/// Serves a subscriber from `position` on, until it can join the shared stream.
pub(super) async fn serve(watches: Weak<Watches>, key: Key, position: Position, mut subscriber: Subscriber) {
    let mut progress = Progress::new(position);
    let mut lines = None;
    let mut failures = 0;
    loop {
        let Some(all) = watches.upgrade() else { return };
        if let Some(version) = progress.version() {
            match all.join(&key, version, lines.take(), subscriber) {
                Ok(()) => return,
                Err(back) => (lines, subscriber) = *back,
            }
        }
        let (client, timings) = (all.client.clone(), all.timings);
        drop(all);
        if lines.is_none() {
            match Lines::open(&client, &key, progress.position(), Some(&subscriber.user_agent)).await {
                Ok(opened) => lines = Some(opened),
                Err(NotOpened::Refused { code, status }) if !subscriber.has_head() => {
                    return subscriber.refuse(code, status).await;
                }
                Err(NotOpened::Unreachable(why)) if !subscriber.has_head() => return subscriber.fail(why),
                // The guest asks again and sees why.
                Err(NotOpened::Refused { .. }) => return subscriber.end(None),
                Err(NotOpened::Unreachable(_)) => {
                    failures += 1;
                    sleep(timings.delay(failures)).await;
                    continue;
                }
            }
        }
        let Some(open) = &mut lines else { continue };
        let begun = Instant::now();
        if subscriber.deliver(Bytes::new()).await.is_none() {
            return;
        }
        match pass_on(open, &mut progress, &mut subscriber).await {
            Passed::Joinable => continue,
            Passed::Gone => return,
            Passed::Last => return subscriber.end(None),
            Passed::Ended => {}
        }
        lines = None;
        if progress.version().is_none() {
            // A list cannot be continued.
            return subscriber.end(None);
        }
        failures = if begun.elapsed() < timings.good { failures + 1 } else { 0 };
        if failures > 0 {
            sleep(timings.delay(failures)).await;
        }
    }
}

/// Why a connection's lines are no longer passed on.
enum Passed {
    /// All that has arrived was passed on, and the position is known.
    Joinable,
    /// The connection has ended.
    Ended,
    /// The watch has failed, which the guest has been told.
    Last,
    /// Nobody waits for it any more.
    Gone,
}

async fn pass_on(lines: &mut Lines, progress: &mut Progress, subscriber: &mut Subscriber) -> Passed {
    loop {
        let Some(line) = lines.next().await else { return Passed::Ended };
        let batch = Batch::fill(line, lines, progress);
        let wanted = batch.after(None);
        if !wanted.is_empty() && subscriber.deliver(wanted).await.is_none() {
            return Passed::Gone;
        }
        match batch.next {
            Next::End => return Passed::Last,
            Next::Garbage => return Passed::Ended,
            Next::Lines if progress.version().is_some() => return Passed::Joinable,
            Next::Lines => {}
        }
    }
}
