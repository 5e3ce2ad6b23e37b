//! Settings: code over `LOGWEIR_*` over `OTEL_*` over defaults.
//!
//! What the code says must be right, or `build` fails. What the environment says wrongly costs one
//! warning and the default, so that nobody's deployment breaks a program.

use std::{path::PathBuf, sync::Arc, time::Duration};

use logweir_proto::v1::{self, Level};

use crate::{
    client::Client,
    error::BuildError,
    queue::{DropPolicy, QueueBounds},
    record::{self, NAME_BYTES_MAX, Value},
    retry::RetryPolicy,
    rim::{self, Notice},
    spool::{SpoolOptions, SpoolSync},
    transport::{Compression, SendOptions, TlsOptions, Token, parse_endpoints},
};

const ENDPOINT: &str = "LOGWEIR_ENDPOINT";
const TOKEN: &str = "LOGWEIR_TOKEN";
const TOKEN_FILE: &str = "LOGWEIR_TOKEN_FILE";
const TLS_CA: &str = "LOGWEIR_TLS_CA";
const TLS_CERTIFICATE: &str = "LOGWEIR_TLS_CLIENT_CERT";
const TLS_KEY: &str = "LOGWEIR_TLS_CLIENT_KEY";
const SERVICE: &str = "LOGWEIR_SERVICE";
const OTEL_SERVICE: &str = "OTEL_SERVICE_NAME";
const OTEL_RESOURCE: &str = "OTEL_RESOURCE_ATTRIBUTES";
const ENDPOINT_DEFAULT: &str = "http://127.0.0.1:4317";
const SERVICE_BYTES_MAX: usize = 128;
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
    pub(crate) before_send: Option<BeforeSend>,
    pub(crate) on_rejected: Option<OnRejected>,
    pub(crate) notice: Notice,
}

/// Builds a [`Client`]. Every setting has a default; most programs set none but the service.
#[must_use]
pub struct ClientBuilder {
    endpoints: Option<String>,
    token: Option<Token>,
    resource: v1::Resource,
    queue_records: usize,
    queue_bytes: usize,
    drop_policy: DropPolicy,
    batch_records: usize,
    batch_bytes: usize,
    batch_delay: Duration,
    urgent_level: Level,
    in_flight: usize,
    memory_age_max: Duration,
    compression: Compression,
    attempt_timeout: Duration,
    retry: RetryPolicy,
    tls: Option<TlsOptions>,
    spool: Option<SpoolOptions>,
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
            queue_records: 16_384,
            queue_bytes: 16 << 20,
            drop_policy: DropPolicy::default(),
            batch_records: 512,
            batch_bytes: 1 << 20,
            batch_delay: Duration::from_secs(1),
            urgent_level: Level::Fatal,
            in_flight: 2,
            memory_age_max: Duration::from_secs(300),
            compression: send.compression,
            attempt_timeout: send.attempt_timeout,
            retry: RetryPolicy { hold_on_refused_token: true, ..send.retry },
            tls: None,
            spool: None,
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

    /// Sets how many logs may wait in memory. 16,384.
    pub fn queue_records(mut self, records: usize) -> Self {
        self.queue_records = records;
        self
    }

    /// Sets how many bytes may wait in memory. 16 MiB.
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// Sets who goes when the queue is full.
    pub fn drop_policy(mut self, policy: DropPolicy) -> Self {
        self.drop_policy = policy;
        self
    }

    /// Sets the most logs of a batch. 512, at most 10,000.
    pub fn batch_records(mut self, records: usize) -> Self {
        self.batch_records = records;
        self
    }

    /// Sets the most bytes of a batch. 1 MiB, at most 3 MiB.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = bytes;
        self
    }

    /// Sets how long a log waits for others, give or take a tenth. 1 s.
    pub fn batch_delay(mut self, delay: Duration) -> Self {
        self.batch_delay = delay;
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

    /// Sets the compression. zstd; consider none for a server on the same machine.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
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

    /// Turns the spool on, with its defaults, under this folder.
    pub fn spool_dir(self, directory: impl Into<PathBuf>) -> Self {
        self.spool(SpoolOptions::new(directory))
    }

    /// Turns the spool on.
    pub fn spool(mut self, options: SpoolOptions) -> Self {
        self.spool = Some(options);
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
            rim::survive(|| call(text));
        }));
        self
    }

    /// Starts the client. The server need not be up.
    pub fn build(self) -> Result<Client, BuildError> {
        Client::start(self.resolve(&rim::environment)?)
    }

    fn resolve(self, environment: &dyn Fn(&str) -> Option<String>) -> Result<Config, BuildError> {
        let notice = self.notice.clone().unwrap_or_else(rim::notice_on_stderr);
        let endpoints = match &self.endpoints {
            Some(list) => parse_endpoints(list)?.join(","),
            None => endpoints_from(environment, &notice),
        };
        let token = self.token.clone().unwrap_or_else(|| token_of(environment, &notice));
        let resource = resolve_resource(self.resource.clone(), environment, &notice)?;
        let send = SendOptions {
            compression: self.compression,
            attempt_timeout: self.attempt_timeout,
            retry: self.retry.clone(),
            tls: self.tls.clone().unwrap_or_else(|| tls_from(environment, &notice)),
        };
        let queue_records = self.queue_records.max(1);
        let batch_records = self.batch_records.clamp(1, BATCH_RECORDS_MAX.min(queue_records));
        let batch_bytes = self.batch_bytes.clamp(1, BATCH_BYTES_MAX);
        Ok(Config {
            endpoints,
            token,
            resource,
            queue: QueueBounds {
                records_max: queue_records,
                bytes_max: self.queue_bytes,
                wake_records: batch_records,
                wake_bytes: batch_bytes,
                urgent: self.urgent_level,
                policy: self.drop_policy,
            },
            batch_records,
            batch_bytes,
            batch_delay: self.batch_delay.min(TIME_MAX),
            in_flight: self.in_flight.clamp(1, IN_FLIGHT_MAX),
            memory_age_max: self.memory_age_max.min(TIME_MAX),
            send,
            spool: self.spool.map(in_range),
            before_send: self.before_send,
            on_rejected: self.on_rejected,
            notice,
        })
    }
}

impl Config {
    /// The same for a forked child, whose instance is its own.
    pub(crate) fn for_child(&self, parent_id: u32) -> Self {
        let mut config = self.clone();
        let v1::Resource { host, instance, .. } = &mut config.resource;
        if *instance == instance_of(host, parent_id) {
            *instance = instance_of(host, rim::process_id());
        }
        config
    }
}

/// Files that cannot be used are left out: a server that needs them says so to the sending thread.
fn tls_from(environment: &dyn Fn(&str) -> Option<String>, notice: &Notice) -> TlsOptions {
    let path = |name| environment(name).map(PathBuf::from);
    let options = TlsOptions {
        ca_file: path(TLS_CA),
        client_files: path(TLS_CERTIFICATE).zip(path(TLS_KEY)),
    };
    if options == TlsOptions::default() {
        return options;
    }
    options.check().map(|()| options).unwrap_or_else(|error| {
        notice(&format!(
            "{TLS_CA}, {TLS_CERTIFICATE} or {TLS_KEY}: {error}; going on with the system's CAs"
        ));
        TlsOptions::default()
    })
}

fn in_range(mut spool: SpoolOptions) -> SpoolOptions {
    spool.age_max = spool.age_max.min(TIME_MAX);
    if let SpoolSync::Interval(interval) = &mut spool.sync {
        *interval = (*interval).min(TIME_MAX);
    }
    spool
}

fn endpoints_from(environment: &dyn Fn(&str) -> Option<String>, notice: &Notice) -> String {
    let Some(list) = environment(ENDPOINT) else { return ENDPOINT_DEFAULT.into() };
    match parse_endpoints(&list) {
        Ok(addresses) => addresses.join(","),
        Err(error) => {
            notice(&format!("{ENDPOINT}: {error}; going on with {ENDPOINT_DEFAULT}"));
            ENDPOINT_DEFAULT.into()
        }
    }
}

/// The environment's token. A file may come later, or change: both are read again when the server
/// refuses the token, and what cannot be used then counts as none.
fn token_of(environment: &dyn Fn(&str) -> Option<String>, notice: &Notice) -> Token {
    let (token, read_again): (_, fn() -> Option<Token>) =
        match (environment(TOKEN), environment(TOKEN_FILE)) {
            (Some(text), _) => (Token::Text(text), || rim::environment(TOKEN).map(Token::Text)),
            (None, Some(path)) => (Token::File(path.into()), || {
                rim::environment(TOKEN_FILE).map(|path| Token::File(path.into()))
            }),
            (None, None) => return Token::None,
        };
    if let Err(error) = token.text() {
        notice(&format!("{TOKEN} or {TOKEN_FILE}: {error}; going on without a token"));
    }
    Token::Callback(Arc::new(move || read_again()?.text().ok()?))
}

fn resolve_resource(
    mut resource: v1::Resource,
    environment: &dyn Fn(&str) -> Option<String>,
    notice: &Notice,
) -> Result<v1::Resource, BuildError> {
    if !resource.service.is_empty() && !is_service(&resource.service) {
        return Err(BuildError::Service(resource.service));
    }
    for variable in [SERVICE, OTEL_SERVICE] {
        if let Some(service) = environment(variable) {
            set_service(&mut resource, service, variable, notice);
        }
    }
    for pair in environment(OTEL_RESOURCE).iter().flat_map(|list| list.split(',')) {
        match pair.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                set_field(&mut resource, key.trim(), percent_decoded(value.trim()), notice);
            }
            _ if pair.trim().is_empty() => {}
            _ => notice(&format!("{OTEL_RESOURCE}: {pair:?} is not KEY=VALUE; left out")),
        }
    }
    set_if_empty(&mut resource.host, rim::host_name());
    let instance = instance_of(&resource.host, rim::process_id());
    set_if_empty(&mut resource.instance, instance);
    fit(&mut resource);
    Ok(resource)
}

fn instance_of(host: &str, process_id: u32) -> String {
    format!("{host}:{process_id}")
}

fn set_field(resource: &mut v1::Resource, key: &str, value: String, notice: &Notice) {
    match key {
        "service.name" => set_service(resource, value, OTEL_RESOURCE, notice),
        "service.version" => set_if_empty(&mut resource.version, value),
        "service.instance.id" => set_if_empty(&mut resource.instance, value),
        "deployment.environment" | "deployment.environment.name" => {
            set_if_empty(&mut resource.environment, value);
        }
        "cloud.region" => set_if_empty(&mut resource.region, value),
        "host.name" => set_if_empty(&mut resource.host, value),
        _ if resource.attributes.iter().any(|attribute| attribute.key == key) => {}
        _ => resource.attributes.push(record::attribute(key.into(), value.into())),
    }
}

fn set_if_empty(field: &mut String, value: String) {
    if field.is_empty() {
        *field = value;
    }
}

fn set_service(resource: &mut v1::Resource, service: String, source: &str, notice: &Notice) {
    if !resource.service.is_empty() {
        return;
    }
    if is_service(&service) {
        resource.service = service;
    } else {
        let error = BuildError::Service(service);
        notice(&format!("{source}: {error}; going on with the token's service"));
    }
}

fn is_service(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte);
    (1..=SERVICE_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

/// Cuts the resource to the limits, as a log is.
fn fit(resource: &mut v1::Resource) {
    let v1::Resource { instance, environment, version, region, host, attributes, .. } = resource;
    for field in [instance, environment, version, region, host] {
        record::cut(field, NAME_BYTES_MAX);
    }
    let mut carrier =
        v1::LogRecord { attributes: std::mem::take(attributes), ..v1::LogRecord::default() };
    record::fit(&mut carrier);
    *attributes = carrier.attributes;
}

/// OpenTelemetry lets values be percent-encoded. What is not valid stays as it is.
fn percent_decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).filter(|_| *first == b'%');
        let decoded = code.and_then(|code| hex::decode(code).ok());
        bytes.push(decoded.as_ref().map_or(*first, |decoded| decoded[0]));
        rest = if decoded.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    /// Resolves settings in a made-up environment; also the notices.
    fn resolve(builder: ClientBuilder, environment: &[(&str, &str)]) -> (Config, Vec<String>) {
        let said = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&said);
        let builder = builder.on_notice(move |text| sink.lock().push(text.to_owned()));
        let find = |name: &str| {
            let found = environment.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let config = builder.resolve(&find).unwrap();
        let said = said.lock().clone();
        (config, said)
    }

    #[test]
    fn the_defaults_need_nothing() {
        let (config, said) = resolve(Client::builder(), &[]);
        assert_eq!(config.endpoints, "http://127.0.0.1:4317");
        assert_eq!((config.queue.records_max, config.queue.bytes_max), (16_384, 16 << 20));
        assert_eq!((config.batch_records, config.batch_bytes), (512, 1 << 20));
        assert!(config.resource.service.is_empty() && !config.resource.instance.is_empty());
        assert!(config.send.retry.hold_on_refused_token);
        assert_eq!(said, Vec::<String>::new());
    }

    #[test]
    fn code_beats_logweir_beats_otel() {
        let environment = [
            (SERVICE, "own"),
            (OTEL_SERVICE, "otel"),
            (OTEL_RESOURCE, "service.name=third,service.version=1%2E2,host.name=h,team=a%20b"),
        ];
        let (config, said) = resolve(Client::builder().service("code"), &environment);
        assert_eq!(config.resource.service, "code");
        let (config, _) = resolve(Client::builder(), &environment);
        assert_eq!(config.resource.service, "own");
        let (config, _) = resolve(Client::builder(), &environment[1..]);
        assert_eq!(config.resource.service, "otel");
        let (config, _) = resolve(Client::builder(), &environment[2..]);
        let resource = config.resource;
        assert_eq!(resource.service, "third");
        assert_eq!((resource.version.as_str(), resource.host.as_str()), ("1.2", "h"));
        let team = record::attribute("team".into(), "a b".into());
        assert_eq!(resource.attributes, [team]);
        assert_eq!(said, Vec::<String>::new());
    }

    #[test]
    fn a_wrong_environment_costs_one_warning_each_and_the_default() {
        let environment = [
            (ENDPOINT, "ftp://nowhere"),
            (TLS_CA, "/nowhere"),
            (SERVICE, "not valid"),
            (TOKEN, "line\nbreak"),
            (OTEL_RESOURCE, "novalue,,ok=1"),
        ];
        let (config, said) = resolve(Client::builder(), &environment);
        assert_eq!(config.endpoints, ENDPOINT_DEFAULT);
        assert!(config.resource.service.is_empty());
        assert_eq!(config.resource.attributes.len(), 1);
        assert_eq!(said.len(), 5, "{said:?}");
    }

    #[test]
    fn wrong_code_fails_at_once() {
        let fails = |builder: ClientBuilder| builder.resolve(&|_| None).err().unwrap();
        let error = fails(Client::builder().endpoint("ftp://a"));
        assert!(matches!(error, BuildError::Endpoint(_)));
        let error = fails(Client::builder().service("a b"));
        assert!(matches!(error, BuildError::Service(_)));
    }

    #[test]
    fn absurd_sizes_are_brought_into_range() {
        let builder = Client::builder().queue_records(10).batch_records(99).in_flight(0);
        let (config, _) = resolve(builder.batch_bytes(usize::MAX), &[]);
        assert_eq!((config.batch_records, config.in_flight), (10, 1));
        assert_eq!(config.batch_bytes, BATCH_BYTES_MAX);
    }
}
