//! Settings: code over `LOGWEIR_*` over `OTEL_*` over defaults.
//!
//! What the code says must be right, or `build` fails. What the environment says wrongly costs one
//! notice and the default, so that nobody's deployment breaks a program; but for an `https://` address
//! where the program was built without `tls`: logs must not go anywhere else in clear text.

use std::{path::PathBuf, sync::Arc, time::Duration};

use logweir_proto::v1::{self, Level};

use crate::{
    delivery::{
        queue::{DropPolicy, QueueBounds},
        retry::RetryPolicy,
        spool::{SpoolOptions, SpoolSync},
        transport::{self, Compression, SendOptions, TlsOptions, Token, parse_endpoints},
    },
    error::ConfigError,
    platform::{self, Notice, ProcessContext},
    record::{self, Value, redaction::Redaction, resource, sampling::SampleRates},
};

const ENDPOINT: &str = "LOGWEIR_ENDPOINT";
const TOKEN: &str = "LOGWEIR_TOKEN";
const TOKEN_FILE: &str = "LOGWEIR_TOKEN_FILE";
const TLS_CA: &str = "LOGWEIR_TLS_CA";
const TLS_CERTIFICATE: &str = "LOGWEIR_TLS_CLIENT_CERT";
const TLS_KEY: &str = "LOGWEIR_TLS_CLIENT_KEY";
const COMPRESSION: &str = "LOGWEIR_COMPRESSION";
const DROP_POLICY: &str = "LOGWEIR_DROP_POLICY";
const REDACT_KEYS: &str = "LOGWEIR_REDACT_KEYS";
const SAMPLE_RATES: &str = "LOGWEIR_SAMPLE_RATES";
const SPOOL_DIR: &str = "LOGWEIR_SPOOL_DIR";
const OTEL_QUEUE_RECORDS: &str = "OTEL_BLRP_MAX_QUEUE_SIZE";
const OTEL_BATCH_RECORDS: &str = "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE";
const OTEL_BATCH_DELAY_MS: &str = "OTEL_BLRP_SCHEDULE_DELAY";
const OTEL_DISABLED: &str = "OTEL_SDK_DISABLED";
const ENDPOINT_DEFAULT: &str = "http://127.0.0.1:4317";
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
    /// What the server said of the newest.
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

/// Builds a [`Client`]. Every setting has a default; most programs set none but the service.
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

    /// Sets the most logs of a batch, up to 10,000. Default: `OTEL_BLRP_MAX_EXPORT_BATCH_SIZE`, else
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
    /// `sample_rate`. Default: what `LOGWEIR_SAMPLE_RATES` has for it (`debug=0.1,trace=0`), else 1.
    pub fn sample_rate(mut self, level: Level, rate: f64) -> Self {
        self.sample_rates.push((level, rate));
        self
    }

    /// Sets the names of attributes whose values are blanked out, in any case, also as the end of a
    /// longer name (`db_password`) and inside of JSON. Default: the comma list `LOGWEIR_REDACT_KEYS`,
    /// else `password` and its like. An empty list turns it off.
    pub fn redact_keys(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.redact_keys = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Is called with each log on the thread that emits it: may change it, say to blank out a secret,
    /// and says whether to keep it. What it gives up is counted as `before_send`, and so is a log that
    /// it panics on. A log that it emits itself is not given to it.
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
            platform::survive(|| call(text));
        }));
        self
    }

    pub(crate) fn resolve(self, around: &ProcessContext) -> Result<Config, ConfigError> {
        let notice = self.notice.clone().unwrap_or_else(platform::notice_on_stderr);
        let environment = Environment { around, notice: &notice };
        let endpoints = match &self.endpoints {
            Some(list) => parse_endpoints(list)?.join(","),
            None => environment.endpoints(),
        };
        let token = match &self.token {
            Some(token) => token.text().map(|_| token.clone())?,
            None => environment.token(),
        };
        let redaction =
            self.redact_keys.as_deref().map_or_else(|| environment.redaction(), Redaction::of);
        let mut resource =
            resource::resolve(self.resource.clone(), self.resource_detection, around, &notice)?;
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
        let spool_dir = || (around.variable)(SPOOL_DIR).map(SpoolOptions::new);
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
            is_disabled: (around.variable)(OTEL_DISABLED).is_some_and(is_disabled),
            notice,
        })
    }

    fn queue_bounds(&self, environment: &Environment<'_>) -> QueueBounds {
        let size = |code: Option<usize>, variable, default| {
            let said = || environment.parsed(variable, |text| text.parse().ok());
            code.or_else(said).unwrap_or(default)
        };
        let records_max =
            size(self.queue_records, OTEL_QUEUE_RECORDS, QUEUE_RECORDS_DEFAULT).max(1);
        let batch_records = size(self.batch_records, OTEL_BATCH_RECORDS, BATCH_RECORDS_DEFAULT);
        let policy =
            self.drop_policy.or_else(|| environment.parsed(DROP_POLICY, DropPolicy::named));
        QueueBounds {
            records_max,
            bytes_max: self.queue_bytes,
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

/// What the environment says, and who hears of what it says wrongly.
struct Environment<'a> {
    around: &'a ProcessContext,
    notice: &'a Notice,
}

impl Environment<'_> {
    /// The value of a variable; none, with a notice, if it is not valid.
    fn parsed<T>(&self, name: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = (self.around.variable)(name)?;
        let value = parse(text.trim());
        if value.is_none() {
            (self.notice)(&format!("{name}: {text:?} is not valid; going on with the default"));
        }
        value
    }

    fn endpoints(&self) -> String {
        let Some(list) = (self.around.variable)(ENDPOINT) else { return ENDPOINT_DEFAULT.into() };
        parse_endpoints(&list).map(|addresses| addresses.join(",")).unwrap_or_else(|error| {
            (self.notice)(&format!("{ENDPOINT}: {error}; going on with {ENDPOINT_DEFAULT}"));
            ENDPOINT_DEFAULT.into()
        })
    }

    /// A file may come later, or change, and so may the variables: they are read again when the server
    /// refuses the token, and what cannot be used then counts as none.
    fn token(&self) -> Token {
        match read_token(self.around) {
            Ok(None) => return Token::None,
            Ok(Some(_)) => {}
            Err(error) => (self.notice)(&format!(
                "{TOKEN} or {TOKEN_FILE}: {error}; going on without a token"
            )),
        }
        let around = self.around.clone();
        Token::Callback(Arc::new(move || read_token(&around).ok().flatten()))
    }

    /// Files that cannot be used are left out: a server that needs them says so to the sending thread.
    fn tls(&self) -> TlsOptions {
        let path = |name| (self.around.variable)(name).map(PathBuf::from);
        let options = TlsOptions {
            ca_file: path(TLS_CA),
            client_files: path(TLS_CERTIFICATE).zip(path(TLS_KEY)),
        };
        if options == TlsOptions::default() {
            return options;
        }
        options.check().map(|()| options).unwrap_or_else(|error| {
            (self.notice)(&format!(
                "{TLS_CA}, {TLS_CERTIFICATE} or {TLS_KEY}: {error}; going on with the system's CAs"
            ));
            TlsOptions::default()
        })
    }

    /// The rates of the environment, and over them those of the code.
    fn sample_rates(&self, code: &[(Level, f64)]) -> Result<SampleRates, ConfigError> {
        let mut rates = SampleRates::default();
        for pair in (self.around.variable)(SAMPLE_RATES).iter().flat_map(|list| list.split(',')) {
            let rate = pair.split_once('=').and_then(|(level, rate)| {
                let level = format!("LEVEL_{}", level.trim().to_ascii_uppercase());
                Some((Level::from_str_name(&level)?, rate.trim().parse().ok()?))
            });
            if rate.is_none_or(|(level, rate)| rates.set(level, rate).is_err()) {
                (self.notice)(&format!(
                    "{SAMPLE_RATES}: {pair:?} is not LEVEL=RATE with a rate from 0 to 1; left out"
                ));
            }
        }
        code.iter().try_for_each(|(level, rate)| rates.set(*level, *rate))?;
        Ok(rates)
    }

    fn redaction(&self) -> Redaction {
        let Some(list) = (self.around.variable)(REDACT_KEYS) else { return Redaction::default() };
        let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
        Redaction::of(&names.collect::<Vec<_>>())
    }
}

fn read_token(around: &ProcessContext) -> Result<Option<String>, ConfigError> {
    let text = match ((around.variable)(TOKEN), (around.variable)(TOKEN_FILE)) {
        (Some(text), _) => text,
        (None, Some(path)) => {
            let path = PathBuf::from(path);
            (around.file)(&path).map_err(|error| ConfigError::TokenFile(path, error))?
        }
        (None, None) => return Ok(None),
    };
    transport::checked_token(&text).map(Some)
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
    use super::*;
    use crate::lock::Mutex;

    fn around(environment: &[(&str, &str)]) -> ProcessContext {
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
        let said = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&said);
        let builder = builder.on_notice(move |text| sink.lock().push(text.to_owned()));
        let config = builder.resolve(&around(environment)).unwrap();
        let said = said.lock().clone();
        (config, said)
    }

    #[test]
    fn the_defaults_need_nothing() {
        let (config, said) = resolve(ClientBuilder::default(), &[]);
        assert_eq!(config.endpoints, "http://127.0.0.1:4317");
        assert_eq!((config.queue.records_max, config.queue.bytes_max), (16_384, 16 << 20));
        assert_eq!((config.batch_records, config.batch_bytes), (512, 1 << 20));
        assert!(config.resource.service.is_empty() && !config.resource.instance.is_empty());
        assert!(config.send.retry.hold_on_refused_token);
        assert_eq!(said, Vec::<String>::new());
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
        let (config, said) = resolve(ClientBuilder::default(), &environment);
        assert_eq!(config.endpoints, ENDPOINT_DEFAULT);
        assert!(config.resource.service.is_empty());
        let keys: Vec<_> = config.resource.attributes.iter().map(|a| a.key.as_str()).collect();
        assert_eq!(&keys[..2], ["ok", "process.pid"]);
        assert_eq!(said.len(), 5, "{said:?}");
    }

    #[test]
    fn wrong_code_fails_at_once() {
        let fails = |builder: ClientBuilder| builder.resolve(&around(&[])).err().unwrap();
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
