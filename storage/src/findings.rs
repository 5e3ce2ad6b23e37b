//! The part of the port that has to do with findings: what was noticed about more than one log.
//!
//! - **Once.** A finding of the same kind, service, subject and end is stored once.
//! - **Bounded.** Of each tenant the newest [`FINDINGS_KEPT`] are kept.

use async_trait::async_trait;
use logweir_core::{
    identity::{Service, Tenant},
    timestamp::Timestamp,
};

use crate::{StorageError, TimeRange};

/// Findings of a tenant that are kept, those that ended last.
pub const FINDINGS_KEPT: usize = 10_000;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FindingKind {
    /// A trace, or a stretch of an instance's logs, that went as none before; its subject is the
    /// trace's id, 32 hexadecimal digits, or the instance's name.
    UnusualSession,
    /// What comes now is not what the active model was trained on; its subject is the model's id.
    ModelDrift,
}

crate::models::names!(FindingKind {
    UnusualSession = "unusual_session",
    ModelDrift = "model_drift"
});

/// Something that was noticed about more than one log.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What was found.
    pub kind: FindingKind,
    /// The service, or the first of several; none if it is about the whole tenant.
    pub service: Option<Service>,
    /// What it is about; see [`FindingKind`].
    pub subject: String,
    /// When what it is about began.
    pub from: Timestamp,
    /// When it ended, or was noticed.
    pub to: Timestamp,
    /// Logs that it stands on.
    pub logs: u64,
    /// 0 is usual, 1 was never seen.
    pub score: f64,
    /// Why, in a person's words.
    pub reasons: Vec<String>,
}

/// Keeps findings.
#[async_trait]
pub trait KeepFindings: Send + Sync {
    /// Stores findings, and forgets the oldest above [`FINDINGS_KEPT`].
    async fn insert_findings(
        &self,
        tenant: &Tenant,
        findings: Vec<Finding>,
    ) -> Result<(), StorageError>;
    /// The findings of a tenant that ended in a range, newest first, at most `limit`.
    async fn list_findings(
        &self,
        tenant: &Tenant,
        service: Option<&Service>,
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<Finding>, StorageError>;
}

pub(crate) fn reasons_text(reasons: &[String]) -> String {
    serde_json::to_string(reasons).expect("texts are JSON")
}

pub(crate) fn reasons_of(text: &str) -> Result<Vec<String>, StorageError> {
    let damaged = |error| StorageError::Corrupt(format!("the reasons of a finding: {error}"));
    serde_json::from_str(text).map_err(damaged)
}
