//! Settings: code over `LOGWEIR_*` over `OTEL_*` over defaults.
//!
//! What the code says must be right, or `build` fails. What the environment says wrongly costs one
//! notice and the default, so that nobody's deployment breaks a program; but for an `https://`
//! address where the program was built without `tls`: logs must not go anywhere else in clear text.

mod environment;

use std::{path::PathBuf, sync::Arc, time::Duration};

use logweir_proto::v1::{self, Level};

use self::environment::{
    COMPRESSION, DROP_POLICY, Environment, OTEL_BATCH_DELAY_MS, OTEL_BATCH_RECORDS, OTEL_DISABLED,
    OTEL_QUEUE_RECORDS, SPOOL_DIR,
};
use crate::{
    delivery::{
        queue::{DropPolicy, QueueBounds},
        retry::RetryPolicy,
        spool::{SpoolOptions, SpoolSync},
        transport::{Compression, SendOptions, TlsOptions, Token, parse_endpoints},
    },
    error::ConfigError,
    platform::{self, Notice, ProcessContext},
    record::{self, Value, redaction::Redaction, resource, sampling::SampleRates},
};

const QUEUE_RECORDS_DEFAULT: usize = 16_384;
const BATCH_RECORDS_DEFAULT: usize = 512;
const BATCH_DELAY_DEFAULT: Duration = Duration::from_secs(1);
/// A batch of more would be refused.
const BATCH_RECORDS_MAX: usize = 10_000;
/// Leaves room for the resource in a request of 4 MiB.
const BATCH_BYTES_MAX: usize = 3 << 20;
const IN_FLIGHT_MAX: usize = 64;
/// No setting is longer, so that no sum of times overflows.
const TIME_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// Logs of one kind that the server rejected.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejection {
    /// A stable name of the rule.
    pub reason: String,
    /// What the server wrote of the newest.
    pub message: String,
    /// How many since the last call for this reason.
    pub count: u64,
}

/// Changes a log, and says whether to keep it.
pub(crate) type BeforeSend = Arc<dyn Fn(&mut v1::LogRecord) -> bool + Send + Sync>;
pub(crate) type OnRejected = Arc<dyn Fn(&Rejection) + Send + Sync>;

/// Settings that are checked.
#[derive(Clone)]
pub(crate) struct Config {
    pub(crate) endpoints: String,
    pub(crate) token: Token,
    pub(crate) resource: v1::Resource,
    pub(crate) queue: QueueBounds,
    pub(crate) batch_records: usize,
    pub(crate) batch_bytes: usize,
    pub(crate) batch_delay: Duration,
    pub(crate) in_flight: usize,
    pub(crate) memory_age_max: Duration,
    pub(crate) send: SendOptions,
    pub(crate) spool: Option<SpoolOptions>,
    pub(crate) sample_rates: SampleRates,
    pub(crate) redaction: Redaction,
    pub(crate) before_send: Option<BeforeSend>,
    pub(crate) on_rejected: Option<OnRejected>,
    pub(crate) notice: Notice,
    /// Nothing is taken and nothing is sent.
    pub(crate) is_disabled: bool,
}

/// Builds a [`Client`](crate::Client). Every setting has a default; most programs set none but the service.
#[must_use]
pub struct ClientBuilder {
    endpoints: Option<String>,
    token: Option<Token>,
    resource: v1::Resource,
    resource_detection: bool,
    queue_records: Option<usize>,
    queue_bytes: usize,
    drop_policy: Option<DropPolicy>,
    batch_records: Option<usize>,
    batch_bytes: usize,
    batch_delay: Option<Duration>,
    urgent_level: Level,
    in_flight: usize,
    memory_age_max: Duration,
    compression: Option<Compression>,
    attempt_timeout: Duration,
    retry: RetryPolicy,
    tls: Option<TlsOptions>,
    spool: Option<SpoolOptions>,
    sample_rates: Vec<(Level, f64)>,
    redact_keys: Option<Vec<String>>,
    before_send: Option<BeforeSend>,
    on_rejected: Option<OnRejected>,
    notice: Option<Notice>,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        let send = SendOptions::default();
        Self {
            endpoints: None,
            token: None,
            resource: v1::Resource::default(),
            resource_detection: true,
            queue_records: None,
            queue_bytes: 16 << 20,
            drop_policy: None,
            batch_records: None,
            batch_bytes: 1 << 20,
            batch_delay: None,
            urgent_level: Level::Fatal,
            in_flight: 2,
            memory_age_max: Duration::from_secs(300),
            compression: None,
            attempt_timeout: send.attempt_timeout,
            // A client has nobody to ask: it holds what it has until the token is right.
            retry: RetryPolicy { hold_on_refused_token: true, ..send.retry },
            tls: None,
            spool: None,
            sample_rates: Vec::new(),
            redact_keys: None,
            before_send: None,
            on_rejected: None,
            notice: None,
        }
    }
}

impl ClientBuilder {
    /// Sets the server's address, or several separated by commas. Default: `LOGWEIR_ENDPOINT`, else
    /// `http://127.0.0.1:4317`.
    pub fn endpoint(mut self, endpoints: impl Into<String>) -> Self {
        self.endpoints = Some(endpoints.into());
        self
    }

    /// Sets the token. Default: `LOGWEIR_TOKEN`, else the file that `LOGWEIR_TOKEN_FILE` names.
    pub fn token(self, token: impl Into<String>) -> Self {
        self.token_from(Token::Text(token.into()))
    }

    /// Sets where the token comes from, and comes from again when the server refuses it.
    pub fn token_from(mut self, token: Token) -> Self {
        self.token = Some(token);
        self
    }

    /// Sets the service that writes the logs. Default: `LOGWEIR_SERVICE`, `OTEL_SERVICE_NAME`, else
    /// the token's.
    pub fn service(mut self, service: impl Into<String>) -> Self {
        self.resource.service = service.into();
        self
    }

    /// Sets the instance of the service. Default: host and process.
    pub fn instance(mut self, instance: impl Into<String>) -> Self {
        self.resource.instance = instance.into();
        self
    }

    /// Sets the deployment environment.
    pub fn environment(mut self, environment: impl Into<String>) -> Self {
        self.resource.environment = environment.into();
        self
    }

    /// Sets the version of the service.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.resource.version = version.into();
        self
    }

    /// Sets the region it runs in.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.resource.region = region.into();
        self
    }

    /// Adds a named value to every log that has none of that name.
    pub fn attribute(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.resource.attributes.push(record::attribute(key.into(), value.into()));
        self
    }

    /// Sets whether process, container and pod are looked for, and added as attributes. On.
    pub fn resource_detection(mut self, is_on: bool) -> Self {
        self.resource_detection = is_on;
        self
    }

    /// Sets how many logs may wait in memory. Default: `OTEL_BLRP_MAX_QUEUE_SIZE`, else 16,384.
    pub fn queue_records(mut self, records: usize) -> Self {
        self.queue_records = Some(records);
        self
    }

    /// Sets how many bytes may wait in memory. 16 MiB.
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// Sets who goes when the queue is full. Default: `LOGWEIR_DROP_POLICY`, else the lowest level.
    pub fn drop_policy(mut self, policy: DropPolicy) -> Self {
        self.drop_policy = Some(policy);
        self
    }

    /// Sets the most logs of a batch, up to 10,000. Default: `OTEL_BLRP_MAX_EXPORT_BATCH_SIZE`,
    /// else
    /// 512.
    pub fn batch_records(mut self, records: usize) -> Self {
        self.batch_records = Some(records);
        self
    }

    /// Sets the most bytes of a batch. 1 MiB, at most 3 MiB.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = bytes;
        self
    }

    /// Sets how long a log waits for others, give or take a tenth. Default:
    /// `OTEL_BLRP_SCHEDULE_DELAY`, else 1 s.
    pub fn batch_delay(mut self, delay: Duration) -> Self {
        self.batch_delay = Some(delay);
        self
    }

    /// Sets the level from which a log is sent at once. FATAL.
    pub fn urgent_level(mut self, level: Level) -> Self {
        self.urgent_level = level;
        self
    }

    /// Sets how many batches may be under way together. 2, at most 64.
    pub fn in_flight(mut self, batches: usize) -> Self {
        self.in_flight = batches;
        self
    }

    /// Sets how long a log may wait in memory before it is given up. 5 min.
    pub fn memory_age_max(mut self, age: Duration) -> Self {
        self.memory_age_max = age;
        self
    }

    /// Sets the compression. Default: `LOGWEIR_COMPRESSION`, else by the addresses.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// Sets the longest time for one attempt. 10 s.
    pub fn attempt_timeout(mut self, limit: Duration) -> Self {
        self.attempt_timeout = limit;
        self
    }

    /// Sets when to try again.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Sets how to speak to an `https://` address. Default: `LOGWEIR_TLS_CA`,
    /// `LOGWEIR_TLS_CLIENT_CERT` and `LOGWEIR_TLS_CLIENT_KEY`, else the system's CAs.
    pub fn tls(mut self, options: TlsOptions) -> Self {
        self.tls = Some(options);
        self
    }

    /// Turns the spool on, with its defaults, under this folder. Default: `LOGWEIR_SPOOL_DIR`, else
    /// none.
    pub fn spool_dir(self, directory: impl Into<PathBuf>) -> Self {
        self.spool(SpoolOptions::new(directory))
    }

    /// Turns the spool on.
    pub fn spool(mut self, options: SpoolOptions) -> Self {
        self.spool = Some(options);
        self
    }

    /// Keeps this share of the logs of a level, 0 to 1, by chance; the rest is counted as
    /// `sample_rate`. Default: what `LOGWEIR_SAMPLE_RATES` has for it (`debug=0.1,trace=0`), else
    /// 1.
    pub fn sample_rate(mut self, level: Level, rate: f64) -> Self {
        self.sample_rates.push((level, rate));
        self
    }

    /// Sets the names of attributes whose values are blanked out, in any case, also as the end of a
    /// longer name (`db_password`) and inside of JSON. Default: the comma list
    /// `LOGWEIR_REDACT_KEYS`, else `password` and its like. An empty list turns it off.
    pub fn redact_keys(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.redact_keys = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Is called with each log on the thread that emits it: may change it, say to blank out a
    /// secret, and says whether to keep it. What it gives up is counted as `before_send`, and so is
    /// a log that it panics on. A log that it emits itself is not given to it.
    pub fn before_send(
        mut self,
        call: impl Fn(&mut v1::LogRecord) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.before_send = Some(Arc::new(call));
        self
    }

    /// Is called when the server rejected logs: once per reason and minute, on the sending thread.
    /// Without it a line on stderr says so.
    pub fn on_rejected(mut self, call: impl Fn(&Rejection) + Send + Sync + 'static) -> Self {
        self.on_rejected = Some(Arc::new(call));
        self
    }

    /// Is called with what a person should know, instead of writing it to stderr.
    pub fn on_notice(mut self, call: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.notice = Some(Arc::new(move |text| {
            platform::catch_panic(|| call(text));
        }));
        self
    }

    pub(crate) fn resolve(self, context: &ProcessContext) -> Result<Config, ConfigError> {
        // First: what follows tells by it what the environment says wrongly.
        let notice = self.notice.clone().unwrap_or_else(platform::notice_on_stderr);
        let environment = Environment { context, notice: &notice };
        let endpoints = match &self.endpoints {
            Some(list) => parse_endpoints(list)?.join(","),
            None => environment.endpoints(),
        };
        let token = match &self.token {
            // Read once, so that a wrong path fails where it was written.
            Some(token) => token.text().map(|_| token.clone())?,
            None => environment.token(),
        };
        let redaction =
            self.redact_keys.as_deref().map_or_else(|| environment.redaction(), Redaction::of);
        let mut resource =
            resource::resolve(self.resource.clone(), self.resource_detection, context, &notice)?;
        // The resource goes with every batch, and is never looked at again.
        redaction.apply(&mut resource.attributes);
        let send = SendOptions {
            compression: self
                .compression
                .or_else(|| environment.parsed(COMPRESSION, Compression::named))
                .unwrap_or_default(),
            attempt_timeout: self.attempt_timeout,
            retry: self.retry.clone(),
            tls: self.tls.clone().unwrap_or_else(|| environment.tls()),
        };
        let queue = self.queue_bounds(&environment);
        let batch_delay = self.batch_delay.or_else(|| {
            let milliseconds = environment.parsed(OTEL_BATCH_DELAY_MS, |text| text.parse().ok());
            milliseconds.map(Duration::from_millis)
        });
        let spool_dir = || (context.variable)(SPOOL_DIR).map(SpoolOptions::new);
        let is_disabled = |value: String| value.eq_ignore_ascii_case("true");
        Ok(Config {
            endpoints,
            token,
            resource,
            queue,
            batch_records: queue.wake_records,
            batch_bytes: queue.wake_bytes,
            batch_delay: batch_delay.unwrap_or(BATCH_DELAY_DEFAULT).min(TIME_MAX),
            in_flight: self.in_flight.clamp(1, IN_FLIGHT_MAX),
            memory_age_max: self.memory_age_max.min(TIME_MAX),
            send,
            spool: self.spool.or_else(spool_dir).map(in_range),
            sample_rates: environment.sample_rates(&self.sample_rates)?,
            redaction,
            before_send: self.before_send,
            on_rejected: self.on_rejected,
            is_disabled: (context.variable)(OTEL_DISABLED).is_some_and(is_disabled),
            notice,
        })
    }

    fn queue_bounds(&self, environment: &Environment<'_>) -> QueueBounds {
        let size = |code: Option<usize>, variable, default| {
            let from_environment = || environment.parsed(variable, |text| text.parse().ok());
            code.or_else(from_environment).unwrap_or(default)
        };
        let records_max =
            size(self.queue_records, OTEL_QUEUE_RECORDS, QUEUE_RECORDS_DEFAULT).max(1);
        let batch_records = size(self.batch_records, OTEL_BATCH_RECORDS, BATCH_RECORDS_DEFAULT);
        let policy =
            self.drop_policy.or_else(|| environment.parsed(DROP_POLICY, DropPolicy::named));
        QueueBounds {
            records_max,
            bytes_max: self.queue_bytes,
            // A batch that is larger than the queue would never be full.
            wake_records: batch_records.clamp(1, BATCH_RECORDS_MAX.min(records_max)),
            wake_bytes: self.batch_bytes.clamp(1, BATCH_BYTES_MAX),
            urgent: self.urgent_level,
            policy: policy.unwrap_or_default(),
        }
    }
}

impl Config {
    /// The same for a forked child.
    pub(crate) fn for_child(&self, parent_id: u32) -> Self {
        let mut config = self.clone();
        resource::for_child(&mut config.resource, parent_id, platform::process_id());
        config
    }
}

fn in_range(mut spool: SpoolOptions) -> SpoolOptions {
    spool.age_max = spool.age_max.min(TIME_MAX);
    if let SpoolSync::Interval(interval) = &mut spool.sync {
        *interval = (*interval).min(TIME_MAX);
    }
    spool
}

#[cfg(test)]
mod tests {
    use super::{
        environment::{ENDPOINT, ENDPOINT_DEFAULT, TLS_CA, TOKEN},
        *,
    };
    use crate::lock::Mutex;

    fn context(environment: &[(&str, &str)]) -> ProcessContext {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let environment: Vec<_> = environment.iter().map(owned).collect();
        let find = move |name: &str| {
            let found = environment.iter().find(|(variable, _)| variable == name);
            found.map(|(_, value)| value.clone())
        };
        ProcessContext { variable: Arc::new(find), ..ProcessContext::real() }
    }

    /// Resolves settings in a made-up environment; also the notices.
    fn resolve(builder: ClientBuilder, environment: &[(&str, &str)]) -> (Config, Vec<String>) {
        let notices = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&notices);
        let builder = builder.on_notice(move |text| sink.lock().push(text.to_owned()));
        let config = builder.resolve(&context(environment)).unwrap();
        let notices = notices.lock().clone();
        (config, notices)
    }

    #[test]
    fn the_defaults_need_nothing() {
        let (config, notices) = resolve(ClientBuilder::default(), &[]);
        assert_eq!(config.endpoints, "http://127.0.0.1:4317");
        assert_eq!((config.queue.records_max, config.queue.bytes_max), (16_384, 16 << 20));
        assert_eq!((config.batch_records, config.batch_bytes), (512, 1 << 20));
        assert!(config.resource.service.is_empty() && !config.resource.instance.is_empty());
        assert!(config.send.retry.hold_on_refused_token);
        assert_eq!(notices, Vec::<String>::new());
    }

    #[test]
    fn a_wrong_environment_costs_one_warning_each_and_the_default() {
        let environment = [
            (ENDPOINT, "ftp://nowhere"),
            (TLS_CA, "/nowhere"),
            ("LOGWEIR_SERVICE", "not valid"),
            (TOKEN, "line\nbreak"),
            ("OTEL_RESOURCE_ATTRIBUTES", "novalue,,ok=1"),
        ];
        let (config, notices) = resolve(ClientBuilder::default(), &environment);
        assert_eq!(config.endpoints, ENDPOINT_DEFAULT);
        assert!(config.resource.service.is_empty());
        let keys: Vec<_> = config.resource.attributes.iter().map(|a| a.key.as_str()).collect();
        assert_eq!(&keys[..2], ["ok", "process.pid"]);
        assert_eq!(notices.len(), 5, "{notices:?}");
    }

    #[test]
    fn wrong_code_fails_at_once() {
        let fails = |builder: ClientBuilder| builder.resolve(&context(&[])).err().unwrap();
        let error = fails(ClientBuilder::default().endpoint("ftp://a"));
        assert!(matches!(error, ConfigError::Endpoint(_)));
        let error = fails(ClientBuilder::default().service("a b"));
        assert!(matches!(error, ConfigError::Service(_)));
        let error = fails(ClientBuilder::default().sample_rate(Level::Debug, 1.5));
        assert_eq!(error.to_string(), "sample rate 1.5 of LEVEL_DEBUG is not valid: use 0 to 1");
    }

    #[test]
    fn absurd_sizes_are_brought_into_range() {
        let builder = ClientBuilder::default().queue_records(10).batch_records(99).in_flight(0);
        let (config, _) = resolve(builder.batch_bytes(usize::MAX), &[]);
        assert_eq!((config.batch_records, config.in_flight), (10, 1));
        assert_eq!(config.batch_bytes, BATCH_BYTES_MAX);
    }
}
