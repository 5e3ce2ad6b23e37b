//! What a process says about itself: structured logs on standard error, and metrics.
//!
//! A process never sends its own logs through its own ingest: a fault there would feed itself.

use std::{io::IsTerminal, sync::Arc, time::Duration};

use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use serde::{Deserialize, Serialize};
use tokio::time::interval;
use tracing_subscriber::EnvFilter;

use super::tasks::{Fate, Tasks};

/// How often histograms add up what they have gathered; until then they keep every sample, so a
/// busy server holds some hundred thousand numbers at most.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// How a process logs about itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Level, or `target=level` pairs joined by commas. By default the drivers of RabbitMQ and
    /// PostgreSQL are silent: what they have to say of a lost connection, the process says itself,
    /// and of a message that came back they would print the logs in it.
    pub filter: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { filter: "info,lapin=off,deadpool=off".into(), format: LogFormat::Text }
    }
}

/// The form of a process's own log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people, in colour on a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging to standard error. A filter that cannot be read is an error. Calling it again
/// changes nothing.
pub fn start_logging(config: &LogConfig) -> Result<(), String> {
    let filter = EnvFilter::try_new(&config.filter).map_err(|error| error.to_string())?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match config.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was already started");
    }
    Ok(())
}

/// The process's metrics, rendered on request. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<PrometheusHandle>);

impl Metrics {
    /// Installs the recorder behind the `metrics` macros; once in a process.
    pub fn install() -> Result<Self, BuildError> {
        let handle = PrometheusBuilder::new().install_recorder()?;
        Ok(Self(Arc::new(handle)))
    }

    /// A recorder of its own, for tests and tools that serve no metrics.
    pub fn detached() -> Self {
        Self(Arc::new(PrometheusBuilder::new().build_recorder().handle()))
    }

    /// Keeps the histograms small until the process stops, whether anybody reads `/metrics` or not.
    pub fn start_upkeep(&self, tasks: &Tasks) {
        let (metrics, stop) = (self.clone(), tasks.stop_token());
        tasks.spawn("metrics upkeep", Fate::Essential, async move {
            let mut due = interval(UPKEEP_INTERVAL);
            while stop.run_until_cancelled(due.tick()).await.is_some() {
                metrics.0.run_upkeep();
            }
        });
    }

    /// The Prometheus text exposition format.
    pub fn render(&self) -> String {
        // Histograms keep every sample until this, or rendering, adds them up.
        self.0.run_upkeep();
        self.0.render()
    }
}
