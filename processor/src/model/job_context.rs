//! What jobs are done with, and why one may come to nothing.

use std::sync::Arc;

use logweir_analysis::{DetectorConfig, ModelError, ModelScope};
use logweir_core::{
    identity::{IdentityError, Service, Tenant},
    runtime::clock::Clock,
};
use logweir_storage::{KeepModels, ReadLogs, StorageError};
use serde::Serialize;

/// What jobs are done with.
pub(crate) struct Tools {
    pub(crate) read: Arc<dyn ReadLogs>,
    pub(crate) models: Arc<dyn KeepModels>,
    pub(crate) detector: DetectorConfig,
    pub(crate) clock: Clock,
}

/// Why a job came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Storage could not.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// There is no model, or none could be made.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A name breaks its rules.
    #[error(transparent)]
    Name(#[from] IdentityError),
    /// The request is of another version of this program.
    #[error("the job is not understood: run the same version everywhere")]
    Unknown(#[from] serde_json::Error),
}

/// The scope that a model of a tenant, or of one of its services, serves.
pub(super) fn scope(tenant: &Tenant, service: Option<&Service>) -> ModelScope {
    match service {
        Some(service) => ModelScope::Service(tenant.clone(), service.clone()),
        None => ModelScope::Tenant(tenant.clone()),
    }
}

/// An answer, or what is known of a model, as it is stored.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("numbers and texts are JSON")
}
