//! Hand-written bindings of the world `wasmop:controller`.
//!
//! They follow the canonical ABI but need no allocations by the host: the guest reads each payload into its own buffer.

/// A host event.
#[derive(Debug)]
pub struct Event {
    /// What has happened.
    pub kind: EventKind,
    /// The task or call.
    pub id: u64,
    /// Depends on `kind`; see the enum `event-kind` in `wit/wasmop.wit`.
    pub aux: u32,
    /// Depends on `kind`.
    pub payload: Vec<u8>,
}

/// The enum `event-kind` in `wit/wasmop.wit`, without `nothing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The world documents them.
pub enum EventKind {
    Start,
    Reconcile,
    Map,
    Head,
    Body,
    End,
    Failed,
    Cancel,
}

/// A request to the API server, or to an external host.
#[derive(Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// Empty for the API server, else `https://host:port`.
    pub target: &'a str,
    /// The method.
    pub method: &'a str,
    /// The path with its query.
    pub path: &'a str,
    /// Lines of `name: value\n`.
    pub headers: &'a str,
    /// The complete body.
    pub body: &'a [u8],
}

#[cfg(target_family = "wasm")]
pub use guest::*;
#[cfg(not(target_family = "wasm"))]
pub use recording_host::*;

#[cfg(target_family = "wasm")]
#[allow(missing_docs)] // The functions of the world, which documents them.
mod guest {
    use super::{Call, Event, EventKind};

    /// The layout of `record event` in the canonical ABI.
    #[repr(C, align(8))]
    #[derive(Default)]
    struct RawEvent {
        kind: u8,
        id: u64,
        aux: u32,
        len: u32,
    }
    const _: () = assert!(size_of::<RawEvent>() == 24 && core::mem::offset_of!(RawEvent, len) == 20);

    mod sys {
        #[link(wasm_import_module = "wasmop:controller/sys@0.1.0")]
        unsafe extern "C" {
            #[rustfmt::skip]
            pub fn log(
                level: u32,
                target: *const u8,
                target_len: usize,
                message: *const u8,
                message_len: usize,
                fields: *const u8,
                fields_len: usize,
            );
        }
    }

    mod runtime {
        use super::RawEvent;

        #[link(wasm_import_module = "wasmop:controller/runtime@0.1.0")]
        unsafe extern "C" {
            pub fn next(event: *mut RawEvent);
            pub safe fn enter(task: u64);
            pub fn register(spec: *const u8, spec_len: usize) -> u32;
            #[link_name = "drop-call"]
            pub safe fn drop_call(id: u64);
            #[rustfmt::skip]
            pub fn call(
                id: u64,
                task: u64,
                target: *const u8,
                target_len: usize,
                method: *const u8,
                method_len: usize,
                path: *const u8,
                path_len: usize,
                headers: *const u8,
                headers_len: usize,
                body: *const u8,
                body_len: usize,
            );
            #[rustfmt::skip]
            pub fn done(
                task: u64,
                has_requeue: u32,
                requeue_ns: u64,
                has_error: u32,
                error: *const u8,
                error_len: usize,
            );
            pub fn mapped(task: u64, keys: *const u8, keys_len: usize);
        }
    }

    mod rt {
        #[link(wasm_import_module = "wasmop_rt")]
        unsafe extern "C" {
            /// Copies the `len` bytes of the last event's payload to `to`. `scratch` is space for a pointer and a
            /// length.
            pub fn read(to: *mut u8, len: usize, scratch: *mut [usize; 2]);
        }
    }

    /// Returns the next event of this step with its payload.
    pub fn next() -> Option<Event> {
        let mut raw = RawEvent::default();
        // SAFETY: the host writes one `event` record, which `RawEvent` lays out.
        unsafe { runtime::next(&mut raw) };
        let kind = match raw.kind {
            1 => EventKind::Start,
            2 => EventKind::Reconcile,
            3 => EventKind::Map,
            4 => EventKind::Head,
            5 => EventKind::Body,
            6 => EventKind::End,
            7 => EventKind::Failed,
            8 => EventKind::Cancel,
            _ => return None,
        };
        let len = raw.len as usize;
        let mut payload = Vec::with_capacity(len);
        if len > 0 {
            let mut scratch = [0; 2];
            // SAFETY: `payload` has capacity for `len` bytes, and the adapter writes exactly `len` bytes or traps.
            unsafe {
                rt::read(payload.as_mut_ptr(), len, &mut scratch);
                payload.set_len(len);
            }
        }
        Some(Event { kind, id: raw.id, aux: raw.aux, payload })
    }

    pub fn log(level: u32, target: &str, message: &str, fields: &str) {
        // SAFETY: the pointers and lengths are those of live strings, and the host only reads them.
        unsafe {
            sys::log(
                level,
                target.as_ptr(),
                target.len(),
                message.as_ptr(),
                message.len(),
                fields.as_ptr(),
                fields.len(),
            );
        }
    }

    pub fn register(spec: &str) -> u32 {
        // SAFETY: as in `log`.
        unsafe { runtime::register(spec.as_ptr(), spec.len()) }
    }

    pub fn call(id: u64, task: u64, call: &Call<'_>) {
        let Call { target, method, path, headers, body } = call;
        // SAFETY: as in `log`.
        #[rustfmt::skip]
        unsafe {
            runtime::call(
                id, task, target.as_ptr(), target.len(), method.as_ptr(), method.len(),
                path.as_ptr(), path.len(), headers.as_ptr(), headers.len(), body.as_ptr(), body.len(),
            );
        };
    }

    pub fn drop_call(id: u64) {
        runtime::drop_call(id);
    }

    pub fn done(task: u64, requeue_ns: Option<u64>, error: Option<&str>) {
        let text = error.unwrap_or_default();
        // SAFETY: as in `log`.
        unsafe {
            runtime::done(
                task,
                requeue_ns.is_some().into(),
                requeue_ns.unwrap_or_default(),
                error.is_some().into(),
                text.as_ptr(),
                text.len(),
            );
        }
    }

    pub fn mapped(task: u64, keys: &str) {
        // SAFETY: as in `log`.
        unsafe { runtime::mapped(task, keys.as_ptr(), keys.len()) }
    }

    pub fn enter(task: u64) {
        runtime::enter(task);
    }
}

/// A host for tests. It records the calls of each thread.
#[cfg(not(target_family = "wasm"))]
#[allow(missing_docs)]
mod recording_host {
    use super::Call;
    use std::cell::{Cell, RefCell};

    thread_local! {
        static CALLS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
        static REGISTERED: Cell<u32> = const { Cell::new(0) };
    }

    fn record(text: String) {
        CALLS.with_borrow_mut(|calls| calls.push(text));
    }

    /// Returns the calls since the last `recorded`.
    pub fn recorded() -> Vec<String> {
        CALLS.take()
    }

    pub fn log(level: u32, target: &str, message: &str, fields: &str) {
        record(format!("log {level} {target} {message} {fields}"));
    }

    pub fn call(id: u64, task: u64, call: &Call<'_>) {
        let Call { target, method, path, headers, body } = call;
        let target = if target.is_empty() { String::new() } else { format!("{target} ") };
        record(format!("call {id} task {task} {target}{method} {path} {headers:?} {}", String::from_utf8_lossy(body)));
    }

    pub fn drop_call(id: u64) {
        record(format!("drop-call {id}"));
    }

    pub fn register(spec: &str) -> u32 {
        record(format!("register {spec}"));
        REGISTERED.replace(REGISTERED.get() + 1)
    }

    pub fn done(task: u64, requeue_ns: Option<u64>, error: Option<&str>) {
        record(format!("done {task} requeue {requeue_ns:?} error {error:?}"));
    }

    pub fn mapped(task: u64, keys: &str) {
        record(format!("mapped {task} {keys:?}"));
    }

    pub fn enter(task: u64) {
        record(format!("enter {task}"));
    }
}
