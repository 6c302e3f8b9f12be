//! One connection: HTTP/2 by hyper, with windows that keep its streams out of each other's way.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::service::{Context, Service};

/// How much of a stream is received before its handler takes it.
const STREAM_WINDOW: u32 = 1 << 20;
/// How much of all streams of a connection. Larger than the stream windows it carries: with equal ones, a single stream
/// that is not read blocks the whole connection, `IsReady` included.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Serves one connection until it is closed, by the peer or by the drain.
pub(super) fn serve<S, I>(io: I, service: Arc<S>, context: Arc<Context>) -> impl Future<Output = ()> + Send + 'static
where
    S: Service,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let closing = context.drain.closing();
    let tasks = context.drain.tasks().clone();
    let call = service_fn(move |request| {
        let service = service.clone();
        let context = context.clone();
        async move { Ok::<_, Infallible>(service.call(&context, request).await) }
    });
    let connection = http2::Builder::new(tasks)
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        // The platform opens as many streams as it has windows open.
        .max_concurrent_streams(None)
        .serve_connection(TokioIo::new(io), call);
    async move {
        let mut connection = pin!(connection);
        let result = tokio::select! {
            result = &mut connection => result,
            () = closing => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            // A peer that goes away without a goodbye is nobody's failure.
            tracing::debug!(%error, "a connection ended");
        }
    }
}
