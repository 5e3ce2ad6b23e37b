//! TLS, which the library has if it is built with the feature `tls`.

use std::path::PathBuf;
#[cfg(feature = "tls")]
use std::{error::Error, fs, path::Path};

use tonic::transport::Endpoint as Connector;
#[cfg(feature = "tls")]
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::error::ConfigError;

/// How to speak to `https://` addresses. The files are PEM, and read once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsOptions {
    /// The CA of the server, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// A certificate to show to the server, and its private key.
    pub client_files: Option<(PathBuf, PathBuf)>,
}

impl TlsOptions {
    /// Whether the files can be used.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if cfg!(not(feature = "tls")) {
            // Of no use without an address that needs them, which is refused by itself.
            return Ok(());
        }
        secured(Connector::from_static("https://localhost"), self).map(|_| ())
    }
}

/// A connector that speaks TLS as the options say.
#[cfg(feature = "tls")]
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

/// Without the feature no address that needs TLS can be used.
#[cfg(not(feature = "tls"))]
pub(super) fn secured(connector: Connector, _: &TlsOptions) -> Result<Connector, ConfigError> {
    Err(ConfigError::TlsLeftOut(connector.uri().to_string()))
}

/// The text of a PEM file. Without this check a file that holds none would count as an empty one.
#[cfg(feature = "tls")]
fn pem(path: &Path) -> Result<String, ConfigError> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string());
    let text = text.and_then(|text| {
        if text.contains("-----BEGIN ") { Ok(text) } else { Err("it holds no PEM".into()) }
    });
    text.map_err(|cause| ConfigError::Tls(format!("{}: {cause}", path.display())))
}
