//! An echo on the crate `h2`: the least that still speaks the protocol. What it costs is what HTTP/2 and the socket cost.

use std::future::poll_fn;
use std::task::{Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Response};
use prost::encoding::{encode_varint, encoded_len_varint};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::{CONNECTION_WINDOW, FRAME, STREAM_WINDOW, Serving, Setting};
use crate::Outcome;
use crate::wire::{PREFIX, Received, field, set_length};

/// Answers are sent once they are this long, and whenever there is nothing more to answer: more would not stay in the
/// core's cache.
const CHUNK: usize = 64 << 10;
/// What the keys of a message may take, encoded. The load client's take five bytes.
const KEYS: usize = 64;

pub(super) async fn serve(serving: Serving) -> Outcome<()> {
    let listener = UnixListener::bind(&serving.socket)?;
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await?;
        connections.spawn(report(connection(socket, serving.setting)));
    }
}

async fn report(task: impl Future<Output = Outcome<()>>) {
    if let Err(error) = task.await {
        // The parent shows what its server said last.
        crate::progress::say(&error.to_string());
    }
}

async fn connection(socket: UnixStream, setting: Setting) -> Outcome<()> {
    let mut builder = h2::server::Builder::new();
    if setting == Setting::Equal {
        builder
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME);
    }
    let mut connection = builder.handshake::<_, Bytes>(socket).await?;
    let mut streams = JoinSet::new();
    while let Some(call) = connection.accept().await {
        let (request, respond) = call?;
        streams.spawn(report(stream(request.into_body(), respond)));
    }
    Ok(())
}

async fn stream(mut body: RecvStream, mut respond: SendResponse<Bytes>) -> Outcome<()> {
    let mut head = Response::new(());
    head.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let mut answers = respond.send_response(head, false)?;
    let mut received = Received::default();
    let mut out = BytesMut::new();
    while receive(&mut body, &mut received).await? {
        while let Some(length) = received.begin()? {
            echo(&mut received, length, &mut out)?;
            if out.len() >= CHUNK {
                send(&mut answers, out.split().freeze()).await?;
            }
        }
        send(&mut answers, out.split().freeze()).await?;
    }
    let trailers =
        HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    answers.send_trailers(trailers)?;
    Ok(())
}

/// Waits for frames and takes all that are there; false at the end of the stream.
async fn receive(body: &mut RecvStream, received: &mut Received) -> Outcome<bool> {
    let mut any = false;
    poll_fn(|cx| {
        loop {
            match body.poll_data(cx)? {
                Poll::Ready(Some(chunk)) => {
                    body.flow_control().release_capacity(chunk.len())?;
                    received.push(chunk);
                    any = true;
                }
                Poll::Pending if !any => return Poll::Pending,
                Poll::Ready(None) | Poll::Pending => return Poll::Ready(Ok(any)),
            }
        }
    })
    .await
}

/// Sends as the peer makes room.
async fn send(answers: &mut SendStream<Bytes>, mut out: Bytes) -> Outcome<()> {
    while !out.is_empty() {
        answers.reserve_capacity(out.len());
        let room = poll_fn(|cx| {
            while answers.capacity() == 0 {
                match ready!(answers.poll_capacity(cx)) {
                    Some(result) => drop(result?),
                    None => return Poll::Ready(Err("the stream is closed")?),
                }
            }
            Poll::Ready(Outcome::Ok(answers.capacity()))
        })
        .await?;
        answers.send_data(out.split_to(room.min(out.len())), false)?;
    }
    Ok(())
}

/// Writes the answer to the next request. In both messages keys are field 1 and the value is field 2, and nothing else of
/// the request comes back.
fn echo(request: &mut Received, length: usize, out: &mut BytesMut) -> Outcome<()> {
    let start = out.len();
    out.put_bytes(0, PREFIX);
    let end = request.remaining() - length;
    while request.remaining() > end {
        let (number, size) = field(request, end)?;
        match number {
            1 => echo_result(request, size, out)?,
            // The id is field 2 of both, the handshake field 3 and a batch's end field 4.
            _ => {
                out.put_u8(u8::try_from(number << 3 | 2)?);
                encode_varint(size as u64, out);
                out.put((&mut *request).take(size));
            }
        }
    }
    set_length(&mut out[start..])
}

fn echo_result(request: &mut Received, length: usize, out: &mut BytesMut) -> Outcome<()> {
    let end = request.remaining() - length;
    // Keys come before the value; they wait here until the length of the result is known.
    let mut keys = [0; KEYS];
    let mut keys_length = 0;
    let mut value = None;
    while value.is_none() && request.remaining() > end {
        let (number, size) = field(request, end)?;
        match number {
            1 if size < 128 && keys_length + 2 + size <= KEYS => {
                keys[keys_length] = 0x0a;
                keys[keys_length + 1] = u8::try_from(size)?;
                request.copy_to_slice(&mut keys[keys_length + 2..][..size]);
                keys_length += 2 + size;
            }
            1 => return Err("the keys are longer than the load client's".into()),
            2 => value = Some(size),
            _ => request.advance(size),
        }
    }
    let value = value.unwrap_or(0);
    out.put_u8(0x0a);
    encode_varint((keys_length + 1 + encoded_len_varint(value as u64) + value) as u64, out);
    out.put_slice(&keys[..keys_length]);
    out.put_u8(0x12);
    encode_varint(value as u64, out);
    out.put((&mut *request).take(value));
    request.advance(request.remaining() - end);
    Ok(())
}
