//! A child process that is asked to end, and made to if it does not.

use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process};

/// A process that is gone already is not an error.
fn send(child: &Child, signal: Signal) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// A child that does not outlive its owner.
pub struct Process {
    child: Option<Child>,
    name: &'static str,
    patience: Duration,
}

impl Process {
    pub fn new(name: &'static str, child: Child, patience: Duration) -> Process {
        Process { child: Some(child), name, patience }
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().ok().flatten()
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        self.child.iter().for_each(|child| send(child, Signal::TERM));
    }

    /// SIGHUP, without waiting for anything.
    pub fn hang_up(&self) {
        self.child.iter().for_each(|child| send(child, Signal::HUP));
    }

    /// Ends it at once.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Asks it to end and waits; kills it when that takes longer than its patience.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        send(&child, Signal::TERM);
        let deadline = Instant::now() + self.patience;
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

    /// Lets it run on after its owner.
    pub fn detach(&mut self) {
        self.child = None;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}
