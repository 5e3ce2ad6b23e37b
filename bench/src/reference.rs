//! The reference: a server that decodes a batch and answers, and does nothing else. What any gRPC
//! ingest costs at least, on the same machine, from the same client.

use logweir_proto::v1::{
    IngestRequest, IngestResponse, IngestStreamRequest, IngestStreamResponse,
    ingest_service_server::{IngestService, IngestServiceServer},
};
use tokio_stream::Empty;
use tonic::{Request, Response, Status, Streaming, transport::server::TcpIncoming};

struct Decode;

#[tonic::async_trait]
impl IngestService for Decode {
    async fn ingest(
        &self,
        request: Request<IngestRequest>,
    ) -> Result<Response<IngestResponse>, Status> {
        let records = request.into_inner().batch.map_or(0, |batch| batch.records.len());
        Ok(Response::new(IngestResponse { accepted: records as u32, rejected: Vec::new() }))
    }

    type IngestStreamStream = Empty<Result<IngestStreamResponse, Status>>;

    async fn ingest_stream(
        &self,
        _: Request<Streaming<IngestStreamRequest>>,
    ) -> Result<Response<Self::IngestStreamStream>, Status> {
        Err(Status::unimplemented("the reference takes single batches"))
    }
}

/// Serves until it is killed.
pub(crate) async fn serve() -> anyhow::Result<()> {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse()?)?;
    println!("ready on http://{}", incoming.local_addr()?);
    tonic::transport::Server::builder()
        .add_service(IngestServiceServer::new(Decode))
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}
