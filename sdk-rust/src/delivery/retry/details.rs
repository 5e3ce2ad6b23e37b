//! What a server adds to a refusal: `google.rpc.Status` and those of its details that matter here.

use prost::Message;

/// The details that say what to do.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Details {
    /// From `google.rpc.RetryInfo`.
    pub(super) retry_delay: Option<std::time::Duration>,
    /// From `google.rpc.ErrorInfo`.
    pub(super) reason: String,
    /// From `google.rpc.BadRequest`.
    pub(super) fields: Vec<String>,
}

impl Details {
    /// Reads the encoded `google.rpc.Status`; what is not understood is passed over.
    pub(super) fn decode(status: &[u8]) -> Self {
        let mut found = Self::default();
        for detail in Status::decode(status).unwrap_or_default().details {
            let Any { type_url, value } = detail;
            match type_url.rsplit('/').next() {
                Some("google.rpc.RetryInfo") => {
                    let info = RetryInfo::decode(&value[..]).unwrap_or_default();
                    found.retry_delay = Some(info.retry_delay.unwrap_or_default().to_std());
                }
                Some("google.rpc.ErrorInfo") => {
                    found.reason = ErrorInfo::decode(&value[..]).unwrap_or_default().reason;
                }
                Some("google.rpc.BadRequest") => {
                    let bad = BadRequest::decode(&value[..]).unwrap_or_default();
                    found.fields.extend(bad.field_violations.into_iter().map(|v| v.field));
                }
                _ => {}
            }
        }
        found
    }
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Duration>,
}

#[derive(Clone, PartialEq, Message)]
struct Duration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

impl Duration {
    /// A time before now is now.
    fn to_std(&self) -> std::time::Duration {
        let seconds = u64::try_from(self.seconds).unwrap_or(0);
        let nanos = u64::try_from(self.nanos).unwrap_or(0);
        std::time::Duration::from_secs(seconds)
            .saturating_add(std::time::Duration::from_nanos(nanos))
    }
}

#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
}

#[derive(Clone, PartialEq, Message)]
struct BadRequest {
    #[prost(message, repeated, tag = "1")]
    field_violations: Vec<FieldViolation>,
}

#[derive(Clone, PartialEq, Message)]
struct FieldViolation {
    #[prost(string, tag = "1")]
    field: String,
}
