//! Threads that run guests, one for each core: a guest never blocks, so more would only contend.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

type Job = Box<dyn FnOnce() + Send>;

/// Ends when dropped, after the jobs submitted so far.
pub struct Pool(mpsc::Sender<Job>);

impl Pool {
    pub fn start() -> io::Result<Pool> {
        let threads = thread::available_parallelism().map_or(1, |n| n.get());
        let (tx, rx) = mpsc::channel::<Job>();
        let rx = Arc::new(Mutex::new(rx));
        for n in 0..threads {
            let rx = rx.clone();
            thread::Builder::new().name(format!("wasmop-step-{n}")).spawn(move || {
                loop {
                    let job = rx.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    match job {
                        Ok(job) => job(),
                        Err(mpsc::RecvError) => return,
                    }
                }
            })?;
        }
        Ok(Pool(tx))
    }

    pub fn submit(&self, job: impl FnOnce() + Send + 'static) {
        // The threads outlive the sender.
        let _ = self.0.send(Box::new(job));
    }
}
