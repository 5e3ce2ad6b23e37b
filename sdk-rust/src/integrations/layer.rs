//! Logs of the `tracing` crate become records.
//!
//! Fields become attributes, those of the spans around an event included; the inner one wins. Some
//! names have a meaning of their own, as `fields` tells. The library's own thread, and the crates
//! it sends with, are left out: a log of sending would cause the next.

use std::fmt;

use logweir_proto::v1::{Level, LogRecord};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    layer::Context,
    prelude::*,
    registry::{LookupSpan, Scope},
};

use crate::{
    client::Client,
    error::ConfigError,
    integrations::guard::Guard,
    platform,
    record::{Record, Value, fields::Fields},
};

/// The names of `tracing` are known when a program is compiled.
type SpanFields = Fields<&'static str>;

/// Crates that sending goes through.
const IGNORED_CRATES: [&str; 7] =
    ["h2", "hyper", "hyper_util", "tonic", "tower", "logweir_sdk", "logweir_proto"];
/// The target of events that come from the `log` crate; their own target is a field.
const LOG_TARGET: &str = "log";
const LOG_FIELDS: &str = "log.";

/// Levels by target, such as `info,hyper=warn`.
const RUST_LOG: &str = "RUST_LOG";

/// Sends what `tracing` logs, from now until the guard goes: INFO and above, or what `RUST_LOG`
/// says (levels by target, such as `info,my_crate=debug`). Address and token come from the
/// environment. A panic flushes too.
pub fn init(service: &str) -> Result<Guard, ConfigError> {
    let context = platform::ProcessContext::real();
    let config = Client::builder().service(service).resolve(&context)?;
    let filter = filter((context.variable)(RUST_LOG), &config.notice);
    let client = Client::start(config)?;
    tracing_subscriber::registry()
        .with(layer(client.clone()).with_filter(filter))
        .try_init()
        .map_err(|_| ConfigError::Subscriber)?;
    Ok(Guard::new(client))
}

fn filter(setting: Option<String>, notice: &platform::Notice) -> Targets {
    let default = Targets::new().with_default(LevelFilter::INFO);
    let Some(text) = setting else { return default };
    text.parse().unwrap_or_else(|error| {
        notice(&format!("{RUST_LOG}: {error}; going on with INFO"));
        default
    })
}

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
        let mut fields = SpanFields::default();
        attributes.record(&mut fields);
        // Replaced and not inserted: another layer of ours may have been here.
        span.extensions_mut().replace(fields);
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<SpanFields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        // A log of sending would cause the next send, and so on without end.
        if platform::is_sdk_thread() || is_ignored(event.metadata()) {
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
fn inherited<S>(scope: Option<Scope<'_, S>>) -> SpanFields
where
    S: for<'a> LookupSpan<'a>,
{
    let mut all = SpanFields::default();
    // From the root inwards, so that the inner value of a name wins.
    for span in scope.into_iter().flat_map(Scope::from_root) {
        if let Some(fields) = span.extensions().get::<SpanFields>() {
            all.set_all(fields);
        }
    }
    all
}

fn to_record(metadata: &Metadata<'_>, mut fields: SpanFields) -> LogRecord {
    let mut logger = metadata.target().to_owned();
    if logger == LOG_TARGET {
        if let Some(Value::Text(target)) = fields.take("log.target") {
            logger = target;
        }
        fields.remove_all(LOG_FIELDS);
    }
    let message = match fields.take("message") {
        Some(Value::Text(message)) => message,
        Some(other) => fields_text(other),
        None => metadata.name().to_owned(),
    };
    fields.into_record(level(metadata), logger, message)
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

impl Visit for Fields<&'static str> {
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
