//! Reconciles under way: which one is running right now, and how to stop one.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;

use tokio::task::AbortHandle;

use super::abi;

/// No reconcile.
const NONE: u64 = 0;

thread_local! {
    /// Whose code is running.
    static CURRENT: Cell<u64> = const { Cell::new(NONE) };
    /// What each task is at; changed by [`begin`], [`end`] and [`cancel`] alone.
    static UNDER_WAY: RefCell<HashMap<u64, AbortHandle>> = RefCell::new(HashMap::new());
}

/// The reconcile whose code is running, 0 for none.
pub fn current() -> u64 {
    CURRENT.get()
}

/// Until it is dropped, the running code belongs to a task; the host is told, for the case that
/// the code traps.
pub struct Entered {
    previous: u64,
}

pub fn enter(task: u64) -> Entered {
    abi::enter(task);
    Entered { previous: CURRENT.replace(task) }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.previous);
        abi::enter(self.previous);
    }
}

/// A future whose polls belong to a task.
pub async fn within<F: Future>(task: u64, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        let _entered = enter(task);
        future.as_mut().poll(context)
    })
    .await
}

/// Notes what a task is at now.
pub fn begin(task: u64, handle: AbortHandle) {
    UNDER_WAY.with_borrow_mut(|under_way| under_way.insert(task, handle));
}

/// Whether the task is still wanted.
pub fn is_under_way(task: u64) -> bool {
    UNDER_WAY.with_borrow(|under_way| under_way.contains_key(&task))
}

/// Forgets a task; false if it had been cancelled.
pub fn end(task: u64) -> bool {
    UNDER_WAY.with_borrow_mut(|under_way| under_way.remove(&task)).is_some()
}

/// Stops a task at its next await. Tasks that it has spawned go on, as with `tokio::spawn` natively.
pub fn cancel(task: u64) {
    let handle = UNDER_WAY.with_borrow_mut(|under_way| under_way.remove(&task));
    if let Some(handle) = handle {
        handle.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_hears_whose_code_runs_at_each_poll() {
        let seen = within(7, async {
            let outer = current();
            tokio::task::yield_now().await;
            (outer, within(8, async { current() }).await, current())
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        assert_eq!(runtime.block_on(seen), (7, 8, 7));
        assert_eq!(current(), NONE);
        assert_eq!(abi::told(), ["enter 7", "enter 0", "enter 7", "enter 8", "enter 7", "enter 0"]);
    }

    #[test]
    fn a_cancelled_task_is_dropped_and_no_longer_under_way() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let handle = tokio::spawn(std::future::pending::<()>());
            begin(3, handle.abort_handle());
            assert!(is_under_way(3));
            cancel(3);
            assert!(!is_under_way(3) && !end(3));
            assert!(handle.await.expect_err("aborted").is_cancelled());
            cancel(3);
        });
    }
}
