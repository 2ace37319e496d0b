//! Advances the engine's epoch while steps run, which interrupts them to check their CPU time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

/// Time between two interruptions of a running step. A step exceeds its CPU limit by at most this much.
const CPU_CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// A thread that ticks while at least one step runs, and sleeps otherwise: an idle host causes no wake-ups.
pub(crate) struct EpochTicker {
    running: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
    thread: Thread,
}

/// Epochs advance every [`CPU_CHECK_INTERVAL`] while this guard lives.
pub(crate) struct Ticking<'a>(&'a EpochTicker);

impl EpochTicker {
    /// Starts the thread. It ends with the ticker, or with the engine.
    ///
    /// # Errors
    /// If the system refuses another thread.
    pub fn start(engine: wasmtime::Engine) -> std::io::Result<EpochTicker> {
        let running = Arc::new(AtomicUsize::new(0));
        let ended = Arc::new(AtomicBool::new(false));
        let (counter, has_ended) = (running.clone(), ended.clone());
        let weak = engine.weak();
        drop(engine);
        let handle = thread::Builder::new().name("wasmop-epoch".into()).spawn(move || {
            loop {
                if counter.load(Ordering::SeqCst) == 0 {
                    thread::park();
                } else {
                    thread::sleep(CPU_CHECK_INTERVAL);
                }
                match weak.upgrade() {
                    Some(engine) if !has_ended.load(Ordering::SeqCst) => engine.increment_epoch(),
                    _ => return,
                }
            }
        })?;
        Ok(EpochTicker { running, ended, thread: handle.thread().clone() })
    }

    /// Keeps the epoch advancing while the guard lives.
    pub fn tick(&self) -> Ticking<'_> {
        if self.running.fetch_add(1, Ordering::SeqCst) == 0 {
            self.thread.unpark();
        }
        Ticking(self)
    }
}

impl Drop for EpochTicker {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}
