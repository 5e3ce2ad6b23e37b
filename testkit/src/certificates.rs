//! Certificates of a server on the loopback address, by an authority of its own.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::instance::Instance;

/// The files in the server's folder, PEM.
pub(crate) const AUTHORITY: &str = "ca.pem";
pub(crate) const CERTIFICATE: &str = "server.pem";
pub(crate) const KEY: &str = "server.key";

/// An authority, a certificate of its for 127.0.0.1 and localhost, and that one's key; all PEM.
pub(crate) struct Certificates {
    pub(crate) authority: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// Makes them anew.
pub(crate) fn make() -> Certificates {
    let mut params = CertificateParams::new([]).expect("no name is bad");
    // Two certificates of one name would pass for one that has signed itself.
    params.distinguished_name.push(DnType::CommonName, "authority of a test");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&key).expect("a certificate").pem();
    let issuer = Issuer::new(params, key);
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let params = CertificateParams::new(names).expect("the names are good");
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate").pem();
    Certificates { authority, certificate, key: key.serialize_pem() }
}

/// Writes them to the server's folder.
pub(crate) fn write(instance: &Instance) {
    let made = make();
    instance.write(AUTHORITY, made.authority);
    instance.write(CERTIFICATE, made.certificate);
    instance.write(KEY, made.key);
}
