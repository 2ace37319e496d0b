//! Reconciles in progress: which one is running now, and how to cancel one.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;

use tokio::task::AbortHandle;

use crate::abi;

/// The task of code that belongs to no reconcile.
const NONE: u64 = 0;

thread_local! {
    /// The task whose code is running.
    static CURRENT: Cell<u64> = const { Cell::new(NONE) };
    /// The current work of each task. Only [`begin`], [`end`] and [`cancel`] change it.
    static IN_PROGRESS: RefCell<HashMap<u64, AbortHandle>> = RefCell::new(HashMap::new());
}

/// Returns the task whose code is running, or 0 if there is none.
pub fn current() -> u64 {
    CURRENT.get()
}

/// While this guard exists, the running code belongs to a task.
///
/// The host learns the task as well, so that it can cancel the right one if the code traps.
pub struct TaskGuard {
    previous: u64,
}

/// Marks the running code as part of `task` until the guard is dropped.
pub fn enter(task: u64) -> TaskGuard {
    abi::enter(task);
    TaskGuard { previous: CURRENT.replace(task) }
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        CURRENT.set(self.previous);
        abi::enter(self.previous);
    }
}

/// Polls a future as part of `task`.
pub async fn within<F: Future>(task: u64, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        let _guard = enter(task);
        future.as_mut().poll(context)
    })
    .await
}

/// Sets the current work of a task.
pub fn begin(task: u64, handle: AbortHandle) {
    IN_PROGRESS.with_borrow_mut(|in_progress| in_progress.insert(task, handle));
}

/// Returns whether a task has begun and has neither ended nor been cancelled.
pub fn is_in_progress(task: u64) -> bool {
    IN_PROGRESS.with_borrow(|in_progress| in_progress.contains_key(&task))
}

/// Ends a task. Returns false if the host has cancelled it.
pub fn end(task: u64) -> bool {
    IN_PROGRESS.with_borrow_mut(|in_progress| in_progress.remove(&task)).is_some()
}

/// Aborts a task at its next await. Tasks that it spawned continue, as natively.
pub fn cancel(task: u64) {
    let handle = IN_PROGRESS.with_borrow_mut(|in_progress| in_progress.remove(&task));
    if let Some(handle) = handle {
        handle.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_poll_tells_the_host_the_running_task() {
        let seen = within(7, async {
            let outer = current();
            tokio::task::yield_now().await;
            (outer, within(8, async { current() }).await, current())
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        assert_eq!(runtime.block_on(seen), (7, 8, 7));
        assert_eq!(current(), NONE);
        assert_eq!(abi::recorded(), ["enter 7", "enter 0", "enter 7", "enter 8", "enter 7", "enter 0"]);
    }

    #[test]
    fn cancelling_a_task_aborts_and_removes_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let handle = tokio::spawn(std::future::pending::<()>());
            begin(3, handle.abort_handle());
            assert!(is_in_progress(3));
            cancel(3);
            assert!(!is_in_progress(3) && !end(3));
            assert!(handle.await.expect_err("aborted").is_cancelled());
            cancel(3);
        });
    }
}
