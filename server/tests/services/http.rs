//! What the process says about itself.

use logweir_core::identity::Role;
use logweir_queue::QueueLimits;
use logweir_server::ServerConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::harness::{Bench, batch};

async fn get(bench: &Bench, path: &str) -> String {
    let mut stream = TcpStream::connect(bench.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn one_port_speaks_http_too() {
    let bench = Bench::new().await;
    for (path, status, text) in [
        ("/healthz", "HTTP/1.1 200 OK", "ok\n"),
        ("/readyz", "HTTP/1.1 200 OK", "ready\n"),
        ("/metrics", "HTTP/1.1 200 OK", "content-type: text/plain; version=0.0.4"),
    ] {
        let answer = get(&bench, path).await;
        assert!(answer.starts_with(status) && answer.contains(text), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_server_that_would_refuse_is_not_ready() {
    let limits = QueueLimits { batches_max: 1, bytes_max: 1 << 20 };
    let bench = Bench::with(ServerConfig::default(), limits).await;
    bench.set_storing(false);
    let other = bench.token("other", "payments", Role::Admin);
    // One tenant alone has its share of one batch, and leaves room for another's.
    let sending = async {
        tokio::join!(bench.send(batch(1, &["x"])), bench.send_with(&other, batch(1, &["x"])))
    };
    tokio::pin!(sending);
    let not_ready = loop {
        tokio::select! {
            biased;
            _ = &mut sending => panic!("nothing is stored"),
            answer = get(&bench, "/readyz") => if !answer.contains("200 OK") { break answer },
        }
    };
    assert!(not_ready.starts_with("HTTP/1.1 503"), "{not_ready}");
    assert!(not_ready.contains("not ready: the queue is full"), "{not_ready}");
    bench.set_storing(true);
    let (own, others) = sending.await;
    assert!(own.is_ok() && others.is_ok());
    assert!(get(&bench, "/readyz").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn grpc_health_is_served_without_a_token() {
    let bench = Bench::new().await;
    let mut client = HealthClient::new(bench.channel.clone());
    for service in ["", "logweir.v1.IngestService", "logweir.v1.QueryService"] {
        let request = HealthCheckRequest { service: service.into() };
        let mut watch = client.watch(request).await.unwrap().into_inner();
        loop {
            let status = watch.message().await.unwrap().unwrap().status();
            if status == ServingStatus::Serving {
                break;
            }
        }
    }
}

#[tokio::test]
async fn the_contract_describes_itself() {
    let bench = Bench::new().await;
    let mut client = ServerReflectionClient::new(bench.channel.clone());
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers =
        client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    for service in
        ["logweir.v1.IngestService", "logweir.v1.QueryService", "logweir.v1.AdminService"]
    {
        assert!(names.contains(&service), "{names:?}");
    }
}
