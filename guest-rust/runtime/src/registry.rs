//! The registered controllers. The host addresses each by the index that `register` returned.

use std::cell::RefCell;

use crate::abi;

/// A host event for one controller.
#[derive(Debug)]
pub enum HostEvent {
    /// Reconcile the object with this key.
    Reconcile {
        /// The task.
        task: u64,
        /// `namespace/name`, or `name` for cluster-scoped objects.
        key: String,
    },
    /// Return the keys that a watched object belongs to.
    Map {
        /// The task.
        task: u64,
        /// The index of the watch.
        watch: usize,
        /// JSON.
        object: Vec<u8>,
        /// The object is gone.
        deleted: bool,
    },
}

/// Passes an event to a controller. Returns false if the controller was dropped.
type Sink = Box<dyn Fn(HostEvent) -> bool>;

enum Entry {
    Runs(Sink),
    /// It has ended as it was meant to.
    Ended,
}

thread_local! {
    /// The position is the host's index.
    static CONTROLLERS: RefCell<Vec<Entry>> = const { RefCell::new(Vec::new()) };
}

/// Registers a controller with the host and returns its index. `spec` is JSON.
pub fn register(spec: &str, sink: impl Fn(HostEvent) -> bool + 'static) -> usize {
    let index = abi::register(spec) as usize;
    CONTROLLERS.with_borrow_mut(|controllers| {
        assert_eq!(controllers.len(), index, "the host numbers controllers in the order of registration");
        controllers.push(Entry::Runs(Box::new(sink)));
    });
    index
}

/// Ends a controller. Objects that the host still sends are forgotten until they change.
pub fn end(index: usize) {
    let ended = CONTROLLERS.with_borrow_mut(|controllers| {
        controllers.get_mut(index).map(|controller| std::mem::replace(controller, Entry::Ended))
    });
    // Outside the borrow: dropping user code may run anything.
    drop(ended);
}

/// What became of an event.
#[derive(PartialEq)]
enum Delivery {
    Received,
    Ended,
    Dropped,
}

fn deliver(index: usize, event: HostEvent) -> Delivery {
    CONTROLLERS.with_borrow(|controllers| match controllers.get(index) {
        Some(Entry::Runs(sink)) if sink(event) => Delivery::Received,
        Some(Entry::Ended) => Delivery::Ended,
        _ => Delivery::Dropped,
    })
}

/// Handles the host's `reconcile` event.
pub fn on_reconcile(task: u64, index: u32, key: &[u8]) {
    let key = String::from_utf8_lossy(key).into_owned();
    match deliver(index as usize, HostEvent::Reconcile { task, key }) {
        Delivery::Received => {}
        Delivery::Ended => abi::done(task, None, None),
        Delivery::Dropped => abi::done(task, None, Some("the controller has ended: its stream was dropped")),
    }
}

/// Handles the host's `map` event.
pub fn on_map(task: u64, aux: u32, object: Vec<u8>) {
    let (index, watch, deleted) = (aux >> 16, aux & 0x7fff, aux & 0x8000 != 0);
    let event = HostEvent::Map { task, watch: watch as usize, object, deleted };
    if deliver(index as usize, event) != Delivery::Received {
        abi::mapped(task, "");
    }
}
