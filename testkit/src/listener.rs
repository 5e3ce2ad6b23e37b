//! A server of a test on a thread of its own, so that neither a busy test nor a paused clock slows
//! it down; plain or within TLS.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinSet,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use crate::certificates::Certificates;

/// A connection.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

type Serving = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// Listens until dropped; its connections end with it.
pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Serves each connection on a free loopback port.
    pub(crate) fn start(serve: impl Fn(TcpStream) -> Serving + Send + 'static) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (say, address) = mpsc::sync_channel(1);
        let thread = thread::spawn(move || {
            crate::wait(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
                say.send(listener.local_addr().expect("it is bound")).expect("the test waits");
                tokio::select! {
                    _ = stopped => {}
                    () = accept(listener, serve) => {}
                }
            });
        });
        let address = address.recv().expect("the thread says its address");
        Self { address, stop: Some(stop), thread: Some(thread) }
    }
}

async fn accept(listener: TcpListener, serve: impl Fn(TcpStream) -> Serving) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("it listens");
        // A client that goes away is no fault of the kit.
        connections.spawn(serve(stream));
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            // A second panic while the test unwinds would abort, and hide the first one's words.
            && !thread::panicking()
        {
            panic!("a server of the test panicked");
        }
    }
}

/// Speaks TLS as the certificate has it.
pub(crate) fn acceptor(certificates: &Certificates) -> TlsAcceptor {
    let chain = CertificateDer::pem_slice_iter(certificates.certificate.as_bytes());
    let chain = chain.collect::<Result<Vec<_>, _>>().expect("it was just made");
    let key = PrivateKeyDer::from_pem_slice(certificates.key.as_bytes()).expect("it was just made");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("key and certificate belong together");
    TlsAcceptor::from(Arc::new(config))
}
