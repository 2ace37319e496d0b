//! Bugs that are planted to see whether the simulation finds them.

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// Every 25th change that a watch tells of is lost on its way to the loop.
    DropChanges,
    /// The loop is not told when a snapshot could not be written.
    LoseSaveFailures,
    /// Requeues and timers start over when a host starts.
    ForgetElapsed,
    /// Delivered bytes are given back twice.
    GiveCreditTwice,
    /// What another controller has seen of a watch is taken for what this one has seen.
    SwapPlaces,
    /// Watches that nobody wants go on.
    KeepWatches,
    /// Answers are delivered twice.
    AnswerTwice,
    /// The shell keeps an instance at home while a worker has it.
    KeepInstances,
    /// The loop is not woken by time alone.
    SleepIn,
    /// The clock of one host runs at half the speed, so that it holds its leases for too long.
    SlowClock,
    /// Some connections are not given back.
    LeakConnections,
    /// Pieces of answers are delivered thousands of times.
    RepeatBodies,
    /// Some writes are acknowledged and not carried out.
    DropWrites,
    /// The worker drops what says that a reconcile is done.
    DropDone,
}
