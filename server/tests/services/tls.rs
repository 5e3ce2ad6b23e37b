//! TLS: real handshakes, over gRPC and HTTP; certificates and keys that change before they are
//! used.

use std::{fs, io, sync::Arc};

use logweir_queue::QueueLimits;
use logweir_server::{ServerConfig, Tls, TlsFiles, TokenKeys};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};
use tonic::{
    Code,
    transport::{Certificate, ClientTlsConfig, Identity},
};

use crate::harness::{Bench, Secrets, batch, messages, reason};

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, PEM.
type Pair = (String, String);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn certify(&self, name: &str) -> Pair {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// A server's files.
struct Folder {
    _folder: TempDir,
    files: TlsFiles,
}

impl Folder {
    fn new(server: &Pair, client_ca: Option<&Authority>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let files = TlsFiles {
            certificate: path("cert.pem"),
            key: path("key.pem"),
            client_ca: client_ca.map(|_| path("client_ca.pem")),
        };
        if let Some(authority) = client_ca {
            fs::write(path("client_ca.pem"), &authority.pem).unwrap();
        }
        let folder = Self { _folder: folder, files };
        folder.write(server);
        folder
    }

    fn write(&self, (certificate, key): &Pair) {
        fs::write(&self.files.certificate, certificate).unwrap();
        fs::write(&self.files.key, key).unwrap();
    }

    fn open(&self) -> Tls {
        Tls::open(self.files.clone()).unwrap()
    }
}

async fn bench(tls: Tls, trusted: &Authority, identity: Option<&Pair>) -> Bench {
    let client = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&trusted.pem));
    let client = match identity {
        None => client,
        Some((certificate, key)) => client.identity(Identity::from_pem(certificate, key)),
    };
    let secrets = Secrets { keys: None, tls: Some(tls), client: Some(client) };
    Bench::start(ServerConfig::default(), QueueLimits::default(), secrets).await
}

/// The answer to a question in HTTP/1.1 within TLS.
async fn https(bench: &Bench, trusted: &Authority, identity: Option<&Pair>) -> io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.pem.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots);
    let config = match identity {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => config
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let stream = TcpStream::connect(bench.address).await?;
    ask(TlsConnector::from(Arc::new(config)).connect(name, stream).await?).await
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<String> {
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn grpc_and_http_are_spoken_within_tls_to_who_trusts_the_ca() {
    let (authority, other) = (Authority::new(), Authority::new());
    let folder = Folder::new(&authority.certify("127.0.0.1"), None);
    let bench_of = |trusted| bench(folder.open(), trusted, None);
    let bench = bench_of(&authority).await;
    bench.send(batch(1, &["x"])).await.unwrap();
    assert_eq!(messages(&bench.stored().await), ["x"]);
    assert!(https(&bench, &authority, None).await.unwrap().starts_with("HTTP/1.1 200"));

    assert!(https(&bench, &other, None).await.is_err());
    let distrustful = bench_of(&other).await;
    assert_eq!(distrustful.send(batch(2, &["x"])).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn who_speaks_plainly_is_told_to_use_tls() {
    let authority = Authority::new();
    let folder = Folder::new(&authority.certify("127.0.0.1"), None);
    let bench = bench(folder.open(), &authority, None).await;
    let answer = ask(TcpStream::connect(bench.address).await.unwrap()).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("use https://"), "{answer}");
}

#[tokio::test]
async fn with_a_client_ca_only_its_clients_are_let_in() {
    let (authority, clients, other) = (Authority::new(), Authority::new(), Authority::new());
    let folder = Folder::new(&authority.certify("127.0.0.1"), Some(&clients));
    let (friend, stranger) = (clients.certify("friend"), other.certify("stranger"));
    for (identity, welcome) in [(Some(&friend), true), (Some(&stranger), false), (None, false)] {
        let bench = bench(folder.open(), &authority, identity).await;
        let sent = bench.send(batch(1, &["x"])).await;
        assert_eq!(sent.is_ok(), welcome);
        let answer = https(&bench, &authority, identity).await;
        assert_eq!(answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")), welcome);
    }
}

#[tokio::test]
async fn a_renewed_certificate_and_a_new_key_are_found_while_serving() {
    let (old, new) = (Authority::new(), Authority::new());
    let folder = Folder::new(&old.certify("127.0.0.1"), None);
    let tls = folder.open();
    folder.write(&new.certify("127.0.0.1"));
    let path = folder.files.key.with_file_name("token_keys");
    let stale = TokenKeys::open_or_create(&path).unwrap();
    fs::write(&path, TokenKeys::rotated("")).unwrap();
    let client = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&new.pem));
    let secrets = Secrets { keys: Some(stale), tls: Some(tls), client: Some(client) };
    let bench = Bench::start(ServerConfig::default(), QueueLimits::default(), secrets).await;
    let status = bench.send(batch(1, &["x"])).await.unwrap_err();
    assert_eq!(reason(&status), "TOKEN_KEY_UNKNOWN", "{status}");
}
