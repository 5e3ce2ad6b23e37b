//! One call of any rpc, in gRPC, with everything that comes back.
//!
//! Every rpc is called as if both sides streamed, which on the wire is the same: so one message too
//! many, or a stream that is never ended, can be tried on each of them.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use futures::{StreamExt as _, stream};
use tokio::time::{Instant, timeout_at};
use tonic::{
    Code, Request, Status, Streaming,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    metadata::{KeyAndValueRef, MetadataMap},
    transport::{Channel, Endpoint},
};

const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What is sent.
#[derive(Clone)]
pub(super) struct Question<'a> {
    /// Such as `/logweir.v1.QueryService/GetLog`.
    pub(super) path: &'a str,
    pub(super) token: Option<&'a str>,
    pub(super) messages: Vec<Bytes>,
    /// Whether the stream of messages is left open.
    pub(super) half_open: bool,
    pub(super) deadline: Duration,
}

/// What came back.
pub(super) struct Answer {
    /// None: the deadline ended it.
    pub(super) code: Option<Code>,
    pub(super) text: String,
    pub(super) messages: Vec<Bytes>,
    /// Headers, trailers, text and details of the status.
    pub(super) around: Vec<u8>,
    pub(super) took: Duration,
    /// Whether the code is the server's word, and not what the client made of a connection that ended:
    /// that takes calls of others along, which nobody has answered.
    pub(super) is_said: bool,
}

impl Answer {
    pub(super) fn new() -> Self {
        let (code, text, messages) = (None, String::new(), Vec::new());
        let (around, took) = (Vec::new(), Duration::ZERO);
        Self { code, text, messages, around, took, is_said: false }
    }

    pub(super) fn is_ok(&self) -> bool {
        self.code == Some(Code::Ok)
    }

    /// Whether the call did what it does: a stream that the deadline ended has, once it has begun.
    pub(super) fn succeeded(&self, is_stream: bool) -> bool {
        self.is_ok() || (is_stream && self.code.is_none() && !self.around.is_empty())
    }

    /// All bytes that the caller got to see.
    pub(super) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.messages.iter().map(|message| &message[..]).chain([&self.around[..]])
    }

    fn add_metadata(&mut self, metadata: &MetadataMap) {
        for pair in metadata.iter() {
            let (name, value) = match pair {
                KeyAndValueRef::Ascii(name, value) => (name.as_str(), value.as_bytes().to_vec()),
                KeyAndValueRef::Binary(name, value) => (
                    name.as_str(),
                    value.to_bytes().map(|bytes| bytes.to_vec()).unwrap_or_default(),
                ),
            };
            self.around.extend_from_slice(name.as_bytes());
            self.around.extend_from_slice(b": ");
            self.around.extend_from_slice(&value);
            self.around.push(b'\n');
        }
    }

    pub(super) fn end_with(&mut self, status: &Status) {
        self.add_metadata(status.metadata());
        self.around.extend_from_slice(status.message().as_bytes());
        self.around.push(b'\n');
        self.around.extend_from_slice(status.details());
        self.is_said |= !status.metadata().is_empty();
        self.code = Some(status.code());
        self.text = status.message().to_owned();
    }
}

/// Calls one server. A connection counts for its first caller's tenant, so each tenant has its own.
#[derive(Clone)]
pub(super) struct Caller {
    channel: Channel,
    /// Such as `127.0.0.1:4317`.
    pub(super) address: String,
}

impl Caller {
    pub(super) fn new(address: &str) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}"));
        let channel = endpoint.expect("an address").connect_lazy();
        Self { channel, address: address.to_owned() }
    }

    pub(super) async fn ask(&self, question: Question<'_>) -> Answer {
        let (begun, mut answer) = (Instant::now(), Answer::new());
        let end = begun + question.deadline;
        // What has come by then is kept: an answer that a deadline cut short is looked at too.
        if let Ok(Err(status)) = timeout_at(end, self.converse(question, &mut answer)).await {
            answer.end_with(&status);
        }
        answer.took = begun.elapsed();
        answer
    }

    async fn converse(&self, question: Question<'_>, answer: &mut Answer) -> Result<(), Status> {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
        grpc.ready().await.map_err(|error| Status::unknown(format!("not ready: {error}")))?;
        let path = PathAndQuery::try_from(question.path).expect("a path");
        let response = grpc.streaming(request(question), path, Raw).await?;
        let (metadata, mut stream, _) = response.into_parts();
        answer.is_said = true;
        answer.around.push(b'\n');
        answer.add_metadata(&metadata);
        receive(&mut stream, answer).await
    }
}

fn request(question: Question<'_>) -> Request<impl futures::Stream<Item = Bytes> + use<>> {
    let rest = if question.half_open { stream::pending().boxed() } else { stream::empty().boxed() };
    let mut request = Request::new(stream::iter(question.messages).chain(rest));
    if let Some(token) = question.token {
        let value = format!("Bearer {token}").parse().expect("a token is text");
        request.metadata_mut().insert("authorization", value);
    }
    request
}

async fn receive(stream: &mut Streaming<Bytes>, answer: &mut Answer) -> Result<(), Status> {
    while let Some(message) = stream.message().await? {
        answer.messages.push(message);
    }
    if let Some(trailers) = stream.trailers().await? {
        answer.add_metadata(&trailers);
    }
    (answer.code, answer.is_said) = (Some(Code::Ok), true);
    Ok(())
}

/// Messages as their bytes.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
