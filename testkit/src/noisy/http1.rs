//! The JSON API over HTTP/1.1, a connection for each request, as scripts and browsers ask.

use std::io;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// Asks, and reads the answer to its end: its status, and all of it.
pub(super) async fn ask(address: &str, path: &str, token: &str) -> io::Result<(u16, Vec<u8>)> {
    let mut socket = begin(address, path, token, "connection: close").await?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await?;
    Ok((status(&answer), answer))
}

/// Asks for a WebSocket, whose key is RFC 6455's own: the status, and the connection.
pub(super) async fn upgrade(
    address: &str,
    path: &str,
    token: &str,
) -> io::Result<(u16, TcpStream)> {
    let headers = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";
    let mut socket = begin(address, path, token, headers).await?;
    let mut head = Vec::new();
    while !head.windows(END_OF_HEAD.len()).any(|bytes| bytes == END_OF_HEAD) {
        if socket.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok((status(&head), socket))
}

async fn begin(address: &str, path: &str, token: &str, headers: &str) -> io::Result<TcpStream> {
    let mut socket = TcpStream::connect(address).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n{headers}\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await?;
    Ok(socket)
}

/// 0 where there is none.
fn status(answer: &[u8]) -> u16 {
    let digits = answer.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
    digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok()).unwrap_or(0)
}
