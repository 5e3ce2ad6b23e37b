//! Browsers, as the bytes that they send: gRPC-Web over HTTP/1.1, and their questions before it.

use logweir_core::identity::Role;
use logweir_proto::v1;
use logweir_queue::QueueLimits;
use logweir_server::ServerConfig;
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{Bench, batch, messages};

const INGEST: &str = "/logweir.v1.IngestService/Ingest";
const PAGE: &str = "https://shop.example";
/// The flag of a frame that holds the trailers.
const TRAILERS: u8 = 0x80;

fn framed(message: &impl Message) -> Vec<u8> {
    let encoded = message.encode_to_vec();
    let length = u32::try_from(encoded.len()).unwrap().to_be_bytes();
    [&[0], &length[..], &encoded].concat()
}

async fn exchange(bench: &Bench, head: &str, body: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(bench.address).await.unwrap();
    let length = body.len();
    let head = format!(
        "{head}\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\norigin: {PAGE}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

async fn post(bench: &Bench, token: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {INGEST} HTTP/1.1\r\ncontent-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\n\
         authorization: Bearer {token}"
    );
    exchange(bench, &head, body).await
}

/// What a browser asks before a page of another origin may call.
async fn preflight(bench: &Bench) -> String {
    let head = format!(
        "OPTIONS {INGEST} HTTP/1.1\r\naccess-control-request-method: POST\r\n\
         access-control-request-headers: authorization,content-type,x-grpc-web"
    );
    String::from_utf8(exchange(bench, &head, &[]).await).unwrap()
}

async fn open_to(origins: &str) -> Bench {
    let cors_origins = origins.parse().unwrap();
    let config = ServerConfig { cors_origins, ..ServerConfig::default() };
    Bench::with(config, QueueLimits::default()).await
}

fn contains(answer: &[u8], part: &[u8]) -> bool {
    answer.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn a_browser_sends_a_batch_with_a_token_of_its_service() {
    let bench = open_to(PAGE).await;
    let request = v1::IngestRequest { batch: Some(batch(1, &["clicked", "bought"])) };
    let token = bench.token("default", "payments", Role::Ingest);
    let answer = post(&bench, &token, &framed(&request)).await;
    let accepted = framed(&v1::IngestResponse { accepted: 2, rejected: Vec::new() });
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"), "{}", String::from_utf8_lossy(&answer));
    assert!(contains(&answer, b"content-type: application/grpc-web"));
    assert!(contains(&answer, format!("access-control-allow-origin: {PAGE}").as_bytes()));
    assert!(contains(&answer, &accepted));
    assert!(contains(&answer, &[TRAILERS]) && contains(&answer, b"grpc-status:0"));
    assert_eq!(messages(&bench.stored().await), ["bought", "clicked"]);
}

#[tokio::test]
async fn a_token_reaches_no_further_from_a_browser() {
    let bench = open_to("*").await;
    let request = v1::IngestRequest { batch: Some(batch(1, &["clicked"])) };
    let other = bench.token("default", "shop", Role::Ingest);
    for (token, code) in [("none", "16"), (other.as_str(), "7")] {
        let answer = post(&bench, token, &framed(&request)).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.contains(&format!("grpc-status: {code}")), "{code}: {answer}");
        assert!(answer.contains("access-control-expose-headers: grpc-status"), "{answer}");
    }
    assert!(bench.stored().await.is_empty());
}

#[tokio::test]
async fn only_pages_of_named_origins_may_call() {
    let allowed = format!("access-control-allow-origin: {PAGE}\r\n");
    for (origins, says) in [
        ("", None),
        ("https://other.example", None),
        ("https://other.example,https://shop.example", Some(allowed.as_str())),
        ("*", Some("access-control-allow-origin: *\r\n")),
    ] {
        let bench = open_to(origins).await;
        let answer = preflight(&bench).await;
        let found = answer.contains("access-control-allow-origin");
        assert_eq!(found, says.is_some(), "{origins:?}: {answer}");
        assert!(says.is_none_or(|says| answer.contains(says)), "{origins:?}: {answer}");
        if found {
            assert!(answer.contains("access-control-allow-methods: POST"), "{answer}");
            assert!(answer.contains("access-control-max-age: 7200"), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_request_that_is_no_grpc_web_after_all_is_told_so() {
    let bench = open_to("").await;
    let token = bench.admin();
    let answer = post(&bench, &token, &[7, 0, 0, 0, 1, 0]).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.contains("grpc-status: 3") || answer.contains("grpc-status:3"), "{answer}");
    let head = format!("POST {INGEST} HTTP/1.1\r\ncontent-type: application/json");
    let answer = exchange(&bench, &head, b"{}").await;
    assert!(answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
}
