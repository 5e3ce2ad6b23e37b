//! Browsers: every service also speaks gRPC-Web, over HTTP/1.1 and HTTP/2, and pages of the origins
//! that were named may call it (CORS, <https://fetch.spec.whatwg.org/#http-cors-protocol>).
//!
//! By default no other origin may. What a page may do is decided by its token as for any caller;
//! cookies play no part.

use std::{str::FromStr, time::Duration};

use hyper::{
    Method, Uri,
    header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER},
};
use tonic_web::{GrpcWebLayer, GrpcWebService};
use tower::Layer;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::auth::API_KEY_HEADER;

/// What a client of gRPC-Web, OTLP or the JSON API sends besides what every page may.
const REQUEST_HEADERS: [HeaderName; 8] = [
    AUTHORIZATION,
    CONTENT_ENCODING,
    CONTENT_TYPE,
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static(API_KEY_HEADER),
    HeaderName::from_static("x-grpc-web"),
    HeaderName::from_static("x-user-agent"),
];
/// Where a response says how a call ended if it has no body, and when to try again.
const RESPONSE_HEADERS: [HeaderName; 4] = [
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status-details-bin"),
    RETRY_AFTER,
];
/// How long a browser may go by the answer to a preflight request. Chromium caps it at two hours,
/// Firefox at a day: a longer one would only make browsers differ.
const PREFLIGHT_AGE: Duration = Duration::from_secs(2 * 3_600);
const ANY: &str = "*";

/// The origins whose pages may call the server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CorsOrigins {
    named: Vec<HeaderValue>,
    any: bool,
}

/// A text that no browser would send as its origin; holds that text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no origin: give http(s)://HOST[:PORT] without a path, several by commas, or *")]
pub struct CorsOriginError(String);

impl FromStr for CorsOrigins {
    type Err = CorsOriginError;

    /// Reads a comma list; an empty one allows none.
    fn from_str(list: &str) -> Result<Self, CorsOriginError> {
        let mut origins = Self::default();
        for origin in list.split(',').map(str::trim).filter(|origin| !origin.is_empty()) {
            if origin == ANY {
                origins.any = true;
            } else {
                origins.named.push(parse(origin).ok_or_else(|| CorsOriginError(origin.into()))?);
            }
        }
        Ok(origins)
    }
}

/// Browsers compare an origin byte by byte with what they send themselves, in lower case.
fn parse(origin: &str) -> Option<HeaderValue> {
    let lower = origin.to_ascii_lowercase();
    let uri: Uri = lower.parse().ok()?;
    // Put together again and compared, which leaves no room for a path, a query or a last slash:
    // with one of them the origin would never match and the page would fail without a hint.
    let plain = format!("{}://{}", uri.scheme_str()?, uri.authority()?);
    let is_origin = ["http", "https"].contains(&uri.scheme_str()?) && plain == lower;
    let has_user = uri.authority()?.as_str().contains('@');
    if is_origin && !has_user { HeaderValue::from_str(&lower).ok() } else { None }
}

impl CorsOrigins {
    /// Whether a page of an origin may call: one that was named, or one of the very address that it
    /// calls.
    pub(crate) fn allow(&self, origin: &HeaderValue, host: Option<&HeaderValue>) -> bool {
        let (_, address) = origin.to_str().ok().and_then(|origin| origin.split_once("://")).unzip();
        let own = host.and_then(|host| host.to_str().ok());
        let is_own =
            address.zip(own).is_some_and(|(address, own)| address.eq_ignore_ascii_case(own));
        self.any || is_own || self.named.contains(origin)
    }

    /// What answers browsers' questions; none if no origin may call.
    pub(crate) fn layer(&self) -> Option<CorsLayer> {
        let allowed = match (self.any, self.named.is_empty()) {
            (true, _) => AllowOrigin::any(),
            (false, false) => AllowOrigin::list(self.named.iter().cloned()),
            (false, true) => return None,
        };
        // No `allow_credentials`: tokens go in a header that the page sets itself. With cookies
        // allowed, any listed page could act for whoever is logged in there.
        let layer = CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods([Method::POST, Method::GET])
            .allow_headers(REQUEST_HEADERS)
            .expose_headers(RESPONSE_HEADERS)
            .max_age(PREFLIGHT_AGE);
        Some(layer)
    }
}

/// The service for callers in gRPC-Web as well.
pub(crate) fn with_grpc_web<S>(service: S) -> GrpcWebService<S> {
    GrpcWebLayer::new().layer(service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_a_comma_list_in_lower_case() {
        let origins: CorsOrigins = "https://Shop.example, http://127.0.0.1:8080,".parse().unwrap();
        assert_eq!(origins.named, ["https://shop.example", "http://127.0.0.1:8080"]);
        assert!(!origins.any && origins.layer().is_some());
        let any: CorsOrigins = "*".parse().unwrap();
        assert!(any.any && any.layer().is_some());
        let none: CorsOrigins = " ,".parse().unwrap();
        assert!(none == CorsOrigins::default() && none.layer().is_none());
    }

    #[test]
    fn a_page_may_name_its_requests() {
        assert!(REQUEST_HEADERS.iter().any(|header| header == "idempotency-key"));
    }

    #[test]
    fn a_page_may_call_its_own_address_and_where_it_is_named() {
        let origins: CorsOrigins = "https://shop.example".parse().unwrap();
        let host = HeaderValue::from_static("127.0.0.1:4317");
        for (origin, allowed) in [
            ("https://shop.example", true),
            ("http://127.0.0.1:4317", true),
            ("http://127.0.0.1:4318", false),
            ("https://shop.example.evil", false),
            ("null", false),
        ] {
            let allows = origins.allow(&HeaderValue::from_static(origin), Some(&host));
            assert_eq!(allows, allowed, "{origin}");
        }
        let any: CorsOrigins = "*".parse().unwrap();
        assert!(any.allow(&HeaderValue::from_static("null"), None));
    }

    #[test]
    fn what_no_browser_would_send_is_refused() {
        for bad in [
            "shop.example",
            "https://shop.example/",
            "https://shop.example/path",
            "ftp://shop.example",
            "https://user@shop.example",
            "https://",
            "null",
        ] {
            assert_eq!(bad.parse::<CorsOrigins>(), Err(CorsOriginError(bad.into())), "{bad}");
        }
    }
}
