//! Reads gRPC messages out of a request's body under hard bounds, before the transport decodes them.
//!
//! Each message is length-checked when its header arrives, charged against the one budget of bytes
//! in flight, inflated with a bound, and weighed for what it will take decoded. It is passed on
//! whole and uncompressed. Its charge is handed to the handler by way of [`Charges`] and given back
//! when the handler is done with the message. At the budget's bound a single request is refused; a
//! stream is read no further until there is room.

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
use metrics::gauge;
use parking_lot::Mutex;
use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep},
};
use tonic::{Status, body::Body};

use crate::{
    inflate::{Encoding, InflateError, Inflater},
    status::Refusal,
    weigh::decoded_structure_bytes,
};

/// A message's flag and length.
const HEADER_BYTES: usize = 5;
/// A compressed message is first charged as this many times its length.
const COMPRESSION_RATIO_GUESS: usize = 8;
/// The structure of a decoded batch may take this many times the bound on its encoding.
const STRUCTURE_RATIO_MAX: usize = 8;
const BUDGET_RETRY_AFTER: Duration = Duration::from_millis(200);
const TIMEOUT_RETRY_AFTER: Duration = Duration::from_secs(1);

/// The bytes of all requests that are being read or wait for their answer.
#[derive(Clone)]
pub(crate) struct Budget {
    room: Arc<Semaphore>,
    bytes_max: usize,
}

impl Budget {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let bytes_max = bytes_max.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        Self { room: Arc::new(Semaphore::new(bytes_max)), bytes_max }
    }

    fn try_take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let taken = Arc::clone(&self.room).try_acquire_many_owned(permits);
        taken.map_err(|_| Refusal::Unavailable {
            reason: "IN_FLIGHT_BYTES",
            message: format!(
                "requests under way hold {} of {} bytes, this one needs {bytes}: send again later",
                self.bytes_max - self.room.available_permits(),
                self.bytes_max
            ),
            retry_after: BUDGET_RETRY_AFTER,
        })
    }

    pub(crate) fn report(&self) {
        let taken = self.bytes_max - self.room.available_permits();
        gauge!("logweir_in_flight_bytes").set(taken as f64);
    }
}

/// What a message occupies until it is answered.
#[derive(Debug)]
pub(crate) struct Charge {
    _permit: OwnedSemaphorePermit,
    /// Its length after decompression.
    pub(crate) bytes: usize,
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

/// What bounds the messages of one kind of request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MessageRules {
    /// A message, bytes after decompression.
    pub(crate) bytes_max: usize,
    /// From the first byte of a message to its last.
    pub(crate) read_timeout: Duration,
    /// Whether messages are batches, whose decoded structure is bounded too.
    pub(crate) batches: bool,
    /// Whether the request is a stream of messages.
    pub(crate) stream: bool,
}

type Room = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

enum State {
    Idle,
    Waiting { head: Head, room: Room },
    Reading { head: Head, permit: OwnedSemaphorePermit },
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
    budget: Budget,
    inflater: Arc<Inflater>,
    charges: Charges,
    buffer: BytesMut,
    state: State,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl MessageBody {
    pub(crate) fn new(
        inner: Body,
        rules: MessageRules,
        encoding: Encoding,
        budget: Budget,
        inflater: Arc<Inflater>,
        charges: Charges,
    ) -> Self {
        let (buffer, state) = (BytesMut::new(), State::Idle);
        // A single request is expected at once; a stream may be silent between its messages.
        let deadline = (!rules.stream).then(|| Box::pin(tokio::time::sleep(rules.read_timeout)));
        Self { inner, rules, encoding, budget, inflater, charges, buffer, state, deadline }
    }

    /// One step: a message to pass on, `None` to be called again, or not ready.
    fn step(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Progress>, Refusal>> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Done => return Poll::Ready(Ok(Some(Progress::End))),
            State::Idle if self.buffer.len() >= HEADER_BYTES => {
                self.state = self.begin_message()?;
                return Poll::Ready(Ok(None));
            }
            State::Waiting { head, mut room } => match room.as_mut().poll(context) {
                Poll::Ready(Ok(permit)) => {
                    self.start_deadline();
                    self.state = State::Reading { head, permit };
                    return Poll::Ready(Ok(None));
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Refusal::stopping())),
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
        if length > self.rules.bytes_max {
            return Err(self.too_large(length.to_string()));
        }
        let head = Head { compressed, length };
        let guess =
            if compressed { length.saturating_mul(COMPRESSION_RATIO_GUESS) } else { length };
        let bytes = guess.min(self.rules.bytes_max);
        match self.budget.try_take(bytes) {
            Ok(permit) => Ok(State::Reading { head, permit }),
            Err(refusal) if !self.rules.stream => Err(refusal),
            Err(_) => {
                self.deadline = None;
                let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
                let room = Arc::clone(&self.budget.room).acquire_many_owned(permits);
                Ok(State::Waiting { head, room: Box::pin(room) })
            }
        }
    }

    fn finish_message(
        &mut self,
        head: Head,
        mut permit: OwnedSemaphorePermit,
    ) -> Result<Bytes, Refusal> {
        let framed = self.buffer.split_to(HEADER_BYTES + head.length).freeze();
        let message = if head.compressed { self.inflate(&framed[HEADER_BYTES..])? } else { framed };
        let payload = &message[HEADER_BYTES..];
        if self.rules.batches {
            self.check_structure(payload)?;
        }
        let bytes = payload.len();
        match bytes.checked_sub(permit.num_permits()) {
            Some(0) => {}
            Some(more) => permit.merge(self.budget.try_take(more)?),
            None => drop(permit.split(permit.num_permits() - bytes)),
        }
        self.charges.0.lock().push_back(Charge { _permit: permit, bytes });
        self.state = State::Idle;
        self.deadline = None;
        if !self.buffer.is_empty() {
            self.start_deadline();
        }
        Ok(message)
    }

    /// The message with a header that says that it is not compressed.
    fn inflate(&self, compressed: &[u8]) -> Result<Bytes, Refusal> {
        let bytes_max = self.rules.bytes_max;
        let guess = compressed.len().saturating_mul(COMPRESSION_RATIO_GUESS).min(bytes_max);
        let mut out = Vec::with_capacity(HEADER_BYTES + guess);
        out.resize(HEADER_BYTES, 0);
        match self.inflater.inflate(self.encoding, compressed, bytes_max, &mut out) {
            Ok(()) => {}
            Err(InflateError::TooLarge) => return Err(self.too_large(format!("over {bytes_max}"))),
            Err(InflateError::Malformed(cause)) => {
                return Err(malformed(&format!("a message cannot be decompressed: {cause}")));
            }
        }
        let length = (out.len() - HEADER_BYTES) as u32;
        out[1..HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
        Ok(out.into())
    }

    fn check_structure(&self, payload: &[u8]) -> Result<(), Refusal> {
        let (value, limit) = (
            decoded_structure_bytes(payload),
            self.rules.bytes_max.saturating_mul(STRUCTURE_RATIO_MAX),
        );
        if value <= limit {
            return Ok(());
        }
        let what = "the memory in bytes for the batch's logs and attributes";
        Err(Refusal::TooLarge { what, value: value.to_string(), limit })
    }

    fn read_more(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Progress>, Refusal>> {
        let frame = match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(frame) => frame,
            Poll::Pending => return self.poll_deadline(context),
        };
        match frame {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    if self.deadline.is_none() && !data.is_empty() {
                        self.start_deadline();
                    }
                    self.buffer.extend_from_slice(&data);
                }
                Poll::Ready(Ok(None))
            }
            Some(Err(status)) => Poll::Ready(Ok(Some(Progress::Failed(status)))),
            None if self.buffer.is_empty() => Poll::Ready(Ok(Some(Progress::End))),
            None => Poll::Ready(Err(malformed("the request ends within a message"))),
        }
    }

    fn poll_deadline(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Progress>, Refusal>> {
        let Some(deadline) = &mut self.deadline else { return Poll::Pending };
        ready!(deadline.as_mut().poll(context));
        let seconds = self.rules.read_timeout.as_secs();
        Poll::Ready(Err(Refusal::Unavailable {
            reason: "READ_TIMEOUT",
            message: format!("the request was not complete within {seconds} s: send it again"),
            retry_after: TIMEOUT_RETRY_AFTER,
        }))
    }

    fn start_deadline(&mut self) {
        let at = Instant::now() + self.rules.read_timeout;
        self.deadline = Some(Box::pin(tokio::time::sleep_until(at)));
    }

    fn too_large(&self, value: String) -> Refusal {
        let what = "the request in bytes";
        Refusal::TooLarge { what, value, limit: self.rules.bytes_max }
    }
}

enum Progress {
    Message(Bytes),
    Failed(Status),
    End,
}

fn malformed(what: &str) -> Refusal {
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
                    this.buffer = BytesMut::new();
                    Some(Err(status))
                }
            });
        }
    }
}
