//! The behaviours, each a function of a scene: `Ok` if the guest behaves as it should.

/// `behaviour!("name", function)`, where the function is `async fn(Scene) -> Result<()>`.
macro_rules! behaviour {
    ($name:literal, $function:path) => {
        Behaviour { name: $name, run: |scene| Box::pin(async move { $function(scene).await.map(Ok) }) }
    };
}

pub mod caching;
pub mod downtime;
pub mod events;
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

use futures::future::BoxFuture;

use crate::scene::Scene;

/// Why a behaviour could not be looked at in this world.
pub struct NotHere(pub String);

/// Passed, or not applicable here.
pub type Outcome = anyhow::Result<Result<(), NotHere>>;

/// A row of the table.
pub struct Behaviour {
    pub name: &'static str,
    pub run: fn(Scene) -> BoxFuture<'static, Outcome>,
}

/// Those that leave the host running; a guest goes through them in this order.
pub fn all() -> Vec<Behaviour> {
    vec![
        behaviour!("create", lifecycle::create),
        behaviour!("update", lifecycle::update),
        behaviour!("delete with finalizer", lifecycle::delete),
        Behaviour { name: "children of a deleted object collected", run: |scene| Box::pin(lifecycle::garbage(scene)) },
        behaviour!("child deleted and restored", lifecycle::restore),
        behaviour!("status conflict retried", retries::conflict),
        behaviour!("requeue-after on time", retries::requeue),
        behaviour!("error with backoff", retries::error),
        behaviour!("50 objects concurrently", retries::fifty),
        behaviour!("cached reads without a request", caching::reads),
        behaviour!("cached reads see own writes", caching::own_writes),
        behaviour!("cached reads after a write without a version", caching::subresource),
        behaviour!("own writes ignored, others' seen", caching::ignored),
        behaviour!("predicate in CEL: what does not count", caching::predicate),
        behaviour!("map: a label moves, both names reconciled", mapping::moved),
        behaviour!("map: a name without an object reconciled", mapping::absent),
        behaviour!("two Events in a step, one of an odd name", events::of_one_step),
        behaviour!("integers exact through a patch", objects::exact),
        behaviour!("values exact through every call", objects::calls),
        behaviour!("equal quantities are no change", objects::quantities),
        behaviour!("an object nested 200 levels, others go on", objects::nested),
        behaviour!("a list of 12 MB", objects::list),
        behaviour!("counter survives suspend", suspension::counter),
        behaviour!("random and map iteration continue", suspension::random),
        behaviour!("wall and monotonic clock after resume", suspension::clocks),
        behaviour!("timer pending over suspension fires", suspension::timer),
        behaviour!("suspend in mid-reconcile, slow API server", suspension::slow),
        behaviour!("panic: others complete, culprit backs off", hostile::panic),
        behaviour!("a crash is one line in the log", hostile::crash),
        behaviour!("reconciles that cause each other: an Event", hostile::self_triggered),
        behaviour!("endless loop: CPU limit, same", hostile::endless_loop),
        behaviour!("memory limit, same", hostile::memory_limit),
        behaviour!("memory fills up: begins anew, all reconciled", memory::leak),
    ]
}
