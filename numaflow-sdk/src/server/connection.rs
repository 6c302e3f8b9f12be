//! One connection: HTTP/2 by hyper, with windows that keep its streams out of each other's way.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, interval_at};
use tokio_util::sync::CancellationToken;

use super::together::{Calls, Together};
use super::transport::{Line, Transport};
use crate::metrics::add;
use crate::service::{Context, Service};

/// How much of a stream is received before its handler takes it.
const STREAM_WINDOW: u32 = 1 << 20;
/// How much of all streams of a connection. Larger than the stream windows it carries: with equal ones, a single stream
/// that is not read blocks the whole connection, `IsReady` included.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// The largest frame that a peer may send: twice what it would be otherwise. A large message comes in fewer parts; beyond
/// that, small ones cost more, because what was received is no longer in the cache when it is read.
const FRAME: u32 = 32 << 10;

/// The most streams of a connection at a time (`SETTINGS_MAX_CONCURRENT_STREAMS`); a peer keeps further ones back until
/// others have ended. Far more than the platform opens, which wants many (one for each open window), and few enough that
/// frames which concern all streams of a connection, as a change of its settings does, take no noticeable time.
const STREAMS: u32 = 1024;

/// How often a connection that is to end is looked at, which is also how long a peer that never made a call may take to
/// acknowledge the end.
const LOOK: Duration = Duration::from_millis(50);
/// How long a peer may take to acknowledge the end of its connection once its calls are over. One that works does so at
/// once, but it may be on a machine that is busy, and answers may be on their way to it.
const GOODBYE: Duration = Duration::from_secs(1);

/// Serves one connection until it is closed, by the peer or by the drain.
pub(super) fn serve<S, I>(io: I, service: Arc<S>, context: Arc<Context>) -> impl Future<Output = ()> + Send + 'static
where
    S: Service,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    add(&context.metrics.connections_opened, 1);
    let closing = context.drain.closed();
    let cut = context.drain.cutting();
    let line = Line::default();
    let refused = {
        let context = context.clone();
        move || context.request_refused()
    };
    let ending = context.clone();
    let calls = Calls::default();
    let turn = calls.turn();
    let transport = Transport::new(io, turn.clone(), line.clone(), refused);
    let call = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(turn.clone());
        let service = service.clone();
        let context = context.clone();
        async move { Ok::<_, Infallible>(service.call(&context, request).await) }
    });
    let connection = http2::Builder::new(calls.clone())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_concurrent_streams(STREAMS)
        .serve_connection(TokioIo::new(transport), call);
    async move {
        let mut connection = Together::new(connection, calls);
        let result = tokio::select! {
            result = &mut connection => result,
            () = closing => {
                connection.connection().graceful_shutdown();
                end(connection, &ending, &cut, &line).await
            }
        };
        if let Err(error) = result {
            // A peer that goes away without a goodbye is nobody's failure.
            crate::logging::debug!(%error, "a connection ended");
        }
    }
}

/// Waits until a connection that takes no new calls is over: its peer has acknowledged that and has all answers, or has
/// closed it. A peer that has nothing to wait for and does not acknowledge (it has sent nothing at all, or stands still)
/// keeps nobody waiting.
async fn end<C: Future>(
    mut connection: Together<C>,
    context: &Context,
    cut: &CancellationToken,
    line: &Line,
) -> C::Output {
    let mut looks = interval_at(Instant::now() + LOOK, LOOK);
    let mut at_rest_since = None;
    loop {
        let now = tokio::select! {
            // What the peer has sent is seen before it is hung up on.
            biased;
            result = &mut connection => return result,
            () = cut.cancelled() => return break_off(connection, line).await,
            now = looks.tick() => now,
        };
        // HTTP/2 may still have answers of calls that are over.
        if !connection.is_idle() || line.is_full() || !context.in_flight.is_empty() {
            at_rest_since = None;
            continue;
        }
        let since = *at_rest_since.get_or_insert(now);
        if !connection.has_had_calls() || now.saturating_duration_since(since) >= GOODBYE {
            line.hang_up();
        }
    }
}

/// Ends a connection at once. What HTTP/2 has ready is written, as far as there is room for it: answers that it has taken
/// over are among that.
async fn break_off<C: Future>(mut connection: Together<C>, line: &Line) -> C::Output {
    line.hang_up();
    if let Poll::Ready(output) = poll_fn(|cx| Poll::Ready(Pin::new(&mut connection).poll(cx))).await {
        return output;
    }
    line.break_off();
    connection.await
}
