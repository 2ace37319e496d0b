//! Threads that run guests, as many at once as there are cores: a guest never blocks, so more would only contend.
//!
//! A step that takes long is interrupted every few milliseconds (`engine`), and may have to wait there until it is
//! its turn again ([`run_slots`]): its thread sleeps, and another one takes its place. So a controller that
//! computes for seconds keeps no other one waiting.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use std::{io, thread};

use crate::step_scheduler::run_slots::{RunGrant, RunSlots};

mod run_slots;

type ScheduledJob = Box<dyn FnOnce() + Send>;

/// Interruptions that a job may see before it counts as long: the first may come at once.
const SHORT_SLICES: u32 = 1;

/// Ends when dropped, after the jobs submitted so far.
pub struct StepScheduler(Arc<SchedulerShared>);

struct SchedulerShared {
    state: Mutex<SchedulerState>,
    /// For threads without a job.
    work: Condvar,
    /// For threads that have given their place away.
    turn: Condvar,
    started: Instant,
    /// Threads without a job that are kept.
    kept: usize,
}

struct SchedulerState {
    places: RunSlots<ScheduledJob>,
    /// They have a place, and wait for a thread.
    begun: VecDeque<ScheduledJob>,
    /// They have a place again, and their threads are on their way.
    back: Vec<u64>,
    idle: usize,
    threads: u64,
    closed: bool,
}

/// What a thread of the pool knows of itself.
struct Worker {
    shared: Arc<SchedulerShared>,
    id: u64,
    /// Interruptions of its job.
    slices: u32,
    is_long: bool,
}

thread_local! {
    static WORKER: RefCell<Option<Worker>> = const { RefCell::new(None) };
}

impl StepScheduler {
    pub fn start() -> io::Result<StepScheduler> {
        let cores = thread::available_parallelism().map_or(1, |n| n.get());
        let (places, begun, back) = (RunSlots::new(cores), VecDeque::new(), Vec::new());
        let state = SchedulerState { places, begun, back, idle: 0, threads: 0, closed: false };
        let shared = Arc::new(SchedulerShared {
            state: Mutex::new(state),
            work: Condvar::new(),
            turn: Condvar::new(),
            started: Instant::now(),
            kept: cores,
        });
        for _ in 0..cores {
            spawn(&shared, &mut shared.state())?;
        }
        Ok(StepScheduler(shared))
    }

    pub fn submit(&self, job: impl FnOnce() + Send + 'static) {
        let mut state = self.0.state();
        state.places.submit(Box::new(job));
        self.0.grant(&mut state);
    }
}

impl Drop for StepScheduler {
    fn drop(&mut self) {
        self.0.state().closed = true;
        self.0.work.notify_all();
    }
}

/// A long step is at a point where it can wait: waits there if it is not its turn. Nothing happens on other threads.
pub(crate) fn slice_used() {
    with_worker(|worker| {
        worker.slices += 1;
        if worker.slices <= SHORT_SLICES {
            return;
        }
        let shared = &worker.shared;
        let mut state = shared.state();
        let stays = state.places.slice_used(worker.id, worker.is_long, shared.started.elapsed());
        worker.is_long = true;
        if !stays {
            shared.grant(&mut state);
            shared.await_turn(state, worker.id);
        }
    });
}

/// Runs what waits for something else than a core, without a place meanwhile.
pub(crate) fn aside<T>(wait: impl FnOnce() -> T) -> T {
    with_worker(|worker| {
        let mut state = worker.shared.state();
        state.places.leave(std::mem::take(&mut worker.is_long));
        worker.slices = 0;
        worker.shared.grant(&mut state);
    });
    let result = wait();
    with_worker(|worker| {
        let shared = &worker.shared;
        let mut state = shared.state();
        state.places.come_back(worker.id);
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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives free places away.
    fn grant(self: &Arc<Self>, state: &mut SchedulerState) {
        while let Some(grant) = state.places.grant(self.started.elapsed()) {
            match grant {
                RunGrant::Waiter(id) => {
                    state.back.push(id);
                    self.turn.notify_all();
                }
                RunGrant::Job(job) => {
                    state.begun.push_back(job);
                    if state.begun.len() > state.idle {
                        // Without one more thread it waits until one is free.
                        let _ = spawn(self, state);
                    } else {
                        self.work.notify_one();
                    }
                }
            }
        }
    }

    fn await_turn(&self, mut state: MutexGuard<'_, SchedulerState>, id: u64) {
        loop {
            if let Some(at) = state.back.iter().position(|granted| *granted == id) {
                state.back.swap_remove(at);
                return;
            }
            state = self.turn.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A thread's life.
    fn work(self: &Arc<Self>) {
        let mut state = self.state();
        loop {
            if let Some(job) = state.begun.pop_front() {
                drop(state);
                // A panic has been told by the hook; the place must not be lost with it.
                let _ = catch_unwind(AssertUnwindSafe(job));
                let mut is_long = false;
                with_worker(|worker| {
                    is_long = std::mem::take(&mut worker.is_long);
                    worker.slices = 0;
                });
                state = self.state();
                state.places.leave(is_long);
                self.grant(&mut state);
                continue;
            }
            if state.closed || state.idle >= self.kept {
                return;
            }
            state.idle += 1;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn steps_that_never_end_leave_room_for_others() {
        let pool = StepScheduler::start().unwrap();
        let (tx, rx) = mpsc::channel();
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        for _ in 0..10 {
            let (tx, stop) = (tx.clone(), stop.clone());
            pool.submit(move || {
                while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                    slice_used();
                }
                tx.send("long").unwrap();
            });
        }
        for _ in 0..100 {
            let tx = tx.clone();
            pool.submit(move || tx.send("short").unwrap());
        }
        let first: Vec<_> = rx.iter().take(100).collect();
        assert_eq!(first, ["short"; 100]);
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        drop((tx, pool));
        assert_eq!(rx.iter().collect::<Vec<_>>(), ["long"; 10], "they end with the pool, all of them");
    }

    #[test]
    fn whoever_waits_for_something_else_takes_no_place_and_a_panic_neither() {
        let pool = StepScheduler::start().unwrap();
        let (tx, rx) = mpsc::channel();
        let (gate, opened) = mpsc::channel::<()>();
        let opened = Arc::new(Mutex::new(opened));
        for _ in 0..100 {
            let (tx, opened) = (tx.clone(), opened.clone());
            pool.submit(move || {
                aside(|| opened.lock().unwrap().recv().unwrap());
                tx.send("waited").unwrap();
            });
            pool.submit(|| std::panic::resume_unwind(Box::new("as a guest's host function might")));
        }
        let after = tx.clone();
        pool.submit(move || after.send("not").unwrap());
        assert_eq!(rx.recv(), Ok("not"));
        (0..100).for_each(|_| gate.send(()).unwrap());
        drop((tx, pool));
        assert_eq!(rx.iter().collect::<Vec<_>>(), ["waited"; 100]);
    }
}
