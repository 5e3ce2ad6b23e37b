//! TLS through the real binary: set up by files, and what each side says when it does not do.

mod support;

use std::{fs, path::Path, process::Output};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use support::{Process, logweir, succeeded, token};
use tempfile::TempDir;

type Authority = Issuer<'static, KeyPair>;

/// A folder with the files of a server, of a client and of a stranger.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ca = authority(folder.path(), "ca");
    certify(folder.path(), "server", "127.0.0.1", &ca);
    certify(folder.path(), "client", "friend", &ca);
    authority(folder.path(), "other_ca");
    folder
}

fn write(folder: &Path, name: &str, text: String) {
    fs::write(folder.join(name), text).expect("the file can be written");
}

fn authority(folder: &Path, name: &str) -> Authority {
    let mut params = CertificateParams::new([]).expect("no name is bad");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    write(folder, name, params.self_signed(&key).expect("a certificate").pem());
    write(folder, &format!("{name}_key"), key.serialize_pem());
    Issuer::new(params, key)
}

fn certify(folder: &Path, file: &str, name: &str, authority: &Authority) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new([name.to_owned()]).expect("the name is good");
    let certificate = params.signed_by(&key, authority).expect("a certificate");
    write(folder, file, certificate.pem());
    write(folder, &format!("{file}_key"), key.serialize_pem());
}

#[test]
fn server_and_client_meet_within_tls() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let data_dir = folder.path().join("data");
    let files = [
        ("LOGWEIR_TLS_CERT", path("server")),
        ("LOGWEIR_TLS_KEY", path("server_key")),
        ("LOGWEIR_TLS_CLIENT_CA", path("ca")),
    ];
    let files = files.each_ref().map(|(name, path)| (*name, path.as_str()));
    let server = Process::standalone_with(&data_dir, "127.0.0.1:0", &files);
    assert!(server.endpoint.starts_with("https://127.0.0.1:"), "{}", server.endpoint);
    let token = token(&data_dir, "*", "admin");
    write(folder.path(), "shop.log", "INFO paid\n".to_owned());
    let run = |arguments: &[&str], endpoint: &str, files: &[(&str, &str)]| -> Output {
        let mut command = logweir();
        command.args(arguments).env("LOGWEIR_ENDPOINT", endpoint).env("LOGWEIR_TOKEN", &token);
        command.envs(files.iter().map(|(name, file)| (*name, path(file))));
        command.output().expect("the binary runs")
    };
    let ask = |endpoint: &str, files: &[(&str, &str)]| run(&["services"], endpoint, files);
    let identity =
        [("LOGWEIR_TLS_CLIENT_CERT", "client"), ("LOGWEIR_TLS_CLIENT_KEY", "client_key")];
    let with = |ca| [("LOGWEIR_TLS_CA", ca), identity[0], identity[1]];
    let (log, journal) = (path("shop.log"), path("journal"));
    let send = ["send", &log, "--journal", &journal];
    succeeded(&run(&send, &server.endpoint, &with("ca")));
    assert!(succeeded(&ask(&server.endpoint, &with("ca"))).contains("shop"));
    let plain = server.endpoint.replace("https", "http");
    for (output, code, said) in [
        (ask(&server.endpoint, &with("other_ca")), 3, "invalid peer certificate"),
        (ask(&server.endpoint, &with("server_key")), 2, "holds no PEM of a certificate"),
        (ask(&server.endpoint, &[("LOGWEIR_TLS_CA", "ca")]), 3, "--tls-client-cert"),
        (ask(&plain, &[]), 3, "https://"),
    ] {
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(said), "{stderr}");
    }
    assert!(server.stop().success());
}

#[test]
fn files_that_do_not_do_are_named_at_the_start() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).display().to_string();
    for (certificate, key, said) in [
        ("nowhere", "server_key", "the TLS certificate"),
        ("server", "nowhere", "the TLS key"),
        ("server", "client_key", "it does not belong to"),
        ("server_key", "server_key", "it holds no PEM of a certificate"),
        ("ca", "ca_key", "it is marked as an authority (basicConstraints CA:TRUE)"),
    ] {
        let mut command = logweir();
        command.args(["standalone", "--listen", "127.0.0.1:0", "--data-dir", &path("data")]);
        command.args(["--tls-cert", &path(certificate), "--tls-key", &path(key)]);
        let output = command.output().expect("the binary runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && output.stdout.is_empty());
        assert!(stderr.contains(said) && stderr.lines().count() == 1, "{stderr}");
    }
    assert!(!folder.path().join("data").exists());
}
