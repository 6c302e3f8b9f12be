//! HTTP/2 frames written by hand, for peers that no library plays.

use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
/// Of settings.
pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// A connection whose peer acknowledges nothing: neither settings nor pings.
pub(crate) struct RawPeer {
    socket: UnixStream,
}

impl RawPeer {
    /// Has sent its preface and settings that change nothing.
    pub(crate) async fn connect(path: &Path) -> Self {
        let mut peer = Self { socket: UnixStream::connect(path).await.unwrap() };
        peer.socket.write_all(PREFACE).await.unwrap();
        peer.send(SETTINGS, 0, 0, &[]).await;
        peer
    }

    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.socket.write_all(&frame(kind, flags, stream, payload)).await.unwrap();
    }

    /// Sends as many repetitions of these frames as there is room for, and returns how many.
    pub(crate) fn flood(&mut self, frames: &[u8]) -> usize {
        let many = frames.repeat(100_000);
        let mut sent = 0;
        while let Ok(count) = self.socket.try_write(&many[sent..]) {
            sent += count;
        }
        sent / frames.len()
    }

    /// What has come that was not received.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = vec![0; 16 << 20];
        let mut received = 0;
        while let Ok(count @ 1..) = self.socket.try_read(&mut rest[received..]) {
            received += count;
        }
        rest.truncate(received);
        rest
    }

    pub(crate) async fn receive(&mut self) -> Frame {
        let mut head = [0; 9];
        self.socket.read_exact(&mut head).await.unwrap();
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, l0, l1, l2]) as usize];
        self.socket.read_exact(&mut payload).await.unwrap();
        Frame { kind, flags, stream: u32::from_be_bytes([s0, s1, s2, s3]), payload }
    }

    /// Opens `path` as a call to this authority, which is left out where it is `None`.
    pub(crate) async fn open(&mut self, stream: u32, path: &str, authority: Option<&str>) {
        let mut fields = vec![(":method", "POST"), (":scheme", "http"), (":path", path)];
        fields.extend(authority.map(|authority| (":authority", authority)));
        fields.extend([("content-type", "application/grpc"), ("te", "trailers")]);
        let block: Vec<u8> = fields.into_iter().flat_map(|(name, value)| field(name, value)).collect();
        self.send(HEADERS, END_HEADERS, stream, &block).await;
    }

    /// Calls a method with an empty message and returns the last frame of its stream.
    pub(crate) async fn call(&mut self, stream: u32, path: &str, authority: Option<&str>) -> Frame {
        self.open(stream, path, authority).await;
        self.send(DATA, END_STREAM, stream, &[0; 5]).await;
        loop {
            let frame = self.receive().await;
            let ends =
                frame.kind == RST_STREAM || [DATA, HEADERS].contains(&frame.kind) && frame.flags & END_STREAM != 0;
            if frame.stream == stream && ends {
                return frame;
            }
        }
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field as HPACK writes it without a table and without compression (RFC 7541, section 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat();
    [&[0][..], &text(name), &text(value)].concat()
}
