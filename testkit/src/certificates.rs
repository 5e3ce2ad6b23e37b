//! Certificates of a server on the loopback address, by an authority of its own.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::instance::Instance;

/// The files in the server's folder, PEM.
pub(crate) const AUTHORITY: &str = "ca.pem";
pub(crate) const CERTIFICATE: &str = "server.pem";
pub(crate) const KEY: &str = "server.key";

/// Writes an authority, a certificate for 127.0.0.1 and localhost, and its key.
pub(crate) fn write(instance: &Instance) {
    let mut params = CertificateParams::new([]).expect("no name is bad");
    // Two certificates of one name would pass for one that has signed itself.
    params.distinguished_name.push(DnType::CommonName, "authority of a test");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    instance.write(AUTHORITY, params.self_signed(&key).expect("a certificate").pem());
    let authority = Issuer::new(params, key);
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let params = CertificateParams::new(names).expect("the names are good");
    let key = KeyPair::generate().expect("a key");
    instance.write(CERTIFICATE, params.signed_by(&key, &authority).expect("a certificate").pem());
    instance.write(KEY, key.serialize_pem());
}
