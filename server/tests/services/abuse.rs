//! Requests that mean harm, or are simply wrong: each gets its status and a text that helps, memory
//! stays bounded, and nothing is stored.

use std::{convert::Infallible, fs, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, future::join_all, stream};
use hyper::{Request as HttpRequest, Response as HttpResponse};
use logweir_core::{identity::Role, limits::Limits, runtime::tasks::Fate};
use logweir_proto::v1::{self, ingest_service_client::IngestServiceClient};
use logweir_queue::QueueLimits;
use logweir_server::ServerConfig;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{Code, Status, body::Body, transport::Channel};
use tonic_types::StatusExt;
use tower::{Service, ServiceExt};

use crate::harness::{Bench, batch, reason, with_token};

#[tokio::test]
async fn without_a_good_token_nothing_is_taken() {
    let bench = Bench::new().await;
    let stranger = Bench::new().await;
    let tokens = [
        ("nonsense".to_owned(), "TOKEN_MALFORMED"),
        (stranger.admin(), "TOKEN_KEY_UNKNOWN"),
        (bench.expired_token(), "TOKEN_EXPIRED"),
    ];
    for (token, expected) in tokens {
        let status = bench.send_with(&token, batch(1, &["x"])).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, expected));
        assert!(status.message().contains("logweir token issue"), "{status}");
    }
    let bare = v1::IngestRequest { batch: Some(batch(1, &["x"])) };
    let status = bench.ingest().ingest(bare).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::Unauthenticated, "TOKEN_MISSING".into()));
    assert!(bench.stored().await.is_empty());
}

#[tokio::test]
async fn a_token_writes_its_own_service_only() {
    let bench = Bench::new().await;
    let orders = bench.token("default", "orders", Role::Ingest);
    let status = bench.send_with(&orders, batch(1, &["x"])).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status)),
        (Code::PermissionDenied, "SERVICE_FOREIGN".into())
    );
    let unnamed = v1::Batch { resource: None, ..batch(1, &["x"]) };
    let status = bench.send(unnamed).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let request = status.get_details_bad_request().unwrap();
    assert_eq!(request.field_violations[0].field, "batch.resource.service");
    assert!(bench.stored().await.is_empty());
}

#[tokio::test]
async fn a_role_opens_its_own_doors_only() {
    let bench = Bench::new().await;
    let ingest = bench.token("default", "payments", Role::Ingest);
    let viewer = bench.token("default", "payments", Role::Viewer);
    let search = v1::SearchLogsRequest::default;
    let list = v1::ListTokensRequest::default;
    let refusals = [
        bench.send_with(&viewer, batch(1, &["x"])).await.unwrap_err(),
        bench.query().search_logs(with_token(&ingest, search())).await.unwrap_err(),
        bench.administer().list_tokens(with_token(&ingest, list())).await.unwrap_err(),
        bench.administer().list_tokens(with_token(&viewer, list())).await.unwrap_err(),
    ];
    for status in refusals {
        assert_eq!(
            (status.code(), reason(&status)),
            (Code::PermissionDenied, "ROLE_INSUFFICIENT".into())
        );
    }
    assert!(bench.send_with(&ingest, batch(1, &["x"])).await.is_ok());
    assert!(bench.query().search_logs(with_token(&viewer, search())).await.is_ok());
}

#[tokio::test]
async fn a_tenant_sees_nothing_of_another() {
    let bench = Bench::new().await;
    bench.send(batch(1, &["secret"])).await.unwrap();
    let id = bench.stored().await[0].id.clone();
    let other = bench.token("other", "*", Role::Admin);
    let request = with_token(&other, v1::SearchLogsRequest::default());
    assert!(bench.query().search_logs(request).await.unwrap().into_inner().logs.is_empty());
    let request = with_token(&other, v1::GetLogRequest { id, neighbours: 3 });
    assert_eq!(bench.query().get_log(request).await.unwrap_err().code(), Code::NotFound);
    let request = with_token(&other, v1::ListServicesRequest {});
    let services = bench.query().list_services(request).await.unwrap().into_inner().services;
    assert!(services.is_empty());
    // The same batch id is another batch in another tenant.
    assert_eq!(bench.send_with(&other, batch(1, &["theirs"])).await.unwrap().accepted, 1);
    assert_eq!(bench.stored().await.len(), 1);
}

#[tokio::test]
async fn a_bad_envelope_names_its_fields() {
    let bench = Bench::new().await;
    let status = bench.send(v1::Batch { batch_id: vec![], ..batch(1, &["x"]) }).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let request = status.get_details_bad_request().unwrap();
    assert_eq!(request.field_violations[0].description, "is 0 bytes, must be 16");
    let empty = with_token(&bench.admin(), v1::IngestRequest { batch: None });
    let status = bench.ingest().ingest(empty).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "batch: is missing"));
}

/// Sends a body as it is, and reads the status of the answer.
async fn post(
    mut channel: Channel,
    token: &str,
    encoding: Option<&str>,
    body: Bytes,
) -> Result<(), Status> {
    let mut request = HttpRequest::post("/logweir.v1.IngestService/Ingest")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {token}"));
    if let Some(encoding) = encoding {
        request = request.header("grpc-encoding", encoding);
    }
    let body = Body::new(axum::body::Body::from(body));
    let sent = channel.ready().await.unwrap().call(request.body(body).unwrap()).await;
    let response: HttpResponse<Body> = sent.map_err(|error| Status::unknown(error.to_string()))?;
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() != Code::Ok => Err(status),
        _ => Ok(()),
    }
}

fn framed(flag: u8, payload: &[u8]) -> Bytes {
    [&[flag][..], &(payload.len() as u32).to_be_bytes(), payload].concat().into()
}

/// What inflates to `mebibytes`: one compressed mebibyte of zeros, over and over.
fn gzip_bomb(mebibytes: usize) -> Vec<u8> {
    use flate2::{Compress, Compression, FlushCompress};
    const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut block = Vec::with_capacity(1 << 20);
    let mut deflate = Compress::new(Compression::best(), false);
    deflate.compress_vec(&vec![0; 1 << 20], &mut block, FlushCompress::Full).unwrap();
    [&GZIP_HEADER[..], &block.repeat(mebibytes)].concat()
}

fn zstd_bomb(mebibytes: usize) -> Vec<u8> {
    zstd::encode_all(&vec![0; 1 << 20][..], 19).unwrap().repeat(mebibytes)
}

/// The most memory this process has had resident, bytes.
pub(crate) fn memory_peak_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bombs_are_refused_and_take_no_memory() {
    const EXTRA_BYTES_MAX: usize = 256 << 20;
    let bench = Bench::new().await;
    let token = bench.admin();
    // Sized to pass the bound on the compressed length, so that inflating has to stop them.
    let gzip = framed(1, &gzip_bomb(3 << 10));
    let zstd = framed(1, &zstd_bomb(10 << 10));
    assert!(gzip.len() < 4 << 20 && zstd.len() < 4 << 20, "{} {}", gzip.len(), zstd.len());
    let before = memory_peak_bytes();
    let attacks = (0..32).map(|number| {
        let (encoding, body) =
            if number % 2 == 0 { ("gzip", gzip.clone()) } else { ("zstd", zstd.clone()) };
        post(bench.channel.clone(), &token, Some(encoding), body)
    });
    for outcome in join_all(attacks).await {
        let status = outcome.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        if reason(&status) == "BATCH_TOO_LARGE" {
            let expected = "the request in bytes is over 4194304, the limit is 4194304: split";
            assert!(status.message().starts_with(expected), "{status}");
        }
    }
    let extra = memory_peak_bytes() - before;
    assert!(extra < EXTRA_BYTES_MAX, "{extra} bytes");
    assert!(bench.stored().await.is_empty());
}

#[tokio::test]
async fn a_ten_mebibyte_bomb_is_refused_by_its_length() {
    let bench = Bench::new().await;
    let bomb = framed(1, &gzip_bomb(10 << 10));
    assert!(bomb.len() > 9 << 20);
    let before = memory_peak_bytes();
    let status = post(bench.channel.clone(), &bench.admin(), Some("gzip"), bomb).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status)),
        (Code::ResourceExhausted, "BATCH_TOO_LARGE".into())
    );
    assert!(memory_peak_bytes() - before < 64 << 20);
}

#[tokio::test]
async fn a_batch_that_swells_when_decoded_is_refused() {
    let bench = Bench::new().await;
    // Two million empty logs: four mebibytes on the wire, hundreds decoded.
    let logs = [0x22, 0].repeat(2_000_000);
    let mut body = vec![0x0a];
    prost::encoding::encode_varint(logs.len() as u64, &mut body);
    body.extend_from_slice(&logs);
    let before = memory_peak_bytes();
    let outcome = post(bench.channel.clone(), &bench.admin(), None, framed(0, &body)).await;
    let status = outcome.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status)),
        (Code::ResourceExhausted, "BATCH_TOO_LARGE".into())
    );
    assert!(memory_peak_bytes() - before < 64 << 20);
}

#[tokio::test]
async fn an_unknown_compression_is_named() {
    let bench = Bench::new().await;
    let (token, body) = (bench.admin(), framed(1, b"x"));
    let status = post(bench.channel.clone(), &token, Some("br"), body).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(status.message(), "the encoding \"br\" is not supported: use gzip, zstd or none");
}

#[tokio::test]
async fn what_is_no_message_is_the_senders_fault() {
    let bench = Bench::new().await;
    let token = bench.admin();
    let bodies = [
        (None, framed(0, b"\xff\xff\xff")),
        (None, framed(0, b"abc").slice(..6)),
        (None, Bytes::new()),
        (Some("gzip"), framed(1, b"no gzip")),
        (Some("zstd"), framed(1, b"no zstd")),
    ];
    for (encoding, body) in bodies {
        let status = post(bench.channel.clone(), &token, encoding, body).await.unwrap_err();
        assert_eq!((status.code(), reason(&status)), (Code::InvalidArgument, "MALFORMED".into()));
    }
}

#[test]
fn any_body_is_answered() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let bench = runtime.block_on(Bench::new());
    let token = bench.admin();
    let encodings = prop::sample::select(vec![None, Some("gzip"), Some("zstd"), Some("identity")]);
    let bodies = prop::collection::vec(any::<u8>(), 0..400);
    let mut runner = TestRunner::new(Config { cases: 200, ..Config::default() });
    let outcome = runner.run(&(encodings, bodies, 0..3_u8), |(encoding, bytes, flag)| {
        let body = if flag < 2 { framed(flag, &bytes) } else { bytes.into() };
        let answer = runtime.block_on(post(bench.channel.clone(), &token, encoding, body));
        let code = answer.err().map_or(Code::Ok, |status| status.code());
        let expected = [Code::InvalidArgument, Code::ResourceExhausted, Code::FailedPrecondition];
        prop_assert!(expected.contains(&code), "{code:?}");
        Ok(())
    });
    outcome.unwrap();
    assert!(runtime.block_on(bench.stored()).is_empty());
}

/// Begins a request that announces a message of 4 MiB and sends nothing of it, for as long as it
/// lives.
async fn announce(mut channel: Channel, token: String, path: &'static str) {
    let mut header = framed(0, b"").to_vec();
    header[1..].copy_from_slice(&(4_u32 << 20).to_be_bytes());
    let chunks = stream::iter([Ok::<_, Infallible>(header)]).chain(stream::pending());
    let request = HttpRequest::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {token}"))
        .body(Body::new(axum::body::Body::from_stream(chunks)));
    // Held, or the request would end with it.
    let _answer = channel.ready().await.unwrap().call(request.unwrap()).await;
    std::future::pending().await
}

#[tokio::test]
async fn what_one_tenant_announces_holds_no_other_up() {
    // Long enough for nothing of it to end by itself; and the last 2 MiB of a tenant's share are too
    // few for another message that is announced.
    let limits = Limits { in_flight_bytes_max: 126 << 20, ..Limits::default() };
    let config = ServerConfig { limits, read_timeout_seconds: 36_000, ..ServerConfig::default() };
    let bench = Bench::with(config, QueueLimits::default()).await;
    let other = bench.token("other", "payments", Role::Admin);
    let channel = bench.another_channel();
    let paths = [
        "/logweir.v1.IngestService/IngestStream",
        "/logweir.v1.IngestService/Ingest",
        "/logweir.v1.QueryService/SearchLogs",
    ];
    for path in paths.repeat(40) {
        let announcing = announce(channel.clone(), other.clone(), path);
        bench.tasks.spawn("announcing", Fate::MayEnd, announcing);
    }
    // Its streams have taken its share once a large request of its own is refused for it.
    let large = "x".repeat(60_000);
    let large = |number| batch(number, &[large.as_str(); 60]);
    let mut number = 0;
    let refused = loop {
        number += 1;
        if let Err(refused) = bench.send_with(&other, large(number)).await {
            break refused;
        }
    };
    assert_eq!(
        (refused.code(), reason(&refused)),
        (Code::ResourceExhausted, "TENANT_SHARE".to_owned())
    );
    for number in 0..50 {
        bench.send(batch(number, &["x"])).await.unwrap();
        let search = with_token(&bench.admin(), v1::SearchLogsRequest::default());
        bench.query().search_logs(search).await.unwrap();
    }
}

#[tokio::test]
async fn who_floods_may_still_revoke_the_token_that_does_it() {
    // Two messages that are announced take all of a tenant's share.
    let limits = Limits { in_flight_bytes_max: 8 << 20, ..Limits::default() };
    let config = ServerConfig { limits, read_timeout_seconds: 36_000, ..ServerConfig::default() };
    let bench = Bench::with(config, QueueLimits::default()).await;
    for _ in 0..2 {
        let path = "/logweir.v1.IngestService/IngestStream";
        let announcing = announce(bench.another_channel(), bench.admin(), path);
        bench.tasks.spawn("announcing", Fate::MayEnd, announcing);
    }
    let mut number = 0;
    let refused = loop {
        number += 1;
        if let Err(refused) = bench.send(batch(number, &["x"])).await {
            break refused;
        }
    };
    assert_eq!(reason(&refused), "TENANT_SHARE");
    let request = v1::RevokeTokenRequest { token_id: "none".into() };
    let request = with_token(&bench.admin(), request);
    assert_eq!(bench.administer().revoke_token(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_connection_that_stalls_before_its_first_request_ends() {
    let bench = Bench::new().await;
    // Half of the preface with which HTTP/2 begins, and all of it with settings and no request.
    let settings = b"\0\0\0\x04\0\0\0\0\0";
    let whole = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), settings].concat();
    for begins in [b"PRI * HT".to_vec(), whole] {
        let mut stalled = TcpStream::connect(bench.address).await.unwrap();
        stalled.write_all(&begins).await.unwrap();
        // A client that speaks HTTP/2 is asked whether it is still there only after 20 s.
        let mut told = Vec::new();
        let ended = stalled.read_to_end(&mut told);
        let ended = tokio::time::timeout(Duration::from_secs(19), ended).await;
        assert!(ended.is_ok(), "it is held: {begins:?}");
    }
}

#[tokio::test]
async fn a_tenants_connections_leave_room_for_anothers() {
    let config = ServerConfig { connections_max: 4, ..ServerConfig::default() };
    let bench = Bench::with(config, QueueLimits::default()).await;
    let other = bench.token("other", "payments", Role::Ingest);
    let mut held = Vec::new();
    let refused = loop {
        let mut client = IngestServiceClient::new(bench.another_channel());
        let request = v1::IngestRequest { batch: Some(batch(held.len() as u8, &["x"])) };
        match client.ingest(with_token(&other, request)).await {
            Ok(_) => held.push(client),
            Err(refused) => break refused,
        }
    };
    assert_eq!((held.len(), reason(&refused)), (4, "TENANT_SHARE".to_owned()));
    // Until the refused connection has ended there may be none left.
    while let Err(status) = bench.send(batch(1, &["x"])).await {
        assert_eq!(reason(&status), "", "the connection is closed, not refused: {status}");
    }
    drop(held);
}

/// Whether a connection was closed, once it is or is not.
async fn is_closed(connection: &mut TcpStream) -> bool {
    let read = tokio::time::timeout(Duration::from_secs(30), connection.read(&mut [0; 1])).await;
    read.is_ok_and(|read| read.unwrap_or(0) == 0)
}

#[tokio::test]
async fn connections_that_show_no_token_give_way_and_those_that_did_do_not() {
    let config = ServerConfig { connections_max: 1, ..ServerConfig::default() };
    let bench = Bench::with(config, QueueLimits::default()).await;
    // The bench itself holds the one connection of its tenant, and one more is left for another.
    assert!(bench.send(batch(1, &["x"])).await.is_ok());
    let mut oldest = TcpStream::connect(bench.address).await.unwrap();
    let mut newer = TcpStream::connect(bench.address).await.unwrap();
    assert!(is_closed(&mut oldest).await);
    let still_open = newer.try_read(&mut [0; 1]).unwrap_err().kind();
    assert_eq!(still_open, std::io::ErrorKind::WouldBlock, "it is not the one that was closed");
    let other = bench.token("other", "payments", Role::Ingest);
    let mut client = IngestServiceClient::new(bench.another_channel());
    let request = v1::IngestRequest { batch: Some(batch(1, &["x"])) };
    client.ingest(with_token(&other, request.clone())).await.unwrap();
    assert!(is_closed(&mut newer).await);
    let mut too_many = TcpStream::connect(bench.address).await.unwrap();
    assert!(is_closed(&mut too_many).await);
    assert!(client.ingest(with_token(&other, request)).await.is_ok());
    assert!(bench.send(batch(2, &["x"])).await.is_ok());
}

#[tokio::test]
async fn a_resource_is_not_copied_onto_more_logs_than_memory_holds() {
    let bench = Bench::new().await;
    let attribute = |number: u32| v1::Attribute {
        key: number.to_string(),
        value: Some(v1::attribute::Value::StringValue("x".repeat(16_384))),
    };
    let mut sent = batch(1, &["x"; 10_000]);
    sent.resource.as_mut().unwrap().attributes = (0..100).map(attribute).collect();
    let status = bench.send(sent.clone()).await.unwrap_err();
    assert_eq!(reason(&status), "BATCH_TOO_LARGE", "{status}");
    sent.records.truncate(10);
    assert_eq!(bench.send(sent).await.unwrap().accepted, 10);
}
