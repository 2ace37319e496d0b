//! Tables for every decision of the control loop: events in, effects and state out. No socket, thread or clock.
//!
//! ```text
//! environment  watches as plain data       harness   a loop, its clock, and what workers would do
//! watching, replays, registrations         from watch events to reconciles
//! requests, cached_reads, own_writes       from calls to requests, and answers back
//! stepping, suspension, restarts           the life of an instance
//! limits, leadership, settings, shutdown   what holds a controller back, moves it or ends it
//! status, timers                           what the loop says of itself
//! random_events                            any sequence of events
//! random_shell, checks                     what happens in them, and what has to hold after every event
//! setup, effects                           controllers to add; what the loop wants done
//! ```

mod cached_reads;
mod checks;
mod effects;
mod environment;
mod harness;
mod leadership;
mod limits;
mod own_writes;
mod random_events;
mod random_shell;
mod registrations;
mod replays;
mod requests;
mod restarts;
mod settings;
mod setup;
mod shutdown;
mod status;
mod stepping;
mod suspension;
mod timers;
mod watching;
