//! Syslog against the real binary: over TCP in both framings, within TLS and by UDP, from senders that
//! are silent, slow, many, or still there after the server was killed.

mod support;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpStream, UdpSocket},
    path::Path,
    process::Command,
    time::Duration,
};

use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;
use support::{
    Process, client, logweir,
    network::{Transport, listening},
    succeeded, token,
};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

const TOKEN_FILE: &str = "syslog_token";
/// Whoever waits longer than this for what must come has found an error.
const TIMEOUT: Duration = Duration::from_secs(30);

struct Server {
    process: Process,
    admin: String,
    data_dir: tempfile::TempDir,
}

impl Server {
    fn start(scope: &str, env: &[(&str, &str)]) -> Self {
        let data_dir = tempfile::tempdir().expect("a folder");
        let admin = token(data_dir.path(), "*", "admin");
        let syslog = token(data_dir.path(), scope, "ingest");
        fs::write(data_dir.path().join(TOKEN_FILE), syslog).expect("the folder takes it");
        let process = run(data_dir.path(), "127.0.0.1:0", env);
        Self { process, admin, data_dir }
    }

    /// The address of syslog over TCP or TLS: the one that is not the server's own.
    fn stream_address(&self) -> String {
        let addresses = listening(self.process.id(), Transport::Tcp);
        let own = self.process.endpoint.rsplit('/').next().expect("an address").to_owned();
        addresses.into_iter().find(|address| *address != own).expect("it listens")
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.stream_address()).expect("it listens");
        stream.set_read_timeout(Some(TIMEOUT)).expect("a socket");
        stream
    }

    /// Waits until so many logs are stored.
    fn stored(&self, logs: u32) {
        while self.process.metric("logweir_storage_logs_total") < f64::from(logs) {}
    }

    /// The logs, once there are so many.
    fn found(&self, logs: usize) -> Vec<Value> {
        loop {
            let found = self.search(&["service:app"]);
            assert!(found.len() <= logs, "{} of {logs}", found.len());
            if found.len() == logs {
                return found;
            }
        }
    }

    fn search(&self, filter: &[&str]) -> Vec<Value> {
        let args = [&["search", "--json", "--limit", "5000"], filter].concat();
        let found = succeeded(&client(&self.process, &self.admin, &args));
        found.lines().map(|line| serde_json::from_str(line).expect("NDJSON")).collect()
    }
}

fn run(data_dir: &Path, listen: &str, env: &[(&str, &str)]) -> Process {
    let token_file = data_dir.join(TOKEN_FILE).display().to_string();
    let env = [&[("LOGWEIR_SYSLOG__TOKEN_FILE", token_file.as_str())], env].concat();
    Process::standalone_with(data_dir, listen, &env)
}

const TCP: (&str, &str) = ("LOGWEIR_SYSLOG__TCP_LISTEN", "127.0.0.1:0");

#[test]
fn each_form_and_framing_is_a_log() {
    let server = Server::start("*", &[TCP, ("LOGWEIR_SYSLOG__UDP_LISTEN", "127.0.0.1:0")]);
    let version_1 =
        "<165>1 2026-01-02T03:04:05.678Z web-1 shop 42 ID47 [ex@1 cart=\"7\"] order failed";
    let traditional = "<34>Jan  2 03:04:05 web-1 su[7]: 'su root' failed";
    let json =
        r#"<14>Jan  2 03:04:05 web-1 api[1]: {"level":"error","msg":"took 12 ms","order":"A7"}"#;
    let stream = format!("{} {version_1}{traditional}\n{} {json}", version_1.len(), json.len());
    let mut connection = server.connect();
    connection.write_all(stream.as_bytes()).expect("it reads");
    server.stored(3);
    let udp = &listening(server.process.id(), Transport::Udp)[0];
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for text in [version_1, traditional, json] {
        socket.send_to(text.as_bytes(), udp).expect("it is sent");
    }
    server.stored(6);
    assert_eq!(server.search(&["service:shop", "cart=7", "pid=42", "host=web-1"]).len(), 2);
    assert_eq!(server.search(&["service:su", "level:fatal"]).len(), 2);
    let api = server.search(&["service:api", "level:error", "order=A7"]);
    assert!(api.len() == 2 && api.iter().all(|log| log["latency_ms"] == 12.0), "{api:?}");
}

#[test]
fn a_token_for_one_service_says_whose_the_logs_are() {
    let server = Server::start("router", &[TCP]);
    server.connect().write_all(b"<34>Jan  2 03:04:05 gw-1 sshd[7]: x\n").expect("it reads");
    server.stored(1);
    assert_eq!(server.search(&["service:router", "service.original=sshd"]).len(), 1);
}

#[test]
fn a_silent_sender_and_one_too_many_are_let_go() {
    let seconds = ("LOGWEIR_SYSLOG__READ_TIMEOUT_SECONDS", "1");
    let most = ("LOGWEIR_SYSLOG__ADDRESS_CONNECTIONS_MAX", "2");
    let server = Server::start("*", &[TCP, seconds, most]);
    let (mut silent, mut slow) = (server.connect(), server.connect());
    slow.write_all(b"<13>hel").expect("it reads");
    let mut third = server.connect();
    let ended = |stream: &mut TcpStream| stream.read(&mut [0]).map_or(0, |read| read);
    assert_eq!(ended(&mut third), 0, "the third is closed at once");
    assert_eq!((ended(&mut silent), ended(&mut slow)), (0, 0));
    // What has begun is kept; and there is room for others.
    server.stored(1);
    let mut another = server.connect();
    another.write_all(b"<13>again\n").expect("it reads");
    server.stored(2);
    assert_eq!(server.search(&["hel"]).len(), 1);
}

#[test]
fn what_is_too_long_is_cut_and_marked() {
    let server = Server::start("*", &[TCP]);
    let long = format!("<13>{}\n<13>next\n", "x".repeat(1 << 20));
    server.connect().write_all(long.as_bytes()).expect("it reads");
    server.stored(2);
    assert_eq!(server.search(&["logweir.truncated=true"]).len(), 1);
    assert_eq!(server.search(&["next"]).len(), 1);
}

#[test]
fn what_was_read_is_there_once_after_the_server_was_killed() {
    const LOGS: u32 = 2_000;
    let mut server = Server::start("*", &[TCP]);
    let send = |server: &Server, first: u32| {
        let mut stream = server.connect();
        for number in first..first + LOGS {
            let line = format!("<13>Jan  2 03:04:05 h app[1]: log {number} of the syslog test\n");
            stream.write_all(line.as_bytes()).expect("it reads");
        }
        stream
    };
    let open = send(&server, 0);
    server.found(LOGS as usize);
    let Server { process, admin, data_dir } = server;
    process.kill();
    drop(open);
    let process = run(data_dir.path(), "127.0.0.1:0", &[TCP]);
    server = Server { process, admin, data_dir };
    let open = send(&server, LOGS);
    let found = server.found(2 * LOGS as usize);
    let mut messages: Vec<String> =
        found.iter().map(|log| log["message"].as_str().expect("a text").to_owned()).collect();
    messages.sort();
    messages.dedup();
    assert_eq!(messages.len(), found.len());
    drop(open);
}

#[test]
fn a_token_that_lets_nobody_send_is_told_at_the_start() {
    let data_dir = tempfile::tempdir().expect("a folder");
    let viewer = token(data_dir.path(), "*", "viewer");
    let path = data_dir.path().join(TOKEN_FILE);
    fs::write(&path, viewer).expect("the folder takes it");
    let mut command: Command = logweir();
    command.args(["standalone", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data_dir.path());
    command.env(TCP.0, TCP.1);
    let none = command.output().expect("the binary runs");
    let said = String::from_utf8_lossy(&none.stderr).into_owned();
    assert!(!none.status.success() && said.contains("syslog.token_file must be given"), "{said}");
    let output = command.env("LOGWEIR_SYSLOG__TOKEN_FILE", path).output().expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("the token has role viewer"), "{said}");
}

/// A connection within TLS to a server whose certificate is this one.
fn within_tls(address: &str, certificate: &str) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("it is PEM");
    roots.add(certificate).expect("it is a certificate");
    let builder = ClientConfig::builder_with_provider(ring::default_provider().into());
    let builder = builder.with_safe_default_protocol_versions().expect("the provider has them");
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    let client = ClientConnection::new(config.into(), name).expect("a client");
    StreamOwned::new(client, TcpStream::connect(address).expect("it listens"))
}

#[test]
fn within_tls_it_is_the_same() {
    let data_dir = tempfile::tempdir().expect("a folder");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("the name is good");
    let certificate = params.self_signed(&key).expect("a certificate").pem();
    let path = |name: &str| data_dir.path().join(name).display().to_string();
    fs::write(path("cert"), &certificate).expect("the folder takes it");
    fs::write(path("key"), key.serialize_pem()).expect("the folder takes it");
    let admin = token(data_dir.path(), "*", "admin");
    fs::write(path(TOKEN_FILE), &admin).expect("the folder takes it");
    let files = [
        ("LOGWEIR_TLS_CERT", path("cert")),
        ("LOGWEIR_TLS_KEY", path("key")),
        ("LOGWEIR_SYSLOG__TLS_LISTEN", "127.0.0.1:0".to_owned()),
    ];
    let files = files.each_ref().map(|(name, value)| (*name, value.as_str()));
    let process = run(data_dir.path(), "127.0.0.1:0", &files);
    let endpoint = process.endpoint.clone();
    let server = Server { process, admin, data_dir };
    let text = "<34>1 2026-01-02T03:04:05.678Z h shop - - - within TLS";
    let mut stream = within_tls(&server.stream_address(), &certificate);
    write!(stream, "{} {text}", text.len()).expect("it reads");
    stream.flush().expect("it reads");
    let found = || {
        let mut command = logweir();
        command.args(["search", "--json", "service:shop"]).env("LOGWEIR_TOKEN", &server.admin);
        command.env("LOGWEIR_ENDPOINT", &endpoint);
        command.env("LOGWEIR_TLS_CA", server.data_dir.path().join("cert"));
        String::from_utf8(command.output().expect("the binary runs").stdout).expect("UTF-8")
    };
    while !found().contains("within TLS") {}
    // Whoever speaks plainly is not heard.
    let mut plain = server.connect();
    plain.write_all(b"<34>plain\n").expect("it is sent");
    let mut said = Vec::new();
    drop(plain.read_to_end(&mut said));
    assert!(!found().contains("plain"));
}
