//! What one process asks of another, and the answers, as they pass through storage in JSON.
//!
//! A server cannot judge logs and a processor takes no requests, so training and comparing are
//! asked for as jobs: the server stores one, a processor takes it, and the server waits for the
//! answer.

use crate::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

/// What is to be done for a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "job", rename_all = "snake_case")]
pub enum JobRequest {
    /// Train a model on stored logs and keep it as a candidate. Answered by [`Trained`].
    TrainModel {
        /// The service that it is to serve; empty: those of the tenant that have none of their own.
        service: String,
        /// Event time of the logs: from inclusive.
        #[serde(rename = "from_unix_nano")]
        from: Timestamp,
        /// To exclusive.
        #[serde(rename = "to_unix_nano")]
        to: Timestamp,
    },
    /// Judge the same logs by two models. Answered by [`Comparison`].
    CompareModels {
        /// The id of a model.
        first: u64,
        /// The id of the model that it is compared with.
        second: u64,
        /// Event time of the logs: from inclusive.
        #[serde(rename = "from_unix_nano")]
        from: Timestamp,
        /// To exclusive.
        #[serde(rename = "to_unix_nano")]
        to: Timestamp,
    },
    /// Group the patterns of a range, or its anomalies. Answered by [`Clusters`].
    ListClusters {
        /// Only this service; empty: all.
        service: String,
        /// Event time of the logs: from inclusive.
        #[serde(rename = "from_unix_nano")]
        from: Timestamp,
        /// To exclusive.
        #[serde(rename = "to_unix_nano")]
        to: Timestamp,
        /// Whether only logs that are anomalies are grouped.
        anomalies: bool,
        /// At most so many groups.
        limit: u32,
    },
}

/// A model was trained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trained {
    /// The id of the new model, which is a candidate until somebody promotes it.
    pub model_id: u64,
}

/// How two models judge the same logs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Comparison {
    /// Logs that both have scored.
    pub logs: u64,
    /// Anomalies of the first.
    pub first_anomalies: u64,
    /// Anomalies of the second.
    pub second_anomalies: u64,
    /// Anomalies of both.
    pub both: u64,
    /// Logs that only the first calls anomalies, some of them.
    pub only_first: Vec<Differing>,
    /// Logs that only the second calls anomalies, some of them.
    pub only_second: Vec<Differing>,
}

/// A log that only one of two models calls an anomaly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differing {
    /// Its public id.
    pub id: String,
    /// Its service.
    pub service: String,
    /// The beginning of its message.
    pub message: String,
    /// Why it was called one.
    pub reasons: Vec<String>,
}

/// Groups of patterns.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Clusters {
    /// The largest first.
    pub clusters: Vec<Cluster>,
    /// All that there are.
    pub total: u64,
    /// Logs in them.
    pub logs: u64,
}

/// Patterns that say nearly the same.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cluster {
    /// Logs.
    pub logs: u64,
    /// Patterns.
    pub patterns: u64,
    /// The services that they come from, by name; the first of many.
    pub services: Vec<String>,
    /// The pattern with the most logs.
    pub representative: String,
    /// Public ids of some of its logs.
    pub sample_ids: Vec<String>,
}

/// Why a job came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFailure {
    /// Whether what the request names does not exist; otherwise what it needs is not met.
    pub not_found: bool,
    /// Whether the same may succeed when it is asked for again: a fault passed, or whoever did it
    /// was stopped.
    #[serde(default)]
    pub is_retryable: bool,
    /// For a person.
    pub message: String,
}
