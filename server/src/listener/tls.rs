//! TLS on every port: the server's certificate, and if a CA of clients is given, only clients
//! with a certificate of it.
//!
//! The files are read when the process starts and looked at again while it runs, so that a renewed
//! certificate needs no restart. If they are not valid then, the last valid ones stay in use.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use logweir_core::{runtime::clock::now, timestamp::Timestamp};
use parking_lot::RwLock;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, RootCertStore, ServerConfig,
        crypto::{CryptoProvider, ring},
        pki_types::{
            CertificateDer, PrivateKeyDer, UnixTime,
            pem::{self, PemObject},
        },
        server::WebPkiClientVerifier,
    },
};
use webpki::{EndEntityCert, KeyUsage};

/// What is offered by ALPN, best first: gRPC needs HTTP/2, gRPC-Web and health checks may use 1.1.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where the certificates lie, as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, followed by those between it and its CA.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// The CAs of clients; with it, a client without a certificate of theirs is refused.
    pub client_ca: Option<PathBuf>,
}

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("the TLS {what} {} cannot be read", .path.display())]
    Unreadable {
        /// Which of the files.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// What the file system answered.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("the TLS {what} {} is not valid: {why}", .path.display())]
    Invalid {
        /// Which of the files.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
}

/// Accepts TLS. Clones share the certificates.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    files: TlsFiles,
    current: RwLock<Current>,
}

struct Current {
    texts: Texts,
    config: Arc<ServerConfig>,
}

/// What is in the files.
#[derive(PartialEq, Eq)]
struct Texts {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Tls {
    /// Reads the files.
    pub fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let texts = Texts::read(&files)?;
        let config = Arc::new(texts.parse(&files)?);
        Ok(Self(Arc::new(Shared { files, current: RwLock::new(Current { texts, config }) })))
    }

    /// Reads the files again; whether they changed. New connections meet what is new.
    pub(crate) fn reload(&self) -> Result<bool, TlsError> {
        let Shared { files, current } = &*self.0;
        let texts = Texts::read(files)?;
        // By content and not by time of change: tools that renew certificates swap symbolic links
        // (Kubernetes does), and a copied file may keep its old time.
        if current.read().texts == texts {
            return Ok(false);
        }
        // Certificate and key are written one after the other. Looked at in between they do not
        // belong together: an error, and the next look finds both.
        let config = Arc::new(texts.parse(files)?);
        *current.write() = Current { texts, config };
        Ok(true)
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0.current.read().config))
    }
}

const CERTIFICATE: &str = "certificate";
const KEY: &str = "key";
const CLIENT_CA: &str = "client CA";

impl Texts {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let read = |what, path: &Path| {
            fs::read(path).map_err(|source| TlsError::Unreadable {
                what,
                path: path.to_owned(),
                source,
            })
        };
        let client_ca = files.client_ca.as_deref().map(|path| read(CLIENT_CA, path));
        Ok(Self {
            certificate: read(CERTIFICATE, &files.certificate)?,
            key: read(KEY, &files.key)?,
            client_ca: client_ca.transpose()?,
        })
    }

    fn parse(&self, files: &TlsFiles) -> Result<ServerConfig, TlsError> {
        // Named and not the process-wide default: once any dependency switches on a second provider
        // of rustls there is no default, and building a configuration panics.
        let provider = Arc::new(ring::default_provider());
        let chain = certificates(CERTIFICATE, &files.certificate, &self.certificate)?;
        if chain.first().is_some_and(is_authority) {
            return Err(invalid(CERTIFICATE, &files.certificate, AUTHORITY_AS_SERVER.to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| invalid(KEY, &files.key, not_pem(&error, "a private key")))?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider speaks TLS 1.2 and 1.3");
        let builder = match files.client_ca.as_deref().zip(self.client_ca.as_deref()) {
            None => builder.with_no_client_auth(),
            Some((path, text)) => {
                builder.with_client_cert_verifier(client_verifier(path, text, provider)?)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                let why = format!("it does not belong to {}", files.certificate.display());
                invalid(KEY, &files.key, why)
            }
            error => invalid(CERTIFICATE, &files.certificate, error.to_string()),
        })?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(config)
    }
}

/// What to do about a certificate that is an authority's, as `openssl req -x509` makes them.
const AUTHORITY_AS_SERVER: &str = "it is marked as an authority (basicConstraints CA:TRUE), and \
    clients take no authority's certificate for a server's (CaUsedAsEndEntity): make it anew with \
    `-addext basicConstraints=critical,CA:FALSE`, or sign a certificate for the server with it";

/// Whether clients would refuse a certificate because it is marked as an authority.
fn is_authority(certificate: &CertificateDer<'_>) -> bool {
    // Asked of the library that clients check it with. That none of its issuers is known here does
    // not matter: what the certificate says of itself is looked at first.
    let verified = EndEntityCert::try_from(certificate).and_then(|certificate| {
        let now = UnixTime::since_unix_epoch(now().since(Timestamp::EPOCH));
        let usage = KeyUsage::server_auth();
        certificate.verify_for_usage(&[], &[], &[], now, usage, None, None).map(drop)
    });
    matches!(verified, Err(webpki::Error::CaUsedAsEndEntity))
}

fn client_verifier(
    path: &Path,
    text: &[u8],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(CLIENT_CA, path, text)? {
        roots.add(certificate).map_err(|error| invalid(CLIENT_CA, path, error.to_string()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| invalid(CLIENT_CA, path, error.to_string()))
}

fn certificates(
    what: &'static str,
    path: &Path,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
    // A file without a certificate is no error for the reader of PEM; an empty list of client CAs
    // would refuse every client, and say so only to them.
    match found.map_err(|error| invalid(what, path, not_pem(&error, "a certificate")))? {
        found if found.is_empty() => {
            Err(invalid(what, path, not_pem(&pem::Error::NoItemsFound, "a certificate")))
        }
        found => Ok(found),
    }
}

fn invalid(what: &'static str, path: &Path, why: String) -> TlsError {
    TlsError::Invalid { what, path: path.to_owned(), why }
}

fn not_pem(error: &pem::Error, wanted: &str) -> String {
    match error {
        pem::Error::NoItemsFound => format!("it holds no PEM of {wanted}"),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedKey, IsCa, KeyPair,
        generate_simple_self_signed,
    };

    use super::*;

    fn pair() -> (String, String) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (cert.pem(), signing_key.serialize_pem())
    }

    /// As `openssl req -x509` makes it: for a name of a server, and marked as an authority.
    fn authority() -> (String, String) {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn files(folder: &Path) -> TlsFiles {
        let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.join(name));
        TlsFiles { certificate, key, client_ca: None }
    }

    fn write(files: &TlsFiles, (certificate, key): &(String, String)) {
        fs::write(&files.certificate, certificate).unwrap();
        fs::write(&files.key, key).unwrap();
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_in_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = files(folder.path());
        let good = pair();
        let said = |files: &TlsFiles| {
            let error = Tls::open(files.clone()).err().unwrap().to_string();
            assert_eq!(error.lines().count(), 1, "{error}");
            error.replace(&format!("{}/", folder.path().display()), "")
        };
        assert_eq!(said(&files), "the TLS certificate cert.pem cannot be read");
        let damaged = good.0.replace("MII", "***");
        for (pair, expected) in [
            ((String::new(), good.1.clone()), "cert.pem is not valid: it holds no PEM of a certif"),
            ((good.1.clone(), good.1.clone()), "cert.pem is not valid: it holds no PEM of a cert"),
            ((damaged, good.1.clone()), "the TLS certificate cert.pem is not valid: base64"),
            ((good.0.clone(), good.0.clone()), "key.pem is not valid: it holds no PEM of a priva"),
            ((good.0.clone(), pair().1), "the TLS key key.pem is not valid: it does not belong"),
            (
                authority(),
                "the TLS certificate cert.pem is not valid: it is marked as an authority",
            ),
        ] {
            write(&files, &pair);
            let error = said(&files);
            assert!(error.contains(expected), "{error}");
        }
        write(&files, &good);
        assert!(Tls::open(files.clone()).is_ok());
        files.client_ca = Some(files.key.clone());
        let expected = "the TLS client CA key.pem is not valid: it holds no PEM of a certificate";
        assert_eq!(said(&files), expected);
    }

    #[test]
    fn a_renewed_certificate_is_taken_once_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        write(&files, &pair());
        let tls = Tls::open(files.clone()).unwrap();
        let config = || Arc::clone(&tls.0.current.read().config);
        let old = config();
        assert!(!tls.reload().unwrap());
        let new = pair();
        fs::write(&files.certificate, &new.0).unwrap();
        assert!(tls.reload().is_err());
        assert!(Arc::ptr_eq(&old, &config()));
        fs::write(&files.key, &new.1).unwrap();
        assert!(tls.reload().unwrap());
        assert!(!Arc::ptr_eq(&old, &config()));
    }
}
