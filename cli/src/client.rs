//! The way to the server, and who we are there.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use logweir_core::{filter::Filter, runtime::clock::now};
use logweir_proto::v1::{
    admin_service_client::AdminServiceClient, alert_service_client::AlertServiceClient,
    model_service_client::ModelServiceClient, query_service_client::QueryServiceClient,
};
use logweir_sdk::{Compression, SendOptions, Sender, TlsOptions, Token};
use logweir_ship as ship;
use tonic::{
    Code, Request, Status,
    codec::CompressionEncoding,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::error::{Error, explain, root_cause};

/// How long one address is tried before the next: a host that is down answers nothing at all, and
/// the system would go on for minutes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
// A server cuts its answers at 3 MiB; this is for servers of other versions.
/// A page of 1,000 logs, each as large as the contract allows a message to be, and more.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Which server, and who we are there.
#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// The server's address; several are tried in turn
    #[arg(
        long,
        value_name = "URL[,URL…]",
        env = "LOGWEIR_ENDPOINT",
        default_value = "http://127.0.0.1:4317",
        global = true,
        help_heading = "Server"
    )]
    pub endpoint: String,
    /// The token (made by `logweir token issue`); better given by the environment
    #[arg(
        long,
        env = "LOGWEIR_TOKEN",
        hide_env_values = true,
        global = true,
        help_heading = "Server"
    )]
    pub token: Option<String>,
    /// A file that holds the token alone
    #[arg(
        long,
        value_name = "FILE",
        env = "LOGWEIR_TOKEN_FILE",
        global = true,
        help_heading = "Server"
    )]
    pub token_file: Option<PathBuf>,
    /// For https://: the CA of the server (PEM), in place of the system's
    #[arg(
        long,
        value_name = "FILE",
        env = "LOGWEIR_TLS_CA",
        global = true,
        help_heading = "Server"
    )]
    pub tls_ca: Option<PathBuf>,
    /// For https://: a certificate to show to the server (PEM)
    #[arg(
        long,
        value_name = "FILE",
        env = "LOGWEIR_TLS_CLIENT_CERT",
        requires = "tls_client_key",
        global = true,
        help_heading = "Server"
    )]
    pub tls_client_cert: Option<PathBuf>,
    /// The private key of --tls-client-cert (PEM)
    #[arg(
        long,
        value_name = "FILE",
        env = "LOGWEIR_TLS_CLIENT_KEY",
        requires = "tls_client_cert",
        global = true,
        help_heading = "Server"
    )]
    pub tls_client_key: Option<PathBuf>,
}

/// Adds the token to each request.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A connection that carries the token.
pub type Connection = InterceptedService<Channel, Bearer>;

impl ServerArgs {
    /// Connects to ask something.
    pub async fn query(&self) -> Result<QueryServiceClient<Connection>, Error> {
        let connection = self.connect().await?;
        Ok(QueryServiceClient::new(connection)
            .max_decoding_message_size(ANSWER_BYTES_MAX)
            .accept_compressed(CompressionEncoding::Zstd))
    }

    /// Connects to administer.
    pub async fn admin(&self) -> Result<AdminServiceClient<Connection>, Error> {
        let connection = self.connect().await?;
        Ok(AdminServiceClient::new(connection).max_decoding_message_size(ANSWER_BYTES_MAX))
    }

    /// Connects to what has to do with models.
    pub async fn models(&self) -> Result<ModelServiceClient<Connection>, Error> {
        let connection = self.connect().await?;
        Ok(ModelServiceClient::new(connection).max_decoding_message_size(ANSWER_BYTES_MAX))
    }

    /// Connects to what has to do with alerting.
    pub async fn alerts(&self) -> Result<AlertServiceClient<Connection>, Error> {
        let connection = self.connect().await?;
        Ok(AlertServiceClient::new(connection).max_decoding_message_size(ANSWER_BYTES_MAX))
    }

    /// Prepares to send batches.
    pub fn sender(&self, compression: Compression) -> Result<Sender, Error> {
        let token = Token::Text(self.read_token()?);
        let client_files = self.tls_client_cert.clone().zip(self.tls_client_key.clone());
        let tls = TlsOptions { ca_file: self.tls_ca.clone(), client_files };
        let options = SendOptions { compression, tls, ..SendOptions::default() };
        Sender::connect(&self.endpoint, token, options)
            .map_err(|error| Error::Usage(error.to_string()))
    }

    /// Why a shipment to this server ended, and what to do about it.
    pub fn shipping_error(&self, error: ship::Error) -> Error {
        match error {
            ship::Error::Inputs(text) => Error::Usage(text),
            ship::Error::NoJournal => {
                Error::Usage("neither XDG_STATE_HOME nor HOME is set: give --journal".to_owned())
            }
            ship::Error::AlreadySending(path) => Error::Usage(format!(
                "another `logweir send` reads {} or a part of it: let it, or end it first",
                path.display()
            )),
            ship::Error::Refused { service, status } if status.code() == Code::PermissionDenied => {
                Error::Refused(format!("{} (logs of service {service:?})", explain(&status)))
            }
            ship::Error::Refused { status, .. } => Error::Server(status),
            ship::Error::OutOfTime(cause) => {
                let cause = if cause.is_empty() { "no answer" } else { &cause };
                unreachable(&self.endpoint, cause)
            }
            ship::Error::Interrupted => Error::Interrupted,
            other @ (ship::Error::File { .. }
            | ship::Error::Journal { .. }
            | ship::Error::JournalInUse(_)) => Error::Ship(other),
        }
    }

    async fn connect(&self) -> Result<Connection, Error> {
        let token = self.read_token()?;
        let mut bearer: MetadataValue<Ascii> = format!("Bearer {token}").parse().map_err(|_| {
            Error::Refused("the token holds characters that cannot be sent: paste it again".into())
        })?;
        // Kept out of debug output, and out of HTTP/2's table of headers, which may be compressed
        // together with what an attacker chooses (RFC 7541, 7.1.3).
        bearer.set_sensitive(true);
        let mut failure = None;
        for address in self.endpoint.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            // A server that is down is passed over. An address that is none is a mistake, and would
            // stay one unnoticed until it is the only one left.
            match self.dial(address)?.connect().await {
                Ok(channel) => return Ok(InterceptedService::new(channel, Bearer(bearer))),
                Err(error) => failure = Some(root_cause(&error)),
            }
        }
        Err(unreachable(&self.endpoint, failure.as_deref().unwrap_or("no address is given")))
    }

    /// An address with what is needed to connect to it.
    fn dial(&self, address: &str) -> Result<Endpoint, Error> {
        let endpoint = endpoint(address)?;
        if endpoint.uri().scheme_str() != Some("https") {
            return Ok(endpoint);
        }
        let mut tls = match &self.tls_ca {
            None => ClientTlsConfig::new().with_native_roots(),
            Some(path) => {
                let text = read(path)?;
                // A file without one is taken as "no CA at all", and every server then fails with a
                // message about certificates that does not name the file.
                if !text.contains("-----BEGIN CERTIFICATE-----") {
                    let text = format!("{} holds no PEM of a certificate", path.display());
                    return Err(Error::Usage(text));
                }
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(text))
            }
        };
        if let Some((certificate, key)) =
            self.tls_client_cert.as_ref().zip(self.tls_client_key.as_ref())
        {
            tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        endpoint.tls_config(tls).map_err(|error| {
            let cause = root_cause(&error);
            Error::Usage(format!(
                "TLS cannot be set up: {cause}; check --tls-ca, --tls-client-cert and --tls-client-key"
            ))
        })
    }

    fn read_token(&self) -> Result<String, Error> {
        // The token before the file, which may come from the environment of a whole machine.
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => token.clone(),
            (None, Some(path)) => read(path)?,
            (None, None) => String::new(),
        };
        // Files end in a line end, and so does what is pasted.
        let token = token.trim();
        if token.is_empty() {
            let advice = "no token: set LOGWEIR_TOKEN to what `logweir token issue` prints";
            return Err(Error::Refused(advice.to_owned()));
        }
        Ok(token.to_owned())
    }
}

fn read(path: &Path) -> Result<String, Error> {
    let failed = |source| Error::File { action: "read", path: path.to_owned(), source };
    fs::read_to_string(path).map_err(failed)
}

fn endpoint(address: &str) -> Result<Endpoint, Error> {
    let with_scheme =
        if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let unusable = || Error::Usage(format!("{address:?} is no address: give http(s)://HOST:PORT"));
    if !["http://", "https://"].iter().any(|scheme| with_scheme.starts_with(scheme)) {
        return Err(unusable());
    }
    let endpoint = Endpoint::from_shared(with_scheme).map_err(|_| unusable())?;
    // No delay: a small request would wait for the acknowledgement of the one before (Nagle).
    Ok(endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true))
}

fn unreachable(endpoints: &str, cause: &str) -> Error {
    // Only in the error: an address without a port is right where a proxy listens on 443, so it is
    // not refused before.
    let hint = endpoints.split(',').find_map(left_out).unwrap_or_default();
    Error::Unavailable(format!(
        "cannot reach {endpoints}: {cause}; is the server running, and does LOGWEIR_ENDPOINT name \
         it?{hint}"
    ))
}

/// What an address leaves to be guessed, with what was taken.
fn left_out(address: &str) -> Option<String> {
    let address = address.trim();
    let (scheme, place) = address.split_once("://").unwrap_or(("", address));
    let authority = place.split('/').next().unwrap_or_default();
    // An IPv6 address in brackets has colons of its own.
    let has_port = authority.rsplit(']').next().is_some_and(|end| end.contains(':'));
    let scheme_taken = if scheme.is_empty() { "http" } else { scheme };
    let port_taken = if scheme_taken == "https" { 443 } else { 80 };
    let taken = match (scheme.is_empty(), has_port) {
        (false, true) => return None,
        (true, true) => "no http:// or https://, so http:// was taken".to_owned(),
        (false, false) => format!("no port, so {port_taken} was taken"),
        (true, false) => {
            "neither http:// or https:// nor a port, so http:// and 80 were taken".into()
        }
    };
    let port = if has_port { authority.rsplit(':').next().unwrap_or_default() } else { "4317" };
    let host =
        if has_port { authority.trim_end_matches(port).trim_end_matches(':') } else { authority };
    Some(format!(" {address:?} has {taken}: did you mean {scheme_taken}://{host}:{port}?"))
}

/// Checks a filter before the server does, and shows where it is wrong.
pub fn check_filter(filter: &str) -> Result<(), Error> {
    match Filter::parse(filter, now()) {
        Ok(_) => Ok(()),
        Err(error) => {
            let pointed = error.pointed(filter);
            Err(Error::Usage(format!("the filter is not understood: {}\n{pointed}", error.message)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_filter_is_shown_with_a_caret() {
        let Err(Error::Usage(text)) = check_filter("level>=warn (payment") else { panic!() };
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[1], "level>=warn (payment");
        assert_eq!(lines[2].trim_start(), "^");
        assert!(check_filter("service:pay level>=warn \"a b\"").is_ok());
    }

    #[test]
    fn addresses_are_completed_or_refused() {
        for good in ["127.0.0.1:4317", "http://h:1", "[::1]:4317", "https://h:1"] {
            assert!(endpoint(good).is_ok(), "{good}");
        }
        for bad in ["ftp://h", "a b"] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_an_address_leaves_out_is_said() {
        for (address, meant) in [
            ("http://h:1", None),
            ("https://[::1]:1", None),
            ("h", Some("http://h:4317")),
            ("http://h/", Some("http://h:4317")),
            ("https://[::1]", Some("https://[::1]:4317")),
            ("h:1", Some("http://h:1")),
        ] {
            let text = unreachable(address, "refused").to_string();
            let expected = meant.map(|meant| format!("did you mean {meant}?"));
            let said = expected.as_ref().map_or(!text.contains("mean"), |said| text.contains(said));
            assert!(said, "{address}: {text}");
        }
    }

    #[test]
    fn without_a_token_nothing_is_asked() {
        let args = ServerArgs {
            endpoint: "127.0.0.1:1".into(),
            token: Some(" ".into()),
            token_file: None,
            tls_ca: None,
            tls_client_cert: None,
            tls_client_key: None,
        };
        assert!(matches!(args.read_token(), Err(Error::Refused(_))));
    }
}
