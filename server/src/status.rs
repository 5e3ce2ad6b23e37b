//! The only maker of statuses: every refusal has one code, a stable reason, a text that says
//! what to do, and, if and only if it may pass, the time after which to try again.

use std::time::Duration;

use hyper::{
    HeaderMap, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE},
};
use logweir_core::{
    fairness::{
        permits::Refused,
        resource::{OverShare, SharedResource},
    },
    identity::Tenant,
};
use logweir_queue::PublishError;
use logweir_storage::StorageError;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, QuotaViolation, StatusExt};
use tracing::warn;

const DOMAIN: &str = "logweir";
/// Of problem details (RFC 9457, 6.1).
const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";

/// Why a request is not served. A transient cause always has a `retry_after`, and so a code that
/// clients retry.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The token is missing or not valid.
    #[error("{message}")]
    Unauthenticated { reason: &'static str, message: String },
    /// The token is valid but does not allow this.
    #[error("{message}")]
    PermissionDenied { reason: &'static str, message: String },
    /// Fields break their rules; resending unchanged is pointless.
    #[error("{}", join(.0))]
    Invalid(Vec<Violation>),
    /// The bytes are no message of the contract.
    #[error("{0}")]
    Malformed(String),
    /// Sent in a form that is not known here.
    #[error("{message}")]
    Unsupported { reason: &'static str, message: String },
    /// The path is there, and takes other methods.
    #[error("{0}")]
    MethodNotAllowed(String),
    /// A limit of size; the sender splits the batch under new ids.
    #[error("{what} is {value}, the limit is {limit}: split the batch under new ids")]
    TooLarge { what: &'static str, value: String, limit: usize },
    /// Too old to be told from a repeat.
    #[error("{0}")]
    Expired(String),
    /// What names a request names another one.
    #[error("{message}")]
    Reused { reason: &'static str, message: String },
    /// A quota is used up for now.
    #[error("quota {quota} of {subject} is used up: send again after {} ms", .retry_after.as_millis())]
    RateLimited { quota: &'static str, subject: String, retry_after: Duration },
    /// The tenant uses all of its share of something that all tenants use.
    #[error(transparent)]
    OverShare(OverShare),
    /// Something passes, such as a full queue.
    #[error("{message}")]
    Unavailable { reason: &'static str, message: String, retry_after: Duration },
    /// What the caller named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// A version of this program cannot do what the data needs.
    #[error("{0}")]
    FailedPrecondition(String),
    /// Stored data is damaged.
    #[error("{0}")]
    DataLoss(String),
}

/// One field that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Path of the field, such as `batch.batch_id`.
    pub(crate) field: String,
    /// The rule, the limit and the value.
    pub(crate) why: String,
}

fn join(violations: &[Violation]) -> String {
    let texts: Vec<String> = violations.iter().map(|v| format!("{}: {}", v.field, v.why)).collect();
    texts.join("; ")
}

impl Refusal {
    /// One bad field.
    pub(crate) fn invalid(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation { field: field.into(), why: why.into() }])
    }

    /// A permit for something that tenants share is not given.
    pub(crate) fn no_permit(
        why: Refused,
        resource: SharedResource,
        tenant: &Tenant,
        retry_after: Duration,
    ) -> Self {
        match why {
            Refused::OverShare { held, share } => {
                let tenant = tenant.clone();
                Self::OverShare(OverShare { resource, tenant, held, share, retry_after })
            }
            Refused::Full => Self::Unavailable {
                reason: "NO_ROOM",
                message: format!("no {} are left: send again later", resource.name()),
                retry_after,
            },
        }
    }

    /// The server is going down.
    pub(crate) fn stopping() -> Self {
        PublishError::Closed.into()
    }

    /// The gRPC code.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Unauthenticated { .. } => Code::Unauthenticated,
            Self::PermissionDenied { .. } => Code::PermissionDenied,
            Self::Invalid(_) | Self::Malformed(_) => Code::InvalidArgument,
            // The code that the gRPC specification asks for where a compression is not known.
            Self::Unsupported { .. } | Self::MethodNotAllowed(_) => Code::Unimplemented,
            // One code for all; what tells them apart is `RetryInfo`: the first has none, and a
            // client that finds none must split the batch instead of sending it again.
            Self::TooLarge { .. } | Self::RateLimited { .. } | Self::OverShare(_) => {
                Code::ResourceExhausted
            }
            Self::Expired(_) | Self::FailedPrecondition(_) | Self::Reused { .. } => {
                Code::FailedPrecondition
            }
            Self::Unavailable { .. } => Code::Unavailable,
            Self::NotFound(_) => Code::NotFound,
            Self::DataLoss(_) => Code::DataLoss,
        }
    }

    /// The stable name of the cause.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Unauthenticated { reason, .. }
            | Self::PermissionDenied { reason, .. }
            | Self::Unsupported { reason, .. }
            | Self::Reused { reason, .. }
            | Self::Unavailable { reason, .. } => reason,
            Self::Invalid(_) => "INVALID_FIELD",
            Self::Malformed(_) => "MALFORMED",
            Self::MethodNotAllowed(_) => "METHOD_NOT_ALLOWED",
            Self::TooLarge { .. } => "BATCH_TOO_LARGE",
            Self::Expired(_) => "EXPIRED",
            Self::RateLimited { .. } => "RATE_LIMITED",
            Self::OverShare(_) => "TENANT_SHARE",
            Self::NotFound(_) => "NOT_FOUND",
            Self::FailedPrecondition(_) => "FAILED_PRECONDITION",
            Self::DataLoss(_) => "DATA_DAMAGED",
        }
    }

    /// The HTTP status.
    pub(crate) fn http_status(&self) -> StatusCode {
        match self {
            Self::Unauthenticated { .. } => StatusCode::UNAUTHORIZED,
            Self::PermissionDenied { .. } => StatusCode::FORBIDDEN,
            Self::Invalid(_) | Self::Malformed(_) | Self::Expired(_) => StatusCode::BAD_REQUEST,
            Self::Unsupported { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            // As the draft of `Idempotency-Key` has it (draft-ietf-httpapi-idempotency-key-header, 2.7).
            Self::Reused { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::RateLimited { .. } | Self::OverShare(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::FailedPrecondition(_) | Self::DataLoss(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// After what time the same request may succeed; none if it never will.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. }
            | Self::OverShare(OverShare { retry_after, .. })
            | Self::Unavailable { retry_after, .. } => {
                // On the wire a delay of zero says that the request is never to be sent again.
                Some((*retry_after).max(Duration::from_millis(1)))
            }
            _ => None,
        }
    }
}

/// What a body over plain HTTP is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum BodyFormat {
    Protobuf,
    /// Who sent another one hears in the one that people can read.
    #[default]
    Json,
}

impl BodyFormat {
    /// The one of a request; none if it is of neither.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let sent = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        // Without parameters, such as a charset.
        let media_type = sent.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        [Self::Protobuf, Self::Json]
            .into_iter()
            .find(|format| media_type.eq_ignore_ascii_case(format.media_type().as_bytes()))
    }

    /// Its media type.
    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }
}

impl Refusal {
    /// The answer over plain HTTP: a `google.rpc.Status`, with the time to wait in a header too.
    pub(crate) fn into_http<B: From<Vec<u8>>>(self, format: BodyFormat) -> Response<B> {
        let body = match format {
            BodyFormat::Protobuf => Status::from(self.clone()).details().to_vec(),
            BodyFormat::Json => self.to_json().to_string().into_bytes(),
        };
        self.answer(format.media_type(), body)
    }

    /// The answer of the JSON API: problem details (RFC 9457), with the time to wait in a header too.
    pub(crate) fn into_problem<B: From<Vec<u8>>>(self) -> Response<B> {
        let body = self.problem().to_string().into_bytes();
        self.answer(PROBLEM_MEDIA_TYPE, body)
    }

    /// The members of the problem. What to do follows from `reason` and `retryable`, and from no text.
    pub(crate) fn problem(&self) -> serde_json::Value {
        let status = self.http_status();
        let retry_after = self.retry_after();
        let mut problem = serde_json::json!({
            // The type that goes with a title that is the status's own (RFC 9457, 4.2.1): what tells
            // one problem from another is the reason, by which it is called over gRPC too.
            "type": "about:blank",
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "detail": self.to_string(),
            "reason": self.reason(),
            "retryable": retry_after.is_some(),
        });
        if let Some(retry_after) = retry_after {
            problem["retry_after_ms"] = (retry_after.as_millis() as u64).into();
        }
        if let Self::Invalid(violations) = self {
            let fields = violations.iter();
            let fields = fields.map(|v| serde_json::json!({ "field": v.field, "detail": v.why }));
            problem["errors"] = fields.collect();
        }
        problem
    }

    fn answer<B: From<Vec<u8>>>(&self, media_type: &'static str, body: Vec<u8>) -> Response<B> {
        let mut response = Response::new(B::from(body));
        *response.status_mut() = self.http_status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        if let Some(retry_after) = self.retry_after() {
            // Whole seconds (RFC 9110, 10.2.3), and none too few.
            let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if matches!(self, Self::Unauthenticated { .. }) {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }

    fn to_json(&self) -> serde_json::Value {
        let kind = |name: &str| format!("type.googleapis.com/google.rpc.{name}");
        let (reason, info) = (self.reason(), kind("ErrorInfo"));
        let mut details =
            vec![serde_json::json!({ "@type": info, "reason": reason, "domain": DOMAIN })];
        if let Some(retry_after) = self.retry_after() {
            let delay = format!("{}.{:03}s", retry_after.as_secs(), retry_after.subsec_millis());
            let info = kind("RetryInfo");
            details.push(serde_json::json!({ "@type": info, "retryDelay": delay }));
        }
        let (code, message) = (self.code() as i32, self.to_string());
        serde_json::json!({ "code": code, "message": message, "details": details })
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut details = ErrorDetails::new();
        details.set_error_info(refusal.reason(), DOMAIN, []);
        if let Some(retry_after) = refusal.retry_after() {
            details.set_retry_info(Some(retry_after));
        }
        let (code, message) = (refusal.code(), refusal.to_string());
        match refusal {
            Refusal::Invalid(violations) => {
                let fields = violations.into_iter().map(|v| FieldViolation::new(v.field, v.why));
                details.set_bad_request(fields.collect::<Vec<_>>());
            }
            Refusal::RateLimited { quota, subject, .. } => {
                details.set_quota_failure(vec![QuotaViolation::new(subject, quota)]);
            }
            Refusal::OverShare(OverShare { resource, tenant, .. }) => {
                let violation = QuotaViolation::new(tenant.as_str(), resource.name());
                details.set_quota_failure(vec![violation]);
            }
            _ => {}
        }
        Status::with_error_details(code, message, details)
    }
}

impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Self {
        let (message, retry_after) = (error.to_string(), error.retry_after());
        let reason = match error {
            PublishError::OverShare(over_share) => return Self::OverShare(over_share),
            PublishError::Full { .. } => "QUEUE_FULL",
            PublishError::NotDurable { .. } => "NOT_DURABLE",
            PublishError::Closed => "STOPPING",
        };
        Self::Unavailable { reason, message, retry_after }
    }
}

impl From<StorageError> for Refusal {
    fn from(error: StorageError) -> Self {
        let message = error.to_string();
        let reason = match &error {
            StorageError::DiskFull { .. } => "DISK_FULL",
            // The cause goes into our own log and not to the client: it names hosts and tables.
            StorageError::Unavailable(cause) => {
                warn!(%cause, "storage is not available");
                "STORAGE_UNAVAILABLE"
            }
            StorageError::NotFound(_) => return Self::NotFound(message),
            StorageError::LimitExceeded(_) => return Self::invalid("request", message),
            // Found when a data directory is opened, before anything is served.
            StorageError::NewerSchema { .. }
            | StorageError::OtherSchema { .. }
            | StorageError::InUse { .. }
            | StorageError::Unusable { .. } => return Self::FailedPrecondition(message),
            StorageError::Broken(cause) => {
                return Self::FailedPrecondition(format!("{message}: {cause}"));
            }
            StorageError::Corrupt(_) => {
                warn!(%error, "stored data cannot be read");
                return Self::DataLoss(message);
            }
        };
        Self::Unavailable { reason, message, retry_after: error.retry_after() }
    }
}

/// Translates a status that the transport made while reading a request. It says `INTERNAL` for
/// bytes that are no message, but that is the sender's fault and not ours. Statuses made here carry
/// details and stay as they are.
pub(crate) fn of_transport(status: Status) -> Status {
    if status.code() == Code::Internal && status.details().is_empty() {
        let text = status.message();
        return Refusal::Malformed(format!("the request cannot be read: {text}")).into();
    }
    status
}

/// The name of a code, as metrics show it.
pub(crate) fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// The codes that every client of the contract retries.
    const RETRIED: [Code; 2] = [Code::Unavailable, Code::ResourceExhausted];

    fn check_retryable(name: &str, refusal: Refusal, transient: bool) {
        let status = Status::from(refusal.clone());
        let retry = status.get_details_retry_info().and_then(|info| info.retry_delay);
        assert_eq!(retry.is_some(), transient, "{name}");
        assert_eq!(RETRIED.contains(&status.code()), transient, "{name}");
        assert_eq!(status.get_details_error_info().unwrap().reason, refusal.reason(), "{name}");
        assert_ne!(status.code(), Code::Internal, "{name}");
    }

    fn over_share(resource: SharedResource) -> OverShare {
        let (tenant, retry_after) = (Tenant::default(), Duration::from_millis(200));
        OverShare { resource, tenant, held: 7, share: 5, retry_after }
    }

    #[test]
    fn every_transient_fault_has_a_code_that_clients_retry() {
        let wait = Duration::from_millis(200);
        let publish = [
            PublishError::Full { what: "x".into(), retry_after: wait },
            PublishError::NotDurable { cause: "x".into(), retry_after: wait },
            PublishError::OverShare(over_share(SharedResource::QueueBytes)),
            PublishError::Closed,
        ];
        for error in publish {
            check_retryable(&format!("{error:?}"), error.into(), true);
        }
        let storage = [
            StorageError::DiskFull { place: "/d".into() },
            StorageError::Unavailable("locked".into()),
            StorageError::InUse { place: "/d".into() },
            StorageError::Unusable { place: "/d".into(), source: io::Error::other("gone").into() },
            StorageError::NewerSchema { found: 2, known: 1 },
            StorageError::OtherSchema { missing: "column a.b".into() },
            StorageError::Broken("read-only".into()),
            StorageError::NotFound("log".into()),
            StorageError::LimitExceeded("too many".into()),
            StorageError::Corrupt("block 7".into()),
        ];
        for error in storage {
            let (name, transient) = (format!("{error:?}"), error.is_retryable());
            check_retryable(&name, error.into(), transient);
        }
    }

    #[test]
    fn a_too_large_batch_says_split_and_not_retry() {
        let refusal =
            Refusal::TooLarge { what: "the request in bytes", value: "9".into(), limit: 4 };
        let status = Status::from(refusal);
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.get_details_error_info().unwrap().reason, "BATCH_TOO_LARGE");
        assert!(status.get_details_retry_info().is_none());
        assert_eq!(
            status.message(),
            "the request in bytes is 9, the limit is 4: split the batch under new ids"
        );
    }

    #[test]
    fn a_used_up_quota_is_named() {
        let wait = Duration::from_millis(1_500);
        let subject = "default/payments".to_owned();
        let status = Status::from(Refusal::RateLimited {
            quota: "logs_per_second",
            subject,
            retry_after: wait,
        });
        let quota = status.get_details_quota_failure().unwrap();
        assert_eq!(quota.violations[0].description, "logs_per_second");
        assert_eq!(quota.violations[0].subject, "default/payments");
        assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(wait));
    }

    #[test]
    fn a_used_up_share_is_named_and_passes() {
        let refusal = Refusal::OverShare(over_share(SharedResource::InFlightBytes));
        check_retryable("over share", refusal.clone(), true);
        let status = Status::from(refusal);
        let quota = status.get_details_quota_failure().unwrap();
        assert_eq!(quota.violations[0].description, "in_flight_bytes");
        assert_eq!(
            status.message(),
            "default uses all of its share of in_flight_bytes for now: wait for answers"
        );
    }

    #[test]
    fn bad_fields_are_named() {
        let status = Status::from(Refusal::invalid("batch.batch_id", "is 3 bytes, must be 16"));
        let request = status.get_details_bad_request().unwrap();
        assert_eq!(request.field_violations[0].field, "batch.batch_id");
        assert_eq!(status.message(), "batch.batch_id: is 3 bytes, must be 16");
    }

    #[test]
    fn a_problem_says_whether_to_try_again_and_when() {
        let wait = Duration::from_millis(1_500);
        let refusal =
            Refusal::Unavailable { reason: "X", message: "not now".into(), retry_after: wait };
        let response: Response<Vec<u8>> = refusal.into_problem();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        let problem: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        let expected = serde_json::json!({
            "type": "about:blank", "title": "Service Unavailable", "status": 503,
            "detail": "not now", "reason": "X", "retryable": true, "retry_after_ms": 1_500,
        });
        assert_eq!(problem, expected);
    }

    #[test]
    fn a_problem_names_what_is_wrong() {
        let problem = Refusal::invalid("limit", "is 0, must be 1 to 1000").problem();
        assert_eq!(problem["retryable"], false);
        assert_eq!(problem["errors"][0]["field"], "limit");
        assert_eq!(problem["errors"][0]["detail"], "is 0, must be 1 to 1000");
        assert!(problem.get("retry_after_ms").is_none());
    }

    #[test]
    fn what_the_transport_cannot_read_is_the_senders_fault() {
        let status = of_transport(Status::internal("bad varint"));
        assert_eq!(status.code(), Code::InvalidArgument);
        let ours = of_transport(Refusal::stopping().into());
        assert_eq!(ours.code(), Code::Unavailable);
    }
}
