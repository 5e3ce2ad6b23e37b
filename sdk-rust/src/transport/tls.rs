//! TLS, of the feature `tls`.

use std::{error::Error, fs, path::Path};

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint as Connector, Identity};

use super::TlsOptions;
use crate::error::ConfigError;

/// A connector that speaks TLS as the options say.
pub(super) fn secured(
    connector: Connector,
    options: &TlsOptions,
) -> Result<Connector, ConfigError> {
    let mut config = match &options.ca_file {
        None => ClientTlsConfig::new().with_native_roots(),
        Some(path) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem(path)?)),
    };
    if let Some((certificate, key)) = &options.client_files {
        config = config.identity(Identity::from_pem(pem(certificate)?, pem(key)?));
    }
    connector.tls_config(config).map_err(|error| {
        ConfigError::Tls(error.source().map_or_else(String::new, ToString::to_string))
    })
}

/// The text of a PEM file. Without this check a file that holds none would count as an empty one.
fn pem(path: &Path) -> Result<String, ConfigError> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string());
    let text = text.and_then(|text| {
        if text.contains("-----BEGIN ") { Ok(text) } else { Err("it holds no PEM".into()) }
    });
    text.map_err(|cause| ConfigError::Tls(format!("{}: {cause}", path.display())))
}
