//! What is done to the transport, below any request that could be counted.

use std::{collections::BTreeMap, io, time::Duration};

use logweir_proto::v1::{ExportLogsRequest, SearchLogsRequest, TailLogsRequest};
use prost::Message;
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, interval, sleep},
};

use super::abuser::Abuser;
use crate::noisy::http2::{Connection, Event, Request};

const INGEST: &str = "/logweir.v1.IngestService/Ingest";
const INGEST_STREAM: &str = "/logweir.v1.IngestService/IngestStream";
const SEARCH: &str = "/logweir.v1.QueryService/SearchLogs";
const EXPORT: &str = "/logweir.v1.QueryService/ExportLogs";
const TAIL: &str = "/logweir.v1.QueryService/TailLogs";

/// The largest that a batch may be, and that another request may be.
const BATCH_BYTES: u32 = 4 << 20;
const REQUEST_BYTES: u32 = 1 << 20;
const BODIES: usize = 128;
/// The largest window that there can be (RFC 9113, 6.9.1).
const WINDOW_BYTES_MAX: u32 = (1 << 31) - 1;
/// That which a connection has by itself.
const WINDOW_BYTES: u32 = 65_535;
const READERS: usize = 16;
const STREAMS_OF_READER: usize = 64;
const HEAD_CONNECTIONS: usize = 256;
const RESETTERS: usize = 8;
/// Of each kind: silent from the begin, silent after HTTP/2 has begun, idle after a request.
const IDLE_CONNECTIONS: usize = 2_000;
/// Before who was thrown out comes again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
/// Before a request that ended is made again.
const AGAIN_PAUSE: Duration = Duration::from_millis(5);
/// One request that is open for one second.
pub(super) const STREAM_SECONDS: &str = "stream seconds";
const SECOND: Duration = Duration::from_secs(1);

pub(super) async fn announce_bodies(abuser: &Abuser) {
    hold_bodies(abuser, false).await;
}

pub(super) async fn trickle_bodies(abuser: &Abuser) {
    hold_bodies(abuser, true).await;
}

async fn hold_bodies(abuser: &Abuser, trickles: bool) {
    let bodies = [(INGEST, BATCH_BYTES), (INGEST_STREAM, BATCH_BYTES), (SEARCH, REQUEST_BYTES)];
    let holders = bodies.map(|(path, bytes)| {
        let body = [&[0][..], &bytes.to_be_bytes()].concat();
        let requests = vec![Request { path, body, ends: false }];
        Holder { requests, streams: BODIES, window: WINDOW_BYTES, trickles }
    });
    hold(abuser, holders.into()).await;
}

pub(super) async fn leave_answers_unread(abuser: &Abuser) {
    hold_answers(abuser, vec![search(), export()], WINDOW_BYTES_MAX).await;
}

pub(super) async fn hold_windows_at_zero(abuser: &Abuser) {
    hold_answers(abuser, vec![search(), export(), tail()], 0).await;
}

async fn hold_answers(abuser: &Abuser, requests: Vec<Request>, window: u32) {
    let holder = Holder { requests, streams: STREAMS_OF_READER, window, trickles: false };
    hold(abuser, vec![holder; READERS]).await;
}

fn message(path: &'static str, message: &impl Message) -> Request {
    let encoded = message.encode_to_vec();
    let head = [&[0][..], &(encoded.len() as u32).to_be_bytes()].concat();
    Request { path, body: [head, encoded].concat(), ends: true }
}

fn search() -> Request {
    message(SEARCH, &SearchLogsRequest { page_size: 1_000, ..SearchLogsRequest::default() })
}

fn export() -> Request {
    message(EXPORT, &ExportLogsRequest::default())
}

fn tail() -> Request {
    message(TAIL, &TailLogsRequest::default())
}

/// A connection with so many requests open, each made again when it has ended.
#[derive(Clone)]
struct Holder {
    requests: Vec<Request>,
    streams: usize,
    window: u32,
    /// Whether each request goes on by a byte a second.
    trickles: bool,
}

/// The requests that are open: which of the kinds each is, and when it was made.
type Open = BTreeMap<u32, (usize, Instant)>;

async fn hold(abuser: &Abuser, holders: Vec<Holder>) {
    let mut running = JoinSet::new();
    for holder in holders {
        let abuser = abuser.clone();
        running.spawn(async move {
            loop {
                let ended = holder.hold(&abuser).await;
                note_end(&abuser, ended.err());
                sleep(RECONNECT_PAUSE).await;
            }
        });
    }
    running.join_all().await;
}

fn note_end(abuser: &Abuser, why: Option<io::Error>) {
    abuser.tally.add("connections ended", 1);
    if why.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
        abuser.tally.add("connections refused", 1);
    }
}

impl Holder {
    async fn hold(&self, abuser: &Abuser) -> io::Result<()> {
        let mut connection = Connection::open(abuser.address(), self.window).await?;
        abuser.tally.add("connections", 1);
        let mut open = Open::new();
        for number in 0..self.streams {
            self.ask(&mut connection, number % self.requests.len(), &mut open, abuser).await?;
        }
        let mut seconds = interval(SECOND);
        loop {
            tokio::select! {
                event = connection.next() => {
                    let kind = |stream| open.get(&stream).map_or(0, |(kind, _)| *kind);
                    let ended = note(&event?, |stream| self.name(kind(stream)), abuser);
                    if let Some((kind, _)) = ended.and_then(|stream| open.remove(&stream)) {
                        sleep(AGAIN_PAUSE).await;
                        self.ask(&mut connection, kind, &mut open, abuser).await?;
                    }
                }
                _ = seconds.tick() => self.each_second(&mut connection, &open, abuser).await?,
            }
        }
    }

    async fn ask(
        &self,
        connection: &mut Connection,
        kind: usize,
        open: &mut Open,
        abuser: &Abuser,
    ) -> io::Result<()> {
        let stream = connection.ask(&self.requests[kind], &abuser.token).await?;
        open.insert(stream, (kind, Instant::now()));
        abuser.tally.add(self.name(kind), 1);
        Ok(())
    }

    async fn each_second(
        &self,
        connection: &mut Connection,
        open: &Open,
        abuser: &Abuser,
    ) -> io::Result<()> {
        // What is refused at once holds nothing, however often it is asked.
        let held = open.values().filter(|(_, since)| since.elapsed() >= SECOND).count();
        abuser.tally.add(STREAM_SECONDS, held as u64);
        if self.trickles {
            for stream in open.keys() {
                connection.send(*stream, &[0]).await?;
                abuser.tally.add("bytes trickled", 1);
            }
        }
        Ok(())
    }

    /// The last part of a request's path.
    fn name(&self, kind: usize) -> &'static str {
        self.requests[kind].path.rsplit('/').next().unwrap_or_default()
    }
}

/// Counts what came; the stream that it ended, if it did.
fn note(event: &Event, name: impl Fn(u32) -> &'static str, abuser: &Abuser) -> Option<u32> {
    let tally = &abuser.tally;
    match *event {
        Event::Head { stream, status, ended } => {
            if let Some(status) = status {
                tally.note_code(name(stream), status);
            }
            if !ended {
                tally.add("answers begun", 1);
            }
            ended.then_some(stream)
        }
        Event::Data { stream, bytes, ended } => {
            tally.add("bytes received", bytes as u64);
            ended.then_some(stream)
        }
        Event::Reset { stream } => Some(stream),
        Event::GoAway { code } => {
            tally.add(&format!("sent away, code {code}"), 1);
            None
        }
        Event::Other => None,
    }
}

pub(super) async fn send_endless_heads(abuser: &Abuser) {
    let mut running = JoinSet::new();
    for number in 0..HEAD_CONNECTIONS {
        let abuser = abuser.clone();
        // Half of them large and fast, half of them a byte a second.
        let (part, pause) =
            if number % 2 == 0 { (1_000, Duration::from_millis(20)) } else { (1, SECOND) };
        running.spawn(async move {
            loop {
                let ended = endless_head(&abuser, part, pause).await;
                note_end(&abuser, ended.err());
                sleep(RECONNECT_PAUSE).await;
            }
        });
    }
    running.join_all().await;
}

async fn endless_head(abuser: &Abuser, part: usize, pause: Duration) -> io::Result<()> {
    let mut connection = Connection::open(abuser.address(), WINDOW_BYTES).await?;
    let stream = connection.begin_head(SEARCH, &abuser.token).await?;
    abuser.tally.add("heads begun", 1);
    let mut parts = interval(pause);
    loop {
        tokio::select! {
            event = connection.next() => { note(&event?, |_| "SearchLogs", abuser); }
            _ = parts.tick() => {
                connection.go_on_with_head(stream, part).await?;
                abuser.tally.add("parts of heads", 1);
            }
        }
    }
}

pub(super) async fn reset_rapidly(abuser: &Abuser) {
    let mut running = JoinSet::new();
    for _ in 0..RESETTERS {
        let abuser = abuser.clone();
        running.spawn(async move {
            loop {
                let ended = reset_until_thrown_out(&abuser).await;
                note_end(&abuser, ended.err());
                sleep(AGAIN_PAUSE).await;
            }
        });
    }
    running.join_all().await;
}

async fn reset_until_thrown_out(abuser: &Abuser) -> io::Result<()> {
    let mut connection = Connection::open(abuser.address(), WINDOW_BYTES).await?;
    let request = search();
    loop {
        tokio::select! {
            biased;
            event = connection.next() => { note(&event?, |_| "SearchLogs", abuser); }
            // Always ready: what the server says is looked at first.
            () = std::future::ready(()) => {
                connection.ask_and_reset(&request, &abuser.token).await?;
                abuser.tally.add("resets", 1);
                tokio::task::yield_now().await;
            }
        }
    }
}

pub(super) async fn idle(abuser: &Abuser) {
    let mut running = JoinSet::new();
    for number in 0..3 * IDLE_CONNECTIONS {
        let abuser = abuser.clone();
        running.spawn(async move {
            loop {
                let ended = match number % 3 {
                    0 => silent_connection(&abuser).await,
                    1 => connection_without_request(&abuser).await,
                    _ => connection_after_request(&abuser).await,
                };
                note_end(&abuser, ended.err());
                sleep(SECOND).await;
            }
        });
    }
    running.join_all().await;
}

async fn silent_connection(abuser: &Abuser) -> io::Result<()> {
    let socket = TcpStream::connect(abuser.address()).await?;
    abuser.tally.add("connections held", 1);
    // Until the server ends it: it has nothing to say.
    socket.readable().await
}

async fn connection_without_request(abuser: &Abuser) -> io::Result<()> {
    let mut connection = Connection::open(abuser.address(), WINDOW_BYTES).await?;
    abuser.tally.add("connections held", 1);
    loop {
        note(&connection.next().await?, |_| "SearchLogs", abuser);
    }
}

async fn connection_after_request(abuser: &Abuser) -> io::Result<()> {
    let mut connection = Connection::open(abuser.address(), WINDOW_BYTES).await?;
    let search = SearchLogsRequest { page_size: 1, ..SearchLogsRequest::default() };
    connection.ask(&message(SEARCH, &search), &abuser.token).await?;
    abuser.tally.add("connections held", 1);
    loop {
        note(&connection.next().await?, |_| "SearchLogs", abuser);
    }
}
