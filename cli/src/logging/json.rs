//! One JSON object a line: timestamp, level, message, target, then the event's own fields.

use std::fmt;

use serde_json::{Map, Value};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::fields::Fields;

pub struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let metadata = event.metadata();
        let line = object(&timestamp, metadata.level().as_str(), metadata.target(), Fields::of(event));
        writeln!(writer, "{}", Value::Object(line))
    }
}

/// The line as an object. A field cannot replace one of the four fixed ones.
pub fn object(timestamp: &str, level: &str, target: &str, fields: Fields) -> Map<String, Value> {
    let mut line = Map::new();
    for (name, value) in fields.others {
        line.insert(name.to_owned(), value);
    }
    for (name, value) in [("timestamp", timestamp), ("level", level), ("message", &fields.message), ("target", target)]
    {
        line.insert(name.to_owned(), Value::from(value));
    }
    line
}
