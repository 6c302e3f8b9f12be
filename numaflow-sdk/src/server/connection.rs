//! One connection: HTTP/2 by hyper, with windows that keep its streams out of each other's way.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use super::together::{Calls, Together};
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

/// Serves one connection until it is closed, by the peer or by the drain.
pub(super) fn serve<S, I>(io: I, service: Arc<S>, context: Arc<Context>) -> impl Future<Output = ()> + Send + 'static
where
    S: Service,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    add(&context.metrics.connections_opened, 1);
    let closing = context.drain.closing();
    let cut = context.drain.cutting();
    let calls = Calls::default();
    let turn = calls.turn();
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
        // The platform opens as many streams as it has windows open.
        .max_concurrent_streams(None)
        .serve_connection(TokioIo::new(Cuttable { io, cut: cut.clone() }), call);
    async move {
        let mut connection = Together::new(connection, calls);
        let result = tokio::select! {
            result = &mut connection => result,
            () = closing => {
                connection.connection().graceful_shutdown();
                tokio::select! {
                    result = &mut connection => result,
                    // Polled once more, it finds its socket broken.
                    () = cut.cancelled() => connection.await,
                }
            }
        };
        if let Err(error) = result {
            // A peer that goes away without a goodbye is nobody's failure.
            tracing::debug!(%error, "a connection ended");
        }
    }
}

/// A byte stream that can be made to fail, so that HTTP/2 ends its connection, and all calls on it, in good order.
struct Cuttable<I> {
    io: I,
    cut: CancellationToken,
}

impl<I> Cuttable<I> {
    fn check(&self) -> io::Result<()> {
        if self.cut.is_cancelled() {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the drain's time is over"));
        }
        Ok(())
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Cuttable<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Cuttable<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
