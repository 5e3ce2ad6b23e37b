//! The parts of the port that have to do with detection: models, and what people say of logs.
//!
//! - **One active.** Of each kind and scope at most one model is active, whoever promotes at once.
//! - **Checked.** A model's body is handed out only if it has the checksum that it was stored with.
//! - **Bounded.** Of each kind and scope [`MODELS_KEPT`] models are kept besides the active one, those
//!   made or active last.

use async_trait::async_trait;
use logweir_core::{
    identity::{LogId, Service, TemplateId, Tenant},
    timestamp::Timestamp,
};
use xxhash_rust::xxh3::xxh3_64;

use crate::StorageError;

/// Models of a kind and scope that are kept besides the active one.
// Enough to go back through; each may be megabytes, and every service may have models of its own.
pub const MODELS_KEPT: usize = 20;
/// Pieces of feedback that are read, those given last.
// Processors read all of them at once, of all tenants.
pub const FEEDBACK_MAX: usize = 10_000;

/// What a kind of model is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ModelKind {
    /// An isolation forest over the features of logs.
    IsolationForest,
}

/// What a model is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelState {
    /// Nothing yet, or not any more after a rollback.
    Candidate,
    /// Processors score logs by it.
    Active,
    /// It was active before another was promoted.
    Retired,
}

/// The stable names of the variants of a type.
macro_rules! names {
    ($type:ident { $($variant:ident = $name:literal),+ }) => {
        impl $type {
            /// Its stable name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::StorageError;

            fn from_str(name: &str) -> Result<Self, Self::Err> {
                match name {
                    $($name => Ok(Self::$variant),)+
                    _ => Err($crate::StorageError::Corrupt(format!(
                        concat!("{:?} is no ", stringify!($type), " of this version"),
                        name
                    ))),
                }
            }
        }
    };
}

pub(crate) use names;

names!(ModelKind { IsolationForest = "isolation_forest" });
names!(ModelState { Candidate = "candidate", Active = "active", Retired = "retired" });

/// A model to store, as a candidate.
#[derive(Debug, Clone, PartialEq)]
pub struct NewModel {
    /// Its kind.
    pub kind: ModelKind,
    /// The service that it serves; none: those of the tenant that have none of their own.
    pub scope: Option<Service>,
    /// How it was made, JSON.
    pub parameters: String,
    /// Event time of the logs that it was trained on: from inclusive.
    pub trained_from: Timestamp,
    /// To exclusive.
    pub trained_to: Timestamp,
    /// Logs that it was trained on.
    pub rows: u64,
    /// How its features were distributed, JSON.
    pub statistics: String,
    /// How it did on its own logs, JSON.
    pub metrics: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A stored model, without its body.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Its id within its tenant, ascending and never given again.
    pub model_id: u64,
    /// What was said when it was stored.
    pub made: NewModel,
    /// What it is used for.
    pub state: ModelState,
    /// When it was promoted last; none for a candidate.
    pub activated_at: Option<Timestamp>,
    /// The checksum of its body (XXH3-64).
    pub checksum: u64,
    /// The length of its body, bytes.
    pub bytes: u64,
}

/// What a person said of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feedback {
    /// The log.
    pub log_id: LogId,
    /// Its service.
    pub service: Service,
    /// Its pattern.
    pub template_id: TemplateId,
    /// Whether it is an anomaly.
    pub is_anomaly: bool,
    /// Id of the token that this was said with.
    pub given_by: String,
    /// When it was given.
    pub given_at: Timestamp,
}

/// Keeps models and what people say of logs.
#[async_trait]
pub trait KeepModels: Send + Sync {
    /// Stores a candidate, and forgets the oldest above [`MODELS_KEPT`].
    async fn insert_model(
        &self,
        tenant: &Tenant,
        model: NewModel,
        body: Vec<u8>,
    ) -> Result<Model, StorageError>;
    /// The models of a tenant, newest first, at most `limit`.
    async fn list_models(&self, tenant: &Tenant, limit: usize) -> Result<Vec<Model>, StorageError>;
    /// One model.
    async fn get_model(&self, tenant: &Tenant, model_id: u64) -> Result<Model, StorageError>;
    /// A model's body; `Corrupt` if it is not what was stored.
    async fn load_model(&self, tenant: &Tenant, model_id: u64) -> Result<Vec<u8>, StorageError>;
    /// The active models of all tenants.
    async fn active_models(&self) -> Result<Vec<(Tenant, Model)>, StorageError>;
    /// Retires the active model of the same kind and scope and activates this one, at once.
    async fn promote_model(
        &self,
        tenant: &Tenant,
        model_id: u64,
        now: Timestamp,
    ) -> Result<Model, StorageError>;
    /// Makes the active model a candidate again and activates the one that was active before it,
    /// which is answered; none if there was none, so that none is active now. `NotFound` if none
    /// is active.
    async fn roll_back_model(
        &self,
        tenant: &Tenant,
        kind: ModelKind,
        scope: Option<&Service>,
    ) -> Result<Option<Model>, StorageError>;
    /// Notes what a person says of a log; the last word on it holds.
    async fn give_feedback(&self, tenant: &Tenant, said: Feedback) -> Result<(), StorageError>;
    /// What was said last, of all tenants, oldest first, at most [`FEEDBACK_MAX`].
    async fn list_feedback(&self) -> Result<Vec<(Tenant, Feedback)>, StorageError>;
}

/// The checksum that is kept beside a body.
pub(crate) fn checksum(body: &[u8]) -> u64 {
    xxh3_64(body)
}

/// A body that is what was stored.
pub(crate) fn checked(model_id: u64, kept: u64, body: Vec<u8>) -> Result<Vec<u8>, StorageError> {
    if checksum(&body) == kept {
        return Ok(body);
    }
    Err(StorageError::Corrupt(format!(
        "model {model_id} has not the checksum that it was stored with"
    )))
}

pub(crate) fn no_model(model_id: u64) -> StorageError {
    StorageError::NotFound(format!("model {model_id}"))
}

pub(crate) fn none_active(kind: ModelKind, scope: &str) -> StorageError {
    let whose = if scope.is_empty() { "the tenant" } else { scope };
    StorageError::NotFound(format!("an active model ({}) of {whose}", kind.as_str()))
}

pub(crate) fn scope_text(scope: Option<&Service>) -> &str {
    scope.map_or("", Service::as_str)
}

pub(crate) fn scope_of(text: &str) -> Result<Option<Service>, StorageError> {
    let damaged = |error| StorageError::Corrupt(format!("the scope of a model: {error}"));
    (!text.is_empty()).then(|| Service::new(text).map_err(damaged)).transpose()
}
