//! Settings of the processor.

use std::{collections::BTreeMap, time::Duration};

use logweir_analysis::DetectorConfig;
use serde::{Deserialize, Serialize};

/// How batches are grouped, judged and completed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessorConfig {
    /// Logs in a transaction; the batch that reaches it is the last.
    pub group_rows_max: usize,
    /// Memory of the batches of a transaction, bytes; the batch that reaches it is the last.
    pub group_bytes_max: usize,
    /// How long the first batch of a transaction waits for others, milliseconds.
    pub group_age_ms_max: u64,
    /// Whether logs are judged; without it they get their template alone.
    pub scoring: bool,
    /// Share of logs that may be called anomalies.
    pub contamination: f64,
    /// Templates of a service; messages with further patterns share catch-alls.
    pub templates_per_service_max: usize,
    /// How often the deploys are read again, milliseconds.
    pub deploys_refresh_ms: u64,
    /// Pause between steps of retention and merging when there was nothing to do, milliseconds.
    pub maintenance_pause_ms: u64,
    /// How often it is looked which models are active, milliseconds.
    pub models_refresh_ms: u64,
    /// How often it is looked for jobs that servers ask for, such as a training, milliseconds.
    pub jobs_pause_ms: u64,
    /// Models older than this are not used, days.
    pub model_age_days_max: u64,
    /// Whether models are trained every day; they are candidates until somebody promotes one.
    pub training_daily: bool,
    /// At which hour, UTC.
    pub training_hour_utc: u8,
    /// What is known about services, by name. Comes from the common section.
    #[serde(skip)]
    pub services: BTreeMap<String, ServiceInfo>,
}

impl Default for ProcessorConfig {
    fn default() -> Self {
        let detector = DetectorConfig::default();
        Self {
            group_rows_max: 20_000,
            group_bytes_max: 16 << 20,
            group_age_ms_max: 5,
            scoring: detector.scoring,
            contamination: detector.contamination,
            templates_per_service_max: detector.templates_per_service_max,
            deploys_refresh_ms: 5_000,
            maintenance_pause_ms: 1_000,
            models_refresh_ms: 2_000,
            jobs_pause_ms: 500,
            model_age_days_max: 90,
            training_daily: true,
            training_hour_utc: 3,
            services: BTreeMap::new(),
        }
    }
}

impl ProcessorConfig {
    /// The detector's part.
    pub fn detector(&self) -> DetectorConfig {
        DetectorConfig {
            scoring: self.scoring,
            contamination: self.contamination,
            templates_per_service_max: self.templates_per_service_max,
            ..DetectorConfig::default()
        }
    }

    pub(crate) fn group_age(&self) -> Duration {
        Duration::from_millis(self.group_age_ms_max)
    }

    /// At least a tenth of a second: 0 would never rest.
    pub(crate) fn deploys_refresh(&self) -> Duration {
        Duration::from_millis(self.deploys_refresh_ms.max(100))
    }

    /// At least a tenth of a second: 0 would never rest.
    pub(crate) fn models_refresh(&self) -> Duration {
        Duration::from_millis(self.models_refresh_ms.max(100))
    }

    /// At least a tenth of a second: 0 would never rest.
    pub(crate) fn jobs_pause(&self) -> Duration {
        Duration::from_millis(self.jobs_pause_ms.max(100))
    }

    pub(crate) fn model_age_max(&self) -> Duration {
        Duration::from_secs(self.model_age_days_max.saturating_mul(86_400))
    }

    /// At least a tenth of a second: 0 would never rest.
    pub(crate) fn maintenance_pause(&self) -> Duration {
        Duration::from_millis(self.maintenance_pause_ms.max(100))
    }
}

/// What is known about a service; what is empty is not known.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceInfo {
    /// Where it runs; becomes the attribute `service.region`.
    pub region: String,
    /// Who answers for it; becomes the attribute `service.owner`.
    pub owner: String,
    /// Its version; becomes the attribute `service.version`.
    pub version: String,
}
