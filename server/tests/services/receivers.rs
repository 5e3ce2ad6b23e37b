//! What the receivers beside OTLP answer to what passes: a full queue, a body that does not come, a server
//! that stops. Log shippers repeat after 429 and 503, and some of them after nothing else.

use logweir_queue::QueueLimits;
use logweir_server::ServerConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    harness::{Answer, Bench},
    otlp::until_queued,
};

const JSON: &str = "application/json";
/// Path, content type, a request of one log, and how it is taken.
const PUSHES: [(&str, &str, &str, u16); 3] = [
    ("/api/logs", JSON, r#"{"service":"shop","message":"m"}"#, 202),
    (
        "/loki/api/v1/push",
        JSON,
        r#"{"streams":[{"stream":{"service":"shop"},"values":[["1760000000000000000","m"]]}]}"#,
        204,
    ),
    ("/_bulk", "application/x-ndjson", "{\"create\":{}}\n{\"service.name\":\"shop\"}\n", 200),
];

fn check_transient(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{answer:?}");
    let retry_after = answer.header("retry-after").and_then(|seconds| seconds.parse().ok());
    assert!(retry_after.is_some_and(|seconds: u32| seconds >= 1), "{answer:?}");
}

#[tokio::test]
async fn a_full_queue_passes() {
    for (path, content_type, body, taken) in PUSHES {
        let limits = QueueLimits { batches_max: 1, bytes_max: 1 << 20 };
        let bench = Bench::with(ServerConfig::default(), limits).await;
        bench.set_storing(false);
        let bearer = format!("Bearer {}", bench.admin());
        let headers = [("authorization", bearer.as_str()), ("content-type", content_type)];
        let first = bench.ask_with("POST", path, &headers, body);
        let others = async {
            until_queued(&bench, &bench.admin()).await;
            check_transient(&bench.ask_with("POST", path, &headers, body).await, 429);
            bench.set_storing(true);
        };
        let (first, ()) = tokio::join!(first, others);
        assert_eq!(first.status, taken, "{first:?}");
        assert_eq!(bench.ask_with("POST", path, &headers, body).await.status, taken);
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_passes() {
    let config = ServerConfig { read_timeout_seconds: 1, ..ServerConfig::default() };
    let bench = Bench::with(config, QueueLimits::default()).await;
    for (path, content_type, body, _) in PUSHES {
        let mut stream = TcpStream::connect(bench.address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: logweir\r\nconnection: close\r\ncontent-length: 1000\r\n\
             authorization: Bearer {}\r\ncontent-type: {content_type}\r\n\r\n{body}",
            bench.admin()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        check_transient(&Answer::read(&said), 503);
    }
}

#[tokio::test]
async fn what_is_not_stored_when_the_server_ends_passes() {
    for (path, content_type, body, _) in PUSHES {
        let bench = Bench::new().await;
        let bearer = format!("Bearer {}", bench.admin());
        let headers = [("authorization", bearer.as_str()), ("content-type", content_type)];
        bench.close_queue();
        check_transient(&bench.ask_with("POST", path, &headers, body).await, 503);
    }
}
