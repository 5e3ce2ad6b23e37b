//! The same over HTTP/1.1: gRPC-Web as browsers speak it, and plain pages.

use std::time::Duration;

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tonic::{
    Status,
    codegen::http::{HeaderMap, HeaderName, HeaderValue},
};

use super::call::{Answer, Question};

/// Bit of a frame's first byte that says that the frame holds trailers.
const TRAILERS: u8 = 0x80;
const FRAME_HEAD_BYTES: usize = 5;
const PAGE_DEADLINE: Duration = Duration::from_secs(10);

/// A call in gRPC-Web.
pub(super) async fn ask(address: &str, question: Question<'_>) -> Answer {
    let begun = Instant::now();
    let deadline = begun + question.deadline;
    let body: Vec<u8> = question.messages.iter().flat_map(|message| frame(message)).collect();
    let token = question.token.map(|token| format!("authorization: Bearer {token}\r\n"));
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\nx-grpc-web: 1\r\n\
         content-type: application/grpc-web+proto\r\ncontent-length: {}\r\n{}\r\n",
        question.path,
        body.len(),
        token.unwrap_or_default()
    );
    let said = exchange(address, &[head.as_bytes(), &body].concat(), deadline).await;
    let mut answer = understand(&said);
    answer.took = begun.elapsed();
    answer
}

/// A page, head and body.
pub(super) async fn get(address: &str, path: &str) -> Vec<u8> {
    get_with(address, path, "connection: close\r\n", PAGE_DEADLINE).await
}

/// The same with more headers, each of which ends its line; what has come by the deadline.
pub(super) async fn get_with(
    address: &str,
    path: &str,
    headers: &str,
    deadline: Duration,
) -> Vec<u8> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n{headers}\r\n");
    let said = exchange(address, request.as_bytes(), Instant::now() + deadline).await;
    let (head, body) = parted(&said);
    [head, &body].concat()
}

/// What the server says until it closes the connection, or until the deadline.
async fn exchange(address: &str, request: &[u8], deadline: Instant) -> Vec<u8> {
    let mut said = Vec::new();
    let talk = async {
        let mut stream = TcpStream::connect(address).await?;
        // A server that refuses by the head alone may close before it has read the body.
        drop(stream.write_all(request).await);
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = stream.read(&mut buffer).await?;
            if read == 0 {
                return std::io::Result::Ok(());
            }
            said.extend_from_slice(&buffer[..read]);
        }
    };
    // What has come until an error or the deadline is what there is to look at.
    drop(timeout_at(deadline, talk).await);
    said
}

fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("messages are small").to_be_bytes();
    [&[0], &length[..], message].concat()
}

/// Head and body, the latter without its chunks.
fn parted(said: &[u8]) -> (&[u8], Vec<u8>) {
    let end = said.windows(4).position(|bytes| bytes == b"\r\n\r\n").map(|at| at + 4);
    let (head, body) = said.split_at(end.unwrap_or(said.len()));
    let is_chunked = String::from_utf8_lossy(head).to_lowercase().contains("chunked");
    (head, if is_chunked { joined(body) } else { body.to_vec() })
}

fn joined(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = chunks.windows(2).position(|bytes| bytes == b"\r\n") {
        let (size, rest) = chunks.split_at(end);
        let size = usize::from_str_radix(&String::from_utf8_lossy(size), 16).unwrap_or(0);
        let rest = &rest[2..];
        if size == 0 {
            break;
        }
        let (chunk, rest) = rest.split_at(size.min(rest.len()));
        body.extend_from_slice(chunk);
        chunks = rest.get(2..).unwrap_or(&[]);
    }
    body
}

fn understand(said: &[u8]) -> Answer {
    let mut answer = Answer::new();
    let (head, body) = parted(said);
    answer.around.extend_from_slice(head);
    let mut lines = head.to_vec();
    let mut rest = &body[..];
    while rest.len() >= FRAME_HEAD_BYTES {
        let (kind, length) = (rest[0], [rest[1], rest[2], rest[3], rest[4]]);
        let length = (u32::from_be_bytes(length) as usize).min(rest.len() - FRAME_HEAD_BYTES);
        let (content, after) = rest[FRAME_HEAD_BYTES..].split_at(length);
        if kind & TRAILERS == 0 {
            answer.messages.push(Bytes::copy_from_slice(content));
        } else {
            answer.around.extend_from_slice(content);
            lines.extend_from_slice(content);
        }
        rest = after;
    }
    answer.around.extend_from_slice(rest);
    if let Some(status) = Status::from_header_map(&headers(&lines)) {
        answer.end_with(&status);
        answer.is_said = true;
    }
    answer
}

fn headers(lines: &[u8]) -> HeaderMap {
    let text = String::from_utf8_lossy(lines);
    let pair = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
        Some((name, HeaderValue::from_str(value.trim()).ok()?))
    };
    text.lines().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn an_answer_is_read_from_its_frames() {
        let trailers = b"grpc-status:5\r\ngrpc-message:no%20log\r\n";
        let mut body = frame(b"abc");
        body.push(TRAILERS);
        body.extend_from_slice(&u32::try_from(trailers.len()).unwrap().to_be_bytes());
        body.extend_from_slice(trailers);
        let (first, second) = body.split_at(6);
        let mut said = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for chunk in [first, second] {
            said.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            said.extend_from_slice(chunk);
            said.extend_from_slice(b"\r\n");
        }
        said.extend_from_slice(b"0\r\n\r\n");
        let answer = understand(&said);
        assert_eq!((answer.code, &answer.text[..]), (Some(Code::NotFound), "no log"));
        assert_eq!(answer.messages, [Bytes::from_static(b"abc")]);
    }
}
