//! Passes answers on in small frames, and charges what was not sent yet to its tenant: who asks and
//! never reads takes its own share of memory, and no more.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap,
    body::{Body as HttpBody, Frame},
};
use logweir_core::{
    fairness::{
        permits::{TenantPermit, TenantPermits},
        resource::{HeldShare, SharedResource},
    },
    identity::Tenant,
};
use tonic::{Status, body::Body};

use crate::status::Refusal;

/// A frame of an answer. The transport takes a whole one as soon as the client lets it send a byte,
/// and then it cannot be freed before the connection ends.
const FRAME_BYTES_MAX: usize = 64 << 10;
/// Less is not charged: acknowledgements and empty lists, whose number connections bound.
const CHARGED_BYTES_MIN: usize = 4 << 10;
/// One tenant may hold so many times what it leaves: 80 % alone, 44 % each of two.
const SHARE_ALPHA: u64 = 4;
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The bytes of all answers that are made and not sent, by tenant.
#[derive(Clone)]
pub(crate) struct UnsentBytes(TenantPermits);

impl UnsentBytes {
    /// One of which a tenant alone may use so much.
    pub(crate) fn new(alone_bytes_max: usize) -> Self {
        Self(TenantPermits::for_one(alone_bytes_max as u64, SHARE_ALPHA))
    }

    pub(crate) fn held_share(&self, tenant: &Tenant) -> HeldShare {
        self.0.held_share(SharedResource::UnsentBytes, tenant)
    }

    /// A whole answer to a tenant, under its share.
    pub(crate) fn charge(&self, tenant: &Tenant, answer: Bytes) -> Result<Body, Refusal> {
        if answer.len() < CHARGED_BYTES_MIN {
            return Ok(Body::new(Full::new(answer)));
        }
        let permit = self.hold(tenant, answer.len())?;
        let (inner, tenant) = (Body::empty(), tenant.clone());
        Ok(Body::new(ResponseBody { inner, tenant, pending: answer, permit, ended: false }))
    }

    /// Room for so much, until it is sent.
    pub(crate) fn hold(&self, tenant: &Tenant, bytes: usize) -> Result<TenantPermit, Refusal> {
        let mut permit = self.0.nothing(tenant);
        if bytes >= CHARGED_BYTES_MIN {
            grow(&mut permit, bytes, tenant)?;
        }
        Ok(permit)
    }

    /// An answer to a tenant, under its share.
    pub(crate) fn charged(&self, tenant: &Tenant, inner: Body) -> Body {
        let (tenant, nothing) = (tenant.clone(), self.0.nothing(tenant));
        Body::new(ResponseBody {
            inner,
            tenant,
            pending: Bytes::new(),
            permit: nothing,
            ended: false,
        })
    }
}

struct ResponseBody {
    inner: Body,
    tenant: Tenant,
    /// What was not passed on yet of the last message.
    pending: Bytes,
    /// For what is pending.
    permit: TenantPermit,
    /// Whether it ended before its end, refused.
    ended: bool,
}

/// A frame with what it occupies until it is sent.
struct Charged {
    bytes: Vec<u8>,
    _permit: TenantPermit,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl ResponseBody {
    fn begin(&mut self, message: Bytes) -> Result<(), Refusal> {
        grow(&mut self.permit, message.len(), &self.tenant)?;
        self.pending = message;
        Ok(())
    }

    fn next_frame(&mut self) -> Frame<Bytes> {
        let part = self.pending.split_to(self.pending.len().min(FRAME_BYTES_MAX));
        let permit = self.permit.split(part.len() as u64);
        // Copied, or the whole message would be kept for as long as any part of it.
        Frame::data(Bytes::from_owner(Charged { bytes: part.to_vec(), _permit: permit }))
    }
}

fn grow(permit: &mut TenantPermit, bytes: usize, tenant: &Tenant) -> Result<(), Refusal> {
    let resource = SharedResource::UnsentBytes;
    let grown = permit.grow(bytes as u64);
    grown.map_err(|why| Refusal::no_permit(why, resource, tenant, RETRY_AFTER))
}

/// The end of an answer of which no more is sent.
fn trailers(status: Status) -> Result<Frame<Bytes>, Status> {
    let mut headers = HeaderMap::new();
    status.add_header(&mut headers)?;
    Ok(Frame::trailers(headers))
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        if this.pending.is_empty() {
            let frame = match ready!(Pin::new(&mut this.inner).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            let message = match frame.into_data() {
                Ok(data) if data.len() >= CHARGED_BYTES_MIN => data,
                Ok(small) => return Poll::Ready(Some(Ok(Frame::data(small)))),
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            };
            if let Err(refusal) = this.begin(message) {
                this.ended = true;
                return Poll::Ready(Some(trailers(refusal.into())));
            }
        }
        Poll::Ready(Some(Ok(this.next_frame())))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || (self.pending.is_empty() && self.inner.is_end_stream())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, convert::Infallible, future::poll_fn, slice};

    use futures::{FutureExt, StreamExt, stream};
    use tonic::Code;

    use super::*;

    const SHARE_BYTES: usize = 1 << 20;

    struct Messages(VecDeque<Bytes>);

    impl HttpBody for Messages {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|message| Ok(Frame::data(message))))
        }
    }

    fn message(bytes: usize) -> Bytes {
        (0..bytes).map(|at| at as u8).collect::<Vec<_>>().into()
    }

    fn answer(unsent: &UnsentBytes, messages: &[Bytes]) -> Body {
        let inner = Body::new(Messages(messages.iter().cloned().collect()));
        unsent.charged(&Tenant::default(), inner)
    }

    /// What comes of an answer that is read to its end.
    fn frames(mut body: Body) -> Vec<Frame<Bytes>> {
        let frames = stream::poll_fn(move |context| Pin::new(&mut body).poll_frame(context));
        let frames = frames.map(|frame| frame.expect("no answer fails"));
        frames.collect::<Vec<_>>().now_or_never().expect("nothing waits")
    }

    #[test]
    fn an_answer_comes_whole_in_small_frames() {
        let unsent = UnsentBytes::new(SHARE_BYTES);
        let messages = [message(300_000), message(10), message(FRAME_BYTES_MAX), message(0)];
        let frames = frames(answer(&unsent, &messages));
        let parts: Vec<Bytes> = frames.into_iter().filter_map(|f| f.into_data().ok()).collect();
        assert!(parts.iter().all(|part| part.len() <= FRAME_BYTES_MAX));
        assert_eq!(parts.concat(), messages.concat());
        // What is not sent yet is charged, until the transport lets it go.
        assert_eq!(unsent.0.held_by_all(), 300_000 + FRAME_BYTES_MAX as u64);
        drop(parts);
        assert_eq!(unsent.0.held_by_all(), 0);
    }

    #[test]
    fn a_whole_answer_is_refused_before_a_byte_of_it_is_sent() {
        let unsent = UnsentBytes::new(SHARE_BYTES);
        let (tenant, large) = (Tenant::default(), message(600_000));
        let first = unsent.charge(&tenant, large.clone()).unwrap();
        assert_eq!(unsent.0.held_by_all(), 600_000);
        assert_eq!(unsent.charge(&tenant, large.clone()).unwrap_err().reason(), "TENANT_SHARE");
        let parts = frames(first).into_iter().filter_map(|frame| frame.into_data().ok());
        assert_eq!(parts.collect::<Vec<_>>().concat(), large);
        assert_eq!(unsent.0.held_by_all(), 0);
        let small = frames(unsent.charge(&tenant, message(10)).unwrap());
        assert_eq!(small.len(), 1);
    }

    #[test]
    fn answers_that_nobody_reads_are_no_more_than_a_share() {
        let unsent = UnsentBytes::new(SHARE_BYTES);
        let large = message(600_000);
        let mut unread = answer(&unsent, slice::from_ref(&large));
        let first = poll_fn(|context| Pin::new(&mut unread).poll_frame(context)).now_or_never();
        assert_eq!(unsent.0.held_by_all(), 600_000);
        let refused = frames(answer(&unsent, slice::from_ref(&large)));
        let [end] = &refused[..] else { panic!("{refused:?}") };
        let status = Status::from_header_map(end.trailers_ref().unwrap()).unwrap();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.message().contains("unsent_bytes"), "{status}");
        drop((first, unread));
        assert_eq!(
            frames(answer(&unsent, slice::from_ref(&large))).len(),
            600_000_usize.div_ceil(FRAME_BYTES_MAX)
        );
    }
}
