//! TLS to the server, with a CA of one's own, and with a certificate of the client.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{fs, path::PathBuf, time::Duration};

use logweir_sdk::{ClientBuilder, ConfigError, Level, Record, TlsOptions};
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use support::{PATIENCE, Server, client_of};
use tempfile::TempDir;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

/// A CA, with its certificate in a file.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("ca"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A certificate and its key.
    fn issue(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn server(&self) -> ServerTlsConfig {
        let (certificate, key) = self.issue();
        ServerTlsConfig::new().identity(Identity::from_pem(certificate, key))
    }

    fn trusted(&self) -> TlsOptions {
        TlsOptions { ca_file: Some(self.file("ca")), client_files: None }
    }
}

fn client(server: &Server, tls: TlsOptions) -> ClientBuilder {
    client_of(server).endpoint(server.url().replace("http://", "https://")).tls(tls)
}

fn sent(server: &Server, tls: TlsOptions) -> u64 {
    let client = client(server, tls).build().unwrap();
    client.emit(Record::new(Level::Info, "x".repeat(2_000)));
    client.flush(PATIENCE).sent
}

#[test]
fn a_server_whose_ca_is_known_gets_the_logs() {
    let authority = Authority::new();
    assert_eq!(sent(&Server::secured(authority.server()), authority.trusted()), 1);
}

#[test]
fn a_server_of_another_ca_gets_nothing() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = Server::secured(authority.server());
    for tls in [other.trusted(), TlsOptions::default()] {
        let client = client(&server, tls).build().unwrap();
        client.emit(Record::new(Level::Info, "secret"));
        assert_eq!(client.flush(Duration::from_millis(100)).pending, 1);
        client.shutdown(Duration::ZERO);
    }
    assert_eq!(server.seen(|seen| seen.attempts.len()), 0);
}

#[test]
fn a_server_that_wants_a_certificate_is_shown_it() {
    let authority = Authority::new();
    let ca = Certificate::from_pem(authority.issuer.pem());
    let server = Server::secured(authority.server().client_ca_root(ca));
    let (certificate, key) = authority.issue();
    fs::write(authority.file("certificate"), certificate).unwrap();
    fs::write(authority.file("key"), key).unwrap();
    let client_files = Some((authority.file("certificate"), authority.file("key")));
    assert_eq!(sent(&server, TlsOptions { client_files, ..authority.trusted() }), 1);
}

#[test]
fn files_that_cannot_be_used_fail_at_once() {
    let (authority, server) = (Authority::new(), Server::scripted([]));
    fs::write(authority.file("text"), "no certificate").unwrap();
    for name in ["nowhere", "text"] {
        let tls = TlsOptions { ca_file: Some(authority.file(name)), client_files: None };
        assert!(matches!(client(&server, tls).build(), Err(ConfigError::Tls(_))), "{name}");
    }
}
