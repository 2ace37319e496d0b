//! Worker threads that run steps, at most one for each core at once: guests rarely block, so more would only contend.
//!
//! A long step is interrupted every few milliseconds (`epoch_ticker`). There it may have to wait for its next turn
//! (`run_slots`): its thread sleeps, and another thread uses the core. So a controller that computes for seconds does
//! not delay the others.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;
use std::{io, thread};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::step_scheduler::run_slots::{RunGrant, RunSlots};

mod run_slots;

type ScheduledJob = Box<dyn FnOnce() + Send>;

/// Interruptions after which a job does not count as long yet: the first may come at once.
const SHORT_SLICES: u32 = 1;

/// The worker threads. They end after the drop, when all submitted jobs are done.
pub struct StepScheduler(Arc<SchedulerShared>);

struct SchedulerShared {
    state: Mutex<SchedulerState>,
    /// Wakes idle threads.
    work: Condvar,
    /// Wakes threads that wait for their turn.
    turn: Condvar,
    started: Instant,
    /// Most idle threads; others end.
    max_idle: usize,
}

struct SchedulerState {
    run_slots: RunSlots<ScheduledJob>,
    /// Jobs with a run slot that no thread has taken yet.
    begun: VecDeque<ScheduledJob>,
    /// Threads with a run slot again that have not woken yet.
    resumed: Vec<u64>,
    /// Threads without a job.
    idle: usize,
    /// Threads started so far; the next one's id.
    threads: u64,
    /// No more jobs will come.
    closed: bool,
}

/// A worker thread's own state.
struct Worker {
    shared: Arc<SchedulerShared>,
    id: u64,
    /// Interruptions of the current job.
    slices: u32,
    /// The current job counts as long.
    is_long: bool,
}

thread_local! {
    static WORKER: RefCell<Option<Worker>> = const { RefCell::new(None) };
}

impl StepScheduler {
    /// Starts a thread for each core.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn start() -> io::Result<StepScheduler> {
        let cores = thread::available_parallelism().map_or(1, |n| n.get());
        let (run_slots, begun, resumed) = (RunSlots::new(cores), VecDeque::new(), Vec::new());
        let state = SchedulerState { run_slots, begun, resumed, idle: 0, threads: 0, closed: false };
        let shared = Arc::new(SchedulerShared {
            state: Mutex::new(state),
            work: Condvar::new(),
            turn: Condvar::new(),
            started: Instant::now(),
            max_idle: cores,
        });
        for _ in 0..cores {
            spawn(&shared, &mut shared.state())?;
        }
        Ok(StepScheduler(shared))
    }

    /// Queues a job. Never blocks.
    pub fn submit(&self, job: impl FnOnce() + Send + 'static) {
        let mut state = self.0.state();
        state.run_slots.submit(Box::new(job));
        self.0.grant(&mut state);
    }
}

impl Drop for StepScheduler {
    fn drop(&mut self) {
        self.0.state().closed = true;
        self.0.work.notify_all();
    }
}

/// Called by a running step at each interruption: a long step waits here while it is not its turn. Does nothing on other
/// threads.
pub(crate) fn slice_used() {
    with_worker(|worker| {
        worker.slices += 1;
        if worker.slices <= SHORT_SLICES {
            return;
        }
        let shared = &worker.shared;
        let mut state = shared.state();
        let stays = state.run_slots.slice_used(worker.id, worker.is_long, shared.started.elapsed());
        worker.is_long = true;
        if !stays {
            shared.grant(&mut state);
            shared.await_turn(state, worker.id);
        }
    });
}

/// Runs `wait`, which waits for something else than a core, and gives the run slot to others for that time.
pub(crate) fn without_run_slot<T>(wait: impl FnOnce() -> T) -> T {
    with_worker(|worker| {
        let mut state = worker.shared.state();
        state.run_slots.leave(std::mem::take(&mut worker.is_long));
        worker.slices = 0;
        worker.shared.grant(&mut state);
    });
    let result = wait();
    with_worker(|worker| {
        let shared = &worker.shared;
        let mut state = shared.state();
        state.run_slots.requeue(worker.id);
        shared.grant(&mut state);
        shared.await_turn(state, worker.id);
    });
    result
}

fn with_worker(run: impl FnOnce(&mut Worker)) {
    WORKER.with_borrow_mut(|worker| {
        if let Some(worker) = worker {
            run(worker);
        }
    });
}

fn spawn(shared: &Arc<SchedulerShared>, state: &mut SchedulerState) -> io::Result<()> {
    let id = state.threads;
    let worker = Worker { shared: shared.clone(), id, slices: 0, is_long: false };
    thread::Builder::new().name(format!("wasmop-step-{id}")).spawn(move || {
        let shared = worker.shared.clone();
        WORKER.set(Some(worker));
        shared.work();
    })?;
    state.threads += 1;
    Ok(())
}

impl SchedulerShared {
    fn state(&self) -> MutexGuard<'_, SchedulerState> {
        self.state.lock()
    }

    /// Hands out free run slots.
    fn grant(self: &Arc<Self>, state: &mut SchedulerState) {
        while let Some(grant) = state.run_slots.grant(self.started.elapsed()) {
            match grant {
                RunGrant::Waiter(id) => {
                    state.resumed.push(id);
                    self.turn.notify_all();
                }
                RunGrant::Job(job) => {
                    state.begun.push_back(job);
                    if state.begun.len() > state.idle {
                        // If the system refuses another thread, the job waits for the next free one.
                        let _ = spawn(self, state);
                    } else {
                        self.work.notify_one();
                    }
                }
            }
        }
    }

    /// Waits until thread `id` has a run slot.
    fn await_turn(&self, mut state: MutexGuard<'_, SchedulerState>, id: u64) {
        loop {
            if let Some(at) = state.resumed.iter().position(|granted| *granted == id) {
                state.resumed.swap_remove(at);
                return;
            }
            self.turn.wait(&mut state);
        }
    }

    /// Runs jobs until the thread is not needed any more.
    fn work(self: &Arc<Self>) {
        let mut state = self.state();
        loop {
            if let Some(job) = state.begun.pop_front() {
                drop(state);
                // The panic hook has reported a panic. The run slot must not be lost with it.
                let _ = catch_unwind(AssertUnwindSafe(job));
                let mut is_long = false;
                with_worker(|worker| {
                    is_long = std::mem::take(&mut worker.is_long);
                    worker.slices = 0;
                });
                state = self.state();
                state.run_slots.leave(is_long);
                self.grant(&mut state);
                continue;
            }
            if state.closed || state.idle >= self.max_idle {
                return;
            }
            state.idle += 1;
            self.work.wait(&mut state);
            state.idle -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn endless_steps_do_not_starve_others() {
        let scheduler = StepScheduler::start().unwrap();
        let (tx, rx) = mpsc::channel();
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        for _ in 0..10 {
            let (tx, stop) = (tx.clone(), stop.clone());
            scheduler.submit(move || {
                while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                    slice_used();
                }
                tx.send("long").unwrap();
            });
        }
        for _ in 0..100 {
            let tx = tx.clone();
            scheduler.submit(move || tx.send("short").unwrap());
        }
        let first: Vec<_> = rx.iter().take(100).collect();
        assert_eq!(first, ["short"; 100]);
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        drop((tx, scheduler));
        assert_eq!(rx.iter().collect::<Vec<_>>(), ["long"; 10], "all jobs end with the scheduler");
    }

    #[test]
    fn waiting_and_panicking_jobs_free_their_run_slots() {
        let scheduler = StepScheduler::start().unwrap();
        let (tx, rx) = mpsc::channel();
        let (gate, opened) = mpsc::channel::<()>();
        let opened = Arc::new(Mutex::new(opened));
        for _ in 0..100 {
            let (tx, opened) = (tx.clone(), opened.clone());
            scheduler.submit(move || {
                without_run_slot(|| opened.lock().recv().unwrap());
                tx.send("waited").unwrap();
            });
            scheduler.submit(|| std::panic::resume_unwind(Box::new("as a guest's host function might")));
        }
        let after = tx.clone();
        scheduler.submit(move || after.send("not").unwrap());
        assert_eq!(rx.recv(), Ok("not"));
        (0..100).for_each(|_| gate.send(()).unwrap());
        drop((tx, scheduler));
        assert_eq!(rx.iter().collect::<Vec<_>>(), ["waited"; 100]);
    }
}
