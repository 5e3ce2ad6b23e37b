//! The settings of the processes that serve, read once at their start.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use logweir_alerting::config::AlertingConfig;
use logweir_core::{
    limits::{LEDGER_HOURS_MIN, REQUEST_BYTES_CEILING},
    runtime::{
        config::{ConfigError, Mistake, Override, load, overrides_from_env},
        identity::ProcessIdentity,
        telemetry::LogConfig,
    },
};
use logweir_processor::{ProcessorConfig, ServiceInfo};
use logweir_queue::{QueueLimits, RabbitConfig};
use logweir_server::{CorsOrigins, ServerConfig, ServiceConfig, SyslogConfig, TlsFiles};
use logweir_storage::{PostgresConfig, SqliteConfig};
use serde::{Deserialize, Serialize};

use crate::{error::Error, secret_url::SecretUrl};

const HOUR: Duration = Duration::from_secs(3_600);
/// The longest message of syslog that may be asked for, bytes.
const SYSLOG_MESSAGE_BYTES_CEILING: usize = 1 << 20;
/// The longest time that syslog may be told to wait: 30 days.
const SYSLOG_TIMEOUT_SECONDS_MAX: u64 = 30 * 86_400;

/// Everything that can be set, with its default.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessConfig {
    /// Where the data lie.
    pub data_dir: String,
    /// The address for gRPC and HTTP, several by commas; all of them speak everything.
    pub listen: String,
    /// The keys that sign tokens; empty: `token_keys` in the data directory.
    pub token_key_file: String,
    /// The database of the distributed processes, `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`;
    /// `standalone` does without.
    pub database_url: SecretUrl,
    /// A file that holds `database_url` alone, in its place.
    pub database_url_file: String,
    /// The broker of the distributed processes, `amqp://USER:PASSWORD@HOST:PORT/VHOST`.
    pub amqp_url: SecretUrl,
    /// A file that holds `amqp_url` alone, in its place.
    pub amqp_url_file: String,
    /// For `amqps://`: CAs that the broker's certificate may come from besides the system's, PEM.
    pub amqp_tls_ca: String,
    /// The server's certificate and its chain, PEM; empty: no TLS.
    pub tls_cert: String,
    /// The certificate's private key, PEM.
    pub tls_key: String,
    /// The CAs of clients, PEM: others are refused. Empty: any client may connect.
    pub tls_client_ca: String,
    /// The origins whose pages may call from a browser, `https://HOST[:PORT]` by commas, or `*`;
    /// empty: none may.
    pub cors_origins: String,
    /// How the process logs about itself.
    pub log: LogConfig,
    /// Limits and behaviour of what senders and readers connect to.
    pub server: ServerConfig,
    /// Syslog, which is taken where it is given an address.
    pub syslog: SyslogConfig,
    /// What may wait for its commit in `standalone`.
    pub queue: QueueSettings,
    /// The queue of the distributed processes.
    pub rabbitmq: RabbitConfig,
    /// The storage of the distributed processes.
    pub database: DatabaseSettings,
    /// Grouping, enrichment and judgement.
    pub processor: ProcessorConfig,
    /// Rules, and how channels reach the world.
    pub alerting: AlertingConfig,
    /// What is kept, and for how long.
    pub retention: RetentionSettings,
    /// What is known about services, by name.
    pub services: BTreeMap<String, ServiceInfo>,
}

/// What may wait for its commit.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueSettings {
    /// Batches.
    pub batches_max: usize,
    /// Memory of the batches, bytes.
    pub bytes_max: usize,
}

/// The storage of the distributed processes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseSettings {
    /// Connections of each process at a time.
    pub connections_max: usize,
}

/// What is kept, and for how long.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionSettings {
    /// When the database is larger, the oldest logs go of the tenants that take more than their share
    /// of it, bytes; 0 for no limit.
    pub disk_bytes_max: u64,
    /// Logs go at this age by event time, hours; 0 for no limit.
    pub age_hours: u64,
    /// How long a batch keeps a ledger entry of its own, hours.
    pub ledger_hours: u64,
}

impl Default for ProcessConfig {
    fn default() -> Self {
        Self {
            data_dir: default_data_dir().display().to_string(),
            // OTLP's ports for gRPC and for HTTP. On the loopback alone: without a certificate tokens
            // would go over the network in the clear, and that should be somebody's decision.
            listen: "127.0.0.1:4317,127.0.0.1:4318".into(),
            token_key_file: String::new(),
            database_url: SecretUrl::default(),
            database_url_file: String::new(),
            amqp_url: SecretUrl::default(),
            amqp_url_file: String::new(),
            amqp_tls_ca: String::new(),
            tls_cert: String::new(),
            tls_key: String::new(),
            tls_client_ca: String::new(),
            cors_origins: String::new(),
            log: LogConfig::default(),
            server: ServerConfig::default(),
            syslog: SyslogConfig::default(),
            queue: QueueSettings::default(),
            rabbitmq: RabbitConfig::default(),
            database: DatabaseSettings::default(),
            processor: ProcessorConfig::default(),
            alerting: AlertingConfig::default(),
            retention: RetentionSettings::default(),
            services: BTreeMap::new(),
        }
    }
}

impl Default for QueueSettings {
    fn default() -> Self {
        // Defaults are asked of their owners, here and below: written twice, they would differ one
        // day, and `logweir config check` would print what does not hold.
        let QueueLimits { batches_max, bytes_max } = QueueLimits::default();
        Self { batches_max, bytes_max }
    }
}

impl Default for DatabaseSettings {
    fn default() -> Self {
        Self { connections_max: PostgresConfig::new("").connections_max }
    }
}

impl Default for RetentionSettings {
    fn default() -> Self {
        let storage = SqliteConfig::new("");
        Self {
            disk_bytes_max: storage.disk_bytes_max,
            age_hours: storage.retention_age.map_or(0, |age| age.as_secs() / HOUR.as_secs()),
            ledger_hours: storage.ledger_age.as_secs() / HOUR.as_secs(),
        }
    }
}

impl ProcessConfig {
    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        Path::new(&self.data_dir)
    }

    /// Where the keys that sign tokens lie.
    pub fn token_key_file(&self) -> PathBuf {
        match self.token_key_file.as_str() {
            "" => self.data_dir().join("token_keys"),
            path => path.into(),
        }
    }

    /// Where the certificates lie; none: no TLS.
    pub fn tls_files(&self) -> Option<TlsFiles> {
        let path = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
        Some(TlsFiles {
            certificate: path(&self.tls_cert)?,
            key: path(&self.tls_key)?,
            client_ca: path(&self.tls_client_ca),
        })
    }

    /// The part of the storage in the data directory.
    pub fn storage(&self) -> SqliteConfig {
        SqliteConfig {
            disk_bytes_max: self.retention.disk_bytes_max,
            retention_age: (self.retention.age_hours > 0).then(|| hours(self.retention.age_hours)),
            ledger_age: hours(self.retention.ledger_hours),
            ..SqliteConfig::new(self.data_dir())
        }
    }

    /// The part of the storage in a database, which must be given.
    pub fn postgres(&self) -> Result<PostgresConfig, Error> {
        if self.database_url.is_empty() {
            let text = "no database: set LOGWEIR_DATABASE_URL, or LOGWEIR_DATABASE_URL_FILE to a file \
                        that holds it (postgresql://USER:PASSWORD@HOST:PORT/DATABASE); `logweir \
                        standalone` needs none";
            return Err(Error::Usage(text.to_owned()));
        }
        Ok(PostgresConfig {
            connections_max: self.database.connections_max,
            retention_age: (self.retention.age_hours > 0).then(|| hours(self.retention.age_hours)),
            ledger_age: hours(self.retention.ledger_hours),
            ..PostgresConfig::new(self.database_url.reveal())
        })
    }

    /// The part of the queue in a broker, which must be given.
    pub fn rabbitmq(&self, identity: &ProcessIdentity) -> Result<RabbitConfig, Error> {
        if self.amqp_url.is_empty() {
            let text = "no broker: set LOGWEIR_AMQP_URL, or LOGWEIR_AMQP_URL_FILE to a file that holds \
                        it (amqp://USER:PASSWORD@HOST:PORT/VHOST); `logweir standalone` needs none";
            return Err(Error::Usage(text.to_owned()));
        }
        let read_pem = |path: &str| {
            fs::read_to_string(path).map_err(|source| {
                let path = path.into();
                Error::File { action: "read", path, source }
            })
        };
        let authorities = Some(self.amqp_tls_ca.as_str()).filter(|path| !path.is_empty());
        Ok(RabbitConfig {
            url: self.amqp_url.reveal().to_owned(),
            tls_authorities_pem: authorities.map(read_pem).transpose()?,
            process: format!("{} on {}", identity.process_id, identity.host),
            ..self.rabbitmq.clone()
        })
    }

    /// The queue's part.
    pub fn queue(&self) -> QueueLimits {
        QueueLimits { batches_max: self.queue.batches_max, bytes_max: self.queue.bytes_max }
    }

    /// The server's part, with what is known about services.
    pub fn server(&self) -> ServerConfig {
        let known = |info: &ServiceInfo| ServiceConfig {
            region: info.region.clone(),
            owner: info.owner.clone(),
        };
        let services = self.services.iter().map(|(name, info)| (name.clone(), known(info)));
        // That it can be read was checked when the settings were.
        let cors_origins = self.cors_origins.parse().unwrap_or_default();
        ServerConfig { cors_origins, services: services.collect(), ..self.server.clone() }
    }

    /// The processor's part, with what is known about services.
    pub fn processor(&self) -> ProcessorConfig {
        ProcessorConfig { services: self.services.clone(), ..self.processor.clone() }
    }

    /// Takes the addresses that are in files from there.
    fn read_secrets(&mut self) -> Vec<Mistake> {
        [
            read_secret("database_url", &mut self.database_url, &self.database_url_file),
            read_secret("amqp_url", &mut self.amqp_url, &self.amqp_url_file),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        let mut require = |key: &str, holds: bool, rule: &str| {
            if !holds {
                let text = format!("{key} {rule}");
                mistakes.push(Mistake { origin: "configuration".into(), text });
            }
        };
        require("queue.batches_max", self.queue.batches_max > 0, "must be positive");
        require("queue.bytes_max", self.queue.bytes_max > 0, "must be positive");
        require("rabbitmq.partitions", self.rabbitmq.partitions > 0, "must be positive");
        require("database.connections_max", self.database.connections_max > 0, "must be positive");
        require("processor.group_rows_max", self.processor.group_rows_max > 0, "must be positive");
        require(
            "retention.ledger_hours",
            self.retention.ledger_hours >= u64::from(LEDGER_HOURS_MIN),
            // Servers take batches up to this age as new; with a shorter ledger a late retry would
            // be stored twice.
            &format!("must be at least {LEDGER_HOURS_MIN}"),
        );
        let share = self.processor.contamination;
        require(
            "processor.contamination",
            (0.0..=0.5).contains(&share),
            "must be between 0 and 0.5",
        );
        let [cert, key, client_ca] =
            [&self.tls_cert, &self.tls_key, &self.tls_client_ca].map(|path| !path.is_empty());
        let origins = self.cors_origins.parse::<CorsOrigins>().err();
        require("tls_cert", cert || !(key || client_ca), "must be given to speak TLS");
        require("tls_key", key || !(cert || client_ca), "must be given to speak TLS");
        // A request larger than the whole budget would be told to come back later, for ever.
        let request = self.server.limits.request_bytes_max;
        let budget = self.server.limits.in_flight_bytes_max;
        let has_broker = !(self.amqp_url.is_empty() && self.amqp_url_file.is_empty());
        require(
            "server.limits.in_flight_bytes_max",
            budget >= request,
            "must not be below server.limits.request_bytes_max",
        );
        require(
            "server.limits.request_bytes_max",
            !has_broker || request <= REQUEST_BYTES_CEILING,
            &format!("must not be above {REQUEST_BYTES_CEILING} where batches pass RabbitMQ"),
        );
        let syslog = &self.syslog;
        require(
            "syslog.token_file",
            !syslog.is_on() || !syslog.token_file.is_empty(),
            "must be given to take syslog: whose it is",
        );
        require(
            "tls_cert",
            cert || syslog.tls_listen.is_empty(),
            "must be given for syslog.tls_listen",
        );
        require("syslog.timezone", syslog.has_known_zone(), "must be a zone such as Europe/Berlin");
        // Each connection may hold one that has begun.
        require(
            "syslog.message_bytes_max",
            (1..=SYSLOG_MESSAGE_BYTES_CEILING).contains(&syslog.message_bytes_max),
            &format!("must be between 1 and {SYSLOG_MESSAGE_BYTES_CEILING}"),
        );
        require(
            "syslog.address_connections_max",
            syslog.address_connections_max > 0,
            "must be positive",
        );
        for (key, seconds) in [
            ("syslog.read_timeout_seconds", syslog.read_timeout_seconds),
            ("syslog.idle_timeout_seconds", syslog.idle_timeout_seconds),
        ] {
            let holds = (1..=SYSLOG_TIMEOUT_SECONDS_MAX).contains(&seconds);
            require(key, holds, &format!("must be between 1 and {SYSLOG_TIMEOUT_SECONDS_MAX}"));
        }
        if let Some(error) = origins {
            require("cors_origins", false, &error.to_string());
        }
        mistakes
    }
}

/// Which settings apply.
#[derive(Clone, Default, Args)]
pub struct ConfigArgs {
    /// A TOML file of settings
    #[arg(long, value_name = "FILE", env = "LOGWEIR_CONFIG")]
    pub config: Option<PathBuf>,
    /// Where the data lie
    #[arg(long, value_name = "DIR", env = "LOGWEIR_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// The keys that sign tokens [default: token_keys in the data directory]
    #[arg(long, value_name = "FILE", env = "LOGWEIR_TOKEN_KEY_FILE")]
    pub token_key_file: Option<PathBuf>,
    /// The database of the distributed processes; better given by the environment
    #[arg(long, value_name = "URL", env = "LOGWEIR_DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// A file that holds the database's URL alone
    #[arg(long, value_name = "FILE", env = "LOGWEIR_DATABASE_URL_FILE")]
    pub database_url_file: Option<String>,
    /// The broker of the distributed processes; better given by the environment
    #[arg(long, value_name = "URL", env = "LOGWEIR_AMQP_URL", hide_env_values = true)]
    pub amqp_url: Option<String>,
    /// A file that holds the broker's URL alone
    #[arg(long, value_name = "FILE", env = "LOGWEIR_AMQP_URL_FILE")]
    pub amqp_url_file: Option<String>,
}

/// Without what may hold a secret.
impl fmt::Debug for ConfigArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigArgs").field("config", &self.config).finish_non_exhaustive()
    }
}

impl ConfigArgs {
    /// Flags over environment over file over defaults; every mistake at once.
    pub fn load(&self, flags: &[(&str, Option<&str>)]) -> Result<ProcessConfig, ConfigError> {
        let file = self.config.as_deref().map(read).transpose()?;
        let file = file.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
        // In the order in which later ones win: environment, then flags.
        let mut overrides = overrides_from_env(environment());
        let text = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let (data_dir, token_key_file) = (text(&self.data_dir), text(&self.token_key_file));
        let own = [
            ("data_dir", data_dir.as_deref()),
            ("token_key_file", token_key_file.as_deref()),
            ("database_url", self.database_url.as_deref()),
            ("database_url_file", self.database_url_file.as_deref()),
            ("amqp_url", self.amqp_url.as_deref()),
            ("amqp_url_file", self.amqp_url_file.as_deref()),
        ];
        let flags = [&own, flags].concat();
        overrides.extend(flags.iter().filter_map(|(key, text)| {
            let text = (*text)?.to_owned();
            let origin = format!("--{}", key.replace('_', "-"));
            Some(Override { path: vec![(*key).to_owned()], text, origin })
        }));
        let mut settings: ProcessConfig = load(&ProcessConfig::default(), file, &overrides)?;
        let mut mistakes = settings.mistakes();
        // Together with the others, so that whoever sets up an installation is told of all mistakes
        // in one go and not one with every start.
        mistakes.extend(settings.read_secrets());
        if mistakes.is_empty() { Ok(settings) } else { Err(ConfigError(mistakes)) }
    }
}

fn hours(hours: u64) -> Duration {
    HOUR.saturating_mul(u32::try_from(hours).unwrap_or(u32::MAX))
}

fn read_secret(key: &str, secret: &mut SecretUrl, file: &str) -> Option<Mistake> {
    if file.is_empty() {
        return None;
    }
    let mistake = |text| Some(Mistake { origin: "configuration".into(), text });
    // Neither wins in silence: a password that was changed in one place only would be searched for
    // long.
    if !secret.is_empty() {
        return mistake(format!("{key} and {key}_file are both given: leave one out"));
    }
    match fs::read_to_string(file) {
        Ok(text) => *secret = SecretUrl::new(&text),
        Err(error) => return mistake(format!("{key}_file {file}: {error}")),
    }
    secret.is_empty().then(|| mistake(format!("{key}_file {file} is empty")))?
}

fn read(path: &Path) -> Result<(String, String), ConfigError> {
    let name = path.display().to_string();
    match fs::read_to_string(path) {
        Ok(text) => Ok((name, text)),
        Err(error) => Err(ConfigError(vec![Mistake { origin: name, text: error.to_string() }])),
    }
}

#[allow(clippy::disallowed_methods, reason = "read once, at the start")]
fn environment() -> Vec<(String, String)> {
    // `vars` would panic on any variable that is no Unicode, though it is none of ours.
    let named = std::env::vars_os();
    named
        .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)))
        .collect()
}

fn default_data_dir() -> PathBuf {
    let variable =
        |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // The XDG base directory specification, whose rule for an unset variable is the second.
    let home = || variable("HOME").map(|home| home.join(".local/share"));
    variable("XDG_DATA_HOME").or_else(home).unwrap_or_default().join("logweir")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(config: Option<PathBuf>) -> ConfigArgs {
        ConfigArgs { config, data_dir: Some("/data".into()), ..ConfigArgs::default() }
    }

    #[test]
    fn the_defaults_are_valid_and_can_be_written_down() {
        let settings = args(None).load(&[("listen", Some("[::1]:1"))]).unwrap();
        assert_eq!((settings.data_dir.as_str(), settings.listen.as_str()), ("/data", "[::1]:1"));
        let text = toml::to_string(&settings).unwrap();
        assert_eq!(
            toml::to_string(&toml::from_str::<ProcessConfig>(&text).unwrap()).unwrap(),
            text
        );
    }

    #[test]
    fn what_is_known_about_services_reaches_both_parts() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("logweir.toml");
        fs::write(&file, "[services.shop]\nowner = 'team-a'\nversion = '7'").unwrap();
        let settings = args(Some(file)).load(&[]).unwrap();
        assert_eq!(settings.server().services["shop"].owner, "team-a");
        assert_eq!(settings.processor().services["shop"].version, "7");
    }

    #[test]
    fn secrets_come_from_files_and_are_shown_masked() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("amqp_url");
        fs::write(&file, "amqp://u:s3cret@h/v\n").unwrap();
        let args = ConfigArgs {
            database_url: Some("postgresql://u:s3cret@h/d".into()),
            amqp_url_file: Some(file.display().to_string()),
            ..args(None)
        };
        let settings = args.load(&[]).unwrap();
        assert_eq!(settings.amqp_url.reveal(), "amqp://u:s3cret@h/v");
        assert_eq!(settings.database_url.reveal(), "postgresql://u:s3cret@h/d");
        let shown = format!("{settings:?}{}{args:?}", toml::to_string(&settings).unwrap());
        assert!(shown.contains("u:***@h") && !shown.contains("s3cret"), "{shown}");

        let both = ConfigArgs { amqp_url: Some("amqp://u:s3cret@h/v".into()), ..args.clone() };
        let nowhere = ConfigArgs { amqp_url_file: Some("/nowhere".into()), ..args };
        for (args, says) in [(both, "both given"), (nowhere, "/nowhere: No such file")] {
            let error = args.load(&[]).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn values_that_cannot_work_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("logweir.toml");
        let text = "amqp_url = 'amqp://h'\ntls_cert = 'a'\ncors_origins = 'shop'\n[queue]\nbatches_max = 0\n[server.limits]\nrequest_bytes_max = 40000000\n[processor]\ncontamination = 2.0\n[syslog]\nmessage_bytes_max = 2000000\naddress_connections_max = 0\nread_timeout_seconds = 0\nidle_timeout_seconds = 9223372036854775807";
        fs::write(&file, text).unwrap();
        let error = args(Some(file)).load(&[]).unwrap_err().to_string();
        assert!(error.contains("queue.batches_max must be positive"), "{error}");
        assert!(error.contains("server.limits.request_bytes_max must not be above"), "{error}");
        assert!(error.contains("processor.contamination must be between"), "{error}");
        assert!(error.contains("cors_origins \"shop\" is no origin"), "{error}");
        assert!(error.contains("tls_key must be given to speak TLS"), "{error}");
        for key in ["message_bytes_max", "read_timeout_seconds", "idle_timeout_seconds"] {
            assert!(error.contains(&format!("syslog.{key} must be between 1 and")), "{error}");
        }
        assert!(error.contains("syslog.address_connections_max must be positive"), "{error}");
    }
}
