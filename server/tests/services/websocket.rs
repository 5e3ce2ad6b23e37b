//! `GET /ws/logs`: a tail as a browser opens it, and every way in which it ends.

use futures::{SinkExt as _, StreamExt as _};
use logweir_core::identity::Role;
use logweir_proto::v1;
use logweir_queue::QueueLimits;
use logweir_server::ServerConfig;
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest as _,
        handshake::client::Response,
        http::{HeaderName, HeaderValue},
    },
};

use crate::{
    api::Document,
    harness::{Bench, batch, with_token},
};

const PAGE: &str = "https://shop.example";

type Socket = WebSocketStream<TcpStream>;

async fn connect(
    bench: &Bench,
    query: &str,
    headers: &[(&str, &str)],
) -> Result<(Socket, Response), Error> {
    // With little room, so that a reader is soon a slow one.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    let stream = socket.connect(bench.address).await.unwrap();
    let uri = format!("ws://{}/ws/logs{query}", bench.address);
    let mut request = uri.into_client_request().unwrap();
    for (name, value) in headers {
        let name: HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
    }
    client_async(request, stream).await
}

/// As a browser does, which can set no other header.
async fn open(bench: &Bench, token: &str, query: &str) -> Socket {
    let protocol = format!("bearer, {token}");
    let opened = connect(bench, query, &[("sec-websocket-protocol", &protocol)]).await;
    let (socket, response) = opened.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "bearer");
    socket
}

/// The status and reason with which it is refused.
async fn refused(bench: &Bench, query: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let Err(Error::Http(response)) = connect(bench, query, headers).await else {
        panic!("it was let in with {headers:?}")
    };
    let problem: Value = serde_json::from_slice(response.body().as_ref().unwrap()).unwrap();
    (response.status().as_u16(), problem["reason"].as_str().unwrap().to_owned())
}

/// The next message that is one.
async fn next(socket: &mut Socket) -> Value {
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The code and text with which it is closed.
async fn closed(socket: &mut Socket) -> (u16, String) {
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Close(frame) => {
                let frame = frame.unwrap();
                return (frame.code.into(), frame.reason.as_str().to_owned());
            }
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_tail_shows_what_matches_until_the_server_stops() {
    let mut bench = Bench::new().await;
    let (document, admin) = (Document::of(&bench).await, bench.admin());
    bench.send(batch(1, &["too early"])).await.unwrap();
    let mut socket = open(&bench, &admin, "?filter=wanted&service=payments&level=info").await;
    let mut others = open(&bench, &admin, "?service=shop").await;
    bench.send(batch(2, &["not this", "wanted one"])).await.unwrap();
    bench.send(batch(3, &["wanted two"])).await.unwrap();
    for expected in ["wanted one", "wanted two"] {
        let message = next(&mut socket).await;
        document.check(&json!({"$ref": "#/components/schemas/TailMessage"}), &message, "a tail");
        assert_eq!(message["logs"][0]["message"], expected);
        assert_eq!((&message["skipped"], &message["gap"]), (&json!(0), &json!(0)));
    }
    bench.tasks.stop();
    for socket in [&mut socket, &mut others] {
        let (code, reason) = closed(socket).await;
        assert!(code == 1001 && reason.starts_with("STOPPING: "), "{code} {reason}");
    }
    bench.served().await;
}

#[tokio::test]
async fn a_revoked_token_ends_its_tails() {
    let bench = Bench::new().await;
    let asked = v1::IssueTokenRequest {
        service: "*".into(),
        role: v1::Role::Viewer.into(),
        ttl_seconds: 0,
    };
    let issued = bench.administer().issue_token(with_token(&bench.admin(), asked)).await;
    let issued = issued.unwrap().into_inner();
    let mut socket = open(&bench, &issued.jwt, "").await;
    bench.send(batch(1, &["seen"])).await.unwrap();
    assert_eq!(next(&mut socket).await["logs"][0]["message"], "seen");
    let asked = v1::RevokeTokenRequest { token_id: issued.token.unwrap().token_id };
    bench.administer().revoke_token(with_token(&bench.admin(), asked)).await.unwrap();
    let (code, reason) = closed(&mut socket).await;
    assert!(code == 1008 && reason.starts_with("TOKEN_REVOKED: "), "{code} {reason}");
}

#[tokio::test]
async fn a_page_opens_one_only_from_an_origin_that_may() {
    let config = ServerConfig { cors_origins: PAGE.parse().unwrap(), ..ServerConfig::default() };
    let bench = Bench::with(config, QueueLimits::default()).await;
    let token = format!("Bearer {}", bench.admin());
    let own = format!("http://{}", bench.address);
    for origin in [PAGE, &own] {
        connect(&bench, "", &[("origin", origin), ("authorization", &token)]).await.unwrap();
    }
    for origin in ["https://evil.example", "null", "http://127.0.0.1:1"] {
        let headers = [("origin", origin), ("authorization", &token)];
        assert_eq!(refused(&bench, "", &headers).await, (403, "ORIGIN_REFUSED".into()), "{origin}");
    }
}

#[tokio::test]
async fn who_may_not_read_opens_none() {
    let bench = Bench::new().await;
    let ingest = bench.token("default", "*", Role::Ingest);
    let admin = bench.admin();
    assert_eq!(refused(&bench, "", &[]).await, (401, "TOKEN_MISSING".into()));
    let in_address = format!("?token={admin}");
    assert_eq!(refused(&bench, &in_address, &[]).await, (401, "TOKEN_MISSING".into()));
    let protocol = format!("bearer, {ingest}");
    let headers = [("sec-websocket-protocol", &*protocol)];
    assert_eq!(refused(&bench, "", &headers).await, (403, "ROLE_INSUFFICIENT".into()));
    for other in ["x-api-key", "authorization"] {
        let headers = [("sec-websocket-protocol", &*protocol), (other, &*admin)];
        assert_eq!(refused(&bench, "", &headers).await, (401, "TOKEN_TWICE".into()), "{other}");
    }
    let headers = [("x-api-key", &*admin)];
    assert_eq!(refused(&bench, "?filter=%28", &headers).await, (400, "INVALID_FIELD".into()));
    connect(&bench, "", &headers).await.unwrap();
    // No tenant sees what another stores.
    let mut other = open(&bench, &bench.token("other", "*", Role::Viewer), "").await;
    bench.send(batch(1, &["not theirs"])).await.unwrap();
    let theirs = bench.token("other", "*", Role::Admin);
    bench.send_with(&theirs, batch(2, &["theirs"])).await.unwrap();
    assert_eq!(next(&mut other).await["logs"][0]["message"], "theirs");
}

#[tokio::test]
async fn a_slow_reader_is_told_what_it_missed() {
    const BATCHES: u8 = 100;
    const LOGS: usize = 8;
    let bench = Bench::new().await;
    let mut socket = open(&bench, &bench.admin(), "").await;
    // Together more than the buffers between the two, and what the server keeps for a reader.
    let long = "x".repeat(60_000);
    for id in 1..=BATCHES {
        bench.send(batch(id, &[long.as_str(); LOGS])).await.unwrap();
    }
    let (mut shown, mut skipped) = (0, 0);
    while shown + skipped < usize::from(BATCHES) * LOGS {
        let message = next(&mut socket).await;
        shown += message["logs"].as_array().unwrap().len();
        skipped += message["skipped"].as_u64().unwrap() as usize;
    }
    assert_eq!(shown + skipped, usize::from(BATCHES) * LOGS);
    assert!(skipped > 0 && shown > 0, "{shown} shown, {skipped} skipped");
}

#[tokio::test]
async fn a_client_that_says_something_is_told_that_nobody_listens() {
    let bench = Bench::new().await;
    let mut socket = open(&bench, &bench.admin(), "").await;
    socket.send(Message::Text("{}".into())).await.unwrap();
    assert_eq!(closed(&mut socket).await.0, 1003);
}

/// Its pings are answered in memory for as long as it reads nothing.
#[tokio::test]
async fn a_client_that_pings_without_pause_is_let_go() {
    let bench = Bench::new().await;
    let mut socket = open(&bench, &bench.admin(), "").await;
    for _ in 0..1_000 {
        socket.send(Message::Ping(vec![0; 125].into())).await.unwrap();
    }
    let (code, reason) = closed(&mut socket).await;
    assert!(code == 1008 && reason.starts_with("FRAMES_TOO_MANY: "), "{code} {reason}");
}

#[tokio::test]
async fn a_tail_holds_its_place_and_its_connection_until_it_ends() {
    let bench = Bench::new().await;
    // On a connection of another tenant's, as it would count otherwise.
    let other = bench.token("other", "*", Role::Admin);
    let held = async |resource: &str| {
        let request = with_token(&other, v1::GetTenantRequest {});
        let tenant = bench.administer().get_tenant(request).await.unwrap().into_inner();
        tenant.shares.iter().find(|share| share.resource == resource).unwrap().held
    };
    let before = held("connections").await;
    let sockets = [open(&bench, &other, "").await, open(&bench, &other, "").await];
    assert_eq!((held("tails").await, held("connections").await), (2, before + 2));
    drop(sockets);
    while held("tails").await > 0 || held("connections").await > before {}
}
