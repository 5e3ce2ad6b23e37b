//! What stands before every service of the contract: the token is verified from the headers before
//! a byte of the body is read, and the body is read under bounds. Refused unless allowed.

use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc, task::Poll, time::Duration};

use hyper::{HeaderMap, Request, Response, header::HeaderValue, http::Extensions};
use logweir_core::identity::{Role, Tenant};
use logweir_queue::Publisher;
use metrics::counter;
use tonic::{Code, Status, body::Body, server::NamedService};
use tower::Service;

use super::{Access, Auth, Caller};
use crate::{
    listener::{
        decoded_size::decoded_structure_bytes,
        inflate::{Encoding, Inflater},
        message_body::{Budget, Charges, MessageBody, MessageRules, TenantBudget},
        response_body::UnsentBytes,
        seat::Seat,
    },
    status::{self, Refusal},
};

pub(crate) const ENCODING_HEADER: &str = "grpc-encoding";
pub(crate) const ACCEPT_ENCODING_HEADER: &str = "grpc-accept-encoding";
pub(crate) const ACCEPTED_ENCODINGS: HeaderValue = HeaderValue::from_static("identity,gzip,zstd");
/// Bytes of a request that is not a batch, after decompression. The largest are definitions of
/// rules and lists of ids.
const REQUEST_BYTES_MAX: usize = 1 << 20;
const INGEST_STREAM: &str = "/IngestStream";

/// Verifies callers and bounds bodies, for all services alike.
#[derive(Clone)]
pub(crate) struct AuthLayer {
    pub(crate) auth: Arc<Auth>,
    /// Where batches go.
    pub(crate) publisher: Arc<dyn Publisher>,
    /// For batches.
    pub(crate) budget: Budget,
    /// For everything else: who floods may still revoke the token that does it.
    pub(crate) control_budget: Budget,
    pub(crate) unsent: UnsentBytes,
    pub(crate) inflater: Arc<Inflater>,
    pub(crate) batch_bytes_max: usize,
    pub(crate) read_timeout: Duration,
}

/// A service whose callers are verified and whose requests are bounded.
#[derive(Clone)]
pub(crate) struct Authenticated<S> {
    inner: S,
    access: Access,
    parts: Arc<AuthLayer>,
}

impl<S> Authenticated<S> {
    pub(crate) fn new(inner: S, access: Access, parts: &Arc<AuthLayer>) -> Self {
        Self { inner, access, parts: Arc::clone(parts) }
    }

    /// Whose the request is, and the request as the service gets it: with its caller, and a body
    /// under bounds.
    fn admit(&self, mut request: Request<Body>) -> Result<(Tenant, Request<Body>), Status> {
        let parts = &self.parts;
        let caller = parts.identify(request.headers(), request.extensions(), self.access)?;
        // Removed, because the body is passed on inflated: the services behind know no compression
        // and would refuse a request that names one.
        let encoding = encoding(request.headers_mut().remove(ENCODING_HEADER).as_ref())?;
        let batches = self.access == Access::Ingest;
        let rules = MessageRules {
            bytes_max: if batches { parts.batch_bytes_max } else { REQUEST_BYTES_MAX },
            read_timeout: parts.read_timeout,
            weigh: batches.then_some(decoded_structure_bytes as fn(&[u8]) -> usize),
            stream: request.uri().path().ends_with(INGEST_STREAM),
        };
        // Before the body is read: a flood then costs its sender's turn and not the time that it
        // takes to read and decode what is refused anyway. A stream is not read until there is room.
        if batches && !rules.stream {
            parts.publisher.check_room(&caller.tenant).map_err(Refusal::from)?;
        }
        // Two ends of one list: the body adds the charge of each message, the handler takes it.
        let charges = Charges::default();
        let budget = if batches { &parts.budget } else { &parts.control_budget };
        let tenant = caller.tenant.clone();
        let budget = TenantBudget { budget: budget.clone(), tenant: tenant.clone() };
        request.extensions_mut().insert::<Arc<Caller>>(caller);
        request.extensions_mut().insert(charges.clone());
        let request = request.map(|body| {
            let inflater = Arc::clone(&parts.inflater);
            Body::new(MessageBody::new(body, rules, encoding, budget, inflater, charges))
        });
        Ok((tenant, request))
    }
}

impl AuthLayer {
    /// Who calls, if they may use this part of the contract; from here on the connection is their
    /// tenant's.
    pub(crate) fn identify(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
        access: Access,
    ) -> Result<Arc<Caller>, Refusal> {
        // First of all: who has no valid token costs a look into a map and no memory, whatever the
        // body holds.
        let caller = self.auth.admit_request(headers, access)?;
        seated(caller, extensions)
    }

    /// [`identify`](Self::identify) by a token that stands elsewhere.
    pub(crate) fn identify_token(
        &self,
        token: &str,
        extensions: &Extensions,
        access: Access,
    ) -> Result<Arc<Caller>, Refusal> {
        let caller = self.auth.admit_token(token, access)?;
        seated(caller, extensions)
    }
}

fn seated(caller: Arc<Caller>, extensions: &Extensions) -> Result<Arc<Caller>, Refusal> {
    if let Some(seat) = extensions.get::<Seat>() {
        seat.claim(&caller.tenant)?;
    }
    Ok(caller)
}

/// How a body is compressed, by the header that says it.
pub(crate) fn encoding(name: Option<&HeaderValue>) -> Result<Encoding, Refusal> {
    let Some(name) = name else { return Ok(Encoding::Identity) };
    Encoding::from_name(name.as_bytes()).ok_or_else(|| {
        // The name comes from the client and is shortened, for a status travels in a header.
        let name: String = String::from_utf8_lossy(name.as_bytes()).chars().take(64).collect();
        let text = format!("the encoding {name:?} is not supported: use gzip, zstd or none");
        Refusal::Unsupported { reason: "ENCODING_UNSUPPORTED", message: text }
    })
}

impl<S: NamedService> NamedService for Authenticated<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Authenticated<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let unsent = self.parts.unsent.clone();
        let answer =
            self.admit(request).map(|(tenant, request)| (tenant, self.inner.call(request)));
        Box::pin(async move {
            let mut response = match answer {
                Ok((tenant, answer)) => {
                    translated(answer.await?).map(|body| unsent.charged(&tenant, body))
                }
                Err(status) => status.into_http(),
            };
            count_refusal(&response);
            // The gRPC specification asks for it, so that a client learns what it may compress with
            // before its first large request is refused.
            response.headers_mut().insert(ACCEPT_ENCODING_HEADER, ACCEPTED_ENCODINGS);
            Ok(response)
        })
    }
}

/// Replaces a status that the transport made by ours.
fn translated(response: Response<Body>) -> Response<Body> {
    // tonic says `INTERNAL` for bytes that it cannot decode. Clients take that for a fault of the
    // server, and alerts about the server would ring for a broken sender.
    match response.extensions().get::<Status>() {
        Some(made) if made.code() == Code::Internal => {
            status::of_transport(made.clone()).into_http()
        }
        _ => response,
    }
}

pub(crate) fn count_refusal(response: &Response<Body>) {
    if let Some(status) = response.extensions().get::<Status>() {
        counter!("logweir_requests_refused_total", "code" => status::name(status.code()))
            .increment(1);
    }
}

/// The caller that the authentication layer put into a request.
pub(crate) fn caller<T>(request: &tonic::Request<T>) -> Result<Arc<Caller>, Refusal> {
    let found = request.extensions().get::<Arc<Caller>>();
    // Only a service that was mounted without the layer gets here. It refuses instead of falling
    // back to a default tenant, so that such a mistake lets nobody in.
    found.cloned().ok_or_else(|| Refusal::PermissionDenied {
        reason: "NO_CALLER",
        message: "the request came in past the authentication layer".into(),
    })
}

/// The caller, if it may change things, where others may look at them.
pub(crate) fn administrator<T>(request: &tonic::Request<T>) -> Result<Arc<Caller>, Refusal> {
    let caller = caller(request)?;
    if caller.role == Role::Admin {
        return Ok(caller);
    }
    Err(Refusal::PermissionDenied {
        reason: "ROLE_INSUFFICIENT",
        message: format!("the token's role is {}: this needs admin", caller.role.as_str()),
    })
}
