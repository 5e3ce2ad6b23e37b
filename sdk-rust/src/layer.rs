//! Logs of the `tracing` crate become records.
//!
//! Fields become attributes, those of the spans around an event included; the inner one wins. Some
//! names have a meaning: `message`; `latency_ms` or `duration_ms`, if a number; `trace_id` and
//! `span_id`, if hexadecimal. The library's own thread, and the crates it sends with, are left out: a
//! log of sending would cause the next.

use std::fmt;

use logweir_proto::v1::{Level, LogRecord};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{
    Layer,
    layer::Context,
    registry::{LookupSpan, Scope},
};

use crate::{
    client::Client,
    record::{self, Record, Value},
    rim,
};

/// Crates that sending goes through.
const IGNORED_CRATES: [&str; 7] =
    ["h2", "hyper", "hyper_util", "tonic", "tower", "logweir_sdk", "logweir_proto"];
/// The target of events that come from the `log` crate; their own target is a field.
const LOG_TARGET: &str = "log";
const LOG_FIELDS: &str = "log.";

/// A layer that sends events to a client.
///
/// ```no_run
/// use tracing_subscriber::prelude::*;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = logweir_sdk::Client::builder().service("payments").build()?;
/// tracing_subscriber::registry().with(logweir_sdk::layer(client)).init();
/// # Ok(())
/// # }
/// ```
pub fn layer(client: Client) -> LogweirLayer {
    LogweirLayer { client }
}

/// See [`layer`].
#[derive(Debug)]
pub struct LogweirLayer {
    client: Client,
}

impl<S> Layer<S> for LogweirLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(
        &self,
        attributes: &span::Attributes<'_>,
        id: &span::Id,
        context: Context<'_, S>,
    ) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().replace(fields);
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if rim::is_sdk_thread() || is_ignored(event.metadata()) {
            return;
        }
        let mut fields = inherited(context.event_scope(event));
        event.record(&mut fields);
        self.client.emit(Record(to_record(event.metadata(), fields)));
    }
}

fn is_ignored(metadata: &Metadata<'_>) -> bool {
    let name = metadata.target().split("::").next().unwrap_or_default();
    IGNORED_CRATES.contains(&name)
}

/// The fields of the spans around an event, outermost first.
fn inherited<S>(scope: Option<Scope<'_, S>>) -> Fields
where
    S: for<'a> LookupSpan<'a>,
{
    let mut all = Fields::default();
    for span in scope.into_iter().flat_map(Scope::from_root) {
        if let Some(fields) = span.extensions().get::<Fields>() {
            for (name, value) in &fields.0 {
                all.set(name, value.clone());
            }
        }
    }
    all
}

fn to_record(metadata: &Metadata<'_>, mut fields: Fields) -> LogRecord {
    let mut logger = metadata.target().to_owned();
    if logger == LOG_TARGET {
        if let Some(Value::Text(target)) = fields.take("log.target") {
            logger = target;
        }
        fields.0.retain(|(name, _)| !name.starts_with(LOG_FIELDS));
    }
    let message = match fields.take("message") {
        Some(Value::Text(message)) => message,
        Some(other) => fields_text(other),
        None => metadata.name().to_owned(),
    };
    let latency_ms = fields.take_number("latency_ms").or_else(|| fields.take_number("duration_ms"));
    let trace_id = fields.take_id::<16>("trace_id");
    let span_id = fields.take_id::<8>("span_id");
    let named = fields.0.into_iter();
    LogRecord {
        level: level(metadata).into(),
        message,
        latency_ms,
        trace_id,
        span_id,
        logger,
        attributes: named.map(|(name, value)| record::attribute(name.into(), value)).collect(),
        ..LogRecord::default()
    }
}

fn level(metadata: &Metadata<'_>) -> Level {
    match *metadata.level() {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::TRACE => Level::Trace,
    }
}

fn fields_text(value: Value) -> String {
    match value {
        Value::Text(text) | Value::Json(text) => text,
        Value::Int(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
    }
}

/// The fields of an event or a span, each name once.
#[derive(Debug, Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn set(&mut self, name: &'static str, value: Value) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.remove(at).1)
    }

    /// A number that a latency can be. Anything else stays an attribute.
    fn take_number(&mut self, name: &str) -> Option<f64> {
        let (_, value) = self.0.iter().find(|(known, _)| *known == name)?;
        let number = match value {
            Value::Int(number) => *number as f64,
            Value::Double(number) => *number,
            _ => return None,
        };
        let is_latency = number.is_finite() && number >= 0.0;
        is_latency.then(|| self.take(name)).map(|_| number)
    }

    /// An id in hexadecimal digits; empty if there is none. Anything else stays an attribute.
    fn take_id<const SIZE: usize>(&mut self, name: &str) -> Vec<u8> {
        let value = self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
        let Some(Value::Text(text)) = value else { return Vec::new() };
        let mut id = [0; SIZE];
        if hex::decode_to_slice(text, &mut id).is_err() {
            return Vec::new();
        }
        self.take(name);
        id.to_vec()
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field.name(), Value::Double(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), Value::Int(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), Value::Bool(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field.name(), Value::Text(format!("{value:?}")));
    }
}
