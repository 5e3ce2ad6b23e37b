//! From a name to a connection: resolve, check each address, connect to one that was checked, TLS.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

use super::{CallSteps, Failure, SendError};
use crate::channel::address::AddressPolicy;

/// To reach an address and, after that, to agree on TLS. A packet that is lost is sent again after
/// one second, and after two more.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// For a whole call, from the name to the last byte of the answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Addresses of a name that are tried: the time-out of a call is for all of them together.
const ADDRESSES_MAX: usize = 4;

/// Finds the addresses of a name.
#[async_trait]
pub trait Resolve: Send + Sync {
    /// All addresses of the name. A name that does not exist is [`io::ErrorKind::NotFound`].
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The machine's own resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        match tokio::net::lookup_host((name, 0)).await {
            Ok(found) => Ok(found.map(|address| address.ip()).collect()),
            // Told apart, since a name that does not exist is mostly a mistake in the settings.
            Err(error) if says_unknown(&error) => Err(io::ErrorKind::NotFound.into()),
            Err(error) => Err(error),
        }
    }
}

/// The standard library keeps `getaddrinfo`'s reason in the text alone: glibc's and musl's words.
fn says_unknown(error: &io::Error) -> bool {
    let text = error.to_string();
    ["Name or service not known", "Name does not resolve", "No address associated"]
        .iter()
        .any(|known| text.contains(known))
}

/// How channels reach the network. Cheap to clone.
#[derive(Clone)]
pub struct Network {
    policy: AddressPolicy,
    resolver: Arc<dyn Resolve>,
    tls: Arc<ClientConfig>,
    authorities: Arc<Vec<CertificateDer<'static>>>,
    /// How long it may take to reach an address, and again to agree on TLS.
    pub connect_timeout: Duration,
    /// How long a whole call may take.
    pub call_timeout: Duration,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Network {
    /// Trusts the machine's certificate authorities and those in `authorities_pem`.
    pub fn new(
        policy: AddressPolicy,
        resolver: Arc<dyn Resolve>,
        authorities_pem: &[u8],
    ) -> Result<Self, String> {
        let authorities = CertificateDer::pem_slice_iter(authorities_pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("certificate authorities cannot be read: {error}"))?;
        let mut roots = RootCertStore::empty();
        // A single certificate of the machine that is damaged must not cost all the others.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        for authority in &authorities {
            roots.add(authority.clone()).map_err(|error| error.to_string())?;
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            policy,
            resolver,
            tls: Arc::new(tls),
            authorities: Arc::new(authorities),
            connect_timeout: CONNECT_TIMEOUT,
            call_timeout: CALL_TIMEOUT,
        })
    }

    /// The authorities that are trusted beside the machine's.
    pub(crate) fn authorities(&self) -> &[CertificateDer<'static>] {
        &self.authorities
    }

    /// Connects to a checked address of the host, within TLS if asked.
    pub(crate) async fn connect(
        &self,
        host: &str,
        port: u16,
        within_tls: bool,
        steps: &mut CallSteps,
    ) -> Result<Stream, SendError> {
        // Each step is timed by itself: whoever tests a channel sees which of them is slow.
        let since = Instant::now();
        let addresses = steps.note("dns", since, self.addresses(host, port).await)?;
        let since = Instant::now();
        let tcp = steps.note("connect", since, self.tcp(&addresses).await)?;
        if !within_tls {
            return Ok(Stream::Plain(tcp));
        }
        let since = Instant::now();
        steps.note("tls", since, self.tls(host, tcp).await)
    }

    async fn addresses(
        &self,
        host: &str,
        port: u16,
    ) -> Result<(Vec<SocketAddr>, String), SendError> {
        let failing = Failure::Failing { pause: None };
        // The brackets are how a URL writes an IPv6 address; a resolver does not know them.
        let found = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => match timeout(self.connect_timeout, self.resolver.resolve(host)).await {
                Err(_) => {
                    let text = format!("the name {host} was not resolved in time");
                    return Err(SendError::new(failing, text));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                    let text = format!("the name {host} does not exist; check the address");
                    return Err(SendError::new(Failure::Unresolved, text));
                }
                Ok(Err(error)) => {
                    let text = format!("the name {host} cannot be resolved: {error}");
                    return Err(SendError::new(failing, text));
                }
                Ok(Ok(found)) => found,
            },
        };
        // All are checked before any is called: which of them is reached is the other side's
        // choice.
        for address in &found {
            self.policy
                .check(*address, port)
                .map_err(|refusal| SendError::new(Failure::Misconfigured, refusal))?;
        }
        let checked: Vec<_> = found.iter().map(|address| SocketAddr::new(*address, port)).collect();
        if checked.is_empty() {
            let text = format!("the name {host} has no address; check the address");
            return Err(SendError::new(Failure::Unresolved, text));
        }
        let shown: Vec<String> = found.iter().map(IpAddr::to_string).collect();
        Ok((checked, shown.join(", ")))
    }

    async fn tcp(&self, addresses: &[SocketAddr]) -> Result<(TcpStream, String), SendError> {
        // In the resolver's order. The last error is told: the first is often a missing IPv6 route.
        let mut last = String::new();
        for address in addresses.iter().take(ADDRESSES_MAX) {
            last = match timeout(self.connect_timeout, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok((stream, address.to_string())),
                Ok(Err(error)) => format!("{address} cannot be reached: {error}"),
                Err(_) => format!("{address} does not answer"),
            };
        }
        Err(SendError::new(Failure::Failing { pause: None }, last))
    }

    async fn tls(&self, host: &str, tcp: TcpStream) -> Result<(Stream, String), SendError> {
        let failing = Failure::Failing { pause: None };
        // The certificate is held against the name that was set, not the address that was found.
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
            .map_err(|_| SendError::new(Failure::Misconfigured, "the host is no valid name"))?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        match timeout(self.connect_timeout, connector.connect(name, tcp)).await {
            Ok(Ok(stream)) => {
                let version = stream.get_ref().1.protocol_version();
                let shown = version.map_or_else(String::new, |version| format!("{version:?}"));
                Ok((Stream::Tls(Box::new(stream)), shown))
            }
            // A certificate may be wrong for an hour or for good: it is tried again, and shown.
            Ok(Err(error)) => Err(SendError::new(failing, format!("TLS failed: {error}"))),
            Err(_) => Err(SendError::new(failing, "TLS was not agreed on in time")),
        }
    }
}

/// A connection, plain or within TLS.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
