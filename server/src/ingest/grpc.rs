//! The gRPC service that takes logs: translation only.

use std::{pin::Pin, sync::Arc};

use futures::{FutureExt, Stream, StreamExt, future::BoxFuture, stream, stream::FuturesUnordered};
use logweir_proto::v1::{
    self, ingest_service_server::IngestService, ingest_stream_response::Outcome,
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::Ingest;
use crate::{
    auth::{Auth, Caller, layer},
    listener::message_body::{Charge, Charges},
    status::{self, Refusal},
};

/// Handles the ingest service.
pub(crate) struct IngestHandler {
    pub(crate) ingest: Arc<Ingest>,
    pub(crate) auth: Arc<Auth>,
    pub(crate) stop: CancellationToken,
    /// Batches of one stream that wait for their answer.
    pub(crate) window: usize,
}

type Responses = Pin<Box<dyn Stream<Item = Result<v1::IngestStreamResponse, Status>> + Send>>;

#[tonic::async_trait]
impl IngestService for IngestHandler {
    async fn ingest(
        &self,
        request: Request<v1::IngestRequest>,
    ) -> Result<Response<v1::IngestResponse>, Status> {
        let caller = layer::caller(&request)?;
        let charge = charge(&charges(&request));
        let batch = request.into_inner().batch;
        // `charge` lives until this returns: the batch's bytes count as in flight until the queue
        // holds it, not only while they are read.
        let answer = self.ingest.ingest(&caller, batch, bytes(&charge)).await?;
        Ok(Response::new(answer))
    }

    type IngestStreamStream = Responses;

    async fn ingest_stream(
        &self,
        request: Request<Streaming<v1::IngestStreamRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let caller = layer::caller(&request)?;
        let session = Session {
            charges: charges(&request),
            ended: {
                let (auth, caller) = (Arc::clone(&self.auth), Arc::clone(&caller));
                async move { auth.ended(&caller).await }.boxed()
            },
            caller,
            ingest: Arc::clone(&self.ingest),
            stop: self.stop.clone(),
            window: self.window,
            batches: request.into_inner(),
            waiting: FuturesUnordered::new(),
            closing: None,
        };
        Ok(Response::new(session.answers()))
    }
}

fn charges<T>(request: &Request<T>) -> Charges {
    request.extensions().get::<Charges>().cloned().unwrap_or_default()
}

fn charge(charges: &Charges) -> Option<Charge> {
    charges.take()
}

fn bytes(charge: &Option<Charge>) -> usize {
    charge.as_ref().map_or(0, |charge| charge.bytes)
}

/// One `IngestStream`: reads batches while its window has room, answers each as it becomes durable.
/// When it has to end, what was read is answered first.
struct Session {
    caller: Arc<Caller>,
    ingest: Arc<Ingest>,
    charges: Charges,
    ended: BoxFuture<'static, Refusal>,
    stop: CancellationToken,
    window: usize,
    batches: Streaming<v1::IngestStreamRequest>,
    waiting: FuturesUnordered<BoxFuture<'static, v1::IngestStreamResponse>>,
    /// Set once no more is read: with what the stream ends, if not well.
    closing: Option<Option<Status>>,
}

impl Session {
    fn answers(self) -> Responses {
        Box::pin(stream::unfold(self, |mut session| async move {
            let answer = session.next_answer().await?;
            Some((answer, session))
        }))
    }

    async fn next_answer(&mut self) -> Option<Result<v1::IngestStreamResponse, Status>> {
        while self.closing.is_none() {
            let (ingest, caller, batches) = (&self.ingest, &self.caller, &mut self.batches);
            // While there is no room nothing is read: that costs less than to refuse it, and the
            // sender has nothing to repeat.
            let next_batch = async {
                ingest.room(&caller.tenant).await;
                batches.message().await
            };
            // In this order: what is durable is answered before more is read, so that a fast sender
            // cannot starve its own acknowledgements; and a token that ended lets no more in.
            tokio::select! {
                biased;
                Some(answer) = self.waiting.next() => return Some(Ok(answer)),
                refusal = &mut self.ended => self.closing = Some(Some(refusal.into())),
                () = self.stop.cancelled() => {
                    self.closing = Some(Some(Refusal::stopping().into()));
                }
                batch = next_batch, if self.waiting.len() < self.window => match batch {
                    Ok(Some(request)) => self.begin(request),
                    Ok(None) => self.closing = Some(None),
                    Err(status) => self.closing = Some(Some(status::of_transport(status))),
                },
            }
        }
        // What was read is answered before the stream ends, however it ends: a batch that became
        // durable without an answer would be sent again.
        if let Some(answer) = self.waiting.next().await {
            return Some(Ok(answer));
        }
        self.closing.as_mut()?.take().map(Err)
    }

    fn begin(&mut self, request: v1::IngestStreamRequest) {
        // Taken now and not in the future: futures run in any order, charges lie in the order of
        // the messages.
        let charge = charge(&self.charges);
        let (ingest, caller) = (Arc::clone(&self.ingest), Arc::clone(&self.caller));
        self.waiting.push(Box::pin(async move {
            let batch_id = request.batch.as_ref().map(|batch| batch.batch_id.clone());
            let outcome = match ingest.ingest(&caller, request.batch, bytes(&charge)).await {
                Ok(answer) => Outcome::Accepted(answer),
                Err(refusal) => Outcome::Refused(refused(&refusal)),
            };
            let batch_id = batch_id.unwrap_or_default();
            v1::IngestStreamResponse { batch_id, outcome: Some(outcome) }
        }));
    }
}

// A refused batch is a message and not the stream's status, which would end the stream and with it
// all the batches that wait.
fn refused(refusal: &Refusal) -> v1::RefusedBatch {
    let retry_delay_ms = refusal.retry_after().map_or(0, |delay| delay.as_millis());
    v1::RefusedBatch {
        code: refusal.code() as i32,
        message: refusal.to_string(),
        retry_delay_ms: u32::try_from(retry_delay_ms).unwrap_or(u32::MAX),
        reason: refusal.reason().to_owned(),
    }
}
