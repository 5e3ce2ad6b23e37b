//! Takes a request, whatever form its logs have.

use std::{sync::Arc, thread::available_parallelism, time::Duration};

use bytes::Bytes;
use hyper::body::Body as HttpBody;
use logweir_core::{fairness::permits::TenantPermits, identity::ServiceScope};
use tokio::task::spawn_blocking;

use super::{batches::Translation, named::NamedRequests, repeat::content_hash, service::unnamed};
use crate::{
    auth::{Caller, layer::AuthLayer},
    ingest::{
        Ingest,
        split::{Outcome, RequestId, Split},
    },
    listener::{
        inflate::{Encoding, Inflater},
        message_body::{Charge, MessageRules, TenantBudget},
        whole_body::WholeBody,
    },
    status::Refusal,
};

/// A request of more than this, and what is compressed, is decoded on a thread of its own: it takes
/// longer than others should wait.
const INLINE_BYTES_MAX: usize = 256 << 10;
/// One tenant may decode on so many times the threads that it leaves.
const DECODING_ALPHA: u64 = 4;

/// How the bytes of a request become logs. Pure.
pub(crate) trait Format: Send + 'static {
    /// What its answer needs of a request besides what became of the logs.
    type Kept: Send + 'static;

    /// The receiver, and whatever of a request besides its message decides what becomes of it: the same
    /// message read in another way is another request.
    fn read_as(&self) -> Vec<&str>;

    /// Bytes around the message.
    fn framing_bytes(&self) -> usize {
        0
    }

    /// About how much memory the structure of a message takes once decoded, bytes.
    fn weigh(&self) -> fn(&[u8]) -> usize;

    /// The message, and how it is compressed.
    fn unframed(&self, sent: Bytes, encoding: Encoding) -> Result<(Bytes, Encoding), Refusal> {
        Ok((sent, encoding))
    }

    /// The logs of a message; those without the name of a service belong to `unnamed`.
    fn translate(self, message: &[u8], unnamed: &str)
    -> Result<(Translation, Self::Kept), Refusal>;
}

/// A request whose head was read.
pub(crate) struct Request<F, B> {
    pub(crate) format: F,
    pub(crate) encoding: Encoding,
    pub(crate) body: B,
    /// What its sender has named it; else it is known by its content.
    pub(crate) key: Option<[u8; 16]>,
    /// Whether the answer says how many logs came again.
    pub(crate) counts_repeats: bool,
}

impl<F, B> Request<F, B> {
    /// One that is known by its content, and whose sender is not told of repeats.
    pub(crate) fn unnamed(format: F, encoding: Encoding, body: B) -> Self {
        Self { format, encoding, body, key: None, counts_repeats: false }
    }
}

/// What became of a request.
pub(crate) struct Received<K> {
    pub(crate) outcome: Outcome,
    /// What its format kept for the answer.
    pub(crate) kept: K,
    /// What it occupies until it is answered.
    pub(crate) charge: Charge,
}

/// Takes requests.
pub(crate) struct Receiver {
    pub(crate) auth: Arc<AuthLayer>,
    ingest: Arc<Ingest>,
    bytes_max: usize,
    read_timeout: Duration,
    /// Threads that decode large requests; tenants have them by turns.
    decoding: TenantPermits,
    named: NamedRequests,
}

/// A request that was read.
struct ReadRequest<K> {
    translation: Translation,
    kept: K,
    content: [u8; 16],
    charge: Charge,
}

impl Receiver {
    pub(crate) fn new(auth: Arc<AuthLayer>, ingest: Arc<Ingest>) -> Arc<Self> {
        let limits = &ingest.limits;
        // One larger than all that may be in flight would be told to come back later, for ever.
        let bytes_max = limits.otlp_request_bytes_max.min(limits.in_flight_bytes_max);
        let threads = available_parallelism().map_or(1, |threads| threads.get() as u64);
        let decoding = TenantPermits::for_one(threads, DECODING_ALPHA);
        let read_timeout = auth.read_timeout;
        let named = NamedRequests::default();
        Arc::new(Self { auth, ingest, bytes_max, read_timeout, decoding, named })
    }

    /// Takes what a caller sends; what identifies a request whose repeat cannot be told is `random`.
    pub(crate) async fn take<F: Format>(
        &self,
        caller: &Caller,
        request: Request<F, impl HttpBody<Data = Bytes>>,
        random: [u8; 16],
    ) -> Result<Received<F::Kept>, Refusal> {
        let Request { format, encoding, body, key, counts_repeats } = request;
        // Before the body is read, as for every other request that brings logs.
        self.ingest.publisher.check_room(&caller.tenant)?;
        let tenant = caller.tenant.clone();
        let budget = TenantBudget { budget: self.auth.budget.clone(), tenant };
        let body = WholeBody::read(body, self.rules(&format), budget).await?;
        let ReadRequest { translation, kept, content, charge } =
            self.decode(caller, format, encoding, body).await?;
        let Translation { groups, rejected, can_be_told } = translation;
        let id = match key {
            Some(key) => RequestId::named(key, content),
            None => RequestId::unnamed(if can_be_told { content } else { random }),
        };
        let counts_repeats = counts_repeats && (can_be_told || key.is_some());
        let begun = key.map(|key| self.named.begin(caller.part_id(key, 0))).transpose()?;
        let split = Split { groups, id, rejected, counts_repeats };
        let outcome = self.ingest.ingest_split(caller, split).await?;
        drop(begun);
        Ok(Received { outcome, kept, charge })
    }

    fn rules(&self, format: &impl Format) -> MessageRules {
        MessageRules {
            bytes_max: self.bytes_max + format.framing_bytes(),
            read_timeout: self.read_timeout,
            weigh: Some(format.weigh()),
            stream: false,
        }
    }

    async fn decode<F: Format>(
        &self,
        caller: &Caller,
        format: F,
        encoding: Encoding,
        body: WholeBody,
    ) -> Result<ReadRequest<F::Kept>, Refusal> {
        let is_compressed = encoding != Encoding::Identity;
        let expected = self.rules(&format).expected_bytes(body.sent.len(), is_compressed);
        let unnamed = unnamed(caller.scope == ServiceScope::Any);
        let inflater = Arc::clone(&self.auth.inflater);
        // What comes out of a compressed one is not known: a few kilobytes may become as much as any.
        if !is_compressed && expected <= INLINE_BYTES_MAX {
            return read(body, format, encoding, &inflater, unnamed);
        }
        let thread = self.decoding.take(&caller.tenant, 1).await;
        let reading = spawn_blocking(move || {
            let read = read(body, format, encoding, &inflater, unnamed);
            drop(thread);
            read
        });
        // It ends without a result only where the process ends.
        reading.await.unwrap_or_else(|_| Err(Refusal::stopping()))
    }
}

fn read<F: Format>(
    body: WholeBody,
    format: F,
    encoding: Encoding,
    inflater: &Inflater,
    unnamed: &str,
) -> Result<ReadRequest<F::Kept>, Refusal> {
    let (payload, encoding) = format.unframed(body.sent.clone(), encoding)?;
    let mut message = body.inflate(payload, encoding, inflater)?;
    let content = content_hash(&format.read_as(), &message.bytes);
    let (translation, kept) = format.translate(&message.bytes, unnamed)?;
    // What logs have in common was not in the message as often as they are.
    message.charge_to(translation.bytes())?;
    Ok(ReadRequest { translation, kept, content, charge: message.charge })
}
