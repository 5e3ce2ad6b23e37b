//! Which request a log belongs to: the W3C header `traceparent` (Trace Context, level 2).

use std::fmt;

use crate::{hex, platform};

/// The only version that this library writes.
const VERSION: &str = "00";
/// A version that will never be.
const NO_VERSION: &str = "ff";
const SAMPLED: u8 = 1;

/// A place in a trace: the request, and the step within it.
///
/// ```
/// use logweir_sdk::{Level, Record, TraceContext};
///
/// // What the caller sent; a new trace if it sent none, or nothing valid.
/// let header = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
/// let here = TraceContext::within(header);
/// let record = Record::new(Level::Info, "paid").trace(here.trace_id, here.span_id);
/// // For a call to another service: the header `traceparent` with this value.
/// let onward = here.to_string();
/// assert!(onward.starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The request, over all services.
    pub trace_id: [u8; 16],
    /// The step within it.
    pub span_id: [u8; 8],
    /// The header's flags; the lowest bit says that the trace is recorded.
    pub flags: u8,
}

impl TraceContext {
    /// What a header says; none if it is not valid.
    pub fn parse(header: &str) -> Option<Self> {
        let mut parts = header.trim().split('-');
        let (version, trace_id, span_id, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // Later versions may add to it.
        if version == NO_VERSION || version == VERSION && parts.next().is_some() {
            return None;
        }
        digits::<1>(version)?;
        let [flags] = digits(flags)?;
        let (trace_id, span_id) = (digits(trace_id)?, digits(span_id)?);
        // Ids of zeros are the standard's word for none.
        let is_valid = trace_id != [0; 16] && span_id != [0; 8];
        is_valid.then_some(Self { trace_id, span_id, flags })
    }

    /// A step of this program within the caller's trace, or the first of a new one if the caller
    /// sent no valid header.
    pub fn within(header: Option<&str>) -> Self {
        match header.and_then(Self::parse) {
            Some(caller) => caller.child(),
            None => Self::begun(platform::random_bytes(), platform::random_bytes()),
        }
    }

    /// Another step of the same trace.
    pub fn child(&self) -> Self {
        self.child_with(platform::random_bytes())
    }

    pub(crate) fn child_with(&self, span_id: [u8; 8]) -> Self {
        Self { span_id, ..*self }
    }

    pub(crate) fn begun(trace_id: [u8; 16], span_id: [u8; 8]) -> Self {
        Self { trace_id, span_id, flags: SAMPLED }
    }

    /// A span of the `tracing` crate: what is logged within it carries these ids.
    #[cfg(feature = "tracing")]
    pub fn span(&self) -> tracing::Span {
        let (trace_id, span_id) = (hex::encode(&self.trace_id), hex::encode(&self.span_id));
        tracing::error_span!("request", trace_id, span_id)
    }
}

/// The header's value.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace_id, span_id) = (hex::encode(&self.trace_id), hex::encode(&self.span_id));
        write!(f, "{VERSION}-{trace_id}-{span_id}-{:02x}", self.flags)
    }
}

/// The header has lower-case digits alone.
fn digits<const SIZE: usize>(text: &str) -> Option<[u8; SIZE]> {
    let is_lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    hex::decode(text).filter(|_| is_lower)
}
