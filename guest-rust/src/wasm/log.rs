//! Turns `tracing` events into lines of the host's log. A line has a level, a target, a message, and one JSON object
//! with the fields of the event and of its spans.

use std::fmt::{Debug, Write};
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_core::span::Current;

use super::abi;
use super::error_chain::describe;
use super::log_filter::{LogFilter, host_level};

/// Sends `tracing` events to the host's log, filtered by the environment variable `RUST_LOG`.
///
/// If `RUST_LOG` is not set, the controller's `log-level` in the host's configuration applies. The default is `info`.
/// [`macro@crate::main`] calls this function. It does nothing if a global subscriber is already set.
#[cfg(target_family = "wasm")]
pub fn init_logging() {
    init_with_default(None);
}

/// Like [`init_logging`], with the controller's level from the host's configuration.
#[cfg(target_family = "wasm")]
pub(crate) fn init_with_default(level: Option<&str>) {
    let filter = std::env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty());
    let filter = LogFilter::parse(filter.as_deref().or(level).unwrap_or_default());
    let _ = tracing::subscriber::set_global_default(HostLog::new(filter));
}

/// The subscriber. It is used by one thread, but `tracing` requires `Sync`, hence the mutex.
pub struct HostLog {
    filter: LogFilter,
    spans: Mutex<Spans>,
}

/// Invariant: a span is in `slots` while its reference count is above zero, and `entered` contains only such spans.
#[derive(Default)]
struct Spans {
    /// A span's ID is its position plus one.
    slots: Vec<Option<Span>>,
    /// The entered spans, innermost last.
    entered: Vec<Id>,
}

struct Span {
    metadata: &'static Metadata<'static>,
    parent: Option<Id>,
    fields: Map<String, Value>,
    references: usize,
}

impl Spans {
    fn get(&mut self, id: &Id) -> Option<&mut Span> {
        self.slots.get_mut(position(id)).and_then(Option::as_mut)
    }

    /// Adds the fields of a span and of its ancestors. Inner fields take precedence.
    fn fields_of(&self, innermost: Option<Id>, fields: &mut Map<String, Value>) {
        let mut next = innermost;
        while let Some(span) = next.as_ref().and_then(|id| self.slots.get(position(id))).and_then(Option::as_ref) {
            for (name, value) in &span.fields {
                if !fields.contains_key(name) {
                    fields.insert(name.clone(), value.clone());
                }
            }
            next.clone_from(&span.parent);
        }
    }
}

fn position(id: &Id) -> usize {
    // `new_span` derives IDs from positions.
    id.into_u64() as usize - 1
}

impl HostLog {
    pub fn new(filter: LogFilter) -> HostLog {
        HostLog { filter, spans: Mutex::default() }
    }

    fn spans(&self) -> std::sync::MutexGuard<'_, Spans> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscriber for HostLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.allows(metadata)
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(self.filter.max_level())
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut fields = FieldVisitor::default();
        attributes.record(&mut fields);
        let mut spans = self.spans();
        let parent = match attributes.parent() {
            Some(parent) => Some(parent.clone()),
            None if attributes.is_contextual() => spans.entered.last().cloned(),
            None => None,
        };
        if let Some(parent) = parent.as_ref().and_then(|parent| spans.get(parent)) {
            parent.references += 1;
        }
        let span = Some(Span { metadata: attributes.metadata(), parent, fields: fields.values, references: 1 });
        let free = spans.slots.iter().position(Option::is_none);
        let position = free.unwrap_or_else(|| {
            spans.slots.push(None);
            spans.slots.len() - 1
        });
        spans.slots[position] = span;
        Id::from_u64(position as u64 + 1)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        let mut fields = FieldVisitor::default();
        values.record(&mut fields);
        if let Some(span) = self.spans().get(id) {
            span.fields.extend(fields.values);
        }
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = FieldVisitor::default();
        event.record(&mut fields);
        let FieldVisitor { message, mut values } = fields;
        {
            let spans = self.spans();
            let span = if event.is_contextual() { spans.entered.last() } else { event.parent() };
            spans.fields_of(span.cloned(), &mut values);
        }
        let json = if values.is_empty() { String::new() } else { Value::Object(values).to_string() };
        abi::log(host_level(*event.metadata().level()), event.metadata().target(), &message, &json);
    }

    fn enter(&self, id: &Id) {
        self.spans().entered.push(id.clone());
    }

    fn exit(&self, id: &Id) {
        let mut spans = self.spans();
        if let Some(position) = spans.entered.iter().rposition(|entered| entered == id) {
            spans.entered.remove(position);
        }
    }

    fn clone_span(&self, id: &Id) -> Id {
        if let Some(span) = self.spans().get(id) {
            span.references += 1;
        }
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        let mut spans = self.spans();
        let mut next = Some(id);
        let mut closed = false;
        // A closed span releases its parent.
        while let Some(id) = next.take() {
            let Some(span) = spans.get(&id) else { break };
            span.references -= 1;
            if span.references == 0 {
                next = spans.slots[position(&id)].take().and_then(|span| span.parent);
                closed = true;
            }
        }
        closed
    }

    fn current_span(&self) -> Current {
        let mut spans = self.spans();
        let Some(id) = spans.entered.last().cloned() else { return Current::none() };
        match spans.get(&id) {
            Some(span) => Current::new(id, span.metadata),
            None => Current::none(),
        }
    }
}

/// Collects the fields of an event or span, with `message` separate.
#[derive(Default)]
struct FieldVisitor {
    message: String,
    values: Map<String, Value>,
}

impl FieldVisitor {
    fn add(&mut self, field: &Field, value: impl Into<Value>) {
        self.values.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for FieldVisitor {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            self.add(field, format!("{value:?}"));
        }
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.add(field, value);
        }
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value);
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value);
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add(field, describe(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::{debug, error, info, info_span, warn};

    fn logged(filter: &str, f: impl FnOnce()) -> Vec<String> {
        tracing::subscriber::with_default(HostLog::new(LogFilter::parse(filter)), f);
        abi::recorded()
    }

    #[test]
    fn an_event_becomes_a_line_with_its_fields_as_json() {
        let lines = logged("", || {
            info!(target: "mine", count = 3, ok = true, name = "x", list = ?[1], "did {}", "it");
            warn!(target: "mine", "plain");
            debug!(target: "mine", "below the level");
        });
        assert_eq!(lines[0], r#"log 2 mine did it {"count":3,"list":"[1]","name":"x","ok":true}"#);
        assert_eq!(lines[1], "log 3 mine plain ");
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn an_event_has_the_fields_of_its_spans() {
        let lines = logged("", || {
            let outer = info_span!("outer", object = "ns/a", depth = 1);
            let _outer = outer.enter();
            let inner = info_span!("inner", depth = 2, later = tracing::field::Empty);
            drop(_outer);
            inner.record("later", "yes");
            inner.in_scope(|| error!(target: "mine", own = 1, "m"));
            drop((inner, outer));
            info!(target: "mine", "outside");
        });
        assert_eq!(lines[0], r#"log 4 mine m {"depth":2,"later":"yes","object":"ns/a","own":1}"#);
        assert_eq!(lines[1], "log 2 mine outside ");
    }

    #[test]
    fn closed_spans_free_their_slots() {
        let log = HostLog::new(LogFilter::parse(""));
        let dispatch = tracing::Dispatch::new(log);
        tracing::dispatcher::with_default(&dispatch, || {
            for _ in 0..10 {
                let outer = info_span!("outer").entered();
                let inner = info_span!("inner");
                drop(outer);
                drop(inner.clone());
                drop(inner);
            }
        });
        let log = dispatch.downcast_ref::<HostLog>().expect("the subscriber");
        let spans = log.spans();
        assert!(spans.slots.len() <= 2 && spans.slots.iter().all(Option::is_none) && spans.entered.is_empty());
    }
}
