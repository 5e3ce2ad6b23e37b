//! Logs of the `log` crate become records: key-value pairs become attributes, with the names that
//! `latency_ms`, `trace_id` and `span_id` have elsewhere. The library's own thread is left out: a
//! log of sending would cause the next.

use ::log::{
    LevelFilter, Log, Metadata, Record as LogRecord,
    kv::{self, Key, VisitSource},
};
use logweir_proto::v1::Level;

use crate::{
    client::Client,
    error::ConfigError,
    integrations::guard::Guard,
    platform,
    record::{Record, Value, fields::Fields},
};

/// The level from which logs are sent.
const RUST_LOG: &str = "RUST_LOG";

/// Sends what the `log` crate logs, from now until the guard goes: INFO and above, or the level
/// that `RUST_LOG` names. Address and token come from the environment. A panic flushes too.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let _guard = logweir_sdk::log::init("payments")?;
/// log::warn!(user_id = 42; "card declined");
/// # Ok(())
/// # }
/// ```
pub fn init(service: &str) -> Result<Guard, ConfigError> {
    let client = Client::builder().service(service).build()?;
    let level = (platform::ProcessContext::real().variable)(RUST_LOG);
    let level = level.and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::Info);
    ::log::set_boxed_logger(Box::new(Logger::new(client.clone())))
        .map_err(|_| ConfigError::Logger)?;
    ::log::set_max_level(level);
    Ok(Guard::new(client))
}

/// A logger for the `log` crate, for programs that set it, or a logger above it, themselves.
#[derive(Debug)]
pub struct Logger {
    client: Client,
}

impl Logger {
    /// A logger that sends by this client.
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        !platform::is_sdk_thread()
    }

    fn log(&self, record: &LogRecord<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut pairs = Pairs::default();
        // Reading them fails only where the visitor does.
        record.key_values().visit(&mut pairs).ok();
        let (logger, message) = (record.target().to_owned(), record.args().to_string());
        self.client.emit(Record(pairs.0.into_record(level(record.level()), logger, message)));
    }

    /// The client sends by itself; who must wait calls its `flush`.
    fn flush(&self) {}
}

fn level(level: ::log::Level) -> Level {
    match level {
        ::log::Level::Error => Level::Error,
        ::log::Level::Warn => Level::Warn,
        ::log::Level::Info => Level::Info,
        ::log::Level::Debug => Level::Debug,
        ::log::Level::Trace => Level::Trace,
    }
}

#[derive(Default)]
struct Pairs(Fields<String>);

impl<'kvs> VisitSource<'kvs> for Pairs {
    fn visit_pair(&mut self, key: Key<'kvs>, value: kv::Value<'kvs>) -> Result<(), kv::Error> {
        self.0.set(key.as_str().to_owned(), value_of(&value));
        Ok(())
    }
}

fn value_of(value: &kv::Value<'_>) -> Value {
    let whole = value.to_i64().map(Value::Int).or_else(|| value.to_u64().map(Value::from));
    whole
        .or_else(|| value.to_f64().map(Value::Double))
        .or_else(|| value.to_bool().map(Value::Bool))
        .unwrap_or_else(|| Value::Text(value.to_string()))
}
