//! HTTP/2 by hand, for heads that no HTTP library sends.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::PATIENCE;
use crate::outcome::Unproven;
use crate::target::Target;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
/// Of settings and pings.
const ACK: u8 = 1;
/// Of data and headers.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// A gRPC message without content.
const EMPTY: &[u8] = &[0; 5];

/// A connection whose frames are written by hand.
#[derive(Debug)]
pub(crate) struct RawConnection {
    socket: UnixStream,
    /// Of the next call.
    stream: u32,
}

/// How a call has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With an answer: a message or a status.
    Answered,
    /// With `RST_STREAM`.
    Reset,
}

#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl RawConnection {
    /// Connects to the server under test, and sends settings that change nothing.
    pub(crate) async fn to(target: &Target) -> Result<Self, Unproven> {
        let lost = |error: std::io::Error| {
            Unproven::broken(format!("a server on {}", target.socket.display()), error.to_string())
        };
        let mut socket = UnixStream::connect(&target.socket).await.map_err(lost)?;
        socket.write_all(PREFACE).await.map_err(lost)?;
        socket.write_all(&frame(SETTINGS, 0, 0, &[])).await.map_err(lost)?;
        Ok(Self { socket, stream: 1 })
    }

    /// Calls a method with an empty message, of a server by this name; none is sent where it is `None`.
    pub(crate) async fn call(&mut self, path: &str, authority: Option<&str>) -> Result<Ended, Unproven> {
        let expected =
            format!("an answer or a refusal of {path} at the authority {authority:?}, and a connection that goes on");
        match timeout(PATIENCE, self.exchange(path, authority)).await {
            Ok(Ok(ended)) => Ok(ended),
            Ok(Err(came)) => Err(Unproven::broken(expected, came)),
            Err(_) => Err(Unproven::broken(expected, format!("nothing within {PATIENCE:?}"))),
        }
    }

    async fn exchange(&mut self, path: &str, authority: Option<&str>) -> Result<Ended, String> {
        let own = self.stream;
        self.stream += 2;
        let mut fields = vec![(":method", "POST"), (":scheme", "http"), (":path", path)];
        fields.extend(authority.map(|authority| (":authority", authority)));
        fields.extend([("content-type", "application/grpc"), ("te", "trailers")]);
        let head: Vec<u8> = fields.into_iter().flat_map(|(name, value)| field(name, value)).collect();
        self.send(HEADERS, END_HEADERS, own, &head).await?;
        self.send(DATA, END_STREAM, own, EMPTY).await?;
        loop {
            let Frame { kind, flags, stream, payload } = self.receive().await?;
            match kind {
                DATA | HEADERS if stream == own && flags & END_STREAM != 0 => return Ok(Ended::Answered),
                RST_STREAM if stream == own => return Ok(Ended::Reset),
                SETTINGS | PING if flags & ACK == 0 => {
                    let payload = if kind == PING { &payload[..] } else { &[] };
                    self.send(kind, ACK, 0, payload).await?;
                }
                GOAWAY => return Err("GOAWAY".to_owned()),
                _ => {}
            }
        }
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<(), String> {
        let sent = self.socket.write_all(&frame(kind, flags, stream, payload)).await;
        sent.map_err(|error| format!("a connection that takes nothing: {error}"))
    }

    async fn receive(&mut self) -> Result<Frame, String> {
        let mut head = [0; 9];
        let ended = |error| format!("the end of the connection: {error}");
        self.socket.read_exact(&mut head).await.map_err(ended)?;
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, l0, l1, l2]) as usize];
        self.socket.read_exact(&mut payload).await.map_err(ended)?;
        Ok(Frame { kind, flags, stream: u32::from_be_bytes([s0, s1, s2, s3]), payload })
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field as HPACK writes it without a table and without compression (RFC 7541, section 6.2.2). Names and values of this
/// suite are shorter than the 127 bytes from which on a length takes more than one byte.
fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap_or(u8::MAX)][..], text.as_bytes()].concat();
    [&[0][..], &text(name), &text(value)].concat()
}
