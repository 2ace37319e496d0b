//! A child process that is terminated, and killed after a timeout.

use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process};

/// Sends a signal. A process that has already ended is no error.
fn send(child: &Child, signal: Signal) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// A child process that is stopped when it is dropped.
pub struct Process {
    child: Option<Child>,
    name: &'static str,
    timeout: Duration,
}

impl Process {
    pub fn new(name: &'static str, child: Child, timeout: Duration) -> Process {
        Process { child: Some(child), name, timeout }
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The exit status, if the process has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().ok().flatten()
    }

    /// Sends SIGTERM, without waiting.
    pub fn terminate(&self) {
        self.child.iter().for_each(|child| send(child, Signal::TERM));
    }

    /// Sends SIGHUP, without waiting.
    pub fn hang_up(&self) {
        self.child.iter().for_each(|child| send(child, Signal::HUP));
    }

    /// Sends SIGKILL and waits.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Sends SIGTERM and waits. Kills the process when its timeout is over.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        send(&child, Signal::TERM);
        let deadline = Instant::now() + self.timeout;
        while child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                child.kill()?;
                child.wait()?;
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Leaves the process running when this value is dropped.
    pub fn detach(&mut self) {
        self.child = None;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}
