//! What the paths work with.

use std::sync::Arc;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use logweir_core::{identity::Tenant, runtime::tasks::Tasks};

use crate::{
    alerts::AlertHandler, auth::layer::AuthLayer, listener::grpc_web::CorsOrigins,
    query::QueryHandler, status::Refusal,
};

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Who may ask, and who answers.
pub(crate) struct Api {
    pub(crate) auth: Arc<AuthLayer>,
    pub(crate) query: Arc<QueryHandler>,
    pub(crate) alerts: Arc<AlertHandler>,
    /// Whose pages may open a WebSocket.
    pub(crate) origins: CorsOrigins,
    /// Keep the WebSockets.
    pub(crate) tasks: Tasks,
}

impl Api {
    /// An answer to a tenant, charged to its share before a byte of it is sent.
    pub(super) fn ok(&self, tenant: &Tenant, answer: String) -> Result<Response, Refusal> {
        let length = HeaderValue::from(answer.len());
        let body = self.auth.unsent.charge(tenant, Bytes::from(answer))?;
        let mut response = Response::new(Body::new(body));
        response.headers_mut().insert(CONTENT_TYPE, JSON);
        // Known here and not by the body, which comes in parts.
        response.headers_mut().insert(CONTENT_LENGTH, length);
        Ok(response)
    }
}
