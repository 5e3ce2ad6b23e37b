//! Reads gRPC messages out of a request's body under hard bounds, before the transport decodes
//! them.
//!
//! Each message is length-checked when its header arrives, charged to its tenant's share of the
//! bytes in flight, inflated with a bound, and its size once decoded is bounded too. It is passed on
//! whole and uncompressed. Its charge is handed to the handler by way of [`Charges`] and given back
//! when the handler is done with the message. A single request is charged as it arrives, so that
//! what is only announced holds nobody up, and refused beyond the share. A message of a stream is
//! charged before it is read: the stream is read no further until there is room.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use hyper::body::{Body as HttpBody, Frame};
use logweir_core::{
    fairness::{
        permits::{TenantPermit, TenantPermits},
        resource::{HeldShare, SharedResource},
    },
    identity::Tenant,
};
use metrics::gauge;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};
use tonic::{Status, body::Body};

use super::inflate::{Encoding, InflateError, Inflater};
use crate::status::Refusal;

// The framing is that of "Length-Prefixed-Message" in gRPC over HTTP/2: one byte that says whether
// the message is compressed, four of its length (big-endian), then the message.
/// A message's flag and length.
const HEADER_BYTES: usize = 5;
/// A compressed message is first charged as this many times its length.
const COMPRESSION_RATIO_GUESS: usize = 8;
/// The structure of a decoded batch may take this many times the bound on its encoding.
const STRUCTURE_RATIO_MAX: usize = 8;
/// One tenant may hold so many times what it leaves: 80 % alone, 44 % each of two.
const SHARE_ALPHA: u64 = 4;
/// A message of which nothing comes for this part of its time is given up. What it holds is
/// another's to use, and a sender that lives is never silent for so long.
const SILENCE_PART: u32 = 10;
const BUDGET_RETRY_AFTER: Duration = Duration::from_millis(200);
const TIMEOUT_RETRY_AFTER: Duration = Duration::from_secs(1);

/// The bytes of all requests that are being read or wait for their answer, by tenant.
#[derive(Clone)]
pub(crate) struct Budget(TenantPermits);

impl Budget {
    /// One of which a tenant alone may use so much.
    pub(crate) fn new(alone_bytes_max: usize) -> Self {
        Self(TenantPermits::for_one(alone_bytes_max as u64, SHARE_ALPHA))
    }

    pub(crate) fn held_share(&self, tenant: &Tenant) -> HeldShare {
        self.0.held_share(SharedResource::InFlightBytes, tenant)
    }

    pub(crate) fn report(&self) {
        gauge!("logweir_in_flight_bytes").set(self.0.held_by_all() as f64);
    }

    /// The part of the budget that is taken, 0 to 1; a server's load in its heartbeat.
    pub(crate) fn load(&self) -> f64 {
        self.0.load()
    }
}

/// The part of the budget that one request may use.
#[derive(Clone)]
pub(crate) struct TenantBudget {
    pub(crate) budget: Budget,
    pub(crate) tenant: Tenant,
}

impl TenantBudget {
    /// So many bytes, once there is room for them.
    pub(crate) async fn take(&self, bytes: usize) -> TenantPermit {
        self.budget.0.take(&self.tenant, bytes as u64).await
    }

    pub(crate) fn nothing(&self) -> TenantPermit {
        self.budget.0.nothing(&self.tenant)
    }

    /// Lets a permit hold at least so many bytes.
    pub(crate) fn grow_to(&self, permit: &mut TenantPermit, bytes: usize) -> Result<(), Refusal> {
        let missing = bytes.saturating_sub(permit.amount() as usize);
        self.grow(permit, missing)
    }

    pub(crate) fn grow(&self, permit: &mut TenantPermit, bytes: usize) -> Result<(), Refusal> {
        let resource = SharedResource::InFlightBytes;
        permit
            .grow(bytes as u64)
            .map_err(|why| Refusal::no_permit(why, resource, &self.tenant, BUDGET_RETRY_AFTER))
    }
}

/// What a message occupies until it is answered.
#[derive(Debug)]
pub(crate) struct Charge {
    permit: TenantPermit,
    /// Its length after decompression.
    pub(crate) bytes: usize,
}

impl Charge {
    /// Of a message that is whole and inflated: its length, or its part of what its structure will
    /// take, whichever is more.
    pub(crate) fn settle(
        rules: &MessageRules,
        budget: &TenantBudget,
        mut permit: TenantPermit,
        message: &[u8],
    ) -> Result<Self, Refusal> {
        let (bytes, weight) = (message.len(), rules.weigh.map_or(0, |weigh| weigh(message)));
        let limit = rules.bytes_max.saturating_mul(STRUCTURE_RATIO_MAX);
        if weight > limit {
            let what = "the memory in bytes for the request's logs and attributes";
            return Err(Refusal::TooLarge { what, value: weight.to_string(), limit });
        }
        // Else as many requests as the budget has room for would together swell to many times of it.
        let charged = bytes.max(weight / STRUCTURE_RATIO_MAX);
        budget.grow_to(&mut permit, charged)?;
        permit.shrink_to(charged as u64);
        Ok(Self { permit, bytes })
    }

    /// Charges so many bytes, where that is more.
    pub(crate) fn grow_to(&mut self, budget: &TenantBudget, bytes: usize) -> Result<(), Refusal> {
        budget.grow_to(&mut self.permit, bytes)
    }
}

/// The charges of messages that were passed on and not yet taken up, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Charges(Arc<Mutex<VecDeque<Charge>>>);

impl Charges {
    /// The charge of the next message that the handler gets.
    pub(crate) fn take(&self) -> Option<Charge> {
        self.0.lock().pop_front()
    }
}

/// Of what is wrong with a request.
const MALFORMED_CHARACTERS_MAX: usize = 500;

/// What bounds the messages of one kind of request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MessageRules {
    /// A message, bytes after decompression.
    pub(crate) bytes_max: usize,
    /// From the first byte of a message to its last.
    pub(crate) read_timeout: Duration,
    /// What the structure of a message takes once decoded, bytes, where that is bounded too.
    pub(crate) weigh: Option<fn(&[u8]) -> usize>,
    /// Whether the request is a stream of messages.
    pub(crate) stream: bool,
}

impl MessageRules {
    /// What a message will take. What comes out of a compressed one is not known yet: charging only
    /// the compressed length would let many requests in that together outgrow the budget once they
    /// are inflated; charging the bound for each would refuse a few hundred small ones.
    /// [`Charge::settle`] corrects the guess.
    pub(crate) fn expected_bytes(&self, length: usize, is_compressed: bool) -> usize {
        let ratio = if is_compressed { COMPRESSION_RATIO_GUESS } else { 1 };
        length.saturating_mul(ratio).min(self.bytes_max)
    }

    pub(crate) fn too_large(&self, value: String) -> Refusal {
        Refusal::TooLarge { what: "the request in bytes", value, limit: self.bytes_max }
    }

    /// Until when the next bytes of a message must come that must be whole by `end`.
    pub(crate) fn next_bytes_by(&self, end: Instant) -> Instant {
        end.min(Instant::now() + self.read_timeout / SILENCE_PART)
    }

    pub(crate) fn timed_out(&self) -> Refusal {
        let seconds = self.read_timeout.as_secs();
        Refusal::Unavailable {
            reason: "READ_TIMEOUT",
            message: format!(
                "the request was not complete within {seconds} s, or nothing of it came for a \
                 tenth of that: send it again"
            ),
            retry_after: TIMEOUT_RETRY_AFTER,
        }
    }
}

type Room = Pin<Box<dyn Future<Output = TenantPermit> + Send>>;

enum State {
    Idle,
    Waiting { head: Head, room: Room },
    Reading { head: Head, permit: TenantPermit },
    Done,
}

#[derive(Clone, Copy)]
struct Head {
    compressed: bool,
    length: usize,
}

/// A request's body, as bounded, uncompressed messages.
pub(crate) struct MessageBody {
    inner: Body,
    rules: MessageRules,
    encoding: Encoding,
    budget: TenantBudget,
    inflater: Arc<Inflater>,
    charges: Charges,
    buffer: BytesMut,
    state: State,
    deadline: Option<Deadline>,
}

/// Until when the next bytes of a message must come.
struct Deadline {
    sleep: Pin<Box<Sleep>>,
    /// When the message must be whole.
    end: Instant,
}

impl MessageBody {
    pub(crate) fn new(
        inner: Body,
        rules: MessageRules,
        encoding: Encoding,
        budget: TenantBudget,
        inflater: Arc<Inflater>,
        charges: Charges,
    ) -> Self {
        let (buffer, state) = (BytesMut::new(), State::Idle);
        // A single request is expected at once; a stream may be silent between its messages.
        let deadline = (!rules.stream).then(|| Deadline::new(rules.read_timeout));
        Self { inner, rules, encoding, budget, inflater, charges, buffer, state, deadline }
    }

    /// One step: a message to pass on, `None` to be called again, or not ready.
    fn step(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Progress>, Refusal>> {
        // `Done` stays behind where a `?` returns: after a bad message the position in the stream
        // is lost, and what follows must not be read as if it were a header.
        match std::mem::replace(&mut self.state, State::Done) {
            State::Done => return Poll::Ready(Ok(Some(Progress::End))),
            State::Idle if self.buffer.len() >= HEADER_BYTES => {
                self.state = self.begin_message()?;
                return Poll::Ready(Ok(None));
            }
            State::Waiting { head, mut room } => match room.as_mut().poll(context) {
                Poll::Ready(permit) => {
                    self.deadline = Some(Deadline::new(self.rules.read_timeout));
                    self.state = State::Reading { head, permit };
                    return Poll::Ready(Ok(None));
                }
                Poll::Pending => {
                    self.state = State::Waiting { head, room };
                    return Poll::Pending;
                }
            },
            State::Reading { head, permit } if self.buffer.len() >= HEADER_BYTES + head.length => {
                let message = self.finish_message(head, permit)?;
                return Poll::Ready(Ok(Some(Progress::Message(message))));
            }
            unfinished => self.state = unfinished,
        }
        self.read_more(context)
    }

    fn begin_message(&mut self) -> Result<State, Refusal> {
        let mut header = &self.buffer[..HEADER_BYTES];
        let compressed = match header.get_u8() {
            0 => false,
            1 if self.encoding != Encoding::Identity => true,
            1 => return Err(malformed("a message is compressed, but no grpc-encoding says how")),
            _ => return Err(malformed("a message has an unknown flag")),
        };
        let length = header.get_u32() as usize;
        // Refused by its header, before a byte of it takes memory.
        if length > self.rules.bytes_max {
            return Err(self.rules.too_large(length.to_string()));
        }
        let head = Head { compressed, length };
        let mut permit = self.budget.nothing();
        if !self.rules.stream {
            // What has come with the header; the rest is charged as it comes.
            self.budget.grow(&mut permit, self.buffer.len())?;
            return Ok(State::Reading { head, permit });
        }
        let bytes = self.expected_bytes(head);
        if self.budget.grow(&mut permit, bytes).is_ok() {
            return Ok(State::Reading { head, permit });
        }
        // A stream is answered batch by batch: to end it would repeat all that wait. It waits for
        // the whole message: two streams that each hold a part would wait for each other. The time
        // that it waits for us is not the client's, so no deadline runs meanwhile.
        self.deadline = None;
        let budget = self.budget.clone();
        let room = async move { budget.take(bytes).await };
        Ok(State::Waiting { head, room: Box::pin(room) })
    }

    fn expected_bytes(&self, head: Head) -> usize {
        self.rules.expected_bytes(head.length, head.compressed)
    }

    fn finish_message(&mut self, head: Head, mut permit: TenantPermit) -> Result<Bytes, Refusal> {
        // More is never waited for, not even by a stream, that holds a part already.
        self.budget.grow_to(&mut permit, self.expected_bytes(head))?;
        let framed = self.buffer.split_to(HEADER_BYTES + head.length).freeze();
        let message = if head.compressed { self.inflate(&framed[HEADER_BYTES..])? } else { framed };
        let charge = Charge::settle(&self.rules, &self.budget, permit, &message[HEADER_BYTES..])?;
        // Before the message is passed on, so that the handler that gets it finds its charge: both
        // go in the order of the messages.
        self.charges.0.lock().push_back(charge);
        self.state = State::Idle;
        let has_more = !self.buffer.is_empty();
        self.deadline = has_more.then(|| Deadline::new(self.rules.read_timeout));
        Ok(message)
    }

    /// The message with a header that says that it is not compressed.
    fn inflate(&self, compressed: &[u8]) -> Result<Bytes, Refusal> {
        let bytes_max = self.rules.bytes_max;
        let guess = compressed.len().saturating_mul(COMPRESSION_RATIO_GUESS).min(bytes_max);
        let mut out = Vec::with_capacity(HEADER_BYTES + guess);
        // Room for the header, whose flag stays 0 (not compressed); the length is known afterwards.
        out.resize(HEADER_BYTES, 0);
        match self.inflater.inflate(self.encoding, compressed, bytes_max, &mut out) {
            Ok(()) => {}
            Err(InflateError::TooLarge) => {
                return Err(self.rules.too_large(format!("over {bytes_max}")));
            }
            Err(InflateError::Malformed(cause)) => {
                return Err(malformed(&format!("a message cannot be decompressed: {cause}")));
            }
        }
        let length = (out.len() - HEADER_BYTES) as u32;
        out[1..HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
        Ok(out.into())
    }

    fn read_more(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Progress>, Refusal>> {
        let frame = match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(frame) => frame,
            Poll::Pending => return self.poll_deadline(context),
        };
        match frame {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    self.take_data(&data)?;
                }
                Poll::Ready(Ok(None))
            }
            Some(Err(status)) => Poll::Ready(Ok(Some(Progress::Failed(status)))),
            None if self.buffer.is_empty() => Poll::Ready(Ok(Some(Progress::End))),
            None => Poll::Ready(Err(malformed("the request ends within a message"))),
        }
    }

    fn take_data(&mut self, data: &[u8]) -> Result<(), Refusal> {
        if data.is_empty() {
            return Ok(());
        }
        let read_timeout = self.rules.read_timeout;
        self.deadline.get_or_insert_with(|| Deadline::new(read_timeout)).note_bytes(read_timeout);
        if let State::Reading { permit, .. } = &mut self.state
            && !self.rules.stream
        {
            self.budget.grow(permit, data.len())?;
        }
        self.buffer.extend_from_slice(data);
        Ok(())
    }

    fn poll_deadline(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Progress>, Refusal>> {
        let Some(deadline) = &mut self.deadline else { return Poll::Pending };
        ready!(deadline.sleep.as_mut().poll(context));
        Poll::Ready(Err(self.rules.timed_out()))
    }
}

impl Deadline {
    fn new(read_timeout: Duration) -> Self {
        let now = Instant::now();
        let sleep = Box::pin(tokio::time::sleep_until(now + read_timeout / SILENCE_PART));
        Self { sleep, end: now + read_timeout }
    }

    /// Bytes came. The end is never moved by them: a client that sends one byte a second would else
    /// hold its place for as long as it likes.
    fn note_bytes(&mut self, read_timeout: Duration) {
        let next = Instant::now() + read_timeout / SILENCE_PART;
        self.sleep.as_mut().reset(next.min(self.end));
    }
}

enum Progress {
    Message(Bytes),
    Failed(Status),
    End,
}

pub(crate) fn malformed(what: &str) -> Refusal {
    // It may repeat what was sent, which may have megabytes.
    let what: String = what.chars().take(MALFORMED_CHARACTERS_MAX).collect();
    Refusal::Malformed(format!("the request cannot be read: {what}"))
}

impl HttpBody for MessageBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        loop {
            let progress = match ready!(this.step(context)) {
                Ok(None) => continue,
                Ok(Some(progress)) => progress,
                Err(refusal) => Progress::Failed(refusal.into()),
            };
            return Poll::Ready(match progress {
                Progress::Message(message) => Some(Ok(Frame::data(message))),
                Progress::End => None,
                Progress::Failed(status) => {
                    this.state = State::Done;
                    // The response may still take a while to be sent; what was read is of no use.
                    this.buffer = BytesMut::new();
                    Some(Err(status))
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::{FutureExt, StreamExt, stream};
    use logweir_proto::v1;
    use proptest::prelude::*;
    use prost::Message;
    use tonic::Code;
    use tonic_types::StatusExt;

    use super::*;
    use crate::listener::decoded_size::decoded_structure_bytes;

    const LIMIT: usize = 10_000;

    fn rules(stream: bool) -> MessageRules {
        let read_timeout = Duration::from_secs(30);
        MessageRules { bytes_max: LIMIT, read_timeout, weigh: None, stream }
    }

    /// A body of these chunks, which then ends or stays open.
    struct Chunks {
        chunks: VecDeque<Bytes>,
        stays_open: bool,
    }

    impl HttpBody for Chunks {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.chunks.pop_front() {
                Some(chunk) => Poll::Ready(Some(Ok(Frame::data(chunk)))),
                None if self.stays_open => Poll::Pending,
                None => Poll::Ready(None),
            }
        }
    }

    struct Bench {
        rules: MessageRules,
        encoding: Encoding,
        budget: Budget,
        charges: Charges,
        stays_open: bool,
    }

    impl Bench {
        fn new(stream: bool) -> Self {
            Self {
                rules: rules(stream),
                encoding: Encoding::Gzip,
                budget: Budget::new(1 << 20),
                charges: Charges::default(),
                stays_open: false,
            }
        }

        fn body(&self, bytes: &[u8], chunk_bytes: usize) -> MessageBody {
            let chunks = bytes.chunks(chunk_bytes.max(1)).map(Bytes::copy_from_slice).collect();
            let inner = Body::new(Chunks { chunks, stays_open: self.stays_open });
            let budget = TenantBudget { budget: self.budget.clone(), tenant: Tenant::default() };
            let inflater = Arc::default();
            MessageBody::new(
                inner,
                self.rules,
                self.encoding,
                budget,
                inflater,
                self.charges.clone(),
            )
        }

        /// The payloads until the end or an error.
        async fn read(&self, bytes: &[u8], chunk_bytes: usize) -> (Vec<Bytes>, Option<Status>) {
            let mut messages = frames(self.body(bytes, chunk_bytes));
            let mut payloads = Vec::new();
            while let Some(message) = messages.next().await {
                match message {
                    Ok(message) => payloads.push(message.slice(HEADER_BYTES..)),
                    Err(status) => return (payloads, Some(status)),
                }
            }
            (payloads, None)
        }

        async fn refusal(&self, bytes: &[u8]) -> Status {
            self.read(bytes, 1_000).await.1.expect("a refusal")
        }

        fn taken(&self) -> u64 {
            self.budget.0.held_by_all()
        }
    }

    fn frames(body: MessageBody) -> impl stream::Stream<Item = Result<Bytes, Status>> + Unpin {
        Box::pin(stream::unfold(body, |mut body| async move {
            let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await?;
            Some((frame.map(|frame| frame.into_data().unwrap_or_default()), body))
        }))
    }

    fn framed(flag: u8, payload: &[u8]) -> Vec<u8> {
        [&[flag][..], &(payload.len() as u32).to_be_bytes(), payload].concat()
    }

    fn gzip(plain: &[u8]) -> Vec<u8> {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn reason(status: &Status) -> String {
        status.get_details_error_info().unwrap().reason
    }

    #[tokio::test]
    async fn messages_come_whole_however_they_are_cut() {
        let bytes = [framed(0, b"one"), framed(1, &gzip(b"two")), framed(0, b"")].concat();
        for chunk_bytes in 1..=bytes.len() {
            let bench = Bench::new(true);
            let (payloads, refusal) = bench.read(&bytes, chunk_bytes).await;
            assert_eq!(payloads, ["one", "two", ""]);
            assert!(refusal.is_none());
            assert_eq!(bench.taken(), 6, "charged until taken up");
            let charged: Vec<_> =
                std::iter::from_fn(|| bench.charges.take()).map(|charge| charge.bytes).collect();
            assert_eq!(charged, [3, 3, 0]);
            assert_eq!(bench.taken(), 0);
        }
    }

    #[tokio::test]
    async fn a_message_over_the_limit_is_refused_by_its_header() {
        for flag in [0, 1] {
            let mut header = framed(flag, &[]);
            header[1..].copy_from_slice(&(LIMIT as u32 + 1).to_be_bytes());
            let status = Bench::new(false).refusal(&header).await;
            assert_eq!(reason(&status), "BATCH_TOO_LARGE");
            let expected = "the request in bytes is 10001, the limit is 10000: split";
            assert!(status.message().starts_with(expected), "{status}");
        }
    }

    #[tokio::test]
    async fn a_message_that_inflates_over_the_limit_is_refused() {
        let bench = Bench::new(false);
        let status = bench.refusal(&framed(1, &gzip(&vec![0; 5_000_000]))).await;
        assert_eq!(
            (status.code(), reason(&status)),
            (Code::ResourceExhausted, "BATCH_TOO_LARGE".into())
        );
        assert!(status.get_details_retry_info().is_none());
        assert_eq!(bench.taken(), 0);
    }

    #[tokio::test]
    async fn what_is_no_message_is_malformed() {
        let uncompressed = Bench { encoding: Encoding::Identity, ..Bench::new(false) };
        for (bench, bytes) in [
            (&uncompressed, framed(1, b"abc")),
            (&uncompressed, framed(7, b"abc")),
            (&uncompressed, framed(0, b"abc")[..6].to_vec()),
            (&uncompressed, b"ab".to_vec()),
            (&Bench::new(false), framed(1, b"not gzip")),
        ] {
            let status = bench.refusal(&bytes).await;
            assert_eq!(
                (status.code(), reason(&status)),
                (Code::InvalidArgument, "MALFORMED".into())
            );
        }
    }

    #[tokio::test]
    async fn a_batch_that_would_swell_when_decoded_is_to_be_split() {
        let rules = MessageRules { weigh: Some(decoded_structure_bytes), ..rules(false) };
        let bench = Bench { rules, ..Bench::new(false) };
        let batch =
            v1::Batch { records: vec![v1::LogRecord::default(); 4_000], ..v1::Batch::default() };
        let bytes = v1::IngestRequest { batch: Some(batch) }.encode_to_vec();
        assert!(bytes.len() < LIMIT);
        assert_eq!(reason(&bench.refusal(&framed(0, &bytes)).await), "BATCH_TOO_LARGE");
    }

    #[tokio::test]
    async fn without_room_a_request_is_refused_and_a_stream_waits() {
        let message = framed(0, &[1; 600]);
        let mut bench = Bench { budget: Budget::new(1_000), ..Bench::new(false) };
        let held = bench.budget.0.try_take(&Tenant::default(), 500).unwrap();
        let status = bench.refusal(&message).await;
        assert_eq!(
            (status.code(), reason(&status)),
            (Code::ResourceExhausted, "TENANT_SHARE".into())
        );
        assert!(status.get_details_retry_info().is_some());

        bench.rules.stream = true;
        let mut messages = frames(bench.body(&message, 1_000));
        assert!(messages.next().now_or_never().is_none(), "it waits");
        drop(held);
        assert_eq!(messages.next().await.unwrap().unwrap().len(), HEADER_BYTES + 600);
    }

    #[tokio::test]
    async fn what_is_only_announced_takes_no_room() {
        let bench = Bench { stays_open: true, ..Bench::new(false) };
        let mut header = framed(0, &[]);
        header[1..].copy_from_slice(&(LIMIT as u32).to_be_bytes());
        let mut messages = frames(bench.body(&header, 100));
        assert!(messages.next().now_or_never().is_none());
        assert_eq!(bench.taken(), HEADER_BYTES as u64);
        drop(messages);
        assert_eq!(bench.taken(), 0);
    }

    #[tokio::test]
    async fn one_tenants_streams_leave_room_for_another() {
        let bench = Bench { budget: Budget::new(1_000), stays_open: true, ..Bench::new(true) };
        let mut header = framed(0, &[]);
        header[1..].copy_from_slice(&400_u32.to_be_bytes());
        let mut stalled: Vec<_> = (0..20).map(|_| frames(bench.body(&header, 100))).collect();
        assert!(stalled.iter_mut().all(|messages| messages.next().now_or_never().is_none()));
        assert_eq!(bench.taken(), 800);
        let other = Tenant::new("other").unwrap();
        assert!(bench.budget.0.try_take(&other, 400).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_stalls_is_given_up() {
        let bench = Bench { stays_open: true, ..Bench::new(false) };
        let status = bench.refusal(&framed(0, b"abc")[..6]).await;
        assert_eq!((status.code(), reason(&status)), (Code::Unavailable, "READ_TIMEOUT".into()));
        assert_eq!(bench.taken(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_of_which_nothing_comes_loses_its_place_within_a_part_of_its_time() {
        let bench = Bench { stays_open: true, ..Bench::new(true) };
        let begun = Instant::now();
        let status = bench.refusal(&framed(0, b"abc")[..6]).await;
        assert_eq!(reason(&status), "READ_TIMEOUT");
        assert_eq!(begun.elapsed().as_secs(), rules(true).read_timeout.as_secs() / 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_may_be_silent_between_messages_but_not_within() {
        let bench = Bench { stays_open: true, ..Bench::new(true) };
        let mut messages = frames(bench.body(&framed(0, b"abc"), 100));
        assert!(messages.next().await.unwrap().is_ok());
        let silence = tokio::time::timeout(Duration::from_secs(3_600), messages.next()).await;
        assert!(silence.is_err(), "nothing happens in an hour");
        let status = bench.refusal(&framed(0, b"abc")[..6]).await;
        assert_eq!(reason(&status), "READ_TIMEOUT");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            well_framed: bool,
            flag in 0..3_u8,
            chunk_bytes in 1..50_usize,
        ) {
            let bytes = if well_framed { framed(flag, &bytes) } else { bytes };
            let bench = Bench { rules: MessageRules { weigh: Some(decoded_structure_bytes), ..rules(true) }, ..Bench::new(true) };
            let read = bench.read(&bytes, chunk_bytes);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let (payloads, refusal) = runtime.unwrap().block_on(read);
            prop_assert!(payloads.iter().all(|payload| payload.len() <= LIMIT));
            prop_assert!(refusal.is_none_or(|status| status.code() != Code::Internal));
        }
    }
}
