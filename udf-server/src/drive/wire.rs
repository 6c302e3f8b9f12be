//! A connection that can vanish: what a process that is killed leaves behind.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::watch;

/// Says whether the driver is as good as killed. Clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct Killed(Arc<watch::Sender<bool>>);

impl Killed {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// From here on nothing is written any more, on no connection. Never returns, as nothing does in a process that was
    /// killed: whoever runs it is told by [`Killed::told`] and drops it.
    pub(super) async fn kill(&self) {
        self.0.send_replace(true);
        std::future::pending().await
    }

    pub(super) async fn told(&self) {
        // The sender is in `self`.
        drop(self.0.subscribe().wait_for(|killed| *killed).await);
    }
}

/// A connection to a socket. Once the driver is killed it closes without a word: HTTP/2 would take its leave.
pub(super) struct Wire {
    io: UnixStream,
    killed: Killed,
}

impl Wire {
    pub(super) async fn connect(path: &Path, killed: Killed) -> io::Result<Self> {
        Ok(Self { io: UnixStream::connect(path).await?, killed })
    }

    fn check(&self) -> io::Result<()> {
        if *self.killed.0.borrow() { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
