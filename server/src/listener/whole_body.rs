//! Reads the one message of a request whole, charged to its tenant's share of the bytes in flight as
//! it arrives.
//!
//! In two steps, because the first waits and the second computes: read what is sent, then inflate it
//! within its bound. A message of many MiB is inflated where that holds no other request up.

use std::pin::pin;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as HttpBody;
use logweir_core::fairness::permits::TenantPermit;
use tokio::time::{Instant, timeout_at};

use super::{
    inflate::{Encoding, InflateError, Inflater},
    message_body::{Charge, MessageRules, TenantBudget, malformed},
};
use crate::status::Refusal;

/// What was sent, still as it was sent, with what it occupies.
pub(crate) struct WholeBody {
    pub(crate) sent: Bytes,
    permit: TenantPermit,
    rules: MessageRules,
    budget: TenantBudget,
}

/// A message, inflated, with what it occupies until it is answered.
pub(crate) struct Message {
    pub(crate) bytes: Bytes,
    pub(crate) charge: Charge,
    budget: TenantBudget,
    bytes_max: usize,
}

impl Message {
    /// Charges so many bytes, where that is more; no more than a message may have, or it would be told
    /// to come back later, for ever.
    pub(crate) fn charge_to(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.charge.grow_to(&self.budget, bytes.min(self.bytes_max))
    }
}

impl WholeBody {
    /// Reads a body to its end.
    pub(crate) async fn read(
        body: impl HttpBody<Data = Bytes>,
        rules: MessageRules,
        budget: TenantBudget,
    ) -> Result<Self, Refusal> {
        // Refused by what it announces, before a byte of it takes memory.
        let announced = body.size_hint().lower();
        if announced > rules.bytes_max as u64 {
            return Err(rules.too_large(announced.to_string()));
        }
        let (mut body, mut sent, mut permit) = (pin!(body), BytesMut::new(), budget.nothing());
        let end = Instant::now() + rules.read_timeout;
        loop {
            let frame = match timeout_at(rules.next_bytes_by(end), body.frame()).await {
                Err(_) => return Err(rules.timed_out()),
                Ok(None) => break,
                // The connection broke: what is answered is heard by nobody.
                Ok(Some(frame)) => frame.map_err(|_| rules.timed_out())?,
            };
            let Ok(data) = frame.into_data() else { continue };
            if sent.len() + data.len() > rules.bytes_max {
                return Err(rules.too_large(format!("over {}", rules.bytes_max)));
            }
            budget.grow(&mut permit, data.len())?;
            sent.extend_from_slice(&data);
        }
        Ok(Self { sent: sent.freeze(), permit, rules, budget })
    }

    /// Inflates `payload`, which is what was sent or a part of it.
    pub(crate) fn inflate(
        mut self,
        payload: Bytes,
        encoding: Encoding,
        inflater: &Inflater,
    ) -> Result<Message, Refusal> {
        let is_compressed = encoding != Encoding::Identity;
        let expected = self.rules.expected_bytes(payload.len(), is_compressed);
        self.budget.grow_to(&mut self.permit, expected)?;
        let bytes = if is_compressed {
            inflated(&payload, expected, encoding, inflater, &self.rules)?
        } else {
            payload
        };
        drop(self.sent);
        let charge = Charge::settle(&self.rules, &self.budget, self.permit, &bytes)?;
        Ok(Message { bytes, charge, budget: self.budget, bytes_max: self.rules.bytes_max })
    }
}

fn inflated(
    compressed: &[u8],
    expected: usize,
    encoding: Encoding,
    inflater: &Inflater,
    rules: &MessageRules,
) -> Result<Bytes, Refusal> {
    let mut out = Vec::with_capacity(expected);
    match inflater.inflate(encoding, compressed, rules.bytes_max, &mut out) {
        Ok(()) => Ok(out.into()),
        Err(InflateError::TooLarge) => Err(rules.too_large(format!("over {}", rules.bytes_max))),
        Err(InflateError::Malformed(cause)) => {
            Err(malformed(&format!("it cannot be decompressed: {cause}")))
        }
    }
}
