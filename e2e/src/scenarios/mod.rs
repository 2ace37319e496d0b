//! The scenarios, and the order in which a guest runs through them. Each is a function of a [`GuestFixture`].
//!
//! A new row of the conformance or the soft table is listed here, and nowhere else.
//!
//! [`GuestFixture`]: crate::guest_fixture::GuestFixture

pub mod behaviour;
pub mod caching;
pub mod downtime;
pub mod events;
pub mod host_restart;
pub mod hostile;
pub mod lifecycle;
pub mod mapping;
pub mod memory;
pub mod objects;
pub mod restart;
pub mod retries;
pub mod soft;
pub mod startup;
pub mod suspension;

use behaviour::Behaviour;
use host_restart::HostRestart;

/// `behaviour!("name", function)`, where the function is an `async fn(GuestFixture) -> Result<()>`.
macro_rules! behaviour {
    ($name:literal, $function:path) => {
        Behaviour { name: $name, check: |fixture| Box::pin($function(fixture)) }
    };
}

/// Rows of the conformance table that leave the host running.
pub fn behaviours() -> Vec<Behaviour> {
    vec![
        behaviour!("creating a Probe creates its child", lifecycle::create),
        behaviour!("updating a Probe updates its child", lifecycle::update),
        behaviour!("deleting a Probe runs its finalizer", lifecycle::delete),
        behaviour!("children of a deleted Probe are garbage-collected", lifecycle::garbage),
        behaviour!("a deleted child is restored", lifecycle::restore),
        behaviour!("a status conflict is retried", retries::conflict),
        behaviour!("requeue-after fires on time", retries::requeue),
        behaviour!("errors are retried with backoff", retries::error),
        behaviour!("50 objects are reconciled concurrently", retries::fifty),
        behaviour!("cached reads send no request", caching::reads),
        behaviour!("cached reads see the controller's own writes", caching::own_writes),
        behaviour!("cached reads resume after a write without a version", caching::subresource),
        behaviour!("own writes trigger no reconcile, writes of others do", caching::ignored),
        behaviour!("a CEL predicate filters changes", caching::predicate),
        behaviour!("map function: a moved label reconciles both objects", mapping::moved),
        behaviour!("map function: a name without an object is reconciled", mapping::absent),
        behaviour!("one step emits several Events, one about an odd name", events::of_one_step),
        behaviour!("a patch preserves 64-bit integers", objects::exact),
        behaviour!("every client call preserves values", objects::calls),
        behaviour!("equal quantities cause no update", objects::quantities),
        behaviour!("an object nested 200 levels blocks no other object", objects::nested),
        behaviour!("a guest lists 12 MB", objects::list),
        behaviour!("a counter survives suspend and resume", suspension::counter),
        behaviour!("random numbers and map iteration survive a suspension", suspension::random),
        behaviour!("both clocks are right after a resume", suspension::clocks),
        behaviour!("a timer pending during a suspension fires", suspension::timer),
        behaviour!("a reconcile is suspended while the API server is slow", suspension::slow),
        behaviour!("panic: other reconciles complete, the culprit backs off", hostile::panic),
        behaviour!("a crash is one line in the log", hostile::crash),
        behaviour!("a self-triggering reconcile gets an Event", hostile::self_triggered),
        behaviour!("endless loop: others complete, the culprit backs off", hostile::endless_loop),
        behaviour!("memory limit: others complete, the culprit backs off", hostile::memory_limit),
        behaviour!("full memory: the guest restarts, objects are reconciled", memory::leak),
    ]
}

/// Rows of the conformance table that restart the host.
pub fn host_restarts() -> Vec<HostRestart> {
    [restart::all(), vec![downtime::restart(), memory::restart()], startup::restarts()].into_iter().flatten().collect()
}

/// Rows of the soft tier's table that leave the host running.
pub fn soft_behaviours() -> Vec<Behaviour> {
    vec![
        behaviour!("a softly suspended guest keeps its counters", soft::counter),
        behaviour!("WASI reaches nothing of the machine", soft::denied),
        behaviour!("a blocking wait ends at the step's time limit", soft::wait),
        behaviour!("a panic restarts the guest, other objects go on", soft::panic),
    ]
}

/// Rows of the soft tier's table that restart the host themselves.
pub fn soft_host_restarts() -> Vec<Behaviour> {
    vec![
        behaviour!("a host restart clears memory and forgets no object", soft::over_restart),
        behaviour!("a grant gives access to what it names and no more", soft::granted),
    ]
}
