//! A TCP proxy with faults, between a client and a server.
//!
//! It runs on a thread of its own, so that neither a busy test nor a paused clock slows it down.
//! What it does by chance is decided by a seed, in the order in which bytes pass.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
    time::sleep,
};

/// What is read and passed on at once at most; a fault befalls such a chunk.
const CHUNK_BYTES_MAX: usize = 16 << 10;

/// What a proxy does to what passes; by default nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// How long a chunk of up to 16 KiB may wait, each a part of it by chance.
    pub latency_max: Duration,
    /// How likely a chunk of the client's is passed on in part, and then the connection is reset.
    pub cut_question: f64,
    /// The same for a chunk of the server's: what it did is done, and the client does not know.
    pub cut_answer: f64,
    /// Nothing passes and nothing ends: connections stay open, and new ones are accepted.
    pub is_black_hole: bool,
    /// New connections end at once.
    pub refuses: bool,
}

/// What the test tells a running proxy.
#[derive(Clone, Copy, Default)]
struct Orders {
    faults: Faults,
    /// Grows when all connections are to be reset.
    resets: u64,
    /// Grows when all connections are to be lost.
    losses: u64,
}

/// A running proxy; it ends when dropped, and its connections with it.
pub struct Proxy {
    address: SocketAddr,
    orders: Option<watch::Sender<Orders>>,
    cuts: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens on a free loopback port and connects to a `host:port` for each client.
    pub fn start(target: impl Into<String>, seed: u64) -> Self {
        let target = target.into();
        let (orders, follow) = watch::channel(Orders::default());
        let cuts = Arc::new(AtomicU64::new(0));
        let (say, address) = mpsc::sync_channel(1);
        let counted = Arc::clone(&cuts);
        let thread = thread::spawn(move || {
            let random = StdRng::seed_from_u64(seed);
            crate::wait(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
                say.send(listener.local_addr().expect("it is bound")).expect("the test waits");
                serve(listener, target, random, follow, counted).await;
            });
        });
        let address = address.recv().expect("the proxy listens");
        Self { address, orders: Some(orders), cuts, thread: Some(thread) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A URL of the target with the proxy's address in it.
    pub fn url(&self, url: &str) -> String {
        let (before, rest) = url.split_once("://").expect("a URL has a scheme");
        // The user and the path stay: they say who asks for what, not where.
        let end = rest.find('/').unwrap_or(rest.len());
        let user = rest[..end].rfind('@').map_or("", |at| &rest[..=at]);
        format!("{before}://{user}{}{}", self.address, &rest[end..])
    }

    /// Changes the faults, for connections that are open too.
    pub fn set(&self, faults: Faults) {
        self.orders().send_modify(|orders| orders.faults = faults);
    }

    /// Resets every open connection.
    pub fn reset(&self) {
        self.orders().send_modify(|orders| orders.resets += 1);
    }

    /// Takes the peers of every open connection away: nothing passes any more, and nothing ends,
    /// until one side gives it up, which the other then hears of. New connections work.
    pub fn lose(&self) {
        self.orders().send_modify(|orders| orders.losses += 1);
    }

    /// How many chunks it has cut so far.
    pub fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::SeqCst)
    }

    fn orders(&self) -> &watch::Sender<Orders> {
        self.orders.as_ref().expect("it is there until the drop")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the proxy does not panic");
        }
    }
}

/// Serves until the orders end.
async fn serve(
    listener: TcpListener,
    target: String,
    mut random: StdRng,
    mut orders: watch::Receiver<Orders>,
    cuts: Arc<AtomicU64>,
) {
    let mut connections = JoinSet::new();
    let mut followed = orders.clone();
    let ended = async move { while followed.changed().await.is_ok() {} };
    tokio::pin!(ended);
    loop {
        tokio::select! {
            () = &mut ended => return,
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                if orders.borrow_and_update().faults.refuses {
                    continue;
                }
                // Each has chances of its own, in the order in which they came: what one passes on
                // does not change what befalls another.
                let random = StdRng::seed_from_u64(random.random());
                let connection = Connection { random, orders: orders.clone(), cuts: cuts.clone() };
                connections.spawn(connection.run(client, target.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

struct Connection {
    random: StdRng,
    orders: watch::Receiver<Orders>,
    cuts: Arc<AtomicU64>,
}

/// Why a connection ended.
enum End {
    /// One side closed its half, or went away.
    Closed,
    Cut,
}

impl Connection {
    async fn run(mut self, client: TcpStream, target: String) {
        let Ok(server) = TcpStream::connect(target).await else { return };
        // Small chunks would wait for acknowledgements (Nagle), a latency that nobody ordered.
        if client.set_nodelay(true).and(server.set_nodelay(true)).is_err() {
            return;
        }
        let (questions, to_client) = client.into_split();
        let (answers, to_server) = server.into_split();
        let mut forward = self.way(questions, to_server, |faults| faults.cut_question);
        let mut back = self.way(answers, to_client, |faults| faults.cut_answer);
        let resets = self.orders.borrow_and_update().resets;
        let reset = async move {
            let ordered = self.orders.wait_for(|orders| orders.resets > resets).await;
            // Without orders, the whole proxy ends.
            drop(ordered);
        };
        tokio::pin!(reset);
        // A half that one side closed leaves the other half open, as without a proxy.
        let mut is_open = (true, true);
        while is_open.0 || is_open.1 {
            let end = tokio::select! {
                () = &mut reset => End::Cut,
                end = forward.pass(), if is_open.0 => { is_open.0 = false; end }
                end = back.pass(), if is_open.1 => { is_open.1 = false; end }
            };
            if let End::Cut = end {
                forward.reset();
                return back.reset();
            }
        }
    }

    fn way(&mut self, from: OwnedReadHalf, to: OwnedWriteHalf, cut: fn(&Faults) -> f64) -> Way {
        let random = StdRng::seed_from_u64(self.random.random());
        let (orders, cuts) = (self.orders.clone(), self.cuts.clone());
        let losses = orders.borrow().losses;
        Way { from, to, cut, random, orders, losses, cuts }
    }
}

/// One direction of a connection.
struct Way {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    cut: fn(&Faults) -> f64,
    random: StdRng,
    orders: watch::Receiver<Orders>,
    /// Losses before this connection.
    losses: u64,
    cuts: Arc<AtomicU64>,
}

impl Way {
    async fn pass(&mut self) -> End {
        let mut buffer = vec![0; CHUNK_BYTES_MAX];
        while let Ok(read @ 1..) = self.from.read(&mut buffer).await {
            let Ok(faults) = self.open().await else { return End::Cut };
            sleep(faults.latency_max.mul_f64(self.random.random())).await;
            // Read all the same, as by a network that drops it: the sender must not notice.
            if self.is_lost() {
                continue;
            }
            let is_cut = self.random.random_bool((self.cut)(&faults));
            let passed = if is_cut { self.random.random_range(0..read) } else { read };
            if self.to.write_all(&buffer[..passed]).await.is_err() {
                return End::Cut;
            }
            if is_cut {
                self.cuts.fetch_add(1, Ordering::SeqCst);
                return End::Cut;
            }
        }
        if self.is_lost() {
            return End::Cut;
        }
        // What cannot be told to the other side has ended for it already.
        self.to.shutdown().await.ok();
        End::Closed
    }

    fn is_lost(&self) -> bool {
        self.orders.borrow().losses > self.losses
    }

    /// The faults, once bytes may pass.
    async fn open(&mut self) -> io::Result<Faults> {
        let orders = self.orders.wait_for(|orders| !orders.faults.is_black_hole).await;
        orders.map(|orders| orders.faults).map_err(io::Error::other)
    }

    fn reset(self) {
        let stream: &TcpStream = self.to.as_ref();
        // With it the kernel sends RST instead of FIN. A connection that is gone needs no reset.
        stream.set_zero_linger().ok();
        // The end of a half would be told in order.
        self.to.forget();
    }
}
