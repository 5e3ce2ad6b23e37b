//! TLS to the server by `sslmode` and `sslrootcert` of the URL, as libpq understands them:
//! `disable`; `prefer` (the default) and `require` encrypt without knowing the server, unless a
//! root certificate is named; `verify-full`, and `verify-ca` as the same, want a certificate that
//! the named root, or the machine's, stands for.

use std::{path::PathBuf, sync::Arc};

use percent_encoding::percent_decode_str;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::{
    self, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What a URL says of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tls {
    pub(super) mode: SslMode,
    verifies: bool,
    root: Option<PathBuf>,
}

impl Tls {
    /// Takes it out of a URL.
    pub(super) fn split(url: &str) -> Result<(String, Self), Cause> {
        let mut tls = Self { mode: SslMode::Prefer, verifies: false, root: None };
        let Some((before, parameters)) = url.split_once('?') else { return Ok((url.into(), tls)) };
        let mut others = Vec::new();
        for parameter in parameters.split('&') {
            match parameter.split_once('=') {
                Some(("sslmode", mode)) => (tls.mode, tls.verifies) = read_mode(mode)?,
                Some(("sslrootcert", path)) => {
                    tls.root = Some(percent_decode_str(path).decode_utf8()?.into_owned().into());
                }
                _ => others.push(parameter),
            }
        }
        let separator = if others.is_empty() { "" } else { "?" };
        Ok((format!("{before}{separator}{}", others.join("&")), tls))
    }

    /// What makes connections so.
    pub(super) fn connector(&self) -> Result<MakeRustlsConnect, Cause> {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let config = if self.verifies || self.root.is_some() {
            config.with_root_certificates(self.roots()?)
        } else {
            // As libpq does by default: it keeps listeners out, not a server that pretends.
            let anyone = Arc::new(Anyone(provider));
            config.dangerous().with_custom_certificate_verifier(anyone)
        };
        Ok(MakeRustlsConnect::new(config.with_no_client_auth()))
    }

    fn roots(&self) -> Result<RootCertStore, Cause> {
        let mut roots = RootCertStore::empty();
        match &self.root {
            Some(path) => {
                let unreadable = |error| format!("sslrootcert {}: {error}", path.display());
                for root in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
                    roots.add(root.map_err(unreadable)?)?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        Ok(roots)
    }
}

fn read_mode(mode: &str) -> Result<(SslMode, bool), Cause> {
    match mode {
        "disable" => Ok((SslMode::Disable, false)),
        "allow" | "prefer" => Ok((SslMode::Prefer, false)),
        "require" => Ok((SslMode::Require, false)),
        "verify-ca" | "verify-full" => Ok((SslMode::Require, true)),
        other => {
            Err(format!("sslmode {other:?}: use disable, prefer, require or verify-full").into())
        }
    }
}

/// Takes any certificate, but makes sure that the server holds its key.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(mode: SslMode, verifies: bool, root: Option<&str>) -> Tls {
        Tls { mode, verifies, root: root.map(PathBuf::from) }
    }

    #[test]
    fn a_url_says_how_to_encrypt() {
        for (url, without, expected) in [
            ("postgres://a/b", "postgres://a/b", tls(SslMode::Prefer, false, None)),
            (
                "postgres://a/b?sslmode=disable",
                "postgres://a/b",
                tls(SslMode::Disable, false, None),
            ),
            (
                "postgres://a/b?connect_timeout=3&sslmode=verify-full&sslrootcert=/etc/a%20b.pem",
                "postgres://a/b?connect_timeout=3",
                tls(SslMode::Require, true, Some("/etc/a b.pem")),
            ),
        ] {
            assert_eq!(Tls::split(url).unwrap(), (without.to_owned(), expected));
        }
        assert!(Tls::split("postgres://a/b?sslmode=yes").is_err());
        let (_, missing) = Tls::split("postgres://a/b?sslrootcert=/not/there.pem").unwrap();
        assert!(missing.connector().err().unwrap().to_string().contains("/not/there.pem"));
    }
}
