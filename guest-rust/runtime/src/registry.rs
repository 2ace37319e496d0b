//! The registered controllers. The host addresses each by the index that `register` returned.

use std::cell::RefCell;

use super::abi;
use crate::spec::ControllerSpec;

/// A host event for one controller.
pub enum HostEvent {
    /// Reconcile the object with this key.
    Reconcile { task: u64, key: String },
    /// Return the keys that a watched object belongs to. `object` is JSON. `deleted` says that the object is gone.
    Map { task: u64, watch: usize, object: Vec<u8>, deleted: bool },
}

/// Passes an event to a controller. Returns false if the controller's stream was dropped.
type Sink = Box<dyn Fn(HostEvent) -> bool>;

thread_local! {
    /// The position is the host's index.
    static CONTROLLERS: RefCell<Vec<Sink>> = const { RefCell::new(Vec::new()) };
}

/// Registers a controller with the host.
pub fn register(spec: &ControllerSpec, sink: impl Fn(HostEvent) -> bool + 'static) {
    let spec = serde_json::to_string(spec).expect("a spec consists of strings and numbers");
    let index = abi::register(&spec);
    CONTROLLERS.with_borrow_mut(|controllers| {
        assert_eq!(controllers.len(), index as usize, "the host numbers controllers in the order of registration");
        controllers.push(Box::new(sink));
    });
}

fn deliver(index: usize, event: HostEvent) -> bool {
    CONTROLLERS.with_borrow(|controllers| controllers.get(index).is_some_and(|sink| sink(event)))
}

/// Handles the host's `reconcile` event.
pub fn on_reconcile(task: u64, index: u32, key: &[u8]) {
    let key = String::from_utf8_lossy(key).into_owned();
    if !deliver(index as usize, HostEvent::Reconcile { task, key }) {
        abi::done(task, None, Some("the controller has ended: its stream was dropped"));
    }
}

/// Handles the host's `map` event.
pub fn on_map(task: u64, aux: u32, object: Vec<u8>) {
    let (index, watch, deleted) = (aux >> 16, aux & 0x7fff, aux & 0x8000 != 0);
    if !deliver(index as usize, HostEvent::Map { task, watch: watch as usize, object, deleted }) {
        abi::mapped(task, "");
    }
}
