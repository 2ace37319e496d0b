//! Periodic progress lines for a long step without a terminal, with the elapsed time and the current activity.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Prints lines until it is dropped.
pub struct Heartbeat {
    /// The current activity.
    message: Arc<Mutex<String>>,
    /// Dropped to end the thread.
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Heartbeat {
    /// Calls `print` every `interval` with the elapsed time and the message.
    pub fn start(interval: Duration, print: impl Fn(Duration, &str) + Send + 'static) -> Heartbeat {
        let message = Arc::new(Mutex::new(String::new()));
        let (end, ended) = mpsc::channel::<()>();
        let begun = Instant::now();
        let of_thread = message.clone();
        let thread = std::thread::spawn(move || {
            while ended.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                let message = of_thread.lock().unwrap_or_else(PoisonError::into_inner).clone();
                print(begun.elapsed(), &message);
            }
        });
        Heartbeat { message, end: Some(end), thread: Some(thread) }
    }

    pub fn set_message(&self, message: &str) {
        message.clone_into(&mut self.message.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        drop(self.end.take());
        // The caller's next line must be the last one.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_last_message_until_it_is_dropped() {
        let (tx, lines) = mpsc::channel();
        let print = move |elapsed: Duration, message: &str| drop(tx.send((elapsed, message.to_owned())));
        let heartbeat = Heartbeat::start(Duration::from_millis(1), print);
        heartbeat.set_message("Compiling serde");
        let patience = Duration::from_secs(30);
        let first = lines.recv_timeout(patience).expect("a line");
        let said = std::iter::from_fn(|| lines.recv_timeout(patience).ok()).find(|(_, it)| it == "Compiling serde");
        assert!(said.is_some_and(|(elapsed, _)| elapsed > first.0 || first.1 == "Compiling serde"));
        drop(heartbeat);
        while lines.try_recv().is_ok() {}
        assert!(lines.recv().is_err(), "it printed after its end");
    }

    #[test]
    fn dropping_it_does_not_wait_for_the_next_line() {
        let heartbeat = Heartbeat::start(Duration::from_secs(3600), |_, _| {});
        drop(heartbeat);
    }
}
