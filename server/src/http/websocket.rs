//! `GET /ws/logs`: a tail over WebSocket (RFC 6455), whose messages are those of `TailLogs` in JSON.
//!
//! A browser cannot set headers here, so the token may stand in the subprotocol: `bearer, TOKEN`. It
//! never stands in the address, which logs and histories keep. The tail takes a place among those of
//! its tenant and the connection keeps its own. It ends when the server stops (1001), when its token
//! does (1008), and when its reader takes nothing or is gone; a slow reader is told what it missed.

use std::{convert::Infallible, pin::Pin, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{
        FromRequestParts as _,
        ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code},
    },
    response::Response,
};
use bytes::Bytes;
use futures::{FutureExt as _, Stream, StreamExt as _, future::BoxFuture};
use hyper::{
    HeaderMap, Request,
    header::{AUTHORIZATION, HOST, ORIGIN, SEC_WEBSOCKET_PROTOCOL},
};
use logweir_core::{identity::Tenant, json::Log, runtime::tasks::Fate};
use logweir_proto::v1;
use serde::Serialize;
use tokio::{
    sync::oneshot,
    time::{Instant, interval_at, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    api::Api,
    parameters::{Parameters, named_here},
    read::text,
};
use crate::{
    auth::{API_KEY_HEADER, Access, token_twice},
    listener::{connection::PING_EVERY, response_body::UnsentBytes, seat::Seat},
    status::Refusal,
};

pub(super) const PATH: &str = "/ws/logs";
pub(super) const PARAMETERS: [&str; 3] = ["filter", "service", "level"];
/// The subprotocol under which a token is shown.
const BEARER: &str = "bearer";
/// A client has nothing to say but pongs and its farewell.
const CLIENT_MESSAGE_BYTES_MAX: usize = 4 << 10;
/// There may be a thousand tails, and each has buffers of its own.
const BUFFER_BYTES: usize = 8 << 10;
/// A reader that does not take one message within this is as good as gone: as long as one of HTTP/2
/// has to answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// A client that answers no ping for this long is gone: its machine lost power, or the network. A slow
/// one first reads what lies before the ping, megabytes in the buffers of both machines.
const SILENCE_MAX: Duration = Duration::from_secs(120);
/// So many control frames may come between two of our pings. Each ping of a client is answered, and the
/// answers of one that reads nothing stay in memory. Some clients ping each second, and those of
/// [`WRITE_TIMEOUT`] may be read at once.
const CLIENT_FRAMES_MAX: u32 = 64;
/// In JSON a byte of a log has at most six (`\u007f`).
const JSON_BYTES_PER_BYTE_MAX: usize = 6;
/// How long a client has to say farewell too.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of the text of a close frame: a control frame has 125, two of which are the code (RFC 6455,
/// 5.5).
const CLOSE_TEXT_BYTES_MAX: usize = 123;

/// Opens a tail.
pub(super) async fn open(api: &Api, request: Request<Body>) -> Result<Response, Refusal> {
    let (mut head, _) = request.into_parts();
    check_origin(api, &head.headers)?;
    let caller = match offered_token(&head.headers) {
        Some(_) if has_token(&head.headers) => {
            return Err(token_twice("the subprotocol and one in a header"));
        }
        Some(token) => api.auth.identify_token(&token, &head.extensions, Access::Query)?,
        None => api.auth.identify(&head.headers, &head.extensions, Access::Query)?,
    };
    let asked = Parameters::read(head.uri.query(), &PARAMETERS)?;
    let tail = api.query.tail(Arc::clone(&caller), || asked.filter((api.query.clock)()));
    let tail = tail.map_err(named_here)?;
    let upgrade = WebSocketUpgrade::from_request_parts(&mut head, &()).await.map_err(|error| {
        Refusal::Malformed(format!("this path speaks WebSocket alone: {}", error.body_text()))
    })?;
    let (auth, tenant) = (Arc::clone(&api.auth.auth), caller.tenant.clone());
    let session = Session {
        parts: Box::pin(tail.parts()),
        ended: async move { auth.ended(&caller).await }.boxed(),
        unsent: api.auth.unsent.clone(),
        tenant,
        stop: api.query.stop.clone(),
        _seat: head.extensions.get::<Seat>().cloned(),
    };
    // Run by our own tasks, which name it and wait for it when the server stops.
    let (opened, socket) = oneshot::channel();
    api.tasks.spawn("tail over WebSocket", Fate::MayEnd, async move {
        // Or the connection broke before it was one.
        if let Ok(socket) = socket.await {
            session.run(socket).await;
        }
    });
    // Room for the largest log of all, and for what is written beside it.
    let message_bytes_max = JSON_BYTES_PER_BYTE_MAX * api.auth.batch_bytes_max + BUFFER_BYTES;
    let upgrade = upgrade
        .protocols([BEARER])
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(BUFFER_BYTES + message_bytes_max)
        .max_message_size(CLIENT_MESSAGE_BYTES_MAX)
        .max_frame_size(CLIENT_MESSAGE_BYTES_MAX);
    Ok(upgrade.on_upgrade(|socket| async move { drop(opened.send(socket)) }))
}

/// Browsers say whose page it is, and nothing else holds a page back that opens a WebSocket.
fn check_origin(api: &Api, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    if api.origins.allow(origin, headers.get(HOST)) {
        return Ok(());
    }
    let message = "pages of this origin may not call: name it in `--cors-origins`".to_owned();
    Err(Refusal::PermissionDenied { reason: "ORIGIN_REFUSED", message })
}

/// The subprotocol behind `bearer`.
fn offered_token(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let offered: Vec<&str> = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(',').map(str::trim))
        .collect();
    let bearer = offered.iter().position(|name| *name == BEARER)?;
    offered.get(bearer + 1).map(|token| (*token).to_owned())
}

/// Whether a token stands in a header of its own.
fn has_token(headers: &HeaderMap) -> bool {
    headers.contains_key(AUTHORIZATION) || headers.contains_key(API_KEY_HEADER)
}

type Parts = Pin<Box<dyn Stream<Item = Result<v1::TailLogsResponse, Refusal>> + Send>>;

/// An open tail.
struct Session {
    parts: Parts,
    /// The end of its token, which comes while a message is sent too.
    ended: BoxFuture<'static, Refusal>,
    unsent: UnsentBytes,
    tenant: Tenant,
    stop: CancellationToken,
    /// The connection counts among those of its tenant for as long as it is open.
    _seat: Option<Seat>,
}

/// Why a tail is over.
enum End {
    /// Its reader left, or is gone.
    Left,
    Refused(Refusal),
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Session {
    async fn run(mut self, mut socket: WebSocket) {
        let Err(end) = self.follow(&mut socket).await;
        // Bounded: who is gone does not answer.
        drop(timeout(CLOSE_TIMEOUT, close(socket, end)).await);
    }

    /// Sends what comes, until there is no more to send or nobody to send it to.
    async fn follow(&mut self, socket: &mut WebSocket) -> Result<Infallible, End> {
        let mut pings = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
        let (mut heard_at, mut heard_since_ping) = (Instant::now(), 0);
        loop {
            tokio::select! {
                heard = socket.recv() => {
                    check(heard)?;
                    heard_at = Instant::now();
                    heard_since_ping += 1;
                    if heard_since_ping > CLIENT_FRAMES_MAX {
                        return Err(too_many_frames().into());
                    }
                }
                _ = pings.tick() => {
                    heard_since_ping = 0;
                    if heard_at.elapsed() > SILENCE_MAX {
                        return Err(End::Left);
                    }
                    self.send(socket, Message::Ping(Bytes::new())).await?;
                }
                part = self.parts.next() => {
                    let part = part.ok_or_else(Refusal::stopping)??;
                    let text = message(&part)?;
                    // Charged until it is sent, as every answer is.
                    let room = self.unsent.hold(&self.tenant, text.len())?;
                    self.send(socket, Message::Text(text.into())).await?;
                    drop(room);
                }
            }
        }
    }

    async fn send(&mut self, socket: &mut WebSocket, message: Message) -> Result<(), End> {
        tokio::select! {
            biased;
            sent = timeout(WRITE_TIMEOUT, socket.send(message)) => match sent {
                Ok(Ok(())) => Ok(()),
                _ => Err(End::Left),
            },
            () = self.stop.cancelled() => Err(Refusal::stopping().into()),
            refusal = &mut self.ended => Err(refusal.into()),
        }
    }
}

fn too_many_frames() -> Refusal {
    let message = format!(
        "more than {CLIENT_FRAMES_MAX} pings and pongs came within {} s: send fewer",
        PING_EVERY.as_secs()
    );
    Refusal::PermissionDenied { reason: "FRAMES_TOO_MANY", message }
}

/// What a client may say: pongs, and farewell.
fn check(heard: Option<Result<Message, axum::Error>>) -> Result<(), End> {
    match heard {
        Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
        Some(Ok(Message::Text(_) | Message::Binary(_))) => {
            Err(Refusal::Malformed("a tail takes no messages: open another one".to_owned()).into())
        }
        Some(Ok(Message::Close(_)) | Err(_)) | None => Err(End::Left),
    }
}

/// A message of a tail.
#[derive(Serialize)]
struct Part<'a> {
    logs: Vec<Log<'a>>,
    skipped: u64,
    gap: u64,
}

fn message(part: &v1::TailLogsResponse) -> Result<String, Refusal> {
    let logs = part.logs.iter().map(Log::new).collect();
    text(&Part { logs, skipped: part.skipped, gap: part.gap })
}

/// Says why, and waits for the client to say farewell too.
async fn close(mut socket: WebSocket, end: End) {
    if let End::Refused(refusal) = end {
        let frame = CloseFrame { code: close_code_of(&refusal), reason: close_text(&refusal) };
        if socket.send(Message::Close(Some(frame))).await.is_err() {
            return;
        }
    }
    while let Some(Ok(_)) = socket.recv().await {}
}

fn close_code_of(refusal: &Refusal) -> u16 {
    match refusal {
        Refusal::Unauthenticated { .. } | Refusal::PermissionDenied { .. } => close_code::POLICY,
        Refusal::Malformed(_) => close_code::UNSUPPORTED,
        stopping if *stopping == Refusal::stopping() => close_code::AWAY,
        passing if passing.retry_after().is_some() => close_code::AGAIN,
        _ => close_code::ERROR,
    }
}

/// The reason by which a program knows it, and what there is room for of the text for people.
fn close_text(refusal: &Refusal) -> Utf8Bytes {
    let text = format!("{}: {refusal}", refusal.reason());
    let end = text.floor_char_boundary(CLOSE_TEXT_BYTES_MAX.min(text.len()));
    text[..end].into()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn a_token_stands_behind_bearer() {
        let offered = |line: &'static str| {
            let header = (SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(line));
            offered_token(&HeaderMap::from_iter([header]))
        };
        assert_eq!(offered("bearer, a.b-c_d").as_deref(), Some("a.b-c_d"));
        assert_eq!(offered("chat,bearer,x").as_deref(), Some("x"));
        assert_eq!(offered("bearer"), None);
        assert_eq!(offered("chat, x"), None);
    }

    #[test]
    fn the_code_says_whether_to_come_back() {
        let unauthenticated =
            Refusal::Unauthenticated { reason: "TOKEN_REVOKED", message: "ä".repeat(200) };
        assert_eq!(close_code_of(&unauthenticated), 1008);
        assert_eq!(close_code_of(&too_many_frames()), 1008);
        assert_eq!(close_code_of(&Refusal::stopping()), 1001);
        let retry_after = Duration::from_secs(1);
        let passing = Refusal::Unavailable { reason: "X", message: String::new(), retry_after };
        assert_eq!(close_code_of(&passing), 1013);
        assert_eq!(close_code_of(&Refusal::DataLoss(String::new())), 1011);
        let text = close_text(&unauthenticated);
        assert!(text.len() <= CLOSE_TEXT_BYTES_MAX && text.starts_with("TOKEN_REVOKED: ä"));
    }
}
