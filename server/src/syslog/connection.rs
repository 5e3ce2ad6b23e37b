//! Streams of messages, over TCP and within TLS. A stream is read no further until what was read of it is
//! durable, so that a sender that is faster waits in its own system.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use logweir_core::{
    fairness::permits::{TenantPermit, TenantPermits},
    runtime::tasks::{Fate, Tasks},
};
use metrics::counter;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::{
    config::SyslogConfig,
    framing::{Framing, Message},
    intake::{Intake, weight},
};
use crate::{listener::tls::Tls, status::Refusal};

/// Read of a stream at a time, bytes.
pub(super) const READ_BYTES: usize = 16 << 10;
/// Messages that become durable together: bytes, and how many.
const GROUP_BYTES_MAX: usize = 256 << 10;
const GROUP_MESSAGES_MAX: usize = 2_000;
/// After the system had no room for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Takes streams.
pub(super) struct Streams {
    config: SyslogConfig,
    intake: Arc<Intake>,
    connections: TenantPermits,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// A place among the connections of an address.
struct AddressPlace {
    streams: Arc<Streams>,
    address: IpAddr,
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let mut by_address = self.streams.by_address.lock();
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

impl Streams {
    pub(super) fn new(
        config: SyslogConfig,
        intake: Arc<Intake>,
        connections: TenantPermits,
    ) -> Arc<Self> {
        Arc::new(Self { config, intake, connections, by_address: Mutex::default() })
    }

    /// Accepts connections until the process is to stop.
    pub(super) async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Option<Tls>,
        tasks: Tasks,
        tracker: TaskTracker,
    ) {
        let stop = tasks.stop_token();
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, peer)) => {
                    let serving = Arc::clone(&self).serve(stream, peer, tls.clone());
                    let serving = tracker.track_future(serving);
                    tasks.spawn("syslog connection", Fate::MayEnd, serving);
                }
                Err(error) => {
                    warn!(%error, "cannot accept a connection for syslog");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, tls: Option<Tls>) {
        let address = peer.ip().to_canonical();
        let Some(place) = self.place(address) else { return refuse("address") };
        let Ok(caller) = self.intake.caller() else { return refuse("token") };
        let Ok(permit) = self.connections.try_take(&caller.tenant, 1) else {
            return refuse("tenant");
        };
        let ended = match tls {
            None => self.read(stream, address).await,
            Some(tls) => self.read_within_tls(stream, address, &tls).await,
        };
        if let Err(error) = ended {
            debug!(%error, %address, "a connection for syslog ended badly");
        }
        drop((place, permit));
    }

    async fn read_within_tls(&self, stream: TcpStream, peer: IpAddr, tls: &Tls) -> io::Result<()> {
        let shaking_hands = timeout(self.read_timeout(), tls.acceptor().accept(stream));
        match self.intake.stop.run_until_cancelled(shaking_hands).await {
            Some(Ok(Ok(stream))) => self.read(stream, peer).await,
            Some(Ok(Err(error))) => Err(error),
            Some(Err(_)) => Err(io::ErrorKind::TimedOut.into()),
            None => Ok(()),
        }
    }

    fn place(self: &Arc<Self>, address: IpAddr) -> Option<AddressPlace> {
        let mut by_address = self.by_address.lock();
        let count = by_address.entry(address).or_default();
        if *count >= self.config.address_connections_max {
            return None;
        }
        *count += 1;
        Some(AddressPlace { streams: Arc::clone(self), address })
    }

    fn read_timeout(&self) -> Duration {
        Duration::from_secs(self.config.read_timeout_seconds)
    }

    /// Until when something must come.
    fn deadline(&self, began: Option<Instant>, has_spoken: bool) -> Instant {
        let idle = Duration::from_secs(self.config.idle_timeout_seconds);
        match began {
            // Not moved by what comes: who sends a byte a second would hold its place for ever.
            Some(began) => began + self.read_timeout(),
            None if has_spoken => Instant::now() + idle,
            None => Instant::now() + self.read_timeout(),
        }
    }

    /// Reads until the stream ends, or the process is to stop.
    pub(super) async fn read(
        &self,
        mut stream: impl AsyncRead + Unpin,
        peer: IpAddr,
    ) -> io::Result<()> {
        let mut framing = Framing::new(self.config.message_bytes_max);
        let ended = self.read_whole(&mut stream, &mut framing, peer).await;
        // What has begun when a stream ends, however it does, is a message.
        let mut last = Vec::new();
        framing.finish(&mut last);
        self.take(last, peer).await;
        ended
    }

    /// Takes the messages that are whole. It is not left while some become durable.
    async fn read_whole(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        framing: &mut Framing,
        peer: IpAddr,
    ) -> io::Result<()> {
        let (mut chunk, mut began, mut has_spoken) = (Chunk::new(), None, false);
        loop {
            if chunk.unread().is_empty() {
                let deadline = self.deadline(began, has_spoken);
                let reading = timeout_at(deadline, chunk.read(stream));
                let Some(read) = self.intake.stop.run_until_cancelled(reading).await else {
                    return Ok(());
                };
                let Ok(read) = read else {
                    counter!("logweir_syslog_connections_timed_out_total").increment(1);
                    return Ok(());
                };
                if read? == 0 {
                    return Ok(());
                }
                has_spoken = true;
            }
            // Before messages are made of it, which take many times what was sent where they are short.
            let bytes = framing.held_bytes() + chunk.weight(GROUP_MESSAGES_MAX);
            let mut room = match self.intake.room(bytes).await {
                Ok(room) => room,
                Err(refusal) => {
                    self.refuse(&mut chunk, framing, &refusal);
                    return Ok(());
                }
            };
            let mut group = Vec::new();
            let filled = fill(stream, framing, &mut chunk, &mut room, &mut group);
            let is_whole = !framing.is_within();
            let is_another = !group.is_empty() || began.is_none();
            self.take(group, peer).await;
            drop(room);
            // After that: the time for it is ours and not the sender's.
            match (is_whole, is_another) {
                (true, _) => began = None,
                (false, true) => began = Some(Instant::now()),
                (false, false) => {}
            }
            if filled? {
                return Ok(());
            }
        }
    }

    /// Counts what was read and will not be taken.
    fn refuse(&self, chunk: &mut Chunk, framing: &mut Framing, refusal: &Refusal) {
        while !chunk.unread().is_empty() {
            let mut group = Vec::new();
            chunk.push(framing, &mut group);
            self.intake.refuse(group.len(), refusal);
        }
    }

    async fn take(&self, messages: Vec<Message>, peer: IpAddr) {
        if messages.is_empty() {
            return;
        }
        let messages: Vec<_> = messages.into_iter().map(|message| (message, peer)).collect();
        self.intake.take(&messages).await;
    }
}

/// What was read of a stream at once, and how far it was looked at.
struct Chunk {
    buffer: Vec<u8>,
    next: usize,
    end: usize,
}

impl Chunk {
    fn new() -> Self {
        Self { buffer: vec![0; READ_BYTES], next: 0, end: 0 }
    }

    fn unread(&self) -> &[u8] {
        &self.buffer[self.next..self.end]
    }

    /// About what it takes once there are messages of it, which are at most so many at a time.
    fn weight(&self, messages_max: usize) -> usize {
        let unread = self.unread();
        weight(Framing::messages_max(unread).min(messages_max), unread.len())
    }

    /// Reads the next one; how many bytes it is.
    async fn read(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
        let read = stream.read(&mut self.buffer).await?;
        (self.next, self.end) = (0, read);
        Ok(read)
    }

    fn push(&mut self, framing: &mut Framing, group: &mut Vec<Message>) {
        self.next += framing.push(&self.buffer[self.next..self.end], group, GROUP_MESSAGES_MAX);
    }
}

/// Takes the chunk, and what is there already, so that messages that come together become durable
/// together; whether the stream has ended. What there is no room for is left in the chunk.
fn fill(
    stream: &mut (impl AsyncRead + Unpin),
    framing: &mut Framing,
    chunk: &mut Chunk,
    room: &mut TenantPermit,
    group: &mut Vec<Message>,
) -> io::Result<bool> {
    let mut bytes = 0;
    loop {
        bytes += chunk.unread().len();
        chunk.push(framing, group);
        let is_full = !chunk.unread().is_empty() || bytes + READ_BYTES > GROUP_BYTES_MAX;
        if is_full || group.len() >= GROUP_MESSAGES_MAX {
            return Ok(false);
        }
        match chunk.read(stream).now_or_never() {
            None => return Ok(false),
            Some(read) => {
                if read? == 0 {
                    return Ok(true);
                }
            }
        }
        let more = chunk.weight(GROUP_MESSAGES_MAX - group.len());
        if room.grow(more as u64).is_err() {
            return Ok(false);
        }
    }
}

fn refuse(by: &'static str) {
    counter!("logweir_syslog_connections_refused_total", "by" => by).increment(1);
}
