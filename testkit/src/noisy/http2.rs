//! HTTP/2 spoken by hand, so that it can be spoken badly: a client library keeps the rules that an
//! attacker breaks.
//!
//! Heads are sent as literals (RFC 7541, 6.2.2), and the server is told to keep no table of its own,
//! so that a status can be found in what it answers without a decoder of heads.

use std::io::{self, ErrorKind};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// RFC 9113, 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD_BYTES: usize = 9;
/// Larger frames come only to who asked for them (RFC 9113, 4.2).
const FRAME_BYTES_MAX: usize = 16 << 10;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RESET: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const GO_AWAY: u8 = 0x7;
const CONTINUATION: u8 = 0x9;

const END_STREAM: u8 = 0x1;
const ACKNOWLEDGE: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

const HEADER_TABLE_SIZE: u16 = 0x1;
const INITIAL_WINDOW_SIZE: u16 = 0x4;
/// CANCEL (RFC 9113, 7).
const CANCEL: u32 = 0x8;

/// `grpc-status` in the Huffman code of RFC 7541, appendix B, as servers send it.
const STATUS_NAME: [u8; 8] = [0x9a, 0xca, 0xc8, 0xb2, 0x12, 0x34, 0xda, 0x8f];
/// The digits in that code: a value, and of how many bits.
const DIGITS: [(u16, u32); 10] = [
    (0b0_0000, 5),
    (0b0_0001, 5),
    (0b0_0010, 5),
    (0b01_1001, 6),
    (0b01_1010, 6),
    (0b01_1011, 6),
    (0b01_1100, 6),
    (0b01_1101, 6),
    (0b01_1110, 6),
    (0b01_1111, 6),
];

/// What a server sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The answer's begin or end, with its gRPC status if it has one.
    Head { stream: u32, status: Option<u32>, ended: bool },
    /// A part of an answer.
    Data { stream: u32, bytes: usize, ended: bool },
    /// The server ended a stream.
    Reset { stream: u32 },
    /// The server ends the connection, for this reason.
    GoAway { code: u32 },
    /// Something that says nothing about a request.
    Other,
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// A request's head and, unless it never comes, the begin of its body.
#[derive(Clone)]
pub(super) struct Request {
    /// Such as `/logweir.v1.QueryService/SearchLogs`.
    pub(super) path: &'static str,
    pub(super) body: Vec<u8>,
    /// Whether nothing follows.
    pub(super) ends: bool,
}

/// A connection that does what it is told.
pub(super) struct Connection {
    socket: TcpStream,
    address: String,
    inbox: Vec<u8>,
    next_stream: u32,
}

impl Connection {
    /// Connects, and lets the server send so many bytes on each stream. The connection as a whole
    /// stays at the 64 KiB of the begin, as this never opens it further.
    pub(super) async fn open(address: &str, window_bytes: u32) -> io::Result<Self> {
        let mut socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let mut settings = Vec::new();
        for (name, value) in [(HEADER_TABLE_SIZE, 0), (INITIAL_WINDOW_SIZE, window_bytes)] {
            settings.extend(name.to_be_bytes());
            settings.extend(u32::to_be_bytes(value));
        }
        let mut begin = PREFACE.to_vec();
        begin.extend(encode(SETTINGS, 0, 0, &settings));
        socket.write_all(&begin).await?;
        Ok(Self { socket, address: address.to_owned(), inbox: Vec::new(), next_stream: 1 })
    }

    /// Sends a request; the number of its stream.
    pub(super) async fn ask(&mut self, request: &Request, token: &str) -> io::Result<u32> {
        let stream = self.take_stream();
        let mut bytes = encode(HEADERS, END_HEADERS, stream, &self.head(request.path, token));
        if !request.body.is_empty() || request.ends {
            let flags = if request.ends { END_STREAM } else { 0 };
            bytes.extend(encode(DATA, flags, stream, &request.body));
        }
        self.socket.write_all(&bytes).await?;
        Ok(stream)
    }

    /// Sends a request and takes it back at once.
    pub(super) async fn ask_and_reset(&mut self, request: &Request, token: &str) -> io::Result<()> {
        let stream = self.take_stream();
        let mut bytes = encode(HEADERS, END_HEADERS, stream, &self.head(request.path, token));
        bytes.extend(encode(RESET, 0, stream, &CANCEL.to_be_bytes()));
        self.socket.write_all(&bytes).await
    }

    /// Begins a head that this does not end.
    pub(super) async fn begin_head(&mut self, path: &str, token: &str) -> io::Result<u32> {
        let stream = self.take_stream();
        let head = self.head(path, token);
        self.socket.write_all(&encode(HEADERS, 0, stream, &head)).await?;
        Ok(stream)
    }

    /// Goes on with such a head, by a field that the server may forget.
    pub(super) async fn go_on_with_head(&mut self, stream: u32, bytes: usize) -> io::Result<()> {
        let field = literal("x-more", &"x".repeat(bytes));
        self.socket.write_all(&encode(CONTINUATION, 0, stream, &field)).await
    }

    /// Sends a part of a body.
    pub(super) async fn send(&mut self, stream: u32, part: &[u8]) -> io::Result<()> {
        self.socket.write_all(&encode(DATA, 0, stream, part)).await
    }

    /// What the server says next. What must be answered to keep the connection is.
    pub(super) async fn next(&mut self) -> io::Result<Event> {
        loop {
            if let Some(frame) = self.take_frame()? {
                return self.understand(frame).await;
            }
            if self.socket.read_buf(&mut self.inbox).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn take_stream(&mut self) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        stream
    }

    fn head(&self, path: &str, token: &str) -> Vec<u8> {
        let authorization = format!("Bearer {token}");
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", &*self.address),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("authorization", &*authorization),
        ];
        fields.iter().flat_map(|(name, value)| literal(name, value)).collect()
    }

    fn take_frame(&mut self) -> io::Result<Option<Frame>> {
        let [a, b, c, kind, flags, s0, s1, s2, s3, ..] = self.inbox[..] else { return Ok(None) };
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(io::Error::other("a frame is larger than was allowed"));
        }
        if self.inbox.len() < FRAME_HEAD_BYTES + length {
            return Ok(None);
        }
        let rest = self.inbox.split_off(FRAME_HEAD_BYTES + length);
        let payload = std::mem::replace(&mut self.inbox, rest).split_off(FRAME_HEAD_BYTES);
        let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
        Ok(Some(Frame { kind, flags, stream, payload }))
    }

    async fn understand(&mut self, frame: Frame) -> io::Result<Event> {
        let Frame { kind, flags, stream, payload } = frame;
        let ended = flags & END_STREAM != 0;
        Ok(match kind {
            HEADERS => Event::Head { stream, status: grpc_status(&payload), ended },
            DATA => Event::Data { stream, bytes: payload.len(), ended },
            RESET => Event::Reset { stream },
            GO_AWAY => Event::GoAway { code: number(payload.get(4..8)) },
            SETTINGS | PING if flags & ACKNOWLEDGE == 0 => {
                let answer = if kind == PING { &payload[..] } else { &[] };
                self.socket.write_all(&encode(kind, ACKNOWLEDGE, 0, answer)).await?;
                Event::Other
            }
            _ => Event::Other,
        })
    }
}

fn number(bytes: Option<&[u8]>) -> u32 {
    bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn encode(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    let mut bytes = vec![a, b, c, kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A field that is in no table: "Literal Header Field without Indexing -- New Name".
fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        bytes.extend(length(text.len()));
        bytes.extend(text.bytes());
    }
    bytes
}

/// An integer with a prefix of 7 bits (RFC 7541, 5.1), and the first bit clear: no Huffman code.
fn length(mut length: usize) -> Vec<u8> {
    const PREFIX: usize = 0x7f;
    if length < PREFIX {
        return vec![length as u8];
    }
    let mut bytes = vec![PREFIX as u8];
    length -= PREFIX;
    while length >= 0x80 {
        bytes.push(length as u8 & 0x7f | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes
}

/// The value of the field `grpc-status`, if it is in a head.
fn grpc_status(head: &[u8]) -> Option<u32> {
    let name = head.windows(STATUS_NAME.len()).position(|bytes| bytes == STATUS_NAME)?;
    let [described, value @ ..] = head.get(name + STATUS_NAME.len()..)? else { return None };
    let value = value.get(..usize::from(described & 0x7f))?;
    if described & 0x80 == 0 {
        return std::str::from_utf8(value).ok()?.parse().ok();
    }
    (0..=16).find(|status| huffman(*status) == value)
}

/// A number's digits in the Huffman code, filled up with ones.
fn huffman(number: u32) -> Vec<u8> {
    let digits = number.to_string().into_bytes();
    let codes = digits.iter().map(|digit| DIGITS[usize::from(digit - b'0')]);
    let (code, bits) = codes.fold((0_u32, 0), |(code, bits), (next, more)| {
        (code << more | u32::from(next), bits + more)
    });
    let bytes = bits.div_ceil(8);
    let filled = ((code + 1) << (8 * bytes - bits)) - 1;
    filled.to_be_bytes()[4 - bytes as usize..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_found_in_a_head() {
        for (status, value) in
            [(0, &[0x81, 0x07][..]), (8, &[0x81, 0x7b]), (16, &[0x82, 0x0b, 0x9f])]
        {
            let head = [&[0x88, 0x00, 0x88][..], &STATUS_NAME, value].concat();
            let found = grpc_status(&head);
            assert_eq!((status, found), (status, (value.len() > 1).then_some(status)));
        }
        assert_eq!(grpc_status(&[0x88, 0x00]), None);
    }

    #[test]
    fn long_lengths_take_more_bytes() {
        assert_eq!(length(126), [126]);
        assert_eq!(length(127), [127, 0]);
        // The example of RFC 7541, C.1.2, with a longer prefix.
        assert_eq!(length(127 + 1_210), [127, 0xba, 0x09]);
    }
}
