//! One HTTP request to one checked address. No redirect is followed: it could lead anywhere.

use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, StatusCode,
    body::Bytes,
    client::conn::http1,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, RETRY_AFTER, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use logweir_incident::{channel::Endpoint, render::text::clean_line, secret::MASK};
use tokio::time::timeout;

use super::{CallSteps, Failure, Message, Network, SendError, WORDS_BYTES_MAX, connect::Stream};

/// Bytes of a response that are read: providers say what is wrong in far fewer, and a hostile one
/// must not fill the memory.
const RESPONSE_BYTES_MAX: usize = 64 << 10;
/// A shorter part of an address is no secret: words such as `services` would be masked in every
/// text.
const SECRET_BYTES_MIN: usize = 8;

/// A request to post.
pub(crate) struct Post<'a> {
    pub(crate) target: &'a Endpoint,
    /// Headers besides the usual ones, their names in lower case.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// A token to send as `Authorization: Bearer`; none without.
    pub(crate) bearer: Option<&'a str>,
    pub(crate) body: String,
}

/// What came back to a request.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) pause: Option<Duration>,
    pub(crate) body: String,
}

impl Response {
    /// The provider's words, for people.
    pub(crate) fn words(&self) -> String {
        clean_line(&self.body, WORDS_BYTES_MAX)
    }

    /// Says by the status what went wrong. What a provider says in the body of a success comes on
    /// top.
    pub(crate) fn check_status(self) -> Result<Self, SendError> {
        let Some((failure, may_have_arrived)) = failure_of(self.status, self.pause) else {
            return Ok(self);
        };
        let hint = if self.status.is_redirection() {
            " (redirects are not followed; set the final address)"
        } else {
            ""
        };
        let text = format!("answered {}{hint}: {}", self.status, self.words());
        Err(SendError { may_have_arrived, ..SendError::new(failure, text) })
    }
}

/// What a status says of the message, and whether it may have arrived all the same; none for a
/// success.
pub(crate) fn failure_of(status: StatusCode, pause: Option<Duration>) -> Option<(Failure, bool)> {
    Some(match status.as_u16() {
        200..=299 => return None,
        429 => (Failure::RateLimited { pause }, false),
        // Trying again without a person is useless, and a redirect could lead anywhere.
        401 | 403 | 404 | 407 | 410 | 300..=399 => (Failure::Misconfigured, false),
        // A server may fail after it took the message, and a gateway cannot know.
        408 | 425 | 500..=599 => (Failure::Failing { pause }, true),
        // Any other: what is wrong is this message.
        _ => (Failure::Rejected, false),
    })
}

impl Network {
    /// Posts and reads the response, all within the time-out of a call.
    pub(crate) async fn post(
        &self,
        post: Post<'_>,
        message: &Message<'_>,
        steps: &mut CallSteps,
    ) -> Result<Response, SendError> {
        let within_tls = post.target.url().scheme() == "https";
        let started = Instant::now();
        let (host, port) = (post.target.host(), post.target.port());
        let stream = self.connect(host, port, within_tls, steps).await?;
        // To connect may have taken longer than the lease lasts.
        check_lease(message)?;
        let left = self.call_timeout.saturating_sub(started.elapsed());
        let since = Instant::now();
        let secrets = secrets(&post);
        let exchanged = timeout(left, exchange(stream, post)).await;
        let outcome = exchanged.unwrap_or_else(|_| Err(lost("no answer came in time")));
        let outcome = outcome.map(|mut response| {
            // Providers quote the request in their errors, and with it a token.
            for secret in &secrets {
                response.body = response.body.replace(secret, MASK);
            }
            let shown = format!("{}: {}", response.status, response.words());
            (response, shown)
        });
        steps.note("answer", since, outcome)
    }
}

/// Whether this process may still send.
pub(crate) fn check_lease(message: &Message<'_>) -> Result<(), SendError> {
    match message.not_after {
        Some(not_after) if Instant::now() >= not_after => {
            let text = "not sent: this process may no longer be the one that sends";
            Err(SendError::new(Failure::TooLate, text))
        }
        _ => Ok(()),
    }
}

/// What a response may quote and nobody may read: parts of the path and the query that are long
/// enough to be a token, and the token itself.
fn secrets(post: &Post<'_>) -> Vec<String> {
    let url = post.target.url();
    let query = url.query().unwrap_or_default();
    let parts = url.path().split('/').chain(query.split(['&', '=']));
    let parts = parts.filter(|part| part.len() >= SECRET_BYTES_MIN).chain(post.bearer);
    parts.map(str::to_owned).collect()
}

/// A failure after the first byte was sent: the request may have been taken all the same.
fn lost(text: impl std::fmt::Display) -> SendError {
    let failure = Failure::Failing { pause: None };
    SendError { may_have_arrived: true, ..SendError::new(failure, text) }
}

async fn exchange(stream: Stream, post: Post<'_>) -> Result<Response, SendError> {
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| lost(describe(&error)))?;
    let request = request(post)?;
    let call = async {
        let response =
            sender.send_request(request).await.map_err(|error| lost(describe(&error)))?;
        let status = response.status();
        let pause = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let pause = pause.and_then(|text| retry_after(text, response.headers()));
        let body = Limited::new(response.into_body(), RESPONSE_BYTES_MAX).collect().await;
        // A response that is too long or breaks off has still a status.
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        Ok(Response { status, pause, body: String::from_utf8_lossy(&body).into_owned() })
    };
    // Both must be polled, as the connection does the call's reading and writing. It may end before
    // the response is read, which is no failure by itself.
    tokio::pin!(connection, call);
    let mut is_open = true;
    loop {
        tokio::select! {
            biased;
            response = &mut call => return response,
            ended = &mut connection, if is_open => {
                is_open = false;
                if let Err(error) = ended {
                    tracing::debug!(error = describe(&error), "a connection ended");
                }
            }
        }
    }
}

fn request(post: Post<'_>) -> Result<Request<Full<Bytes>>, SendError> {
    let url = post.target.url();
    // The path alone, as the request goes to the server itself and not through a proxy.
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let authority = match url.port() {
        Some(port) => format!("{}:{port}", post.target.host()),
        None => post.target.host().to_owned(),
    };
    let mut request = Request::post(path)
        .header(HOST, authority)
        .header(USER_AGENT, concat!("logweir/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json; charset=utf-8");
    if let Some(token) = post.bearer {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    for (name, value) in post.headers {
        request = request.header(name, value);
    }
    // The error would quote the header, and with it a token.
    let built = request.body(Full::new(Bytes::from(post.body)));
    built.map_err(|_| {
        let text = "the URL, the token or a header has characters that HTTP does not allow";
        SendError::new(Failure::Misconfigured, text)
    })
}

/// `Retry-After` in seconds, or as a date, which is held against the answer's own `Date`.
fn retry_after(text: &str, headers: &HeaderMap) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<f64>() {
        // Some send fractions, and some a moment that has passed.
        return Duration::try_from_secs_f64(if seconds < 0.0 { 0.0 } else { seconds }).ok();
    }
    let until = httpdate::parse_http_date(text).ok()?;
    // Our clock and theirs may differ by more than the pause.
    let now = headers.get(hyper::header::DATE)?.to_str().ok()?;
    let now = httpdate::parse_http_date(now).ok()?;
    Some(until.duration_since(now).unwrap_or_default())
}

fn describe(error: &hyper::Error) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    format!("the connection broke: {error}{}", cause.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_safe_urls_are_taken() {
        let bad = [
            ("http://a.example/x", "allow_http"),
            ("ftp://a.example/x", "not https"),
            ("file:///etc/passwd", "not https"),
            ("https://user:secret@a.example/", "user or password"),
            ("https://", "invalid"),
            ("not a url", "invalid"),
        ];
        for (text, reason) in bad {
            let error = Endpoint::new(text, false).err().unwrap();
            assert!(error.contains(reason), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(Endpoint::new("https://hooks.slack.com/services/T0/B0/secret", false).is_ok());
        assert!(Endpoint::new("http://a.example/x", true).is_ok());
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let mut headers = HeaderMap::new();
        headers.insert("date", "Wed, 21 Oct 2026 07:28:00 GMT".parse().unwrap());
        let cases = [
            ("30", Some(30_000)),
            ("0.5", Some(500)),
            ("-1", Some(0)),
            ("Wed, 21 Oct 2026 07:28:05 GMT", Some(5_000)),
            ("Wed, 21 Oct 2026 07:27:00 GMT", Some(0)),
            ("soon", None),
            ("NaN", None),
        ];
        for (text, expected) in cases {
            let pause = retry_after(text, &headers).map(|pause| pause.as_millis());
            assert_eq!(pause, expected, "{text}");
        }
    }

    #[test]
    fn a_status_says_what_to_do() {
        let check_status = |status: u16| {
            let response = Response {
                status: StatusCode::from_u16(status).unwrap(),
                pause: Some(Duration::from_secs(3)),
                body: "why".into(),
            };
            response
                .check_status()
                .map(|_| ())
                .map_err(|error| (error.failure, error.may_have_arrived))
        };
        let pause = Some(Duration::from_secs(3));
        assert_eq!(check_status(204), Ok(()));
        assert_eq!(check_status(429), Err((Failure::RateLimited { pause }, false)));
        assert_eq!(check_status(400), Err((Failure::Rejected, false)));
        for status in [301, 401, 403, 404, 410] {
            assert_eq!(check_status(status), Err((Failure::Misconfigured, false)), "{status}");
        }
        for status in [408, 500, 502, 503] {
            assert_eq!(check_status(status), Err((Failure::Failing { pause }, true)), "{status}");
        }
    }
}
