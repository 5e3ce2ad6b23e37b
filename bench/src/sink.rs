//! A server that answers OK to every batch, of Logweir's client libraries and of OpenTelemetry's,
//! and counts the logs: what a library can send when nothing behind it holds it up.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Context;
use axum::routing::get;
use logweir_proto::v1::{
    IngestRequest, IngestResponse, IngestStreamRequest, IngestStreamResponse,
    ingest_service_server::{IngestService, IngestServiceServer},
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
    logs_service_server::{LogsService, LogsServiceServer},
};
use tokio_stream::Empty;
use tonic::{
    Request, Response, Status, Streaming,
    codec::CompressionEncoding::{Gzip, Zstd},
    service::Routes,
};

/// Larger than any batch of any library.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

#[derive(Clone, Default)]
struct Sink {
    logs: Arc<AtomicU64>,
}

impl Sink {
    fn count(&self, logs: usize) {
        self.logs.fetch_add(logs as u64, Ordering::Relaxed);
    }
}

#[tonic::async_trait]
impl IngestService for Sink {
    async fn ingest(
        &self,
        request: Request<IngestRequest>,
    ) -> Result<Response<IngestResponse>, Status> {
        let records = request.into_inner().batch.map_or(0, |batch| batch.records.len());
        self.count(records);
        Ok(Response::new(IngestResponse { accepted: records as u32, rejected: Vec::new() }))
    }

    type IngestStreamStream = Empty<Result<IngestStreamResponse, Status>>;

    async fn ingest_stream(
        &self,
        _: Request<Streaming<IngestStreamRequest>>,
    ) -> Result<Response<Self::IngestStreamStream>, Status> {
        Err(Status::unimplemented("the sink takes single batches"))
    }
}

#[tonic::async_trait]
impl LogsService for Sink {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let resources = request.into_inner().resource_logs;
        let scopes = resources.iter().flat_map(|resource| &resource.scope_logs);
        self.count(scopes.map(|scope| scope.log_records.len()).sum());
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

/// Serves until it is killed; `GET /logs` says how many logs came.
pub(crate) async fn serve() -> anyhow::Result<()> {
    let sink = Sink::default();
    let ingest = IngestServiceServer::new(sink.clone())
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .accept_compressed(Gzip)
        .accept_compressed(Zstd);
    let export = LogsServiceServer::new(sink.clone())
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .accept_compressed(Gzip)
        .accept_compressed(Zstd);
    let count = move || async move { sink.logs.load(Ordering::Relaxed).to_string() };
    let routes = Routes::new(ingest).add_service(export).prepare().into_axum_router();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("ready on http://{}", listener.local_addr()?);
    axum::serve(listener, routes.route("/logs", get(count))).await?;
    Ok(())
}

/// How many logs have come to the sink at this address.
pub(crate) fn logs(endpoint: &str) -> anyhow::Result<u64> {
    let address = endpoint.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address)?;
    // HTTP/1.0: the server closes after the answer, which can then be read to the end.
    stream.write_all(b"GET /logs HTTP/1.0\r\nhost: sink\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("an answer has a body")?;
    Ok(body.trim().parse()?)
}
